"""What a shard's segments look like: descriptors compared by squared Euclidean distance, and colours along borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .arrays import map_arrays

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BorderColours:
    """Colours along the borders that segments have with other components of their photographs, by class.

    Attributes:
        neighbours: `(N,)` uint16, of how many classes each segment has components beside it; as many rows of the other
            two are its own, those of the first segment first.
        beside: `(m,)` uint16 class ids, ascending within a segment; its own is one of them where such lie beside it.
        colours: `(m, 2, 3)` uint8, mean RGB of the segment's pixels there, and of what lies beside.
    """

    neighbours: npt.NDArray[np.uint16]
    beside: npt.NDArray[np.uint16]
    colours: npt.NDArray[np.uint8]

    @classmethod
    def none(cls, count: int) -> BorderColours:
        """Of so many segments of which no border is known."""
        return cls(np.zeros(count, np.uint16), np.zeros(0, np.uint16), np.zeros((0, 2, 3), np.uint8))

    @classmethod
    def joined(cls, parts: Sequence[BorderColours]) -> BorderColours:
        """One behind the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def taken(self, rows: npt.NDArray[np.integer]) -> BorderColours:
        """Of these segments, in this order."""
        counts = self.neighbours[rows].astype(np.int64)
        first = np.cumsum(self.neighbours, dtype=np.int64)[rows] - counts
        places = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return BorderColours(self.neighbours[rows], self.beside[places], self.colours[places])


@dataclass(frozen=True)
class Appearance:
    """Of the segments of one source or of one shard.

    Attributes:
        descriptor: name of what the numbers are; those of different names cannot be compared.
        rows: `(N, D)` uint8; a row of zeros where a segment was not described.
        borders: of the same segments; None where they were not looked at.
    """

    descriptor: str
    rows: Rows
    borders: BorderColours | None = None

    def taken(self, rows: npt.NDArray[np.integer]) -> Appearance:
        """Of these segments, in this order."""
        return Appearance(self.descriptor, self.rows[rows], None if self.borders is None else self.borders.taken(rows))

    def to_bytes(self) -> bytes:
        """A safetensors file whose metadata names the descriptor."""
        from safetensors.numpy import save

        arrays = {"appearance": self.rows} | ({} if self.borders is None else vars(self.borders))
        data: bytes = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"descriptor": self.descriptor}
        )
        return data

    @classmethod
    def map(cls, path: Path) -> Appearance:
        """What is in a file that `to_bytes` made, memory-mapped read-only; its bytes must have been checked."""
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            descriptor, held = file.metadata()["descriptor"], {*file.keys()}
        borders = map_arrays(BorderColours, path) if {field.name for field in fields(BorderColours)} <= held else None
        return cls(descriptor, map_arrays(_Columns, path).appearance, borders)


def join_appearances(parts: Sequence[Appearance | None], counts: Sequence[int]) -> Appearance | None:
    """Of several sources one behind the other, zeros and no borders for those without; None where none has any.

    Args:
        parts: by source, `(count, D)` each, all of one descriptor.
        counts: how many segments each source has.
    """
    described = [part for part in parts if part is not None]
    if not described:
        return None
    name, size = described[0].descriptor, described[0].rows.shape[1]
    assert all((part.descriptor, part.rows.shape[1]) == (name, size) for part in described)
    rows = [
        np.zeros((count, size), np.uint8) if part is None else part.rows
        for part, count in zip(parts, counts, strict=True)
    ]
    borders = [part.borders if part is not None else None for part in parts]
    known = [each or BorderColours.none(count) for each, count in zip(borders, counts, strict=True)]
    return Appearance(name, np.concatenate(rows), BorderColours.joined(known) if any(borders) else None)


@dataclass(frozen=True)
class _Columns:
    appearance: Rows
