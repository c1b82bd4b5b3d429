"""What the tests of nightly rebuilds share: a night in this process, what a bank holds, and what a run has read."""

from __future__ import annotations

import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from zeuxis.ingest.datasets.base import Dataset
from zeuxis.pipelines.rebuild import RebuildReport, rebuild
from zeuxis.storage.manifest import generations, verify
from zeuxis.storage.reader import Reader, content_of

Run = Callable[..., RebuildReport]
FRAME = (24, 32)


def night(dataset: str | list[str], bank: Path, **options: Any) -> RebuildReport:
    """A rebuild in this process, without key patches and report; every input is accounted for."""
    new = {} if generations(bank) else {"frame": FRAME, "min_area": 16, "patches": False}
    report = rebuild(dataset, bank, **{"workers": 0, "report": False} | new | options)
    counts(report)
    return report


def counts(report: RebuildReport) -> tuple[int, int, int, int]:
    """In, new, reused, rejected; with those forgotten they add up."""
    assert report.n_in == report.n_new + report.n_reused + report.n_rejected + report.n_forgotten
    return report.n_in, report.n_new, report.n_reused, report.n_rejected


def sources(bank: Path) -> list[str]:
    """Names of the sources in the bank."""
    names = sorted(Reader(bank).table("sources", columns=["source"])["source"].to_pylist())
    assert len(set(names)) == len(names)
    return names


def rejects(bank: Path) -> dict[str, str]:
    """Name to reason."""
    rows = Reader(bank).table("rejects", columns=["source", "reason"]).to_pylist()
    found = {row["source"]: row["reason"] for row in rows}
    assert len(found) == len(rows)
    return found


def message(bank: Path, source: str) -> str:
    """The sentence of a reject."""
    (row,) = Reader(bank).table("rejects", {"source": source}).to_pylist()
    return str(row["message"])


def ids(bank: Path) -> set[int]:
    """Of the segments in the bank."""
    return set(Reader(bank).table("segments", columns=["segment_id"])["segment_id"].to_pylist())


def content(bank: Path) -> str:
    """The hash of all that is in the bank, which its manifest states correctly."""
    reader = Reader(bank)
    assert reader.manifest.content == content_of(reader)
    ids = [entry.id for entry in reader.manifest.shards]
    assert len(set(ids)) == len(ids), "a shard is in the bank twice"
    return reader.manifest.content


def is_sound(bank: Path) -> bool:
    """Whether every value in the bank is what it should be."""
    return list(verify(bank, deep=True)) == []


def clean(dataset: str | list[str], bank: Path, **options: Any) -> str:
    """The content of a bank that is made of a data set at once."""
    night(dataset, bank, **options)
    return content(bank)


def twin(photos: Any, name: str, of: str, there: Any = None) -> None:
    """A second source with the bytes of another one, there or in another data set."""
    for kind in ("image", "label"):
        target = getattr(there or photos, kind)(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(getattr(photos, kind)(of).read_bytes())


def shard_files(bank: Path) -> dict[str, tuple[int, int]]:
    """Every file of every shard: inode and modification time."""
    paths = [path for path in (bank / "shards").rglob("*") if path.is_file()]
    return {str(path.relative_to(bank)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def all_files(bank: Path) -> dict[str, tuple[int, int]]:
    """Every file of a bank: inode and modification time."""
    paths = [path for path in bank.rglob("*") if path.is_file() and path.name != "WRITER.lock"]
    return {str(path.relative_to(bank)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def leftovers(bank: Path) -> list[str]:
    """Names of what is half written."""
    return [path.name for path in [*bank.iterdir(), *(bank / "shards").iterdir()] if path.name.startswith(".tmp-")]


@contextmanager
def calls(*places: str) -> Iterator[Counter[str]]:
    """How often functions, `module.name` or `module:Class.name`, are called meanwhile, by the last part of the name."""
    counted: Counter[str] = Counter()
    patches = []
    for place in places:
        module, _, name = place.rpartition(".")
        target = pkgutil.resolve_name(module)
        patches.append(mock.patch.object(target, name, _counting(counted, name, getattr(target, name))))
    for patch in patches:
        patch.start()
    try:
        yield counted
    finally:
        for patch in patches:
            patch.stop()


def _counting(counted: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        counted[name] += 1
        return function(*args, **options)

    return call


@contextmanager
def reading() -> Iterator[list[str]]:
    """Names of the sources that are read meanwhile, in this process."""
    names: list[str] = []
    read = Dataset.read

    def noted(dataset: Dataset, ref: Any) -> Any:
        names.append(ref.name)
        return read(dataset, ref)

    with mock.patch.object(Dataset, "read", noted):
        yield names
