"""Data sets of one bank share classes by name, come and go on their own, and none is lost with the disk of another."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from nights import Run, all_files, content, counts, ids, night, rejects, sources

from zeuxis.pipelines.rebuild import RebuildReport
from zeuxis.storage.errors import DatasetError, InputError
from zeuxis.storage.manifest import generations
from zeuxis.storage.reader import Reader

NAMES = [f"p{number:02}" for number in range(12)]


@pytest.fixture
def twelve(photos: Any) -> Any:
    photos.add(*NAMES)
    return photos


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def rebuild_bank(bank: Path) -> Run:
    """A night in this process."""

    def run(dataset: str | list[str], path: Path = bank, **options: Any) -> RebuildReport:
        return night(dataset, path, **options)

    return run


def with_classes(photos: Any, names: dict[int, str]) -> None:
    photos.root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{id},{name}\n" for id, name in names.items())
    (photos.root / "classes.csv").write_text(f"id,name\n{rows}")


@pytest.fixture
def two(photos: Any, more_photos: Any) -> tuple[Any, Any]:
    """Two folders with classes of their own: sky is 0 in the one and 2 in the other."""
    with_classes(photos, {0: "sky", 1: "road", 2: "car", 3: "tree"})
    with_classes(more_photos, {0: "person", 1: "road", 2: "sky", 3: "fence"})
    photos.add("a", "b")
    more_photos.add("c", "d")
    return photos, more_photos


def classes_of(bank: Path, source: str) -> set[str]:
    return set(Reader(bank).table("segments", {"source": source})["class_name"].to_pylist())


def test_two_roots_of_a_kind_are_two_data_sets_that_share_classes_by_name(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path
) -> None:
    report = rebuild_bank([each.spec for each in two])
    assert counts(report) == (4, 4, 0, 0)
    manifest = Reader(bank).manifest
    assert [entry.name for entry in manifest.datasets] == ["folder", "folder-2"]
    assert sources(bank) == ["folder-2/c", "folder-2/d", "folder/a", "folder/b"]
    names = {entry.id: entry.name for entry in manifest.classes}
    assert {id: names[id] for id in range(4)} == {0: "sky", 1: "road", 2: "car", 3: "tree"}
    assert set(names.values()) == {"sky", "road", "car", "tree", "person", "fence"}
    assert classes_of(bank, "folder-2/c") == {"person", "road", "sky", "fence"}
    reader = Reader(bank)
    for row in reader.table("segments", {"dataset": "folder-2"}).to_pylist():
        assert names[row["class_id"]] == row["class_name"]
        top, left, bottom, right = (row[f"crop_{side}"] for side in ("top", "left", "bottom", "right"))
        window = reader.layout(row["source"])[top:bottom, left:right]
        assert (window == row["class_id"]).any()


def test_the_order_of_rebuilds_may_change_ids_of_classes_but_never_of_segments(
    rebuild_bank: Run, two: tuple[Any, Any], tmp_path: Path
) -> None:
    together, one_by_one, reverse = (tmp_path / name for name in ("together", "one_by_one", "reverse"))
    rebuild_bank([each.spec for each in two], together, frame=(24, 32))
    for each in two:
        rebuild_bank(each.spec, one_by_one, frame=(24, 32))
    rebuild_bank([each.spec for each in reversed(two)], reverse, frame=(24, 32))
    assert content(together) == content(one_by_one)
    assert ids(together) == ids(reverse)


def test_what_is_not_named_in_a_run_cannot_vanish(rebuild_bank: Run, two: tuple[Any, Any], bank: Path) -> None:
    rebuild_bank([each.spec for each in two])
    two[0].root.rename(two[0].root.with_name("away"))
    two[1].add("e")
    assert counts(rebuild_bank(two[1].spec)) == (3, 1, 2, 0)
    assert sources(bank) == ["folder-2/c", "folder-2/d", "folder-2/e", "folder/a", "folder/b"]


def test_a_twin_in_the_first_data_set_of_a_source_that_the_second_holds_is_a_duplicate(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path
) -> None:
    rebuild_bank([each.spec for each in two])
    for kind in ("image", "label"):
        getattr(two[0], kind)("twin").write_bytes(getattr(two[1], kind)("c").read_bytes())
    for specs in ([each.spec for each in two], two[0].spec):
        rebuild_bank(specs)
        assert rejects(bank) == {"folder/twin": "duplicate"}
    two[1].remove("c")
    rebuild_bank([each.spec for each in two], allow_shrink=True)
    assert sources(bank) == ["folder-2/d", "folder/a", "folder/b", "folder/twin"]


def test_a_data_set_may_be_named_once_only(rebuild_bank: Run, twelve: Any) -> None:
    with pytest.raises(InputError, match="each once"):
        rebuild_bank([twelve.spec, twelve.spec])
    with pytest.raises(InputError, match="at least one"):
        rebuild_bank([])


def test_a_class_map_renames_and_makes_void(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text("folder-2:\n  person: car\n  fence: null\n")
    rebuild_bank(two[0].spec)
    rebuild_bank(two[1].spec, classes=tmp_path / "map.yaml")
    assert classes_of(bank, "folder-2/c") == {"car", "road", "sky"}
    assert [entry.name for entry in Reader(bank).classes] == ["sky", "road", "car", "tree"]
    void = Reader(bank).table("sources", {"source": "folder-2/c"})["void"].to_pylist()[0]
    assert void == pytest.approx((np.isin(np.array(Image.open(two[1].label("c"))), [3, 255])).mean())
    two[1].add("e")
    report = rebuild_bank(two[1].spec)
    assert counts(report) == (3, 1, 2, 0)
    assert classes_of(bank, "folder-2/e") == {"car", "road", "sky"}
    assert len(Reader(bank).classes) == 4, "a later run without the map must not add the renamed classes"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folder:\n  skye: sky\n", "'skye'"),
        ("camvit:\n  sky: sky\n", "camvit"),
        ("folder:\n  sky: heaven\n", "sky, which the bank was made with, found heaven"),
        ("folder:\n  road: null\n", "road, which the bank was made with, found null"),
        ("- sky\n", "data set -> "),
        ("folder: [", "YAML"),
    ],
)
def test_a_class_map_that_names_nothing_or_contradicts_the_bank_is_refused(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path, tmp_path: Path, text: str, words: str
) -> None:
    rebuild_bank(two[0].spec)
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        rebuild_bank(two[0].spec, classes=tmp_path / "map.yaml")
    assert generations(bank) == [1]


def test_classes_may_be_added_and_what_they_explain_comes_in(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path
) -> None:
    photos = two[0]
    photos.add("new", labels=np.full((48, 64), 7, np.uint8))
    assert rebuild_bank(photos.spec).reasons == {"unknown-id": 1}
    assert not rebuild_bank(photos.spec).published
    with_classes(photos, {0: "sky", 1: "road", 2: "car", 3: "tree", 7: "sea"})
    assert counts(rebuild_bank(photos.spec)) == (3, 1, 2, 0)
    assert classes_of(bank, "folder/new") == {"sea"}


@pytest.mark.parametrize("names", [{0: "sea", 1: "road", 2: "car", 3: "tree"}, {0: "sky"}], ids=["renamed", "removed"])
def test_classes_that_the_bank_holds_may_not_change(
    rebuild_bank: Run, two: tuple[Any, Any], names: dict[int, str]
) -> None:
    rebuild_bank(two[0].spec)
    with_classes(two[0], names)
    with pytest.raises(DatasetError, match=r"have changed.*new bank"):
        rebuild_bank(two[0].spec)


def test_void_that_becomes_a_class_is_refused(rebuild_bank: Run, two: tuple[Any, Any]) -> None:
    rebuild_bank(two[0].spec)
    with_classes(two[0], {0: "sky", 1: "road", 2: "car", 3: "tree", 255: "border"})
    with pytest.raises(DatasetError, match="void ids"):
        rebuild_bank(two[0].spec)


@pytest.mark.parametrize("what", ["missing", "empty", "half"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_disk_that_is_away_refuses_the_whole_run_before_anything_is_written(
    rebuild_bank: Run, two: tuple[Any, Any], bank: Path, what: str, which: int
) -> None:
    specs = [each.spec for each in two]
    rebuild_bank(specs)
    before = all_files(bank)
    two[1 - which].add("new")
    root = two[which].root
    if what == "half":
        two[which].remove("a" if which == 0 else "c")
    else:
        root.rename(root.with_name("away"))
    if what == "empty":
        root.mkdir()
    with pytest.raises(DatasetError, match=str(root)):
        rebuild_bank(specs)
    assert all_files(bank) == before
    assert counts(rebuild_bank(two[1 - which].spec)) == (3, 1, 2, 0)


def test_the_share_that_may_vanish_is_of_each_data_set(rebuild_bank: Run, twelve: Any, more_photos: Any) -> None:
    more_photos.add("m0", "m1", "m2")
    specs = [twelve.spec, more_photos.spec]
    rebuild_bank(specs)
    twelve.remove("p00")
    assert rebuild_bank(specs).n_vanished == 1
    more_photos.remove("m0")
    with pytest.raises(DatasetError, match=r"the 3 sources .* 1 of them gone"):
        rebuild_bank(specs)
    assert rebuild_bank(specs, allow_shrink=True).n_vanished == 1
