"""Simulated canvases: how many two workers make a second, beside how many a training step consumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.pipelines.training.canvases import CanvasSamples
from zeuxis.pipelines.training.sources import BankSources
from zeuxis.storage.reader import Reader
from zeuxis.synth.encoding import one_hot
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.losses import PerceptualLoss, parsing_loss
from zeuxis.synth.presets import preset
from zeuxis.synth.synthesis import SynthesisConfig, SynthesisNetwork

WORKERS = 2
GOAL = 30.0
"""Canvases a second of two workers, at 192x256."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a data set.

    `first` is the rate while masks are decoded and placed, `again` once they are kept; `ms` is processor time of one
    canvas then; `consumed` are the photographs a second of training steps of the preset's network on this device.
    """
    rows = []
    for kind in ("scenes",) if quick or data is None else ("camvid", "nyu"):
        with dataset_of(quick, data, kind) as (spec, scratch):
            zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
            rows.append({"data set": kind, **_measured(Reader(scratch / "bank"), scratch / "cache", quick)})
    return rows


def _measured(reader: Reader, cache: Path, quick: bool) -> dict[str, Any]:
    chosen = preset("tiny" if quick else "small")
    size = chosen.size(reader.geometry.frame)
    start = time.perf_counter()
    samples = CanvasSamples(BankSources(reader, size, cache=cache), fill=True)
    samples.prepare()
    prepared = time.perf_counter() - start
    n = 8 if quick else 120
    first, again = _rate(samples, [*range(n)]), 0.0
    for k in range(n):
        samples[k]
    again = _rate(samples, [*range(n)])  # the workers of a fork start with what is kept here
    spent = time.process_time()
    for k in range(n):
        samples[k]
    return {
        "size": f"{size[0]}x{size[1]}",
        "sources": len(samples.sources),
        "prepared in s": prepared,
        "first, a second": first,
        "again, a second": again,
        "ms": (time.process_time() - spent) / n * 1e3,
        "goal": GOAL,
        "consumed, a second": _consumed(samples, size, chosen.width, 1 if quick else chosen.batch),
    }


def _rate(samples: CanvasSamples, numbers: list[int]) -> float:
    """Canvases a second that workers hand over, their start left out."""
    loader = iter(DataLoader(samples, batch_size=None, sampler=numbers, num_workers=WORKERS))
    for _ in range(WORKERS):
        next(loader)
    start = time.perf_counter()
    return sum(1 for _ in loader) / (time.perf_counter() - start)


def _consumed(samples: CanvasSamples, size: tuple[int, int], width: float, n: int) -> float:
    """Photographs a second of a training step, the better of two."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n_classes = len(samples.sources.reader.classes)
    net = SynthesisNetwork(SynthesisConfig(n_classes, size, width)).to(device)
    loss = PerceptualLoss(Features(FeaturesConfig(width)).requires_grad_(False)).to(device)
    optimiser = torch.optim.Adam(net.parameters())
    items = [samples[k] for k in range(n)]
    batch = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
    layout = one_hot(batch["layout"], n_classes)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        image, logits = net(layout, batch["canvas"], batch["valid"])
        assert logits is not None
        total = loss.total(loss(image, batch["image"])) + parsing_loss(logits, batch["layout"])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        total.item()
        seconds.append(time.perf_counter() - start)
    return n / min(seconds)
