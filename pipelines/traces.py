"""What there is of some sources in a bank: which shards hold them, and a search of every byte that finds none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ..storage.errors import BankError, DamagedBankError, ZeuxisError, sentence
from ..storage.manifest import Manifest, generations, load_generation, manifest_path, shard_folder
from ..storage.parts import INDEX, IndexPart, PartEntry, part_folder
from ..storage.records import TABLES, hex_id
from ..storage.shard import BLOBS, Shard, ShardEntry
from ..storage.stamps import read_stamps, stamps_folder
from .progress import Progress
from .trace_patterns import SHOWN, Patterns, Traces


@dataclass(frozen=True)
class Held:
    """What one shard holds of them.

    Attributes:
        sources: names of source rows; rejects: names of reject rows.
        live: names of those that are not masked; source_ids: name to hash, empty where there is none.
        left: whether anything else in the shard is live.
        rows: table to number of rows; blobs: number of values.
    """

    sources: frozenset[str]
    rejects: frozenset[str]
    live: frozenset[str]
    source_ids: Mapping[str, str]
    left: bool
    rows: Mapping[str, int]
    blobs: int

    @property
    def names(self) -> frozenset[str]:
        """All that is to be left out of the shard."""
        return self.sources | self.rejects


class Hit(NamedTuple):
    """Something that was found: in which file, and what, in a few words."""

    path: Path
    what: str


@dataclass
class Searched:
    """What a search went through, and what it found."""

    files: int = 0
    bytes: int = 0
    hits: list[Hit] = field(default_factory=list)


def trace(
    bank: Path, shards: Iterable[ShardEntry], names: Collection[str], source_ids: Collection[str] = ()
) -> tuple[Traces, dict[str, Held], dict[str, DamagedBankError]]:
    """Everything that shards hold of some sources, be they live, masked, or rejected, under these names or others.

    Args:
        bank: its folder.
        shards: of any generations; those of one id are the same.
        names: of the sources; source_ids: hashes of theirs that are known already.

    Returns:
        By what they are recognised, id to what that shard holds, and id to why that shard cannot be read.
    """
    opened, unreadable, inputs = dict[str, Shard](), dict[str, DamagedBankError](), dict[str, pa.Table]()
    ids = set(source_ids)
    for entry in {entry.id: entry for entry in shards}.values():
        try:
            shard = Shard(shard_folder(bank) / entry.id, entry)
            inputs[entry.id] = _inputs(shard)
        except DamagedBankError as error:
            unreadable[entry.id] = error
            continue
        opened[entry.id] = shard
        ids.update(filter(None, _rows_of(inputs[entry.id], "source", names)["source_id"].to_pylist()))
    held, segment_ids = dict[str, Held](), set[int]()
    for id, table in inputs.items():
        found = [*_rows_of(table, "source", names).to_pylist(), *_rows_of(table, "source_id", ids).to_pylist()]
        try:
            if found or _mentioned(opened[id], names):
                held[id] = _held(opened[id], names, found, table, ids, segment_ids)
        except DamagedBankError as error:
            unreadable[id] = error
    return Traces(frozenset(names), frozenset(ids), frozenset(segment_ids)), held, unreadable


_INPUTS = pa.schema([("source", pa.string()), ("source_id", pa.string()), ("of", pa.string())])


def _inputs(shard: Shard) -> pa.Table:
    """Name and hash of every source and reject of a shard, live or not, and which of the two it is."""
    tables = {name: shard.table(name, ["source", "source_id"]) for name in ("sources", "rejects")}
    return pa.concat_tables(
        table.append_column("of", pa.array([name] * len(table), pa.string())).cast(_INPUTS)
        for name, table in tables.items()
    )


def _rows_of(table: pa.Table, column: str, texts: Collection[str]) -> pa.Table:
    """The rows of which a column holds one of some texts."""
    return table.filter(pc.is_in(table[column], pa.array(sorted(texts), pa.string())))


def _held(
    shard: Shard,
    names: Collection[str],
    found: Sequence[Mapping[str, Any]],
    inputs: pa.Table,
    source_ids: Collection[str],
    segment_ids: set[int],
) -> Held:
    """What one shard holds; the ids of the segments are added to `segment_ids`."""
    sources = {row["source"] for row in found if row["of"] == "sources"}
    rejects = {row["source"] for row in found if row["of"] == "rejects"} | _mentioned(shard, names)
    counts = {
        name: len(_rows_of(shard.table(name, ["source"]), "source", rejects if name == "rejects" else sources))
        for name in TABLES
    }
    mine = _rows_of(shard.table("segments", ["source", "segment_id"]), "source", sources)
    ids = mine["segment_id"].to_pylist()
    segment_ids.update(ids)
    keys = Traces(frozenset(), frozenset(source_ids), frozenset(ids)).keys
    masked = {"sources": shard.entry.masked, "rejects": shard.entry.masked_rejects}
    live = [row for row in inputs.to_pylist() if row["source"] not in masked[row["of"]]]
    gone = {"sources": sources, "rejects": rejects}
    return Held(
        sources=frozenset(sources),
        rejects=frozenset(rejects),
        live=frozenset(row["source"] for row in live),
        source_ids={row["source"]: row["source_id"] or "" for row in found},
        left=any(row["source"] not in gone[row["of"]] for row in live),
        rows=counts,
        blobs=sum(_has(shard, key) for key in keys),
    )


def _mentioned(shard: Shard, names: Collection[str]) -> set[str]:
    """Names of rejects whose message is about one of some sources: of the same bytes as it was then."""
    if not shard.entry.rows["rejects"]:
        return set()
    table = shard.table("rejects", ["source", "message"])
    said = _any_word(names)
    return {row["source"] for row in table.to_pylist() if said.search(row["message"])}


def _any_word(names: Iterable[str]) -> re.Pattern[str]:
    """Matches one of some names where a sentence names it: before a colon, or before what is to be done."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, longest_first))})(?=[;:]|$)")


def _has(shard: Shard, key: bytes) -> bool:
    with suppress(KeyError):
        shard.blob(key)
        return True
    return False


def search_bank(bank: Path, traces: Traces, progress: Progress) -> Searched:
    """Searches all generations of a bank for what is left of some sources: rows, values, index rows, and raw bytes.

    A manifest's own list of what was forgotten is left out. What cannot be read counts as found.

    Args:
        bank: its folder, which nobody else writes meanwhile.
        traces: what must not be there.
        progress: told how many bytes were searched.
    """
    searched = Searched()
    others: set[str] = set()
    seen: set[str] = set()
    for number in generations(bank):
        path = manifest_path(bank, number)
        try:
            manifest = load_generation(bank, number)
            others.update(f"{entry.name} {entry.root}" for entry in manifest.datasets)
            searched.hits += _in_stamps(bank, manifest, traces)
        except BankError as error:
            searched.hits.append(Hit(path, str(error)))
            continue
        for shard_entry in manifest.shards:
            if shard_entry.id not in seen:
                searched.hits += _in_shard(bank, shard_entry, traces, others)
        for part_entry in manifest.index:
            if part_entry.id not in seen:
                searched.hits += _in_part(bank, manifest, part_entry)
        seen.update(entry.id for entry in manifest.shards)
        seen.update(entry.id for entry in manifest.index)
    paths = [path for path in sorted(bank.rglob("*")) if path.is_file() and not path.is_symlink()]
    total = sum(path.stat().st_size for path in paths)
    patterns = Patterns(traces, others)
    for path in paths:
        progress(searched.bytes, total, "searching all that is left")
        searched.hits += [Hit(path, what) for what in patterns.in_file(path)]
        searched.bytes += path.stat().st_size
        searched.files += 1
    progress(total, total, "searching all that is left")
    return searched


def _in_stamps(bank: Path, manifest: Manifest, traces: Traces) -> Iterator[Hit]:
    for name in sorted(traces.names.intersection(read_stamps(bank, manifest.stamps))):
        assert manifest.stamps is not None
        yield Hit(stamps_folder(bank) / manifest.stamps.name, f"the stamp of {name}")


def _in_shard(bank: Path, entry: ShardEntry, traces: Traces, others: set[str]) -> Iterator[Hit]:
    """Rows and values of a shard; names in it that only look like one of them are added to `others`."""
    folder = shard_folder(bank) / entry.id
    try:
        shard = Shard(folder, entry)
        for name in TABLES:
            for what in _in_table(shard.table(name), traces, others):
                yield Hit(folder / f"{name}.parquet", what)
        for key in traces.keys:
            if _has(shard, key):
                yield Hit(folder / BLOBS, f"the value {key.hex()}")
    except ZeuxisError as error:
        yield Hit(folder, str(error))


def _in_table(table: pa.Table, traces: Traces, others: set[str]) -> Iterator[str]:
    said = _any_word(traces.names)
    for name in table.column_names:
        column = table[name]
        if name in ("segment_id", "segment_a", "segment_b", "front"):
            ids = pa.array(sorted(traces.segment_ids), pa.uint64())
            found = [hex_id(id) for id in column.filter(pc.is_in(column, ids)).unique().to_pylist()]
        elif pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            texts = _containing(column, {*traces.names, *traces.source_ids})
            found = [text for text in texts if _is_trace(name, text, traces, said)]
            others.update(set(texts).difference(found))
        else:
            continue
        yield from (f"{text} in column {name}" for text in found[:SHOWN])


def _containing(column: pa.ChunkedArray, texts: Iterable[str]) -> list[str]:
    """The distinct values of a text column in which one of some texts occurs."""
    distinct = column.unique().cast(pa.string()).drop_null()
    found: set[str] = set()
    for text in texts:
        found.update(distinct.filter(pc.match_substring(distinct, text)).to_pylist())
    return sorted(found)


def _is_trace(column: str, text: str, traces: Traces, said: re.Pattern[str]) -> bool:
    if column == "source":
        return text in traces.names
    if column == "source_id":
        return text in traces.source_ids
    return column == "message" and said.search(text) is not None


def _in_part(bank: Path, manifest: Manifest, entry: PartEntry) -> Iterator[Hit]:
    """An index part that has other rows than its shards."""
    rows = {shard.id: shard.rows["segments"] for shard in manifest.shards}
    folder = part_folder(bank) / entry.id
    if entry.version != INDEX or not rows.keys() >= set(entry.shards):
        yield Hit(folder, "an index part of other shards than the generation has")
        return
    expected = sum(rows[id] for id in entry.shards)
    try:
        if (found := len(IndexPart(folder, entry).leaves)) != expected:
            yield Hit(folder, f"{found:,} rows for {expected:,} segments")
    except ZeuxisError as error:
        yield Hit(folder, str(error))


def counted(held: Iterable[Held]) -> dict[str, int]:
    """Table to number of rows over some shards."""
    return dict(sum((Counter(each.rows) for each in held), Counter(dict.fromkeys(TABLES, 0))))


def told(hits: Iterable[Hit]) -> tuple[str, ...]:
    """Hits as sentences."""
    return tuple(sentence(hit.path, hit.what) for hit in hits)
