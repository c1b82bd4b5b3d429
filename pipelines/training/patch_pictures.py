"""Pictures with key patches: whole photographs, or the surroundings of the objects of a class, and where patches lie.

A photograph is squeezed to a square, as the paper's images and patches are (Lee et al. 2018, section 4), so that none
of its patches is lost. Around an object a square window is cut out, which is larger than its longer side.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...index.batch import in_order, usable_cores
from ...ingest.patches import PatchSettings, box_iou, key_patches
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...synth.key_patches.network import Aspect
from ..progress import Progress, silent
from .caches import kept_or_made, made_whole
from .made_pictures import PIXELS, Boxes, MadePicture, MadePictures
from .object_windows import LEAST_LONGER, LEAST_SHORTER, LONGEST, MOST_CUT, ROOM, object_windows
from .patch_crops import WIDE, Square, boxes_inside, drawn_square, with_room
from .patch_squares import in_squares
from .photographs import BankOrigin, Origin, trained_and_held_out
from .task import NothingToLearn, Subject

LARGER = 2
"""Pictures are kept at so many times the resolution, and patches are cut out of them there (paper: 128 for 64)."""
TRIES = 100
"""Of drawing a random box that does not cover those before it too much."""
FORMAT = 2
"""Of what is kept on the disk."""


@dataclass(frozen=True, eq=False)
class PatchPicture:
    """A picture and patches of it.

    Attributes:
        image: `(R, R, 3)` uint8 RGB.
        boxes: where the patches are, pixels of `image`, best first.
        patches: uint8 RGB, cut out of the picture at `LARGER` times its size: `(R, R, 3)` each, stretched bicubically,
            or `(h, w, 3)` where they keep their shapes.
        source: the photograph; name: that, and of an object the id of its segment.
    """

    image: Photograph
    boxes: Boxes
    patches: Sequence[Photograph]
    source: str
    name: str

    def mask(self) -> npt.NDArray[np.bool_]:
        """`(R, R)`: the union of the boxes."""
        return mask_of(self.boxes, len(self.image))


def mask_of(boxes: Boxes, resolution: int) -> npt.NDArray[np.bool_]:
    """`(R, R)`: the union of boxes in a picture of that side."""
    mask = np.zeros((resolution, resolution), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


class _Wanted(NamedTuple):
    """A picture that is asked for: of an object the window around it, pixels of the photograph."""

    name: str
    window: Box | None


class PatchPictures:
    """Pictures with patches, by number. Pickles.

    What is found is kept below `cache`, in a folder named after the content, the options and the settings of the
    search; without one it is kept in memory. Pictures in which no patch is found are left out.

    Args:
        origin: of the photographs; names: which ones; resolution: R.
        objects: name of a class whose segments' surroundings are the pictures; None for whole photographs.
        patches: `key`, or `random` ones within the same limits; n: how many, at most.
        cache: a folder; subject: whose content the pictures are, for the name in it.
        progress: told while pictures are made.
        seed: of random patches.
        room: what is about objects is kept as well, so that squares of another place and scale can be drawn.
        aspect: of patches, see `KeyPatchConfig`.

    Raises:
        InputError: there is no such class, or no bank to have one.
        NothingToLearn: there are no photographs, or none with an object that is large enough.
    """

    def __init__(
        self,
        origin: Origin | Reader,
        names: Sequence[str],
        resolution: int,
        *,
        objects: str | None = None,
        patches: str = "key",
        n: int = 3,
        cache: Path | None = None,
        subject: Subject | None = None,
        progress: Progress = silent,
        seed: int = 0,
        room: bool = False,
        aspect: Aspect = "stretched",
    ) -> None:
        self.origin: Origin = BankOrigin(origin) if isinstance(origin, Reader) else origin
        self.names, self.resolution, self.objects, self.n = list(names), resolution, objects, n
        self.random, self.seed, self.aspect = patches == "random", seed, aspect
        self.settings, self.side = PatchSettings(top=n), LARGER * resolution
        self.kept = round(WIDE * self.side) if room and objects is not None else self.side
        self.cache, self._progress = cache, progress
        self.subject = subject or self.origin.subject((resolution, resolution))
        if objects is None:
            self._wanted = {name: [_Wanted(name, None)] for name in self.names}
        else:
            self._wanted = _windows(self.origin, self.names, objects, resolution)
        if not self._wanted:
            raise self._nothing("no photographs" if objects is None else f"no {objects} large enough to be a picture")

    def __getstate__(self) -> dict[str, Any]:
        left = ("_progress", *(["_held"] if self.cache is not None else []))
        return {name: each for name, each in vars(self).items() if name not in left} | {"_progress": silent}

    def __len__(self) -> int:
        return len(self._held.boxes)

    def __getitem__(self, k: int) -> PatchPicture:
        """Picture k; its random patches depend on (seed, k) alone."""
        if not 0 <= k < len(self):
            raise IndexError(k)
        return self.redrawn(k, np.random.default_rng((self.seed, k)))

    def redrawn(
        self, k: int, random: np.random.Generator, *, spread: float = 0.0, anywhere: bool = False
    ) -> PatchPicture:
        """A square drawn about picture k, with random patches that are drawn now, or with its key patches.

        Args:
            spread: 0 for the picture itself, 1 for squares that differ most from it; `patch_crops`.
            anywhere: random patches, whatever `patches` says; so are those of squares with no key patch in them.
        """
        found, wanted = self._held, self._listed[int(self._held.numbers[k])]
        square = self._square(k, random, spread)
        boxes = found.boxes[k][: found.counts[k]]
        if square != self._picture:
            corner = np.array([self._picture.top, self._picture.left] * 2)
            boxes = boxes_inside(boxes * LARGER + corner, square, self.resolution)
        if self.random or anywhere or not len(boxes):
            boxes = random_boxes(self.resolution, self.settings, random)
        large = squeezed(square.of(found.pixels[k]), self.side)
        return PatchPicture(
            self._small(large), boxes, cut_out(large, boxes, self.resolution, self.aspect), wanted[0], wanted[1].name
        )

    def image(self, k: int, random: np.random.Generator | None = None, *, spread: float = 0.0) -> Photograph:
        """Picture k alone, or a square drawn about it; `(R, R, 3)` uint8 RGB."""
        square = self._picture if random is None else self._square(k, random, spread)
        return self._small(squeezed(square.of(self._held.pixels[k]), self.side))

    @property
    def _picture(self) -> Square:
        """Where pictures are in what is kept of them."""
        return Square((self.kept - self.side) // 2, (self.kept - self.side) // 2, self.side)

    def _square(self, k: int, random: np.random.Generator, spread: float) -> Square:
        if spread <= 0:
            return self._picture
        top, left, bottom, right = self._held.wholes[k].tolist()
        return drawn_square((top, left, bottom, right), self._picture, spread, random)

    def _small(self, large: Photograph) -> Photograph:
        side = (self.resolution, self.resolution)
        found: Photograph = cv2.resize(large, side, interpolation=cv2.INTER_AREA)
        return found

    @property
    def left_out(self) -> int:
        """Pictures that are left out, since there is no patch in them."""
        return len(self._listed) - len(self)

    def prepare(self) -> None:
        """Makes the pictures now.

        Raises:
            NothingToLearn: no patch is found in any of them.
            ZeuxisError: a photograph cannot be read, or the folder cannot be written.
        """
        if not len(self):
            raise self._nothing("no key patches in any picture")

    @cached_property
    def _listed(self) -> list[tuple[str, _Wanted]]:
        """Source and what is wanted of it, in order."""
        return [(source, each) for source, those in self._wanted.items() for each in those]

    @cached_property
    def _held(self) -> MadePictures:
        if self.cache is None:
            rows = [row for found in self._found() for row in found]
            return MadePictures.of(rows, [np.asarray(row.pixels) for row in rows], self.n, self.kept)
        sizes = (LARGER, ROOM, self.kept, FORMAT)
        options = (self.resolution, self.objects, self.random, self.n, *sizes, self.settings, self._key)
        limits = (LEAST_LONGER, LEAST_SHORTER, LONGEST, MOST_CUT)
        of, content = _digest(self.subject.bank), _digest(self.subject.content)
        folder = self.cache / f"key-patches-{of}-{content}-{_digest(*self.names, repr((options, limits)))}"
        return kept_or_made(folder, MadePictures.load, self._make)

    def _make(self, folder: Path) -> None:
        self._fill(folder)
        *_, of, content, _ = folder.name.split("-")
        for stale in folder.parent.glob(f"key-patches-{of}-*"):  # as it was before it changed
            if stale.name.split("-")[3] != content:
                shutil.rmtree(stale, ignore_errors=True)

    @property
    def _key(self) -> bool:
        """Whether the bank's own key patches are taken."""
        return bool(self._of_bank)

    @cached_property
    def _of_bank(self) -> dict[str, list[Box]]:
        """Key patches by source, best first; none where the bank has fewer of a photograph than are asked for."""
        if self.objects is not None or self.random or not isinstance(self.origin, BankOrigin):
            return {}
        own = self.origin.reader.manifest.settings.get("patches") or {}
        if int(own.get("top", 0)) < self.n:
            return {}
        found: dict[str, list[Box]] = {}
        rows = self.origin.reader.table("patches", {"source": self.names})
        for row in sorted(rows.to_pylist(), key=lambda row: row["rank"]):
            found.setdefault(row["source"], []).append((row["top"], row["left"], row["bottom"], row["right"]))
        return found

    def _found(self) -> Any:
        """For each source its pictures, in order."""
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)  # with more threads, edges and so key patches come out otherwise
        _ = self._of_bank
        numbers, first = [], 0
        for source, those in self._wanted.items():
            numbers.append((source, first))
            first += len(those)
        try:
            for done, rows in enumerate(in_order(self._pictures_of, numbers, usable_cores()), 1):
                self._progress(done, len(numbers), "finding key patches")
                yield rows
        finally:
            cv2.setNumThreads(before)

    def _pictures_of(self, numbered: tuple[str, int]) -> list[MadePicture]:
        source, first = numbered
        photograph, rows = self.origin.read(source), []
        for number, (_, window) in enumerate(self._wanted[source], first):
            top, left, bottom, right = window or (0, 0, *photograph.shape[:2])
            picture = np.ascontiguousarray(photograph[top:bottom, left:right])
            boxes = self._boxes(source, picture)
            if len(boxes) or self.random:
                pixels, whole = self._kept_of(photograph, picture, window)
                rows.append(MadePicture(number, pixels, boxes, whole))
        return rows

    def _kept_of(self, photograph: Photograph, picture: Photograph, window: Box | None) -> tuple[Photograph, Box]:
        """What is kept of a picture, and where in it the photograph is."""
        if window is not None and self.kept > self.side:
            return with_room(photograph, window, self.side)
        return squeezed(picture, self.side), (0, 0, self.side, self.side)

    def _boxes(self, source: str, picture: Photograph) -> Boxes:
        """Of key patches, in the small picture."""
        if self.random:
            return np.zeros((0, 4), np.int32)
        own = self._of_bank.get(source, []) if self._of_bank else None
        if own is None:
            own = [patch.box for patch in key_patches(picture, self.settings)]
        return boxes_in(own[: self.n], (picture.shape[0], picture.shape[1]), self.resolution)

    def _fill(self, folder: Path) -> None:
        with made_whole(folder) as temporary:
            rows: list[MadePicture] = []
            with (temporary / PIXELS).open("wb") as file:
                for found in self._found():
                    for row in found:
                        file.write(row.pixels.tobytes())
                        rows.append(row._replace(pixels=row.pixels[:0]))
            MadePictures.of(rows, [], self.n, self.kept).save(temporary)

    def _nothing(self, found: str) -> NothingToLearn:
        of = "pictures with key patches" if self.objects is None else f"pictures of class {self.objects!r}"
        fix = "add photographs, or name another class" if self.objects else "add photographs"
        return NothingToLearn(sentence(self.subject.bank, expected=of, found=found, fix=fix))


def held_out(origin: Origin | Reader, resolution: int, *, split: str | None = None, **options: Any) -> PatchPictures:
    """The pictures that training validates on, or those of a split, such as `test`.

    Args:
        split: None for what `trained_and_held_out` says; options: of `PatchPictures`.

    Raises:
        InputError: as `PatchPictures`.
    """
    source: Origin = BankOrigin(origin) if isinstance(origin, Reader) else origin
    names = trained_and_held_out(source)[1] if split is None else source.names(split)
    return PatchPictures(source, names, resolution, **options)


def squeezed(picture: Photograph, side: int) -> Photograph:
    """A picture as a square: averaged over areas where it shrinks, else interpolated."""
    shrinks = min(picture.shape[:2]) >= side
    found: Photograph = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return found


def boxes_in(boxes: Sequence[Box], size: tuple[int, int], resolution: int) -> Boxes:
    """Boxes of a picture of `(rows, cols)` as whole pixels of the squeezed one, none of them empty."""
    scaled = np.asarray(boxes, np.float64).reshape(-1, 4) * (resolution / np.array([*size, *size]))
    found = np.rint(scaled).astype(np.int32)
    found[:, :2] = found[:, :2].clip(0, resolution - 1)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1).clip(1, resolution)
    return found


def cut_out(large: Photograph, boxes: Boxes, resolution: int, aspect: Aspect = "stretched") -> list[Photograph]:
    """Patches of a square picture, cut out at its own size; `(R, R, 3)` each, stretched, unless they keep their shapes.

    Args:
        large: a square picture of any multiple of the resolution; boxes: in one of the resolution.
    """
    times = len(large) // resolution
    found: list[Photograph] = [
        np.ascontiguousarray(large[top:bottom, left:right]) for top, left, bottom, right in (boxes * times).tolist()
    ]
    return found if aspect == "kept" else list(in_squares(found, resolution, aspect))


def random_boxes(resolution: int, settings: PatchSettings, random: np.random.Generator) -> Boxes:
    """As many boxes as `settings.top`, of the area, shape and distance that key patches have, anywhere in a square."""
    chosen: list[Box] = []
    for _ in range(TRIES):
        area = random.uniform(settings.min_area, settings.max_area) * resolution**2
        shape = settings.max_aspect ** random.uniform(-1, 1)
        rows, cols = (max(1, min(resolution, round(side))) for side in (sqrt(area * shape), sqrt(area / shape)))
        top, left = (int(random.integers(resolution - side + 1)) for side in (rows, cols))
        box = (top, left, top + rows, left + cols)
        if all(box_iou(box, other) <= settings.max_iou for other in chosen):
            chosen.append(box)
        if len(chosen) == settings.top:
            break
    return np.array(chosen, np.int32)


def _windows(origin: Origin, names: Sequence[str], objects: str, resolution: int) -> dict[str, list[_Wanted]]:
    """Of each source, in order, the windows around its objects."""
    if not isinstance(origin, BankOrigin):
        fix = "train on a bank"
        raise InputError(sentence("--class", expected="a bank with classes", found="photographs alone", fix=fix))
    found: dict[str, list[_Wanted]] = {name: [] for name in names}
    for source, box, name in object_windows(origin.reader, objects, resolution):
        if source in found:
            found[source].append(_Wanted(name, box))
    return {name: those for name, those in found.items() if those}


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()
