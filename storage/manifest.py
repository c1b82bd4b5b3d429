"""Generations: one immutable manifest each, published by a hard link that fails if the number is taken.

Whoever reads one holds its manifest (`open_generation`), and `retention` removes none that is held.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import files
from .checks import FileEntry, damage_of
from .classes import VOID, ClassTable, Layout, lookup_table
from .cutting import look_up
from .decoding import Decoding
from .deep import damage_inside, damage_of_parts
from .errors import BankBusyError, BankError, DamagedBankError, InputError, NotABankError, sentence
from .layouts import Geometry
from .parts import INDEX, IndexPart, PartEntry, part_folder
from .shard import SCHEMA, Shard, ShardEntry, check_schema
from .stamps import StampsEntry, stamps_folder

FORMAT = "zeuxis-bank"
_NAME = re.compile(r"MANIFEST-(\d{6})\.json")
_REPORT = re.compile(r"(\d{6})\.html")


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that went into a bank.

    Attributes:
        name: its name in the bank: its kind, or `kind-2` and so on for further roots of that kind.
        kind, root: what it is and where; together they are its identity.
        licence: what may be done with it, where it says so.
        decoding: its native classes, void, palette and depth unit.
        mapping: native id to the bank's id.
        neighbours: its groups are numbered in the order they were taken, and neighbouring ones may look alike.
    """

    name: str
    kind: str
    root: str
    licence: str | None
    decoding: Decoding
    mapping: Mapping[int, int]
    neighbours: bool = False

    def to_bank(self, layout: Layout) -> Layout:
        """A layout of native ids in the bank's ids; the very same where the two are alike."""
        if self._bank_ids is None:
            return layout
        mapped: Layout = look_up(self._bank_ids, layout)
        return mapped

    @cached_property
    def _bank_ids(self) -> npt.NDArray[np.uint16] | None:
        """By native id; None where each class has the id it had."""
        alike = all(native == id for native, id in self.mapping.items())
        return None if alike else lookup_table(self.mapping)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "name": self.name,
            "kind": self.kind,
            "root": self.root,
            "licence": self.licence,
            "decoding": self.decoding.to_json(),
            "mapping": {str(native): id for native, id in sorted(self.mapping.items())},
            "neighbours": self.neighbours,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> DatasetEntry:
        """The entry that `to_json` wrote."""
        mapping = {int(native): id for native, id in row["mapping"].items()}
        decoding = Decoding.from_json(row["decoding"])
        neighbours = row.get("neighbours", row["kind"] == "nyu")  # which older manifests do not say
        return cls(row["name"], row["kind"], row["root"], row["licence"], decoding, mapping, neighbours)


@dataclass(frozen=True)
class Manifest:
    """One published state of a bank.

    Attributes:
        generation: its number, from 1.
        geometry: frame, minimum area, thin option.
        settings: the extraction settings, as they were resolved.
        classes: the bank's class table.
        datasets, shards: what it is made of; index: the index parts over the shards.
        content: 32 hex digits over all that was extracted: equal for equal banks, however they were made.
        made: time and versions, for people.
        forgotten: name to source id of what was removed for good, and is never taken in again.
        stamps: newer stamps of sources whose files were touched and not changed; None where there are none.
    """

    generation: int
    geometry: Geometry
    settings: Mapping[str, Any]
    classes: ClassTable
    datasets: tuple[DatasetEntry, ...]
    shards: tuple[ShardEntry, ...]
    content: str
    made: Mapping[str, str] = field(default_factory=dict)
    index: tuple[PartEntry, ...] = ()
    forgotten: Mapping[str, str] = field(default_factory=dict)
    stamps: StampsEntry | None = None

    def pieces(self, bank: Path) -> dict[Path, dict[Path, FileEntry]]:
        """Where the shards, index parts and stamps lie in a bank, and of each its files as they were published."""
        folders = [(shard_folder(bank) / entry.id, entry.files) for entry in self.shards]
        folders += [(part_folder(bank) / entry.id, entry.files) for entry in self.index]
        found = {folder: {folder / name: each for name, each in sorted(of.items())} for folder, of in folders}
        if self.stamps:
            path = stamps_folder(bank) / self.stamps.name
            found[path] = {path: self.stamps.file}
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_bytes` reads them back."""
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "generation": self.generation,
            "frame": list(self.geometry.frame),
            "min_area": self.geometry.min_area,
            "join_thin": self.geometry.join_thin,
            "void": VOID,
            "settings": dict(self.settings),
            "classes": self.classes.to_json(),
            "datasets": [entry.to_json() for entry in self.datasets],
            "shards": [entry.to_json() for entry in self.shards],
            "index": [entry.to_json() for entry in self.index],
            "stamps": self.stamps and self.stamps.to_json(),
            "forgotten": dict(sorted(self.forgotten.items())),
            "content": self.content,
            "made": dict(self.made),
        }

    def to_bytes(self) -> bytes:
        """The manifest file: JSON whose last member is the SHA-256 of all bytes before it."""
        body = json.dumps(self.to_json(), indent=1).removesuffix("\n}") + ",\n "
        return _signed(body.encode())

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Manifest:
        """The manifest of a file.

        Raises:
            NotABankError, SchemaError, DamagedBankError.
        """
        try:
            return cls._from_bytes(data, path)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise _damaged(path, f"lacks a part ({error!r})") from error

    @classmethod
    def _from_bytes(cls, data: bytes, path: Path) -> Manifest:
        try:
            row = json.loads(data)
        except ValueError as error:
            raise _damaged(path, f"is not readable JSON ({error})") from error
        if not isinstance(row, dict) or row.get("format") != FORMAT:
            raise NotABankError(sentence(path, expected=f'"format": "{FORMAT}"', found="another file"))
        check_schema(path, row)
        if data != _signed(data[:-_SIGNATURE_BYTES]):
            raise _damaged(path, "does not match its own SHA-256")
        return cls(
            row["generation"],
            Geometry((row["frame"][0], row["frame"][1]), row["min_area"], row["join_thin"]),
            row["settings"],
            ClassTable.from_json(row["classes"]),
            tuple(DatasetEntry.from_json(entry) for entry in row["datasets"]),
            tuple(ShardEntry.from_json(entry) for entry in row["shards"]),
            row["content"],
            row["made"],
            tuple(PartEntry.from_json(entry) for entry in row.get("index", ())),  # older manifests lack these
            row.get("forgotten", {}),
            StampsEntry.from_json(row["stamps"]) if row.get("stamps") else None,
        )


def manifest_path(bank: Path, generation: int) -> Path:
    """Where a generation's manifest lies."""
    return bank / f"MANIFEST-{generation:06d}.json"


def report_path(bank: Path, generation: int) -> Path:
    """Where the report of the rebuild lies that made a generation; it goes with it."""
    return bank / "reports" / f"{generation:06d}.html"


def shard_folder(bank: Path) -> Path:
    """Where the shards lie."""
    return bank / "shards"


def generations(bank: Path) -> list[int]:
    """The published generations, oldest first."""
    names = (_NAME.fullmatch(path.name) for path in (bank.iterdir() if bank.is_dir() else ()))
    return sorted(int(match[1]) for match in names if match)


def open_generation(bank: Path, generation: int | None = None) -> tuple[Manifest, files.Hold]:
    """The manifest of a generation, by default the latest one, and the hold that keeps it and its files in place.

    Raises:
        NotABankError: there is no generation. InputError: there is none of that number.
        SchemaError, DamagedBankError: it cannot be used.
    """
    before: list[int] = []
    while True:
        numbers = generations(bank) or generations(bank)  # a listing amid a publication may show neither old nor new
        if not numbers:
            raise NotABankError(
                sentence(
                    bank,
                    expected="a bank (a folder with MANIFEST-*.json)",
                    found="no manifest" if bank.is_dir() else "no such folder",
                    fix="build one with `zeuxis rebuild --dataset KIND:PATH --bank BANK`",
                )
            )
        number = numbers[-1] if generation is None else generation
        if number not in numbers:
            raise InputError(
                sentence(f"generation {number}", expected=f"one of {', '.join(map(str, numbers))}", found="none such")
            )
        path = manifest_path(bank, number)
        try:
            hold = files.Hold(path)
            return Manifest.from_bytes(hold.read(), path), hold
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or numbers == before:
                raise _unreadable(path, error) from error
            before = numbers  # it was removed since it was listed: there must be newer ones


def hold_generation(bank: Path, manifest: Manifest) -> files.Hold | None:
    """The hold on a generation that was loaded before; None where it is yet to be published.

    Raises:
        BankError: it was removed.
    """
    path = manifest_path(bank, manifest.generation)
    try:
        return files.Hold(path)
    except FileNotFoundError:
        if manifest.generation > max(generations(bank), default=0):
            return None
        raise BankError(
            sentence(bank, f"generation {manifest.generation} was removed", fix="open the bank again, as it is now")
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def load_current(bank: Path) -> Manifest:
    """The manifest of the latest generation; raises as `open_generation`."""
    return open_generation(bank)[0]


def load_generation(bank: Path, generation: int) -> Manifest:
    """The manifest of a generation by its number; raises as `open_generation`."""
    return open_generation(bank, generation)[0]


def publish(bank: Path, manifest: Manifest) -> None:
    """Makes a manifest the current one; the shards it names are already in place.

    Raises:
        BankBusyError: somebody else has published that generation.
    """
    temporary = bank / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}.json"
    try:
        files.write_bytes(temporary, manifest.to_bytes())
        if manifest.shards:
            files.fsync_folder(shard_folder(bank))  # names that a killed writer gave last may not be on the disk yet
        if manifest.index:
            files.fsync_folder(part_folder(bank))
        if manifest.stamps:
            files.fsync_folder(stamps_folder(bank))
        if not files.link_new(temporary, manifest_path(bank, manifest.generation)):
            raise BankBusyError(
                sentence(bank, f"generation {manifest.generation} was published by someone else", fix="run this again")
            )
    finally:
        with suppress(OSError):  # what is left is garbage, and collected as such
            files.remove_tree(temporary)


def collect_garbage(bank: Path) -> dict[str, int]:
    """Removes what no generation names: killed writers' leftovers, and all that was only of removed generations.

    Call as the writer. While a manifest cannot be read, nothing is removed that it may name.

    Returns:
        Name of what was removed to its bytes.
    """
    removed = {}
    for path in _garbage(bank):
        removed[path.name] = bytes_of(path)
        files.remove_tree(path)
    return removed


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(each.lstat().st_size for each in inside if each.is_symlink() or each.is_file())


def _garbage(bank: Path) -> list[Path]:
    folders = [folder(bank) for folder in (shard_folder, part_folder, stamps_folder)]
    inside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    reports = list(folder.iterdir()) if (folder := report_path(bank, 0).parent).is_dir() else []
    begun = [path for path in (*bank.iterdir(), *inside, *reports) if path.name.startswith(".tmp-")]
    # a folder may be held by who fills it; a file that became a manifest shares the hold of that one's readers
    unfinished = [path for path in begun if not (path.is_dir() and files.is_held(path))]
    numbers = generations(bank)
    numbered = [(path, _REPORT.fullmatch(path.name)) for path in reports]
    unnamed = [path for path, match in numbered if match and int(match[1]) not in numbers]
    with suppress(BankError):
        manifests = [_load(manifest_path(bank, number)) for number in numbers]
        named = {path for manifest in manifests for path in manifest.pieces(bank)}
        unnamed += [path for path in inside if path not in named and path not in begun]
    if unnamed:
        files.fsync_folder(bank)  # a removed manifest that came back after a power loss would lack its shards
    return [*unfinished, *unnamed]


def verify(
    bank: Path,
    manifest: Manifest | None = None,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[str]:
    """Every damage of a generation, by default the current one, one sentence each.

    Sizes and hashes are compared; `deep`: every value in the blobs is decoded too, and rows, values and index must
    belong together. The generation is held meanwhile.

    Raises:
        BankError: the manifest itself cannot be used.
    """
    chosen, _held = (manifest, hold_generation(bank, manifest)) if manifest else open_generation(bank)
    pieces = chosen.pieces(bank)
    jobs = [(piece, path, entry) for piece, of in pieces.items() for path, entry in of.items()]
    for done, (piece, path, entry) in enumerate(jobs, start=1):
        if (said := damage_of(path, entry)) is not None:
            pieces.pop(piece, None)  # what lies inside could not be trusted
            yield said
        if progress:
            progress(done, len(jobs))
    if deep:
        yield from _damage_inside(bank, chosen, pieces)


def _damage_inside(bank: Path, manifest: Manifest, sound: Container[Path]) -> Iterator[str]:
    folders = {entry.id: shard_folder(bank) / entry.id for entry in manifest.shards}
    shards = {e.id: Shard(folders[e.id], e) for e in manifest.shards if folders[e.id] in sound}
    for shard in shards.values():
        yield from damage_inside(shard)
    parts = [IndexPart(part_folder(bank) / entry.id, entry) for entry in manifest.index if entry.version == INDEX]
    covered = {id for entry in manifest.index for id in entry.shards}
    uncovered = [id for id in folders if id not in covered] if manifest.index else []
    yield from damage_of_parts([part for part in parts if part.path in sound], shards, uncovered)


def _load(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return Manifest.from_bytes(data, path)


def _signed(body: bytes) -> bytes:
    return body + b'"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}'


_SIGNATURE_BYTES = len(_signed(b""))


def _unreadable(path: Path, error: OSError) -> DamagedBankError:
    return _damaged(path, f"cannot be read ({error.strerror})")


def _damaged(path: Path, what: str) -> DamagedBankError:
    return DamagedBankError(
        sentence(path, what, fix="restore it from a copy, or remove it to use the generation before")
    )
