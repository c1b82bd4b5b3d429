"""Weights that others publish as a pickle: read in a process of its own, as weights alone, under a memory limit.

The process that asks for them sees nothing but the safetensors which the other one leaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ..storage.errors import InputError, sentence

MEMORY_BYTES = 4 << 30
"""Of the process that reads; PyTorch itself takes some of it."""
PATIENCE_SECONDS = 600

_READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
import torch
from safetensors.torch import save_file
torch.set_num_threads(1)
held = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({key: held[key].float().contiguous() for key in sys.argv[4:] if key in held}, sys.argv[2])
"""


def read_pickle(path: Path, keys: Sequence[str], *, what: str, fix: str) -> dict[str, Tensor]:
    """Those of the tensors of a pickled state dict that are asked for and there, as float32.

    Args:
        path: of the file, which `torch.save` wrote; keys: names of tensors.
        what: the file should hold, in words; fix: what to do where it cannot be read.

    Raises:
        InputError: it holds more than weights, is damaged, is no state dict, or needs too much memory or time.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-I", "-c", _READ, str(path), str(target), str(MEMORY_BYTES), *keys]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise InputError(sentence(path, f"could not be read in {PATIENCE_SECONDS} s", fix=fix)) from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
            raise InputError(sentence(path, f"cannot be read as {what} ({said})", fix=fix))
        tensors: dict[str, Tensor] = load_file(target)
        return {key: tensor.clone() for key, tensor in tensors.items()}  # the file is mapped, and goes
