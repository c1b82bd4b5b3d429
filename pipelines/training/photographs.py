"""Photographs that are completed in training: of a bank, or of a data set without one; labels are not looked at."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ...index.batch import in_order, usable_cores
from ...ingest.datasets import open_dataset
from ...storage.images import Photograph, decode_photograph
from ...storage.reader import Reader
from ..progress import Progress, silent
from .caches import kept_or_made, made_whole
from .sources import dealt
from .task import Subject, labelled_splits, sets_apart, subject_of

MOST_KEPT = 2 << 30
"""Bytes of decoded photographs that are kept; those beyond are decoded whenever they are asked for."""


class Origin(Protocol):
    """Where photographs come from. Pickles to another process."""

    def names(self, split: str) -> list[str]:
        """Of its sources in a split, ascending."""

    def splits(self) -> set[str]:
        """Those whose sources can be measured on: of a bank, labelled ones."""

    def groups(self, names: Sequence[str]) -> list[str]:
        """Those of sources: what one of them shows may be seen in another one of its group."""

    def read(self, name: str) -> Photograph:
        """A source's photograph, `(H, W, 3)` uint8 RGB.

        Raises:
            ZeuxisError: it cannot be read.
        """

    def subject(self, size: tuple[int, int]) -> Subject:
        """As it is trained on at `(rows, cols)`."""


class BankOrigin:
    """The photographs of a bank, labelled or not."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def names(self, split: str) -> list[str]:
        """Of its sources in a split, ascending."""
        names: list[str] = self.reader.table("sources", {"split": split}, ["source"])["source"].to_pylist()
        return sorted(names)

    def splits(self) -> set[str]:
        """Of labelled sources."""
        return labelled_splits(self.reader)

    def groups(self, names: Sequence[str]) -> list[str]:
        """Those of sources."""
        table = self.reader.table("sources", None, ["source", "group"]).to_pylist()
        group_of = {row["source"]: row["group"] for row in table}
        return [group_of[name] for name in names]

    def read(self, name: str) -> Photograph:
        """A source's photograph. Raises BankError: the bank is damaged."""
        return self.reader.photograph(name)

    def subject(self, size: tuple[int, int]) -> Subject:
        """The bank."""
        return subject_of(self.reader, size)


class DatasetOrigin:
    """The photographs of a data set; a `folder` that has no `labels/` is read as plain `images`.

    Args:
        spec: `kind:path`.

    Raises:
        DatasetError: there is no such data set.
    """

    def __init__(self, spec: str) -> None:
        kind, colon, path = spec.partition(":")
        bare = kind == "folder" and bool(colon) and not os.path.isdir(os.path.join(os.path.expanduser(path), "labels"))
        self._dataset = open_dataset(f"images:{path}" if bare else spec)

    @cached_property
    def _refs(self) -> dict[str, Any]:
        return {ref.name: ref for ref in self._dataset.sources() if self._dataset.fault_of(ref) is None}

    def names(self, split: str) -> list[str]:
        """Of its sources in a split, ascending; those that the listing shows to be unusable are left out."""
        return sorted(name for name, ref in self._refs.items() if ref.split == split)

    def splits(self) -> set[str]:
        """Of all sources."""
        return {ref.split for ref in self._refs.values()}

    def groups(self, names: Sequence[str]) -> list[str]:
        """Those of sources."""
        return [self._refs[name].group for name in names]

    def read(self, name: str) -> Photograph:
        """A source's photograph. Raises SourceError: it cannot be read."""
        ref = self._refs[name]
        return decode_photograph(self._dataset.read(ref).image, self._dataset.root / str(ref.image))

    def subject(self, size: tuple[int, int]) -> Subject:
        """The data set by its kind and the name of its folder; without classes, the same as long as its files are."""
        stamps = [f"{name} {ref.stamp or self._dataset.stamp(ref)}" for name, ref in sorted(self._refs.items())]
        content = hashlib.blake2b("\n".join(stamps).encode(), digest_size=16).hexdigest()
        return Subject(
            f"{self._dataset.kind}:{self._dataset.root.name}", 0, content, (), size, sets_apart(self.splits())
        )


class Photographs:
    """The photographs of some sources with their shorter sides at so many pixels, by number. Pickles.

    Args:
        origin: of them; names: which ones; short: pixels of the shorter side.
        cache: a folder; what is decoded is kept there, mapped into memory. None decodes whenever one is asked for.
        subject: whose content they are, for the name in the cache.
        progress: told while the cache is filled.
    """

    def __init__(
        self,
        origin: Origin,
        names: Sequence[str],
        short: int,
        *,
        cache: Path | None,
        subject: Subject,
        progress: Progress = silent,
    ) -> None:
        self.origin, self.names, self.short = origin, list(names), short
        self.cache, self._progress = cache, progress
        self._of, self._content = _digest(subject.bank), _digest(subject.content)

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name != "_mapped"} | {"_progress": silent}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Photograph:
        """`(h, w, 3)` uint8, the shorter of h and w is `short`; an array of the caller's own, or read-only."""
        if self.cache is None:
            return self._decoded(number)
        pixels, shapes, starts = self._mapped
        if number >= len(shapes):
            return self._decoded(number)
        rows, cols = shapes[number].tolist()
        found: Photograph = pixels[starts[number] : starts[number] + rows * cols * 3].reshape(rows, cols, 3)
        return found

    def prepare(self) -> None:
        """Fills the cache now, where there is one.

        Raises:
            ZeuxisError: a photograph cannot be read, or the folder cannot be written.
        """
        if self.cache is not None:
            _ = self._mapped

    @cached_property
    def _mapped(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """All pixels one after the other, `(n, 2)` rows and columns, and where each begins."""
        assert self.cache is not None
        folder = self.cache / f"photographs-{self._of}-{self._content}-{_digest(*self.names)}-{self.short}"
        return kept_or_made(folder, _load, self._make)

    def _make(self, folder: Path) -> None:
        self._fill(folder)
        assert self.cache is not None
        for stale in self.cache.glob(f"photographs-{self._of}-*"):  # as it was before it changed
            if stale.name.split("-")[2] != self._content:
                shutil.rmtree(stale, ignore_errors=True)

    def _fill(self, folder: Path) -> None:
        """Decodes as many as may be kept."""
        shapes: list[tuple[int, int]] = []
        with made_whole(folder) as temporary:
            with (temporary / "pixels").open("wb") as file:
                for image in in_order(self._decoded, range(len(self)), usable_cores()):
                    file.write(np.ascontiguousarray(image).tobytes())
                    shapes.append((image.shape[0], image.shape[1]))
                    self._progress(len(shapes), len(self), "decoding photographs")
                    if file.tell() > MOST_KEPT:
                        break
            np.save(temporary / "shapes.npy", np.array(shapes, np.int64).reshape(-1, 2))

    def _decoded(self, number: int) -> Photograph:
        return shortened(self.origin.read(self.names[number]), self.short)


def _load(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What `Photographs` has mapped.

    Raises:
        ValueError, OSError: it is damaged.
    """
    shapes = np.load(folder / "shapes.npy")
    starts = np.append(0, np.cumsum(shapes.prod(1) * 3))
    size = int(starts[-1])
    pixels = np.memmap(folder / "pixels", np.uint8, "r", shape=(size,)) if size else np.zeros(0, np.uint8)
    return pixels, shapes, starts


def shortened(image: Photograph, short: int) -> Photograph:
    """A photograph whose shorter side is `short` pixels: averaged over areas where it shrinks, else interpolated."""
    rows, cols = image.shape[:2]
    size = (max(short, round(cols * short / rows)), short) if rows <= cols else (short, round(rows * short / cols))
    shrinks = min(rows, cols) >= short
    found: Photograph = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return found


def trained_and_held_out(origin: Origin, among: Collection[str] | None = None) -> tuple[list[str], list[str]]:
    """Names that are trained on, and others that are validated on; see `sources.trained_and_held_out`.

    Args:
        among: names that are of use, None for all.
    """
    names, held_out = (
        [name for name in origin.names(split) if among is None or name in among] for split in ("train", "val")
    )
    if names and (not held_out or sets_apart(origin.splits())):
        names, held_out = dealt(names, origin.groups(names))
    return names, held_out


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()
