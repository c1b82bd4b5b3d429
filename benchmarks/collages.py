"""Collages of held-out layouts: time, how much of each shows the right kind of thing, and pictures to look at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np

import zeuxis
from benchmarks.banks import dataset_of, workers_of

LAYOUTS = 10
PICTURES = Path("collages")
"""Folder for the contact sheets: layout, collage, photograph, two layouts a row."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a data set: layouts of its test split against a bank of its train split, near groups left out.

    `painted` is the share of pixels that any segment reaches; `right` and `wrong` are shares of the labelled pixels
    that show, as the source's own labels say, the component's class or another one.
    """
    rows = []
    for name, spec, scratch in _datasets(quick, data):
        zeuxis.rebuild(spec, scratch / "bank", patches=False, split=["train"], workers=workers_of(quick))
        zeuxis.rebuild(spec, scratch / "all", patches=False, workers=workers_of(quick))
        bank, whole = zeuxis.open(scratch / "bank"), zeuxis.open(scratch / "all")
        tests = whole.sources(None if quick else {"split": "test"}, ["source", "group"]).to_pylist()
        chosen = tests[len(tests) // LAYOUTS // 2 :: max(len(tests) // LAYOUTS, 1)][:LAYOUTS]
        groups = set(bank.sources(columns=["group"])["group"].to_pylist())
        seconds, shares, pictures = [], [], []
        for source in chosen:
            layout = whole.layout(source["source"])
            barred = [group for group in _neighbours(source["group"]) if group in groups]
            start = time.perf_counter()
            made = bank.collage(layout, exclude=barred)
            seconds.append(time.perf_counter() - start)
            shares.append(_shares(made.canvas, layout))
            pictures.append(
                np.hstack([bank.classes.painted(layout), made.canvas.image, whole.photograph(source["source"])])
            )
        _save_sheet(pictures, PICTURES / f"{name}.png", quick)
        painted, right, wrong = (mean(column) for column in zip(*shares, strict=True))
        rows.append(
            {
                "data set": name,
                "layouts": len(chosen),
                "ms a collage": median(seconds) * 1e3,
                "painted": painted,
                "right": right,
                "wrong": wrong,
                "pictures": "" if quick else str(PICTURES / f"{name}.png"),
            }
        )
    return rows


def _datasets(quick: bool, data: Path | None) -> Iterator[tuple[str, str, Path]]:
    if quick or data is None:
        with dataset_of(quick, None) as (spec, scratch):
            yield "scenes", spec, scratch
        return
    for name in ("nyu", "camvid"):
        with dataset_of(quick, data, name) as (spec, scratch):
            yield name, spec, scratch


def _neighbours(group: str) -> list[str]:
    """NYU's groups are runs of 25 photographs: the rooms at both ends may go on in the next."""
    dataset, _, name = group.partition("/")
    return [f"{dataset}/{int(name) + step}" for step in (-1, 1)] if dataset == "nyu" else []


def _shares(canvas: Any, layout: Any) -> tuple[float, float, float]:
    class_of = np.array([zeuxis.VOID, *(placed.piece.class_id for placed in canvas.placements)])
    shown, labelled = class_of[canvas.provenance], layout != zeuxis.VOID
    right = (shown == layout) & labelled
    wrong = (shown != layout) & (shown != zeuxis.VOID) & labelled
    return float(canvas.valid.mean()), float(right.sum() / labelled.sum()), float(wrong.sum() / labelled.sum())


def _save_sheet(pictures: list[Any], path: Path, quick: bool) -> None:
    if quick:
        return
    path.parent.mkdir(exist_ok=True)
    half = -(-len(pictures) // 2)
    columns = [np.vstack(pictures[:half]), np.vstack(pictures[half:])]
    sheet = np.hstack([column[: min(len(c) for c in columns)] for column in columns])
    scale = 1800 / sheet.shape[1]
    sheet = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet[:, :, ::-1])
