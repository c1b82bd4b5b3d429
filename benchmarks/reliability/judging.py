"""What a bank holds and answers, as a few digests: two banks are the same where these are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zeuxis.index.retriever import Retriever
from zeuxis.storage.errors import ZeuxisError
from zeuxis.storage.manifest import verify
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.records import TABLES
from zeuxis.storage.shard import blob_key

from .world import asked_layouts

Rows = Mapping[str, list[dict[str, Any]]]
"""Table to its live rows."""


class State(NamedTuple):
    """A bank: its generation, and digests of its rows, of the values behind them, and of its answers."""

    generation: int
    rows: str
    values: str
    answers: str

    def same(self, other: State) -> bool:
        """Whether both hold and answer the same, whatever their numbers."""
        return self[1:] == other[1:]


def names_in(bank: Path) -> list[str]:
    """Every file of a bank but its lock and reports, which may be missing where a disk was full."""
    files = (path.relative_to(bank) for path in bank.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] not in ("WRITER.lock", "reports"))


def judge(bank: Path, *, verified: bool = True) -> tuple[State | None, list[str]]:
    """The state of the current generation, and all that is wrong with it; no state where it cannot be read.

    All of it is read; `verified`: by `verify --deep` first.
    """
    try:
        wrong = list(verify(bank, deep=True)) if verified else []
        reader = Reader(bank)
        rows = {name: reader.table(name).to_pylist() for name in TABLES}
        wrong += _broken_rules(reader, rows)
        digest = _digest({name: sorted(map(_plain, found)) for name, found in rows.items()})
        return State(reader.manifest.generation, digest, _digest(_values(reader, rows)), answers(reader)), wrong
    except (ZeuxisError, OSError, KeyError) as error:
        return None, [f"{type(error).__name__}: {error}"]


def answers(reader: Reader) -> str:
    """Digest of what `retrieve` says to each of the world's layouts: segments, scores, sources."""
    retriever = Retriever(reader)
    found = []
    for layout in asked_layouts():
        for component in retriever.retrieve(layout, 3):
            found.append([[hit.segment_id, hit.score, hit.source] for hit in component.hits])
    return _digest(found)


def _broken_rules(reader: Reader, rows: Rows) -> list[str]:
    """Whatever holds of every sound bank and does not of this one."""
    wrong = []
    if content_of(reader) != reader.manifest.content:
        wrong.append("the manifest's content is not the bank's")
    for table, column in (("sources", "source"), ("sources", "source_id"), ("segments", "segment_id")):
        found = [row[column] for row in rows[table]]
        if len(set(found)) < len(found):
            wrong.append(f"the same {column} is in {table} twice")
    inputs = [row["source"] for row in (*rows["sources"], *rows["rejects"])]
    if len(set(inputs)) < len(inputs):
        wrong.append("an input is both taken in and refused, or refused twice")
    covered = [id for part in reader.parts for id in part.entry.shards]
    if len(set(covered)) < len(covered) or not {shard.entry.id for shard in reader.shards} <= set(covered):
        wrong.append("a shard has no index part, or several")
    if any(len(part.leaves) != part.entry.rows for part in reader.parts):
        wrong.append("segments are lost or doubled in the index")
    return wrong


def _values(reader: Reader, rows: Rows) -> dict[str, str]:
    """Key to hash of every live row's value, however they are spread over shards; KeyError where one is lost."""
    there = {key: value for shard in reader.shards for key, value in shard.blobs()}
    keys = [blob_key("segment", row["segment_id"]) for row in rows["segments"]]
    for row in rows["sources"]:
        kinds = [kind for kind in ("image", "layout", "depth") if row[kind] is not None]
        keys += [blob_key(kind, row["source_id"]) for kind in kinds]
    return {key.hex(): hashlib.sha256(there[key]).hexdigest() for key in keys}


def _plain(row: Any) -> str:
    return json.dumps(row, sort_keys=True, default=str)


def _digest(what: Any) -> str:
    return hashlib.sha256(_plain(what).encode()).hexdigest()[:16]


def first_lines(sentences: Iterable[str], most: int = 3) -> list[str]:
    """A few of them, cut short: enough to find the fault by."""
    return [sentence[:300] for sentence in sentences][:most]
