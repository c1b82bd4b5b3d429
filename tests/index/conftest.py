"""A bank of the golden layouts, built once through the rebuild."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def golden():
    """The golden answers and layouts."""
    answers = json.loads((GOLDEN / "retrieval.json").read_text())
    with np.load(GOLDEN / "retrieval.npz", allow_pickle=False) as layouts:
        return answers, {name: layouts[name] for name in layouts.files}


@pytest.fixture(scope="session")
def golden_bank(golden, dask_address, tmp_path_factory):
    """The bank of `bank_00` to `bank_39`; every layout has an image of its own, so that none is a duplicate."""
    answers, layouts = golden
    root = tmp_path_factory.mktemp("golden")
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, layout in layouts.items():
        if name.startswith("bank"):
            labels = np.where(layout == zeuxis.VOID, 255, layout).astype(np.uint8)
            Image.fromarray(labels).save(root / f"data/labels/{name}.png")
            Image.fromarray(rng.integers(0, 256, (*layout.shape, 3), np.uint8)).save(root / f"data/images/{name}.png")
    zeuxis.rebuild(
        f"folder:{root / 'data'}",
        root / "bank",
        frame=tuple(answers["frame"]),
        min_area=answers["min_area"],
        patches=False,
        shard_size=7,
        scheduler=dask_address,
    )
    return zeuxis.open(root / "bank")
