"""The plan of a rebuild: every listed source is in one class, and only what changed is to be done."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.plan import Known, KnownReject, KnownSource, Plan, make_plan, survey_sources

NOTHING = Known()


def planned(photos: Any, known: Known = NOTHING, taken: dict[str, str] | None = None, **options: Any) -> Plan:
    retry = options.pop("retry", False)
    survey = survey_sources(open_dataset(photos.spec), "folder", known, **options)
    taken = {} if taken is None else taken
    taken |= survey.staying
    plan = make_plan(survey, taken, retry=retry)
    assert plan.n_in == len(survey.looks)
    return plan


def held(photos: Any) -> Known:
    """What a bank holds that took in all of the folder: sources in shard `s`, rejects in shard `r`."""
    dataset, plan = open_dataset(photos.spec), planned(photos)
    refs = {new.ref.name: new for new in plan.new}
    sources = {
        f"folder/{name}": KnownSource(new.source_id, new.stamp, new.ref.split, f"folder/{new.ref.group}", "s")
        for name, new in refs.items()
    }
    rejects = {row.source: KnownReject(row.source_id, row.reason, row.message, "r") for row in plan.rejects}
    assert len(sources) + len(rejects) == len(dataset.sources())
    return Known(sources, rejects)


def names(plan: Plan) -> list[str]:
    return [new.ref.name for new in plan.new]


def same_size_and_time(path: Path, data: bytes) -> None:
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def three(photos: Any) -> Any:
    photos.add("a", "b", "test/c")
    return photos


def test_all_of_an_unknown_data_set_is_new_with_its_size(three: Any) -> None:
    plan = planned(three)
    assert names(plan) == ["a", "b", "test/c"]
    assert {new.size for new in plan.new} == {(48, 64)}
    assert (plan.reused, plan.masked, plan.rejects, plan.vanished) == ([], [], [], [])


def test_nothing_is_read_where_stamps_are_equal(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = held(three)
    monkeypatch.setattr("zeuxis.ingest.datasets.base.Dataset.read", lambda *_: pytest.fail("was read"))
    plan = planned(three, known)
    assert plan.reused == ["folder/a", "folder/b", "folder/test/c"]
    assert (plan.new, plan.masked) == ([], [])


def test_a_touched_file_is_hashed_and_found_unchanged(three: Any) -> None:
    known = held(three)
    os.utime(three.image("a"), (1, 1))
    plan = planned(three, known)
    assert plan.reused == ["folder/a", "folder/b", "folder/test/c"]
    assert plan.masked == []


def test_only_rehash_finds_a_change_that_size_and_time_hide(three: Any) -> None:
    known = held(three)
    data = three.label("a").read_bytes()
    same_size_and_time(three.label("a"), data[:-1] + bytes([data[-1] ^ 1]))
    assert planned(three, known).new == []
    plan = planned(three, known, rehash=True)
    assert names(plan) == ["a"]
    assert plan.masked == [("s", "folder/a")]
    assert plan.reused == ["folder/b", "folder/test/c"]


def test_a_source_that_moves_to_another_split_or_group_is_taken_in_anew(three: Any) -> None:
    known = held(three)
    (three.root / "sources.csv").write_text("name,split,group\na,test,\nb,,street\n")
    plan = planned(three, known)
    assert [(new.ref.name, new.ref.split, new.ref.group) for new in plan.new] == [
        ("a", "test", "a"),
        ("b", "train", "street"),
    ]
    assert plan.masked == [("s", "folder/a"), ("s", "folder/b")]
    assert plan.vanished == []


def test_a_file_that_is_gone_has_vanished(three: Any) -> None:
    known = held(three)
    three.remove("b")
    plan = planned(three, known)
    assert plan.vanished == ["folder/b"]
    assert plan.masked == [("s", "folder/b")]
    assert plan.n_in == 2


def test_a_renamed_file_vanishes_and_comes_in_under_its_new_name(three: Any) -> None:
    known = held(three)
    three.image("b").rename(three.image("z"))
    three.label("b").rename(three.label("z"))
    plan = planned(three, known)
    assert (names(plan), plan.vanished, plan.rejects) == (["z"], ["folder/b"], [])


def test_sources_of_other_splits_neither_count_nor_vanish(three: Any) -> None:
    plan = planned(three, held(three), splits=["test"])
    assert (plan.n_in, plan.reused, plan.vanished, plan.masked) == (1, ["folder/test/c"], [], [])


def test_a_twin_of_a_source_of_another_split_is_a_duplicate_all_the_same(three: Any) -> None:
    known = held(three)
    three.write(three.image("test/d"), np.zeros((2, 2, 3), np.uint8))
    three.image("test/d").write_bytes(three.image("a").read_bytes())
    three.label("test/d").write_bytes(three.label("a").read_bytes())
    plan = planned(three, known, splits=["test"])
    assert [(row.source, row.reason) for row in plan.rejects] == [("folder/test/d", "duplicate")]


def test_equal_bytes_are_one_source_and_the_first_of_them_counts(three: Any) -> None:
    three.image("b").write_bytes(three.image("a").read_bytes())
    three.label("b").write_bytes(three.label("a").read_bytes())
    plan = planned(three)
    assert names(plan) == ["a", "test/c"]
    [row] = plan.rejects
    assert (row.source, row.reason) == ("folder/b", "duplicate")
    assert "folder/a" in row.message
    known = held(three)
    assert planned(three, known).still_rejected == ["folder/b"]
    three.remove("a")
    plan = planned(three, known)
    assert (names(plan), plan.masked_rejects) == (["b"], [("r", "folder/b")])


def test_bytes_that_another_data_set_has_brought_are_a_duplicate(three: Any) -> None:
    id = planned(three).new[1].source_id
    plan = planned(three, taken={id: "nyu/0007"})
    assert [row.source for row in plan.rejects] == ["folder/b"]
    assert "nyu/0007" in plan.rejects[0].message


def test_a_source_whose_twin_changes_comes_in(three: Any) -> None:
    three.image("b").write_bytes(three.image("a").read_bytes())
    three.label("b").write_bytes(three.label("a").read_bytes())
    known = held(three)
    three.add("a", labels=np.ones((48, 64), np.uint8))
    plan = planned(three, known)
    assert names(plan) == ["a", "b"]
    assert plan.masked == [("s", "folder/a")]


def test_a_reject_stays_one_while_its_bytes_do(three: Any) -> None:
    three.image("a").write_bytes(b"no picture")
    three.label("b").unlink()
    known = held(three)
    assert {name: row.reason for name, row in known.rejects.items()} == {
        "folder/a": "unreadable-image",
        "folder/b": "missing-label",
    }
    for path in (three.image("a"), three.image("b")):
        os.utime(path, (1, 1))
    plan = planned(three, known, rehash=True)
    assert plan.still_rejected == ["folder/a", "folder/b"]
    assert (plan.rejects, plan.masked_rejects) == ([], [])


def test_a_reject_is_tried_again_when_it_has_changed(three: Any) -> None:
    three.image("a").write_bytes(b"no picture")
    three.label("b").unlink()
    known = held(three)
    three.add("a", "b")
    plan = planned(three, known)
    assert names(plan) == ["a", "b"]
    assert plan.masked_rejects == [("r", "folder/a"), ("r", "folder/b")]


def test_a_reject_for_another_reason_replaces_the_old_one(three: Any) -> None:
    three.label("b").unlink()
    known = held(three)
    three.add("b")
    three.image("b").unlink()
    plan = planned(three, known)
    assert [(row.source, row.reason) for row in plan.rejects] == [("folder/b", "missing-image")]
    assert plan.masked_rejects == [("r", "folder/b")]


def test_a_reject_whose_files_are_gone_is_forgotten(three: Any) -> None:
    three.label("b").unlink()
    known = held(three)
    three.image("b").unlink()
    plan = planned(three, known)
    assert (plan.masked_rejects, plan.vanished, plan.n_in) == ([("r", "folder/b")], [], 2)


def test_what_only_decoding_refused_is_tried_again_when_the_classes_have_changed(three: Any) -> None:
    known = held(three)
    source = known.sources.pop("folder/a")
    known.rejects["folder/a"] = KnownReject(source.source_id, "unknown-id", "said", "r")
    assert planned(three, known).still_rejected == ["folder/a"]
    plan = planned(three, known, retry=True)
    assert (names(plan), plan.masked_rejects) == (["a"], [("r", "folder/a")])


def test_a_changed_source_that_cannot_be_used_any_more_leaves_the_bank(three: Any) -> None:
    known = held(three)
    three.image("a").write_bytes(b"")
    plan = planned(three, known)
    assert plan.masked == [("s", "folder/a")]
    assert [row.reason for row in plan.rejects] == ["unreadable-image"]


def test_an_unexpected_error_while_looking_concerns_one_source(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(data: bytes, name: object) -> tuple[int, int]:
        if str(name).endswith("b.png"):
            raise KeyError("surprise")
        return 1, 1

    monkeypatch.setattr("zeuxis.ingest.plan.picture_size", size)
    plan = planned(three)
    assert names(plan) == ["a", "test/c"]
    assert plan.rejects[0].reason == "unreadable-image"
    assert "KeyError" in plan.rejects[0].message


def test_progress_counts_every_source(three: Any) -> None:
    told: list[tuple[int, int]] = []
    planned(three, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
