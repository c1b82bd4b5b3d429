"""Files that users ask for are refused early in one sentence, and written whole or not at all."""

from __future__ import annotations

import os

import pytest

from zeuxis.storage.errors import InputError
from zeuxis.storage.outputs import check_output, keep_banks, keep_inputs, write_outputs


def test_names_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path, said in (
        (tmp_path / "a.bmp", r"expected a name in \.png, found '\.bmp'"),
        (tmp_path / "a", "no suffix"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "missing" / "a.png", "there is no folder"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            check_output(path, (".png",))
        assert "\n" not in str(caught.value)
    bank = tmp_path / "bank"
    (bank / "shards/ab").mkdir(parents=True)
    check_output(bank / "a.png")
    (bank / "MANIFEST-000001.json").touch()
    (tmp_path / "link").symlink_to(bank / "shards")
    for path in (bank / "MANIFEST-000001.json", bank / "shards/ab/segments.parquet", tmp_path / "link/a.png"):
        with pytest.raises(InputError, match=f"lies in the bank {bank}; choose another place"):
            check_output(path)
    for folder in (bank, bank / "models", bank / "none/yet"):
        with pytest.raises(InputError, match=f"lies in the bank {bank}"):
            keep_banks(folder)
    keep_banks(tmp_path)
    check_output(tmp_path / "a.PNG", (".png",))
    check_output(tmp_path / "anything")


def test_files_are_replaced_together_or_left_as_they_were(tmp_path, monkeypatch):
    first, second = tmp_path / "a", tmp_path / "b"
    write_outputs({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"b: cannot be written \(No space left on device\)"):
        write_outputs({first: b"3", second: b"4"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_read_is_kept_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    mask = tmp_path / "mask.png"
    mask.write_bytes(b"a mask")
    (tmp_path / "link.png").symlink_to(mask)
    for named in (mask, str(mask), "~/mask.png", tmp_path / "link.png"):
        with pytest.raises(InputError, match="would be written over"):
            keep_inputs([None, named], [None, tmp_path / "new.png", mask])
    keep_inputs([mask, tmp_path], [tmp_path / "new.png", tmp_path])
