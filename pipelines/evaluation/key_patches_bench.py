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
from ...synth.key_patches.placing import box_overlaps, place_patches
from ...synth.metrics import Features, Interval, kid, kid_gap
from ..assembling.network import KIND, SYSTEMS, Assembler, Made
from ..assembling.sheet import annotated, colour, enlarged, framed, tiled
from ..training.patch_pictures import PatchPicture, PatchPictures, mask_of
from ..training.photographs import BankOrigin
from ..training.task import NothingToLearn, Subject, subject_of
from .inpaint_measures import Measure
from .making import Arrays, Making

FEWEST = 4
"""Held-out pictures, at least."""
MEAN_OF = 200
"""Training pictures whose masks are averaged, at most."""
TOGETHER = 8
"""Photographs that are looked into for objects at once."""
SHOWN = 6
"""Pictures that are shown of each experiment."""
ORDERS, ORDERED = 6, 20
"""Orders of the patches of so many pictures that are compared."""
FOUND = 0.5
"""Intersection over union with a patch's own box from which on it is found."""
INSIDE = 0.5
"""Of a mask."""
SPLITS = ("train", "val", "test")
"""Random patches of one are others than those of another."""

Sets = Sequence[Sequence[Photograph]]
Region = npt.NDArray[np.bool_]


class Figures(NamedTuple):
    """Of the pictures that a system made, one a held-out picture; `found` one a patch.

    Attributes:
        iou: of the predicted mask with the true one, none without a mask decoder.
        appearance: distance to the photograph inside the true mask, in features.
        vectors: features of what was made; found: whether a patch is placed where it was cut out.
        made: the pictures; places: of the patches in each of them.
    """

    iou: Sequence[float]
    appearance: Sequence[float]
    vectors: Features
    found: Sequence[float]
    made: Sequence[Made]
    places: Sequence[Sequence[Box]]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out pictures with their patches.

    Attributes:
        truth: features of the pictures; patches: `key`, or `random` ones; n: how many a picture, at most.
    """

    pictures: Sequence[PatchPicture]
    truth: Features
    patches: str
    n: int

    @property
    def sets(self) -> list[Sequence[Photograph]]:
        """The patches of each picture."""
        return [list(each.patches) for each in self.pictures]

    @property
    def images(self) -> list[Photograph]:
        """The pictures themselves."""
        return [each.image for each in self.pictures]

    @property
    def boxes(self) -> list[list[Box]]:
        """Of the patches of each picture."""
        return [[(int(a), int(b), int(c), int(d)) for a, b, c, d in each.boxes.tolist()] for each in self.pictures]

    @property
    def masks(self) -> list[Region]:
        """Where the patches of each picture are."""
        return [each.mask() for each in self.pictures]

    @property
    def mates(self) -> list[int]:
        """For each picture the number of the next one of another photograph, or of any where there is but one."""
        return mates_of([each.source for each in self.pictures])

    @property
    def halves(self) -> tuple[list[int], list[int]]:
        """Numbers of the pictures of every other photograph, and of the rest."""
        return halves_of([each.source for each in self.pictures])


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
    _mean_masks: dict[tuple[str, int], Region] = field(default_factory=dict)

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
                    n=n or self.first.parts, subject=self._subject,
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
            images, masks = zip(*found, strict=True)
            return {"images": np.stack(images), "masks": np.stack(masks)}

        seen = hashlib.blake2b(digest_size=16)
        for patches in sets:
            seen.update(len(patches).to_bytes(4) + b"".join(np.ascontiguousarray(each).tobytes() for each in patches))
        kept = self.making([assembler.name, seen.hexdigest()], make)
        return [Made(*each) for each in zip(kept["images"], kept["masks"], strict=True)]

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
        places = [placed(each, patches) for each, patches in zip(made, sets or held.sets, strict=True)]
        found = Figures(
            [overlap(each.mask > INSIDE, mask) for each, mask in zip(made, masks, strict=True)]
            if assembler.has_mask
            else [],
            self.measure.distances(images, held.images, masks),
            self.measure.vectors(images),
            [hit for some, own in zip(places, boxes, strict=True) for hit in hits(np.array(some), own)],
            made,
            places,
        )
        if sets is None:
            self._measured[key] = found
        return found

    def mean_mask(self, patches: str, n: int) -> Region:
        """What is most often inside the masks of training pictures, cut where its overlap with these is largest.

        Args:
            patches: `key`, or `random` ones; n: how many a picture, at most.
        """
        if (patches, n) not in self._mean_masks:
            found = self.gathered("train", MEAN_OF, self.first.objects, patches=patches, n=n)
            self._mean_masks[patches, n] = best_cut([each.mask() for each in found], self.first.resolution)
        return self._mean_masks[patches, n]

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


def mates_of(sources: Sequence[str]) -> list[int]:
    """For each picture the number of the next one of another source, or of any where all are of one."""
    n = len(sources)
    return [
        next((at % n for at in range(k + 1, k + n) if sources[at % n] != sources[k]), (k + 1) % n) for k in range(n)
    ]


def halves_of(sources: Sequence[str]) -> tuple[list[int], list[int]]:
    """Numbers of the pictures of every other source, as they first appear, and of the rest; at least two in each.

    Where sources are too few for that, every other picture.
    """
    order = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    numbers = [order[source] for source in sources]
    if min(sum(number % 2 == part for number in numbers) for part in (0, 1)) < 2:
        numbers = list(range(len(sources)))
    one, other = ([k for k, number in enumerate(numbers) if number % 2 == part] for part in (0, 1))
    return one, other


def placed(made: Made, patches: Sequence[Photograph]) -> list[Box]:
    """Where patches are in what was made of them."""
    return [place.box for place in place_patches(made.image, made.mask, patches)]


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


def kid_of(held: HeldOut, made: Features) -> Interval:
    """KID of what was made of one half of the pictures to the other half: what is made of a picture has parts of it.

    No photograph is in both halves. The interval is over pictures.
    """
    one, other = held.halves
    return kid(held.truth[one], made[other])


def gap_of(held: HeldOut, made: Features, other: Features) -> Interval:
    """How much larger the KID of the one is than that of the other, paired by picture."""
    return kid_gap(held.truth, [made], [other])


def samples(held: HeldOut, systems: Sequence[Figures], sets: Sets | None = None) -> Photograph:
    """A column a picture: the picture with its mask and boxes, its patches, and what each system made, with its own."""
    chosen = range(min(SHOWN, len(held.pictures)))
    given = sets or held.sets
    rows = [
        [annotated(held.images[k], held.masks[k].astype(np.float32), held.boxes[k]) for k in chosen],
        [strip(given[k], held.images[k].shape[0]) for k in chosen],
    ]
    for each in systems:
        rows.append([annotated(*each.made[k], each.places[k]) for k in chosen])
    return tiled(rows)


def strip(patches: Sequence[Photograph], side: int) -> Photograph:
    """Patches side by side in one picture of the sheet, each in the colour of its box."""
    whole = np.full_like(enlarged(np.zeros((side, side, 3), np.uint8)), 255)
    across = int(np.ceil(np.sqrt(len(patches))))
    cell = len(whole) // across
    for number, patch in enumerate(patches):
        top, left = (cell * each for each in divmod(number, across))
        small = cv2.resize(patch, (cell - 4, cell - 4), interpolation=cv2.INTER_AREA)
        whole[top : top + cell - 4, left : left + cell - 4] = framed(small, colour(number))
    return whole
