"""The next rebuild reads what is new or changed, keeps the rest as it is, and lets go what is gone, not too much."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from nights import Run, content, counts, ids, night, reading, rejects, shard_files, sources

from zeuxis.pipelines.rebuild import RebuildReport
from zeuxis.storage.errors import DatasetError
from zeuxis.storage.manifest import generations, load_current, verify
from zeuxis.storage.reader import Reader
from zeuxis.storage.stamps import read_stamps

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


def test_unchanged_data_publishes_nothing_and_says_so(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    first = rebuild_bank(twelve.spec)
    before = {path.name: path.stat().st_mtime_ns for path in bank.glob("MANIFEST*")}, shard_files(bank)
    with reading() as names:
        report = rebuild_bank(twelve.spec, workers=None, scheduler="tcp://127.0.0.1:9")  # no cluster is asked
    assert names == []
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


def test_a_touched_file_is_read_once_and_is_no_news(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    before, shards = content(bank), shard_files(bank)
    for name in NAMES[:5]:
        os.utime(twelve.image(name), (1, 1))
    with reading() as names:
        report = rebuild_bank(twelve.spec)
    assert (counts(report), report.published, sorted(names)) == ((12, 0, 12, 0), True, NAMES[:5])
    assert (content(bank), shard_files(bank)) == (before, shards)
    assert read_stamps(bank, load_current(bank).stamps).keys() == {f"folder/{name}" for name in NAMES[:5]}
    os.utime(twelve.label("p07"), (1, 1))
    with reading() as names:
        rebuild_bank(twelve.spec)
        assert not rebuild_bank(twelve.spec).published
    assert names == ["p07"], "the stamps of the others are known by now"
    twelve.write(twelve.label("p00"), np.full((48, 64), 9, np.uint8))
    twelve.remove("p01")
    rebuild_bank(twelve.spec)
    with reading() as names:
        assert not rebuild_bank(twelve.spec).published
    assert names == []
    left = {f"folder/p{number:02}" for number in (2, 3, 4, 7)}
    assert read_stamps(bank, load_current(bank).stamps).keys() == left


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
    with reading() as names:
        assert counts(rebuild_bank(photos.spec, rehash=True)) == (2, 1, 1, 0)
    assert names == ["a", "b"]
    assert not rebuild_bank(photos.spec, rehash=True).published
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


def test_a_collected_shard_that_is_there_already_keeps_the_hashes_of_its_own_files(photos: Any, bank: Path):
    photos.add("a", "b")
    night(photos.spec, bank, shard_size=1)
    first = photos.image("a").read_bytes()
    photos.write(photos.image("a"), np.full((48, 64, 3), 7, np.uint8))
    night(photos.spec, bank, shard_size=1)
    photos.image("a").write_bytes(first)
    night(photos.spec, bank, shard_size=1, collect=True)
    assert list(verify(bank, deep=True)) == []


def test_a_page_that_cannot_be_drawn_costs_no_generation(photos: Any, bank: Path, monkeypatch: Any):
    def broken(*_: Any) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("zeuxis.pipelines.rebuild_report.rebuild_report", broken)
    photos.add("a", "b")
    with pytest.warns(UserWarning, match="cannot be drawn .ValueError: no such font"):
        report = night(photos.spec, bank, report=True)
    assert (report.published, report.generation, report.report) == (True, 1, None)
