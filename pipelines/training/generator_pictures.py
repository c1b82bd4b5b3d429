"""Pictures that generators learn from: square windows of photographs, mirrored half of the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.encoding import to_tensor
from ..progress import Progress
from .object_windows import ObjectOrigin
from .options import TrainOptions
from .photographs import BankOrigin, DatasetOrigin, Origin, Photographs, trained_and_held_out
from .task import NothingToLearn, Subject

LARGER = 2
"""Photographs are kept with their shorter side so many times the resolution."""
SMALLEST = 7 / 8
"""Side of a window at least, as a share of the photograph's shorter side: enough to see a scene as a whole."""
N_VALIDATION = 128
"""Held-out windows that are validated on; with fewer photographs there are several of each."""
VALIDATION_SEED = 1
Draw = Callable[[int, np.random.Generator], npt.NDArray[np.float32]]
"""So many rows of random numbers."""


class PictureItems(Dataset[dict[str, Tensor]]):
    """Windows of photographs and random numbers; item k depends on (seed, k) alone.

    An item holds `images` `(V, 3, R, R)` in [-1, 1], and `z` `(V + 1, L)` as `draw` has them.

    Args:
        photographs: of them; resolution: R; draw: of random numbers; views: V, windows of V photographs.
        each: item k is of photograph k, counted round, instead of one that is drawn.
    """

    def __init__(
        self, photographs: Photographs, resolution: int, draw: Draw, views: int, seed: int, *, each: bool = False
    ) -> None:
        self.photographs, self.resolution, self.draw, self.views = photographs, resolution, draw, views
        self.seed, self.each = seed, each

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random, n = np.random.default_rng((self.seed, k)), len(self.photographs)
        chosen = [k % n] * self.views if self.each else random.integers(n, size=self.views).tolist()
        images = [to_tensor(window(self.photographs[number], self.resolution, random)) for number in chosen]
        return {"images": torch.stack(images), "z": torch.from_numpy(self.draw(self.views + 1, random))}


def window(photograph: Photograph, resolution: int, random: np.random.Generator) -> Photograph:
    """A square window anywhere in a photograph, from `SMALLEST` of its shorter side to all of it, half mirrored.

    Resized by area. Of a wide photograph it shows the left, the middle or the right: of few photographs more is seen.
    """
    shorter = min(photograph.shape[:2])
    side = int(random.integers(round(SMALLEST * shorter), shorter + 1))
    top, left = (int(random.integers(0, each - side + 1)) for each in photograph.shape[:2])
    cut = photograph[top : top + side, left : left + side]
    found: Photograph = cv2.resize(cut, (resolution, resolution), interpolation=cv2.INTER_AREA)
    return found[:, ::-1] if random.random() < 0.5 else found


def trained_and_validated(
    reader: Reader | None, models: Path, options: TrainOptions, resolution: int, progress: Progress
) -> tuple[Photographs, Photographs, Subject]:
    """Photographs to train on, or windows of objects, and held-out ones; and whose they are.

    Args:
        reader: of the bank; None where the options name a data set.

    Raises:
        InputError: there is no such class, or no bank to have one. NothingToLearn: there are no pictures.
    """
    subject, train, held_out, origin = _split(reader, options, resolution)
    if not train:
        expected = f"pictures of class {options.objects!r}" if options.objects else "photographs in train"
        found = f"no {options.objects} large enough to be a picture" if options.objects else "none"
        raise NothingToLearn(sentence(subject.bank, expected=expected, found=found))
    if len(held_out) > N_VALIDATION:
        held_out = [held_out[i] for i in np.linspace(0, len(held_out) - 1, N_VALIDATION).round().astype(int)]
    own, others = (
        Photographs(
            origin, names, LARGER * resolution, cache=models / "cache", subject=subject, progress=progress
        )
        for names in (train, held_out)
    )  # fmt: skip
    return own, others, subject


def _split(
    reader: Reader | None, options: TrainOptions, resolution: int
) -> tuple[Subject, list[str], list[str], Origin]:
    size = (resolution, resolution)
    if options.objects is None:
        origin: Origin = BankOrigin(reader) if reader is not None else DatasetOrigin(str(options.dataset))
        return origin.subject(size), *trained_and_held_out(origin), origin
    if reader is None:
        fix = "train on a bank"
        raise InputError(sentence("--class", expected="a bank with classes", found="photographs alone", fix=fix))
    objects = ObjectOrigin(reader, options.objects, resolution)
    train, held_out = (objects.of(names) for names in trained_and_held_out(BankOrigin(reader)))  # no photograph in both
    return objects.subject(size), train, held_out or train, objects
