"""Untrained networks that make pictures like a region, and what measures them: what several tests share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.features import ParsingConfig, ParsingNetwork
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork
from zeuxis.synth.region_semantics.generator import GeneratorConfig, GeneratorNetwork
from zeuxis.synth.region_semantics.ladder_vae import LadderVae

SIDE, WIDTH = 32, 1 / 32
NAMES = ["train/a", "train/b", "test/u", "test/v", "test/w", "test/x"]


def save_region_models(folder: Path, bank: Path) -> Path:
    """`generator-wgan-gp`, `generator-began`, `generator-ladder-vae`, `features` and `judge`."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = tuple(Reader(bank).classes)
    torch.manual_seed(0)
    networks: dict[str, tuple[str, nn.Module, tuple[int, int]]] = {
        "features": ("features", ParsingNetwork(ParsingConfig(len(classes), 1 / 16)), (96, 128)),
        "judge": ("judge", JudgeNetwork(JudgeConfig(len(classes), 1 / 16)), (96, 128)),
    }
    for kind in ("wgan-gp", "began"):
        network = GeneratorNetwork(GeneratorConfig(kind, SIDE, WIDTH))  # type: ignore[arg-type]
        networks[f"generator-{kind}"] = ("generator", network, (SIDE, SIDE))
    rival = LadderVae(GeneratorConfig("ladder-vae", SIDE, WIDTH))
    networks["generator-ladder-vae"] = ("generator", rival, (SIDE, SIDE))
    for name, (kind, each, size) in networks.items():
        card = Card(kind, asdict(each.config), classes, size, "bank", 1)  # type: ignore[call-overload]
        save_checkpoint(folder / f"{name}.safetensors", each.state_dict(), card)
    return folder
