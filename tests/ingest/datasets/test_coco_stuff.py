"""COCO-Stuff in the forms it is published in: folders, ids, instance maps, the 10k release's `.mat` files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parent))
import published_more as published

from zeuxis.ingest.datasets.coco_stuff import CocoStuff, CocoStuff10k, label_map, open_coco_stuff
from zeuxis.ingest.datasets.coco_stuff_classes import CLASSES, NAMES, REMOVED, STUFF_CLASSES
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import DatasetError, SourceError


def test_the_classes_are_the_official_ones() -> None:
    assert len(NAMES) == 182
    assert len(CLASSES) == 171
    assert sum(entry.thing for entry in CLASSES) == 80
    by_id = {entry.id: entry.name for entry in CLASSES}
    assert [by_id[id] for id in (0, 2, 89, 91, 95, 156, 168, 181)] == [
        "person", "car", "toothbrush", "banner", "building-other", "sky-other", "tree", "wood",
    ]  # fmt: skip
    assert not REMOVED & set(by_id.values())
    assert set(range(182)) - set(by_id) == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert [(STUFF_CLASSES[n].id, STUFF_CLASSES[n].name) for n in (0, -2, -1)] == [
        (92, "banner"), (182, "wood"), (183, "other"),
    ]  # fmt: skip
    assert len({entry.colour for entry in CLASSES}) == 171


@pytest.mark.parametrize("images", ["images/", ""])
@pytest.mark.parametrize(
    "labels", ["stuffthingmaps_trainval2017/", "annotations/", "annotations/stuffthingmaps_trainval2017/"]
)
def test_the_2017_release_is_read_wherever_its_archives_were_unpacked(tmp_path: Path, images: str, labels: str) -> None:
    dataset = open_coco_stuff(published.coco_stuff(tmp_path, images=images, labels=labels))
    refs = dataset.sources()
    assert [(ref.name, ref.split) for ref in refs] == [
        ("train/000000000009", "train"), ("train/000000000025", "train"), ("val/000000000139", "val"),
    ]  # fmt: skip
    source = dataset.decode(refs[2], dataset.read(refs[2]))
    assert source.layout[0, 0] == 156
    assert source.layout[12, 3] == 0
    assert source.layout[-1, -1] == VOID
    assert source.instances is None


def test_ids_that_were_never_annotated_are_rejected(tmp_path: Path) -> None:
    published.coco_stuff(tmp_path)
    labels = published.things_and_stuff()
    labels[0, 0] = 11  # street sign
    published.put(tmp_path / "stuffthingmaps_trainval2017/val2017/000000000139.png", labels)
    dataset = open_coco_stuff(tmp_path)
    with pytest.raises(SourceError) as caught:
        dataset.decode(dataset.sources()[2], dataset.read(dataset.sources()[2]))
    assert caught.value.reason == "unknown-id"


def test_converted_label_maps_beside_the_published_ones_are_no_sources(tmp_path: Path) -> None:
    published.coco_stuff(tmp_path, labels="annotations/")
    published.put(tmp_path / "annotations/val2017/000000000139_labelTrainIds.png", published.things_and_stuff())
    dataset = open_coco_stuff(tmp_path)
    assert len(dataset.sources()) == 3
    assert [problem.reason for problem in dataset.ignored()] == ["not-needed"]


def test_a_split_without_label_maps_is_left_out_in_one_line(tmp_path: Path) -> None:
    published.coco_stuff(tmp_path)
    for file in (tmp_path / "stuffthingmaps_trainval2017/train2017").iterdir():
        file.unlink()
    (tmp_path / "stuffthingmaps_trainval2017/train2017").rmdir()
    dataset = open_coco_stuff(tmp_path)
    assert [ref.name for ref in dataset.sources()] == ["val/000000000139"]
    assert [problem.sentence for problem in dataset.ignored()] == [
        f"{tmp_path}: 2 sources are left out: train has no folder of label maps, found the first is train/000000000009"
    ]


def test_a_photograph_without_its_label_map_is_a_reject(tmp_path: Path) -> None:
    published.coco_stuff(tmp_path)
    (tmp_path / "stuffthingmaps_trainval2017/train2017/000000000009.png").unlink()
    dataset = open_coco_stuff(tmp_path)
    with pytest.raises(SourceError) as caught:
        dataset.read(dataset.sources()[0])
    assert caught.value.reason == "missing-label"


def test_pixel_maps_know_stuff_by_its_own_ids_and_things_as_one(tmp_path: Path) -> None:
    dataset = CocoStuff(published.coco_pixelmaps(tmp_path), labels="pixelmaps")
    (ref,) = dataset.sources()
    layout = dataset.decode(ref, dataset.read(ref)).layout
    names = {entry.id: entry.name for entry in dataset.decoding.classes}
    assert [names[int(layout[row, col])] for row, col in ((0, 0), (9, 0), (12, 3), (12, 25))] == [
        "sky-other", "tree", "other", "other",
    ]  # fmt: skip
    assert layout[-1, -1] == VOID


def test_instance_maps_count_things_and_nothing_else(tmp_path: Path) -> None:
    dataset = open_coco_stuff(published.coco_spade(tmp_path))
    refs = dataset.sources()
    assert [(ref.split, ref.image and ref.image.partition("/")[0]) for ref in refs] == [
        ("train", "train_img"), ("train", "train_img_portrait"), ("val", "val_img"),
    ]  # fmt: skip
    assert refs[1].instances == refs[1].image.replace("_img", "_inst").replace(".jpg", ".png")
    source = dataset.decode(refs[0], dataset.read(refs[0]))
    assert source.instances is not None
    assert source.instances.dtype == np.int32
    assert [int(source.instances[12, col]) for col in (3, 12, 25)] == [1, 2, 3]
    assert set(np.unique(source.instances)) == {0, 1, 2, 3}


def test_instance_maps_of_sixteen_bits_and_of_three_channels_are_read(tmp_path: Path) -> None:
    published.coco_spade(tmp_path)
    wide = published.things_and_stuff().astype(np.uint16)
    wide[12, 3] = 70_00
    three = np.zeros((*published.SIZE, 3), np.uint8)
    three[12, 3] = (5, 1, 2)
    (first, second) = sorted((tmp_path / folder) for folder in ("train_inst", "val_inst"))
    published.put(next(first.iterdir()), wide)
    published.put(next(second.iterdir()), three)
    dataset = open_coco_stuff(tmp_path)
    found = {ref.split: dataset.decode(ref, dataset.read(ref)).instances for ref in dataset.sources()[::2]}
    assert found["train"][12, 3] == 7001
    assert found["val"][12, 3] == 5 + 256 + 2 * 65536 + 1


def test_the_10k_release_is_read_from_its_mat_files(tmp_path: Path) -> None:
    dataset = open_coco_stuff(published.coco_10k(tmp_path))
    assert isinstance(dataset, CocoStuff10k)
    refs = dataset.sources()
    assert [(ref.name[-3:], ref.split) for ref in refs] == [("077", "train"), ("349", "test")]
    layout = dataset.decode(refs[0], dataset.read(refs[0])).layout
    expected = published.things_and_stuff().astype(np.uint16)
    expected[expected == 255] = VOID
    assert (layout == expected).all()
    assert dataset.read(refs[0]).source_id == dataset.read(refs[0]).source_id


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"S": np.full((2, 2), 6, np.uint8), "names": np.array(["unlabeled", "car"], object)}, "unknown-id"),
        ({"S": np.zeros((2, 2), np.uint8), "names": np.array(["unlabeled", "car"], object)}, "unknown-id"),
        ({"S": np.full((2, 2), 2, np.uint8), "names": np.array(["unlabeled", "unicorn"], object)}, "unknown-id"),
        ({"T": np.ones((2, 2), np.uint8)}, "unreadable-label"),
        (b"no mat file at all", "unreadable-label"),
        (b"", "unreadable-label"),
    ],
)
def test_mat_files_that_are_none_of_the_releases_are_rejected(tmp_path: Path, content: object, reason: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.mat").write_bytes(content)
    else:
        savemat(tmp_path / "a.mat", content)
    with pytest.raises(SourceError) as caught:
        label_map((tmp_path / "a.mat").read_bytes(), tmp_path / "a.mat")
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_mat_file_that_unpacks_to_a_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("it was unpacked"))
    monkeypatch.setattr("zeuxis.ingest.datasets.coco_stuff.MAX_PIXELS", 99)
    savemat(tmp_path / "a.mat", {"S": np.zeros((10, 10), np.uint8)}, do_compression=True)
    with pytest.raises(SourceError) as caught:
        label_map((tmp_path / "a.mat").read_bytes(), tmp_path / "a.mat")
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["images/train2017/ or train2017/", "stuffthingmaps_trainval2017/train2017/"]),
        (["images/val2017/1.jpg"], ["no stuffthingmaps_trainval2017/train2017/"]),
        (["stuffthingmaps_trainval2017/val2017/1.png"], ["no images/train2017/ or train2017/"]),
        (["images/val2017/1.jpg", "stuffthingmaps_trainval2017/train2017/1.png"], ["split with both"]),
        (["imageLists/train.txt", "images/a.jpg"], ["no annotations/"]),
        (["imageLists/train.txt", "images/a.jpg", "annotations/a.mat"], ["no imageLists/test.txt"]),
    ],
)
def test_a_wrong_root_says_which_folders_are_missing(tmp_path: Path, files: list[str], words: list[str]) -> None:
    for file in files:
        published.put(tmp_path / file, b"")
    with pytest.raises(DatasetError) as caught:
        open_coco_stuff(tmp_path).sources()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_other_words_for_the_label_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="labels=pixelmaps"):
        open_coco_stuff(tmp_path, labels="all")
