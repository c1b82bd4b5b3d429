"""Generations: one immutable manifest each, published by a hard link that fails if the number is taken."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import files
from .checks import damage_of
from .classes import VOID, ClassTable, lookup_table
from .codec import check_value
from .decoding import Decoding
from .errors import BankBusyError, BankError, DamagedBankError, NotABankError, sentence
from .layouts import Geometry
from .parts import PartEntry, part_folder
from .shard import SCHEMA, Shard, ShardEntry, check_schema

FORMAT = "zeuxis-bank"
_NAME = re.compile(r"MANIFEST-(\d{6})\.json")


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

    def to_bank(self, layout: Any) -> Any:
        """A layout of native ids in the bank's ids."""
        return lookup_table(self.mapping)[layout]

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
            tuple(PartEntry.from_json(entry) for entry in row.get("index", ())),
        )


def manifest_path(bank: Path, generation: int) -> Path:
    """Where a generation's manifest lies."""
    return bank / f"MANIFEST-{generation:06d}.json"


def shard_folder(bank: Path) -> Path:
    """Where the shards lie."""
    return bank / "shards"


def generations(bank: Path) -> list[int]:
    """The published generations, oldest first."""
    names = (_NAME.fullmatch(path.name) for path in (bank.iterdir() if bank.is_dir() else ()))
    return sorted(int(match[1]) for match in names if match)


def load_current(bank: Path) -> Manifest:
    """The manifest of the latest generation.

    Raises:
        NotABankError: there is none. SchemaError, DamagedBankError: it cannot be used.
    """
    numbers = generations(bank)
    if not numbers:
        raise NotABankError(
            sentence(
                bank,
                expected="a bank (a folder with MANIFEST-*.json)",
                found="no manifest" if bank.is_dir() else "no such folder",
                fix="build one with `zeuxis rebuild --dataset KIND:PATH --bank BANK`",
            )
        )
    return _load(manifest_path(bank, numbers[-1]))


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
        if not files.link_new(temporary, manifest_path(bank, manifest.generation)):
            raise BankBusyError(
                sentence(bank, f"generation {manifest.generation} was published by someone else", fix="run this again")
            )
    finally:
        with suppress(OSError):  # what is left is garbage, and collected as such
            files.remove_tree(temporary)


def collect_garbage(bank: Path) -> list[str]:
    """Removes what killed writers left: temporary names, and shards and index parts that no generation names.

    Call as the writer. While a manifest cannot be read, no shard or part is removed: it may be one of those it names.
    """
    folders = [folder for folder in (shard_folder(bank), part_folder(bank)) if folder.is_dir()]
    inside = [path for folder in folders for path in folder.iterdir()]
    leftovers = [path for path in (*bank.iterdir(), *inside) if path.name.startswith(".tmp-")]
    try:
        manifests = [_load(manifest_path(bank, number)) for number in generations(bank)]
        named = {shard.id for manifest in manifests for shard in manifest.shards}
        named |= {part.id for manifest in manifests for part in manifest.index}
        leftovers += [path for path in inside if path.name not in named]
    except BankError:
        pass
    leftovers = list(dict.fromkeys(leftovers))
    for path in leftovers:
        files.remove_tree(path)
    return [path.name for path in leftovers]


def verify(
    bank: Path,
    manifest: Manifest | None = None,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[str]:
    """Every damage of a generation, by default the current one, one sentence each.

    Sizes and hashes are compared; `deep`: every value in the blobs is checked too.

    Raises:
        BankError: the manifest itself cannot be used.
    """
    manifest = manifest or load_current(bank)
    folders = [(shard_folder(bank) / entry.id, entry.files) for entry in manifest.shards]
    folders += [(part_folder(bank) / entry.id, entry.files) for entry in manifest.index]
    jobs = [(folder, name, entry) for folder, entries in folders for name, entry in sorted(entries.items())]
    damaged = set()
    for done, (folder, name, published) in enumerate(jobs, start=1):
        if (said := damage_of(folder / name, published)) is not None:
            damaged.add(folder.name)
            yield said
        if progress:
            progress(done, len(jobs))
    for entry in manifest.shards if deep else ():
        if entry.id not in damaged:  # what lies inside could not be trusted
            yield from _damaged_values(Shard(shard_folder(bank) / entry.id, entry))


def _damaged_values(shard: Shard) -> Iterator[str]:
    for key, value in shard.blobs():
        try:
            check_value(value, f"value {key.hex()} of {shard.path}")
        except DamagedBankError as error:
            yield str(error)


def _load(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    return Manifest.from_bytes(data, path)


def _signed(body: bytes) -> bytes:
    return body + b'"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}'


_SIGNATURE_BYTES = len(_signed(b""))


def _damaged(path: Path, what: str) -> DamagedBankError:
    return DamagedBankError(
        sentence(path, what, fix="restore it from a copy, or remove it to use the generation before")
    )
