"""Pictures of the objects of one class: square windows of photographs, a little larger than a segment of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...storage.records import hex_id
from .photographs import BankOrigin
from .task import Subject

ROOM = 1.2
"""Side of a window, as a multiple of the longer side of the segment."""
LEAST_LONGER, LEAST_SHORTER = 1 / 2, 1 / 4
"""Sides of a segment, as shares of the resolution, in pixels of the photograph; smaller ones would be blurred."""
LONGEST = 3.0
"""Longer over shorter side of a segment, at most: beyond it are rows of objects, or slivers of what is hidden."""
MOST_CUT = 1
"""Sides of the photograph that a segment may touch: with more it is hardly to be seen."""


class ObjectWindow(NamedTuple):
    """Where an object is: its photograph, a box in pixels of that, and a name of both photograph and segment."""

    source: str
    box: Box
    name: str


def object_windows(reader: Reader, objects: str, resolution: int) -> list[ObjectWindow]:
    """The surroundings of the segments of a class that are worth it, by photograph, then by segment.

    Args:
        reader: of the bank; objects: name of the class; resolution: of the pictures that they are wanted for.

    Raises:
        InputError: the bank has no such class.
    """
    if reader.classes.named(objects) is None:
        known = ", ".join(sorted(entry.name for entry in reader.classes)) or "none"
        raise InputError(sentence(f"class {objects!r}", expected=f"one of the bank's: {known}", found="no such class"))
    sizes = {
        row["source"]: (row["height"], row["width"])
        for row in reader.table("sources", columns=["source", "height", "width"]).to_pylist()
    }
    corners = ["crop_top", "crop_left", "crop_bottom", "crop_right"]
    rows = reader.table("segments", {"class_name": objects}, ["source", "segment_id", *corners]).to_pylist()
    found = []
    for row in sorted(rows, key=lambda row: (row["source"], row["segment_id"])):
        top, left, bottom, right = (row[corner] for corner in corners)
        box, size = (top, left, bottom, right), sizes[row["source"]]
        if is_worth_it(box, size, resolution):
            name = f"{row['source']}#{hex_id(row['segment_id'])}"
            found.append(ObjectWindow(row["source"], window_around(box, size), name))
    return found


class ObjectOrigin:
    """The surroundings of the segments of a class, one picture each, named after photograph and segment. Pickles.

    Args:
        reader, objects, resolution: as in `object_windows`.

    Raises:
        InputError: the bank has no such class.
    """

    def __init__(self, reader: Reader, objects: str, resolution: int) -> None:
        self._photographs = BankOrigin(reader)
        self._windows = {window.name: window for window in object_windows(reader, objects, resolution)}

    def of(self, sources: Sequence[str]) -> list[str]:
        """Names of the pictures of some photographs, ascending."""
        wanted = set(sources)
        return sorted(name for name, window in self._windows.items() if window.source in wanted)

    def names(self, split: str) -> list[str]:
        """Of the pictures of a split, ascending."""
        return self.of(self._photographs.names(split))

    def splits(self) -> set[str]:
        """Those of the bank."""
        return self._photographs.splits()

    def groups(self, names: Sequence[str]) -> list[str]:
        """Those of the photographs that pictures are of."""
        return self._photographs.groups([self._windows[name].source for name in names])

    def read(self, name: str) -> Photograph:
        """A picture, square. Raises BankError: the bank is damaged."""
        source, (top, left, bottom, right), _ = self._windows[name]
        found: Photograph = self._photographs.read(source)[top:bottom, left:right]
        return found

    def subject(self, size: tuple[int, int]) -> Subject:
        """The bank."""
        return self._photographs.subject(size)


def is_worth_it(box: Box, size: tuple[int, int], resolution: int) -> bool:
    """Whether a segment is large enough, of a common shape, and not cut off at several sides of its photograph.

    Args:
        box: of the segment; size: `(rows, cols)` of the photograph.
    """
    top, left, bottom, right = box
    longer, shorter = max(bottom - top, right - left), min(bottom - top, right - left)
    cut = (top <= 0) + (left <= 0) + (bottom >= size[0]) + (right >= size[1])
    large = longer >= LEAST_LONGER * resolution and shorter >= LEAST_SHORTER * resolution
    return bool(large and longer <= LONGEST * shorter and cut <= MOST_CUT)


def window_around(box: Box, size: tuple[int, int]) -> Box:
    """A square about a box, moved into the photograph; smaller where that has no room for it.

    Args:
        size: `(rows, cols)` of the photograph.
    """
    top, left, bottom, right = box
    side = min(round(ROOM * max(bottom - top, right - left)), *size)
    rows, cols = (
        min(max(0, (first + last - side) // 2), whole - side)
        for first, last, whole in ((top, bottom, size[0]), (left, right, size[1]))
    )
    return rows, cols, rows + side, cols + side
