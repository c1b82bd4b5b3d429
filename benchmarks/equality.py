"""Exact search against brute force in plain NumPy, written from the definition of the score alone (score, 1 to 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.storage.classes import VOID

COMPONENTS = 1000
K = 5
MIN_AREA = 64
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Plain:
    """One component in the frame: class, box and mask inside it, context box and layout inside that."""

    class_id: int
    box: Box
    mask: npt.NDArray[np.bool_]
    around: Box
    context: npt.NDArray[np.uint16]
    name: str

    @property
    def known(self) -> int:
        """Context pixels that are not void."""
        return int((self.context != VOID).sum())


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a data set: how many components were answered, and how many of the answers differ (0, or it raises)."""
    rows = []
    for kind, frame in (("camvid", (360, 480)), ("nyu", (384, 512))):
        with dataset_of(quick, data, kind) as (spec, scratch):
            small = quick or data is None
            zeuxis.rebuild(
                spec, scratch / "bank", patches=False, split=() if small else ["train"], workers=workers_of(quick),
                frame=None if small else frame,
            )  # fmt: skip
            asked_of = scratch / "bank"
            if not small:
                asked_of = scratch / "asked"
                split = ["val" if kind == "camvid" else "test"]
                zeuxis.rebuild(spec, asked_of, patches=False, split=split, frame=frame, workers=workers_of(quick))
            rows.append(_row(kind, scratch / "bank", asked_of, 30 if quick else COMPONENTS))
    return rows


def _row(kind: str, path: Path, asked_of: Path, most: int) -> dict[str, Any]:
    bank, asked = zeuxis.open(path), zeuxis.open(asked_of)
    stored: dict[int, list[Plain]] = {}
    names = bank.sources(columns=["source"])["source"].to_pylist()
    for name in names:
        for plain in plain_components(bank.layout(name), bank.frame, name):
            stored.setdefault(plain.class_id, []).append(plain)
    ids = _ids(bank)
    answered = hits = 0
    queries = asked.sources(columns=["source"])["source"].to_pylist()
    for name in queries[:: max(len(queries) * 20 // most, 1)]:
        layout = asked.layout(name)
        plain = plain_components(layout, bank.frame, name)
        plain_of = {(each.class_id, each.box): each for each in plain}
        result = bank.retrieve(layout, K)
        if len(plain) != len(result):
            raise AssertionError(f"{name}: {len(result)} components, {len(plain)} by NumPy")
        if len(plain_of) != len(plain):
            continue  # two of one class in one box: which is which cannot be told from outside
        for component in result:
            scores = sorted(
                ((score(plain_of[component.class_id, component.box], other), other.name, other.box)
                 for other in stored.get(component.class_id, [])), key=lambda row: -row[0],
            )  # fmt: skip
            found = [(hit.score, hit.source, hit.box) for hit in component.hits]
            named = all(hit.segment_id in ids[hit.source, component.class_id, hit.box] for hit in component.hits)
            ties = [(-hit.score, hit.segment_id) for hit in component.hits]
            right = [row[0] for row in scores[:K]] == [row[0] for row in found] and set(found) <= set(scores)
            if not (right and named and ties == sorted(ties)):
                raise AssertionError(f"{name}: {component} differs from brute force")
            answered, hits = answered + 1, hits + len(found)
        if answered >= most:
            break
    segments = sum(map(len, stored.values()))
    return {"data": kind, "segments": segments, "components answered": answered, "hits compared": hits, "different": 0}


def _ids(bank: zeuxis.Bank) -> dict[tuple[str, int, Box], set[int]]:
    """The ids of the segments by source, class and box."""
    sides = ["top", "left", "bottom", "right"]
    rows = bank.segments(columns=["segment_id", "source", "class_id", *sides]).to_pylist()
    found: dict[tuple[str, int, Box], set[int]] = {}
    for row in rows:
        box = row["top"], row["left"], row["bottom"], row["right"]
        found.setdefault((row["source"], row["class_id"], box), set()).add(row["segment_id"])
    return found


def plain_components(layout: npt.NDArray[np.uint16], frame: tuple[int, int], name: str) -> list[Plain]:
    """The components of a layout that are large enough, in the frame."""
    framed = _sampled(layout.astype(np.float64), frame).astype(np.uint16)
    found = []
    for class_id in np.unique(layout[layout != VOID]):
        labels, count = ndimage.label(layout == class_id, structure=np.ones((3, 3)))
        labels = _sampled(labels.astype(np.float64), frame).astype(np.int64)
        for number, window in enumerate(ndimage.find_objects(labels, count), start=1):
            if window is None or (mask := labels[window] == number).sum() < MIN_AREA:
                continue
            top, left, bottom, right = window[0].start, window[1].start, window[0].stop, window[1].stop
            rows, cols = (bottom - top + 4) // 8, (right - left + 4) // 8
            around = max(top - rows, 0), max(left - cols, 0), min(bottom + rows, frame[0]), min(right + cols, frame[1])
            context = framed[around[0] : around[2], around[1] : around[3]]
            found.append(Plain(int(class_id), (top, left, bottom, right), mask, around, context, name))
    return found


def score(one: Plain, other: Plain) -> float:
    """Mask IoU plus context IoU."""
    common = _common(one.mask, one.box, other.mask, other.box, np.logical_and)
    masks = int(one.mask.sum() + other.mask.sum()) - common
    same = _common(one.context, one.around, other.context, other.around, lambda a, b: (a == b) & (a != VOID))
    contexts = one.known + other.known - same
    return common / masks + (same / contexts if contexts else 0.0)


def _common(one: Any, box: Box, other: Any, other_box: Box, agree: Any) -> int:
    top, left = max(box[0], other_box[0]), max(box[1], other_box[1])
    bottom, right = min(box[2], other_box[2]), min(box[3], other_box[3])
    if top >= bottom or left >= right:
        return 0
    crops: Sequence[Any] = [
        array[top - at[0] : bottom - at[0], left - at[1] : right - at[1]]
        for array, at in ((one, box), (other, other_box))
    ]
    return int(np.count_nonzero(agree(*crops)))


def _sampled(image: npt.NDArray[np.float64], frame: tuple[int, int]) -> npt.NDArray[np.float64]:
    sampled: npt.NDArray[np.float64] = cv2.resize(image, (frame[1], frame[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return sampled
