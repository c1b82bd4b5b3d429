"""Appearance descriptors of a shard's segments: one row of bytes each, compared by squared Euclidean distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .arrays import map_arrays

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Appearance:
    """Descriptors of the segments of one source or of one shard.

    Attributes:
        descriptor: name of what the numbers are; those of different names cannot be compared.
        rows: `(N, D)` uint8; a row of zeros where a segment was not described.
    """

    descriptor: str
    rows: Rows

    def to_bytes(self) -> bytes:
        """A safetensors file whose metadata names the descriptor."""
        from safetensors.numpy import save

        data: bytes = save({"appearance": np.ascontiguousarray(self.rows)}, {"descriptor": self.descriptor})
        return data

    @classmethod
    def map(cls, path: Path) -> Appearance:
        """The descriptors of a file that `to_bytes` made, memory-mapped read-only; its bytes must have been checked."""
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            descriptor = file.metadata()["descriptor"]
        return cls(descriptor, map_arrays(_Columns, path).appearance)


def join_appearances(parts: Sequence[Appearance | None], counts: Sequence[int]) -> Appearance | None:
    """The descriptors of several sources one behind the other, zeros for sources without; None where none has any.

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
    return Appearance(name, np.concatenate(rows))


@dataclass(frozen=True)
class _Columns:
    appearance: Rows
