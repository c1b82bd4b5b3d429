"""`zeuxis forget`: removes sources and everything derived from them, for good, and shows that nothing is left."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ..storage import files
from ..storage.errors import BankError, DamagedBankError, InputError, sentence
from ..storage.manifest import (
    Manifest,
    bytes_of,
    collect_garbage,
    generations,
    load_current,
    load_generation,
    manifest_path,
    publish,
    report_path,
    shard_folder,
)
from ..storage.merging import merge_shards
from ..storage.parts import sound_parts
from ..storage.reader import Reader, content_of
from ..storage.retention import remove_generation
from ..storage.shard import Shard, ShardEntry
from ..storage.stamps import StampsEntry, read_stamps, write_stamps
from .indexing import index_shards
from .progress import Progress, silent
from .trace_patterns import Patterns, Traces
from .traces import Held, counted, search_bank, told, trace

_COMPARED = 100_000  # names among which the most alike are looked for: more would take long


@dataclass(frozen=True)
class ForgetReport:
    """What `forget` did, and what it searched to prove it.

    Attributes:
        bank: where; generation: the current one now; published: whether this run made it.
        sources: the names that were given, each once.
        rows: table to number of rows removed; blobs: values removed; both over all generations.
        bytes: freed on disk.
        generations: older ones that were removed because they held some of it; reports: how many reports of rebuilds.
        pinned: generations that hold some of it and cannot be removed, since somebody reads them.
        files, searched: how many files, and bytes, were searched in the end.
        left: what was found in files that only pinned generations need, a sentence each.
        found: what was found elsewhere, or could not be searched; a sentence each.
    """

    bank: Path
    generation: int
    published: bool
    sources: tuple[str, ...]
    rows: Mapping[str, int]
    blobs: int
    bytes: int
    generations: tuple[int, ...]
    reports: int
    pinned: tuple[int, ...]
    files: int
    searched: int
    left: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def proved(self) -> bool:
        """Whether nothing is left."""
        return not (self.pinned or self.left or self.found)


def forget(sources: str | Sequence[str], bank: str | Path, *, progress: Progress = silent) -> ForgetReport:
    """Removes sources from a bank with everything derived from them; no rebuild takes them in again.

    The shards and index parts that hold them are made anew, a generation without them is published, and every older
    one that holds them is removed; then all that remains is searched. A run that was killed is repeated: it goes on.

    Args:
        sources: their names, as in the column `source` (`dataset/name`), or `@FILE` with one name a line.
        bank: its folder.
        progress: told what is being done.

    Raises:
        InputError: no such source. NotABankError, SchemaError, DamagedBankError: the bank cannot be used, or what holds
            them cannot be read. BankBusyError: the bank is being written.
    """
    path = Path(os.path.expanduser(bank)).resolve()
    names = _names(sources)
    load_current(path)  # before the folder is touched
    with files.writer_lock(path):
        current = load_current(path)
        older = _older(path, current)
        entries = [entry for manifest in (*older.values(), current) if manifest for entry in manifest.shards]
        known_ids = {current.forgotten[name] for name in names if current.forgotten.get(name)}
        traces, held, unreadable = trace(path, entries, names, known_ids)
        for entry in current.shards:
            if entry.id in unreadable:
                raise unreadable[entry.id]
        _refuse_unknown(path, entries, names, current, held)
        before = bytes_of(path)
        manifest = _without(path, current, names, held, progress)
        if manifest:
            publish(path, manifest)
            older[current.generation] = current
        holding = _holding(older, {*held, *unreadable})
        pinned = tuple(number for number in holding if not remove_generation(path, number))
        reports = _remove_reports(path, holding, traces)
        collect_garbage(path)
        freed = before - bytes_of(path)
        searched = search_bank(path, traces, progress)
        apart = _only_in(path, pinned)
    return ForgetReport(
        bank=path,
        generation=(manifest or current).generation,
        published=manifest is not None,
        sources=tuple(names),
        rows=counted(held.values()),
        blobs=sum(each.blobs for each in held.values()),
        bytes=max(freed, 0),
        generations=tuple(number for number in holding if number not in pinned),
        reports=reports,
        pinned=pinned,
        files=searched.files,
        searched=searched.bytes,
        left=told(hit for hit in searched.hits if _lies_in(hit.path, apart)),
        found=told(hit for hit in searched.hits if not _lies_in(hit.path, apart)),
    )


def _names(sources: str | Sequence[str]) -> list[str]:
    """The names that are meant, each once; `@FILE` stands for the lines of a file."""
    names: list[str] = []
    for each in [sources] if isinstance(sources, str) else sources:
        names += _lines(Path(os.path.expanduser(each[1:]))) if each.startswith("@") else [each]
    names = list(dict.fromkeys(filter(None, names)))
    if strange := [name for name in names if not _is_text(name)]:
        raise InputError(sentence(f"source {strange[0]!r}", expected="UTF-8, as all names in a bank are"))
    if not names:
        raise InputError(sentence("sources", expected="names of sources, such as camvid/0001TP_006690", found="none"))
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        raise InputError(sentence(path, said, fix="give a file with the name of one source a line")) from error


def _older(bank: Path, current: Manifest) -> dict[int, Manifest | None]:
    """The generations before the current one; None where a manifest cannot be read."""
    found: dict[int, Manifest | None] = {}
    for number in generations(bank):
        if number != current.generation:
            try:
                found[number] = load_generation(bank, number)
            except BankError:
                found[number] = None
    return found


def _holding(older: Mapping[int, Manifest | None], shards: Collection[str]) -> list[int]:
    """The older generations that have one of these shards, or of which it cannot be told."""
    return [
        number
        for number, manifest in older.items()
        if manifest is None or any(entry.id in shards for entry in manifest.shards)
    ]


def _refuse_unknown(
    bank: Path, entries: Iterable[ShardEntry], names: Sequence[str], current: Manifest, held: Mapping[str, Held]
) -> None:
    """Refuses names that neither a source, nor a reject, nor a forgotten source of any generation has."""
    there = {*current.forgotten, *(name for each in held.values() for name in each.names)}
    unknown = [name for name in names if name not in there]
    if not unknown:
        return
    known: dict[str, None] = {}
    for entry in {entry.id: entry for entry in entries}.values():
        with suppress(DamagedBankError):
            shard = Shard(shard_folder(bank) / entry.id, entry)
            for table in ("sources", "rejects"):
                known |= dict.fromkeys(shard.table(table, ["source"])["source"].to_pylist())
    alike = _alike(unknown[0], list(known))
    more = f", and {len(unknown) - 1:,} more of those given are not" if len(unknown) > 1 else ""
    fix = f"did you mean {' or '.join(alike)}?" if alike else "`zeuxis.open(BANK).sources()` names them all"
    raise InputError(sentence(f"source {unknown[0]!r}", f"is not in {bank}{more}", fix=fix))


def _alike(name: str, known: Sequence[str]) -> list[str]:
    """Up to three names that may have been meant: of the same last part, else spelt alike."""
    last = name.rpartition("/")[2]
    return sorted(each for each in known if each.endswith(f"/{last}"))[:3] or difflib.get_close_matches(
        name, known[:_COMPARED], 3
    )


def _without(
    bank: Path, current: Manifest, names: Sequence[str], held: Mapping[str, Held], progress: Progress
) -> Manifest | None:
    """The generation without them; None where the current one is that already."""
    if current.forgotten.keys() >= set(names) and not any(entry.id in held for entry in current.shards):
        return None
    stamps = _stamps(bank, current)
    ids = _source_ids(current, held)
    say = partial(progress, 0, 1)
    shards, rewritten = _rewritten(bank, current, held, stamps, say)
    gone = {name for each in held.values() for name in each.names}
    manifest = replace(
        current,
        generation=current.generation + 1,
        shards=tuple(shards),
        stamps=_fewer_stamps(bank, stamps, {*gone, *names, *rewritten}),
        forgotten={**current.forgotten, **{name: current.forgotten.get(name) or ids.get(name, "") for name in names}},
        made={
            **current.made,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": f"{len(names):,} sources forgotten" if len(names) > 1 else "one source forgotten",
        },
    )
    parts = sound_parts(bank, current.index)
    index = index_shards(bank, current.geometry.frame, manifest.shards, parts, say)
    return replace(manifest, index=index, content=content_of(Reader(bank, manifest)))


def _rewritten(
    bank: Path, current: Manifest, held: Mapping[str, Held], stamps: Mapping[str, str], say: Callable[[str], None]
) -> tuple[list[ShardEntry], set[str]]:
    """The shards of the current generation without what goes, and the names of all that was written anew."""
    folder, frame = shard_folder(bank), current.geometry.frame
    new, moved = dict[str, ShardEntry](), set[str]()
    for entry in current.shards:
        if entry.id in held and held[entry.id].left:
            say(f"writing shard {entry.id} anew")
            old = Shard(folder / entry.id, entry)
            new[entry.id] = merge_shards(folder, [old], frame, gone=held[entry.id].names, stamps=stamps)
            moved |= {*old.table("sources")["source"].to_pylist(), *old.table("rejects")["source"].to_pylist()}
            moved -= {*entry.masked, *entry.masked_rejects}
    made = {entry.id for entry in new.values()}  # one of them may equal a shard of which nothing is live
    shards = [new.get(entry.id, entry) for entry in current.shards if entry.id not in held or entry.id in new]
    return [entry for entry in shards if entry.id not in made or entry in new.values()], moved


def _source_ids(current: Manifest, held: Mapping[str, Held]) -> dict[str, str]:
    """The hash of each that goes; of a source that has had several, the last one: live ones come last."""
    here = {entry.id for entry in current.shards}
    rows = [
        (id in here, name in each.live, name, source_id)
        for id, each in held.items()
        for name, source_id in each.source_ids.items()
    ]
    return {name: source_id for *_, name, source_id in sorted(rows)}


def _fewer_stamps(bank: Path, stamps: Mapping[str, str], done: Collection[str]) -> StampsEntry | None:
    """The newer stamps without those of what is gone, and of what was written anew with them."""
    return write_stamps(bank, {name: stamp for name, stamp in stamps.items() if name not in done})


def _stamps(bank: Path, current: Manifest) -> dict[str, str]:
    """The newer stamps; none where they are damaged, since all they do is to save work."""
    try:
        return read_stamps(bank, current.stamps)
    except DamagedBankError:
        return {}


def _remove_reports(bank: Path, holding: Collection[int], traces: Traces) -> int:
    """Removes the reports of generations that hold some of it, and those that show any; returns how many."""
    folder = report_path(bank, 0).parent
    patterns = Patterns(traces, ())
    shown = [
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if (path.stem.isdecimal() and int(path.stem) in holding) or patterns.in_file(path)
    ]
    for path in shown:
        files.remove_tree(path)
    return len(shown)


def _only_in(bank: Path, pinned: Collection[int]) -> set[Path]:
    """The manifests of pinned generations, and the folders and files that no other generation needs."""
    pieces = {number: set(load_generation(bank, number).pieces(bank)) for number in generations(bank)}
    others = {path for number, paths in pieces.items() if number not in pinned for path in paths}
    theirs = {path for number in pinned for path in pieces.get(number, ())}
    return {manifest_path(bank, number) for number in pinned} | (theirs - others)


def _lies_in(path: Path, folders: Collection[Path]) -> bool:
    return any(each in folders for each in (path, *path.parents))
