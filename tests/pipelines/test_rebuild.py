"""A rebuild takes in what is new, keeps what is not, accounts for everything, and can be interrupted anywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from zeuxis.pipelines.planning import default_frame
from zeuxis.pipelines.rebuild import RebuildReport, rebuild
from zeuxis.storage import files
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import BankBusyError, BankError, DatasetError, InputError, NotABankError
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import generations, verify
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.records import segment_id

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = [f"p{number:02}" for number in range(12)]

Run = Callable[..., RebuildReport]


@pytest.fixture
def twelve(photos: Any) -> Any:
    photos.add(*NAMES)
    return photos


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


def sources(bank: Path) -> list[str]:
    return sorted(Reader(bank).table("sources", columns=["source"])["source"].to_pylist())


def rejects(bank: Path) -> dict[str, str]:
    rows = Reader(bank).table("rejects", columns=["source", "reason"]).to_pylist()
    return {row["source"]: row["reason"] for row in rows}


def ids(bank: Path) -> set[int]:
    return set(Reader(bank).table("segments", columns=["segment_id"])["segment_id"].to_pylist())


def content(bank: Path) -> str:
    reader = Reader(bank)
    assert reader.manifest.content == content_of(reader)
    return reader.manifest.content


def shard_files(bank: Path) -> dict[str, tuple[int, int]]:
    """Every file of every shard: inode and modification time."""
    paths = [path for path in (bank / "shards").rglob("*") if path.is_file()]
    return {str(path.relative_to(bank)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def leftovers(bank: Path) -> list[str]:
    return [path.name for path in [*bank.iterdir(), *(bank / "shards").iterdir()] if path.name.startswith(".tmp-")]


def counts(report: RebuildReport) -> tuple[int, int, int, int]:
    assert report.n_in == report.n_new + report.n_reused + report.n_rejected
    return report.n_in, report.n_new, report.n_reused, report.n_rejected


# the first rebuild


def test_everything_comes_in_and_pixels_are_the_sources_own(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    report = rebuild_bank(twelve.spec, frame=(24, 32), shard_size=5)
    assert counts(report) == (12, 12, 0, 0)
    assert (report.generation, report.published, report.bank) == (1, True, bank)
    reader = Reader(bank)
    assert len(reader.shards) == 3
    rows = reader.table("segments").to_pylist()
    assert report.segments == len(rows) == 12 * 5
    for row in rows:
        shard, _ = reader.find_segment(row["segment_id"])
        pixels, mask = (read(shard, row["segment_id"]) for read in (reader.segment_pixels, reader.segment_mask))
        name = row["source"].removeprefix("folder/")
        window = np.s_[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]]
        image, labels = np.array(Image.open(twelve.image(name))), np.array(Image.open(twelve.label(name)))
        assert np.array_equal(pixels, np.where(mask[..., None], image[window], 0))
        assert (labels[window][mask] == row["class_id"]).all()
        assert mask.sum() == row["pixels"]
    assert list(verify(bank, deep=True)) == []
    assert leftovers(bank) == []


def test_the_same_data_gives_the_same_bank_however_it_is_cut(
    rebuild_bank: Run, twelve: Any, tmp_path: Path, dask_address: str
) -> None:
    banks = [tmp_path / f"bank{number}" for number in range(3)]
    rebuild_bank(twelve.spec, banks[0])
    rebuild_bank(twelve.spec, banks[1], shard_size=1)
    rebuild_bank(f"folder:{twelve.root}/../photos", banks[2], shard_size=7, scheduler=None, workers=1)
    assert len({content(bank) for bank in banks}) == 1
    assert ids(banks[0]) == ids(banks[1]) == ids(banks[2])
    shards = [{path.name for path in (bank / "shards").iterdir()} for bank in banks]
    assert [len(names) for names in shards] == [1, 12, 2]
    rebuild_bank(twelve.spec, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again/shards").iterdir()} == shards[0]


def test_the_golden_layouts_give_the_golden_segments(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    golden, layouts = json.loads((GOLDEN / "retrieval.json").read_text()), np.load(GOLDEN / "retrieval.npz")
    names = [name for name in layouts if name.startswith("bank_")]
    for name in names:
        photos.add(name, labels=np.where(layouts[name] == VOID, 255, layouts[name]).astype(np.uint8))
    report = rebuild_bank(photos.spec, frame=tuple(map(int, golden["frame"])), min_area=golden["min_area"])
    assert (counts(report), report.segments) == ((40, 40, 0, 0), golden["segments"])
    segments = {
        (int(row["source"][-2:]), row["class_id"], row["top"], row["left"], row["bottom"], row["right"], row["area"])
        for row in Reader(bank).table("segments").to_pylist()
    }
    hits = [(component, hit) for component in golden["components"] for hit in component["hits"]]
    for component, hit in hits:
        common, union = hit["mask"]
        area = common + union - component["area"]
        assert (hit["source"], component["class_id"], *hit["box"], area) in segments
    assert len(hits) > 400


@pytest.mark.parametrize(
    ("sizes", "frame"),
    [
        ([(480, 640)], (384, 512)),
        ([(360, 480), (480, 360), (480, 360)], (512, 384)),
        ([(1000, 3)], (512, 2)),
        ([(10, 20), (20, 10)], (256, 512)),
    ],
)
def test_the_default_frame_is_the_commonest_size_with_a_longer_side_of_512(
    sizes: list[tuple[int, int]], frame: tuple[int, int]
) -> None:
    assert default_frame(sizes) == frame


def test_the_default_frame_is_used_where_none_is_given(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    twelve.add("odd", labels=np.zeros((30, 30), np.uint8))
    rebuild_bank(twelve.spec, min_area=None)
    assert Reader(bank).geometry == Geometry((384, 512), 64, False)


def test_a_source_with_nothing_but_small_components_counts(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a", labels=np.zeros((48, 64), np.uint8))
    photos.add("b", labels=np.kron(np.arange(8 * 8).reshape(8, 8) % 7, np.ones((4, 4))).astype(np.uint8))
    report = rebuild_bank(photos.spec, frame=(24, 32), min_area=100)
    assert (counts(report), report.segments) == ((2, 2, 0, 0), 1)
    row = Reader(bank).table("sources", {"source": "folder/b"}).to_pylist()[0]
    assert row["segments"] == 0
    assert row["components"] == row["small"] > 10


def test_progress_begins_before_the_workers_and_ends_with_all_done(rebuild_bank: Run, twelve: Any) -> None:
    told: list[tuple[int, int, str]] = []
    report = rebuild_bank(twelve.spec, progress=lambda *args: told.append(args), shard_size=3)
    looks = [args[:2] for args in told if args[2] == "looking at the sources"]
    assert looks == [(n, 12) for n in range(1, 13)]
    assert told[len(looks)] == (0, 12, "starting workers")
    assert (12, 12, f"{report.segments} segments, 0 rejects") in told
    assert told[-2:] == [
        (12, 12, f"indexing {report.segments} segments"),
        (12, 12, f"indexing candidates among {report.segments} segments"),
    ]


# the next rebuilds


def test_unchanged_data_publishes_nothing_and_says_so(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    first = rebuild_bank(twelve.spec)
    before = {path.name: path.stat().st_mtime_ns for path in bank.glob("MANIFEST*")}, shard_files(bank)
    report = rebuild_bank(twelve.spec, scheduler="tcp://127.0.0.1:9")  # nothing to do, so no cluster is asked
    assert counts(report) == (12, 0, 12, 0)
    assert (report.published, report.generation, report.segments) == (False, 1, first.segments)
    assert ({path.name: path.stat().st_mtime_ns for path in bank.glob("MANIFEST*")}, shard_files(bank)) == before


@pytest.mark.parametrize("kind", ["palette", "depth", "sources.csv"])
def test_what_a_manifest_says_of_a_data_set_compares_equal_after_reading(
    rebuild_bank: Run, photos: Any, kind: str
) -> None:
    photos.add("a", labels=np.full((48, 64, 3), 7, np.uint8) if kind == "palette" else None)
    if kind == "palette":
        (photos.root / "classes.yaml").write_text("- {id: 3, name: sky, colour: [7, 7, 7], thin: true}\n")
    elif kind == "depth":
        photos.add("a", depth=np.full((48, 64), 900, np.uint16))
    else:
        (photos.root / "sources.csv").write_text("name,split,group\na,val,street\n")
    assert rebuild_bank(photos.spec).published
    assert not rebuild_bank(photos.spec).published


def test_touched_files_are_no_news(rebuild_bank: Run, twelve: Any) -> None:
    rebuild_bank(twelve.spec)
    for name in NAMES:
        os.utime(twelve.image(name), (1, 1))
    report = rebuild_bank(twelve.spec)
    assert (counts(report), report.published) == ((12, 0, 12, 0), False)


def test_rehash_finds_a_change_that_size_and_time_hide(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        photos.add(name, labels=np.full((16, 16), value, np.uint8))
    photos.label("a").with_suffix(".bmp").unlink(missing_ok=True)
    for name in "ab":  # uncompressed, so that another label map has the same size
        Image.open(photos.label(name)).save(photos.label(name).with_suffix(".bmp"))
        photos.label(name).unlink()
    rebuild_bank(photos.spec)
    path = photos.label("a").with_suffix(".bmp")
    before = path.stat()
    Image.fromarray(np.full((16, 16), 3, np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert not rebuild_bank(photos.spec).published
    assert counts(rebuild_bank(photos.spec, rehash=True)) == (2, 1, 1, 0)
    assert sorted(Reader(bank).table("segments")["class_id"].to_pylist()) == [2, 3]


def test_a_changed_label_map_replaces_its_source(rebuild_bank: Run, twelve: Any, bank: Path, tmp_path: Path) -> None:
    rebuild_bank(twelve.spec)
    old = Reader(bank)
    before = shard_files(bank)
    twelve.write(twelve.label("p03"), np.full((48, 64), 9, np.uint8))
    report = rebuild_bank(twelve.spec)
    assert counts(report) == (12, 1, 11, 0)
    assert (report.generation, report.n_vanished) == (2, 0)
    assert Reader(bank).table("segments", {"source": "folder/p03"})["class_id"].to_pylist() == [9]
    assert before.items() <= shard_files(bank).items()
    assert sorted(old.table("segments", {"source": "folder/p03"})["class_id"].to_pylist()) == [0, 1, 2, 2, 3]
    rebuild_bank(twelve.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_a_change_that_is_taken_back_gives_the_old_bank(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a")
    rebuild_bank(photos.spec)
    first, data = content(bank), photos.label("a").read_bytes()
    photos.write(photos.label("a"), np.full((48, 64), 9, np.uint8))
    rebuild_bank(photos.spec)
    assert content(bank) != first
    photos.label("a").write_bytes(data)
    assert rebuild_bank(photos.spec).generation == 3
    assert content(bank) == first
    assert not rebuild_bank(photos.spec).published


def test_an_added_source_is_one_new_shard_beside_untouched_ones(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec, shard_size=4)
    before = shard_files(bank)
    twelve.add("z")
    assert counts(rebuild_bank(twelve.spec)) == (13, 1, 12, 0)
    after = shard_files(bank)
    assert before.items() <= after.items()
    assert len({name.split("/")[1] for name in set(after) - set(before)}) == 1
    assert "folder/z" in sources(bank)


def test_a_removed_source_leaves_every_table(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec, shard_size=6)
    before = shard_files(bank)
    twelve.remove("p05")
    report = rebuild_bank(twelve.spec)
    assert (counts(report), report.n_vanished, report.published) == ((11, 0, 11, 0), 1, True)
    assert sources(bank) == [f"folder/{name}" for name in NAMES if name != "p05"]
    for table in ("segments", "orderings"):
        assert Reader(bank).table(table, {"source": "folder/p05"}).num_rows == 0
    assert report.segments == 11 * 5
    assert shard_files(bank) == before
    assert not rebuild_bank(twelve.spec).published


def test_more_than_a_tenth_may_not_vanish_unasked(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    before = shard_files(bank)
    twelve.remove("p00", "p01")
    with pytest.raises(DatasetError, match=r"2 of them gone.*--allow-shrink"):
        rebuild_bank(twelve.spec)
    assert (generations(bank), shard_files(bank)) == ([1], before)
    assert rebuild_bank(twelve.spec, allow_shrink=True).n_vanished == 2
    assert len(sources(bank)) == 10


def test_label_maps_that_are_away_count_as_vanished(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    for name in NAMES[:2]:
        twelve.label(name).unlink()
    with pytest.raises(DatasetError, match="2 of them gone"):
        rebuild_bank(twelve.spec)
    twelve.add(NAMES[0])
    assert counts(rebuild_bank(twelve.spec)) == (12, 0, 11, 1)
    assert rejects(bank) == {"folder/p01": "missing-label"}


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_root_that_is_missing_or_empty_is_refused(rebuild_bank: Run, twelve: Any, bank: Path, what: str) -> None:
    rebuild_bank(twelve.spec)
    twelve.root.rename(twelve.root.with_name("away"))
    if what == "empty":
        for name in ("images", "labels"):
            (twelve.root / name).mkdir(parents=True)
    with pytest.raises(DatasetError, match=str(twelve.root)):
        rebuild_bank(twelve.spec, allow_shrink=True)
    assert generations(bank) == [1]


def test_a_missing_data_set_leaves_no_bank_behind(rebuild_bank: Run, tmp_path: Path, bank: Path) -> None:
    with pytest.raises(DatasetError):
        rebuild_bank(f"folder:{tmp_path}/nowhere")
    assert not bank.exists()


def test_a_renamed_source_keeps_its_segments(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    before = ids(bank)
    for path in (twelve.image("p00"), twelve.label("p00")):
        path.rename(path.with_stem("renamed"))
    report = rebuild_bank(twelve.spec)
    assert (counts(report), report.n_vanished) == ((12, 1, 11, 0), 1)
    assert ids(bank) == before
    assert "folder/renamed" in sources(bank)
    assert "folder/p00" not in sources(bank)


def test_two_sources_that_swap_their_files_swap(rebuild_bank: Run, twelve: Any, bank: Path, tmp_path: Path) -> None:
    rebuild_bank(twelve.spec)
    for kind in (twelve.image, twelve.label):
        one, other = kind("p00").read_bytes(), kind("p01").read_bytes()
        kind("p00").write_bytes(other)
        kind("p01").write_bytes(one)
    assert counts(rebuild_bank(twelve.spec)) == (12, 2, 10, 0)
    rebuild_bank(twelve.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_a_copy_half_done_is_refused(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    for number in range(7):
        twelve.label(f"p{number:02}").write_bytes(b"")
    with pytest.raises(DatasetError, match="7 of them gone or broken"):
        rebuild_bank(twelve.spec)
    assert len(sources(bank)) == 12
    assert counts(rebuild_bank(twelve.spec, allow_shrink=True)) == (12, 0, 5, 7)


def test_a_finished_shard_under_another_name_or_for_another_split_is_not_taken_over(
    rebuild_bank: Run, twelve: Any, bank: Path
) -> None:
    """A writer killed just before the rename leaves a whole shard under a temporary name."""
    rebuild_bank(twelve.spec)
    (shard,) = (bank / "shards").iterdir()
    (bank / "MANIFEST-000001.json").unlink()
    shard.rename(bank / "shards" / ".tmp-1-killed")
    assert counts(rebuild_bank(twelve.spec)) == (12, 12, 0, 0)
    assert list(verify(bank, deep=True)) == []
    for group in ("A", "B", "C", "A"):
        rows = "".join(f"p{number:02},test,{group}\n" for number in range(12))
        (twelve.root / "sources.csv").write_text("name,split,group\n" + rows)
        rebuild_bank(twelve.spec)
        assert set(Reader(bank).table("sources")["group"].to_pylist()) == {f"folder/{group}"}
        assert not rebuild_bank(twelve.spec).published


def test_a_shard_of_other_class_names_is_not_taken_over(
    rebuild_bank: Run, twelve: Any, bank: Path, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text("folder: {'2': vehicle}\n")
    rebuild_bank(twelve.spec, classes=tmp_path / "map.yaml")
    (bank / "MANIFEST-000001.json").unlink()
    rebuild_bank(twelve.spec)
    names = Reader(bank).table("segments", columns=["class_name"])["class_name"].to_pylist()
    assert "2" in names
    assert "vehicle" not in names


def test_a_bank_of_another_extraction_is_refused(
    rebuild_bank: Run, twelve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild_bank(twelve.spec)
    monkeypatch.setattr("zeuxis.pipelines.planning.EXTRACTION", 99)
    with pytest.raises(BankError, match="extraction version 99"):
        rebuild_bank(twelve.spec)


def test_another_split_leaves_the_first_in_the_bank(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("train/a", "train/b", "val/c")
    assert counts(rebuild_bank(photos.spec, split=["train"])) == (2, 2, 0, 0)
    assert counts(rebuild_bank(photos.spec, split=["val"])) == (1, 1, 0, 0)
    assert sources(bank) == ["folder/train/a", "folder/train/b", "folder/val/c"]
    assert counts(rebuild_bank(photos.spec)) == (3, 0, 3, 0)


def test_a_source_that_is_moved_out_of_the_chosen_splits_leaves_the_bank(
    rebuild_bank: Run, twelve: Any, bank: Path
) -> None:
    rebuild_bank(twelve.spec, split=["train"])
    (twelve.root / "sources.csv").write_text("name,split,group\np07,test,street\n")
    report = rebuild_bank(twelve.spec, split=["train"])
    assert (report.n_in, report.n_reused, report.n_vanished) == (11, 11, 1)
    assert not Reader(bank).table("sources", {"source": "folder/p07"}).num_rows


def test_a_source_that_is_moved_to_the_test_split_is_there_in_the_bank(
    rebuild_bank: Run, twelve: Any, bank: Path
) -> None:
    rebuild_bank(twelve.spec)
    before = ids(bank)
    (twelve.root / "sources.csv").write_text("name,split,group\np07,test,street\n")
    assert counts(rebuild_bank(twelve.spec)) == (12, 1, 11, 0)
    rows = Reader(bank).table("segments", {"split": "test"}).to_pylist()
    assert {(row["source"], row["group"]) for row in rows} == {("folder/p07", "folder/street")}
    assert ids(bank) == before


# several data sets


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


# settings and banks


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("frame", (24, 40)), ("min_area", 17), ("join_thin", True), ("depth_rule", "ground"), ("keep_sources", False),
        ("patches", True), ("edge_model", "model.yml"),
    ],
)  # fmt: skip
def test_settings_are_fixed_when_a_bank_is_made(
    rebuild_bank: Run, photos: Any, bank: Path, option: str, value: Any
) -> None:
    photos.add("a")
    same = {"frame": (24, 32), "min_area": 16, "join_thin": False, "depth_rule": "none", "keep_sources": True}
    rebuild_bank(photos.spec, **same)
    assert not rebuild_bank(photos.spec, **same | {"frame": [24, 32]}).published
    assert not rebuild_bank(photos.spec, min_area=None, patches=None).published
    photos.add("b")
    with pytest.raises(
        InputError, match=f"--{option.replace('_', '-')}: expected .* made with, found .*; leave it out"
    ):
        rebuild_bank(photos.spec, **same | {option: value})
    assert generations(bank) == [1]
    assert counts(rebuild_bank(photos.spec, min_area=None, patches=None)) == (2, 1, 1, 0)
    assert Reader(bank).geometry == Geometry((24, 32), 16, False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("frame", (7, 100)), ("frame", (96,)), ("min_area", 0), ("shard_size", 0), ("workers", 0),
        ("depth_rule", "sideways"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused_before_anything_is_written(
    rebuild_bank: Run, photos: Any, bank: Path, option: str, value: Any
) -> None:
    photos.add("a")
    with pytest.raises(InputError, match=option):
        rebuild_bank(photos.spec, **{option: value})
    assert not bank.exists()


def test_an_edge_model_that_is_not_there_is_refused_and_no_reject(
    rebuild_bank: Run, photos: Any, tmp_path: Path, bank: Path
) -> None:
    photos.add("a", "b")
    with pytest.raises(InputError, match=r"model\.yml") as caught:
        rebuild_bank(photos.spec, patches=True, edge_model=tmp_path / "model.yml")
    assert not isinstance(caught.value, DatasetError), "it is not the sources' fault"
    assert generations(bank) == []


def test_join_thin_reaches_the_extraction(rebuild_bank: Run, photos: Any, tmp_path: Path) -> None:
    photos.root.mkdir()
    (photos.root / "classes.csv").write_text("id,name,thin\n0,wall,\n1,pole,yes\n")
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 30:33] = 1
    photos.add("a", labels=labels)
    for join, segments in ((False, 3), (True, 2)):
        assert rebuild_bank(photos.spec, tmp_path / str(join), join_thin=join).segments == segments


def test_a_bank_that_someone_else_writes_is_left_alone(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    twelve.add("z")
    with files.writer_lock(bank), pytest.raises(BankBusyError, match=f"process {os.getpid()}"):
        rebuild_bank(twelve.spec)
    assert generations(bank) == [1]
    assert counts(rebuild_bank(twelve.spec)) == (13, 1, 12, 0)


def test_a_folder_that_is_no_bank_is_left_alone(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a")
    bank.mkdir()
    (bank / "thesis.tex").write_text("precious")
    with pytest.raises(NotABankError, match=r"thesis\.tex"):
        rebuild_bank(photos.spec)
    assert [path.name for path in bank.iterdir()] == ["thesis.tex"]
    with pytest.raises(NotABankError, match="a file"):
        rebuild_bank(photos.spec, bank / "thesis.tex")


def test_a_bank_that_cannot_be_made_is_one_sentence(rebuild_bank: Run, photos: Any, tmp_path: Path) -> None:
    photos.add("a")
    (tmp_path / "file").write_text("")
    with pytest.raises(BankError, match="cannot be made"):
        rebuild_bank(photos.spec, tmp_path / "file/bank")


# interruption


class Interrupt:
    """A progress that interrupts as soon as some shards are finished."""

    def __init__(self, bank: Path, shards: int = 1) -> None:
        self.bank, self.shards = bank, shards

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if "segments" in note and len(finished(self.bank)) >= self.shards:
            raise KeyboardInterrupt


def finished(bank: Path) -> dict[str, int]:
    """Name and inode of the shards that are complete."""
    return {path.parent.name: path.parent.stat().st_ino for path in bank.glob("shards/[!.]*/shard.json")}


def settled(bank: Path) -> dict[str, int]:
    """The finished shards once the workers that were not told to stop have ended."""
    deadline = time.monotonic() + 10
    while leftovers(bank) and time.monotonic() < deadline:
        time.sleep(0.02)
    return finished(bank)


@pytest.fixture
def many(photos: Any) -> Any:
    photos.add(*(f"m{number:02}" for number in range(40)))
    return photos


def test_an_interrupted_rebuild_is_taken_up_again(rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path) -> None:
    many.image("m05").write_bytes(b"no picture")
    many.write(many.label("m06"), np.full((1, 1), 1, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    assert generations(bank) == []
    before = settled(bank)
    assert 3 <= len(before) < 40
    report = rebuild_bank(many.spec)  # in one shard, so that what is done twice has another id
    assert counts(report) == (40, 38, 0, 2)
    assert before.items() <= finished(bank).items(), "finished shards are adopted"
    assert leftovers(bank) == []
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_an_interrupted_addition_leaves_the_generation_before(rebuild_bank: Run, many: Any, bank: Path) -> None:
    rebuild_bank(many.spec)
    first = content(bank)
    many.add(*(f"n{number:02}" for number in range(40)))
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    assert (generations(bank), content(bank)) == ([1], first)
    before = settled(bank)
    assert counts(rebuild_bank(many.spec)) == (80, 40, 40, 0)
    assert before.items() <= finished(bank).items()


def test_shards_of_other_settings_are_not_adopted(rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, min_area=50, progress=Interrupt(bank))
    other = settled(bank)
    assert rebuild_bank(many.spec).n_new == 40
    assert not finished(bank).keys() & other.keys()
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_shards_of_files_that_have_changed_are_not_adopted(
    rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank))
    before = settled(bank)
    for number in range(40):
        many.write(many.label(f"m{number:02}"), np.full((48, 64), 1, np.uint8))
    assert rebuild_bank(many.spec).n_new == 40
    assert not finished(bank).keys() & before.keys()
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_a_source_is_not_adopted_beside_a_twin_that_now_comes_first(
    rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    settled(bank)
    for number in range(40):
        for kind in (many.image, many.label):
            kind(f"a{number:02}").write_bytes(kind(f"m{number:02}").read_bytes())
    assert counts(rebuild_bank(many.spec)) == (80, 40, 0, 40)
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


KILLED = """
import sys
from zeuxis.pipelines.rebuild import rebuild
if __name__ == "__main__":
    rebuild(sys.argv[1], sys.argv[2], min_area=16, patches=False, shard_size=1, workers=1)
"""


def test_a_rebuild_that_was_killed_is_taken_up_again(
    rebuild_bank: Run, photos: Any, bank: Path, tmp_path: Path
) -> None:
    names = [f"m{number:03}" for number in range(150)]
    photos.add(*names)
    (tmp_path / "killed.py").write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py"), photos.spec, str(bank)], start_new_session=True
    )
    while process.poll() is None and len(finished(bank)) < 3:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert generations(bank) == []
    before = finished(bank)
    assert 3 <= len(before) < 150
    (bank / "shards/.tmp-1-abc").mkdir()
    assert counts(rebuild_bank(photos.spec, shard_size=50)) == (150, 150, 0, 0)
    assert before.items() <= finished(bank).items()
    assert leftovers(bank) == []
    rebuild_bank(photos.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


# real photographs


@pytest.mark.realdata
def test_a_dozen_nyu_photographs_equal_what_plain_means_find(
    real_data: Path, tmp_path: Path, bank: Path, dask_address: str
) -> None:
    root = tmp_path / "nyu"
    for folder, suffix in (("images", "jpg"), ("labels", "png"), ("depths", "png")):
        (root / folder).mkdir(parents=True)
        for number in range(0, 1200, 100):
            name = f"{number:04}.{suffix}"
            (root / folder / name).symlink_to(real_data / "nyu" / folder / name)
    report = rebuild(f"nyu:{root}", bank, patches=False, scheduler=dask_address, shard_size=5)
    assert counts(report) == (12, 12, 0, 0)
    reader = Reader(bank)
    assert reader.geometry == Geometry((384, 512), 64, False)
    rows = {row["segment_id"]: row for row in reader.table("segments").to_pylist()}
    hashes = {row["source"]: row["source_id"] for row in reader.table("sources").to_pylist()}
    expected = {}
    for source, source_id in hashes.items():
        name = source.removeprefix("nyu/")
        image = np.array(Image.open(root / "images" / f"{name}.jpg"))
        labels = np.array(Image.open(root / "labels" / f"{name}.png"))
        for class_id in set(np.unique(labels).tolist()) - {39}:
            components, count = ndimage.label(labels == class_id, np.ones((3, 3)))
            framed = cv2.resize(components.astype(np.float32), (512, 384), interpolation=cv2.INTER_NEAREST_EXACT)
            areas = np.bincount(framed.astype(int).ravel(), minlength=count + 1)
            for component in range(1, count + 1):
                if areas[component] >= 64:
                    here = components == component
                    id = segment_id(source_id, reader.classes[class_id].name, int(np.flatnonzero(here)[0]))
                    expected[id] = (source, class_id, areas[component])
                    if component == 1:
                        shard, _ = reader.find_segment(id)
                        inside = reader.segment_mask(shard, id)
                        assert np.array_equal(reader.segment_pixels(shard, id)[inside], image[here])
    assert {id: (row["source"], row["class_id"], row["area"]) for id, row in rows.items()} == expected
    assert len(expected) > 100
