"""What a coherent choice costs in score and time, and how much better the light of neighbours agrees for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.index.borders import find_borders
from zeuxis.pipelines.collage import class_order, piece_of
from zeuxis.storage.layouts import border_reach, context_box, sample_to_frame
from zeuxis.synth.canvas import Canvas, compose

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
LAYOUTS = 20
PICTURES = 10
"""Layouts on the sheet, `collages/coherence-NAME.png`: photograph, plain collage, coherent one; two layouts a row."""

Lab = npt.NDArray[np.float32]


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a data set and weight, of held-out layouts; the guard leaves their near photographs out.

    `border CIELAB` is measured in pictures, with nothing that the choice goes by: for every two components side by
    side, how far the colour of what was painted for one is from what its class looks like right beside the other one's
    segment, in the photograph that segment was cut from; both ways, the mean over borders. It falls short of 0 even in
    one photograph, whose classes are not of one colour. `one source` is the share of borders whose two segments come
    from one photograph.
    """
    rows = []
    for name, bank in _banks(quick, data):
        tests = bank.sources(None if quick else {"split": "test"}, ["source"])["source"].to_pylist()
        chosen = tests[len(tests) // LAYOUTS // 2 :: max(len(tests) // LAYOUTS, 1)][: 3 if quick else LAYOUTS]
        retrieve = bank._retriever.retrieve  # the bank's own warns of each class that the guard leaves nothing of
        plain = mean(_scores(retrieve(source=source)) for source in chosen)
        for source in chosen:
            retrieve(source=source, coherent=True)  # what is read once is read now
        canvases: dict[float, list[Canvas]] = {}
        for weight in WEIGHTS:
            found, seconds = [], []
            for source in chosen:
                start = time.perf_counter()
                found.append(retrieve(source=source, coherent=weight))
                seconds.append(time.perf_counter() - start)
            canvases[weight] = [_painted(bank, result) for result in found]
            borders = [b for pair in zip(found, canvases[weight], strict=True) for b in _borders(bank, *pair)]
            measured = [distance for distance, _ in borders if distance == distance]
            rows.append(
                {
                    "data set": name,
                    "weight": weight,
                    "layouts": len(chosen),
                    "borders": len(borders),
                    "score lost": 1 - mean(_scores(result) for result in found) / plain,
                    "border CIELAB": mean(measured) if measured else float("nan"),
                    "one source": mean(same for _, same in borders),
                    "ms a layout": median(seconds) * 1e3,
                }
            )
        if not quick:
            _save_sheet(bank, chosen, canvases, Path("collages") / f"coherence-{name}.png")
    return rows


def _banks(quick: bool, data: Path | None) -> Iterator[tuple[str, zeuxis.Bank]]:
    real = not quick and data is not None
    for name in ("camvid", "nyu") if real else ("scenes",):
        with dataset_of(quick, data, name) as (spec, scratch):
            zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
            yield name, zeuxis.open(scratch / "bank")


def _scores(result: zeuxis.Retrieval) -> float:
    return mean(component.hits[0].score for component in result if component.hits)


def _painted(bank: zeuxis.Bank, result: zeuxis.Retrieval) -> Canvas:
    pieces = [piece_of(bank._reader, component, component.hits[0]) for component in result if component.hits]
    return compose(pieces, result.layout.shape, class_order(bank._reader))


def _borders(bank: zeuxis.Bank, result: zeuxis.Retrieval, canvas: Canvas) -> Iterator[tuple[float, bool]]:
    """Of each border, the distance (nan where nothing can be compared), and whether both sides are of one source."""
    components = [component for component in result if component.hits]
    rows, cols = bank.frame
    labels = np.zeros((rows, cols), np.uint32)
    for number, component in enumerate(components, start=1):
        top, left, bottom, right = component.box
        labels[top:bottom, left:right][component.mask] = number
    colours, valid = _lab(canvas.image, bank.frame), sample_to_frame(canvas.valid, bank.frame)
    near = border_reach(rows)
    for a, b in find_borders(labels, len(components), near).pairs.tolist():
        distances = []
        for own, other in ((a, b), (b, a)):
            band = (labels == own + 1) & valid & _grown(labels == other + 1, 2 * near)
            beside = _beside(bank, components[other].hits[0], components[own].class_id)
            if band.any() and beside is not None:
                distances.append(float(np.linalg.norm(colours[band].mean(axis=0) - beside)))
        same = components[a].hits[0].source == components[b].hits[0].source
        yield (mean(distances) if distances else float("nan")), same


@lru_cache(maxsize=1 << 16)
def _beside(bank: zeuxis.Bank, hit: zeuxis.Hit, class_id: int) -> Lab | None:
    """The mean colour of a class right around a segment, in its photograph; None where there is none of it."""
    layout = sample_to_frame(bank.layout(hit.source), bank.frame)
    top, left, bottom, right = context_box(hit.box, bank.frame)
    there = layout[top:bottom, left:right] == class_id
    colours = _lab(bank.photograph(hit.source), bank.frame)[top:bottom, left:right]
    return colours[there].mean(axis=0) if there.any() else None


def _lab(picture: npt.NDArray[np.uint8], frame: tuple[int, int]) -> Lab:
    small = cv2.resize(picture, frame[::-1], interpolation=cv2.INTER_AREA)
    colours: Lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return colours


def _grown(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    grown: npt.NDArray[np.bool_] = cv2.dilate(mask.view(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0
    return grown


def _save_sheet(bank: zeuxis.Bank, sources: list[str], canvases: dict[float, list[Canvas]], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = []
    for number in range(0, len(sources), max(len(sources) // PICTURES, 1)):
        shown = [canvases[weight][number].image for weight in (0.0, 0.5)]
        rows.append(np.hstack([bank.photograph(sources[number]), *shown]))
    half = len(rows) // 2
    sheet = np.hstack([np.vstack(rows[:half]), np.vstack(rows[half : 2 * half])])
    scale = 2400 / sheet.shape[1]
    sheet = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet[:, :, ::-1])
