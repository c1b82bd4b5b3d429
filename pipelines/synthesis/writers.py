"""How samples lie on the disk: a folder, WebDataset tar shards, or Parquet files; equal samples, equal bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...storage.files import make_folder, write_bytes
from .options import Format
from .samples import IMAGE, INSTANCES, LABEL, NATIVE, Sample

ROW_GROUP = 100
"""Rows that a reader of Parquet has to unpack for one of them."""
FOLDERS = {IMAGE: "images", LABEL: "labels", INSTANCES: "instances", NATIVE: "native"}
"""Below which the parts of a sample lie; `images` and `labels` are those of the data set kind `folder`."""
MEMBERS = {IMAGE: "png", LABEL: "seg.png", INSTANCES: "inst.png", NATIVE: "native.png"}
"""What follows a sample's name in a tar file, as WebDataset and the data set kind `tar` have it."""
COLUMNS = {IMAGE: "image", LABEL: "annotation", INSTANCES: "instances", NATIVE: "native"}
"""Columns of a Parquet file, as the data set kind `parquet` looks for them."""


class Writer(Protocol):
    """One way for samples to lie on the disk."""

    def write(self, folder: Path, unit: str, samples: Sequence[Sample]) -> list[str]:
        """Writes the samples of a unit below a folder that is empty; what is to be moved from there, as one."""

    def places(self, unit: str) -> list[str]:
        """All that `write` may make for a unit."""

    def read(self, out: Path, unit: str, name: str, roles: Sequence[str]) -> dict[str, bytes]:
        """Parts of a sample that was published."""

    def file(self, unit: str, name: str) -> str:
        """Where the picture of a sample is, relative to the output."""


class FolderWriter:
    """`images/UNIT/NAME.png`, and `labels/`, `instances/` and `native/` alike."""

    def write(self, folder: Path, unit: str, samples: Sequence[Sample]) -> list[str]:
        """As `Writer`."""
        roles = [role for role in FOLDERS if any(role in sample.parts for sample in samples)]
        for role in roles:
            make_folder(folder / FOLDERS[role] / unit)
            for sample in samples:
                write_bytes(folder / FOLDERS[role] / unit / f"{sample.name}.png", sample.parts[role])
        return [f"{FOLDERS[role]}/{unit}" for role in roles]

    def places(self, unit: str) -> list[str]:
        """As `Writer`."""
        return [f"{folder}/{unit}" for folder in FOLDERS.values()]

    def read(self, out: Path, unit: str, name: str, roles: Sequence[str]) -> dict[str, bytes]:
        """As `Writer`."""
        return {role: (out / FOLDERS[role] / unit / f"{name}.png").read_bytes() for role in roles}

    def file(self, unit: str, name: str) -> str:
        """As `Writer`."""
        return f"{FOLDERS[IMAGE]}/{unit}/{name}.png"


class TarWriter:
    """`SPLIT-UNIT.tar`, a sample's members side by side, no times or owners in it."""

    def __init__(self, split: str) -> None:
        self.split = split

    def write(self, folder: Path, unit: str, samples: Sequence[Sample]) -> list[str]:
        """As `Writer`."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as shard:
            for sample in samples:
                for role, suffix in MEMBERS.items():
                    if role in sample.parts:
                        _add(shard, f"{sample.name}.{suffix}", sample.parts[role])
                _add(shard, f"{sample.name}.json", as_line(sample.record))
        write_bytes(folder / self._shard(unit), data.getvalue())
        return [self._shard(unit)]

    def places(self, unit: str) -> list[str]:
        """As `Writer`."""
        return [self._shard(unit)]

    def read(self, out: Path, unit: str, name: str, roles: Sequence[str]) -> dict[str, bytes]:
        """As `Writer`."""
        with tarfile.open(out / self._shard(unit)) as shard:
            found = {role: shard.extractfile(f"{name}.{MEMBERS[role]}") for role in roles}
            return {role: file.read() for role, file in found.items() if file is not None}

    def file(self, unit: str, name: str) -> str:
        """As `Writer`."""
        return f"{self._shard(unit)}/{name}.png"

    def _shard(self, unit: str) -> str:
        return f"{self.split}-{unit}.tar"


class ParquetWriter:
    """`SPLIT-UNIT.parquet`, a sample a row, pictures as `{bytes, path}`."""

    def __init__(self, split: str) -> None:
        self.split = split

    def write(self, folder: Path, unit: str, samples: Sequence[Sample]) -> list[str]:
        """As `Writer`."""
        import pyarrow as pa

        picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        roles = [role for role in COLUMNS if any(role in sample.parts for sample in samples)]
        columns = {"name": pa.array([sample.name for sample in samples], pa.string())}
        for role in roles:
            cells = [{"bytes": s.parts[role], "path": f"{s.name}.{MEMBERS[role]}"} for s in samples]
            columns[COLUMNS[role]] = pa.array(cells, picture)
        for key, kind in _record_types(pa).items():
            columns[key] = pa.array([sample.record[key] for sample in samples], kind)
        for key, kind in {"agreement": pa.float64(), "filled": pa.string()}.items():  # null where nobody asked
            columns[key] = pa.array([sample.record.get(key) for sample in samples], kind)
        columns["edits"] = pa.array([json.dumps(sample.record["edits"]) for sample in samples], pa.string())
        write_bytes(folder / self._shard(unit), parquet_bytes(pa.table(columns)))
        return [self._shard(unit)]

    def places(self, unit: str) -> list[str]:
        """As `Writer`."""
        return [self._shard(unit)]

    def read(self, out: Path, unit: str, name: str, roles: Sequence[str]) -> dict[str, bytes]:
        """As `Writer`."""
        import pyarrow.parquet as pq

        columns = [COLUMNS[role] for role in roles]
        rows = pq.read_table(out / self._shard(unit), columns=[*columns, "name"], filters=[("name", "=", name)])
        row = rows.to_pylist()[0]
        return {role: row[COLUMNS[role]]["bytes"] for role in roles}

    def file(self, unit: str, name: str) -> str:
        """As `Writer`."""
        return f"{self._shard(unit)}/{name}.png"

    def _shard(self, unit: str) -> str:
        return f"{self.split}-{unit}.parquet"


def writer_of(format: Format, split: str) -> Writer:
    """What writes that format."""
    if format == "folder":
        return FolderWriter()
    return TarWriter(split) if format == "webdataset" else ParquetWriter(split)


def parquet_bytes(table: Any) -> bytes:
    """A Parquet file of a table: equal tables, equal bytes; pages are checksummed."""
    import pyarrow.parquet as pq

    data = io.BytesIO()
    pq.write_table(
        table, data, row_group_size=ROW_GROUP, compression="zstd", write_page_checksum=True, store_schema=False
    )
    return data.getvalue()


def as_line(said: Mapping[str, Any]) -> bytes:
    """A record as JSON."""
    return (json.dumps(said, ensure_ascii=False) + "\n").encode()


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, of nobody, at time 0
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def _record_types(pa: Any) -> dict[str, Any]:
    texts = pa.list_(pa.string())
    return {
        "split": pa.string(), "group": pa.string(), "layout": pa.string(), "variant": pa.int32(), "share": pa.float64(),
        "from_layout": texts, "void": texts, "licences": texts,
    }  # fmt: skip
