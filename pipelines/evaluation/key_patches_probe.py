"""Classes told from parts alone: a linear probe on what the encoder sums patches up in, beside what needs no training.

The paper's experiment on unsupervised features (Lee et al. 2018, table 1), on the classes of a bank: the encoder sees
key patches of an object, never the whole of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...synth.key_patches.network import KeyPatchNetwork
from ...synth.key_patches.probe import balanced_interval, ridge_probe
from ..assembling.network import Assembler
from ..assembling.sheet import enlarged, framed, tiled
from ..training.patch_pictures import PatchPicture
from .key_patches_bench import SHOWN, Bench, Sets, strip
from .key_patches_results import Column, Experiment, Row

Coded = Callable[[Sets], npt.NDArray[np.float32]]
"""`(n, d)` features of sets of patches."""
ENOUGH, ENOUGH_UNSEEN = 8, 4
"""Pictures of a class in training and held out, at least, for it to take part."""
MOST = 100
"""Pictures of a class on either side."""
PIXELS = 8
"""Side of patches whose pixels are compared."""
RIGHT, WRONG = (40, 200, 60), (230, 40, 40)
ACCURACY = Column("accuracy", "share of held-out objects whose class is told, mean over classes")


def features(bench: Bench) -> Experiment:
    """How well classes are told from key patches of their objects, by features of several kinds.

    Raises:
        InputError: fewer than two classes have enough objects.
    """
    trained, unseen = _pictures(bench, "train"), _pictures(bench, bench.split)
    names = [
        name for name, each in trained.items() if len(each) >= ENOUGH and len(unseen.get(name, [])) >= ENOUGH_UNSEEN
    ]
    if len(names) < 2:
        expected = f"two classes with {ENOUGH} objects in train and {ENOUGH_UNSEEN} in {bench.split}, for features"
        raise InputError(sentence(bench.reader.path, expected=expected, found=str(len(names))))
    own, own_labels = _joined(trained, names)
    held, labels = _joined(unseen, names)
    kinds: dict[str, tuple[str, Coded]] = {
        name: ("its encoder", each.encoded) for name, each in bench.assemblers.items()
    }
    kinds["untrained"] = ("an encoder that has learned nothing", _untrained(bench.first, bench.seed).encoded)
    kinds["pixels"] = (f"the mean of the patches at {PIXELS}x{PIXELS}", _pixels)
    rows: list[Row] = []
    told = np.zeros(0, np.int64)
    for name, (said, code) in kinds.items():
        found = ridge_probe(code(_sets(own)), own_labels, code(_sets(held)), [each.source for each in own])
        told = found if not rows else told
        right = balanced_interval(found == labels, labels, [each.source for each in held])
        rows.append(Row(name, said, {"accuracy": right}))
    rows.append(Row("chance", "any class for all", {"accuracy": 1 / len(names)}))
    counts = ", ".join(f"{name} {len(trained[name])} and {len(unseen[name])}" for name in names)
    notes = [f"Objects to learn from and held out: {counts}."]
    picture, caption = _shown(held, labels, told, names)
    said = "Can classes be told from the parts of their objects?"
    return Experiment("features", said, (ACCURACY,), rows, picture, caption, notes)


def _pictures(bench: Bench, split: str) -> dict[str, list[PatchPicture]]:
    """Of every class of things, or of all classes where there are too few of these, those that have objects."""
    things = [each.name for each in bench.reader.classes if each.thing]
    names = things if len(things) > 1 else [each.name for each in bench.reader.classes]
    found = {name: bench.gathered(split, MOST, name) for name in names}
    return {name: each for name, each in found.items() if each}


def _joined(
    pictures: dict[str, list[PatchPicture]], names: Sequence[str]
) -> tuple[list[PatchPicture], npt.NDArray[np.int64]]:
    """All pictures, class by class, and the number of the class of each."""
    labels = np.repeat(np.arange(len(names)), [len(pictures[name]) for name in names])
    return [each for name in names for each in pictures[name]], labels


def _sets(pictures: Sequence[PatchPicture]) -> list[list[Photograph]]:
    return [list(each.patches) for each in pictures]


def _pixels(sets: Sets) -> npt.NDArray[np.float32]:
    """`(n, d)`: patches made small, mean over those of a picture, so that their order does not matter either."""
    small = [
        np.mean([cv2.resize(each, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) for each in patches], axis=0)
        for patches in sets
    ]
    return np.stack(small).reshape(len(sets), -1).astype(np.float32)


def _untrained(first: Assembler, seed: int) -> Assembler:
    """The same network with weights as they are drawn before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = KeyPatchNetwork(type(first.network.config)(**asdict(first.network.config)))
    fresh = copy.copy(first)
    fresh.network = network.eval().requires_grad_(False).to(first.device)
    return fresh


def _shown(
    held: Sequence[PatchPicture], labels: npt.NDArray[np.int64], told: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[Photograph, str]:
    """Held-out objects over their patches, framed by whether the first encoder tells them."""
    chosen = np.linspace(0, len(held) - 1, min(2 * SHOWN, len(held))).round().astype(int).tolist()
    side = len(held[0].image)
    rows = []
    for start in range(0, len(chosen), SHOWN):
        some = chosen[start : start + SHOWN]
        rows.append([framed(enlarged(held[k].image), RIGHT if told[k] == labels[k] else WRONG) for k in some])
        rows.append([strip(held[k].patches, side) for k in some])
    said = ", ".join(f"{names[labels[k]]} told as {names[told[k]]}" for k in chosen)
    return tiled(rows), f"held-out objects, which the network does not see, and the patches it sees: {said}"
