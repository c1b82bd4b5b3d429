"""One shard of a rebuild, as a Dask task: sources in, a finished shard on the disk out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset, SourceRef, group_name
from ..ingest.extract import Extraction, extract, rejected, source_name
from ..ingest.plan import DueSource, Plan
from ..storage.errors import SourceError, ZeuxisError, sentence
from ..storage.images import pixel_limit
from ..storage.manifest import shard_folder
from ..storage.records import RejectRecord
from ..storage.shard import Shard, ShardEntry, finished_shard, read_marker
from ..storage.shard_writer import ShardWriter
from .cluster import tell


@dataclass(frozen=True)
class ShardJob:
    """One Dask task: the sources of one shard.

    Attributes:
        bank: the folder whose `shards/` it goes into; dataset: its spec; extraction: how.
        sources: to be read; rejects: what is already known not to be usable.
        forgotten: ids of sources that must not be taken in again, whatever they are called now.
        max_pixels: a picture of more is refused before it is decoded.
    """

    bank: Path
    dataset: str
    extraction: Extraction
    sources: Sequence[DueSource]
    rejects: Sequence[RejectRecord] = ()
    forgotten: frozenset[str] = frozenset()
    max_pixels: int | None = None

    @property
    def settings(self) -> str:
        """Fingerprint of all that decides what is extracted."""
        return shard_settings(self.extraction)

    def halves(self) -> list[ShardJob]:
        """The same work as two jobs; none where it is one source."""
        middle = len(self.sources) // 2
        if not middle:
            return []
        first = replace(self, sources=self.sources[:middle])
        return [first, replace(self, sources=self.sources[middle:], rejects=())]

    def given_up(self) -> ShardJob:
        """The job that only records that its sources cannot be read: each try killed the worker."""
        name = self.extraction.dataset.name
        rows = [
            rejected(due.ref, name, "worker-died", sentence(
                source_name(name, due.ref), "killed every worker that read it",
                fix="look at the file; give workers more memory; then `--retry worker-died`",
            ), None, due.stamp)
            for due in self.sources
        ]  # fmt: skip
        return replace(self, sources=(), rejects=[*self.rejects, *rows])


@dataclass(frozen=True)
class ShardResult:
    """What a task did.

    Attributes:
        entry: the shard, None where nothing went into it.
        same: name to new stamp of sources whose bytes the bank holds already.
        forgotten: name to source id of sources that carry forgotten bytes.
    """

    entry: ShardEntry | None
    same: Mapping[str, str] = field(default_factory=dict)
    forgotten: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, to travel."""
        return {**asdict(self), "entry": self.entry and self.entry.to_json()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ShardResult:
        """What `to_json` wrote."""
        return cls(row["entry"] and ShardEntry.from_json(row["entry"]), row["same"], row["forgotten"])


def extract_shard(job: ShardJob) -> dict[str, Any]:
    """The Dask task: reads, decodes and extracts its sources, writes one shard, returns a `ShardResult` as JSON.

    Safe to run twice: the shard's name derives from its content. Whatever goes wrong with one source becomes a reject.
    """
    import cv2

    cv2.setNumThreads(1)
    dataset = open_dataset(job.dataset)
    result = ShardResult(None, {}, {})
    frame = job.extraction.settings.geometry.frame
    with pixel_limit(job.max_pixels), ShardWriter(shard_folder(job.bank), job.settings, frame) as writer:
        for record in job.rejects:
            writer.reject(record)
        tell(done=len(job.rejects), rejects=len(job.rejects))
        for due in job.sources:
            segments, rejects = _extract_into(writer, dataset, due, job, result)
            tell(done=1, segments=segments, rejects=rejects)
        entry = writer.publish() if writer.rows else None
    return replace(result, entry=entry).to_json()


def shard_settings(extraction: Extraction) -> str:
    """Fingerprint of settings, of the data set's conventions, and of the bank's classes that it maps to.

    A finished shard with another one was extracted otherwise, and is not taken over.
    """
    conventions = {**extraction.dataset.to_json(), "root": ""}
    mapped = set(extraction.dataset.mapping.values())
    classes = [row for row in extraction.classes.to_json() if row["id"] in mapped]
    said = f"{extraction.settings.fingerprint} {conventions} {classes}"
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


class Input(NamedTuple):
    """What an input of a finished shard must have in common with one that is to be done.

    Attributes:
        stamp: of its files; image, layout: the files.
        place: (split, group, depth file), which a reject does not have.
    """

    stamp: str
    image: str | None
    layout: str | None
    place: tuple[str, str, str | None] | None = None

    def serves(self, wanted: Input | None) -> bool:
        """Whether this, in a finished shard, is what a plan wants."""
        return wanted is not None and self[:3] == wanted[:3] and self.place in (None, wanted.place)


def due_inputs(dataset: str, plan: Plan) -> dict[str, Input]:
    """Every input that a plan wants read, by source name."""
    return {source_name(dataset, due.ref): _wanted(dataset, due.ref, due.stamp) for due in plan.due}


def _wanted(dataset: str, ref: SourceRef, stamp: str) -> Input:
    return Input(stamp, ref.image, ref.layout, (ref.split, group_name(dataset, ref.group), ref.depth))


def adopt_shards(
    bank: Path, extraction: Extraction, wanted: dict[str, Input], named: Collection[str]
) -> list[ShardEntry]:
    """Finished shards on the disk that hold nothing but wanted inputs, extracted as they would be now.

    Args:
        bank: whose shards.
        extraction: the settings, classes and data set of this run.
        wanted: what is to be done; the inputs of adopted shards are removed.
        named: ids of the shards that are in the bank.
    """
    settings = shard_settings(extraction)
    adopted = []
    for path in sorted(shard_folder(bank).iterdir()) if wanted else ():
        marker = read_marker(path) if path.name not in named else None
        if marker is None or marker.settings != settings or marker.id != path.name:
            continue
        done = finished_shard(path)
        inputs = _inputs(Shard(path, done)) if done else {}
        if done and inputs and all(found.serves(wanted.get(name)) for name, found in inputs.items()):
            adopted.append(done)
            for name in inputs:
                del wanted[name]
    return adopted


def _inputs(shard: Shard) -> dict[str, Input]:
    """Every input of a shard, taken in or rejected."""
    found = {
        row["source"]: Input(row["stamp"], row["image"], row["layout"], (row["split"], row["group"], row["depth"]))
        for row in shard.table("sources").to_pylist()
    }
    for row in shard.table("rejects").to_pylist():
        stamp = "" if row["reason"] == "duplicate" else row["stamp"]  # whether it is one has to be seen again
        found[row["source"]] = Input(stamp, row["image"], row["layout"])
    return found


def _extract_into(
    writer: ShardWriter, dataset: Dataset, due: DueSource, job: ShardJob, result: ShardResult
) -> tuple[int, int]:
    """Adds one source, or its reject, or notes that the bank has it; returns its segments and rejects."""
    ref, name = due.ref, job.extraction.dataset.name
    where, read = dataset.root / str(ref.image), None  # without a hash, the next run tries a reject again
    try:
        encoded = dataset.read(ref)
        if dataset.stamp(ref) != due.stamp:
            raise SourceError("changed", sentence(where, "changed while it was read", fix="run the rebuild again"))
        read = encoded.source_id
        if read == due.held or read in job.forgotten:
            noted = result.same if read == due.held else result.forgotten
            noted[source_name(name, ref)] = due.stamp if read == due.held else read  # type: ignore[index]
            return 0, 0
        bundle = extract(ref, encoded, dataset.decode(ref, encoded), job.extraction, due.stamp)
    except SourceError as error:
        writer.reject(rejected(ref, name, error.reason, str(error), read, due.stamp))
        return 0, 1
    except ZeuxisError:
        raise  # concerns the whole run, such as an edge model that cannot be read
    except Exception as error:  # one source must not cost the others of its shard
        read = None if isinstance(error, (MemoryError, OSError)) else read  # may go better another night
        said = sentence(where, f"could not be extracted ({type(error).__name__}: {error})")
        writer.reject(rejected(ref, name, "crashed", said, read, due.stamp))
        return 0, 1
    writer.add(bundle)
    return len(bundle.segments), 0
