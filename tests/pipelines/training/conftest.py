"""A small task with all that makes going on hard: dropout, two optimisers, buffers, frozen weights, many terms."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from zeuxis.pipelines.training import logs
from zeuxis.pipelines.training.loop import train
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.pipelines.training.task import Subject
from zeuxis.storage.classes import SemanticClass


class Numbers(Dataset):
    """Item k: 6 numbers that depend on (seed, k), and their sum."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: list[int] = []

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        self.asked.append(k)
        x = torch.from_numpy(np.random.default_rng((self.seed, k)).normal(size=6).astype(np.float32))
        return {"x": x, "y": x.sum(0, keepdim=True)}


class Loss(nn.Module):
    """Weights itself by a running mean for 12 calls; its frozen layer stands for features."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(1, 3).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = (self.frozen(image) - self.frozen(target)).abs().mean()
        if int(self.calls) < 12:
            self.calls += 1
            self.mean += (loss.detach() - self.mean) / self.calls
        return loss / self.mean


class Toy:
    """Learns to sum 6 numbers, against a critic."""

    network = name = "toy"
    features = "untrained"
    figure, smaller_is_better = "error", True

    def __init__(self, seed: int = 0, lr: float = 0.01) -> None:
        self.data, self.lr, self.break_at = Numbers(seed), lr, 0
        self.subject = Subject("bank", 3, "ab" * 16, (SemanticClass(0, "sky", (1, 2, 3)),), (32, 64))
        self.seen: list[float] = []

    def modules(self) -> nn.ModuleDict:
        net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
        return nn.ModuleDict({"net": net, "critic": nn.Linear(1, 1), "loss": Loss()})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, torch.optim.Optimizer]:
        return {
            "critic": torch.optim.AdamW(modules["critic"].parameters(), self.lr),
            "net": torch.optim.Adam(modules["net"].parameters(), self.lr, amsgrad=True),
        }

    def dataset(self) -> Numbers:
        return self.data

    def losses(self, modules: nn.ModuleDict, batch: Any, step: int) -> Any:
        made = modules["net"](batch["x"])
        apart = modules["critic"](made.detach()).mean() - modules["critic"](batch["y"]).mean()
        self.seen.append(float(apart.detach()))
        yield "critic", apart, {}
        distance = modules["loss"](made, batch["y"])
        if step + 1 == self.break_at:
            distance = distance * float("nan")
        fooled = -modules["critic"](made).mean()
        total = distance + 0.1 * fooled
        self.seen.append(float(total.detach()))
        yield "net", total, {"distance": distance, "fooled": fooled}

    def validate(self, net: nn.Module) -> dict[str, float]:
        torch.rand(3)  # must leave the training as it is
        assert not net.training
        x = torch.stack([self.data[-k - 1 + 1000]["x"] for k in range(8)])
        self.data.asked = [k for k in self.data.asked if k < 900]
        return {"error": float((net(x) - x.sum(1, keepdim=True)).abs().mean())}

    def grid(self, net: nn.Module) -> Any:
        return np.full((8, 8, 3), 200, np.uint8)

    def config(self) -> dict[str, Any]:
        return {"width": 8}

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        return {"mean": float(modules["loss"].mean)}


@pytest.fixture
def toy() -> type[Toy]:
    """The task's class."""
    return Toy


@pytest.fixture
def learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Trains a task in `tmp_path/NAME`, stopped as by Ctrl-C after step `stop`; draws the curve if asked to."""

    def run(task: Toy, name: str = "models", *, stop: int = 0, number: int = signal.SIGINT, **options: Any) -> Any:
        def progress(done: int, total: int, note: str = "") -> None:
            if stop and done == stop:
                os.kill(os.getpid(), number)

        restart = options.pop("restart", False)
        if not options.pop("curve", False):
            monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
        chosen = {"batch": 4, "lr": task.lr, "steps": 20, "validate_every": 8, "log_every": 3, "size": (32, 64)}
        settings = TrainOptions(**chosen | {"seed": task.data.seed, "devices": "cpu"} | options)
        return train(task, tmp_path / name, settings, restart=restart, progress=progress)

    return run
