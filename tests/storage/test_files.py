"""Writes are durable, links decide who wins, one writer holds the lock, and faults strike where they are told to."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from zeuxis.storage import files
from zeuxis.storage.errors import BankBusyError, BankError, InstallationError


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are fsynced, in order."""
    paths: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def faulty(monkeypatch: pytest.MonkeyPatch, number: int, mode: str) -> None:
    monkeypatch.setattr(files, "operations", 0)
    monkeypatch.setenv("ZEUXIS_FAULT", f"{number}:{mode}")


def test_a_written_file_is_on_the_disk(tmp_path, synced):
    files.write_bytes(tmp_path / "a", b"abc")
    assert (tmp_path / "a").read_bytes() == b"abc"
    assert synced == [str(tmp_path / "a")]


def test_writing_never_replaces_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_names_are_on_the_disk_after_renaming_linking_and_making_folders(tmp_path, synced):
    files.make_folder(tmp_path / "new" / "shards")
    assert synced == [str(tmp_path), str(tmp_path / "new")]
    synced.clear()
    files.make_folder(tmp_path / "new" / "shards")
    assert synced == [], "a folder that was there was taken for a new one"
    (tmp_path / "a").write_bytes(b"a")
    assert files.link_new(tmp_path / "a", tmp_path / "new" / "b")
    files.rename(tmp_path / "new" / "shards", tmp_path / "moved")
    assert synced == [str(tmp_path / "new"), str(tmp_path)]


def test_a_taken_name_is_not_linked_over(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert not files.link_new(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EPERM, InstallationError), (errno.EOPNOTSUPP, InstallationError), (errno.ENOSPC, OSError)],
)
def test_only_a_file_system_without_links_is_called_one(tmp_path, monkeypatch, number, kind):
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(kind) as caught:
        files.link_new(tmp_path / "a", tmp_path / "b")
    assert os.strerror(number) in str(caught.value)


def test_removing_takes_folders_files_links_and_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "link", "nothing"):
        files.remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists(), "removing a link removed what it points to"


def test_one_writer_holds_the_lock_and_is_named(tmp_path):
    with (
        files.writer_lock(tmp_path),
        pytest.raises(BankBusyError, match=f"is being written by process {os.getpid()}"),
        files.writer_lock(tmp_path),
    ):
        pass
    with files.writer_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_writer_is_free(tmp_path):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with files.writer_lock(tmp_path):
            os.write(writing, b"locked")
            signal.pause()
    assert os.read(reading, 6) == b"locked"
    with pytest.raises(BankBusyError, match=f"process {child}"), files.writer_lock(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with files.writer_lock(tmp_path):
        pass


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    with pytest.raises(BankError, match="cannot be written"), files.writer_lock(tmp_path / "missing"):
        pass


@pytest.mark.parametrize("mode", ["EIO", "ENOSPC"])
def test_the_nth_operation_fails_and_no_other(tmp_path, monkeypatch, mode):
    faulty(monkeypatch, 3, mode)  # a file is two operations: write and fsync
    files.write_bytes(tmp_path / "a", b"abc")
    with pytest.raises(OSError, match="a2") as caught:
        files.write_bytes(tmp_path / "a2", b"abc")
    assert caught.value.errno == getattr(errno, mode)
    files.write_bytes(tmp_path / "a3", b"abc")
    assert files.operations == 5


def test_a_short_write_leaves_half_of_the_bytes_and_fails(tmp_path, monkeypatch):
    faulty(monkeypatch, 1, "short")
    with pytest.raises(OSError, match="a") as caught:
        files.write_bytes(tmp_path / "a", b"abcdef")
    assert caught.value.errno == errno.EIO
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_kill_is_a_kill(tmp_path, monkeypatch):
    faulty(monkeypatch, 2, "kill")
    child = os.fork()
    if child == 0:
        files.write_bytes(tmp_path / "a", b"abc")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (tmp_path / "a").exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"held")
    os.mkfifo(tmp_path / "pipe")
    assert files.plain_bytes(tmp_path / "file") == b"held"
    with pytest.raises(OSError, match="no plain file"):
        files.plain_bytes(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        files.plain_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.plain_bytes(tmp_path / "nothing")
