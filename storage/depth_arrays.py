"""Numbers out of `.npy` and HDF5 files: never unpickled, never more than the header was checked for."""

from __future__ import annotations

import ast
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import SourceError, sentence
from .hdf5 import Crashed, read_hdf5

NPY = b"\x93NUMPY"
HDF5 = b"\x89HDF\r\n\x1a\n"

_HEADER_BYTES = 10_000  # of a .npy file; numpy writes 118 for a plain array


def is_array(data: bytes) -> bool:
    """Whether these bytes start like a `.npy` or an HDF5 file."""
    return data.startswith((NPY, HDF5))


def array_shape(data: bytes, name: str | Path, max_pixels: int) -> tuple[int, ...]:
    """The shape of the array in a `.npy` file, from its header, or in an HDF5 file.

    Raises:
        SourceError: `unreadable-depth`, `too-large`.
    """
    if data.startswith(NPY):
        return _npy_header(data, name, max_pixels)[0]
    return read_array(data, name, max_pixels).shape


def read_array(data: bytes, name: str | Path, max_pixels: int) -> npt.NDArray[np.generic]:
    """The array of a `.npy` file, or the one two-dimensional dataset of an HDF5 file (else the one named `depth`).

    Args:
        data: the file; its header is held against its length before memory is taken.
        name: the file, for messages.
        max_pixels: refused beyond.

    Raises:
        SourceError: `unreadable-depth`, `too-large`.
    """
    if not data.startswith(NPY):
        data = _converted(data, name, max_pixels)
    shape, dtype, fortran, start = _npy_header(data, name, max_pixels)
    return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape, order="F" if fortran else "C")


def _npy_header(data: bytes, name: str | Path, max_pixels: int) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """Shape, dtype, Fortran order and where the numbers start; checked against the length of the file.

    The format is that of `numpy.lib.format`, whose own reader takes memory by the header's word.
    """
    try:
        width = {1: "<H", 2: "<I"}[data[6]]  # 3 is for the names of fields, which no depth map has
        start = 8 + struct.calcsize(width)
        (length,) = struct.unpack_from(width, data, 8)
        if length > _HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        header = ast.literal_eval(data[start : start + length].decode("latin1").strip())
        shape, dtype, fortran = tuple(header["shape"]), np.dtype(header["descr"]), header["fortran_order"]
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"a shape of {shape}")
        if dtype.hasobject or not dtype.itemsize:
            raise ValueError("objects, which would have to be unpickled")
        found = len(data) - start - length
        if math.prod(shape) <= max_pixels and math.prod(shape) * dtype.itemsize > found:
            raise ValueError(f"{found:,} bytes for an array of {shape}")
    except Exception as error:  # literal_eval and dtype raise many kinds on what is no header
        raise _unreadable(name, "a .npy array of plain numbers", error, "numpy.save") from error
    if math.prod(shape) > max_pixels:
        raise _too_large(name, str(shape), max_pixels)
    return shape, dtype, bool(fortran), start + length


def _converted(data: bytes, name: str | Path, max_pixels: int) -> bytes:
    """An HDF5 file's depth map as a `.npy` file."""
    try:
        answer = read_hdf5(data, max_pixels)
    except Crashed as error:
        raise _unreadable(name, "an HDF5 file", error, "h5py") from error
    if not answer.startswith(b"!"):
        return answer
    word, _, said = answer[1:].decode().partition(" ")
    if word == "too-large":
        raise _too_large(name, said, max_pixels)
    raise _unreadable(name, "an HDF5 file with one map, or one named depth", ValueError(said), "h5py")


def _too_large(name: str | Path, found: str, max_pixels: int) -> SourceError:
    said = sentence(name, expected=f"at most {max_pixels:,} pixels", found=found, fix="make it smaller")
    return SourceError("too-large", said)


def _unreadable(name: str | Path, expected: str, error: Exception, writer: str) -> SourceError:
    found, fix = f"one that cannot be read ({error})", f"save it again with {writer} as float32"
    return SourceError("unreadable-depth", sentence(name, expected=expected, found=found, fix=fix))
