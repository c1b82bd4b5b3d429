"""Planted defects: what a checker must find, or it checks nothing. Each changes the process that it is called in."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zeuxis.pipelines import publishing
from zeuxis.storage import files, retention
from zeuxis.storage.shard_writer import ShardWriter


def overwriting() -> None:
    """The manifest is renamed over the current one instead of linked to a new name."""

    def link_new(source: Path, target: Path) -> bool:
        current = max(target.parent.glob("MANIFEST-*.json"))
        os.replace(source, current)
        return True

    files.link_new = link_new


def careless() -> None:
    """A write that fails is taken for one that succeeded."""
    original = files.write_bytes

    def write_bytes(path: Path, data: bytes) -> None:
        with suppress(OSError):
            original(path, data)

    files.write_bytes = write_bytes


def untidy() -> None:
    """What killed writers left is never removed."""
    setattr(retention, "collect_garbage", lambda bank: {})  # noqa: B010


def forgetful() -> None:
    """Rejects are not written down."""
    ShardWriter.reject = lambda *_: None  # type: ignore[method-assign]


def doubling() -> None:
    """What was changed or has vanished stays beside what replaces it."""
    publishing._remaining = lambda work, extracted, new: list(work.current.shards if work.current else ())


def not_durable() -> None:
    """Names are never made durable: nothing but a power loss shows it."""
    files.fsync_folder = lambda path: None


PLANTS: dict[str, Callable[[], None]] = {
    "overwriting": overwriting, "careless": careless, "untidy": untidy, "forgetful": forgetful, "doubling": doubling,
    "not durable": not_durable,
}  # fmt: skip
