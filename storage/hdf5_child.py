"""A process of its own that reads depth maps from HDF5 files: the library can crash on damaged ones (see `hdf5`).

Each request is 8 bytes for the most pixels, 8 for the length, then the file; each answer 8 bytes for the length, then a
`.npy` file or, behind a `!`, one word and what was wrong. Whole numbers are little-endian. It ends with its input.
"""

from __future__ import annotations

import io
import math
import resource
import struct
import sys
import zlib
from typing import Any

import h5py
import numpy as np

DATASET = "depth"
"""The dataset of an HDF5 file that holds the depth map, where there are several."""

_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""HDF5 filters that are read; what others unpack to is not known before they do."""

_MAX_MEMORY = 8 << 30  # address space of this process, bytes


class TooLarge(Exception):
    """More pixels than may be."""


def depth_map(data: bytes, max_pixels: int) -> np.ndarray[Any, np.dtype[Any]]:
    """The one dataset of two axes in an HDF5 file, else the one named `DATASET`.

    Raises:
        TooLarge: it has more than `max_pixels`.
        Exception: h5py raises many kinds on damaged files; ValueError for what is no depth map or would be unsafe.
    """
    with h5py.File(io.BytesIO(data), "r") as file:
        dataset = _chosen(file)
        if math.prod(dataset.shape) > max_pixels:
            raise TooLarge(str(dataset.shape))
        _check_storage(dataset)
        values: np.ndarray[Any, np.dtype[Any]] = dataset[()]
        return values


def _chosen(file: Any) -> Any:
    """The dataset that holds the depth map: of plain numbers, in this file."""
    keys = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink)]
    datasets = {key: file[key] for key in keys if file.get(key, getclass=True) is h5py.Dataset}
    flat = {key: dataset for key, dataset in datasets.items() if len(dataset.shape or ()) == 2}
    chosen = flat.get(DATASET) or (next(iter(flat.values())) if len(flat) == 1 else None)
    if chosen is None:
        raise ValueError(f"{len(flat)} datasets of two axes: {', '.join(sorted(flat)[:5]) or 'none'}")
    if chosen.external or chosen.is_virtual:
        raise ValueError("a dataset whose numbers lie in other files")
    if chosen.dtype.hasobject or chosen.dtype.kind not in "uif":
        raise ValueError(f"a dataset of {chosen.dtype}")
    return chosen


def _check_storage(dataset: Any) -> None:
    """That all numbers are there, and that every chunk unpacks to its own size: HDF5 unpacks whatever there is."""
    if dataset.chunks is None:
        if math.prod(dataset.shape) * dataset.dtype.itemsize > dataset.id.get_storage_size():
            raise ValueError(f"less than its {dataset.shape} numbers")
        return
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    strange = [number for number in filters if number not in _FILTERS]
    if strange:
        raise ValueError(f"numbers packed by filter {strange[0]}, not by {' or '.join(_FILTERS.values())}")
    if math.prod(dataset.chunks) > 4 * math.prod(dataset.shape) + (1 << 20):
        raise ValueError(f"chunks of {dataset.chunks} in an array of {dataset.shape}")
    most = math.prod(dataset.chunks) * dataset.dtype.itemsize + 4  # of Fletcher's sum
    for number in range(dataset.id.get_num_chunks()):
        where = dataset.id.get_chunk_info(number).chunk_offset
        skipped, packed = dataset.id.read_direct_chunk(where)
        if 1 in filters and not skipped and len(zlib.decompressobj().decompress(packed, most + 1)) > most:
            raise ValueError(f"a chunk that unpacks to more than its {most:,} bytes")


def _answer(data: bytes, max_pixels: int) -> bytes:
    try:
        buffer = io.BytesIO()
        np.save(buffer, depth_map(data, max_pixels), allow_pickle=False)
        return buffer.getvalue()
    except TooLarge as error:
        return f"!too-large {error}".encode()
    except Exception as error:
        return f"!unreadable {error}".encode()


def main() -> None:
    """Answers until the input ends; says that it is ready with one byte."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    given, taken = sys.stdin.buffer, sys.stdout.buffer
    taken.write(b"\n")
    taken.flush()
    while header := given.read(16):
        max_pixels, length = struct.unpack("<QQ", header)
        answer = _answer(given.read(length), max_pixels)
        taken.write(struct.pack("<Q", len(answer)) + answer)
        taken.flush()


if __name__ == "__main__":
    main()
