"""The photographs and layouts of a bank at the size of a network, decoded and resized once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...index.batch import in_order, usable_cores
from ...storage.classes import Layout
from ...storage.errors import InputError, sentence
from ...storage.footprints import rows_by_source
from ...storage.images import Photograph
from ...storage.layouts import frame_layout, sample_to_frame
from ...storage.reader import Reader, content_of
from ..progress import Progress, silent
from .caches import kept_or_made, made_whole
from .task import NothingToLearn, labelled_splits, sets_apart

BUDGET = 2 << 30
"""Bytes of decoded sources that are kept, by default; those beyond are decoded whenever they are asked for."""

SPLITS = ("train", "val", "test")
APART = 10
"""Without a split `val`, one of so many training groups is not trained on."""


class Picture(NamedTuple):
    """A source at the size of a network, arrays of the caller's own.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        layout: `(H, W)` uint16 class ids of the bank, `VOID` where there is none.
        regions: `(H, W)` uint16, 0 for void and for components too small to be stored, else 1 + index in `Segments`.
    """

    image: Photograph
    layout: Layout
    regions: npt.NDArray[np.uint16]


class Segments(NamedTuple):
    """The stored segments of a source, in raster order of their first pixels at its own resolution.

    Attributes:
        segment_ids: `(s,)` uint64; class_ids: `(s,)` uint16.
        shard: number of the shard they are in; rows: `(s,)` int64, their rows in its search columns.
    """

    segment_ids: npt.NDArray[np.uint64]
    class_ids: npt.NDArray[np.uint16]
    shard: int
    rows: npt.NDArray[np.int64]


class _Place(NamedTuple):
    """Where a source is: its shard and its row there."""

    shard: int
    row: int


class BankSources:
    """The labelled sources of a split, by name, at one size. Pickles to a process that opens the bank anew.

    Args:
        reader: of the bank.
        size: `(rows, cols)`; photographs are averaged over areas, layouts sampled as to the frame, both stretched
            where the aspect ratio is another.
        split: `train`, `val` or `test`; names: only those of it, default all.
        cache: a folder; what is decoded is kept there in `.npy` files, mapped into memory and so shared by all
            processes. None keeps it in the memory of each process.
        budget: bytes that are kept, at most; further sources are decoded on demand.
        most: only so many sources, evenly spaced.
        progress: told while the cache is filled.

    Attributes:
        names: of the sources, ascending; groups: `(n,)` their groups.
    """

    def __init__(
        self,
        reader: Reader,
        size: tuple[int, int],
        split: str = "train",
        *,
        names: Collection[str] | None = None,
        cache: Path | None = None,
        budget: int = BUDGET,
        most: int | None = None,
        progress: Progress = silent,
    ) -> None:
        if split not in SPLITS:
            raise InputError(sentence(f"split {split!r}", expected=f"one of {', '.join(SPLITS)}", found="another"))
        self.reader, self.size, self.split, self.cache, self._progress = reader, size, split, cache, progress
        wanted = None if names is None else set(names)
        found = [each for each in _labelled(reader, split) if wanted is None or each[0] in wanted]
        if most is not None and most < len(found):
            found = [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
        self.names = [name for name, _, _ in found]
        self.groups = np.array([group for _, group, _ in found], dtype=str)
        self._places = [place for _, _, place in found]
        self._n_kept = min(len(found), max(budget, 0) // _n_bytes(size))
        self._own: dict[int, Picture] = {}
        self._rows: dict[int, list[npt.NDArray[np.int64]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = {name: each for name, each in vars(self).items() if name != "_mapped"}
        return state | {"key": self.key, "_own": {}, "_rows": {}, "_progress": silent}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Picture:
        """A source by its number.

        Raises:
            BankError: the bank keeps no sources, or is damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        if number >= self._n_kept:
            return self._decoded(number)
        if self.cache is not None:
            image, layout, regions = (np.array(array[number]) for array in self._mapped)
            return Picture(image, layout, regions)
        if number not in self._own:
            self._own[number] = self._decoded(number)
        image, layout, regions = self._own[number]
        return Picture(image.copy(), layout.copy(), regions.copy())

    def segments(self, number: int) -> Segments:
        """The stored segments of a source; `regions` of its picture count them from 1."""
        shard, row = self._places[number]
        columns = self.reader.shards[shard].footprints
        if shard not in self._rows:
            self._rows[shard] = rows_by_source(columns)
        rows = self._rows[shard][row]
        return Segments(columns.segment_id[rows], columns.class_id[rows], shard, rows)

    def uncached(self) -> BankSources:
        """The same sources, decoded whenever they are asked for: for who looks at a few and must write nothing."""
        return BankSources(self.reader, self.size, self.split, names=self.names, budget=0)

    def prepare(self) -> None:
        """Fills the cache now, where there is one.

        Raises:
            BankError: the bank keeps no sources, or is damaged. InputError: the folder cannot be written.
        """
        if self.cache is not None and self._n_kept:
            _ = self._mapped

    @cached_property
    def key(self) -> str:
        """The bank, its content and generation, and the sources, as four parts of the names of cached files."""
        bank = str(self.reader.path)
        content = f"{content_of(self.reader)} {self.reader.manifest.generation}"
        return f"{_digest(bank)}-{_digest(content)}-{self.split}-{_digest(*self.names)}"

    @cached_property
    def _mapped(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays of the kept sources, one a field of `Picture`."""
        assert self.cache is not None
        folder = self.cache / f"{self.key}-{self.size[0]}x{self.size[1]}-{self._n_kept}"
        return kept_or_made(folder, self._load, self._make)

    def _load(self, folder: Path) -> tuple[npt.NDArray[Any], ...]:
        return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Picture._fields)

    def _make(self, folder: Path) -> None:
        self._fill(folder)
        self._remove_stale()

    def _remove_stale(self) -> None:
        """Removes what was cached of the bank before it changed."""
        assert self.cache is not None
        bank, content = self.key.split("-")[:2]
        for path in self.cache.glob(f"{bank}-*"):
            if path.name.split("-")[1] != content:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _fill(self, folder: Path) -> None:
        """Writes the arrays of the kept sources, one after the other."""
        shapes = ((*self.size, 3), "|u1"), (self.size, "<u2"), (self.size, "<u2")
        with made_whole(folder) as temporary, ExitStack() as opened:
            files = [opened.enter_context((temporary / f"{name}.npy").open("wb")) for name in Picture._fields]
            for file, (shape, kind) in zip(files, shapes, strict=True):
                header = {"descr": kind, "fortran_order": False, "shape": (self._n_kept, *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            for done, picture in enumerate(in_order(self._decoded, range(self._n_kept), usable_cores()), 1):
                for file, array in zip(files, picture, strict=True):
                    file.write(np.asarray(array).tobytes())
                self._progress(done, self._n_kept, "decoding photographs")

    def _decoded(self, number: int) -> Picture:
        name = self.names[number]
        image, layout = self.reader.photograph(name), self.reader.layout(name)
        geometry = self.reader.geometry
        framed = frame_layout(layout, geometry, self.reader.classes.flags("thin"))
        region_of = np.zeros(len(framed.components) + 1, np.uint16)
        stored = np.flatnonzero(framed.stored)[: np.iinfo(np.uint16).max]
        region_of[1 + stored] = np.arange(1, len(stored) + 1)
        regions = region_of[sample_to_frame(framed.components.labels, self.size)]
        return Picture(
            resized_image(image, self.size), np.array(sample_to_frame(layout, self.size), np.uint16), regions
        )


def resized_image(image: Photograph, size: tuple[int, int]) -> Photograph:
    """A photograph at `(rows, cols)`: averaged over areas where it shrinks, else interpolated."""
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    resized: Photograph = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


def held_out_split(reader: Reader) -> str:
    """The split that figures are measured on: `test`, else `val`; `train` where the bank has neither."""
    there = labelled_splits(reader)
    return next((split for split in ("test", "val") if split in there), "train")


def trained_and_held_out(
    reader: Reader, size: tuple[int, int], *, most: int, cache: Path | None = None, progress: Progress = silent
) -> tuple[BankSources, BankSources]:
    """The labelled sources that a network is trained on, and those that choose what is kept of it.

    The latter are those of `val` where there is a `test` to measure on, else some of `train`, which are not trained on
    then (`set_apart`): what is measured (`held_out_split`) must not have chosen.

    Args:
        most: of the latter, evenly spaced; else see `BankSources`.

    Raises:
        NothingToLearn: there are none in `train`.
    """
    there = _labelled(reader, "train")
    if not there:
        raise NothingToLearn(sentence(reader.path, expected="labelled sources in train", found="none"))
    split, trained, held_out = "val", None, None
    if sets_apart(labelled_splits(reader)):
        split = "train"
        trained, held_out = dealt([name for name, _, _ in there], [group for _, group, _ in there])
    own = BankSources(reader, size, names=trained, cache=cache, progress=progress)
    return own, BankSources(reader, size, split, names=held_out, most=most, cache=cache, progress=progress)


def dealt(names: Sequence[str], groups: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that are trained on, and others whose groups are `set_apart`; a single one is both."""
    apart = set_apart(groups)
    trained, held_out = ([name for name, out in zip(names, apart, strict=True) if out == which] for which in (0, 1))
    return trained or held_out, held_out


def set_apart(groups: Sequence[str] | npt.NDArray[np.str_], every: int = APART) -> npt.NDArray[np.bool_]:
    """`(n,)` bool: the sources of every so manieth group; of so few groups every so manieth source, or the last one."""
    names, numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    apart: npt.NDArray[np.bool_] = (numbers if len(names) >= every else np.arange(len(groups))) % every == every - 1
    if len(groups) and not apart.any():
        apart[-1] = True
    return apart


def _labelled(reader: Reader, split: str) -> list[tuple[str, str, _Place]]:
    """Name, group and place of the labelled sources of a split, ascending names."""
    found = []
    for number, (shard, sources) in enumerate(zip(reader.shards, reader.shard_sources, strict=True)):
        table = shard.table("sources", ["split", "layout"])
        rows: Sequence[dict[str, Any]] = table.to_pylist()
        for row, (name, group, live) in enumerate(zip(*(each.tolist() for each in sources), strict=True)):
            if live and rows[row]["split"] == split and rows[row]["layout"] is not None:
                found.append((name, group, _Place(number, row)))
    return sorted(found)


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def _n_bytes(size: tuple[int, int]) -> int:
    """Bytes of a picture."""
    return size[0] * size[1] * (3 + 2 + 2)
