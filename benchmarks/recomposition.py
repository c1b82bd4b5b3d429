"""New layouts a second on one core, how common classes become, and how many objects stand where their class does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.pipelines.recomposition import Recomposed, Recomposer
from zeuxis.pipelines.training.sources import BankSources
from zeuxis.storage.classes import VOID, Layout
from zeuxis.storage.reader import Reader
from zeuxis.synth.anatomy import anatomy

SIZE = (192, 256)
GOAL = 100.0
"""Layouts a second, on one core."""
FACTOR = 3.0
SEED = 7


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a data set.

    `opened` is the processor time until the first layout, kernels compiled; `a second` is by processor time, without
    and with a boost; `boosted` is the pixels of the class over those before, and so are the least and the most of all
    common classes where none is boosted; `standing` are the objects put in, of those whose foot is seen, that stand on
    what their class stands on.
    """
    rows = []
    for kind in ("scenes",) if quick or data is None else ("camvid", "nyu"):
        with dataset_of(quick, data, kind) as (spec, scratch):
            zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
            rows.append({"data set": kind, **measured(Reader(scratch / "bank"), 20 if quick else 400)})
    return rows


def measured(reader: Reader, n: int) -> dict[str, Any]:
    """The figures of a bank, from n layouts of its training split."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _measured(reader, n)
    finally:
        cv2.setNumThreads(threads)


def _measured(reader: Reader, n: int) -> dict[str, Any]:
    sources = BankSources(reader, SIZE)
    layouts = [sources[int(i)].layout for i in np.random.default_rng(SEED).integers(0, len(sources), n)]
    Recomposer(reader).recompose(layouts[0], np.random.default_rng(SEED))
    plain = Recomposer(reader)
    start = time.process_time()
    plain.recompose(layouts[0], np.random.default_rng(SEED))
    opened = time.process_time() - start
    before, things = _pixels(layouts), np.flatnonzero(reader.classes.flags("thing"))
    common = [id for id in things if before[id] > 0.002 * before.sum()]
    boosted = min(common, key=lambda id: before[id])
    name = reader.classes[int(boosted)].name
    made, rate = _timed(plain, layouts)
    more, boosted_rate = _timed(Recomposer(reader, boost={name: FACTOR}), layouts)
    ratios = _pixels([new.layout for new in made])[common] / before[common]
    return {
        "opened s": opened,
        "a second": rate,
        "boosted, a second": boosted_rate,
        "goal": GOAL,
        "least changed to": float(ratios.min()),
        "most changed to": float(ratios.max()),
        "class": name,
        "asked": FACTOR,
        "boosted": float(_pixels([new.layout for new in more])[boosted] / before[boosted]),
        "edits a layout": sum(len(new.edits) for new in made) / n,
        "standing": _standing(plain, made + more),
    }


def _timed(recomposer: Recomposer, layouts: Sequence[Layout]) -> tuple[list[Recomposed], float]:
    """What is made of layouts, and how many a second of processor time once masks are kept."""
    for layout in layouts:
        recomposer.recompose(layout, np.random.default_rng(SEED))
    random = np.random.default_rng(SEED)
    start = time.process_time()
    made = [recomposer.recompose(layout, random) for layout in layouts]
    return made, len(layouts) / (time.process_time() - start)


def _pixels(layouts: Sequence[Layout]) -> npt.NDArray[np.int64]:
    return np.sum([np.bincount(layout.ravel(), minlength=VOID + 1) for layout in layouts], axis=0)[:VOID]


def _standing(recomposer: Recomposer, made: Sequence[Recomposed]) -> float:
    """The share of the objects put in that rest on what their class may, by most of the stuff below their feet."""
    objects = recomposer._objects
    index, allowed, n_classes = recomposer._index, objects.grounding.allowed, len(objects.things)
    right = asked = 0
    for new in made:
        labels = new.instances.astype(np.uint32)
        n = int(labels.max())
        classes = np.full(n + 1, n_classes, np.int64)
        classes[labels[labels > 0]] = index[new.layout[labels > 0]]
        stuff = np.where(labels > 0, n_classes, index[new.layout]).astype(np.int64)
        both = np.where(labels > 0, labels, n + 1 + stuff).astype(np.uint32)
        of = np.concatenate([classes, np.arange(n_classes + 1)])
        body = anatomy(both, of, (np.arange(len(of)) <= n) & (np.arange(len(of)) > 0), objects.terrain.ground)
        for edit in new.edits:
            if edit.kind == "added" and edit.instances:
                contact = body.contact[edit.instances[0], :n_classes] * ~objects.things
                if contact.sum():
                    asked += 1
                    right += contact @ allowed[classes[edit.instances[0]], :n_classes] > 0.5 * contact.sum()
    return right / max(asked, 1)
