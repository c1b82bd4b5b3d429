"""Whoever reads a generation keeps it; retention removes the others, manifest first, and nothing that one still names.

A kill or a failed operation at any moment leaves every manifest that is there whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toybank import make_bank, publish_shards, toy_bundle, toy_manifest, write_shard

from zeuxis.storage import files, manifest
from zeuxis.storage.errors import BankError, DamagedBankError, InputError
from zeuxis.storage.manifest import (
    collect_garbage,
    generations,
    load_current,
    load_generation,
    manifest_path,
    publish,
    report_path,
    verify,
)
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.retention import Retired, remove_generation, retire
from zeuxis.storage.stamps import write_stamps


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generations 1 to 3, of sources 0, then 0 and 1, then 1 and 2, each with stamps and a report."""
    bank = make_bank(tmp_path_factory.mktemp("three") / "bank", [0])
    (first,) = load_current(bank).shards
    second, third = write_shard(bank, [1]), write_shard(bank, [2])
    (bank / "reports").mkdir()
    report_path(bank, 1).write_text("of 1")
    for number, shards in ((2, [first, second]), (3, [second, third])):
        described = replace(toy_manifest(number, shards), stamps=write_stamps(bank, {"toy/001": str(number)}))
        publish(bank, replace(described, content=content_of(Reader(bank, described))))
        report_path(bank, number).write_text(f"of {number}")
    return bank


@pytest.fixture
def bank(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "bank"))


def sources_of(reader: Reader) -> list[str]:
    return sorted(reader.table("sources")["source"].to_pylist())


def inside(bank: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (bank / folder).iterdir())


def in_child(work: Callable[[], None]) -> int:
    """The process that does this; exit code 0 if it did, 1 if it raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    return child


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestPins:
    def test_what_is_read_stays_until_its_reader_is_gone(self, bank):
        reader = Reader(bank, load_generation(bank, 1))
        assert retire(bank, 1).held == (1,)
        assert generations(bank) == [1, 3]
        assert sources_of(reader) == ["toy/000"]
        assert reader.photograph("toy/000").any(), "opened after its generation was to go"
        del reader
        assert retire(bank, 1).removed == (1,)
        assert generations(bank) == [3]

    def test_a_reader_that_has_read_is_freed_with_its_last_reference(self, bank):
        """Without the collector of cycles: it may not run for hours."""
        reader = Reader(bank)
        reader.row("segments", 0, 0)
        del reader
        assert not files.is_held(manifest_path(bank, 3))

    def test_a_writer_lets_its_own_reader_go(self, bank):
        reader = Reader(bank, load_generation(bank, 2))
        assert not remove_generation(bank, 2)
        reader.release()
        reader.release()
        assert remove_generation(bank, 2)

    def test_two_readers_hold_until_both_are_gone(self, bank):
        one, other = Reader(bank), Reader(bank)
        one.release()
        assert not remove_generation(bank, 3)
        other.release()
        assert remove_generation(bank, 3)

    def test_a_killed_reader_holds_nothing(self, bank):
        ready, told = os.pipe()

        def read() -> None:
            reader = Reader(bank, load_generation(bank, 1))
            os.write(told, b"x")
            time.sleep(60)
            reader.release()

        child = in_child(read)
        os.read(ready, 1)
        assert files.is_held(manifest_path(bank, 1))
        os.kill(child, signal.SIGKILL)
        assert code_of(child) == -signal.SIGKILL
        assert retire(bank, 1).held == ()

    def test_verifying_holds_what_it_verifies(self, bank):
        damage = verify(bank, load_generation(bank, 1), progress=lambda done, total: None)
        publish_shards(bank, 4, load_current(bank).shards[:1])
        seen = []

        def progress(done: int, total: int) -> None:
            seen.append(files.is_held(manifest_path(bank, 1)))

        damage = verify(bank, load_generation(bank, 1), progress=progress)
        assert list(damage) == []
        assert seen
        assert all(seen)
        assert not files.is_held(manifest_path(bank, 1))

    def test_a_pickled_reader_holds_again(self, bank):
        data = pickle.dumps(Reader(bank, load_generation(bank, 1)))
        assert not files.is_held(manifest_path(bank, 1))
        again = pickle.loads(data)
        assert files.is_held(manifest_path(bank, 1))
        assert sources_of(again) == ["toy/000"]

    def test_a_pickled_reader_of_a_removed_generation_says_so(self, bank):
        data = pickle.dumps(Reader(bank, load_generation(bank, 1)))
        retire(bank, 2)
        with pytest.raises(BankError, match=r"bank: generation 1 was removed; open the bank again") as caught:
            pickle.loads(data)
        assert not isinstance(caught.value, DamagedBankError)

    def test_a_reader_of_a_generation_to_be_has_nothing_to_hold(self, bank):
        reader = Reader(bank, replace(load_current(bank), generation=4))
        assert sources_of(reader) == ["toy/001", "toy/002"]
        assert not any(files.is_held(manifest_path(bank, number)) for number in (1, 2, 3))
        reader.release()

    def test_holding_needs_no_right_to_write(self, bank, monkeypatch):
        real = os.open

        def read_only(path: os.PathLike[str], flags: int, *mode: int) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return real(path, flags, *mode)

        monkeypatch.setattr(os, "open", read_only)
        reader = Reader(bank)
        assert files.is_held(manifest_path(bank, 3))
        assert sources_of(reader)

    def test_a_disk_without_locks_is_read_all_the_same(self, bank, monkeypatch):
        def unlocked(file: int, how: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", unlocked)
        assert sources_of(Reader(bank)) == ["toy/001", "toy/002"]
        with pytest.raises(BankError, match="cannot be locked"), files.writer_lock(bank):
            pass


class TestRaces:
    """A generation is published, and the one before removed, amid the opening of a bank."""

    def swap(self, bank: Path) -> None:
        publish_shards(bank, 4, load_generation(bank, 2).shards)
        retire(bank, 1)

    def test_between_listing_and_opening(self, bank, monkeypatch):
        self.swap_amid_listing(bank, monkeypatch)
        assert sources_of(Reader(bank)) == ["toy/000", "toy/001"]
        assert generations(bank) == [4]

    def swap_amid_listing(self, bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = manifest.generations

        def once(path: Path) -> list[int]:
            numbers = listed(path)
            monkeypatch.setattr(manifest, "generations", listed)
            self.swap(bank)
            return numbers

        monkeypatch.setattr(manifest, "generations", once)

    def test_between_opening_and_locking(self, bank, monkeypatch):
        real, locked = fcntl.flock, []

        def flock(file: int, how: int) -> None:
            if how == fcntl.LOCK_SH and not locked:
                locked.append(file)
                self.swap(bank)
            real(file, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        reader = Reader(bank)
        assert locked
        assert reader.manifest.generation == 4
        assert sources_of(reader) == ["toy/000", "toy/001"]

    def test_a_generation_asked_for_that_goes_meanwhile_is_one_sentence(self, bank, monkeypatch):
        self.swap_amid_listing(bank, monkeypatch)
        with pytest.raises(InputError, match="generation 3: expected one of 4, found none such"):
            load_generation(bank, 3)

    def test_a_name_that_leads_nowhere_is_damage_and_no_endless_search(self, bank):
        manifest_path(bank, 4).symlink_to(bank / "nowhere")
        with pytest.raises(DamagedBankError, match=r"MANIFEST-000004\.json: cannot be read"):
            load_current(bank)


class TestRetiring:
    def test_the_newest_stay_and_take_all_with_them_that_they_name(self, bank):
        third = load_current(bank)
        before = sum(path.stat().st_size for path in bank.rglob("*") if path.is_file())
        retired = retire(bank, 1)
        after = sum(path.stat().st_size for path in bank.rglob("*") if path.is_file())
        assert (retired.removed, retired.held) == ((1, 2), ())
        assert retired.freed == before - after > 0
        assert inside(bank, "shards") == sorted(entry.id for entry in third.shards)
        assert inside(bank, "stamps") == [third.stamps.name]
        assert inside(bank, "reports") == ["000003.html"]
        assert load_current(bank) == third
        assert list(verify(bank, deep=True)) == []

    @pytest.mark.parametrize("keep", [3, 7])
    def test_nothing_goes_while_there_are_no_more(self, bank, keep):
        before = sorted(bank.rglob("*"))
        assert retire(bank, keep) == Retired((), (), 0)
        assert sorted(bank.rglob("*")) == before

    @pytest.mark.parametrize("keep", [0, -1])
    def test_at_least_one_stays(self, bank, keep):
        with pytest.raises(InputError, match="keep: expected at least 1 generation"):
            retire(bank, keep)

    def test_a_report_that_is_not_ours_and_that_of_a_damaged_generation_stay(self, bank):
        for name in ("index.html", "000009.html", ".tmp-1-x.html"):
            (bank / "reports" / name).touch()
        manifest_path(bank, 2).write_text("{}")
        retire(bank, 1)
        assert inside(bank, "reports") == ["000002.html", "000003.html", "index.html"]

    def test_a_damaged_manifest_stays_with_all_that_it_may_name(self, bank):
        manifest_path(bank, 2).write_text("{}")
        shards = inside(bank, "shards")
        assert retire(bank, 1).removed == (1,)
        assert generations(bank) == [2, 3]
        assert inside(bank, "shards") == shards
        manifest_path(bank, 2).unlink()
        assert set(collect_garbage(bank)) >= {load_name(shards, bank)}

    def test_a_damaged_current_one_is_not_all_that_stays(self, bank):
        manifest_path(bank, 3).write_text("{}")
        retire(bank, 1)
        assert generations(bank) == [2, 3]
        assert sources_of(Reader(bank, load_generation(bank, 2))) == ["toy/000", "toy/001"]

    @pytest.mark.parametrize("mode", ["kill", "EIO"])
    def test_every_failed_operation_leaves_whole_generations(self, three, tmp_path, mode):
        """And the next run does what is left, to the same end."""
        clean = Path(shutil.copytree(three, tmp_path / "clean"))
        retire(clean, 1)
        stopped = 0
        for number in range(1, 40):
            bank = Path(shutil.copytree(three, tmp_path / str(number)))
            os.environ["ZEUXIS_FAULT"] = f"{number}:{mode}"
            files.operations = 0
            code = code_of(in_child(lambda bank=bank: retire(bank, 1)))
            del os.environ["ZEUXIS_FAULT"]
            left = generations(bank)
            assert 3 in left
            for generation in left:
                assert list(verify(bank, load_generation(bank, generation))) == [], (number, generation)
            if code == 0:
                break
            stopped += 1
            assert code == {"kill": -signal.SIGKILL, "EIO": 1}[mode]
            retire(bank, 1)
            names = [sorted(path.relative_to(each) for path in each.rglob("*")) for each in (bank, clean)]
            assert names[0] == names[1]
        assert stopped >= 6, "two manifests, a folder, a shard, stamps, two reports"

    def test_manifests_are_gone_for_good_before_what_they_name(self, bank, monkeypatch):
        done: list[str] = []
        monkeypatch.setattr(files, "fault_point", lambda path: done.append(path.name))
        retire(bank, 1)
        synced = done.index("bank")
        assert sorted(done[:synced]) == ["MANIFEST-000001.json", "MANIFEST-000002.json"]
        assert len(done) > synced + 3


def load_name(shards: list[str], bank: Path) -> str:
    """The one of these shards that the current generation does not name."""
    (name,) = set(shards) - {entry.id for entry in load_current(bank).shards}
    return name


READERS = 3
ROUNDS = 14


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A bank of one source; what others become is computed already."""
    for seed in range(6):
        toy_bundle(seed)
    return make_bank(tmp_path / "busy", [0])


def test_readers_never_miss_a_file_while_generations_come_and_go(busy):
    """Each opens whatever is current, dawdles, and only then opens what it needs; each must find all of one generation.

    Every generation is a new shard, and the one before is removed at once unless it is held.
    """
    ends = [os.pipe() for _ in range(READERS)]
    stopped, stop = os.pipe()

    def read(number: int) -> None:
        os.close(stop)
        os.set_blocking(stopped, False)
        opened: set[int] = set()
        while True:
            reader = Reader(busy)
            time.sleep(0.01 * (1 + number))
            assert content_of(reader) == reader.manifest.content, "rows of two generations"
            row = reader.row("segments", 0, 0)
            assert reader.segment_pixels(0, row["segment_id"]).any()
            opened.add(reader.manifest.generation)
            try:
                if os.read(stopped, 1) == b"":
                    break
            except BlockingIOError:
                pass
        os.write(ends[number][1], len(opened).to_bytes(4, "big"))

    children = [in_child(lambda number=number: read(number)) for number in range(READERS)]
    held, removed, number = 0, 0, 1
    while number <= ROUNDS or (held < READERS and number < 20 * ROUNDS):  # readers may be slow to start
        number += 1
        with files.writer_lock(busy):
            publish_shards(busy, number, [write_shard(busy, [number % 6])])
            retired = retire(busy, 1)
            held, removed = held + len(retired.held), removed + len(retired.removed)
    os.close(stop)
    os.close(stopped)
    assert [code_of(child) for child in children] == [0] * READERS
    counts = [int.from_bytes(os.read(end, 4), "big") for end, _ in ends]
    assert sum(counts) > READERS, "no reader met a second generation"
    assert held, "nobody read what was to be removed: nothing was shown"
    assert removed >= number - 1 - READERS
    retire(busy, 1)
    assert generations(busy) == [number]
    assert inside(busy, "shards") == [load_current(busy).shards[0].id]
