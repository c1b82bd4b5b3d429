"""What an evaluation has made is taken up again: by the same evaluation alone, whole files alone, until it is done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Photos
from tests.pipelines.tiny_models import make_bank
from zeuxis.pipelines.evaluation.making import FOLDER, Making
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("making")
    return Reader(make_bank(Photos(folder / "photos"), folder / "bank", ["train/a", "test/b"]))


class Counted:
    """Makes arrays of as many as it was asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return {"picture": np.full((2, 3, 3), self.times, np.uint8), "names": np.array(["a", "bc"])}


def test_what_was_made_is_not_made_again(reader: Reader, tmp_path: Path):
    make = Counted()
    first = Making(tmp_path, reader, [tmp_path], {"seed": 1})(["roi", 3], make)
    again = Making(tmp_path, reader, [tmp_path], {"seed": 1})(["roi", 3], make)
    assert make.times == 1
    assert set(first) == set(again) == {"picture", "names"}
    for name, each in first.items():
        np.testing.assert_array_equal(again[name], each)
        assert again[name].dtype == each.dtype
    Making(tmp_path, reader, [tmp_path], {"seed": 1})(["roi", 4], make)
    assert make.times == 2


def test_other_options_and_other_networks_are_not_taken_up(reader: Reader, tmp_path: Path):
    make, network = Counted(), tmp_path / "roi.safetensors"
    network.write_bytes(b"one")
    Making(tmp_path, reader, [tmp_path], {"seed": 1})(["roi"], make)
    Making(tmp_path, reader, [tmp_path], {"seed": 2})(["roi"], make)
    assert make.times == 2
    os.utime(network, ns=(1, 1))
    Making(tmp_path, reader, [tmp_path], {"seed": 2})(["roi"], make)
    assert make.times == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeuxis.pipelines.evaluation.making.torch.__version__", "another")
        Making(tmp_path, reader, [tmp_path], {"seed": 2})(["roi"], make)
    assert make.times == 4


def test_a_damaged_file_is_made_again_and_all_is_removed_in_the_end(reader: Reader, tmp_path: Path):
    make, making = Counted(), Making(tmp_path, reader, [], {})
    making(["roi"], make)
    (kept,) = (tmp_path / FOLDER).iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nothing"):
        kept.write_bytes(damaged)
        making(["roi"], make)
    assert make.times == 4
    making.done()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_one_sentence(reader: Reader, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Making(tmp_path / "file", reader, [], {})(["roi"], Counted())
