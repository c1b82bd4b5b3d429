"""Settings that change make anew what depends on them, and give the bank that they would have given at once."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from nights import all_files, calls, clean, content, counts, is_sound, night, reading, rejects, sources

from zeuxis.pipelines.rebuild import rebuild
from zeuxis.storage.errors import BankError, InputError
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import generations, load_current
from zeuxis.storage.reader import Reader

DECODE = "zeuxis.ingest.datasets.base:Dataset.decode"
WORK = (
    DECODE, "zeuxis.ingest.extract.key_patches", "zeuxis.ingest.extract.orderings",
    "zeuxis.ingest.extract.describe_all", "zeuxis.ingest.extract.find_segments",
)  # fmt: skip
ALL = {"decode": 7, "key_patches": 7, "orderings": 7, "describe_all": 7, "find_segments": 7}


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def seven(photos: Any) -> Any:
    """Seven sources, three of them with depth, a thin class, a reject and one without a label map."""
    photos.root.mkdir()
    (photos.root / "classes.csv").write_text("id,name,thin\n0,sky,\n1,road,\n2,car,\n3,pole,yes\n")
    pole = np.zeros((48, 64), np.uint8)
    pole[:, 30:33] = 3
    photos.add("p0", labels=pole)
    photos.add("p1", "p2", "p3", "cut", "nolabel")
    random = np.random.default_rng(1)
    for name in ("d0", "d1", "d2"):
        photos.add(name, depth=random.integers(1, 9000, (48, 64)).astype(np.uint16))
    photos.image("cut").write_bytes(photos.image("cut").read_bytes()[:-60])
    photos.label("nolabel").unlink()
    return photos


def without(work: Mapping[str, int], **options: int) -> dict[str, int]:
    return {name: count for name, count in {**work, **options}.items() if count}


DEFAULTS: dict[str, Any] = {
    "frame": (48, 64), "min_area": 16, "join_thin": False, "patches": False, "depth_rule": "none", "keep_sources": True,
}  # fmt: skip
"""A frame in which neighbours touch, so that there are orderings."""
CHANGES: list[tuple[dict[str, Any], dict[str, Any], dict[str, int]]] = [
    ({"patches": False}, {"patches": True}, {"decode": 7, "key_patches": 7}),
    ({"patches": True}, {"patches": False}, {"decode": 7}),
    ({"depth_rule": "none"}, {"depth_rule": "ground"}, {"decode": 7, "orderings": 7, "find_segments": 7}),
    ({"depth_rule": "ground"}, {"depth_rule": "none"}, {"decode": 7, "orderings": 7, "find_segments": 7}),
    ({"keep_sources": True}, {"keep_sources": False}, {}),
    ({"keep_sources": False}, {"keep_sources": True}, {}),
    ({"keep_sources": False}, {"keep_sources": True, "depth_rule": "ground", "patches": True},
     {"decode": 7, "orderings": 7, "find_segments": 7, "key_patches": 7}),
    ({"patches": True}, {"patches": True, "frame": (32, 40)}, ALL),
    ({"patches": True}, {"patches": True, "min_area": 200}, ALL),
    ({"patches": True}, {"patches": True, "join_thin": True}, ALL),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "work"), CHANGES)
def test_a_change_gives_the_bank_of_the_new_settings_and_does_only_what_depends_on_them(
    seven: Any, bank: Path, tmp_path: Path, before: Any, after: Any, work: Any
) -> None:
    before = DEFAULTS | before
    night(seven.spec, bank, shard_size=3, **before)
    old = content(bank)
    with calls(*WORK) as done:
        report = night(seven.spec, bank, **after)
    anew = "find_segments" in work and "describe_all" in work
    assert (report.published, counts(report)) == (True, (9, 7, 0, 2) if anew else (9, 0, 7, 2))
    assert {name: count for name, count in done.items() if name != "decode"} == without(work, decode=0)
    assert done["decode"] == work.get("decode", 0) + anew, "a reject is tried again where everything is made anew"
    assert content(bank) == clean(seven.spec, tmp_path / "clean", **{**before, **after}) != old
    assert load_current(bank).settings == load_current(tmp_path / "clean").settings
    assert rejects(bank) == {"folder/cut": "unreadable-image", "folder/nolabel": "missing-label"}
    assert is_sound(bank)
    with reading() as names:
        assert not night(seven.spec, bank, **after).published
        assert not night(seven.spec, bank).published, "what is not said is as it was"
    assert names == []
    night(seven.spec, bank, **before)
    assert content(bank) == old, "there and back again"


def test_what_a_change_needs_no_file_for_reads_none(seven: Any, bank: Path) -> None:
    night(seven.spec, bank)
    with reading() as names:
        night(seven.spec, bank, keep_sources=False)
    assert names == []
    with pytest.raises(BankError, match="keeps no sources"):
        Reader(bank).photograph("folder/p0")
    with reading() as names:
        night(seven.spec, bank, keep_sources=True)
    assert len(names) == 7
    assert Reader(bank).photograph("folder/p0").shape == (48, 64, 3)


def test_news_and_changes_of_settings_in_one_night(seven: Any, bank: Path, tmp_path: Path) -> None:
    night(seven.spec, bank, shard_size=3)
    seven.add("new", "cut")
    seven.remove("p0")
    seven.write(seven.label("p1"), np.full((48, 64), 1, np.uint8))
    report = night(seven.spec, bank, allow_shrink=True, depth_rule="ground", patches=True)
    assert (counts(report), report.n_vanished) == ((9, 3, 5, 1), 1)
    assert content(bank) == clean(seven.spec, tmp_path / "clean", depth_rule="ground", patches=True)
    assert is_sound(bank)


def test_depth_that_is_read_otherwise_orders_anew_in_its_own_data_set(
    seven: Any, more_photos: Any, bank: Path, tmp_path: Path
) -> None:
    more_photos.add("m0")
    night(seven.spec, bank, shard_size=3, **DEFAULTS)
    own = {entry.id for entry in load_current(bank).shards}
    night(more_photos.spec, bank, shard_size=3, **DEFAULTS)
    others = {entry.id for entry in load_current(bank).shards} - own
    seven.write(seven.root / "depths/d2.png", np.full((48, 64), 7, np.uint16))
    night(seven.spec, bank)
    (seven.root / "depth.yaml").write_text("stereo: {baseline_m: 0.22, focal_px: 2262.5, offset: 8}")
    for part in ({"retry": ["failed"]}, {"split": ["val"]}):
        with pytest.raises(InputError, match=r"split: expected|depth of folder, which is read otherwise.*leave out --"):
            night(seven.spec, bank, **part)
    with calls(*WORK) as done:
        assert counts(night(seven.spec, bank, split=["train"], allow_shrink=True)) == (9, 2, 4, 3)
    assert (done["orderings"], done["describe_all"]) == (2, 2), "what has no depth is left alone"
    assert rejects(bank)["folder/d2"] == "empty-depth", "what cannot be read now stops nobody else"
    assert others & {entry.id for entry in load_current(bank).shards}, "the other data set is left alone"
    assert is_sound(bank)
    origins = Reader(bank).table("orderings", columns=["source", "origin"]).to_pylist()
    assert {row["origin"] for row in origins if row["source"] == "folder/d0"} == {"disparity"}
    assert not night(seven.spec, bank).published
    clean([seven.spec, more_photos.spec], tmp_path / "clean", **DEFAULTS)
    assert content(bank) == content(tmp_path / "clean")


def test_a_bank_of_another_extraction_is_made_anew(
    seven: Any, bank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    night(seven.spec, bank)
    monkeypatch.setattr("zeuxis.ingest.extract.EXTRACTION", 99)
    with calls(*WORK) as done:
        assert counts(night(seven.spec, bank)) == (9, 7, 0, 2)
    assert done["describe_all"] == 7
    assert load_current(bank).settings["extraction"] == 99
    assert not night(seven.spec, bank).published
    assert len(sources(bank)) == 7


def test_the_stamps_of_touched_files_survive_a_change(seven: Any, bank: Path) -> None:
    import os

    night(seven.spec, bank)
    os.utime(seven.image("p0"), (1, 1))
    night(seven.spec, bank)
    night(seven.spec, bank, depth_rule="ground")
    with reading() as names:
        assert not night(seven.spec, bank).published
    assert names == []


@pytest.mark.parametrize("change", [{"depth_rule": "ground"}, {"min_area": 40}, {"patches": True}])
def test_a_change_that_would_reach_a_part_of_the_bank_is_refused(
    seven: Any, more_photos: Any, bank: Path, change: Any
) -> None:
    seven.add("test/t0")
    more_photos.add("m0", "m1")
    specs = [seven.spec, more_photos.spec]
    night(specs, bank)
    before = all_files(bank)
    for dataset, options, words in (
        (seven.spec, {}, f"no --dataset {more_photos.spec}"),
        (specs, {"split": ["train"]}, "--split"),
        (specs, {"retry": ["failed"]}, "--retry"),
    ):
        with pytest.raises(InputError, match=words):
            night(dataset, bank, **change, **options)
        assert not night(dataset, bank, **options).published
    assert all_files(bank) == before
    assert night(specs, bank, **change).published


def test_a_class_map_goes_on_through_a_change(seven: Any, bank: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("folder: {car: vehicle}\n")
    night(seven.spec, bank, classes=tmp_path / "map.yaml")
    for change in ({"depth_rule": "ground"}, {"min_area": 40}):
        assert night(seven.spec, bank, **change).published
        names = set(Reader(bank).table("segments", columns=["class_name"])["class_name"].to_pylist())
        assert "vehicle" in names
        assert "car" not in names
    same = {"depth_rule": "ground", "min_area": 40, "classes": tmp_path / "map.yaml"}
    assert content(bank) == clean(seven.spec, tmp_path / "clean", **same)


def test_settings_that_are_given_again_are_no_change(seven: Any, bank: Path) -> None:
    same = {"frame": (24, 32), "min_area": 16, "join_thin": False, "depth_rule": "none", "keep_sources": True}
    night(seven.spec, bank, **same)
    assert not night(seven.spec, bank, **same | {"frame": [24, 32]}).published
    seven.add("b")
    assert counts(night(seven.spec, bank)) == (10, 1, 7, 2)
    assert Reader(bank).geometry == Geometry((24, 32), 16, False)


def test_a_source_that_goes_while_it_is_read_costs_no_source(seven: Any, bank: Path) -> None:
    """What the bank holds of it is not lost: nothing is published, and the next run goes on."""
    night(seven.spec, bank)
    before = content(bank)

    def spoil(done: int, total: int, note: str = "") -> None:
        if note == "starting workers":
            seven.write(seven.label("p0"), np.full((48, 64), 1, np.uint8))

    with pytest.raises(BankError, match="run the rebuild again"):
        night(seven.spec, bank, depth_rule="ground", progress=spoil)
    assert (generations(bank), content(bank)) == ([1], before)
    assert counts(night(seven.spec, bank, depth_rule="ground")) == (9, 1, 6, 2)


def test_a_change_made_by_workers_is_the_same(seven: Any, bank: Path, tmp_path: Path, dask_address: str) -> None:
    night(seven.spec, bank, shard_size=2)
    report = rebuild(seven.spec, bank, scheduler=dask_address, depth_rule="ground", report=False)
    assert counts(report) == (9, 0, 7, 2)
    assert content(bank) == clean(seven.spec, tmp_path / "clean", depth_rule="ground")
