"""A file is what was published, or it is named in one sentence."""

from __future__ import annotations

import hashlib
import os

import crc32c
import pytest

from zeuxis.storage import checks
from zeuxis.storage.checks import FileEntry, check_size, checked_file, damage_of, file_entry
from zeuxis.storage.errors import DamagedBankError

DATA = bytes(range(256)) * 40


@pytest.fixture(params=[1 << 22, 1000], ids=["one chunk", "several"])
def path(request, monkeypatch, tmp_path):
    """A file that is read in one go, or in several."""
    monkeypatch.setattr(checks, "_CHUNK", request.param)
    (tmp_path / "file.bin").write_bytes(DATA)
    return tmp_path / "file.bin"


def altered(path):
    """One bit of the last chunk."""
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))


def shortened(path):
    path.write_bytes(DATA[:-1])


def removed(path):
    path.unlink()


DAMAGES = [altered, shortened, removed]


def test_an_entry_holds_size_and_both_hashes(path):
    expected = FileEntry(len(DATA), hashlib.sha256(DATA).hexdigest(), f"{crc32c.crc32c(DATA):08x}")
    assert file_entry(path) == expected


def test_the_checksum_keeps_its_leading_zeros(tmp_path):
    """As long as the text of others, so that equal ones are equal."""
    data = next(text for n in range(10_000) if crc32c.crc32c(text := str(n).encode()) < 1 << 24)
    (tmp_path / "file").write_bytes(data)
    entry = file_entry(tmp_path / "file")
    assert len(entry.crc32c) == 8
    assert checked_file(tmp_path / "file", entry)


def test_an_empty_file_is_a_file(tmp_path):
    (tmp_path / "empty").touch()
    entry = file_entry(tmp_path / "empty")
    assert entry.size == 0
    assert checked_file(tmp_path / "empty", entry) == tmp_path / "empty"
    assert damage_of(tmp_path / "empty", entry) is None


def test_a_sound_file_passes_every_check(path):
    entry = file_entry(path)
    check_size(path, entry)
    assert checked_file(path, entry) == path
    assert damage_of(path, entry) is None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("older", [False, True], ids=["crc32c", "sha256"])
def test_a_damaged_file_is_named_before_it_is_mapped(path, damage, older):
    """Entries of older banks have no CRC32C: their SHA-256 is compared."""
    entry = file_entry(path)
    damage(path)
    with pytest.raises(DamagedBankError) as caught:
        checked_file(path, entry._replace(crc32c="") if older else entry)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "zeuxis repair" in said
    expected = {altered: "SHA-256" if older else "CRC32C", shortened: f"{len(DATA) - 1:,} bytes", removed: "no file"}
    assert expected[damage] in said


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_compares_the_sha256_of_every_entry(path, damage):
    entry = file_entry(path)
    damage(path)
    said = damage_of(path, entry)
    assert said is not None
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert damage_of(path, entry._replace(crc32c="")) == said


def test_a_file_whose_crc32c_alone_is_wrong_is_sound_by_its_sha256(path):
    """The stronger hash decides in verify; the quick one guards what is mapped."""
    entry = file_entry(path)._replace(crc32c="00000000")
    assert damage_of(path, entry) is None
    with pytest.raises(DamagedBankError, match="CRC32C 00000000"):
        checked_file(path, entry)


def test_the_size_is_checked_without_reading(path):
    entry = file_entry(path)
    altered(path)
    check_size(path, entry)
    shortened(path)
    with pytest.raises(DamagedBankError, match="expected 10,240 bytes, found 10,239 bytes"):
        check_size(path, entry)


def test_a_folder_in_a_files_place_is_no_file(tmp_path):
    entry = FileEntry(os.stat(tmp_path).st_size, "0" * 64, "0" * 8)
    with pytest.raises(DamagedBankError, match="no file"):
        check_size(tmp_path, entry)
    assert "found no file" in (damage_of(tmp_path, entry) or "")
