"""Shards: written beside the output, moved into it whole, their record last; who comes second finds the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...storage.errors import InputError, NoRoomError, UnfinishedError, sentence
from ...storage.files import fsync_folder, link_new, make_folder, remove_tree, rename, write_bytes
from .guard import Guard
from .items import LeftOut, Rejected
from .plan import Plan
from .samples import UNKNOWN, Sample
from .writers import Writer, parquet_bytes

UNITS, PROVENANCE = "units", "provenance"
STAGING = ".unit-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Units:
    """The shards of an output folder.

    Args:
        out: the folder; plan: of the run; writer: of its format.
    """

    def __init__(self, out: Path, plan: Plan, writer: Writer) -> None:
        self.out, self.plan, self.writer = out, plan, writer

    def record_path(self, number: int) -> Path:
        """The file that says that a shard is there, and what is in it."""
        return self.out / UNITS / f"{self.plan.unit_name(number)}.json"

    def coco_path(self, number: int) -> Path:
        """The COCO annotations of a shard."""
        return self.out / UNITS / f"{self.plan.unit_name(number)}.coco.json"

    def record(self, number: int) -> dict[str, Any] | None:
        """What is said of a shard; None where it is not there, or something of it is missing.

        Raises:
            UnfinishedError: it cannot be read.
        """
        path = self.record_path(number)
        try:
            told: dict[str, Any] = json.loads(path.read_bytes())
            return told if all((self.out / place).exists() for place in told["places"]) else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            said = f"is no record of a shard ({error})"
            raise UnfinishedError(sentence(path, said, fix="delete it and run this again")) from error

    def clean(self) -> None:
        """Removes what killed runs have left, published halves too; for the one who holds the folder."""
        for left in self.out.glob(f"{STAGING}*"):
            remove_tree(left)
        for number in range(self.plan.units):
            if self.record(number) is None:
                self.forget(number)

    def forget(self, number: int) -> None:
        """Takes a shard back, its record first."""
        remove_tree(self.record_path(number))
        name = self.plan.unit_name(number)
        for place in (*self.writer.places(name), f"{PROVENANCE}/{name}.parquet", f"{UNITS}/{name}.coco.json"):
            if (self.out / place).exists():
                remove_tree(self.out / place)

    def publish(self, number: int, done: Sequence[Sample | Rejected | LeftOut], guard: Guard) -> dict[str, Any]:
        """Writes a shard; its record.

        Raises:
            UnfinishedError: the disk refuses; what is published stays.
        """
        name = self.plan.unit_name(number)
        staging = self.out / f"{STAGING}{name}.{secrets.token_hex(4)}"
        try:
            return self._published(number, done, guard, name, staging)
        except OSError as error:
            raise refused(self.out, error) from error
        finally:
            with suppress(OSError):
                remove_tree(staging)

    def _published(
        self, number: int, done: Sequence[Sample | Rejected | LeftOut], guard: Guard, name: str, staging: Path
    ) -> dict[str, Any]:
        samples = [each for each in done if isinstance(each, Sample)]
        make_folder(staging)
        places = self.writer.write(staging, name, samples) if samples else []
        make_folder(staging / PROVENANCE)
        write_bytes(staging / PROVENANCE / f"{name}.parquet", parquet_bytes(provenance_of(samples, guard)))
        places.append(f"{PROVENANCE}/{name}.parquet")
        if self.plan.settings["coco"]:
            make_folder(staging / UNITS)
            place = f"{UNITS}/{self.coco_path(number).name}"
            write_bytes(staging / place, self._coco(name, samples))
            places.append(place)
        record = self._record(number, done, places)
        write_bytes(staging / "record", (json.dumps(record, ensure_ascii=False, indent=0) + "\n").encode())
        for place in places:
            _move(staging / place, self.out / place)
        make_folder(self.out / UNITS)
        link_new(staging / "record", self.record_path(number))
        return record

    def _record(
        self, number: int, done: Sequence[Sample | Rejected | LeftOut], places: Sequence[str]
    ) -> dict[str, Any]:
        rejects = [each for each in done if isinstance(each, Rejected)]
        return {
            "unit": number,
            "places": list(places),
            "pixels": _summed(each.pixels for each in done if isinstance(each, Sample)),
            "images": [dict(each.record) for each in done if isinstance(each, Sample)],
            "rejects": [
                {
                    "name": self.plan.name(each.item.index), "layout": self._layout_of(each),
                    "number": each.item.layout, "reason": each.reason, "said": each.said,
                }
                for each in rejects
            ],
            "left_out": [
                {
                    "name": self.plan.name(each.item.index), "layout": each.layout, "variant": each.item.variant,
                    "agreement": each.agreement,
                }
                for each in done
                if isinstance(each, LeftOut)
            ],
        }  # fmt: skip

    def _layout_of(self, rejected: Rejected) -> str:
        item = rejected.item
        return item.photograph or self.plan.layouts[item.layout or 0].name

    def _coco(self, unit: str, samples: Sequence[Sample]) -> bytes:
        rows, cols = self.plan.size
        images = [
            {
                "id": each.index, "file_name": self.writer.file(unit, each.name), "height": rows, "width": cols,
                "licenses": each.record["licences"],
            }
            for each in samples
        ]  # fmt: skip
        annotations = [dict(annotation) for each in samples for annotation in each.annotations]
        return (json.dumps({"images": images, "annotations": annotations}) + "\n").encode()


def refused(out: Path, error: OSError) -> UnfinishedError:
    """What it means that the disk refuses."""
    full = error.errno in _FULL
    said = "its disk is full" if full else f"cannot be written ({error.strerror or error})"
    fix = "what is published stays: " + ("make room and " if full else "") + "run this again"
    return (NoRoomError if full else UnfinishedError)(sentence(out, said, fix=fix))


def provenance_of(samples: Sequence[Sample], guard: Guard) -> Any:
    """One row for everything that an image was made from, as an Arrow table."""
    import pyarrow as pa

    rows = []
    for sample in samples:
        for used in sample.used:
            source = guard.sources[used.source]
            rows.append({
                "name": sample.name, "use": used.use, "source": used.source, "split": source.split,
                "group": source.group, "dataset": source.dataset, "image": source.image,
                "licence": source.licence or UNKNOWN, "segment": used.segment, "class": used.class_name,
                "pixels": used.pixels,
            })  # fmt: skip
    texts = ("name", "use", "source", "split", "group", "dataset", "image", "licence", "segment", "class")
    return pa.Table.from_pylist(rows, pa.schema([*((name, pa.string()) for name in texts), ("pixels", pa.int64())]))


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _move(source: Path, target: Path) -> None:
    """Gives something finished its place; where that is taken, it is by the same bytes: plans decide them."""
    make_folder(target.parent)
    if target.exists():
        return
    if source.is_dir():
        fsync_folder(source)
        with suppress(FileExistsError):  # another worker has just done the same
            try:
                rename(source, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    else:
        link_new(source, target)


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Holds an output folder; the kernel lets it go with its process.

    Raises:
        InputError: another process holds it.
    """
    held = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            said = "is being written by another process"
            raise InputError(sentence(out, said, fix="wait until it is done, then run this again")) from error
        yield
    finally:
        os.close(held)
