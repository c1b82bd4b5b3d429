"""What the small networks learn: the fit of segments, who stands in front, coarse layouts made dense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.collage import piece_of
from zeuxis.pipelines.training import densify, ordering, transform
from zeuxis.pipelines.training.loop import train
from zeuxis.pipelines.training.options import TrainOptions, resolved
from zeuxis.pipelines.training.sources import BankSources, held_out_split
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.layouts import areas_and_boxes
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_checkpoint
from zeuxis.synth.encoding import class_indices, resized
from zeuxis.synth.fitting import learned_fit, proposed
from zeuxis.synth.ordering import class_evidence
from zeuxis.synth.transform import Piece, Target, fit, identity, overlap

STEPS = {"transform": 4000, "ordering": 1000, "densify": 1500}
BATCH = {"transform": 8, "ordering": 2, "densify": 8}
"""32,000 segments, 20,000 pairs at most, 12,000 layouts."""
LAYOUTS = 40
"""Held-out layouts whose components segments are retrieved for."""
QUICK_SIZE = (32, 64)
ORIGINS = ("network", "box", "identity")
"""Whose fit of a segment is chosen."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a figure, on sources that were not trained on: NYU's and CamVid's test groups."""
    rows = []
    for name, spec, scratch in _datasets(quick, data):
        zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
        reader = Reader(scratch / "bank")
        for measure in (_transform, _ordering, _densify):
            try:
                figures = measure(reader, scratch / "models", quick)
            except NothingToLearn:  # CamVid has no depth, and so no orderings
                continue
            rows += [{"data set": name, "what": what, "value": value} for what, value in figures.items()]
    return rows


def _datasets(quick: bool, data: Path | None) -> Iterator[tuple[str, str, Path]]:
    for kind in ("nyu", "camvid") if data is not None and not quick else ("scenes",):
        with dataset_of(quick, data, kind) as (spec, scratch):
            yield kind, spec, scratch


def _transform(reader: Reader, models: Path, quick: bool) -> dict[str, float]:
    """On segments moved at random, and on the best hits of held-out layouts: mask IoU on a canvas of the net's size."""
    options = _options("transform", reader, quick)
    task = transform.make_task(reader, models, options)
    net = _trained(task, models, options)
    measured = transform.make_task(reader, models, options)
    measured.held_out = transform.SegmentExamples(_measured(reader, task.subject.size, transform.N_VALIDATION))
    with torch.inference_mode():
        left = measured.validate(net)
    pieces = _retrieved(reader, task.subject.size, 2 if quick else LAYOUTS)
    found: dict[str, list[float]] = {"identity": [], "analytic": [], "network": [], "chosen": []}
    names = []
    for some, layout in pieces:
        given = (some, net, layout, task.subject.size, len(task.subject.classes))
        for piece, alone, chosen in zip(some, proposed(*given), learned_fit(*given), strict=True):
            stay = identity(piece, task.subject.size)
            each = (stay, fit(piece, task.subject.size), alone or stay, chosen)
            for key, one in zip(found, each, strict=True):
                found[key].append(overlap(piece, one, task.subject.size))
            names.append(chosen.name)
    return {
        "fit: corner error left, share of the start": left["corner_error_left"],
        "fit: the same, median segment": left["corner_error_median"],
        **{f"fit of hits: mask IoU, {key}": mean(values) for key, values in found.items()},
        **{f"fit of hits: share that the {name} places": names.count(name) / len(names) for name in ORIGINS},
    }


def _retrieved(reader: Reader, size: tuple[int, int], most: int) -> Iterator[tuple[list[Piece], Any]]:
    """The best hits of held-out layouts with the layout's channel numbers, at a size."""
    sources = _measured(reader, size, most)
    retriever, channel_of = Retriever(reader), class_indices(tuple(reader.classes))
    for retrieval in retriever.retrieve_many(sources=sources.names, k=1, workers=1):
        assert not isinstance(retrieval, zeuxis.ZeuxisError)
        some = []
        for component in retrieval:
            left = component.at_size(size)
            if component.hits and left:
                some.append(piece_of(reader, component, component.hits[0], Target(*left)))
        yield some, channel_of[resized(retrieval.layout, size)]


def _ordering(reader: Reader, models: Path, quick: bool) -> dict[str, float]:
    """On the pairs of held-out groups: who is in front by the network, and by what it corrects."""
    options = _options("ordering", reader, quick)
    task = ordering.make_task(reader, models, options)
    net = _trained(task, models, options)
    held_out = ordering.PairSources(_measured(reader, task.subject.size))
    items = ordering.OrderingItems(held_out, task.pairs.statistics, own=False)
    with torch.inference_mode():
        shares = ordering.accuracy(net, items)
    return {
        "order: pairs": float(sum(len(held_out.pairs(number).regions) for number in held_out.numbers)),
        "order: right, network": shares["accuracy"],
        "order: right, statistics of the two classes": shares["statistics"],
        "order: right, statistics, ranks and the ground rule": _by_rules(items),
    }


def _by_rules(items: ordering.OrderingItems) -> float:
    """Share of pairs that `class_evidence` answers rightly, which orders where there is no network."""
    right = []
    for number in items.pairs.numbers:
        known, regions = items.pairs.pairs(number), items.pairs.sources[number].regions
        _, boxes = areas_and_boxes(np.ascontiguousarray(regions, np.uint32), int(regions.max()))
        for both, ids in zip(known.regions.tolist(), known.class_ids.tolist(), strict=True):
            where = [tuple(boxes[region - 1].tolist()) for region in both]
            (pair,) = class_evidence(items.statistics, ids, where, [(0, 1)])
            right.append(pair.front == 0)
    return mean(right)


def _densify(reader: Reader, models: Path, quick: bool) -> dict[str, float]:
    options = _options("densify", reader, quick)
    task = densify.make_task(reader, models, options)
    net = _trained(task, models, options)
    task.held_out = _measured(reader, task.subject.size, densify.N_VALIDATION)
    with torch.inference_mode():
        found = task.validate(net)
    return {
        "dense layouts: mean IoU, network": found["miou"],
        "dense layouts: mean IoU, nearest class": found["miou_nearest"],
    }


def _measured(reader: Reader, size: tuple[int, int], most: int | None = None) -> BankSources:
    """Sources of the held-out split, none of which chose what was kept where the bank has a split `test`."""
    return BankSources(reader, size, held_out_split(reader), most=most)


def _options(network: str, reader: Reader, quick: bool) -> TrainOptions:
    small = (
        {"steps": 2, "batch": 2, "size": QUICK_SIZE} if quick else {"steps": STEPS[network], "batch": BATCH[network]}
    )
    return resolved(TrainOptions(preset="tiny", workers=0, **small), network, reader.geometry.frame)


def _trained(task: Any, models: Path, options: TrainOptions) -> torch.nn.Module:
    """The network that training keeps, in evaluation mode."""
    report = train(task, models, options)
    net: torch.nn.Module = task.modules()["net"]
    net.load_state_dict(load_checkpoint(report.checkpoint, task.network)[1])
    return net.eval()
