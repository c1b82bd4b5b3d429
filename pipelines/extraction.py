"""One shard of a rebuild, as a Dask task: sources in, a finished shard on the disk out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset
from ..ingest.extract import Extraction, ExtractionSettings, extract, rejected, source_name
from ..ingest.plan import NewSource, Plan
from ..storage.errors import SourceError, ZeuxisError, sentence
from ..storage.manifest import DatasetEntry, shard_folder
from ..storage.records import RejectRecord
from ..storage.shard import Shard, ShardEntry, ShardWriter, finished_shard
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
        return shard_settings(self.extraction.settings, self.extraction.dataset)


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


def shard_settings(settings: ExtractionSettings, dataset: DatasetEntry) -> str:
    """Fingerprint of the settings and of the data set's conventions: shards with another one are not reused."""
    conventions = {**dataset.to_json(), "root": ""}
    return hashlib.blake2b(f"{settings.fingerprint} {conventions}".encode(), digest_size=8).hexdigest()


Inputs = dict[str, tuple[str | None, str]]
"""Source name to the hash of its bytes and, where it is rejected for more than its bytes, the reason."""


def planned_inputs(dataset: str, plan: Plan) -> Inputs:
    """Every input that a plan wants in a shard."""
    wanted: Inputs = {source_name(dataset, new.ref): (new.source_id, "") for new in plan.new}
    return wanted | {row.source: (row.source_id, _reason(row.source_id, row.reason)) for row in plan.rejects}


def adopt_shards(bank: Path, extraction: Extraction, wanted: Inputs, named: Collection[str]) -> list[ShardEntry]:
    """Finished shards on the disk that hold nothing but wanted inputs, extracted as they would be now.

    Args:
        bank: whose shards.
        extraction: the settings and data set of this run.
        wanted: what is to be done; the inputs of adopted shards are removed.
        named: ids of the shards that are in the bank.
    """
    settings = shard_settings(extraction.settings, extraction.dataset)
    adopted = []
    for path in sorted(shard_folder(bank).iterdir()):
        done = finished_shard(path) if path.name not in named else None
        inputs = _inputs(Shard(path, done)) if done and done.settings == settings else {}
        if done and inputs and inputs.items() <= wanted.items():
            adopted.append(done)
            for name in inputs:
                del wanted[name]
    return adopted


def _inputs(shard: Shard) -> Inputs:
    """Every input of a shard, taken in or rejected."""
    sources = shard.table("sources", ["source", "source_id"]).to_pylist()
    rejects = shard.table("rejects", ["source", "source_id", "reason"]).to_pylist()
    found: Inputs = {row["source"]: (row["source_id"], "") for row in sources}
    return found | {row["source"]: (row["source_id"], _reason(row["source_id"], row["reason"])) for row in rejects}


def _reason(source_id: str | None, reason: str) -> str:
    """The reason where the bytes alone do not give it: a missing file, or a twin elsewhere."""
    return reason if source_id is None or reason == "duplicate" else ""


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
        said = sentence(where, f"could not be extracted ({type(error).__name__}: {error})")
        writer.reject(rejected(ref, name, "failed", said, read, source.stamp))
        return None
    writer.add(bundle)
    return len(bundle.segments)
