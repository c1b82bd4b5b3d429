"""Batch synthesis against the bound that its own stages set, and its memory over a run; eager and compiled.

Weights do not change the time, so the networks are untrained ones. On a CPU the busiest resource is the cores: no line
of stages can make more images a second than cores divided by what an image costs them, one stage after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from benchmarks.painting import untrained
from zeuxis.index.batch import usable_cores
from zeuxis.pipelines.compile import compile
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.synthesis.layouts import Layouts
from zeuxis.pipelines.synthesis.line import ENCODE, NETWORK, PREPARE, WRITE, Clocks, _one_thread
from zeuxis.pipelines.synthesis.memory import kept_memory
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.pipelines.synthesis.plan import make_plan
from zeuxis.pipelines.synthesis.samples import Encoder
from zeuxis.pipelines.synthesis.session import Session
from zeuxis.pipelines.synthesis.synthesize import synthesize
from zeuxis.pipelines.synthesis.units import Units
from zeuxis.pipelines.synthesis.writers import writer_of
from zeuxis.storage.reader import Reader

USED = ("synthesis", "transform", "ordering")
"""Networks, by the names of their files."""
IMAGES = 240
ALONE = 40
"""Images of which each stage is timed alone, one after the other."""
MARKS = (0.25, 0.5, 1.0)
"""Shares of the run at which memory is measured."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """Rows of what and its values; layouts of `train`, each guarded from its own group."""
    kind, name = ("camvid", "small") if data is not None and not quick else ("scenes", "tiny")
    with dataset_of(quick, data, kind) as (spec, scratch):
        zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
        models = scratch / "models"
        untrained(Reader(scratch / "bank"), models, name)
        for path in models.iterdir():
            if path.stem not in USED:
                path.unlink()
        compiled = None if quick else compile(models, bank=scratch / "bank").folder
        return measured(scratch / "bank", models, scratch, 8 if quick else IMAGES, compiled)


def measured(bank: Path, models: Path, scratch: Path, images: int, compiled: Path | None) -> list[dict[str, Any]]:
    """One row a figure; uncompiled and, where there is such a folder, compiled networks beside each other."""
    options = SynthesisOptions(variants=4, limit=images, shard=max(images // 8, 4))
    columns = {"eager": _figures(bank, models, scratch / "eager", options)}
    if compiled is not None:
        columns["compiled"] = _figures(bank, models, scratch / "compiled", replace(options, compiled=compiled))
    return [{"what": what, **{name: found[what] for name, found in columns.items()}} for what in columns["eager"]]


def _figures(bank: Path, models: Path, scratch: Path, options: SynthesisOptions) -> dict[str, float]:
    """The stages alone, then the line."""
    scratch.mkdir()
    images = options.limit or 0
    cores = usable_cores()
    alone = stages_alone(bank, models, scratch / "alone", options, min(images, ALONE))
    memory: dict[int, float] = {}
    marks = {round(share * images) for share in MARKS}

    busy: list[float] = []

    def note(done: int, total: int, said: str = "") -> None:
        busy.append(time.process_time())  # from the first image to the last, without opening and finishing
        if done in marks:
            memory[done] = psutil.Process().memory_info().rss / 1e6

    report = synthesize(bank, models, scratch / "line", None, options, progress=note)
    cpu = busy[-1] - busy[0]
    cost = sum(alone.values())
    speed, bound = report.made / report.seconds, cores / cost
    rows: dict[str, float] = {f"{stage} alone, core ms an image": value * 1e3 for stage, value in alone.items()}
    rows |= {
        "all stages alone, core ms an image": cost * 1e3,
        "the whole, core ms an image": cpu / report.made * 1e3,
        "cores it had": cpu / report.seconds,
        "images a second": speed,
        "bound, images a second": bound,
        "share of the bound": speed / bound,
        "share of the bound of the cores it had": cost * report.made / cpu,
    }
    rows |= {f"memory after {done:,} images, MB": value for done, value in sorted(memory.items())}
    return rows


def stages_alone(bank: Path, models: Path, out: Path, options: SynthesisOptions, images: int) -> dict[str, float]:
    """Core seconds an image by stage, in one thread, warm."""
    reader = Reader(bank)
    networks = Models(models, reader, compiled=options.compiled)
    plan, _ = make_plan(reader, networks, Layouts(reader, options, None), options)
    session = Session(reader, networks, options, plan, None)
    encoder = Encoder(plan, session.guard, reader.classes, None, options.coco)
    units = Units(out, plan, writer_of(options.format, plan.split))
    out.mkdir()
    clocks = Clocks()
    runs = list(islice(_runs_of(plan, options.variants), max(images // options.variants, 1)))

    def through(runs: list[list[Any]], clocks: Clocks) -> None:
        timed: Callable[..., Any] = clocks.timed
        for number, run in enumerate(runs):
            ready = timed(PREPARE, session.prepare, len)(run)
            made = [each for slot in ready for each in timed(NETWORK, session.imagine, len)([slot])]
            done = [timed(ENCODE, encoder.encode, lambda each: 1)(each) for each in made]
            timed(WRITE, lambda done, number=number: units.publish(number, done, session.guard), len)(done)
            units.forget(number)

    with _one_thread(), kept_memory():
        through(runs[:1], Clocks())
        through(runs, clocks)
    return {rate.stage: rate.cpu / rate.images for rate in clocks.rates()}


def _runs_of(plan: Any, variants: int) -> Iterator[list[Any]]:
    for first in range(0, plan.images, variants):
        yield [plan.item(index) for index in range(first, min(first + variants, plan.images))]
