"""Stamps of touched files: they come back as they were given, equal ones are one file, and damage is found."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from toybank import toy_manifest

from zeuxis.storage import files
from zeuxis.storage.errors import DamagedBankError
from zeuxis.storage.manifest import Manifest, collect_garbage, load_current, publish, verify
from zeuxis.storage.stamps import StampsEntry, read_stamps, stamps_folder, write_stamps

STAMPS = {"toy/001": "12:34", "toy/000": "5:6 7:8", "toy/ü\n": ""}


def names(bank) -> list[str]:
    return sorted(path.name for path in stamps_folder(bank).iterdir())


def test_stamps_come_back_as_they_were_given(tmp_path):
    entry = write_stamps(tmp_path, STAMPS)
    assert entry.rows == 3
    assert read_stamps(tmp_path, entry) == STAMPS
    assert StampsEntry.from_json(entry.to_json()) == entry
    assert names(tmp_path) == [f"{entry.id}.parquet"]


def test_no_stamps_leave_no_trace(tmp_path):
    assert write_stamps(tmp_path, {}) is None
    assert list(tmp_path.iterdir()) == []
    assert read_stamps(tmp_path, None) == {}


def test_equal_stamps_are_one_file_whatever_their_order(tmp_path):
    entry = write_stamps(tmp_path, STAMPS)
    before = (stamps_folder(tmp_path) / entry.name).stat()
    assert write_stamps(tmp_path, dict(reversed(STAMPS.items()))) == entry
    after = (stamps_folder(tmp_path) / entry.name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "it was written again"
    assert write_stamps(tmp_path, {**STAMPS, "toy/000": "5:9"}).id != entry.id
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("size", [0, 300, None])
def test_damaged_stamps_are_named_and_written_anew(tmp_path, size):
    entry = write_stamps(tmp_path, STAMPS)
    path = stamps_folder(tmp_path) / entry.name
    if size is None:
        data = path.read_bytes()
        path.write_bytes(data[:50] + bytes([data[50] ^ 4]) + data[51:])
    else:
        os.truncate(path, size)
    with pytest.raises(DamagedBankError, match=entry.name):
        read_stamps(tmp_path, entry)
    assert write_stamps(tmp_path, STAMPS) == entry
    assert read_stamps(tmp_path, entry) == STAMPS


@pytest.mark.parametrize("mode", ["EIO", "ENOSPC", "short"])
def test_a_failed_write_leaves_no_file_of_that_name(tmp_path, monkeypatch, mode):
    failed = 0
    for number in range(1, 20):
        monkeypatch.setattr(files, "operations", 0)
        monkeypatch.setenv("ZEUXIS_FAULT", f"{number}:{mode}")
        bank = tmp_path / str(number)
        bank.mkdir()
        try:
            write_stamps(bank, STAMPS)
        except OSError:
            failed += 1
        monkeypatch.delenv("ZEUXIS_FAULT")
        entry = write_stamps(bank, STAMPS)
        assert read_stamps(bank, entry) == STAMPS
        assert names(bank) == [entry.name]
    assert failed >= (1 if mode == "short" else 4)


def test_a_manifest_names_its_stamps_and_what_was_forgotten(bank):
    stamps = write_stamps(bank, STAMPS)
    forgotten = {"toy/009": "ab" * 16}
    manifest = replace(toy_manifest(2, load_current(bank).shards), stamps=stamps, forgotten=forgotten)
    publish(bank, manifest)
    assert load_current(bank) == manifest
    assert load_current(bank).stamps.rows == 3
    assert collect_garbage(bank) == {}
    assert read_stamps(bank, load_current(bank).stamps) == STAMPS


def test_a_manifest_of_before_has_neither(bank, monkeypatch):
    row = load_current(bank).to_json()
    del row["stamps"], row["forgotten"]
    monkeypatch.setattr(Manifest, "to_json", lambda self: row)
    manifest = Manifest.from_bytes(toy_manifest(1, ()).to_bytes(), bank)
    assert (manifest.stamps, manifest.forgotten) == (None, {})


def test_stamps_are_durable_verified_and_collected(bank, monkeypatch):
    current = load_current(bank)
    stamps, orphan = write_stamps(bank, STAMPS), write_stamps(bank, {"toy/000": "other"})
    synced = []
    monkeypatch.setattr(files, "fsync_folder", synced.append)
    publish(bank, replace(current, generation=2, stamps=stamps))
    assert stamps_folder(bank) in synced
    (stamps_folder(bank) / ".tmp-1-a.parquet").touch()
    assert set(collect_garbage(bank)) == {orphan.name, ".tmp-1-a.parquet"}
    assert list(verify(bank, deep=True)) == []
    os.truncate(stamps_folder(bank) / stamps.name, 100)
    (damage,) = verify(bank)
    assert stamps.name in damage
