"""One source in, everything the bank stores of it out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..storage.appearance import Appearance
from ..storage.classes import VOID, ClassTable, Layout
from ..storage.codec import checksums, encode_segments
from ..storage.layouts import Geometry
from ..storage.manifest import DatasetEntry
from ..storage.records import (
    OrderingRecord,
    PatchRecord,
    RejectRecord,
    Rows,
    SegmentRecord,
    SourceRecord,
    stored_columns,
)
from ..storage.shard import blob_key
from ..storage.shard_writer import SourceBundle, sealed_files
from .appearance import DESCRIPTOR, describe_all
from .borders import border_colours
from .datasets.base import EncodedSource, Source, SourceRef, group_name
from .depth import depth_model
from .ordering import Measured, Rule, orderings
from .patches import PatchSettings, key_patches
from .segments import Segments, find_segments, void_share

EXTRACTION = 5
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
    layout, source_id = job.dataset.to_bank(source.layout), encoded.source_id
    segments = find_segments(layout, source_id, job.classes, job.settings.geometry)
    name = source_name(job.dataset.name, ref)
    bundle = layout_bundle(name, ref, layout, segments, source_id, job, stamp, source.instances)
    common = {name: getattr(bundle.source, name) for name in _COMMON}
    blobs = sealed_files(source_id, encoded.image, encoded.layout, encoded.depth) if job.settings.keep_sources else {}
    runs = segments.framed.components.runs
    crops = encode_segments(source.image, runs, segments.stored + 1, segments.crop_boxes)
    for id, crop in zip(segments.columns.segment_id.tolist(), crops, strict=True):
        blobs[blob_key("segment", id)] = crop
    described = describe_all(source.image, runs, segments.stored, segments.crop_boxes, segments.pixels)
    framed = segments.framed
    borders = border_colours(source.image, framed.labels, framed.components.class_ids, segments.stored)
    return with_content(
        replace(
            bundle,
            orderings=_ordering_records(segments, source, job, common),
            patches=_patch_records(source, job.settings.patches, common),
            blobs=blobs,
            appearance=Appearance(DESCRIPTOR, described, borders),
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
        void=void_share(segments.framed.components),
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
) -> Rows[SegmentRecord]:
    columns, count = segments.columns, len(segments)
    class_ids = columns.class_id.tolist()
    sides = ("top", "left", "bottom", "right")
    return Rows.of(SegmentRecord, count, common, {
        "segment_id": columns.segment_id.tolist(),
        "class_id": class_ids,
        "class_name": [classes[id].name for id in class_ids],
        **dict(zip(sides, columns.box.T.tolist(), strict=True)),
        "area": columns.area.tolist(),
        "context_area": columns.context_area.tolist(),
        **{f"crop_{side}": values for side, values in zip(sides, segments.crop_boxes.T.tolist(), strict=True)},
        "pixels": segments.pixels.tolist(),
        "instances": [None] * count if instances is None else segments.distinct(instances),
    })  # fmt: skip


def _ordering_records(
    segments: Segments, source: Source, job: Extraction, common: Mapping[str, str]
) -> Rows[OrderingRecord]:
    framed, frame = segments.framed, job.settings.geometry.frame
    given, measured = source.depth, cast(Measured, job.dataset.decoding.depth_origin)
    if given is None and job.settings.depth_model:
        given, measured = depth_model(job.settings.depth_model)(source.image, common["source"]), "network"
    named = job.classes.named("sky")
    sky = framed.components.class_ids == (VOID if named is None else named.id)
    class_ids = framed.components.class_ids
    found = orderings(
        framed.runs, frame, framed.boxes, class_ids, framed.stored, given, job.settings.depth_rule, sky, measured
    )
    ids = np.zeros(len(class_ids), np.uint64)
    ids[segments.stored] = segments.columns.segment_id
    return Rows.of(OrderingRecord, len(found), {**common, "origin": found.origin}, {
        "segment_a": ids[found.a].tolist(),
        "segment_b": ids[found.b].tolist(),
        "class_a": class_ids[found.a].tolist(),
        "class_b": class_ids[found.b].tolist(),
        "front": [None if each is None else int(ids[each]) for each in found.front],
        "margin": found.margin,
    })  # fmt: skip


def _patch_records(source: Source, settings: PatchSettings | None, common: Mapping[str, str]) -> list[PatchRecord]:
    if settings is None:
        return []
    return [
        PatchRecord(rank=rank, top=top, left=left, bottom=bottom, right=right, score=patch.score, **common)
        for rank, patch in enumerate(key_patches(source.image, settings))
        for top, left, bottom, right in [patch.box]
    ]


def _content(bundle: SourceBundle) -> str:
    """32 hex digits over rows and payloads, whatever shard they lie in and whenever the files were touched.

    What was read back has the hash of what was written.
    """
    segments = stored_columns(SegmentRecord, bundle.segments)
    order = sorted(range(len(bundle.segments)), key=segments["segment_id"].__getitem__)
    said = [
        stored_columns(SourceRecord, [replace(bundle.source, content="", stamp="")]),
        {name: [values[i] for i in order] for name, values in segments.items() if name not in _COMMON},
        *(
            {name: values for name, values in stored_columns(record, rows).items() if name not in _COMMON}
            for record, rows in ((OrderingRecord, bundle.orderings), (PatchRecord, bundle.patches))
        ),
    ]
    digest = hashlib.sha256(repr(said).encode())
    for key in sorted(bundle.blobs):  # that of a source's file is the hash of its bytes
        digest.update(key + checksums(bundle.blobs[key]) if key.startswith(_SEGMENT) else key)
    return digest.hexdigest()[:32]


_SEGMENT = blob_key("segment", 0)[:1]
