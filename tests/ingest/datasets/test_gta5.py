"""GTA5 in its published layout: palette label maps, the split of `split.mat`, pairs of different sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeuxis.ingest.datasets.gta5 import Gta5
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import DatasetError, SourceError

from . import published


@pytest.fixture
def root(tmp_path: Path) -> Path:
    published.gta5(tmp_path)
    return tmp_path


def layouts(root: Path) -> list[list[int]]:
    dataset = Gta5(root)
    return [dataset.decode(ref, dataset.read(ref)).layout[0].tolist() for ref in dataset.sources()[:1]]


def test_split_mat_gives_the_split_and_what_it_leaves_out_trains(root: Path) -> None:
    dataset = Gta5(root)
    assert {ref.name: (ref.split, ref.group) for ref in dataset.sources()} == {
        "00001": ("train", "0"),
        "00002": ("val", "0"),
        "00003": ("test", "0"),
        "00026": ("train", "1"),
        "00027": ("train", "1"),
    }
    (problem,) = dataset.ignored()
    assert "1 of the frames are in none of its lists" in problem.sentence


def test_without_split_mat_all_train_and_that_is_said(root: Path) -> None:
    (root / "read_mapping/split.mat").unlink()
    dataset = Gta5(root)
    assert {ref.split for ref in dataset.sources()} == {"train"}
    assert [(problem.reason, "is not there: they train" in problem.sentence) for problem in dataset.ignored()] == [
        ("no-split", True)
    ]


def test_a_split_mat_that_cannot_be_read_is_refused(root: Path) -> None:
    (root / "read_mapping/split.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DatasetError, match=r"split\.mat: expected trainIds, valIds and testIds"):
        Gta5(root).sources()


def test_indices_of_the_published_palette_are_official_ids_and_licence_plates_are_void(root: Path) -> None:
    assert layouts(root) == [[7] * 4 + [VOID] * 4]
    dataset = Gta5(root)
    assert dataset.read(dataset.sources()[0]).layout == (root / "labels/00001.png").read_bytes()


def test_rgb_label_maps_are_read_by_colour(root: Path) -> None:
    for path in (root / "labels").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert layouts(root) == [[7] * 4 + [26] * 4]  # a licence plate has the colour of cars


def test_a_palette_of_its_own_is_read_by_colour(root: Path) -> None:
    published.picture(root / "labels/00001.png", published.halves(0, 1), [0, 0, 142, 70, 130, 180])
    assert layouts(root) == [[26] * 4 + [23] * 4]


def test_an_unknown_colour_and_another_size_are_rejects(root: Path) -> None:
    published.picture(root / "labels/00002.png", np.full((*published.SIZE, 3), 99, np.uint8))
    (root / "labels/00003.png").write_bytes((root / "labels/00003.png").read_bytes()[:60])
    dataset = Gta5(root)
    reasons = {}
    for ref in dataset.sources():
        try:
            dataset.decode(ref, dataset.read(ref))
        except SourceError as error:
            reasons[ref.name] = error.reason
    assert reasons == {"00002": "unknown-colour", "00003": "unreadable-label", "00027": "size-mismatch"}


def test_a_frame_without_a_number_is_one_reject(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder / "00001.png").rename(root / folder / "first.png")
    dataset = Gta5(root)
    with pytest.raises(SourceError, match="'first'") as caught:
        dataset.read(dataset.sources()[-1])
    assert caught.value.reason == "unexpected-name"


def test_a_wrong_root_says_which_folders_are_missing(root: Path) -> None:
    (root / "labels").rename(root / "colours")
    with pytest.raises(DatasetError, match=r"no labels/ in a folder that holds colours/, images/"):
        Gta5(root).sources()
