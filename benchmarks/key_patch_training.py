"""Training on key patches at 64 pixels, a quarter of the width, on one core: pictures a second, all networks counted.

A step is what the training loop takes: forward, backward and optimiser of the network and of its discriminator, all six
terms of its loss in one batch. Seconds are by the clock, and by what the process got of the core, which is less where
others compute as well. Pictures are generated; they are prepared beforehand.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch
from torch.utils.data import default_collate

from benchmarks.key_patches import scene
from zeuxis.pipelines.training.key_patches import NETWORK, make_task
from zeuxis.pipelines.training.options import TrainOptions, resolved

PICTURES = 8
STEPS, WARM = 7, 2
SETTINGS: dict[str, dict[str, Any]] = {
    "as it trains: all six terms at once": {},
    "contiguous instead of channels last": {"contiguous": True},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "pictures changed to judge (--augment)": {"augment": True},
    "batch of 16": {"batch": 16},
    "two terms (--variant plain-gan)": {"variant": "plain-gan"},
    "paper: batch norm, log loss, 1 to 2": {"norm": "batch", "objective": "log", "ratio": (1, 2)},
}


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a setting; `data` is not used, quick takes two settings and one step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for number in range(PICTURES):
                path = Path(scratch) / "pictures" / f"{number}.png"
                path.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(path), scene(number))
            settings = list(SETTINGS.items())[:2] if quick else SETTINGS.items()
            return [_row(name, Path(scratch), quick, **setting) for name, setting in settings]
    finally:
        torch.set_num_threads(threads)


def _row(name: str, scratch: Path, quick: bool, *, contiguous: bool = False, **setting: Any) -> dict[str, Any]:
    given = TrainOptions(
        preset="tiny" if quick else "small", size=(64, 64), devices="cpu", dataset=f"images:{scratch / 'pictures'}",
        **{"batch": 2 if quick else None, **setting},
    )  # fmt: skip
    options = resolved(given, NETWORK, (1, 1))
    task = make_task(None, scratch / "models", options)
    modules, items = task.modules(), task.dataset()
    if not contiguous:  # as the loop lays them out
        modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimisers = task.optimisers(modules)
    assert options.batch is not None
    assert options.steps is not None
    batch = default_collate([items[k] for k in range(options.batch)])
    clock, own = [], []
    for _ in range(1 if quick else WARM + STEPS):
        began = time.perf_counter(), time.process_time()
        losses = task.losses(modules, batch, options.steps // 2)
        while True:
            with _autocast(options.precision):
                found = next(losses, None)
            if found is None:
                break
            optimisers[found[0]].zero_grad()
            found[1].backward()
            optimisers[found[0]].step()
        clock.append(time.perf_counter() - began[0])
        own.append(time.process_time() - began[1])
    warm = 0 if quick else WARM
    return {
        "setting": name,
        "batch": options.batch,
        "images a second": round(options.batch / median(clock[warm:]), 1),
        "images a second of the core": round(options.batch / median(own[warm:]), 1),
    }


@contextmanager
def _autocast(precision: str) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        yield
