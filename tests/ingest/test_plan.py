"""The plan of a rebuild: every listed source is in one class, by listings and stamps alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.plan import (
    Known,
    KnownReject,
    KnownSource,
    Plan,
    Survey,
    known_loss,
    make_plan,
    only_rejects,
    survey_sources,
)

NOTHING = Known()


@pytest.fixture(autouse=True)
def no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.ingest.datasets.base.Dataset.read", lambda *_: pytest.fail("was read"))


def surveyed(photos: Any, known: Known = NOTHING, **options: Any) -> Survey:
    return survey_sources(open_dataset(photos.spec), "folder", known, **options)


def planned(photos: Any, known: Known = NOTHING, staying: dict[str, str] | None = None, **options: Any) -> Plan:
    chosen = {name: options.pop(name) for name in ("retry", "forgotten", "anew") if name in options}
    survey = surveyed(photos, known, **options)
    plan = make_plan(survey, {**(staying or {}), **survey.staying}, **chosen)
    assert plan.n_in == len(survey.refs)
    return plan


def held(photos: Any, **rejects: str) -> Known:
    """What a bank holds that took in all of the folder: sources in shard `s`, rejects, by name and reason, in `r`."""
    plan = planned(photos)
    sources, refused = (
        {},
        {row.source: KnownReject(None, row.stamp, row.reason, row.message, "r") for row in plan.rejects},
    )
    for due in plan.due:
        name, id = f"folder/{due.ref.name}", f"id of {due.ref.name}"
        if due.ref.name in rejects:
            refused[name] = KnownReject(id, due.stamp, rejects[due.ref.name], "said", "r")
        else:
            sources[name] = KnownSource(id, due.stamp, due.ref.split, f"folder/{due.ref.group}", "s")
    return Known(sources, refused)


def names(plan: Plan) -> list[str]:
    return [due.ref.name for due in plan.due]


@pytest.fixture
def three(photos: Any) -> Any:
    photos.add("a", "b", "test/c")
    return photos


ALL_THREE = ["folder/a", "folder/b", "folder/test/c"]


def test_all_of_an_unknown_data_set_is_due_with_its_stamp(three: Any) -> None:
    plan = planned(three)
    assert names(plan) == ["a", "b", "test/c"]
    dataset = open_dataset(three.spec)
    assert [due.stamp for due in plan.due] == [dataset.stamp(due.ref) for due in plan.due]
    assert {due.held for due in plan.due} == {""}
    assert (plan.reused, plan.rejects, plan.vanished) == ([], [], [])


def test_nothing_is_due_where_stamps_are_equal(three: Any) -> None:
    plan = planned(three, held(three))
    assert (plan.reused, plan.due) == (ALL_THREE, [])


def test_a_touched_file_is_due_with_the_hash_that_the_bank_holds(three: Any) -> None:
    known = held(three)
    os.utime(three.image("a"), (1, 1))
    plan = planned(three, known)
    assert [(due.ref.name, due.held) for due in plan.due] == [("a", "id of a")]
    assert plan.reused == ["folder/b", "folder/test/c"]


def test_all_is_due_where_no_stamp_is_trusted(three: Any) -> None:
    plan = planned(three, held(three), rehash=True)
    assert [due.held for due in plan.due] == ["id of a", "id of b", "id of test/c"]


def test_all_is_due_where_all_is_made_anew(three: Any) -> None:
    plan = planned(three, held(three), anew=True)
    assert (names(plan), plan.reused) == (["a", "b", "test/c"], [])


def test_a_source_that_moves_to_another_split_or_group_is_taken_in_anew(three: Any) -> None:
    known = held(three)
    (three.root / "sources.csv").write_text("name,split,group\na,test,\nb,,street\n")
    plan = planned(three, known)
    assert [(due.ref.name, due.ref.split, due.ref.group, due.held) for due in plan.due] == [
        ("a", "test", "a", ""),
        ("b", "train", "street", ""),
    ]
    assert plan.vanished == []


def test_a_file_that_is_gone_has_vanished(three: Any) -> None:
    known = held(three)
    three.remove("b")
    plan = planned(three, known)
    assert (plan.vanished, plan.n_in) == (["folder/b"], 2)


def test_a_renamed_file_vanishes_and_is_due_under_its_new_name(three: Any) -> None:
    known = held(three)
    three.image("b").rename(three.image("z"))
    three.label("b").rename(three.label("z"))
    plan = planned(three, known)
    assert (names(plan), plan.vanished, plan.rejects) == (["z"], ["folder/b"], [])


def test_sources_of_other_splits_neither_count_nor_vanish(three: Any) -> None:
    plan = planned(three, held(three), splits=["test"])
    assert (plan.n_in, plan.reused, plan.vanished) == (1, ["folder/test/c"], [])


def test_a_source_that_leaves_the_chosen_splits_vanishes(three: Any) -> None:
    known = held(three)
    (three.root / "sources.csv").write_text("name,split,group\na,test,\n")
    plan = planned(three, known, splits=["train"])
    assert (plan.vanished, plan.reused) == (["folder/a"], ["folder/b"])


def test_what_stays_is_what_is_unchanged_or_of_another_split(three: Any) -> None:
    known = held(three)
    os.utime(three.image("a"), (1, 1))
    assert surveyed(three, known).staying == {"id of b": "folder/b", "id of test/c": "folder/test/c"}
    assert surveyed(three, known, splits=["train"]).staying.keys() == {"id of b", "id of test/c"}


def test_a_twin_stays_a_reject_while_its_first_stays_wherever_that_is(three: Any) -> None:
    known = held(three, b="duplicate")
    assert planned(three, known, {"id of b": "nyu/0007"}).still_rejected == ["folder/b"]
    assert names(planned(three, known)) == ["b"]


def test_a_reject_is_due_when_its_stamp_changes_and_not_before(three: Any) -> None:
    known = held(three, a="unreadable-image")
    assert planned(three, known).still_rejected == ["folder/a"]
    os.utime(three.image("a"), (1, 1))
    plan = planned(three, known)
    assert [(due.ref.name, due.held) for due in plan.due] == [("a", "")]


def test_a_reject_whose_bytes_nobody_saw_is_due_each_time_unless_it_kills_workers(three: Any) -> None:
    known = held(three, a="unreadable-file", b="worker-died")
    rejects = {name: row._replace(source_id=None) for name, row in known.rejects.items()}
    plan = planned(three, Known(known.sources, rejects))
    assert (names(plan), plan.still_rejected) == (["a"], ["folder/b"])


@pytest.mark.parametrize(("retry", "due"), [(["failed"], ["a", "b"]), (["all-void"], ["a"]), (["crashed"], [])])
def test_rejects_are_due_when_they_are_asked_for(three: Any, retry: list[str], due: list[str]) -> None:
    assert names(planned(three, held(three, a="all-void", b="unknown-id"), retry=retry)) == due


def test_only_what_is_asked_for_is_touched_in_such_a_run(three: Any) -> None:
    three.add("d", "e", "f")
    known = held(three, a="all-void", b="unknown-id")
    three.label("d").unlink()
    three.remove("e")
    os.utime(three.image("f"), (1, 1))
    os.utime(three.image("b"), (1, 1))
    survey = surveyed(three, known, only={*known.sources, *known.rejects})
    plan = only_rejects(make_plan(survey, {}, retry=["all-void"]), survey, ["all-void"])
    assert (names(plan), plan.still_rejected) == (["a"], ["folder/b"])
    assert sorted(plan.reused) == ["folder/d", "folder/f", "folder/test/c"]
    assert (plan.rejects, plan.vanished, plan.vanished_rejects) == ([], [], [])
    assert plan.n_in == len(survey.refs) == 5


def test_a_missing_label_map_is_a_reject_that_the_listing_shows(three: Any) -> None:
    known = held(three)
    three.label("b").unlink()
    plan = planned(three, known)
    assert [(row.source, row.reason) for row in plan.rejects] == [("folder/b", "missing-label")]
    survey = surveyed(three, known)
    assert known_loss(survey, plan) == ["folder/b"]
    again = planned(three, held(three))
    assert (again.rejects, again.still_rejected) == ([], ["folder/b"])


def test_a_reject_for_another_reason_replaces_the_old_one(three: Any) -> None:
    three.label("b").unlink()
    known = held(three)
    three.add("b")
    three.image("b").unlink()
    plan = planned(three, known)
    assert [(row.source, row.reason) for row in plan.rejects] == [("folder/b", "missing-image")]
    assert plan.still_rejected == []


def test_a_reject_whose_files_are_gone_is_gone(three: Any) -> None:
    three.label("b").unlink()
    known = held(three)
    three.image("b").unlink()
    plan = planned(three, known)
    assert (plan.vanished_rejects, plan.vanished, plan.n_in) == (["folder/b"], [], 2)


def test_a_forgotten_name_is_not_due_whatever_it_holds(three: Any) -> None:
    three.write(three.label("a"), np.zeros((2, 2), np.uint8))
    plan = planned(three, forgotten=["folder/a"])
    assert (plan.forgotten, names(plan)) == (["folder/a"], ["b", "test/c"])


def test_a_source_is_not_listed_twice(three: Any, tmp_path: Path) -> None:
    three.write(three.image("a").with_suffix(".bmp"), np.zeros((2, 2, 3), np.uint8))
    plan = planned(three)
    assert [(row.source, row.reason) for row in plan.rejects] == [("folder/a", "duplicate-name")]
