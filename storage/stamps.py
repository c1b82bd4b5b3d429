"""Stamps: what the files of some sources look like now, where only their times changed since their shard was written.

Shards are immutable, so a file that was touched would be read again every night. One small file over all shards holds
the newer stamps: `BANK/stamps/<id>.parquet`, its id derived from its bytes, columns `source` and `stamp` (text).
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .checks import FileEntry, checked_file, damage_of, file_entry
from .errors import DamagedBankError, sentence

_SCHEMA = pa.schema([pa.field("source", pa.string(), nullable=False), pa.field("stamp", pa.string(), nullable=False)])


@dataclass(frozen=True)
class StampsEntry:
    """What the manifest knows of its stamps.

    Attributes:
        id: derived from the file's bytes, its name.
        rows: how many sources it holds.
        file: its size and hashes.
    """

    id: str
    rows: int
    file: FileEntry

    @property
    def name(self) -> str:
        """The file's name within `stamps_folder`."""
        return f"{self.id}.parquet"

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {"id": self.id, "rows": self.rows, "file": list(self.file)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> StampsEntry:
        """The entry that `to_json` wrote."""
        return cls(row["id"], row["rows"], FileEntry(*row["file"]))


def stamps_folder(bank: Path) -> Path:
    """Where the stamps lie."""
    return bank / "stamps"


def write_stamps(bank: Path, mapping: Mapping[str, str]) -> StampsEntry | None:
    """Writes stamps under a temporary name and gives them their own when they are on the disk.

    Args:
        bank: its folder.
        mapping: name of a source to its stamp.

    Returns:
        What belongs into the manifest; None where there are no stamps to write.
    """
    if not mapping:
        return None
    data = _parquet(mapping)
    folder = stamps_folder(bank)
    temporary = folder / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}.parquet"
    files.make_folder(folder)
    try:
        files.write_bytes(temporary, data)
        id = hashlib.blake2b(data, digest_size=8).hexdigest()
        entry = StampsEntry(id, len(mapping), file_entry(temporary))
        if damage_of(folder / entry.name, entry.file) is not None:  # not there yet, or no longer what it was
            files.rename(temporary, folder / entry.name)
        return entry
    finally:
        if temporary.exists():
            with suppress(OSError):  # what is left is garbage, and collected as such
                files.remove_tree(temporary)


def read_stamps(bank: Path, entry: StampsEntry | None) -> dict[str, str]:
    """Name of a source to its stamp, after the file's hash was checked; empty where there is no entry.

    Raises:
        DamagedBankError: the file is missing or not what was published.
    """
    if entry is None:
        return {}
    path = checked_file(stamps_folder(bank) / entry.name, entry.file)
    try:
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None).cast(_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise DamagedBankError(sentence(path, f"cannot be read ({error})", fix="run `zeuxis repair`")) from error
    return dict(zip(table["source"].to_pylist(), table["stamp"].to_pylist(), strict=True))


def _parquet(mapping: Mapping[str, str]) -> bytes:
    sources = sorted(mapping)
    columns = [pa.array(values, pa.string()) for values in (sources, [mapping[source] for source in sources])]
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=_SCHEMA), sink, compression="zstd", write_page_checksum=True,
        use_dictionary=False,
    )  # fmt: skip
    return sink.getvalue()
