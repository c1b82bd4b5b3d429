"""Sets of arrays come back from their file as they were, aligned, read-only, with nothing copied."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from zeuxis.storage.arrays import arrays_to_bytes, map_arrays

KINDS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]


@dataclass(frozen=True)
class Two:
    """Small ones first, so that alignment is not to be had for nothing."""

    bytes: Any
    words: Any


@dataclass(frozen=True)
class One:
    words: Any


def saved(tmp_path, columns):
    (tmp_path / "file").write_bytes(arrays_to_bytes(columns))
    return tmp_path / "file"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (0,), (0, 12), (1,)])
def test_arrays_come_back_as_they_were(tmp_path, kind, shape):
    rng = np.random.default_rng(0)
    columns = Two(rng.integers(0, 255, 3, np.uint8), rng.integers(-99, 99, shape).astype(kind))
    mapped = map_arrays(Two, saved(tmp_path, columns))
    for field in fields(Two):
        one, other = getattr(mapped, field.name), getattr(columns, field.name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


def test_arrays_are_read_only_aligned_and_views_of_the_file(tmp_path):
    path = saved(tmp_path, Two(np.arange(3, dtype=np.uint8), np.arange(5, dtype=np.uint64)))
    mapped = map_arrays(Two, path)
    assert type(mapped.words) is np.ndarray
    assert mapped.words.flags.aligned
    assert mapped.words.flags.c_contiguous
    assert not mapped.words.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        mapped.words[0] = 1
    with open(path, "r+b") as file:  # a mapping, and no copy: a change of the file is seen
        file.seek(-1, 2)
        file.write(b"\xff")
    assert 0xFF in (mapped.bytes[-1], mapped.words[-1] >> np.uint64(56))


def test_arrays_that_are_not_contiguous_are_written_as_they_look(tmp_path):
    table = np.arange(24, dtype=np.uint32).reshape(4, 6)
    mapped = map_arrays(Two, saved(tmp_path, Two(np.zeros(1, np.uint8), table[::2, ::-1])))
    np.testing.assert_array_equal(mapped.words, table[::2, ::-1])


def test_entries_that_are_not_asked_for_are_left(tmp_path):
    """Files of a version that held more."""
    columns = Two(np.zeros(9, np.uint8), np.arange(4, dtype=np.uint16))
    assert map_arrays(One, saved(tmp_path, columns)).words.tolist() == [0, 1, 2, 3]


def test_the_file_is_one_that_the_library_reads(tmp_path):
    path = saved(tmp_path, Two(np.arange(3, dtype=np.uint8), np.arange(4, dtype=np.float32)))
    found = load(path.read_bytes())
    assert sorted(found) == ["bytes", "words"]
    np.testing.assert_array_equal(found["words"], np.arange(4, dtype=np.float32))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert json.loads(path.read_bytes()[8 : 8 + length])["words"]["dtype"] == "F32"


def test_equal_arrays_make_equal_files():
    one, other = (Two(np.arange(3, dtype=np.uint8), np.arange(4, dtype=np.uint64)) for _ in range(2))
    assert arrays_to_bytes(one) == arrays_to_bytes(other)
