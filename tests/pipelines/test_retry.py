"""A reject is tried again when its bytes change or it is asked for; what is forgotten never comes back by itself."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from nights import all_files, clean, content, counts, ids, is_sound, night, reading, rejects, sources, twin

from zeuxis.ingest.extract import extract
from zeuxis.pipelines.forget import forget
from zeuxis.pipelines.generations import rollback
from zeuxis.storage.errors import InputError, ZeuxisError
from zeuxis.storage.manifest import load_current


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def mixed(photos: Any) -> Any:
    """Ten good sources, one without a label map, two that cannot be decoded, one that changes under the reader."""
    photos.add(*(f"p{number}" for number in range(10)), "cut", "fake", "nolabel")
    photos.image("cut").write_bytes(photos.image("cut").read_bytes()[:-60])
    photos.label("fake").write_bytes(b"text")
    photos.label("nolabel").unlink()
    return photos


BAD = {"folder/cut": "unreadable-image", "folder/fake": "unreadable-label", "folder/nolabel": "missing-label"}


def test_a_reject_is_not_read_again(mixed: Any, bank: Path) -> None:
    assert counts(night(mixed.spec, bank)) == (13, 10, 0, 3)
    assert rejects(bank) == BAD
    with reading() as names:
        report = night(mixed.spec, bank)
    assert (names, report.published, counts(report)) == ([], False, (13, 0, 10, 3))
    assert report.reasons == {"unreadable-image": 1, "unreadable-label": 1, "missing-label": 1}


def test_a_reject_is_read_again_when_its_files_change_and_only_it(mixed: Any, bank: Path) -> None:
    night(mixed.spec, bank)
    mixed.add("cut")
    with reading() as names:
        assert counts(night(mixed.spec, bank)) == (13, 1, 10, 2)
    assert names == ["cut"]
    assert "folder/cut" in sources(bank)
    assert rejects(bank) == {name: reason for name, reason in BAD.items() if name != "folder/cut"}


def test_a_touched_reject_is_read_once(mixed: Any, bank: Path) -> None:
    night(mixed.spec, bank)
    before = content(bank)
    os.utime(mixed.image("cut"), (1, 1))
    with reading() as names:
        night(mixed.spec, bank)
        assert not night(mixed.spec, bank).published
    assert names == ["cut"]
    assert (content(bank), rejects(bank)) == (before, BAD)


@pytest.mark.parametrize(
    ("retry", "read"),
    [
        (["failed"], ["cut", "fake"]),
        (["unreadable-label"], ["fake"]),
        (["unreadable-label", "missing-label"], ["fake"]),
    ],
)
def test_rejects_that_are_asked_for_are_tried_again_and_stay_as_they_are(
    mixed: Any, bank: Path, retry: list[str], read: list[str]
) -> None:
    night(mixed.spec, bank)
    before = all_files(bank)
    with reading() as names:
        report = night(mixed.spec, bank, retry=retry)
    assert (sorted(names), counts(report), report.published) == (read, (13, 0, 10, 3), False)
    assert all_files(bank) == before


def test_what_crashed_comes_in_when_it_is_asked_for(
    mixed: Any, bank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def extract_all_but(ref: Any, *args: Any) -> Any:
        if ref.name in ("p3", "p4"):
            raise KeyError("surprise")
        return extract(ref, *args)

    monkeypatch.setattr("zeuxis.pipelines.extraction.extract", extract_all_but)
    assert night(mixed.spec, bank).reasons["crashed"] == 2
    monkeypatch.undo()
    assert not night(mixed.spec, bank).published, "its bytes are the same"
    assert counts(night(mixed.spec, bank, retry=["crashed"])) == (13, 2, 8, 3)
    assert rejects(bank) == BAD
    assert content(bank) == clean(mixed.spec, tmp_path / "clean")


def test_nothing_else_is_touched_when_rejects_are_tried_again(mixed: Any, bank: Path) -> None:
    """New files stay out, vanished and broken ones in, changed ones as they were, rejects of other reasons rejects."""
    night(mixed.spec, bank)
    before = sources(bank)
    mixed.add("new", "cut", "fake")
    mixed.remove("p0")
    mixed.label("p1").unlink()
    mixed.write(mixed.label("p2"), np.full((48, 64), 9, np.uint8))
    segments = ids(bank)
    with reading() as names:
        report = night(mixed.spec, bank, retry=["unreadable-image"])
    assert names == ["cut"]
    assert (counts(report), report.n_vanished) == ((12, 1, 9, 2), 0)
    assert sources(bank) == sorted([*before, "folder/cut"])
    assert rejects(bank) == {"folder/fake": "unreadable-label", "folder/nolabel": "missing-label"}
    assert ids(bank) > segments
    assert is_sound(bank)


def test_a_reject_that_is_now_a_twin_of_a_vanished_source_stays_out(mixed: Any, bank: Path) -> None:
    """Such a run leaves the vanished one in the bank, so that the other would be in it twice."""
    night(mixed.spec, bank)
    twin(mixed, "cut", "p0")
    mixed.remove("p0")
    assert counts(night(mixed.spec, bank, retry=["failed"])) == (12, 0, 9, 3)
    assert rejects(bank) == BAD | {"folder/cut": "duplicate"}
    assert "folder/p0" in sources(bank)
    night(mixed.spec, bank)
    assert "folder/cut" in sources(bank)
    assert "folder/p0" not in sources(bank)


def test_there_is_nothing_to_try_again_in_a_bank_that_is_not_there(mixed: Any, bank: Path) -> None:
    with pytest.raises(ZeuxisError, match="no usable source"):
        night(mixed.spec, bank, retry=["failed"])


# forgotten


def test_a_forgotten_source_stays_forgotten_by_name_and_by_bytes(mixed: Any, bank: Path) -> None:
    night(mixed.spec, bank)
    forget("folder/p3", bank)
    assert load_current(bank).forgotten.keys() == {"folder/p3"}
    with reading() as names:
        report = night(mixed.spec, bank)
    assert (names, report.published, report.n_forgotten, counts(report)) == ([], False, 1, (13, 0, 9, 3))
    mixed.write(mixed.label("p3"), np.full((48, 64), 2, np.uint8))
    assert not night(mixed.spec, bank).published, "its name is enough"
    mixed.add("p3")
    twin(mixed, "again", "p3")
    report = night(mixed.spec, bank)
    assert (report.n_forgotten, counts(report)) == (2, (14, 0, 9, 3))
    assert load_current(bank).forgotten.keys() == {"folder/p3", "folder/again"}
    with reading() as names:
        assert not night(mixed.spec, bank, rehash=True).published
    assert not set(names) & {"p3", "again"}
    assert len(sources(bank)) == 9


def test_a_source_of_forgotten_bytes_leaves_the_bank_and_one_of_new_bytes_comes_in(mixed: Any, bank: Path) -> None:
    """Another source is overwritten with the forgotten one."""
    night(mixed.spec, bank)
    forget("folder/p3", bank)
    twin(mixed, "p4", "p3")
    report = night(mixed.spec, bank)
    assert (report.n_forgotten, counts(report)) == (2, (13, 0, 8, 3))
    assert "folder/p4" not in sources(bank)
    assert is_sound(bank)


def test_a_forgotten_reject_is_not_told_of_any_more(mixed: Any, bank: Path) -> None:
    night(mixed.spec, bank)
    forget("folder/cut", bank)
    report = night(mixed.spec, bank)
    assert (report.n_forgotten, counts(report)) == (1, (13, 0, 10, 2))
    assert "folder/cut" not in rejects(bank)


def test_the_twin_of_a_forgotten_source_does_not_take_its_place(mixed: Any, bank: Path) -> None:
    twin(mixed, "twin", "p3")
    night(mixed.spec, bank)
    forget("folder/p3", bank)
    report = night(mixed.spec, bank)
    assert (report.n_forgotten, counts(report)) == (2, (14, 0, 9, 3))
    assert {"folder/p3", "folder/twin"}.isdisjoint([*sources(bank), *rejects(bank)])
    assert not night(mixed.spec, bank).published


def test_going_back_does_not_bring_back_what_is_forgotten(mixed: Any, bank: Path) -> None:
    mixed.add("new")
    night(mixed.spec, bank)
    mixed.remove("new")
    night(mixed.spec, bank)
    mixed.add("new")
    forget("folder/new", bank)
    night(mixed.spec, bank)
    mixed.add("newer")
    night(mixed.spec, bank)
    rollback(bank)
    assert "folder/newer" not in sources(bank)
    assert night(mixed.spec, bank).n_forgotten == 1
    assert "folder/new" not in sources(bank)
    with pytest.raises(InputError):
        rollback(bank, 1)


def test_a_bank_of_which_all_is_forgotten_is_no_mistake(photos: Any, bank: Path) -> None:
    photos.add("a")
    night(photos.spec, bank)
    forget("folder/a", bank)
    report = night(photos.spec, bank)
    assert (report.published, report.n_forgotten, sources(bank)) == (False, 1, [])


def test_a_change_of_settings_leaves_what_is_forgotten_and_rejected_out(mixed: Any, bank: Path) -> None:
    night(mixed.spec, bank)
    forget("folder/p3", bank)
    for options in ({"depth_rule": "ground"}, {"min_area": 40}):
        report = night(mixed.spec, bank, **options)
        assert (report.published, report.n_forgotten, rejects(bank)) == (True, 1, BAD)
        assert "folder/p3" not in sources(bank)
