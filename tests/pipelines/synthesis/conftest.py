"""A bank with all three splits, untrained networks, and a folder of layouts: what tests of batch synthesis share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Photos, blocks
from tests.pipelines.tiny_models import make_bank, save_models
from zeuxis.pipelines.synthesis.synthesize import SynthesisReport, synthesize

UNSAID = (".html", ".jsonl")
"""What may differ from run to run."""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `bank`, `models` and `layouts`; `g` is of val, `h` of test, `a` and `b` are of one group."""
    home = tmp_path_factory.mktemp("synthesis")
    photos = Photos(home / "photos")
    photos.root.mkdir()
    rows = ["name,split,group", "a,train,street", "b,train,street", "g,val,alley", "h,test,yard"]
    (photos.root / "sources.csv").write_text("\n".join(rows) + "\n")
    (photos.root / "LICENSE").write_text("CC-BY-4.0\n")
    make_bank(photos, home / "bank", "abcdefgh")
    save_models(home / "models", home / "bank", "synthesis", "transform", "ordering")
    write_layouts(home / "layouts", 5)
    return home


def write_layouts(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        Image.fromarray(blocks(np.random.default_rng(seed))).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def make(home: Path, tmp_path: Path) -> Callable[..., SynthesisReport]:
    """`synthesize` into `tmp_path/NAME` from the folder of layouts, in shards of 3."""

    def run(name: str = "out", **settings: Any) -> SynthesisReport:
        quick = {"transform": "analytic", "order": "classes"}
        given = {"layouts": home / "layouts", "shard": 3, "workers": 2} | quick | settings
        return synthesize(home / "bank", home / "models", tmp_path / name, given.pop("layouts"), **given)

    return run


def tree(folder: Path) -> dict[str, bytes]:
    """Every file that must be the same between runs."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in UNSAID)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))
