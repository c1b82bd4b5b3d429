"""A shard is whole or not there; what is damaged is named, and never kills the process that reads it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import crc32c
import numpy as np
import pytest
from toybank import FRAME, make_bank, toy_bundle, toy_source, write_shard

from zeuxis.storage import environments, files, shard_writer
from zeuxis.storage.appearance import BorderColours
from zeuxis.storage.codec import decode_mask, decode_pixels
from zeuxis.storage.errors import BankError, DamagedBankError
from zeuxis.storage.manifest import load_current, shard_folder
from zeuxis.storage.records import TABLES
from zeuxis.storage.shard import APPEARANCE, BLOBS, FOOTPRINTS, MARKER, Shard, ShardEntry, blob_key, finished_shard
from zeuxis.storage.shard_writer import ShardWriter

FILES = [APPEARANCE, BLOBS, FOOTPRINTS, MARKER, *(f"{name}.parquet" for name in TABLES)]


@pytest.fixture
def first(bank: Path) -> Shard:
    """The shard of sources 0..2 in a bank to write to."""
    entry = load_current(bank).shards[0]
    return Shard(shard_folder(bank) / entry.id, entry)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def child_reports(code: str, *arguments: object) -> str:
    """What a fresh process prints; fails where it dies of a signal or an unexpected error."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def in_child(work: Callable[[], object]) -> int:
    """Exit status of `work()` in a forked child: 0 where it returned."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    return os.waitpid(child, 0)[1]


def test_what_was_written_is_read(first):
    assert first.entry.rows == {
        "sources": 3,
        "segments": sum(len(toy_bundle(seed).segments) for seed in range(3)),
        "orderings": sum(len(toy_bundle(seed).orderings) for seed in range(3)),
        "patches": 0,
        "rejects": 1,
    }
    assert sorted(first.entry.files) == sorted(FILES)
    stored = dict(first.blobs())
    assert stored == {key: value for seed in range(3) for key, value in toy_bundle(seed).blobs.items()}
    for seed in range(3):
        _, encoded, source = toy_source(seed)
        assert first.raw("image", encoded.source_id) == encoded.image
        assert first.raw("layout", encoded.source_id) == encoded.layout
        if encoded.depth:
            assert first.raw("depth", encoded.source_id) == encoded.depth
        for row in toy_bundle(seed).segments:
            value = first.blob(blob_key("segment", row.segment_id))
            window = source.image[row.crop_top : row.crop_bottom, row.crop_left : row.crop_right]
            mask = decode_mask(value, "x")
            assert mask.sum() == row.pixels
            np.testing.assert_array_equal(decode_pixels(value, "x"), np.where(mask[..., None], window, 0))
    with pytest.raises(KeyError):
        first.blob(b"nothing")


def test_rows_of_the_table_and_of_the_search_columns_are_in_one_order(first):
    table = first.table("segments")
    assert table["segment_id"].to_pylist() == first.footprints.segment_id.tolist()
    assert table["class_id"].to_pylist() == first.footprints.class_id.tolist()
    names = first.table("sources", ["source"])["source"].to_pylist()
    assert table["source"].to_pylist() == [names[row] for row in first.footprints.source]
    for class_id, (start, stop) in first.entry.classes.items():
        assert set(table["class_id"].to_pylist()[start:stop]) == {class_id}


def test_the_marker_gives_the_entry_and_json_gives_it_back(first):
    assert finished_shard(first.path) == first.entry
    assert ShardEntry.from_json(first.entry.to_json()) == first.entry


def test_hashes_are_those_of_the_files(first):
    for name, entry in first.entry.files.items():
        data = (first.path / name).read_bytes()
        assert entry == (len(data), hashlib.sha256(data).hexdigest(), f"{crc32c.crc32c(data):08x}")


def test_descriptors_lie_in_the_order_of_the_search_columns(first):
    assert first.appearance.descriptor == toy_bundle(0).appearance.descriptor
    expected = {}
    for seed in range(3):
        bundle = toy_bundle(seed)
        expected |= dict(zip(bundle.columns.segment_id.tolist(), bundle.appearance.rows, strict=True))
    assert len(first.appearance.rows) == len(expected) > 10
    for id, row in zip(first.footprints.segment_id.tolist(), first.appearance.rows, strict=True):
        assert (row == expected[id]).all()
    with pytest.raises(ValueError, match="read-only"):
        first.appearance.rows[0] = 0


def test_colours_along_borders_stay_with_their_segments(first):
    expected = {}
    for seed in range(3):
        bundle = toy_bundle(seed)
        expected |= dict(zip(bundle.columns.segment_id.tolist(), by_segment(bundle.appearance.borders), strict=True))
    assert any(expected.values())
    ids = first.footprints.segment_id.tolist()
    assert dict(zip(ids, by_segment(first.appearance.borders), strict=True)) == expected


def by_segment(borders):
    """Of each segment the classes beside it and their colours."""
    ends = np.cumsum(borders.neighbours.astype(int)).tolist()
    ranges = [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]
    return [(borders.beside[own].tolist(), borders.colours[own].tolist()) for own in ranges]


def test_borders_of_some_segments_in_another_order(first):
    borders = first.appearance.borders
    rows = np.random.default_rng(0).permutation(len(borders.neighbours))[:7]
    held = by_segment(borders)
    assert by_segment(borders.taken(rows)) == [held[row] for row in rows]
    assert by_segment(BorderColours.joined([borders.taken(rows), BorderColours.none(2)])) == [
        *(held[row] for row in rows), ([], []), ([], []),
    ]  # fmt: skip


def test_descriptors_without_borders_are_read_as_such(tmp_path):
    bundle = toy_bundle(0)
    before = replace(bundle, appearance=replace(bundle.appearance, borders=None))
    with ShardWriter(tmp_path / "before", "s", FRAME) as writer:
        writer.add(before)
        entry = writer.publish()
    old = Shard(tmp_path / "before" / entry.id, entry)
    assert old.appearance.borders is None
    assert len(old.appearance.rows) == len(bundle.segments)
    with ShardWriter(tmp_path / "both", "s", FRAME) as writer:
        writer.add(before)
        writer.add(toy_bundle(1))
        entry = writer.publish()
    both = Shard(tmp_path / "both" / entry.id, entry)
    assert not both.appearance.borders.neighbours[both.footprints.source == 0].any()
    assert both.appearance.borders.neighbours[both.footprints.source == 1].any()


def test_sources_that_were_not_described_have_rows_of_zeros_or_no_file_at_all(tmp_path):
    bare = replace(toy_bundle(1), appearance=None)
    with ShardWriter(tmp_path / "some", "s", FRAME) as writer:
        writer.add(toy_bundle(0))
        writer.add(bare)
        entry = writer.publish()
    some = Shard(tmp_path / "some" / entry.id, entry)
    assert some.appearance.rows.any(axis=1).tolist() == (some.footprints.source == 0).tolist()
    with ShardWriter(tmp_path / "none", "s", FRAME) as writer:
        writer.add(bare)
        entry = writer.publish()
    assert APPEARANCE not in entry.files
    assert Shard(tmp_path / "none" / entry.id, entry).appearance is None


def test_a_shard_of_schema_1_is_read_and_its_files_are_checked(bank, first):
    """Two items a file, no descriptors."""
    row = first.entry.to_json()
    row["schema"] = 1
    row["files"] = {name: sums[:2] for name, sums in row["files"].items() if name != APPEARANCE}
    (first.path / APPEARANCE).unlink()
    old = Shard(first.path, ShardEntry.from_json(row))
    assert old.appearance is None
    assert len(old.footprints) == old.table("segments").num_rows
    assert ShardEntry.from_json(old.entry.to_json()) == old.entry
    flip(first.path / FOOTPRINTS, 5000)
    with pytest.raises(DamagedBankError, match=r"footprints\.safetensors: expected SHA-256"):
        _ = Shard(first.path, old.entry).footprints


def test_a_task_that_runs_twice_gives_the_same_shard_and_does_no_harm(bank, first):
    before = {name: (first.path / name).read_bytes() for name in FILES}
    again = write_shard(bank, [0, 1, 2], ["bad"])
    assert again == first.entry
    assert {name: (first.path / name).read_bytes() for name in FILES} == before
    assert len(list(shard_folder(bank).iterdir())) == 2, "something temporary is left"


def test_a_task_that_runs_twice_at_once_gives_the_same_shard(tmp_path):
    with ShardWriter(tmp_path, "s", FRAME) as one, ShardWriter(tmp_path, "s", FRAME) as two:
        for writer in (one, two):
            writer.add(toy_bundle(0))
        entries = [one.publish(), two.publish()]
    assert entries[0] == entries[1]
    assert [path.name for path in tmp_path.iterdir()] == [entries[0].id]
    Shard(tmp_path / entries[0].id, entries[0]).check_hash(BLOBS)


def test_a_damaged_shard_of_that_id_is_replaced(bank, first):
    flip(first.path / BLOBS, 5000)
    assert finished_shard(first.path) is None
    entry = write_shard(bank, [0, 1, 2], ["bad"])
    assert entry.id == first.entry.id
    assert finished_shard(first.path) == entry


def test_the_id_depends_on_content_and_settings_not_on_order(tmp_path):
    assert write_shard(tmp_path / "a", [0, 1]).id == write_shard(tmp_path / "b", [1, 0]).id
    ids = {write_shard(tmp_path / "c", seeds, rejects).id for seeds, rejects in [([0], ()), ([0, 1], ()), ([0], ["x"])]}
    with ShardWriter(tmp_path / "d", "other settings", FRAME) as writer:
        writer.add(toy_bundle(0))
        ids.add(writer.publish().id)
    assert len(ids) == 4


def test_a_shard_of_rejects_alone_can_be_written_and_read(tmp_path):
    entry = write_shard(tmp_path, [], ["a", "b"])
    found = Shard(shard_folder(tmp_path) / entry.id, entry)
    assert entry.rows == {"sources": 0, "segments": 0, "orderings": 0, "patches": 0, "rejects": 2}
    assert len(found.footprints) == 0
    assert dict(found.blobs()) == {}
    assert found.table("rejects")["source"].to_pylist() == ["toy/a", "toy/b"]


def test_a_writer_that_gives_up_leaves_nothing(tmp_path):
    def work() -> None:
        with ShardWriter(tmp_path, "s", FRAME) as writer:
            writer.add(toy_bundle(0))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_a_temporary_folder_that_is_no_shard(tmp_path):
    def work() -> None:
        with ShardWriter(tmp_path, "s", FRAME) as writer:
            writer.add(toy_bundle(0))
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".tmp-")
    assert finished_shard(left) is None


def test_a_full_store_is_a_bank_error(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_MAP_SIZE", 1 << 15)
    with pytest.raises(BankError, match="cannot be written"), ShardWriter(tmp_path, "s", FRAME) as writer:
        writer.add(toy_bundle(0))
    assert list(tmp_path.iterdir()) == []


class TestDamage:
    READ_EVERYTHING = """
import sys
from pathlib import Path
from zeuxis.storage.errors import DamagedBankError
from zeuxis.storage.manifest import load_current, shard_folder
from zeuxis.storage.records import TABLES
from zeuxis.storage.shard import Shard

entry = load_current(Path(sys.argv[1])).shards[0]
target = shard_folder(Path(sys.argv[1])) / entry.id / sys.argv[2]
whole = target.read_bytes()
for place in map(int, sys.argv[3:]):
    target.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    try:
        shard = Shard(target.parents[len(Path(sys.argv[2]).parts) - 1], entry)
        shard.footprints.tiles.sum()
        shard.appearance.rows.sum()
        for table in TABLES:
            shard.table(table)
        dict(shard.blobs())
        print("nothing noticed")
    except DamagedBankError as error:
        print("named" if str(target) in str(error) else error)
target.write_bytes(whole)
"""

    @pytest.mark.parametrize("name", [APPEARANCE, BLOBS, FOOTPRINTS, "segments.parquet"])
    def test_a_flipped_byte_is_named_before_any_library_sees_it(self, bank, first, name):
        size = first.entry.files[name][0]
        places = sorted({0, 8, 24, 4096, 4096 + 16, size - 1, *range(40, size, size // 23)})
        said = child_reports(self.READ_EVERYTHING, bank, name, *(place for place in places if place < size))
        assert set(said.splitlines()) == {"named"}
        assert len(said.splitlines()) > 20

    def test_reading_goes_on_after_a_damaged_value_was_named(self, first):
        flip(first.path / BLOBS, first.entry.files[BLOBS][0] // 2)
        with pytest.raises(DamagedBankError, match=r"data\.mdb: expected CRC32C"):
            first.blob(b"x")
        assert first.table("sources").num_rows == 3

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_that_is_missing_or_cut_short_is_named_at_once(self, first, name):
        path = first.path / name
        for size in (first.entry.files[name][0] - 1, first.entry.files[name][0] // 2, 0):
            os.truncate(path, size)
            with pytest.raises(DamagedBankError, match="bytes") as caught:
                Shard(first.path, first.entry)
            assert str(path) in str(caught.value)
            assert finished_shard(first.path) is None
        path.unlink()
        with pytest.raises(DamagedBankError, match="no file"):
            Shard(first.path, first.entry)
        assert finished_shard(first.path) is None

    def test_a_marker_of_another_form_is_no_finished_shard(self, first):
        for text in ("", "[]", "null", '{"schema": 1}', '{"schema": 1, "id": 3, "files": [1]}'):
            (first.path / MARKER).write_text(text)
            assert finished_shard(first.path) is None


class TestOpenEnvironments:
    """LMDB: one environment a path and process, and none may be carried across a fork."""

    @pytest.fixture
    def shards(self, tmp_path: Path) -> list[Shard]:
        folder = make_bank(tmp_path / "bank", [0], [1], [2], [3])
        return [Shard(shard_folder(folder) / entry.id, entry) for entry in load_current(folder).shards]

    def test_a_child_opens_its_own_and_the_parents_goes_on(self, shards):
        whole = [dict(each.blobs()) for each in shards]

        def work() -> None:
            assert not environments._environments, "the child has an environment of its parent"
            assert [dict(each.blobs()) for each in shards] == whole
            assert in_child(lambda: [dict(each.blobs()) for each in shards]) == 0

        assert in_child(work) == 0
        assert [dict(each.blobs()) for each in shards] == whole

    def test_a_fork_amid_a_read_or_while_a_thread_reads_harms_neither(self, shards):
        whole = dict(shards[0].blobs())
        reading = iter(shards[0].blobs())
        got = [next(reading)]
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                dict(shards[0].blobs())

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(10):
                assert in_child(lambda: dict(shards[0].blobs()) == whole or os._exit(7)) == 0
        finally:
            stop.set()
            thread.join()
        assert dict([*got, *reading]) == whole

    def test_threads_share_a_few_environments(self, shards, monkeypatch):
        monkeypatch.setattr(environments, "_OPEN_ENVIRONMENTS", 2)
        whole = [dict(each.blobs()) for each in shards]
        errors: list[BaseException] = []

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for number in rng.integers(0, len(shards), 200):
                    key = list(whole[number])[int(rng.integers(len(whole[number])))]
                    assert shards[number].blob(key) == whole[number][key]
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        dict(shards[0].blobs())
        assert len(environments._environments) <= 2

    def test_an_unfinished_read_does_not_bar_the_shard(self, shards, monkeypatch):
        monkeypatch.setattr(environments, "_OPEN_ENVIRONMENTS", 1)
        reading = iter(shards[0].blobs())
        next(reading)
        for each in shards[1:]:
            dict(each.blobs())
        assert shards[0].blob(next(iter(toy_bundle(0).blobs)))
        assert len(list(reading)) == len(toy_bundle(0).blobs) - 1
        assert len(environments._environments) == 1

    def test_a_removed_folder_stays_readable_for_who_has_it_open(self, shards):
        whole = dict(shards[0].blobs())
        shutil.rmtree(shards[0].path)
        assert dict(shards[0].blobs()) == whole


def test_every_byte_of_a_shard_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    """The order of the protocol: every file fsynced, then its folders, then the rename, then the parent."""
    synced: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        real_fsync(file)

    def rename(source: Path, target: Path) -> None:
        synced.append(f"rename {target}")
        real_rename(source, target)

    with ShardWriter(tmp_path, "s", FRAME) as writer:
        writer.add(toy_bundle(0))
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        entry = writer.publish()
    renamed = synced.index(f"rename {tmp_path / entry.id}")
    before = {Path(name).name for name in synced[:renamed]}
    assert before >= {Path(name).name for name in FILES} | {"blobs"}
    assert Path(synced[renamed - 1]).name.startswith(".tmp-")
    assert synced[renamed + 1 :] == [str(tmp_path)]
    assert files.operations > 0
