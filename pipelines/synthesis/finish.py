"""What is said of all images together, made from the records of the shards: the same whenever it is made."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...storage.classes import ClassTable
from ...storage.files import fsync_folder
from .coco import as_coco
from .plan import Plan
from .samples import bank_form
from .units import PROVENANCE, Units

SOURCES, CLASSES, REJECTS, LEFT_OUT, LICENCES, COCO = (
    "sources.csv", "classes.csv", "rejects.csv", "left_out.csv", "licences.json", "annotations.json",
)  # fmt: skip


def finish(units: Units, classes: ClassTable) -> None:
    """Writes `classes.csv`, `rejects.csv`, `licences.json`; for some also `left_out.csv` and those of their formats."""
    out, plan = units.out, units.plan
    replace_file(out / CLASSES, [_classes_csv(classes)])
    replace_file(out / REJECTS, _csv(("name", "layout", "reason", "said"), _rejects(units)))
    if plan.settings["agreement"] is not None:
        replace_file(out / LEFT_OUT, _csv(("name", "layout", "variant", "agreement"), _left_out(units)))
    if plan.settings["format"] == "folder":
        replace_file(out / SOURCES, _csv(("name", "split", "group"), _sources(units)))
    licences = _licences(units)
    replace_file(out / LICENCES, [json.dumps(licences, indent=1, ensure_ascii=False) + "\n"])
    if plan.settings["coco"]:
        names = sorted({row["licence"] for row in licences["licences"]})
        replace_file(out / COCO, as_coco(classes, names, _CocoParts(units, names)))


def records(units: Units) -> Iterator[dict[str, Any]]:
    """The records of all shards."""
    for number in range(units.plan.units):
        record = units.record(number)
        assert record is not None, "every shard is there"
        yield record


class _CocoParts:
    """The annotations of all shards, one after the other, as often as asked."""

    def __init__(self, units: Units, licences: Sequence[str]) -> None:
        self.units = units
        self.number = {name: number for number, name in enumerate(licences, start=1)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.units.plan.units):
            part = json.loads(self.units.coco_path(number).read_bytes())
            for image in part["images"]:  # COCO has room for one licence; all of them stand in `licenses`
                image["licenses"] = [self.number[name] for name in image["licenses"]]
                if image["licenses"]:  # none where neither layout nor pixels are the bank's
                    image["license"] = image["licenses"][0]
            yield part


def _sources(units: Units) -> Iterator[tuple[str, str, str]]:
    for record in records(units):
        unit = Plan.unit_name(record["unit"])
        for image in record["images"]:
            yield f"{unit}/{image['name']}", image["split"], image["group"]


def _rejects(units: Units) -> Iterator[tuple[str, ...]]:
    for record in records(units):
        for row in record["rejects"]:
            yield row["name"], row["layout"], row["reason"], row["said"]


def _left_out(units: Units) -> Iterator[tuple[object, ...]]:
    for record in records(units):
        for row in record["left_out"]:
            yield row["name"], row["layout"], row["variant"], row["agreement"]


def _licences(units: Units) -> dict[str, Any]:
    """Licence by licence: how many images it concerns, and which sources of which data sets."""
    import pyarrow.parquet as pq

    images: Counter[str] = Counter()
    sources: dict[tuple[str, str], set[str]] = {}
    for record in records(units):
        images.update(licence for image in record["images"] for licence in image["licences"])
        path = units.out / PROVENANCE / f"{Plan.unit_name(record['unit'])}.parquet"
        table = pq.read_table(path, columns=["licence", "dataset", "source"])
        for licence, dataset, source in zip(*(column.to_pylist() for column in table.columns), strict=True):
            sources.setdefault((licence, dataset), set()).add(source)
    rows = [
        {"licence": licence, "dataset": dataset, "images": images[licence], "sources": sorted(names)}
        for (licence, dataset), names in sorted(sources.items())
    ]
    return {"images": sum(len(record["images"]) for record in records(units)), "licences": rows}


def _classes_csv(classes: ClassTable) -> str:
    void = bank_form(classes).void
    rows: list[tuple[object, ...]] = [
        (each.id, each.name, "#{:02x}{:02x}{:02x}".format(*each.colour), *map(_word, (each.thing, each.thin, False)))
        for each in classes
    ]
    rows.append((void, "void", "#000000", *map(_word, (False, False, True))))
    return "".join(_csv(("id", "name", "colour", "thing", "thin", "void"), rows))


def _word(flag: bool) -> str:
    return str(flag).lower()


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(row)
        if text.tell() > 1 << 20:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def replace_file(path: Path, pieces: Iterable[str | bytes]) -> None:
    """A file with these pieces, whole or as it was before."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece.encode() if isinstance(piece, str) else piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
