"""A bank of small photographs and untrained networks that fit it: what the tests of painting share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zeuxis.pipelines.models import KINDS, OTHERS
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint

FRAME, SIZE = (48, 64), (96, 128)
WIDTH = 1 / 16


def make_bank(photos: Any, bank: Path, names: Sequence[str] = "abcdef", **options: Any) -> Path:
    """A bank of photographs in four classes, built in this process."""
    photos.add(*names)
    (photos.root / "classes.csv").write_text("id,name,thing\n0,sky,0\n1,ground,0\n2,car,1\n3,sign,1\n")
    given = {"frame": FRAME, "min_area": 16, "patches": False, "workers": 0, "report": False}
    rebuild(photos.spec, bank, **(given | options))
    return bank


def network_of(kind: str, n_classes: int, size: tuple[int, int] = SIZE, seed: int = 0, **settings: Any) -> nn.Module:
    """An untrained network; all of its weights are drawn, so that none stands for identity or nothing."""
    home = (KINDS | OTHERS)[kind]
    module = import_module(f"zeuxis.synth.{home.module}")
    config_of = getattr(module, home.config)
    given = {"n_classes": n_classes, "size": size, "width": WIDTH} | settings
    known = {name: value for name, value in given.items() if name in config_of.__dataclass_fields__}
    torch.manual_seed(seed)
    network: nn.Module = getattr(module, home.network)(config_of(**known))
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.5)
    return network


def card_of(kind: str, network: nn.Module, classes: Any, size: tuple[int, int] = SIZE, **told: Any) -> Card:
    """What the checkpoint of such a network says of itself."""
    return Card(kind, asdict(network.config), tuple(classes), size, "bank", 1, **told)  # type: ignore[call-overload]


def save_models(folder: Path, bank: Path, *kinds: str, classes: Any = None, **settings: Any) -> Path:
    """Untrained networks of these kinds, of all by default, for the bank's classes or others."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = tuple(Reader(bank).classes if classes is None else classes)
    size, training = settings.pop("size", SIZE), settings.pop("training", {})
    for kind in kinds or KINDS:
        network = network_of(kind, len(classes), size, **settings)
        card = card_of(kind, network, classes, size, training=training)
        save_checkpoint(folder / f"{kind}.safetensors", network.state_dict(), card)
    return folder
