"""What there is of some sources in a bank: which shards hold them, and a search of every byte that finds none."""

from __future__ import annotations

import html
import json
import mmap
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.errors import BankError, DamagedBankError, ZeuxisError, sentence
from ..storage.manifest import Manifest, generations, load_generation, manifest_path, shard_folder
from ..storage.parts import INDEX, IndexPart, PartEntry, part_folder
from ..storage.records import TABLES, hex_id
from ..storage.shard import BLOBS, Shard, ShardEntry, blob_key
from ..storage.stamps import read_stamps, stamps_folder
from .progress import Progress

_WINDOW = 1 << 23  # bytes that are searched at a time
_PREFIX = 4  # bytes by which a pattern is first looked up
_SHOWN = 40  # hits of one kind in one file that are told apart
_KINDS = ("image", "layout", "depth")


@dataclass(frozen=True)
class Traces:
    """By what sources are recognised: their names, the hashes of their bytes (hex), the ids of their segments."""

    names: frozenset[str]
    source_ids: frozenset[str] = frozenset()
    segment_ids: frozenset[int] = frozenset()

    @property
    def keys(self) -> list[bytes]:
        """Every key under which their values may lie in a shard's blobs."""
        found = [blob_key(kind, id) for id in sorted(self.source_ids) for kind in _KINDS]
        return found + [blob_key("segment", id) for id in sorted(self.segment_ids)]


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
    """Matches one of some names where it stands by itself."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, longest_first))})(?=[\s;:,]|$)")


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
        yield from (f"{text} in column {name}" for text in found[:_SHOWN])


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


class Patterns:
    """The byte strings that give a source away, looked up four bytes at a time.

    Args:
        traces: whose names (as they are, as JSON and as HTML write them), and ids, in binary form of either order and
            in hex.
        others: texts of the bank that hold one of these names or ids and mean something else, such as `a/1` in `a/10`.
    """

    def __init__(self, traces: Traces, others: Collection[str]) -> None:
        names = {form: name for name in traces.names for form in _forms(name)}
        ids = {form: f"segment {hex_id(id)}" for id in traces.segment_ids for form in _id_forms(id)}
        hashes = {form: f"source {id}" for id in traces.source_ids for form in (id.encode(), bytes.fromhex(id))}
        self._what = {**names, **ids, **hashes}
        self._short = [form for form in self._what if len(form) < _PREFIX]
        self._by_prefix: dict[int, list[bytes]] = {}
        for form in self._what:
            if len(form) >= _PREFIX:
                self._by_prefix.setdefault(int.from_bytes(form[:_PREFIX], "big"), []).append(form)
        self._prefixes = np.array(sorted(self._by_prefix), np.uint32)
        self._starts = np.zeros(1 << 16, np.bool_)
        self._starts[self._prefixes >> 16] = True
        self._longest = max(map(len, self._what), default=1)
        longer = {form for other in others for form in _forms(other)}
        self._excuses = {form: _places(form, longer) for form in self._what}

    def in_file(self, path: Path) -> list[str]:
        """What of it a file holds, each once."""
        data: Any
        if path.name.startswith("MANIFEST-"):
            data = _without_forgotten(path.read_bytes())
            return self._found(data)
        with open(path, "rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # an empty file cannot be mapped
                return []
            with data:
                return self._found(data)

    def _found(self, data: Any) -> list[str]:
        hits = {form for form, place in self._matches(data) if not self._is_excused(data, form, place)}
        return sorted({self._what[form] for form in hits})[:_SHOWN]

    def _matches(self, data: Any) -> Iterator[tuple[bytes, int]]:
        """Every form with every place where it stands."""
        for first in range(0, len(data), _WINDOW):
            window = bytes(data[first : first + _WINDOW + self._longest - 1])
            for form in self._short:
                yield from ((form, first + at.start()) for at in re.finditer(re.escape(form), window))
            for at, prefix in self._candidates(window):
                for form in self._by_prefix[prefix]:
                    if window.startswith(form, at):
                        yield form, first + at

    def _candidates(self, window: bytes) -> Iterator[tuple[int, int]]:
        """Where one of the prefixes stands, and which."""
        codes = np.frombuffer(window, np.uint8)
        if len(codes) < _PREFIX or not len(self._prefixes):
            return
        pairs = _pairs(codes)
        at: npt.NDArray[np.int64] = np.flatnonzero(self._starts[pairs[:-2]])
        found = pairs[at].astype(np.uint32) << 16 | pairs[at + 2]
        right = np.isin(found, self._prefixes)
        yield from zip(at[right].tolist(), found[right].tolist(), strict=True)

    def _is_excused(self, data: Any, form: bytes, place: int) -> bool:
        return any(
            place >= before and data[place - before : place - before + len(other)] == other
            for other, before in self._excuses[form]
        )


def _pairs(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Each byte with the next one, as one number."""
    pairs = codes[:-1].astype(np.uint16)
    pairs <<= 8
    pairs |= codes[1:]
    return pairs


def _forms(text: str) -> set[bytes]:
    """How files may write a text: as it is, in JSON, in HTML."""
    written = {text, json.dumps(text)[1:-1], html.escape(text), html.escape(text, quote=False)}
    return {each.encode("utf-8", "surrogateescape") for each in written}


def _id_forms(id: int) -> tuple[bytes, bytes, bytes]:
    return id.to_bytes(8, "little"), id.to_bytes(8, "big"), hex_id(id).encode()


def _places(form: bytes, longer: Collection[bytes]) -> list[tuple[bytes, int]]:
    """Every other text in which a form stands, and where."""
    return [(other, at.start()) for other in longer for at in re.finditer(b"(?=" + re.escape(form) + b")", other)]


def _without_forgotten(data: bytes) -> bytes:
    """A manifest without its list of what was forgotten; as it is where it cannot be read."""
    try:
        row = json.loads(data)
        row.pop("forgotten", None)
        return json.dumps(row).encode()
    except (ValueError, AttributeError):
        return data


def counted(held: Iterable[Held]) -> dict[str, int]:
    """Table to number of rows over some shards."""
    return dict(sum((Counter(each.rows) for each in held), Counter(dict.fromkeys(TABLES, 0))))


def told(hits: Iterable[Hit]) -> tuple[str, ...]:
    """Hits as sentences."""
    return tuple(sentence(hit.path, hit.what) for hit in hits)
