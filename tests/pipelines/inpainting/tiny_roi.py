"""Untrained networks that fill regions, and a judge: what the tests of filling share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.glcic import GlcicConfig, GlcicNetwork
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork
from zeuxis.synth.roi_gan.generator import RoiConfig, RoiGenerator

SIDE, SLIDERS = 64, 3
ROI = RoiConfig(
    SIDE,
    1 / 16,
    noise=4,
    sliders=SLIDERS,
    categories=(2,),
    blend=1 / 8,
    copies=True,
    tints=True,
    textures=True,
    grain=0.5,
)
PUBLISHED = RoiConfig(SIDE, 1 / 16, noise=4, sliders=SLIDERS, published=True)


def learned(network: nn.Module) -> nn.Module:
    """The network with no weight at zero, as after a step or two."""
    with torch.no_grad():
        for each in network.parameters():
            each.add_(0.05 * torch.randn_like(each))
    return network


def save_fillers(folder: Path, bank: Path, *names: str) -> Path:
    """`roi`, `roi-published`, `glcic` and `judge` for a bank's classes, or those that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = tuple(Reader(bank).classes)
    torch.manual_seed(0)
    networks: dict[str, tuple[str, nn.Module, tuple[int, int]]] = {
        "roi": ("roi", learned(RoiGenerator(ROI)), (SIDE, SIDE)),
        "roi-published": ("roi", RoiGenerator(PUBLISHED), (SIDE, SIDE)),
        "glcic": ("glcic", GlcicNetwork(GlcicConfig(SIDE, 1 / 16)), (SIDE, SIDE)),
        "judge": ("judge", JudgeNetwork(JudgeConfig(len(classes), 1 / 16)), (96, 128)),
    }
    for name in names or networks:
        kind, network, size = networks[name]
        card = Card(kind, asdict(network.config), classes, size, "bank", 1)  # type: ignore[call-overload]
        save_checkpoint(folder / f"{name}.safetensors", network.state_dict(), card)
    return folder
