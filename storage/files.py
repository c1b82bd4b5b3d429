"""Every write, fsync, rename and link of the bank goes through here, so that faults can be injected.

`ZEUXIS_FAULT=n:MODE` makes the n-th operation of the process fail: `kill` (SIGKILL), `EIO`, `ENOSPC`, or `short` (half
of the bytes are written, then EIO). LMDB writes by itself; `fault_point` stands around its transactions.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import BankBusyError, BankError, InstallationError, sentence

operations = 0
"""How many operations this process has begun: what a fault test counts first."""

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK})


def plain_bytes(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which would be waited for without end.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return path.read_bytes()


def fault_point(path: Path) -> bool:
    """Counts one operation, and fails it where `ZEUXIS_FAULT` says so. True: write only half of the bytes."""
    global operations
    operations += 1
    number, _, mode = os.environ.get("ZEUXIS_FAULT", "").partition(":")
    if not number or int(number) != operations:
        return False
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "short":
        return True
    raise OSError(getattr(errno, mode), os.strerror(getattr(errno, mode)), str(path))


def write_bytes(path: Path, data: bytes) -> None:
    """A new file with these bytes, on the disk when this returns."""
    short = fault_point(path)
    with open(path, "xb") as file:
        file.write(data[: len(data) // 2] if short else data)
        file.flush()
        if short:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        fault_point(path)
        os.fsync(file.fileno())


def fsync_file(path: Path) -> None:
    """What a library wrote to this file is on the disk when this returns."""
    _fsync(path, os.O_RDWR)


def fsync_folder(path: Path) -> None:
    """The names in this folder are on the disk when this returns."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def rename(source: Path, target: Path) -> None:
    """Moves a finished folder to its name, which must be free, and makes the name durable."""
    fault_point(target)
    os.rename(source, target)
    fsync_folder(target.parent)


def link_new(source: Path, target: Path) -> bool:
    """Gives a file a second name; False if that name is already taken, which is how one of two writers wins."""
    fault_point(target)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise InstallationError(
            sentence(
                target,
                f"hard links cannot be made here ({error.strerror})",
                fix="put the bank on a local POSIX disk",
            )
        ) from error
    fsync_folder(target.parent)
    return True


def make_folder(path: Path) -> None:
    """A folder and its parents, their names on the disk when this returns; existing ones are left alone."""
    fault_point(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        fsync_folder(folder.parent)


def remove_tree(path: Path) -> None:
    """Removes an unpublished folder or file."""
    fault_point(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writer_lock(bank: Path) -> Iterator[None]:
    """Holds the bank's one writer lock.

    Raises:
        BankBusyError: another process holds it.
    """
    with _opened_lock(bank / "WRITER.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 64, 0).decode(errors="replace").strip() or "another process"
            raise BankBusyError(
                sentence(bank, f"is being written by {holder}", fix="wait until it is done, then run this again")
            ) from error
        except OSError as error:
            raise BankError(
                sentence(bank, f"cannot be locked ({error.strerror})", fix="put the bank on a disk with file locks")
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()}".encode(), 0)
        yield


class Hold:
    """A file, or folder, that is kept open, and from being removed by `remove_unheld`, as long as this object lives.

    The lock is shared, needs no right to write, and is released by the kernel when its process dies. Where the file
    system has no locks, the file is open and nothing more.

    Raises:
        FileNotFoundError: there is no such file any more.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.release = weakref.finalize(self, os.close, self._file)
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(self._file), os.stat(path)):  # removed and made anew before it was locked
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def read(self) -> bytes:
        """All of the file, which may have another name by now, or none."""
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            return file.read()


def is_held(path: Path) -> bool:
    """Whether somebody holds this file or folder; False where there is none, or the file system has no locks."""
    try:
        with _opened(path, os.O_RDONLY) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def remove_unheld(path: Path) -> bool:
    """Removes a file unless somebody holds it; whether it is gone."""
    try:
        with _opened(path, os.O_RDONLY) as file:  # who asks for the lock meanwhile gets it on a file without a name
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _opened_lock(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BankError(
            sentence(path.parent, f"cannot be written ({error.strerror})", fix="choose a folder you may write to")
        ) from error
    try:
        yield file
    finally:
        os.close(file)


def _fsync(path: Path, flags: int) -> None:
    fault_point(path)
    with _opened(path, flags) as file:
        os.fsync(file)
