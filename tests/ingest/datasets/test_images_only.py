"""Photographs without label maps: any folder, CelebA, CompCars, flowers; splits and groups from published lists."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parent))
import published_more as published

from zeuxis.ingest.datasets.images import CelebA, CompCars, Flowers, Images
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import DatasetError


def test_every_picture_of_a_folder_is_a_source_without_layout(tmp_path: Path) -> None:
    for path in ("a.jpg", "deep/er/b.PNG", "val/c.jpg", "validation/d.jpg"):
        published.put(tmp_path / path, published.photograph(len(path)))
    published.put(tmp_path / "notes.txt", "no picture")
    dataset = Images(tmp_path)
    refs = dataset.sources()
    assert [(ref.name, ref.split, ref.layout) for ref in refs] == [
        ("a", "train", None), ("deep/er/b", "train", None), ("val/c", "val", None), ("validation/d", "val", None),
    ]  # fmt: skip
    assert [problem.file for problem in dataset.ignored()] == ["notes.txt"]
    assert not dataset.labelled
    encoded = dataset.read(refs[0])
    assert encoded.layout is None
    source = dataset.decode(refs[0], encoded)
    assert (source.layout == VOID).all()
    assert source.image.shape == (*published.SIZE, 3)
    assert refs[0].stamp == dataset.stamp(refs[0]) != ""


def test_two_pictures_of_one_name_are_a_reject(tmp_path: Path) -> None:
    for path in ("a.jpg", "a.png", "b.jpg"):
        published.put(tmp_path / path, published.photograph(len(path)))
    assert [(ref.name, ref.fault and ref.fault[0]) for ref in Images(tmp_path).sources()] == [
        ("a", "duplicate-name"), ("b", None),
    ]  # fmt: skip


def test_names_that_cannot_be_printed_are_rejects_shown_as_escapes(tmp_path: Path) -> None:
    for name in (b"new\nline.jpg", b"\xff.jpg", b"\xc3\xa9.jpg"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    assert [(ref.name, ref.fault and ref.fault[0]) for ref in Images(tmp_path).sources()] == [
        ("new\\nline", "unreadable-name"),
        ("é", None),
        ("\\xff", "unreadable-name"),
    ]


def test_pictures_of_one_folder_are_a_group_where_that_is_said(tmp_path: Path) -> None:
    for path in ("fall/1.jpg", "fall/2.jpg", "other/1.jpg", "alone.jpg"):
        published.put(tmp_path / path, published.photograph(len(path)))
    assert [ref.group for ref in Images(tmp_path, group="folder").sources()] == ["alone", "fall", "fall", "other"]
    assert [ref.group for ref in Images(tmp_path).sources()] == ["alone", "fall/1", "fall/2", "other/1"]
    with pytest.raises(DatasetError, match="group=scene"):
        Images(tmp_path, group="scene").sources()


def test_celeba_takes_splits_and_identities_from_its_lists(tmp_path: Path) -> None:
    dataset = CelebA(published.celeba(tmp_path))
    assert [(ref.name, ref.split, ref.group) for ref in dataset.sources()] == [
        ("000001", "train", "2880"), ("000002", "val", "2937"), ("000003", "test", "2880"),
    ]  # fmt: skip
    said = [(problem.file, problem.reason) for problem in dataset.ignored()]
    assert said == [("000004", "left-out"), ("000099", "unknown-source")]


def test_celeba_without_lists_is_a_folder_of_photographs(tmp_path: Path) -> None:
    published.celeba(tmp_path)
    for file in tmp_path.glob("*.txt"):
        file.unlink()
    assert [(ref.split, ref.group) for ref in CelebA(tmp_path).sources()] == [
        ("train", f"{number:06d}") for number in range(1, 5)
    ]


@pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg 3", "000001.jpg 0 1"])
def test_lists_that_cannot_be_read_are_refused(tmp_path: Path, line: str) -> None:
    published.celeba(tmp_path)
    published.put(tmp_path / "list_eval_partition.txt", line)
    with pytest.raises(DatasetError, match=r"list_eval_partition\.txt"):
        CelebA(tmp_path).sources()


@pytest.mark.parametrize("inner", ["", "data"])
def test_compcars_groups_by_model_and_tests_what_its_list_says(tmp_path: Path, inner: str) -> None:
    dataset = CompCars(published.compcars(tmp_path) / inner)
    assert [(ref.name, ref.split, ref.group) for ref in dataset.sources()] == [
        ("78/1/2013/7c5ac4ab3bb7d3", "train", "78/1"),
        ("78/1/2014/3ac218c0c6c378", "train", "78/1"),
        ("9/22/2012/aa11", "test", "9/22"),
    ]
    assert not dataset.ignored()


def test_a_photograph_in_both_lists_is_refused(tmp_path: Path) -> None:
    published.compcars(tmp_path)
    published.put(tmp_path / "data/train_test_split/classification/test.txt", "78/1/2014/3ac218c0c6c378.jpg\n")
    with pytest.raises(DatasetError, match=r"one of the two lists"):
        CompCars(tmp_path).sources()


def test_flowers_take_splits_and_species_from_their_mat_files(tmp_path: Path) -> None:
    dataset = Flowers(published.flowers(tmp_path))
    assert [(ref.name, ref.split, ref.group) for ref in dataset.sources()] == [
        ("image_00001", "val", "species-077"),
        ("image_00002", "test", "species-077"),
        ("image_00003", "train", "species-005"),
    ]
    assert [problem.file for problem in dataset.ignored()] == ["image_00004"]


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", "other"])
def test_a_damaged_mat_file_is_refused_in_a_sentence(tmp_path: Path, content: object) -> None:
    published.flowers(tmp_path)
    if isinstance(content, bytes):
        (tmp_path / "setid.mat").write_bytes(content)
    else:
        savemat(tmp_path / "setid.mat", {"other": np.zeros(3)})
    with pytest.raises(DatasetError, match=r"setid\.mat") as caught:
        Flowers(tmp_path).sources()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "folder"), [(CelebA, "img_align_celeba/"), (CompCars, "image/"), (Flowers, "jpg/"), (Images, "")]
)
def test_a_wrong_root_says_what_is_missing(tmp_path: Path, kind: type[Images], folder: str) -> None:
    published.put(tmp_path / "notes.txt", "nothing here")
    with pytest.raises(DatasetError) as caught:
        kind(tmp_path).sources()
    assert (f"no {folder} in" if folder else "no source to use") in str(caught.value)
    with pytest.raises(DatasetError, match=r"a file|no "):
        kind(tmp_path / "notes.txt").sources()


def test_only_a_root_goes_to_a_worker(tmp_path: Path) -> None:
    import pickle

    dataset = CelebA(published.celeba(tmp_path))
    refs = dataset.sources()
    dataset.ignored()
    sent = pickle.dumps(dataset)
    assert b"000001" not in sent
    assert pickle.loads(sent).read(refs[0]) == dataset.read(refs[0])
