"""One shard of a rebuild, as a Dask task: sources in, a finished shard on the disk out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset, group_name
from ..ingest.extract import Extraction, extract, rejected, source_name
from ..ingest.plan import NewSource, Plan
from ..storage.errors import SourceError, ZeuxisError, sentence
from ..storage.manifest import shard_folder
from ..storage.records import RejectRecord
from ..storage.shard import Shard, ShardEntry, ShardWriter, finished_shard, read_marker
from .cluster import tell


@dataclass(frozen=True)
class ShardJob:
    """One Dask task: the sources of one shard, and what is already known not to be usable."""

    bank: Path
    dataset: str
    extraction: Extraction
    sources: Sequence[NewSource]
    rejects: Sequence[RejectRecord]

    @property
    def settings(self) -> str:
        """Fingerprint of all that decides what is extracted."""
        return shard_settings(self.extraction)


def extract_shard(job: ShardJob) -> dict[str, Any]:
    """The Dask task: reads, decodes and extracts its sources, writes one shard, returns its entry as JSON.

    Safe to run twice: the shard's name derives from its content. Whatever goes wrong with one source becomes a reject.
    """
    import cv2

    cv2.setNumThreads(1)
    dataset = open_dataset(job.dataset)
    frame = job.extraction.settings.geometry.frame
    with ShardWriter(shard_folder(job.bank), job.settings, frame) as writer:
        for record in job.rejects:
            writer.reject(record)
        tell(done=len(job.rejects), rejects=len(job.rejects))
        for source in job.sources:
            segments = _extract_into(writer, dataset, source, job.extraction)
            tell(done=1, segments=segments or 0, rejects=int(segments is None))
        return writer.publish().to_json()


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
    """What decides how an input comes to lie in a shard.

    Attributes:
        source_id: the hash of its bytes, None where they could not be read.
        image, layout: its files.
        reason: of its reject, where the bytes alone do not give it: a missing file, or a twin elsewhere.
        place: (split, group, depth file), which a reject does not have.
    """

    source_id: str | None
    image: str | None
    layout: str | None
    reason: str
    place: tuple[str, str, str | None] | None = None

    def serves(self, wanted: Input | None) -> bool:
        """Whether this, in a finished shard, is what a plan wants."""
        return wanted is not None and self[:4] == wanted[:4] and self.place in (None, wanted.place)


def planned_inputs(dataset: str, plan: Plan) -> dict[str, Input]:
    """Every input that a plan wants in a shard, by source name."""
    wanted = {}
    for new in plan.new:
        ref = new.ref
        place = (ref.split, group_name(dataset, ref.group), ref.depth)
        wanted[source_name(dataset, ref)] = Input(new.source_id, ref.image, ref.layout, "", place)
    return wanted | {record.source: _rejected_input(vars(record)) for record in plan.rejects}


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
        row["source"]: Input(
            row["source_id"], row["image"], row["layout"], "", (row["split"], row["group"], row["depth"])
        )
        for row in shard.table("sources").to_pylist()
    }
    return found | {row["source"]: _rejected_input(row) for row in shard.table("rejects").to_pylist()}


def _rejected_input(row: Mapping[str, Any]) -> Input:
    beyond_bytes = row["source_id"] is None or row["reason"] == "duplicate"
    return Input(row["source_id"], row["image"], row["layout"], row["reason"] if beyond_bytes else "")


def _extract_into(writer: ShardWriter, dataset: Dataset, source: NewSource, extraction: Extraction) -> int | None:
    """Adds one source, or its reject; returns how many segments it has, None for a reject."""
    ref, name = source.ref, extraction.dataset.name
    where, read = dataset.root / str(ref.image), None  # without a hash, the next run tries a reject again
    try:
        encoded = dataset.read(ref)
        if encoded.source_id != source.source_id:
            raise SourceError("changed", sentence(where, "changed while it was read", fix="run the rebuild again"))
        read = source.source_id
        bundle = extract(ref, encoded, dataset.decode(ref, encoded), extraction, source.stamp)
    except SourceError as error:
        writer.reject(rejected(ref, name, error.reason, str(error), read, source.stamp))
        return None
    except ZeuxisError:
        raise  # concerns the whole run, such as an edge model that cannot be read
    except Exception as error:  # one source must not cost the others of its shard
        read = None if isinstance(error, (MemoryError, OSError)) else read  # may go better another night
        said = sentence(where, f"could not be extracted ({type(error).__name__}: {error})")
        writer.reject(rejected(ref, name, "failed", said, read, source.stamp))
        return None
    writer.add(bundle)
    return len(bundle.segments)
