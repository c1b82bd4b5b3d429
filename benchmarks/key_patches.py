"""Key patches: seconds an image on one core, and agreement with a slow, dense, full-size search.

The agreement matches each patch of the reference to the closest patch of the setting: the mean of these intersections
over unions, and the share above one half, also for the reference's best patch alone. Random boxes within the same
limits show what chance reaches, and the reference on a picture one pixel smaller at each side what is reachable.
Without photographs, or in quick mode, generated pictures stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from zeuxis.ingest.patches import KeyPatch, PatchSettings, box_iou, key_patches
from zeuxis.storage.images import Photograph, decode_photograph

REFERENCE_IMAGES = 30
"""Images the agreement is measured on: the reference takes about a second each."""

Find = Callable[[Photograph], list[KeyPatch]]


def run(quick: bool, data: Path | None = None, images: int = 100) -> list[dict[str, object]]:
    """One row a setting; `data` is the folder that holds `nyu/`; quick takes a few seconds and needs none."""
    pictures = (
        photographs(data / "nyu", images) if data and not quick else [scene(seed) for seed in range(2 if quick else 8)]
    )
    full = min(960, round(sqrt(pictures[0].shape[0] * pictures[0].shape[1])))
    default, full = PatchSettings(), min(full, 192) if quick else full
    reference = replace(default, working_side=full, alpha=0.8, beta=0.9)
    rows: dict[str, Find] = {f"default: side {default.working_side}": finder(default)}
    for side in () if quick else (256, 320):
        rows[f"side {side}"] = finder(replace(default, working_side=side))
    rows["full size"] = finder(replace(default, working_side=full))
    rows["aspect up to 3"] = finder(replace(default, max_aspect=3.0))
    rows["random boxes"] = random_boxes(default)
    every = max(1, len(pictures) // REFERENCE_IMAGES)
    compared = pictures[::every]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        truth, seconds = timed(finder(reference), compared)
        table = [row("reference: full size, alpha 0.8, beta 0.9", seconds, truth, truth)]
        cut, seconds = timed(lambda picture: finder(reference)(picture[1:-1, 1:-1]), compared)
        table.append(row("reference, one pixel cut off", seconds, cut, truth))
        for name, find in rows.items():
            found, seconds = timed(find, pictures)
            table.append(row(name, seconds, found[::every], truth))
    finally:
        cv2.setNumThreads(threads)
    return table


def finder(settings: PatchSettings) -> Find:
    return lambda picture: key_patches(picture, settings)


def timed(find: Find, pictures: Sequence[Photograph]) -> tuple[list[list[KeyPatch]], list[float]]:
    found, seconds = [], []
    for picture in pictures:
        start = perf_counter()
        found.append(find(picture))
        seconds.append(perf_counter() - start)
    return found, seconds


def row(name: str, seconds: list[float], found: list[list[KeyPatch]], truth: list[list[KeyPatch]]) -> dict[str, object]:
    overlaps = [list(closest(patches, others)) for patches, others in zip(truth, found, strict=True)]
    every = np.array([iou for each in overlaps for iou in each])
    first = np.array([each[0] for each in overlaps if each])
    return {
        "setting": name,
        "median s": round(float(np.median(seconds)), 3),
        "p90 s": round(float(np.quantile(seconds, 0.9)), 3),
        "mean IoU": round(float(every.mean()), 2),
        "IoU > 0.5": round(float((every > 0.5).mean()), 2),
        "best, IoU > 0.5": round(float((first > 0.5).mean()), 2),
    }


def closest(patches: list[KeyPatch], others: list[KeyPatch]) -> Iterator[float]:
    for patch in patches:
        yield max((box_iou(patch.box, other.box) for other in others), default=0.0)


def random_boxes(settings: PatchSettings) -> Find:
    """Boxes drawn within the limits, as many and as far apart as the patches."""
    rng = np.random.default_rng(0)

    def find(picture: Photograph) -> list[KeyPatch]:
        height, width = picture.shape[:2]
        drawn: list[KeyPatch] = []
        while len(drawn) < settings.top:
            area = rng.uniform(settings.min_area, settings.max_area) * height * width
            aspect = settings.max_aspect ** rng.uniform(-1, 1)
            rows, columns = int(sqrt(area * aspect)), int(sqrt(area / aspect))
            if rows < height and columns < width:
                top, left = int(rng.integers(height - rows)), int(rng.integers(width - columns))
                box = (top, left, top + rows, left + columns)
                if all(box_iou(box, other.box) <= settings.max_iou for other in drawn):
                    drawn.append(KeyPatch(box, 0.0))
        return drawn

    return find


def photographs(data: Path, count: int) -> list[Photograph]:
    files = sorted((data / "images").glob("*.jpg"))
    if not files:
        raise SystemExit(f"{data}: expected images/*.jpg; give the folder with --data")
    return [decode_photograph(file.read_bytes(), file) for file in files[:: max(1, len(files) // count)][:count]]


def scene(seed: int, height: int = 240, width: int = 320) -> Photograph:
    """Textured rectangles and discs on a shaded ground."""
    rng = np.random.default_rng(seed)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = np.linspace(90, 150, height)[:, None, None].astype(np.uint8)
    for _ in range(6):
        texture = rng.uniform(25, 230, 3) + rng.uniform(-25, 25, (height, width, 1))
        mask = np.zeros((height, width), np.uint8)
        centre = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.integers(height // 8, height // 4))
        if rng.random() < 0.5:
            cv2.circle(mask, centre, size, 1, -1)
        else:
            cv2.rectangle(mask, centre, (centre[0] + 2 * size, centre[1] + size), 1, -1)
        picture[mask > 0] = texture[mask > 0]
    return picture
