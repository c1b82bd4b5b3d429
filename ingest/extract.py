"""One source in, everything the bank stores of it out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..storage.appearance import Appearance
from ..storage.classes import ClassTable, Layout
from ..storage.codec import Mask, encode_segment
from ..storage.images import Photograph
from ..storage.layouts import Geometry, sample_to_frame
from ..storage.manifest import DatasetEntry
from ..storage.records import OrderingRecord, PatchRecord, Record, RejectRecord, SegmentRecord, SourceRecord
from ..storage.shard import SourceBundle, blob_key, sealed_files
from .appearance import DESCRIPTOR, describe_all
from .datasets.base import EncodedSource, Source, SourceRef, group_name
from .depth import depth_model
from .ordering import Measured, Rule, orderings
from .patches import PatchSettings, key_patches
from .segments import Segments, find_segments, void_share

EXTRACTION = 2
"""Raised whenever the same input and settings would give other rows or payloads."""


@dataclass(frozen=True)
class ExtractionSettings:
    """What is extracted and how; the same for every source of a bank.

    Attributes:
        geometry: frame, minimum area, thin option.
        depth_rule: what orders segments where there is no depth: `none` or `ground`.
        keep_sources: the bank keeps the sources' files as they came.
        patches: how key patches are found, or None for none.
        edge_model: SHA-256 of the structured-edge model file, where one is used.
        depth_model: file of the depth network that gives depth where there is none; depth_hash: its SHA-256.
    """

    geometry: Geometry
    depth_rule: Rule = "none"
    keep_sources: bool = True
    patches: PatchSettings | None = None
    edge_model: str | None = None
    depth_model: str | None = None
    depth_hash: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        geometry = {**asdict(self.geometry), "frame": list(self.geometry.frame)}
        return {**asdict(self), "geometry": geometry, "extraction": EXTRACTION}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ExtractionSettings:
        """The settings that `to_json` wrote."""
        geometry = row["geometry"]
        return cls(
            Geometry((geometry["frame"][0], geometry["frame"][1]), geometry["min_area"], geometry["join_thin"]),
            row["depth_rule"],
            row["keep_sources"],
            PatchSettings(**row["patches"]) if row["patches"] else None,
            row["edge_model"],
            row.get("depth_model"),
            row.get("depth_hash"),
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits: shards with another one cannot be reused. Where model files lie does not matter."""
        patches = self.patches and replace(self.patches, edge_model=None)
        said = replace(self, patches=patches, depth_model=None).to_json()
        return hashlib.blake2b(f"{sorted(said.items())}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Extraction:
    """All a worker needs to know besides the sources: settings, class table, data set."""

    settings: ExtractionSettings
    classes: ClassTable
    dataset: DatasetEntry


def extract(ref: SourceRef, encoded: EncodedSource, source: Source, job: Extraction, stamp: str) -> SourceBundle:
    """Everything that is stored of one decoded source.

    Args:
        ref, encoded, source: the source as it is listed, as bytes, and decoded (native class ids).
        job: settings, classes and data set.
        stamp: of its files, see `SourceRecord`.
    """
    layout, source_id = (
        job.dataset.to_bank(source.layout),
        encoded.source_id,
    )  # which is hashed whenever it is asked for
    segments = find_segments(layout, source_id, job.classes, job.settings.geometry)
    crops = list(segments.crops(source.image))
    name = source_name(job.dataset.name, ref)
    bundle = layout_bundle(name, ref, layout, segments, source_id, job, stamp, source.instances)
    common = {name: getattr(bundle.source, name) for name in _COMMON}
    return with_content(
        replace(
            bundle,
            orderings=_ordering_records(segments, source, job, common),
            patches=_patch_records(source, job.settings.patches, common),
            blobs=_blobs(segments, crops, encoded, source_id, job.settings.keep_sources),
            appearance=Appearance(DESCRIPTOR, describe_all(crops)),
        )
    )


def again(
    bundle: SourceBundle,
    ref: SourceRef,
    encoded: EncodedSource,
    source: Source,
    job: Extraction,
    *,
    patches: bool,
    ordered: bool,
) -> SourceBundle:
    """A bundle of the same geometry with its key patches or its orderings found anew; see `with_content`."""
    common = {name: getattr(bundle.source, name) for name in _COMMON}
    if ordered:
        segments = find_segments(
            job.dataset.to_bank(source.layout), encoded.source_id, job.classes, job.settings.geometry
        )
        bundle = replace(bundle, orderings=_ordering_records(segments, source, job, common))
    if patches:
        bundle = replace(bundle, patches=_patch_records(source, job.settings.patches, common))
    return bundle


_COMMON = ("source", "dataset", "split", "group")


def layout_bundle(
    name: str,
    ref: SourceRef,
    layout: Layout,
    segments: Segments,
    source_id: str,
    job: Extraction,
    stamp: str,
    instances: npt.NDArray[np.int32] | None = None,
) -> SourceBundle:
    """What the layout of a source alone gives: its row, the rows of its segments and their search columns.

    Args:
        name: of the source in the bank; ref: as it is listed.
        layout: `(H, W)` uint16 of the bank's class ids; segments: found in it.
        source_id: what the segments' ids derive from.
        job, stamp: as in `extract`.
        instances: `(H, W)` int32, see `Source`.
    """
    common = {"source": name, "dataset": job.dataset.name, "split": ref.split}
    common["group"] = group_name(job.dataset.name, ref.group)
    components = len(segments.framed.components)
    source = SourceRecord(
        **common,
        source_id=source_id,
        image=str(ref.image),
        layout=ref.layout,
        depth=ref.depth,
        height=layout.shape[0],
        width=layout.shape[1],
        components=components,
        segments=len(segments),
        small=components - len(segments),
        void=void_share(layout),
        content="",
        stamp=stamp,
    )
    records = _segment_records(segments, job.classes, common, instances)
    return SourceBundle(source, records, [], [], {}, segments.tiled, segments.columns)


def with_content(bundle: SourceBundle) -> SourceBundle:
    """The bundle with the hash over all that is in it."""
    return replace(bundle, source=replace(bundle.source, content=_content(bundle)))


def source_name(dataset: str, ref: SourceRef) -> str:
    """A source's name in a bank: `dataset/name`."""
    return f"{dataset}/{ref.name}"


def rejected(
    ref: SourceRef, dataset: str, reason: str, message: str, source_id: str | None, stamp: str
) -> RejectRecord:
    """The row of an input that was not taken in."""
    return RejectRecord(source_name(dataset, ref), dataset, ref.image, ref.layout, reason, message, source_id, stamp)


def _segment_records(
    segments: Segments, classes: ClassTable, common: Mapping[str, str], instances: npt.NDArray[np.int32] | None
) -> list[SegmentRecord]:
    columns = segments.columns
    counts = [None] * len(segments) if instances is None else segments.distinct(instances)
    rows = zip(
        columns.segment_id.tolist(),
        columns.class_id.tolist(),
        columns.box.tolist(),
        columns.area.tolist(),
        columns.context_area.tolist(),
        segments.crop_boxes.tolist(),
        segments.pixels.tolist(),
        counts,
        strict=True,
    )
    return [
        SegmentRecord(
            segment_id=id, class_id=class_id, class_name=classes[class_id].name, area=area, context_area=context,
            top=box[0], left=box[1], bottom=box[2], right=box[3],
            crop_top=crop[0], crop_left=crop[1], crop_bottom=crop[2], crop_right=crop[3], pixels=pixels,
            instances=count,
            **common,
        )
        for id, class_id, box, area, context, crop, pixels, count in rows
    ]  # fmt: skip


def _ordering_records(
    segments: Segments, source: Source, job: Extraction, common: Mapping[str, str]
) -> list[OrderingRecord]:
    framed = segments.framed
    given, measured = source.depth, cast(Measured, job.dataset.decoding.depth_origin)
    if given is None and job.settings.depth_model:
        given, measured = depth_model(job.settings.depth_model)(source.image, common["source"]), "network"
    depth = None if given is None else np.ascontiguousarray(sample_to_frame(given, job.settings.geometry.frame))
    sky = np.array([job.classes[int(id)].name == "sky" for id in framed.components.class_ids], bool)
    pairs = orderings(
        framed.labels,
        framed.boxes,
        framed.components.class_ids,
        framed.stored,
        depth,
        job.settings.depth_rule,
        sky,
        measured,
    )
    row = {int(component): number for number, component in enumerate(segments.stored)}
    ids, class_ids = segments.columns.segment_id.tolist(), segments.columns.class_id.tolist()
    return [
        OrderingRecord(
            segment_a=ids[row[pair.a]],
            segment_b=ids[row[pair.b]],
            class_a=class_ids[row[pair.a]],
            class_b=class_ids[row[pair.b]],
            front=None if pair.front is None else ids[row[pair.front]],
            margin=pair.margin,
            origin=pair.origin,
            **common,
        )
        for pair in pairs
    ]


def _patch_records(source: Source, settings: PatchSettings | None, common: Mapping[str, str]) -> list[PatchRecord]:
    if settings is None:
        return []
    return [
        PatchRecord(rank=rank, top=top, left=left, bottom=bottom, right=right, score=patch.score, **common)
        for rank, patch in enumerate(key_patches(source.image, settings))
        for top, left, bottom, right in [patch.box]
    ]


def _blobs(
    segments: Segments, crops: Sequence[tuple[Photograph, Mask]], encoded: EncodedSource, source_id: str, keep: bool
) -> dict[bytes, bytes]:
    blobs = sealed_files(source_id, encoded.image, encoded.layout, encoded.depth) if keep else {}
    for id, (pixels, mask) in zip(segments.columns.segment_id.tolist(), crops, strict=True):
        blobs[blob_key("segment", id)] = encode_segment(pixels, mask)
    return blobs


def _content(bundle: SourceBundle) -> str:
    """32 hex digits over rows and payloads, whatever shard they lie in and whenever the files were touched."""
    digest = hashlib.blake2b(digest_size=16)
    segments = sorted(bundle.segments, key=lambda row: row.segment_id)
    rows: list[Record] = [replace(bundle.source, content="", stamp=""), *segments, *bundle.orderings, *bundle.patches]
    for row in rows:
        digest.update(repr(tuple(map(_as_stored, vars(row).values()))).encode())
    for key, value in sorted(bundle.blobs.items()):
        digest.update(key + hashlib.blake2b(value, digest_size=16).digest())
    return digest.hexdigest()


def _as_stored(value: object) -> object:
    """Tables hold single precision: what was read back has the hash of what was written."""
    return float(np.float32(value)) if isinstance(value, float) else value
