"""Sets of plain arrays as safetensors files: no code in them, aligned, memory-mapped read-only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


def arrays_to_bytes(columns: Any) -> bytes:
    """The file of a dataclass whose fields are unsigned or signed integer or float arrays."""
    from safetensors.numpy import save

    data: bytes = save({field.name: np.ascontiguousarray(getattr(columns, field.name)) for field in fields(columns)})
    return data


def map_arrays(kind: type[T], path: Path) -> T:
    """The dataclass `kind` of a file that `arrays_to_bytes` made, memory-mapped; entries it does not name are left.

    The file's size and checksum must have been checked: the kernels trust what they are given.
    """
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int(data[:8].view(np.uint64)[0])
    header = json.loads(bytes(data[8:start]))
    return kind(**{field.name: _array(data[start:], header[field.name]) for field in fields(kind)})  # type: ignore[arg-type]


_KINDS = {"U": "<u", "I": "<i", "F": "<f"}


def _array(data: npt.NDArray[np.uint8], entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    begin, end = entry["data_offsets"]
    kind = f"{_KINDS[entry['dtype'][0]]}{int(entry['dtype'][1:]) // 8}"
    return np.asarray(data[begin:end].view(kind).reshape(entry["shape"]))
