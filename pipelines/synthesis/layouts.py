"""Where layouts come from: a folder of pictures, a bank's own sources of a split, or what is made of all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...index.request import as_layout
from ...index.retriever import ASPECT_TOLERANCE
from ...storage.classes import Layout
from ...storage.errors import LayoutError, SourceError, sentence
from ...storage.reader import Reader
from .options import SynthesisOptions

TRAIN = "train"


class Entry(NamedTuple):
    """A layout of a run.

    Attributes:
        name: file name, or name of the source; digest: 32 hex digits that change when it does.
        source, group: of the bank, where it is one of the bank's own.
    """

    name: str
    digest: str
    source: str | None
    group: str | None


class Layouts:
    """The layouts of a run, by number.

    Args:
        reader: the bank; options: of the run.
        paths: pictures; None for the bank's own layouts, or for generated ones, which are made where they are painted.
        entries: what is known of them already; default: they are looked at.
    """

    def __init__(
        self,
        reader: Reader,
        options: SynthesisOptions,
        paths: Sequence[Path] | None,
        entries: Sequence[Entry] | None = None,
    ) -> None:
        self.reader, self.options, self.paths = reader, options, paths
        self.entries = entries if entries is not None else self._listed()

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, number: int) -> Layout:
        """A layout in the bank's ids, at its own resolution.

        Raises:
            SourceError: it cannot be read, holds unknown classes, has another shape than the bank's frame, or has
            changed since the run began.
        """
        entry = self.entries[number]
        if self.paths is None:
            assert entry.source is not None
            return self.reader.layout(entry.source)
        path = self.paths[number]
        if digest_of_file(path) != entry.digest:
            raise SourceError("changed", sentence(path.name, "is not what it was when the run began"))
        try:
            layout = as_layout(path, self.reader, self.options.dataset)
        except LayoutError as error:
            cause = error.__cause__
            reason = cause.reason if isinstance(cause, SourceError) else "unreadable-layout"
            raise SourceError(reason, str(error).replace(f"{path.parent}/", "")) from error
        self._check_shape(layout, path)
        return layout

    def amounts(self, class_ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """How much of each layout belongs to classes: `(layouts, classes)`, shares of its pixels."""
        if self.paths is None:
            return self._stored_amounts(class_ids)
        found = np.zeros((len(self), len(class_ids)))
        for number in range(len(self)):
            try:
                layout = self.read(number)
            except SourceError:
                continue
            found[number] = [np.count_nonzero(layout == id) / layout.size for id in class_ids]
        return found

    def _stored_amounts(self, class_ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """By the stored segments: components under the bank's minimum area do not count."""
        row = {entry.source: number for number, entry in enumerate(self.entries)}
        sources = self.reader.table("sources", columns=["source", "height", "width"]).to_pylist()
        size = {each["source"]: each["height"] * each["width"] for each in sources}
        found = np.zeros((len(self), len(class_ids)))
        for column, id in enumerate(class_ids):
            table = self.reader.table("segments", {"class_id": id}, ["source", "pixels"])
            for source, pixels in zip(table["source"].to_pylist(), table["pixels"].to_pylist(), strict=True):
                if source in row:
                    found[row[source], column] += pixels / size[source]
        return found

    def _check_shape(self, layout: Layout, path: Path) -> None:
        rows, cols = self.reader.geometry.frame
        height, width = layout.shape
        if abs(math.log(width / height * rows / cols)) > ASPECT_TOLERANCE:
            expected, found = f"the shape of the bank's frame, {rows}x{cols}", f"{height}x{width}"
            said = sentence(path.name, expected=expected, found=found, fix="crop it")
            raise SourceError("other-shape", said)

    def _listed(self) -> list[Entry]:
        if self.paths is not None:
            return [Entry(path.name, digest_of_file(path), None, None) for path in self.paths]
        if self.options.generated:
            names = (f"generated-{number:07d}" for number in range(self.options.generated))
            return [Entry(name, "-" * 32, None, None) for name in names]
        split = self.options.from_bank or TRAIN
        rows = self.reader.table("sources", {"split": split}, ["source", "group", "content"]).to_pylist()
        barred = set(self.options.exclude)
        kept = [row for row in rows if row["source"] not in barred and row["group"] not in barred]
        return sorted(Entry(row["source"], row["content"], row["source"], row["group"]) for row in kept)


def digest_of_file(path: Path) -> str:
    """32 hex digits over a file's bytes; of one that cannot be read, dashes."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return "-" * 32
