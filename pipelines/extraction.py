"""One shard of a rebuild, as a Dask task: sources in, a finished shard on the disk out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset
from ..ingest.extract import Extraction, ExtractionSettings, extract, rejected
from ..ingest.plan import NewSource
from ..storage.errors import SourceError, sentence
from ..storage.manifest import DatasetEntry, shard_folder
from ..storage.records import RejectRecord
from ..storage.shard import Shard, ShardWriter
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


def shard_inputs(shard: Shard) -> dict[str, str | None]:
    """Every input of a shard, taken in or rejected: its name and the hash of its bytes."""
    rows = [row for table in ("sources", "rejects") for row in shard.table(table, ["source", "source_id"]).to_pylist()]
    return {row["source"]: row["source_id"] for row in rows}


def _extract_into(writer: ShardWriter, dataset: Dataset, source: NewSource, extraction: Extraction) -> int | None:
    """Adds one source, or its reject; returns how many segments it has, None for a reject."""
    ref, name = source.ref, extraction.dataset.name
    try:
        encoded = dataset.read(ref)
        if encoded.source_id != source.source_id:
            what = dataset.root / str(ref.image)
            raise SourceError("changed", sentence(what, "changed while it was read", fix="run the rebuild again"))
        bundle = extract(ref, encoded, dataset.decode(ref, encoded), extraction, source.stamp)
    except SourceError as error:
        writer.reject(rejected(ref, name, error.reason, str(error), source.source_id, source.stamp))
        return None
    except (ValueError, IndexError, ArithmeticError, MemoryError, RuntimeError) as error:
        said = sentence(dataset.root / str(ref.image), f"could not be extracted ({type(error).__name__}: {error})")
        writer.reject(rejected(ref, name, "failed", said, source.source_id, source.stamp))
        return None
    writer.add(bundle)
    return len(bundle.segments)
