"""What depends on a changed setting is made anew, from what the bank and its data sets hold; the rest is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset, EncodedSource, SourceRef
from ..ingest.extract import Extraction, ExtractionSettings, again, with_content
from ..storage.errors import UnfinishedError, sentence
from ..storage.manifest import shard_folder
from ..storage.merging import merge_shards
from ..storage.shard import Shard, ShardEntry, blob_key, placed_rows
from ..storage.shard_writer import SourceBundle, sealed_files
from .cluster import run_tasks
from .extraction import shard_settings
from .planning import ALL, FILES, ORDERINGS, PATCHES, Work


@dataclass(frozen=True)
class RederiveJob:
    """One Dask task: one shard that is written anew with other settings.

    Attributes:
        bank: its folder; shard: the old shard; dataset: the spec of its data set; extraction: how.
        changes: what is made anew, of `PATCHES`, `ORDERINGS`, `FILES`; gone: names that are left out.
        refs: name in the bank to source, as it is listed, of those that are kept.
    """

    bank: Path
    shard: ShardEntry
    dataset: str
    extraction: Extraction
    changes: frozenset[str]
    gone: frozenset[str]
    refs: Mapping[str, SourceRef]


def rederive_all(work: Work, settings: ExtractionSettings, client: Any) -> dict[str, ShardEntry | None]:
    """The shards that take the place of those of the bank where settings have changed; by the old one's id."""
    if not work.changes or ALL in work.changes or work.current is None:
        return {}
    jobs = _jobs(work, settings)
    became: dict[str, ShardEntry | None] = {entry.id: None for entry in work.current.shards}

    def quiet(_: Mapping[str, int]) -> None:
        """The sources of old shards are not counted among those that are due."""

    for old, row in run_tasks(client, rederive_shard, jobs, report=quiet, halves=_cut, give_up=_given_up):
        became[old] = ShardEntry.from_json(row)
    return became


def _cut(job: RederiveJob) -> Sequence[RederiveJob]:
    """A shard is written anew as a whole."""
    return ()


def _given_up(job: RederiveJob) -> RederiveJob:
    """What was extracted once must not be lost to a worker that dies of it.

    Raises:
        UnfinishedError: always.
    """
    raise UnfinishedError(
        sentence(
            shard_folder(job.bank) / job.shard.id, "killed every worker that was to write it anew",
            fix="give workers more memory, or leave the settings as they are",
        )
    )  # fmt: skip


def rederive_shard(job: RederiveJob) -> tuple[str, dict[str, Any]]:
    """The Dask task: writes the shard anew; returns the id of the old one and the entry of the new one as JSON."""
    import cv2

    cv2.setNumThreads(1)  # as in `extract_shard`: with more threads, edges and so key patches come out otherwise
    shard = Shard(shard_folder(job.bank) / job.shard.id, job.shard)
    dataset = open_dataset(job.dataset)
    frame = job.extraction.settings.geometry.frame
    change = partial(_changed, job, dataset, shard)
    settings = shard_settings(job.extraction)
    entry = merge_shards(shard_folder(job.bank), [shard], frame, change, settings=settings, gone=job.gone)
    return job.shard.id, entry.to_json()


def _jobs(work: Work, settings: ExtractionSettings) -> Iterator[RederiveJob]:
    """One a shard that keeps anything."""
    assert work.current is not None
    kept = {name for plan in work.plans for name in (*plan.reused, *plan.still_rejected)}
    parts = zip(work.datasets, work.entries, work.surveys, strict=True)
    datasets = {entry.name: (dataset, entry, survey) for dataset, entry, survey in parts}
    for entry in work.current.shards:
        shard = Shard(shard_folder(work.bank) / entry.id, entry)
        rows = [row for table in ("sources", "rejects") for row in placed_rows([shard], table, ("dataset", "source"))]
        names = {source for _, source, _ in rows}
        if not names & kept:
            continue
        dataset, described, survey = datasets[rows[0][0]]
        extraction = Extraction(settings, work.classes, described)
        refs = {name: survey.refs[name] for name in sorted(names & kept)}
        changes = frozenset(work.changes)
        yield RederiveJob(work.bank, entry, dataset.spec, extraction, changes, frozenset(names - kept), refs)


def _changed(job: RederiveJob, dataset: Dataset, shard: Shard, bundle: SourceBundle) -> SourceBundle:
    """A source with what depends on the changed settings made anew."""
    row, keep = bundle.source, job.extraction.settings.keep_sources
    bundle = replace(bundle, source=replace(row, content=""))  # it is hashed as it was when it was new
    if FILES in job.changes:
        segments = blob_key("segment", 0)[:1]
        bundle = replace(bundle, blobs={key: value for key, value in bundle.blobs.items() if key[:1] == segments})
    if not keep and job.changes == {FILES}:
        return with_content(bundle)
    ref = job.refs[row.source]
    encoded = _files(dataset, ref, bundle)
    if FILES in job.changes and keep:
        files = sealed_files(row.source_id, encoded.image, encoded.layout, encoded.depth)
        bundle = replace(bundle, blobs={**bundle.blobs, **files})
    if job.changes & {PATCHES, ORDERINGS}:
        bundle = again(
            bundle, ref, encoded, dataset.decode(ref, encoded), job.extraction,
            patches=PATCHES in job.changes, ordered=ORDERINGS in job.changes,
        )  # fmt: skip
    return with_content(bundle)


def _files(dataset: Dataset, ref: SourceRef, bundle: SourceBundle) -> EncodedSource:
    """A source's files, from its data set."""
    encoded = dataset.read(ref)
    if encoded.source_id != bundle.source.source_id:
        fix = "run the rebuild again, with --rehash where its time is the old one"
        raise UnfinishedError(sentence(dataset.root / str(ref.image), "changed while it was read", fix=fix))
    return encoded
