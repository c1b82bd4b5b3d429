"""ADE20K, the benchmark and the full release, in their published layouts."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from zeuxis.ingest.datasets.ade20k import Ade20k
from zeuxis.ingest.datasets.ade20k_classes import CLASSES
from zeuxis.ingest.datasets.ade20k_full import Ade20kFull
from zeuxis.ingest.datasets.ade20k_scenes import is_outdoor, scene_key
from zeuxis.storage.classes import VOID, ClassTable
from zeuxis.storage.errors import DatasetError, SourceError

from . import published

STREET = "ADE/training/urban/street/ADE_train_00016900"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    published.ade20k(tmp_path)
    return tmp_path


def first(dataset):
    ref = dataset.sources()[0]
    return dataset.decode(ref, dataset.read(ref))


# the benchmark


def test_the_150_classes_have_names_ids_and_colours_of_their_own() -> None:
    assert len(ClassTable(CLASSES)) == 150
    assert len({entry.colour for entry in CLASSES}) == 150
    assert sum(entry.thing for entry in CLASSES) == 100
    known = {entry.name: entry for entry in CLASSES}
    assert (known["wall"].id, known["car"].id, known["flag"].id) == (1, 21, 150)
    assert known["car"].colour == (0, 102, 200)
    assert known["pole"].thin
    assert not known["sky"].thing


def test_splits_are_the_published_ones_and_testing_is_left_out(root: Path) -> None:
    dataset = Ade20k(root)
    assert [(ref.name, ref.split) for ref in dataset.sources()] == [
        ("training/ADE_train_00000001", "train"),
        ("training/ADE_train_00000002", "train"),
        ("training/ADE_train_00000003", "train"),
        ("validation/ADE_val_00000001", "val"),
    ]
    assert {problem.file: problem.reason for problem in dataset.ignored()} == {
        "images/training/.DS_Store": "hidden-file",
        "testing/ADE_test_00000001": "left-out",
    }


def test_zero_is_void_and_other_ids_are_classes(root: Path) -> None:
    assert first(Ade20k(root)).layout[0].tolist() == [VOID] * 4 + [21] * 4


def test_instance_masks_number_the_objects_where_they_are(root: Path) -> None:
    dataset = Ade20k(root)
    instances = first(dataset).instances
    assert instances is not None
    assert len(np.unique(instances[instances > 0])) == 2
    assert (instances[:2] == 0).all()
    assert dataset.sources()[1].instances is None
    published.picture(root / "annotations_instance/training/ADE_train_00000001.png", published.halves(0, 1))
    with pytest.raises(SourceError, match="class in red") as caught:
        first(Ade20k(root))
    assert caught.value.reason == "unreadable-instances"


def test_a_photograph_or_label_map_alone_is_a_reject(root: Path) -> None:
    (root / "images/training/ADE_train_00000001.jpg").unlink()
    (root / "annotations/training/ADE_train_00000002.png").unlink()
    dataset = Ade20k(root)
    reasons = []
    for ref in dataset.sources()[:2]:
        with pytest.raises(SourceError) as caught:
            dataset.read(ref)
        reasons.append(caught.value.reason)
    assert reasons == ["missing-image", "missing-label"]


def test_a_file_that_fits_no_rule_is_told_and_not_listed(root: Path) -> None:
    for name in ("ADE_train_\n1", "holiday"):
        published.photograph(root / f"images/training/{name}.jpg")
    dataset = Ade20k(root)
    assert len(dataset.sources()) == 4
    told = [problem for problem in dataset.ignored() if problem.reason == "unexpected-file"]
    assert [problem.file for problem in told] == ["images/training/ADE_train_\\n1.jpg", "images/training/holiday.jpg"]
    assert all("\n" not in problem.sentence for problem in told)


def test_two_files_of_one_photograph_are_one_reject(root: Path) -> None:
    published.photograph(root / "images/training/ADE_train_00000001.png")
    dataset = Ade20k(root)
    with pytest.raises(SourceError, match=r"also ADE_train_00000001\.png") as caught:
        dataset.read(dataset.sources()[0])
    assert caught.value.reason == "duplicate-name"


def test_the_outdoor_subset_follows_the_scene_list(root: Path) -> None:
    dataset = Ade20k(root, scenes="outdoor")
    assert [ref.name[-8:] for ref in dataset.sources()] == ["00000001", "00000003"]
    (line,) = [problem for problem in dataset.ignored() if "scene" in problem.sentence]
    assert "2 sources are left out" in line.sentence


def test_a_file_names_the_scenes(root: Path) -> None:
    published.text(root / "rooms.txt", "bathroom\n\nbedroom\n")
    assert [ref.name for ref in Ade20k(root, scenes="rooms.txt").sources()] == ["training/ADE_train_00000002"]
    assert len(Ade20k(root, scenes=str(root / "rooms.txt")).sources()) == 1
    for choice in ("indoor", "images/training/.DS_Store.txt"):
        with pytest.raises(DatasetError, match=f"scenes=FILE.*no file '{choice}'"):
            Ade20k(root, scenes=choice).sources()
    (root / "sceneCategories.txt").unlink()
    with pytest.raises(DatasetError, match=r"no sceneCategories\.txt"):
        Ade20k(root, scenes="outdoor").sources()


@pytest.mark.parametrize(
    ("scene", "outdoor"),
    [("street", True), ("cathedral/outdoor", True), ("church__outdoor", True), ("cathedral_indoor", False),
     ("bathroom", False), ("mountain_snowy", True), ("misc", False), ("bus_interior", False)],
)  # fmt: skip
def test_scenes_are_outdoor_by_their_name(scene: str, outdoor: bool) -> None:
    assert is_outdoor(scene_key(scene)) == outdoor


def test_objectinfo150_gives_the_names(root: Path) -> None:
    rows = [f"{entry.id} \t0.1\t1\t1\t{entry.name}, and so on" for entry in CLASSES]
    rows[20] = "21\t0.0098\t3164\t306\tmotorcar, car "
    published.text(root / "objectInfo150.txt", "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    classes = Ade20k(root).decoding.classes
    assert [entry.name for entry in classes][19:22] == ["chair", "motorcar", "water"]
    assert classes[20].thing
    published.text(root / "objectInfo150.txt", "Idx\tName\n1\twall\n")
    with pytest.raises(DatasetError, match=r"objectInfo150\.txt: expected columns Idx and Name"):
        _ = Ade20k(root).decoding


@pytest.mark.parametrize("gone", ["images", "annotations"])
def test_a_wrong_root_says_which_folders_are_missing(root: Path, gone: str) -> None:
    (root / gone).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=f"no {gone}/ in a folder that holds .*ADEChallengeData2016|no {gone}/"):
        Ade20k(root).sources()


def test_an_option_nobody_knows_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="expected scenes, found parts"):
        Ade20k(root, parts="1")


# the full release


@pytest.fixture(params=[2016, 2021])
def full(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    published.ade20k_full(tmp_path, request.param)
    return tmp_path


def test_both_releases_are_read_alike(full: Path) -> None:
    dataset = Ade20kFull(full)
    refs = dataset.sources()
    assert sorted((ref.name.rpartition("/")[2], ref.split) for ref in refs) == [
        ("ADE_train_00000007", "train"),
        ("ADE_train_00016900", "train"),
        ("ADE_val_00000001", "val"),
    ]
    source = first(dataset)
    assert source.layout[0].tolist() == [VOID] * 2 + [401] * 4 + [2131] * 2
    assert source.instances[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    names = {entry.id: entry for entry in dataset.decoding.classes}
    assert names[401].name == "car, auto, automobile, machine, motorcar"
    assert names[401].thing
    assert not names[2131].thing


def test_the_same_bytes_are_read_each_time_and_by_workers(full: Path) -> None:
    dataset = Ade20kFull(full)
    ref = dataset.sources()[0]
    sent = pickle.dumps(dataset)
    (full / "index_ade20k.mat").unlink(missing_ok=True)
    for path in full.rglob("*.json"):
        path.unlink()
    again = pickle.loads(sent)
    assert again.read(ref) == dataset.read(ref)
    assert again.decoding == dataset.decoding


def test_what_the_release_holds_besides_is_one_line_a_kind(full: Path) -> None:
    reasons = {problem.file: problem.reason for problem in Ade20kFull(full).ignored()}
    modern = (full / "images/ADE").is_dir()
    assert reasons == {
        "images/*_atr.txt": "not-needed",
        "images/*_parts_1.png": "not-needed",
        "images/*_parts_2.png": "not-needed",
        "consistencyanalysis/original/ADE_val_00000005": "left-out",
    } | ({"images/*.json": "not-needed", "images/*/ADE_*/*.png": "not-needed"} if modern else {})


def test_parts_are_a_layout_where_there_are_any(full: Path) -> None:
    dataset = Ade20kFull(full, parts="1")
    (ref,) = dataset.sources()
    assert ref.name.endswith("street/ADE_train_00016900")
    assert first(dataset).layout[0].tolist() == [VOID] * 2 + [3055] * 4 + [VOID] * 2
    assert any("2 sources are left out: they have no parts" in problem.sentence for problem in dataset.ignored())
    with pytest.raises(DatasetError, match="parts=yes"):
        Ade20kFull(full, parts="yes")


def test_scenes_of_the_full_release_are_its_folders(full: Path) -> None:
    found = {ref.name.rpartition("/")[2] for ref in Ade20kFull(full, scenes="outdoor").sources()}
    assert found == {"ADE_train_00016900", "ADE_val_00000001"}


def test_without_names_for_the_classes_the_release_is_refused_and_nothing_unpickled(full: Path) -> None:
    (full / "index_ade20k.mat").unlink(missing_ok=True)
    for path in full.rglob("*.json"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"neither index_ade20k\.mat nor a \.json"):
        _ = Ade20kFull(full).decoding


def test_an_index_that_cannot_be_read_is_refused(full: Path) -> None:
    (full / "index_ade20k.mat").write_bytes(b"no index")
    with pytest.raises(DatasetError, match=r"index_ade20k\.mat: expected index\.objectnames"):
        _ = Ade20kFull(full).decoding


def test_two_classes_of_one_name_stay_apart(tmp_path: Path) -> None:
    published.ade20k_full(tmp_path)
    path = tmp_path / f"images/{STREET}.json"
    path.write_bytes(path.read_bytes() + b'{"name":"sky","name_ndx":2500}')
    names = {entry.id: entry.name for entry in Ade20kFull(tmp_path).decoding.classes}
    assert (names[2420], names[2500]) == ("sky", "sky (2500)")


def test_a_label_map_without_colours_is_one_reject(full: Path) -> None:
    dataset = Ade20kFull(full)
    ref = dataset.sources()[0]
    published.picture(full / str(ref.layout), published.halves(1, 2))
    with pytest.raises(SourceError, match="class in red and green") as caught:
        dataset.read(ref)
    assert caught.value.reason == "unreadable-label"


def test_a_root_without_images_says_so(full: Path) -> None:
    (full / "images").rename(full / "pictures")
    with pytest.raises(DatasetError, match=r"no images/ in a folder that holds .*pictures/"):
        Ade20kFull(full).sources()


def test_objects_are_counted_from_one_where_every_pixel_is_labelled(full: Path) -> None:
    dataset = Ade20kFull(full)
    published.picture(full / str(dataset.sources()[0].layout), published.full_map((401, 90), (401, 180)))
    assert first(dataset).instances[0].tolist() == [1] * 4 + [2] * 4
