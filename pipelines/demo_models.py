"""The networks that `zeuxis demo` paints with, trained on procedural scenes: `python -m zeuxis.pipelines.demo_models`.

They lie in the package, in half precision, which halves their size and costs nothing that can be seen.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from ..storage.manifest import load_current
from ..synth.checkpoint import SUFFIX, load_checkpoint, save_checkpoint
from .rebuild import rebuild
from .scenes import scenes
from .train import trainings
from .training.options import TrainOptions

MODELS = Path(__file__).resolve().parents[1] / "synth" / "weights"
"""Where they lie."""
SCENES, SEED = 240, 11
"""Other scenes than those of the demo, so that it shows what the networks do with what they have not seen."""
STEPS = {"features": 400, "transform": 500, "ordering": 300, "synthesis": 700}


def make_models(folder: Path, into: Path = MODELS) -> None:
    """Makes scenes and a bank in `folder`, trains the networks on it, and stores those that paint.

    An interrupted run goes on where it was when it is called again with the same folder.

    Args:
        folder: for scenes, bank and training; into: for the networks.
    """
    bank, models = folder / "bank", folder / "models"
    scenes(folder / "street", count=SCENES, seed=SEED)
    rebuild(f"scenes:{folder / 'street'}", bank, patches=False)
    for what, steps in STEPS.items():
        for report in trainings(what, bank, models, TrainOptions("tiny", steps=steps)):
            print(f"{report.name}: {report.step:,} steps, best {report.figure} {report.best:.4g}", flush=True)
    into.mkdir(exist_ok=True)
    for name in ("transform", "ordering", "synthesis"):
        halve(models / f"{name}{SUFFIX}", into / f"{name}{SUFFIX}", name)
    print(f"{into}: trained on generation {load_current(bank).generation} of {SCENES} scenes")


def halve(source: Path, target: Path, network: str) -> None:
    """A checkpoint with its weights in half precision."""
    card, tensors = load_checkpoint(source, network)
    half = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
    save_checkpoint(target, half, card)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_models(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            make_models(Path(scratch))
