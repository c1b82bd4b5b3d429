"""Shards from workers that share no storage with the bank: packed there, sent back, checked and put in place here."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import crc32c

from ..storage import files
from ..storage.checks import FileEntry
from ..storage.errors import UnfinishedError, sentence
from ..storage.manifest import shard_folder
from ..storage.shard import MARKER, ShardEntry, finished_shard
from ..storage.shard_writer import settle
from .cluster import worker_folder
from .extraction import ShardJob, extract_shard

PIECE = 16 << 20
"""Bytes of a piece, at most: what travels as one message stays small."""
_AGAIN = "run this again"

Packed = list[bytes]
"""A finished shard: its entry as JSON, then its files in the order of their names, each in pieces of `PIECE` bytes."""


def collect_shard(job: ShardJob) -> dict[str, Any]:
    """The Dask task: what `extract_shard` returns, and under `packed` the shard itself; empty where there is none.

    The worker needs to see the data set, not the bank. Its own folder holds the shard meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="shard-", dir=worker_folder()) as folder:
        row = extract_shard(replace(job, bank=Path(folder)))
        if row["entry"] is None:
            return {**row, "packed": []}
        entry = ShardEntry.from_json(row["entry"])
        return {**row, "packed": pack(shard_folder(Path(folder)) / entry.id, entry)}


def pack(path: Path, entry: ShardEntry) -> Packed:
    """A finished shard as bytes; the same shard gives the same bytes."""
    head = json.dumps(entry.to_json()).encode()
    return [head, *(piece for name in sorted(entry.files) for piece in _pieces(path / name))]


def receive(bank: Path, packed: Sequence[bytes]) -> ShardEntry:
    """Writes a packed shard into the bank, its name given last, when all of it has been checked and is on the disk.

    One that is there already, whole, stays as it is: tasks may run twice.

    Raises:
        UnfinishedError: the bytes are not those that the worker hashed. OSError: they cannot be written.
    """
    entry = _entry(packed[0])
    target = shard_folder(bank) / entry.id
    if (done := finished_shard(target)) is not None:
        return done
    path = shard_folder(bank) / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        _write(path, entry, packed)
        return settle(path, target, entry)
    finally:
        if path.exists():
            with suppress(OSError):  # what is left is garbage, and collected as such
                files.remove_tree(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _entry(head: bytes) -> ShardEntry:
    """What the worker says of the shard; names that would lie outside its folder are refused."""
    try:
        entry = ShardEntry.from_json(json.loads(head))
        names = [PurePosixPath(name) for name in (entry.id, *entry.files)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfinishedError(sentence("a shard from a worker", f"cannot be read ({error!r})", fix=_AGAIN)) from error
    if strange := [str(name) for name in names if name.is_absolute() or ".." in name.parts or not name.parts]:
        raise UnfinishedError(sentence("a shard from a worker", expected="files of its own", found=repr(strange[0])))
    if MARKER not in entry.files:
        raise UnfinishedError(sentence(f"shard {entry.id} from a worker", f"has no {MARKER}", fix=_AGAIN))
    return entry


def _write(path: Path, entry: ShardEntry, packed: Sequence[bytes]) -> None:
    """All files, the marker last, on the disk when this returns."""
    contents = _by_name(entry, packed)
    for folder in sorted({(path / name).parent for name in contents} | {path}):
        files.make_folder(folder)
    for name in sorted(contents, key=lambda name: (name == MARKER, name)):
        data = b"".join(contents[name])
        _check(f"{name} of shard {entry.id} from a worker", data, entry.files[name])
        files.write_bytes(path / name, data)
    for folder in sorted({(path / name).parent for name in contents}, reverse=True):
        files.fsync_folder(folder)


def _by_name(entry: ShardEntry, packed: Sequence[bytes]) -> dict[str, Sequence[bytes]]:
    """The pieces of each file."""
    contents, first = {}, 1
    for name in sorted(entry.files):
        count = -(-entry.files[name].size // PIECE)
        contents[name] = packed[first : first + count]
        first += count
    if first != len(packed):
        what = f"shard {entry.id} from a worker"
        raise UnfinishedError(sentence(what, expected=f"{first:,} pieces", found=f"{len(packed):,}", fix=_AGAIN))
    return contents


def _check(what: str, data: bytes, entry: FileEntry) -> None:
    found = FileEntry(len(data), hashlib.sha256(data).hexdigest(), f"{crc32c.crc32c(data):08x}")
    if found != entry:
        expected, said = (f"{each.size:,} bytes, SHA-256 {each.sha256[:12]}…" for each in (entry, found))
        raise UnfinishedError(sentence(what, expected=expected, found=said, fix=_AGAIN))
