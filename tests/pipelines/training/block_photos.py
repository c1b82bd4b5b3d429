"""A bank of photographs of bright blocks on a dark ground, in which key patches are found; cars are labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import Photos
from zeuxis.pipelines.rebuild import rebuild

CAR = (30, 20, 80, 90)
"""A large one; there is a small one, and one that the photograph cuts off at two sides."""


def blocks(seed: int, size: tuple[int, int] = (100, 140)) -> np.ndarray:
    """`(rows, cols, 3)` uint8 RGB."""
    random, image = np.random.default_rng(seed), np.full((*size, 3), 40, np.uint8)
    for top, left in ((8, 10), (45, 30), (20, 85)):
        top, left = top + random.integers(6), left + random.integers(10)
        image[top : top + 36, left : left + 38] = random.integers(120, 255, 3)
    return image


def block_bank(folder: Path) -> Path:
    """Its folder, beside that of the photographs: two to train on, one to validate and one to test on."""
    photos = Photos(folder / "photos")
    labels = np.zeros((100, 140), np.uint8)
    labels[60:] = 1
    for top, left, bottom, right in (CAR, (2, 100, 14, 116), (70, 110, 100, 140)):
        labels[top:bottom, left:right] = 2
    names = ["train/a", "train/b", "val/c", "test/d"]
    photos.add(*names, labels=labels)
    for number, name in enumerate(names):
        photos.write(photos.image(name), blocks(number))
    (photos.root / "classes.csv").write_text("id,name,thing\n0,sky,0\n1,ground,0\n2,car,1\n3,sign,1\n")
    rebuild(photos.spec, folder / "bank", frame=(48, 64), min_area=16, workers=0, report=False)
    return folder / "bank"
