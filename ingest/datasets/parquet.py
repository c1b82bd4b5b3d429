"""Parquet files with the bytes of pictures in their cells, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ...storage.errors import SourceError, sentence
from .base import Dataset, EncodedSource, Problem, SourceRef
from .files import FileInfo, is_remote
from .shards import ShardFiles, open_shard, split_of, split_word

COLUMNS = {
    "image": ("image", "img", "photo", "jpg"),
    "labels": (
        "annotation",
        "segmentation",
        "segmentation_mask",
        "semantic",
        "mask",
        "seg",
        "label_map",
        "labels",
        "label",
    ),
    "depth": ("depth", "depth_map"),
    "instances": ("instances", "instance_map"),
}
"""Names that columns of pictures are looked for under, where no option names them."""
MAX_GROUP_BYTES = 1 << 33
"""Row groups whose pictures unpack to more are refused before they are read."""
BATCH_ROWS = 16
KEPT_BATCHES = 4
"""Batches kept in memory behind the row that was read last, so that threads may ask for rows a little out of order."""

_NUMBERS = (b"\x93NUMPY", b"\x89HDF", b"Pf\n")
"""How files of numbers begin that are no pictures: `.npy`, HDF5, `.pfm`."""
_PICTURES = ("image", "labels", "depth", "instances")


@dataclass(frozen=True, slots=True)
class RowRef(SourceRef):
    """A source in a Parquet file: `row` of all rows of the file `shard`."""

    shard: str = ""
    row: int = 0


class Parquet(ShardFiles):
    """Parquet files with a photograph and a label map a row: binary columns, or structs `{bytes, path}`.

    `image {bytes, path}` is what Hugging Face's `datasets` writes for its `Image` feature (its docs, "Main classes").
    A source is named by its file (where there is more than the one given) and its row, or by the column `name=`.
    Splits come from the column `split`, else from the file's name (`validation-00000-of-00002.parquet`); groups from
    the column `group`. A cell without bytes may name a file beside the Parquet files, below their folder.
    """

    kind = "parquet"
    expects = "Parquet files with the columns image and annotation that hold pictures"
    suffixes = (".parquet",)
    knows: ClassVar[Mapping[str, str]] = {
        "image": "column of the photographs",
        "labels": "column of the label maps; labels=none for photographs alone",
        "depth": "column of the depth maps",
        "instances": "column of the instance maps",
        "name": "column of the names; without it, rows are numbered",
        "split": "column of the splits; by default split, where there is one",
        "group": "column of the groups; by default group, where there is one",
        "metres_per_unit": "of the depth maps",
    }

    @cached_property
    def _listing(self) -> tuple[tuple[SourceRef, ...], tuple[Problem, ...]]:
        ignored: list[Problem] = []
        refs: dict[str, SourceRef] = {}
        for shard in self._shards(ignored):
            for ref in self._rows_of(shard):
                refs[ref.name] = self._twice(refs[ref.name], ref) if ref.name in refs else ref
        if not any(ref.image for ref in refs.values()):
            faults = [ref.fault[1] for ref in refs.values() if ref.fault]
            raise self._nothing(faults[0].rstrip(".") if faults else "no row in them")
        return tuple(refs[name] for name in sorted(refs)), tuple(sorted(ignored, key=lambda problem: problem.file))

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source; rows are read in the order of the file, a few at a time.

        Raises:
            SourceError: the fault that `ref` carries, `missing-image`, `missing-label`, `unsafe-name`, `too-large`,
                `unreadable-file`, or `changed` since it was listed.
        """
        if ref.fault is not None:
            raise SourceError(*ref.fault)
        assert isinstance(ref, RowRef)
        where = self._place(ref.shard) / str(ref.row)
        try:
            with self._open.lock:
                cells = self._open.row(ref)
        except (OSError, ValueError, MemoryError, NotImplementedError) as error:  # as pyarrow's errors are
            said = sentence(where, f"cannot be read ({_short(error)})", fix="fetch the file again")
            raise SourceError("unreadable-file", said) from error
        found = {role: self._bytes_of(cell, where) for role, cell in cells.items()}
        for role, what, reason in (("image", "an image", "missing-image"), ("labels", "a label map", "missing-label")):
            if found.get(role) is None and (role == "image" or self.labelled):
                raise SourceError(reason, sentence(where, expected=what, found="an empty cell", fix="fill it"))
        if (depth := found.get("depth")) and not self._metres and depth.startswith(_NUMBERS):
            raise SourceError(*self._unknown_unit(where))
        return EncodedSource(found["image"] or b"", found.get("labels"), found.get("depth"), found.get("instances"))

    def __getstate__(self) -> dict[str, Any]:
        """Without open files."""
        return {key: value for key, value in super().__getstate__().items() if key != "_open"}

    def _shard_of(self, ref: SourceRef) -> str:
        return ref.shard if isinstance(ref, RowRef) else ""

    @cached_property
    def _open(self) -> _OpenFile:
        return _OpenFile(self)

    def _rows_of(self, shard: FileInfo) -> Iterator[RowRef]:
        place = self._place(shard.path)
        try:
            with open_shard(place) as opened:
                file = parquet_file(opened)
                columns = self._columns(file.schema_arrow, place)
                words = self._words(file)
                rows = file.metadata.num_rows
        except SourceError as error:
            yield self._reject(shard, error.reason, str(error))
            return
        except (OSError, ValueError, MemoryError, NotImplementedError) as error:
            said = sentence(place, f"cannot be read as Parquet ({_short(error)})", fix="fetch it again")
            yield self._reject(shard, "damaged-shard", said)
            return
        paths = {role: f"{shard.path}/".lstrip("/") + "{}/" + column for role, column in columns.items()}
        split = split_of(shard.path or self.root.name)
        for row in range(rows):
            yield self._ref(shard, row, {role: path.format(row) for role, path in paths.items()}, words, split)

    def _ref(
        self, shard: FileInfo, row: int, paths: Mapping[str, str], words: Mapping[str, list[Any]], split: str
    ) -> RowRef:
        said = {key: values[row] for key, values in words.items()}
        number = f"{row:06d}"
        key = str(said["name"]) if said.get("name") not in (None, "") else number
        fault = None
        if "name" in said and (key == number or not key.isprintable()):
            key, fault = number, ("unreadable-name", f"name {said['name']!r}")
        word = split_word(str(said["split"])) if said.get("split") is not None else split
        if word is None:
            fault = "unknown-split", f"split {said['split']!r}"
        name = f"{shard.path.removesuffix('.parquet')}/{key}" if shard.path else key
        group = said.get("group")
        if fault:
            wanted = "a name of printable text and a split of train, val or test"
            fault = (
                fault[0],
                sentence(self._place(shard.path) / str(row), expected=wanted, found=fault[1], fix="correct it"),
            )
        return RowRef(
            name, word or split, str(group) if group not in (None, "") else name, paths.get("image"),
            paths.get("labels"), paths.get("depth"), fault, paths.get("instances"), shard.stamp, shard.path, row,
        )  # fmt: skip

    def _reject(self, shard: FileInfo, reason: str, said: str) -> RowRef:
        name = shard.path or self.root.name
        return RowRef(name, "train", name, None, None, None, (reason, said), None, shard.stamp, shard.path)

    def _twice(self, first: SourceRef, second: RowRef) -> SourceRef:
        where = self._place(second.shard) / str(second.row)
        said = sentence(where, expected="every name once", found=f"{first.name!r} twice", fix="name rows differently")
        return replace(first, fault=("duplicate-name", said))

    def _words(self, file: Any) -> dict[str, list[Any]]:
        """Names, splits and groups of every row, as far as there are columns of them."""
        found = {}
        for key in ("name", "split", "group"):
            column = self.options.get(key, "" if key == "name" else key)
            if column in file.schema_arrow.names:
                found[key] = file.read([column], use_threads=False).column(0).to_pylist()
            elif key in self.options:
                raise ValueError(f"no column {column}")
        return found

    def _columns(self, schema: Any, place: Path) -> dict[str, str]:
        """Role to column.

        Raises:
            SourceError: `unexpected-columns`.
        """
        pictures = [field.name for field in schema if _holds_pictures(field.type)]
        columns = {}
        if twins := [name for name in pictures if schema.names.count(name) > 1]:
            said = sentence(place, expected="every column once", found=f"{twins[0]} twice", fix="rename one of them")
            raise SourceError("unexpected-columns", said)
        for role in _PICTURES:
            option = self.options.get(role)
            if option == "none" or (role == "labels" and not self.labelled):
                continue
            fitting = [option] if option else [name for name in COLUMNS[role] if name in pictures]
            if len(fitting) > 1 or (option and option not in pictures) or (not fitting and role in ("image", "labels")):
                held = ", ".join(pictures) or f"none, but {', '.join(schema.names[:6])}"
                what = f"one column of {'label maps' if role == 'labels' else role}, with the bytes of pictures"
                fix = f"name it by {role}=COLUMN" + " or take photographs alone by labels=none" * (role == "labels")
                raise SourceError("unexpected-columns", sentence(place, expected=what, found=held, fix=fix))
            if fitting:
                columns[role] = fitting[0]
        return columns

    def _bytes_of(self, cell: Any, where: Path) -> bytes | None:
        """The bytes of one cell, or of the file it names."""
        if cell is None or isinstance(cell, bytes):
            return cell
        data, path = cell.get("bytes"), cell.get("path")
        return data if data is not None or not path else self._beside(str(path), where)

    def _beside(self, path: str, where: Path) -> bytes:
        folder = self.root.parent if self._is_file else self.root
        if is_remote(self.root) or PurePosixPath(path).is_absolute() or ":" in path or not path.isprintable():
            unsafe = True
        else:
            unsafe = not (folder / path).resolve().is_relative_to(folder.resolve())
        if unsafe:
            said = sentence(
                where,
                expected=f"bytes, or a file below {folder}",
                found=repr(path),
                fix="write the bytes into the cell",
            )
            raise SourceError("unsafe-name", said)
        try:
            return (folder / path).read_bytes()
        except OSError as error:
            said = sentence(folder / path, f"cannot be read ({error.strerror})", fix="check the file")
            raise SourceError("unreadable-file", said) from error


class ParquetImages(Parquet):
    """Parquet files of photographs alone (`labels=none`): key patches, no segments."""

    labelled = False
    expects = "Parquet files with the column image that holds pictures"


def open_parquet(root: str | Path, **options: str) -> Dataset:
    """Parquet files; with `labels=none` their photographs alone.

    Raises:
        DatasetError: there is no such path or option.
    """
    return (ParquetImages if options.get("labels") == "none" else Parquet)(root, **options)


class _OpenFile:
    """The file that was read last, held open with the few rows around the last one."""

    def __init__(self, dataset: Parquet) -> None:
        self.lock = threading.Lock()
        self._dataset = dataset
        self._file: Any = None
        self._held: tuple[str, str] | None = None
        self._group, self._next = -1, 0
        self._batches: Iterator[Any] = iter(())
        self._kept: deque[tuple[int, Any]] = deque(maxlen=KEPT_BATCHES)
        self._starts: list[int] = []
        self._columns: dict[str, str] = {}

    def row(self, ref: RowRef) -> dict[str, Any]:
        """The cells of one row by role."""
        if self._held != (ref.shard, ref.stamp):
            self._switch(ref)
        group = next(g for g in reversed(range(len(self._starts) - 1)) if self._starts[g] <= ref.row)
        if ref.row >= self._starts[-1]:
            raise ValueError(f"row {ref.row} of {self._starts[-1]}")
        if group != self._group or (self._kept and ref.row < self._kept[0][0]):
            self._enter(group)
        while not self._kept or ref.row >= self._next:
            batch = next(self._batches)
            self._kept.append((self._next, batch))
            self._next += batch.num_rows
        start, batch = next(held for held in reversed(self._kept) if held[0] <= ref.row)
        return {role: batch.column(column)[ref.row - start].as_py() for role, column in self._columns.items()}

    def _switch(self, ref: RowRef) -> None:
        self._held, self._group = None, -1
        if self._file is not None:
            self._file.close(force=True)
            self._file = None
        self._file = parquet_file(self._dataset._open_unchanged(ref.shard, ref.stamp))
        place = self._dataset._place(ref.shard)
        self._columns = self._dataset._columns(self._file.schema_arrow, place)
        self._starts = [0]
        for group in range(self._file.metadata.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        self._held = ref.shard, ref.stamp

    def _enter(self, group: int) -> None:
        names = set(self._columns.values())
        chunks = self._file.metadata.row_group(group)
        size = sum(
            column.total_uncompressed_size
            for column in map(chunks.column, range(chunks.num_columns))
            if column.path_in_schema.partition(".")[0] in names
        )
        if size > MAX_GROUP_BYTES:
            said = sentence(
                f"row group {group}", expected=f"at most {MAX_GROUP_BYTES:,} bytes", found=f"{size:,}",
                fix="write smaller row groups",
            )  # fmt: skip
            raise SourceError("too-large", said)
        self._kept.clear()
        self._group, self._next = group, self._starts[group]
        self._batches = self._file.iter_batches(BATCH_ROWS, [group], sorted(names), use_threads=False)


def parquet_file(opened: Any) -> Any:
    """An open Parquet file; page checksums are verified where the file has them.

    Raises:
        ValueError, OSError: it is none.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True)


def _holds_pictures(kind: Any) -> bool:
    """Whether a column's cells can hold a picture's bytes."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        held = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        return "bytes" in held and _holds_pictures(held["bytes"])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
