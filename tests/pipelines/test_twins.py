"""Of sources with equal bytes one is in the bank, and the others are rejects that name it, whoever came when."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from nights import all_files, clean, content, counts, is_sound, message, night, rejects, sources, twin

from zeuxis.pipelines import rebuild as rebuild_module
from zeuxis.storage.manifest import generations

TWIN = {"folder/twin": "duplicate"}


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def ten(photos: Any) -> Any:
    photos.add(*(f"p{number}" for number in range(10)))
    return photos


def test_of_two_in_one_run_the_first_by_name_is_taken_and_the_reject_names_it(ten: Any, bank: Path) -> None:
    twin(ten, "twin", "p3")
    twin(ten, "a", "p5")
    assert counts(night(ten.spec, bank, shard_size=3)) == (12, 10, 0, 2)
    assert rejects(bank) == {**TWIN, "folder/p5": "duplicate"}
    assert "as folder/p3" in message(bank, "folder/twin")
    assert "as folder/a" in message(bank, "folder/p5")
    assert is_sound(bank)
    assert not night(ten.spec, bank).published


@pytest.mark.parametrize("shard_size", [1, 128])
def test_of_two_in_two_runs_the_earlier_stays_whatever_its_name(ten: Any, bank: Path, shard_size: int) -> None:
    night(ten.spec, bank, shard_size=shard_size)
    twin(ten, "a", "p5")
    assert counts(night(ten.spec, bank, shard_size=shard_size)) == (11, 0, 10, 1)
    assert rejects(bank) == {"folder/a": "duplicate"}
    assert "as folder/p5" in message(bank, "folder/a")
    assert not night(ten.spec, bank).published


@pytest.mark.parametrize("shard_size", [1, 128])
def test_the_second_comes_in_when_the_first_goes(ten: Any, bank: Path, shard_size: int, tmp_path: Path) -> None:
    twin(ten, "twin", "p3")
    night(ten.spec, bank, shard_size=shard_size)
    ten.remove("p3")
    report = night(ten.spec, bank, shard_size=shard_size)
    assert (counts(report), report.n_vanished) == ((10, 1, 9, 0), 1)
    assert "folder/twin" in sources(bank)
    assert content(bank) == clean(ten.spec, tmp_path / "clean")
    assert is_sound(bank)
    assert not night(ten.spec, bank).published


def test_twins_that_come_and_go_leave_every_shard_once(ten: Any, bank: Path, tmp_path: Path) -> None:
    """What comes back is a shard that is in the bank already, with all of it masked."""
    night(ten.spec, bank, shard_size=1)
    for _ in range(3):
        twin(ten, "twin", "p3")
        night(ten.spec, bank, shard_size=1)
        assert rejects(bank) == TWIN
        ten.remove("p3")
        night(ten.spec, bank, shard_size=1)
        assert content(bank) == clean(ten.spec, tmp_path / "one" if not (tmp_path / "one").exists() else tmp_path / "x")
        assert "folder/twin" in sources(bank)
        ten.remove("twin")
        ten.add("p3")
        night(ten.spec, bank, shard_size=1, allow_shrink=True)
        assert rejects(bank) == {}
        assert is_sound(bank)
        break_apart(tmp_path / "x")


def break_apart(path: Path) -> None:
    """Removes a bank, if there is one."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def test_the_second_comes_in_when_the_first_becomes_another(ten: Any, bank: Path, tmp_path: Path) -> None:
    twin(ten, "twin", "p3")
    night(ten.spec, bank)
    twin(ten, "p3", "p4")
    assert counts(night(ten.spec, bank)) == (11, 1, 9, 1)
    assert rejects(bank) == {"folder/p3": "duplicate"}
    assert "as folder/p4" in message(bank, "folder/p3")


def test_three_of_a_kind_are_one_source_and_two_rejects(ten: Any, bank: Path) -> None:
    for name in ("twin", "zwin"):
        twin(ten, name, "p3")
    night(ten.spec, bank)
    ten.remove("p3")
    assert counts(night(ten.spec, bank)) == (11, 1, 9, 1)
    assert rejects(bank) == {"folder/zwin": "duplicate"}
    assert "as folder/twin" in message(bank, "folder/zwin")
    ten.remove("twin")
    night(ten.spec, bank)
    assert (rejects(bank), "folder/zwin" in sources(bank)) == ({}, True)


def test_a_twin_is_not_read_again_while_its_first_stays(ten: Any, bank: Path) -> None:
    from nights import reading

    twin(ten, "twin", "p3")
    night(ten.spec, bank)
    ten.add("q")
    with reading() as names:
        assert counts(night(ten.spec, bank)) == (12, 1, 10, 1)
    assert names == ["q"]


def test_a_night_that_reads_everything_leaves_twins_as_they_are(ten: Any, bank: Path) -> None:
    twin(ten, "twin", "p3")
    night(ten.spec, bank)
    before = all_files(bank)
    report = night(ten.spec, bank, rehash=True)
    assert (counts(report), report.published) == ((11, 0, 10, 1), False)
    assert all_files(bank) == before


def test_a_twin_that_is_tried_again_stays_one(ten: Any, bank: Path) -> None:
    twin(ten, "twin", "p3")
    night(ten.spec, bank)
    for _ in range(2):
        report = night(ten.spec, bank, retry=["duplicate"])
        assert (counts(report), report.published) == ((11, 0, 10, 1), False)
    ten.image("p3").unlink()  # gone, but a run that tries rejects again lets nothing go
    ten.label("p3").unlink()
    assert not night(ten.spec, bank, retry=["failed"]).published
    assert rejects(bank) == TWIN


# two data sets


@pytest.fixture
def both(photos: Any, more_photos: Any) -> tuple[Any, Any]:
    """Two data sets of ten; the second has a source of the first's bytes."""
    photos.add(*(f"p{number}" for number in range(10)))
    more_photos.add(*(f"m{number}" for number in range(10)))
    twin(photos, "twin", "p3", more_photos)
    return photos, more_photos


def test_the_first_data_set_of_a_run_comes_before_the_second(both: tuple[Any, Any], bank: Path) -> None:
    specs = [each.spec for each in both]
    assert counts(night(specs, bank)) == (21, 20, 0, 1)
    assert rejects(bank) == {"folder-2/twin": "duplicate"}
    assert "as folder/p3" in message(bank, "folder-2/twin")
    assert not night(specs, bank).published
    both[0].remove("p3")
    assert counts(night(specs, bank)) == (20, 1, 19, 0)
    assert "folder-2/twin" in sources(bank)


def test_what_another_data_set_holds_counts_whether_it_is_in_the_run_or_not(both: tuple[Any, Any], bank: Path) -> None:
    night(both[1].spec, bank)
    assert counts(night(both[0].spec, bank)) == (10, 9, 0, 1)
    assert rejects(bank) == {"folder-2/p3": "duplicate"}
    assert "as folder/twin" in message(bank, "folder-2/p3")
    both[1].remove("twin")
    assert not night(both[0].spec, bank).published, "only the data sets of a run can lose anything"
    assert counts(night([each.spec for each in both], bank)) == (20, 1, 19, 0)
    assert (rejects(bank), "folder-2/p3" in sources(bank)) == ({}, True)


def test_twins_are_found_in_a_run_that_takes_up_an_interrupted_one(
    both: tuple[Any, Any], bank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Finished shards of the interrupted run hold both; nobody had compared them yet."""
    specs = [each.spec for each in both]
    twin(both[0], "z", "p1")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild_module, "publish_next", stop)
    with pytest.raises(KeyboardInterrupt):
        night(specs, bank, shard_size=1)
    monkeypatch.undo()
    assert generations(bank) == []
    from nights import reading

    with reading() as names:
        assert counts(night(specs, bank, frame=(24, 32), min_area=16, patches=False)) == (22, 20, 0, 2)
    assert names == [], "all is there"
    assert rejects(bank) == {"folder-2/twin": "duplicate", "folder/z": "duplicate"}
    assert content(bank) == clean(specs, tmp_path / "clean")
    assert is_sound(bank)


def test_a_twin_and_its_first_change_places_with_a_change_of_settings(
    both: tuple[Any, Any], bank: Path, tmp_path: Path
) -> None:
    specs = [each.spec for each in both]
    night(specs, bank, shard_size=1)
    for options in ({"keep_sources": False}, {"depth_rule": "ground"}, {"min_area": 40}):
        assert night(specs, bank, **options).n_rejected == 1
        assert rejects(bank) == {"folder-2/twin": "duplicate"}
        assert is_sound(bank)
    same = {"keep_sources": False, "depth_rule": "ground", "min_area": 40}
    assert content(bank) == clean(specs, tmp_path / "clean", **same)
    assert not night(specs, bank).published
