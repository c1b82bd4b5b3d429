"""What experiments on assembled pictures share: held-out pictures, networks, and the figures of what they make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, permutations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX, load_card
from ...synth.key_patches.placing import box_overlaps
from ...synth.metrics import Features
from ..assembling.network import KIND, SYSTEMS, Assembler, Made
from ..assembling.sheet import annotated, colour, enlarged, framed, tiled
from ..training.patch_pictures import PatchPicture, PatchPictures, mask_of
from ..training.patch_squares import in_squares
from ..training.photographs import BankOrigin
from ..training.task import NothingToLearn, Subject, subject_of
from .inpaint_measures import Measure
from .key_patches_held import HeldOut, Region, put_inside
from .making import Arrays, Making

FEWEST = 4
"""Held-out pictures, at least."""
MEAN_OF = 200
"""Training pictures that are averaged, and whose masks are, at most."""
TOGETHER = 8
"""Photographs that are looked into for objects at once."""
SHOWN = 6
"""Pictures that are shown of each experiment."""
ORDERS, ORDERED = 6, 20
"""Orders of the patches of so many pictures that are compared."""
FOUND = 0.5
"""Intersection over union with a patch's own box from which on it is found."""
GREY = 128
"""Level of the mean picture where there is none to take a mean of."""
SPLITS = ("train", "val", "test")
"""Random patches of one are others than those of another."""

Sets = Sequence[Sequence[Photograph]]


class Figures(NamedTuple):
    """Of the pictures that a system made, one a held-out picture.

    Attributes:
        iou: of the predicted mask with the true one, none without a mask decoder.
        appearance: how far the photograph is from itself with what was made inside the true mask, in features.
        vectors: features of what was made; found: of each patch, whether it is placed where it was cut out.
        made: the pictures; places: of the patches in each of them; cut: of the masks.
    """

    iou: Sequence[float]
    appearance: Sequence[float]
    vectors: Features
    found: Sequence[Sequence[float]]
    made: Sequence[Made]
    places: Sequence[Sequence[Box]]
    cut: float


@dataclass
class Bench:
    """A bank, the networks of a folder, and what they are measured with.

    Args:
        reader: of the bank; folder: of networks; split: whose pictures; most: pictures; seed: of all draws.
        making: keeps what is made; systems: names of those to measure, all where there are none.

    Raises:
        InputError: there is no network, judge or features, or too few held-out pictures.
    """

    reader: Reader
    folder: Path
    split: str
    most: int
    seed: int
    making: Making
    systems: Sequence[str] = ()
    left_out: list[str] = field(default_factory=list)
    _held: dict[tuple[str, int], HeldOut] = field(default_factory=dict)
    _measured: dict[tuple[str, int], Figures] = field(default_factory=dict)
    _trained: dict[tuple[str, int], list[PatchPicture]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.measure = Measure(self.folder, self.device)
        self.assemblers = self._opened()

    @property
    def first(self) -> Assembler:
        """The main system, or else the first that is there."""
        return self.assemblers.get(KIND) or next(iter(self.assemblers.values()))

    def some(self, names: Sequence[str], experiment: str) -> dict[str, Assembler]:
        """Those of these systems that are there; of the others a sentence is kept.

        Raises:
            InputError: none is.
        """
        found = {name: self.assemblers[name] for name in names if name in self.assemblers}
        if not found:
            expected = f"one of {', '.join(f'{name}{SUFFIX}' for name in names)}"
            fix = f"train one: `zeuxis train {KIND}`"
            raise InputError(sentence(self.folder, expected=f"{expected}, for {experiment}", found="none", fix=fix))
        return found

    def held(self, patches: str = "key", n: int | None = None) -> HeldOut:
        """Held-out pictures, evenly over a random order of the photographs, with key patches or random ones."""
        n = n or self.first.parts
        key = patches, n
        if key not in self._held:
            found = self.gathered(self.split, self.most, self.first.objects, patches=patches, n=n)
            if len(found) < FEWEST:
                what = f"pictures of {self.first.objects}" if self.first.objects else "pictures with key patches"
                expected = f"at least {FEWEST} {what} in {self.split}"
                raise InputError(sentence(self.reader.path, expected=expected, found=str(len(found))))
            self._held[key] = HeldOut(found, self.measure.vectors([each.image for each in found]), patches, n)
        return self._held[key]

    def gathered(
        self, split: str, most: int, objects: str | None, *, patches: str = "key", n: int | None = None
    ) -> list[PatchPicture]:
        """So many pictures of a split, at most, of photographs in a random order that is always the same."""
        names, number = BankOrigin(self.reader).names(split), SPLITS.index(split)
        order = [names[at] for at in np.random.default_rng(self.seed).permutation(len(names)).tolist()]
        found: list[PatchPicture] = []
        for start in range(0, len(order), TOGETHER):
            some = order[start : start + TOGETHER]
            try:
                pictures = PatchPictures(
                    self.reader, some, self.first.resolution, objects=objects, patches=patches,
                    n=n or self.first.parts, subject=self._subject, aspect=self.first.aspect,
                    seed=int(np.random.default_rng([self.seed, number, start]).integers(1 << 31)),
                )  # fmt: skip
            except NothingToLearn:
                continue
            found += [pictures[k] for k in range(min(len(pictures), most - len(found)))]
            if len(found) >= most:
                break
        return found

    def made(self, assembler: Assembler, sets: Sets) -> list[Made]:
        """A picture of each set of patches, with noise by its number."""

        def make() -> Arrays:
            found = assembler.many(sets, [assembler.noise(self.seed, number) for number in range(len(sets))])
            known = [each.alone for each in found if each.alone is not None]
            return {
                "images": np.stack([each.image for each in found]),
                "masks": np.stack([each.mask for each in found]),
                **({"alone": np.concatenate(known)} if known else {}),
            }

        seen = hashlib.blake2b(digest_size=16)
        for patches in sets:
            seen.update(len(patches).to_bytes(4))
            for each in patches:
                seen.update(repr(each.shape).encode() + np.ascontiguousarray(each).tobytes())
        kept = self.making([assembler.name, seen.hexdigest()], make)
        images, masks = kept["images"], kept["masks"]
        if "alone" not in kept:
            return [Made(*each) for each in zip(images, masks, strict=True)]
        alone = np.split(kept["alone"], np.cumsum([len(patches) for patches in sets])[:-1])
        return [Made(*each) for each in zip(images, masks, alone, strict=True)]

    def figures(
        self, assembler: Assembler, held: HeldOut, sets: Sets | None = None, count: int | None = None
    ) -> Figures:
        """What a system makes of patches of held-out pictures, measured.

        Args:
            sets: the patches where they are others than those of the pictures, one set a picture.
            count: so many of each picture's boxes count.
        """
        key = assembler.name, id(held)  # held for good
        if sets is None and key in self._measured:
            return self._measured[key]
        made = self.made(assembler, sets or held.sets)
        boxes = [each.boxes[:count] for each in held.pictures]
        masks = [mask_of(each, self.first.resolution) for each in boxes]
        images = [each.image for each in made]
        places = [placed(assembler, each, patches) for each, patches in zip(made, sets or held.sets, strict=True)]
        found = Figures(
            [overlap(each.mask > assembler.cut, mask) for each, mask in zip(made, masks, strict=True)]
            if assembler.has_mask
            else [],
            self.apart(images, held, masks),
            self.measure.vectors(images),
            [hits(np.array(some), own) for some, own in zip(places, boxes, strict=True)],
            made,
            places,
            assembler.cut,
        )
        if sets is None:
            self._measured[key] = found
        return found

    def apart(self, made: Sequence[Photograph], held: HeldOut, masks: Sequence[Region]) -> list[float]:
        """How far each held-out picture is from itself with what was made inside its mask, there, in features.

        0 where every pixel inside is the picture's own, whatever is outside.
        """
        return self.measure.distances(put_inside(made, held.images, masks), held.images, masks)

    def mean_mask(self, patches: str, n: int, count: int | None = None) -> Region:
        """What is most often inside the masks of training pictures, cut where its overlap with these is largest.

        Args:
            patches: `key`, or `random` ones; n: how many a picture, at most; count: so many of these count.
        """
        side = self.first.resolution
        return best_cut([mask_of(each.boxes[:count], side) for each in self._training(patches, n)], side)

    def mean_picture(self, patches: str, n: int) -> Photograph:
        """`(R, R, 3)` uint8: the mean of the training pictures that `mean_mask` is of; grey where there are none."""
        side = self.first.resolution
        images = [each.image for each in self._training(patches, n)] or [np.full((side, side, 3), GREY, np.uint8)]
        found: Photograph = np.rint(np.mean(images, axis=0)).astype(np.uint8)
        return found

    def _training(self, patches: str, n: int) -> list[PatchPicture]:
        if (patches, n) not in self._trained:
            found = self.gathered("train", MEAN_OF, self.first.objects, patches=patches, n=n)
            self._trained[patches, n] = found
        return self._trained[patches, n]

    @cached_property
    def _subject(self) -> Subject:
        return subject_of(self.reader, (self.first.resolution, self.first.resolution))

    def _opened(self) -> dict[str, Assembler]:
        found: dict[str, Assembler] = {}
        for name in [name for name in SYSTEMS if not self.systems or name in self.systems]:
            path = self.folder / f"{name}{SUFFIX}"
            if not path.exists():
                self.left_out.append(f"{name}: left out, there is no {path.name} in {self.folder}")
                continue
            own = load_card(path, KIND)
            first = next(iter(found.values()), None)
            if first is not None and (own.size, own.training.get("objects")) != (first.card.size, first.objects):
                said = f"{own.size[0]}x{own.size[1]} on {own.training.get('objects') or 'whole photographs'}"
                self.left_out.append(f"{name}: left out, it was trained at {said}, unlike {first.name}")
                continue
            aspect = own.config.get("aspect", "stretched")
            if first is not None and aspect != first.aspect:
                said = f"{name}: left out, patches are {aspect} for it, and {first.aspect} for {first.name}"
                self.left_out.append(said)
                continue
            found[name] = Assembler(self.folder, name, self.device)
        if not found:
            expected, fix = f"one of {', '.join(SYSTEMS)}", f"train one: `zeuxis train {KIND}`"
            raise InputError(sentence(self.folder, expected=expected, found="no such network", fix=fix))
        return found


def best_cut(masks: Sequence[Region], resolution: int) -> Region:
    """The mean of masks, cut where its overlap with these is largest; all of the picture where there are none."""
    if not masks:
        return np.ones((resolution, resolution), bool)
    mean = np.mean(masks, axis=0)
    cuts = [mean >= level for level in np.unique(mean)]
    best = int(np.argmax([np.mean([overlap(cut, mask) for mask in masks]) for cut in cuts]))
    found: Region = cuts[best]
    return found


def placed(assembler: Assembler, made: Made, patches: Sequence[Photograph]) -> list[Box]:
    """Where patches are in what was made of them."""
    return [place.box for place in assembler.places(made, patches)]


def hits(placed: npt.NDArray[np.integer], boxes: npt.NDArray[np.integer]) -> list[float]:
    """1 for each of `(n, 4)` boxes that its own in `(n, 4)` others overlaps by more than `FOUND`, else 0."""
    return [float(own > FOUND) for own in np.diag(box_overlaps(placed, boxes))]


def overlap(one: Region, other: Region) -> float:
    """Intersection over union; 1 of two empty ones."""
    either = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / either) if either else 1.0


def order_difference(assembler: Assembler, sets: Sets, seed: int) -> float:
    """The largest difference, levels of 0..255, that another order of the patches makes anywhere in a picture."""
    largest = 0.0
    for number, patches in enumerate(sets[:ORDERED]):
        orders = [list(each) for each in islice(permutations(patches), ORDERS)]
        noise = [assembler.noise(seed, number)] * len(orders)
        images, masks = assembler.raw(orders, noise)
        of_image, of_mask = ((each - each[:1]).abs().max() for each in (images, masks))
        largest = max(largest, 127.5 * float(of_image), 255 * float(of_mask))
    return largest


def samples(held: HeldOut, systems: Sequence[Figures], sets: Sets | None = None) -> Photograph:
    """A column a picture: the picture with its mask and boxes, its patches, and what each system made, with its own."""
    chosen = range(min(SHOWN, len(held.pictures)))
    given = sets or held.sets
    rows = [
        [annotated(held.images[k], held.masks[k].astype(np.float32), held.boxes[k]) for k in chosen],
        [strip(given[k], held.images[k].shape[0]) for k in chosen],
    ]
    for each in systems:
        rows.append([annotated(each.made[k].image, each.made[k].mask, each.places[k], cut=each.cut) for k in chosen])
    return tiled(rows)


def strip(patches: Sequence[Photograph], side: int) -> Photograph:
    """Patches side by side in one picture of the sheet, each in the colour of its box."""
    whole = np.full_like(enlarged(np.zeros((side, side, 3), np.uint8)), 255)
    across = int(np.ceil(np.sqrt(len(patches))))
    cell = len(whole) // across
    for number, patch in enumerate(in_squares(patches, side, "kept")):
        top, left = (cell * each for each in divmod(number, across))
        small = cv2.resize(patch, (cell - 4, cell - 4), interpolation=cv2.INTER_AREA)
        whole[top : top + cell - 4, left : left + cell - 4] = framed(small, colour(number))
    return whole
