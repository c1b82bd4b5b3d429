"""A network of six features that stands in for Inception, and a file of its weights, for tests of evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zeuxis.synth import inception


class SmallInception(nn.Module):
    """`(N, 3, 299, 299)` to `(N, 6)`."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "untrained"
        self.conv = nn.Conv2d(3, 6, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).mean((2, 3))


def stands_in(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str = "small.safetensors") -> Path:
    """Has files read as of this network, and writes one."""
    monkeypatch.setattr(inception, "Inception", SmallInception)
    torch.manual_seed(7)
    save_file(SmallInception().state_dict(), folder / name)
    return folder / name
