"""The LMDB environments of a process: read-only, opened when first needed, a few at a time, never across a fork."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lmdb

from .errors import DamagedBankError, sentence

LMDB_ENGINE = 0
"""The 0.9 engine, whose files the 1.0 engine cannot read."""
_OPEN_ENVIRONMENTS = 64

_environments: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
_lock = threading.Lock()


@contextmanager
def reading(folder: str) -> Iterator[Any]:
    """A short read transaction, one at a time in a process; the environment behind it is one of a few that stay open.

    A folder that was replaced by another of its name, as a repair does, is another environment. LMDB opens
    a path once a process, and hangs where it is closed in the child of a fork amid a read. So every read
    holds the lock, a fork waits for it, and the child starts without environments.
    """
    with _lock:
        key = _key(folder)
        if key not in _environments:
            for other in [other for other in _environments if other[0] == folder]:
                _environments.pop(other).close()
            while len(_environments) >= _OPEN_ENVIRONMENTS:
                _environments.popitem(last=False)[1].close()
            _environments[key] = _open(folder)
        _environments.move_to_end(key)
        with _environments[key].begin() as transaction:
            yield transaction


def _open(folder: str) -> Any:
    try:
        return lmdb.open(folder, readonly=True, lock=False, readahead=False, lib_version=LMDB_ENGINE)
    except lmdb.Error as error:
        raise DamagedBankError(sentence(folder, f"cannot be opened ({error})", fix="run `zeuxis repair`")) from error


def _key(folder: str) -> tuple[str, int, int]:
    """The folder that has this name now; where it was removed, the one that is open."""
    try:
        status = os.stat(folder)
        return folder, status.st_ino, status.st_ctime_ns
    except FileNotFoundError:
        return next((key for key in _environments if key[0] == folder), (folder, 0, 0))


def _start_child() -> None:
    for environment in _environments.values():
        environment.close()
    _environments.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_start_child)
