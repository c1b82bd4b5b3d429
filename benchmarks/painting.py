"""One photograph of a held-out layout with every step of painting, warm: time by step.

Weights do not change the time, so the networks are untrained ones, each of the size that training gives it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import mean, median
from typing import Any

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.models import KINDS
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.painting_steps import Stages
from zeuxis.pipelines.training.options import SHARES
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.presets import preset

LAYOUTS = 10
TIMES = 3
EVERYTHING = Stages(coherent=True)
"""The joint choice too, which is off by default."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a step and data set: layouts of the test split against all but their own photographs and groups.

    `ms` is the median of the clock over layouts, the best of a few times each; `processor` that of all cores together.
    """
    rows = []
    for name, spec, scratch in _datasets(quick, data):
        zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
        rows += [{"data set": name, **row} for row in measured(Reader(scratch / "bank"), scratch / "models", quick)]
    return rows


def measured(reader: Reader, models: Path, quick: bool = False) -> list[dict[str, Any]]:
    """One row a step, then all together; networks are made in `models` where it holds none."""
    if not (models / "synthesis.safetensors").exists():
        untrained(reader, models, "tiny" if quick else "small")
    painter = Painter(reader, Retriever(reader), models)
    chosen = _layouts(reader)
    steps: dict[str, list[float]] = {}
    clock, processor, pieces = [], [], []
    for source in chosen:
        painter.paint(source=source, stages=EVERYTHING)  # warm
        times, busy, reports = [], [], []
        for _ in range(1 if quick else TIMES):
            start, before = time.perf_counter(), time.process_time()
            (image,) = painter.paint(source=source, stages=EVERYTHING)
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - before)
            reports.append(image.report.seconds)
        best = min(range(len(times)), key=times.__getitem__)
        for step, seconds in reports[best].items():
            steps.setdefault(step, []).append(seconds)
        clock.append(times[best])
        processor.append(min(busy))
        pieces.append(len(image.canvas.placements))
    rows = [{"what": step, "ms": median(seconds) * 1e3, "processor ms": ""} for step, seconds in steps.items()]
    whole = {"what": "an image", "ms": median(clock) * 1e3, "processor ms": median(processor) * 1e3}
    return [*rows, whole, {"what": "pieces an image, not ms", "ms": mean(pieces), "processor ms": ""}]


def untrained(reader: Reader, models: Path, name: str) -> None:
    """Networks of a preset, as they are before any training."""
    models.mkdir(parents=True, exist_ok=True)
    chosen, classes = preset(name), tuple(reader.classes)
    for kind, home in KINDS.items():
        size = SHARES[kind].size(chosen, reader.geometry.frame)
        module = import_module(f"zeuxis.synth.{home.module}")
        config_of = getattr(module, home.config)
        trained = {"passing": True, "filled": True, "fine": True}
        given = {"n_classes": len(classes), "size": size, "width": chosen.width} | trained
        config = config_of(**{key: value for key, value in given.items() if key in config_of.__dataclass_fields__})
        network = getattr(module, home.network)(config)
        card = Card(kind, asdict(config), classes, size, reader.path.name, reader.manifest.generation)
        save_checkpoint(models / f"{kind}.safetensors", network.state_dict(), card)


def _layouts(reader: Reader) -> list[str]:
    sources = reader.table("sources", columns=["source", "split"]).to_pylist()
    tests = [row["source"] for row in sources if row["split"] == "test"] or [row["source"] for row in sources]
    return tests[len(tests) // LAYOUTS // 2 :: max(len(tests) // LAYOUTS, 1)][:LAYOUTS]


def _datasets(quick: bool, data: Path | None) -> Iterator[tuple[str, str, Path]]:
    for kind in ("nyu", "camvid") if data is not None and not quick else ("scenes",):
        with dataset_of(quick, data, kind) as (spec, scratch):
            yield kind, spec, scratch
