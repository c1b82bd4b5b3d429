"""Small banks made in-process, for the tests of the storage floor."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from zeuxis.ingest.datasets.base import EncodedSource, Source, SourceRef
from zeuxis.ingest.extract import Extraction, ExtractionSettings, extract, rejected
from zeuxis.storage import files
from zeuxis.storage.classes import VOID, ClassTable, SemanticClass
from zeuxis.storage.decoding import Decoding
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import DatasetEntry, Manifest, collect_garbage, load_current, publish, shard_folder
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.records import RejectRecord
from zeuxis.storage.shard import ShardEntry
from zeuxis.storage.shard_writer import ShardWriter, SourceBundle

FRAME = (45, 75)
"""Neither side is a multiple of 8."""
SIZE = (60, 101)
NATIVE = tuple(SemanticClass(id, name, (id, 0, 0)) for id, name in enumerate(["sky", "road", "tree", "car"]))
MAPPING = {0: 0, 1: 1, 2: 7, 3: 3}
"""The bank calls the data set's class 2 by the id 7."""
CLASSES = ClassTable([NATIVE[0], NATIVE[1], replace(NATIVE[2], id=7), NATIVE[3]])
DATASET = DatasetEntry("toy", "folder", "/nowhere/toy", "CC0", Decoding(NATIVE, frozenset({255})), MAPPING)
SETTINGS = ExtractionSettings(Geometry(FRAME, min_area=6))


def toy_source(seed: int) -> tuple[SourceRef, EncodedSource, Source]:
    """A noisy photograph with a blocky layout, void and specks in it; every second one has a depth map."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 3, 255], (8, 9), p=[0.3, 0.3, 0.2, 0.15, 0.05]).astype(np.uint8)
    labels = np.kron(blocks, np.ones((8, 12), np.uint8))[: SIZE[0], : SIZE[1]]
    labels[rng.random(SIZE) < 0.01] = 3
    image = rng.integers(0, 255, (*SIZE, 3), np.uint8)
    depth = rng.uniform(1, 9, SIZE).astype(np.float32) if seed % 2 == 0 else None
    encoded = EncodedSource(_png(image), _png(labels), None if depth is None else _npy(depth))
    layout = np.where(labels == 255, VOID, labels).astype(np.uint16)
    split, group = ("train", "val")[seed % 3 == 2], f"room{seed // 2}"
    ref = SourceRef(f"{seed:03d}", split, group, f"i/{seed}.png", f"l/{seed}.png", None if depth is None else "d")
    return ref, encoded, Source(image, layout, depth, split, group)


@lru_cache
def toy_bundle(seed: int) -> SourceBundle:
    """All that the bank stores of `toy_source(seed)`."""
    ref, encoded, source = toy_source(seed)
    return extract(ref, encoded, source, Extraction(SETTINGS, CLASSES, DATASET), f"stamp {seed}")


def toy_reject(name: str) -> RejectRecord:
    """An input that could not be used."""
    ref = SourceRef(name, "train", "g", f"i/{name}.png", None)
    return rejected(ref, "toy", "missing-label", f"{name}: no label", None, "stamp")


def write_shard(bank: Path, seeds: Sequence[int], rejects: Sequence[str] = ()) -> ShardEntry:
    """A finished shard of these sources in the bank's folder; no manifest names it yet."""
    with ShardWriter(shard_folder(bank), "toy settings", FRAME) as writer:
        for seed in seeds:
            writer.add(toy_bundle(seed))
        for name in rejects:
            writer.reject(toy_reject(name))
        return writer.publish()


def toy_manifest(generation: int, shards: Sequence[ShardEntry]) -> Manifest:
    return Manifest(
        generation, SETTINGS.geometry, SETTINGS.to_json(), CLASSES, (DATASET,), tuple(shards), "", {"time": "now"}
    )


def publish_shards(bank: Path, generation: int, shards: Sequence[ShardEntry]) -> Manifest:
    manifest = toy_manifest(generation, shards)
    manifest = replace(manifest, content=content_of(Reader(bank, manifest)))
    publish(bank, manifest)
    return manifest


def make_bank(bank: Path, *shards: Sequence[int], rejects: Sequence[str] = ()) -> Path:
    """A bank of one generation, one shard for each sequence of seeds; rejects go to the first."""
    files.make_folder(shard_folder(bank))
    entries = [write_shard(bank, seeds, rejects if number == 0 else ()) for number, seeds in enumerate(shards)]
    publish_shards(bank, 1, entries)
    return bank


def add_shard(bank: Path, seeds: Sequence[int]) -> None:
    """Brings the bank to generation 2 by one more shard, unless it is there already: a rebuild in small."""
    with files.writer_lock(bank):
        current = load_current(bank)
        if current.generation == 1:
            publish_shards(bank, 2, [*current.shards, write_shard(bank, seeds)])
        collect_garbage(bank)


def _png(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "PNG")
    return sink.getvalue()


def _npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()
