"""Cityscapes in its published layout: which files make a source, and what their numbers mean."""

import json
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from zeuxis.ingest.datasets.cityscapes import CLASSES, LABELS, Cityscapes
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import DatasetError, SourceError

from . import published

FIRST = "train/aachen/aachen_000000_000019"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    published.cityscapes(tmp_path)
    return tmp_path


def decoded(dataset, name):
    ref = next(ref for ref in dataset.sources() if ref.name == name)
    return dataset.decode(ref, dataset.read(ref))


def test_frames_of_all_labelled_splits_are_sources_with_their_sequence_as_group(root: Path) -> None:
    refs = {ref.name: ref for ref in Cityscapes(root).sources()}
    assert {name: (ref.split, ref.group) for name, ref in refs.items()} == {
        FIRST: ("train", "aachen/0"),
        "train/aachen/aachen_000001_000019": ("train", "aachen/1"),
        "train_extra/erlangen/erlangen_000000_000000": ("train", "erlangen/0"),
        "val/bad-honnef/bad-honnef_000003_000294": ("val", "bad-honnef/3"),
    }
    assert refs[FIRST].layout == f"gtFine/{FIRST}_gtFine_labelIds.png"
    assert refs[FIRST].depth == f"disparity/{FIRST}_disparity.png"
    assert refs["val/bad-honnef/bad-honnef_000003_000294"].depth is None


def test_fine_label_maps_are_preferred_and_an_option_says_otherwise(root: Path) -> None:
    def folders(**options: str) -> set[tuple[str, str]]:
        return {
            (ref.name.split("/")[0], str(ref.layout).split("/")[0]) for ref in Cityscapes(root, **options).sources()
        }

    assert folders() == {("train", "gtFine"), ("val", "gtFine"), ("train_extra", "gtCoarse")}
    assert folders(labels="coarse") == {("train", "gtCoarse"), ("val", "gtCoarse"), ("train_extra", "gtCoarse")}
    assert folders(labels="fine") == {("train", "gtFine"), ("val", "gtFine")}
    with pytest.raises(DatasetError, match="labels=rough"):
        Cityscapes(root, labels="rough")


def test_official_ids_are_read_and_void_labels_are_void(root: Path) -> None:
    source = decoded(Cityscapes(root), FIRST)
    assert source.layout[1].tolist() == [26] * 4 + [7] * 4
    assert (source.layout[0] == VOID).all()


def test_train_ids_become_the_same_official_ids(root: Path) -> None:
    expected = decoded(Cityscapes(root), FIRST).layout
    official = root / f"gtFine/{FIRST}_gtFine_labelIds.png"
    trained = {label.id: label.train_id for label in LABELS}
    ids = np.vectorize(trained.__getitem__)(np.array(Image.open(official))).astype(np.uint8)
    official.unlink()
    path = official.with_name(official.name.replace("labelIds", "labelTrainIds"))
    published.picture(path, ids)
    dataset = Cityscapes(root)
    assert np.array_equal(decoded(dataset, FIRST).layout, expected)
    ref = dataset.sources()[0]
    assert dataset.read(ref).source_id == dataset.read(ref).source_id
    published.picture(path, np.full_like(ids, 19))
    with pytest.raises(SourceError, match=r"0\.\.18 or 255, found 19") as caught:
        dataset.read(ref)
    assert caught.value.reason == "unknown-id"


def test_disparity_becomes_metres_with_the_camera_of_the_frame(root: Path) -> None:
    source = decoded(Cityscapes(root), FIRST)
    metres = 0.209313 * 2262.52 / 20
    assert (source.depth[:, :4] == 0).all()
    assert np.allclose(source.depth[:, 4:], metres, atol=0.5 / 256)


def test_a_changed_camera_file_changes_the_stamp(root: Path) -> None:
    dataset = Cityscapes(root)
    before = dataset.sources()[0]
    assert dataset.stamp(before) == before.stamp
    (root / f"camera/{FIRST}_camera.json").write_text(json.dumps(published.CAMERA) + " ")
    assert Cityscapes(root).sources()[0].stamp == dataset.stamp(before) != before.stamp


def test_without_its_camera_file_a_source_has_no_depth_and_that_is_said(root: Path) -> None:
    (root / f"camera/{FIRST}_camera.json").unlink()
    dataset = Cityscapes(root)
    assert decoded(dataset, FIRST).depth is None
    (problem,) = [problem for problem in dataset.ignored() if problem.reason == "no-camera"]
    assert "left out (1)" in problem.sentence


@pytest.mark.parametrize("camera", ["{", "{}", '{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 1}}', "[1]"])
def test_a_camera_file_that_says_nothing_is_one_reject(root: Path, camera: str) -> None:
    (root / f"camera/{FIRST}_camera.json").write_text(camera)
    dataset = Cityscapes(root)
    with pytest.raises(SourceError, match=r"_camera\.json: expected numbers above 0") as caught:
        dataset.read(dataset.sources()[0])
    assert caught.value.reason == "unreadable-depth"


def test_instance_maps_number_objects_and_nothing_else(root: Path) -> None:
    instances = decoded(Cityscapes(root), FIRST).instances
    assert instances is not None
    assert np.unique(instances).tolist() == [0, 26000, 26001]
    assert (instances[:, 2:] == 0).all()


def test_what_an_archive_holds_besides_is_one_line_a_kind(root: Path) -> None:
    lines = {problem.file: problem for problem in Cityscapes(root).ignored()}
    assert {file: problem.reason for file, problem in lines.items()} == {
        "gtFine/.DS_Store": "hidden-file",
        "gtFine/*_color.png": "not-needed",
        "gtFine/*_polygons.json": "not-needed",
        "gtFine/*panoptic*.json": "not-needed",
        "gtFine/*panoptic*.png": "not-needed",
        "gtCoarse/*_color.png": "not-needed",
        "gtCoarse/*_polygons.json": "not-needed",
        "test/berlin/berlin_000000_000019": "left-out",
    }
    assert "4 files" in lines["gtFine/*_color.png"].sentence
    assert "dummies" in lines["test/berlin/berlin_000000_000019"].sentence


def test_a_split_without_label_maps_is_left_out_and_a_frame_without_is_a_reject(root: Path) -> None:
    for file in (root / "gtCoarse/train_extra").rglob("*.png"):
        file.unlink()
    for folder in ("gtFine", "gtCoarse"):
        (root / f"{folder}/{FIRST}_{folder}_labelIds.png").unlink()
    dataset = Cityscapes(root)
    assert [ref.name for ref in dataset.sources() if ref.layout is None] == [FIRST]
    assert any("train_extra has no label map" in problem.sentence for problem in dataset.ignored())
    with pytest.raises(SourceError) as caught:
        dataset.read(dataset.sources()[0])
    assert caught.value.reason == "missing-label"


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (["leftImg8bit"], ["no leftImg8bit/ in a folder that holds", "gtFine/"]),
        (["gtFine", "gtCoarse"], ["no gtFine/ and no gtCoarse/", "leftImg8bit/"]),
    ],
)
def test_a_wrong_root_says_which_folders_are_missing(root: Path, gone: list[str], words: list[str]) -> None:
    for folder in gone:
        (root / folder).rename(root / f"{folder}.old")
    with pytest.raises(DatasetError) as caught:
        Cityscapes(root).sources()
    assert all(word in str(caught.value) for word in [*words, "_leftImg8bit.png"]), str(caught.value)


def test_a_root_with_nothing_to_use_says_why(root: Path) -> None:
    for folder in ("train", "val", "train_extra"):
        (root / "leftImg8bit" / folder).rename(root / folder)
    with pytest.raises(DatasetError, match="train has no image"):
        Cityscapes(root).sources()


def test_classes_are_the_official_ones() -> None:
    assert len(CLASSES) == 19
    flags = {entry.name: (entry.id, entry.thing, entry.thin) for entry in CLASSES}
    assert flags["pole"] == (17, True, True)
    assert flags["car"] == (26, True, False)
    assert flags["vegetation"] == (21, False, False)


def test_a_worker_is_sent_a_root_and_settings(root: Path) -> None:
    dataset = Cityscapes(root, labels="coarse")
    refs = dataset.sources()
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert pickle.loads(sent).read(refs[0]) == dataset.read(refs[0])


def test_archives_are_read_through_fsspec_alike(root: Path) -> None:
    memory = fsspec.filesystem("memory")
    url = f"memory://{root.name}"
    memory.put(f"{root}/", f"/{root.name}/", recursive=True)
    local, remote = Cityscapes(root), Cityscapes(url)
    assert [ref.files for ref in remote.sources()] == [ref.files for ref in local.sources()]
    ref = remote.sources()[0]
    assert remote.read(ref) == local.read(local.sources()[0])
    assert remote.stamp(ref) == ref.stamp
    memory.rm(f"/{root.name}", recursive=True)
