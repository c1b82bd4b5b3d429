"""What the experiment says: mean IoU with intervals, differences to the rivals, IoU by class, and a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeuxis.synth.metrics import Interval, parsing

from .experiment import METHODS, SYNTHESISED, Experiment

ROUNDS = 2000
BLOCK = 5
"""Photographs of a clip that are drawn together: neighbours look alike."""
COLOURS = {"ordinary": "#888888", "copy-paste": "#d08770", "synthesised": "#2a6f97"}

Counts = npt.NDArray[np.int64]
"""`(seeds, n, C, C)` confusion of each tested photograph by each trained network."""


def bootstrap(counts: Sequence[Counts], figure: Callable[..., float]) -> Interval:
    """A figure of the confusions of one or two methods, with its 95 % interval.

    Drawn anew, with replacement: seeds, of each method by itself, and blocks of neighbouring photographs, the same ones
    for both.

    Args:
        figure: of one `(C, C)` confusion a method.
    """
    random = np.random.default_rng(0)
    photographs = counts[0].shape[1]
    starts = np.arange(0, photographs, BLOCK)
    blocks = [np.stack([each[:, s : s + BLOCK].sum(axis=1) for s in starts], axis=1) for each in counts]
    drawn = []
    for _ in range(ROUNDS):
        picks = random.integers(len(starts), size=len(starts))
        chosen = [each[random.integers(len(each), size=len(each))] for each in blocks]
        drawn.append(_mean(figure, [each[:, picks].sum(axis=1) for each in chosen]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(_mean(figure, [each.sum(axis=1) for each in counts]), float(low), float(high))


def _mean(figure: Callable[..., float], confusions: Sequence[Counts]) -> float:
    """Over seeds: a seed's network is measured by itself."""
    return float(np.mean([figure(*each) for each in zip(*confusions, strict=True)]))


def miou(counts: Counts) -> float:
    """Percent."""
    return 100 * parsing(counts).mean_iou


def gain(counts: Counts, rival: Counts) -> float:
    """Points of mean IoU above a rival."""
    return miou(counts) - miou(rival)


def class_iou(counts: Counts) -> npt.NDArray[np.float64]:
    """`(C,)` percent, NaN for classes that are not there."""
    right, true, read = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(true > 0, 100 * right / (true + read - right), np.nan)


def rows_of(experiment: Experiment, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a set and method."""
    rows = []
    for name in experiment.counts:
        counts = {method: counts_of(experiment, name, method) for method in METHODS}
        for method in METHODS:
            own = bootstrap([counts[method]], miou)
            row: dict[str, Any] = {
                "photographs": len(experiment.photographs(name)),
                "method": method,
                "mIoU": f"{own.value:.1f} ({own.low:.1f} to {own.high:.1f})",
            }
            for rival in METHODS[:2]:
                differs = bootstrap([counts[method], counts[rival]], gain)
                said = f"{differs.value:+.1f} ({differs.low:+.1f} to {differs.high:+.1f})"
                row[f"against {rival}"] = "" if rival == method else said
            each = np.nanmean([class_iou(one) for one in counts[method].sum(axis=1)], axis=0)
            rows.append(row | {n: round(float(value), 1) for n, value in zip(names, each, strict=True)})
    return rows


def counts_of(experiment: Experiment, name: str, method: str) -> Counts:
    """Of all seeds."""
    return np.stack([experiment.counts_of(name, method, seed) for seed in range(experiment.scale.seeds)])


def search_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """What the search on the fold found, the best first; nothing where there was none."""
    found = experiment.results["recipe"]
    ordered = sorted(found["found"].items(), key=lambda each: -each[1])
    return [
        {"recipe": name, "mIoU on the fold": 100 * value, "chosen": "yes" if name == found["best"] else ""}
        for name, value in ordered
    ]


def plot(experiment: Experiment, path: Path) -> None:
    """Mean IoU by number of photographs, an interval a bar."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots()
    sizes = [len(experiment.photographs(name)) for name in experiment.counts]
    for place, method in enumerate(METHODS):
        found = [bootstrap([counts_of(experiment, name, method)], miou) for name in experiment.counts]
        below, above = ([abs(each.value - getattr(each, end)) for each in found] for end in ("low", "high"))
        places = np.arange(len(sizes)) + (place - 1) * 0.12
        style = {"marker": "o", "capsize": 3, "color": COLOURS[method], "lw": 2 if method == SYNTHESISED else 1.2}
        axes.errorbar(places, [each.value for each in found], yerr=[below, above], label=method, **style)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("real photographs")
    axes.set_ylabel("mean IoU on the test sequence, %")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, dpi=150)
