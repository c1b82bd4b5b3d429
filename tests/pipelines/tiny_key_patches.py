"""Photographs with parts that stand out, and untrained networks of key patches: what tests of their use share."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from tests.conftest import Photos
from tests.pipelines.tiny_models import make_bank
from zeuxis.pipelines.assembling.network import SYSTEMS
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork
from zeuxis.synth.key_patches.network import KeyPatchConfig, KeyPatchNetwork

SIDE, PARTS, WIDTH = 64, 3, 1 / 16
SIZE = (96, 128)
FORMS = {"no-mask", "auto-encoder", "conditional-gan"}


def part_bank(folder: Path, names: Sequence[str], *, times: int = 1, **options: Any) -> Path:
    """A bank of 96x128 photographs, each with a car and a sign of several parts; key patches included.

    Args:
        times: photographs have so many times the rows and columns, and texture down to these.
    """
    photos = Photos(folder / "photos")
    for name in names:
        random = np.random.default_rng(zlib.crc32(name.encode()))
        image, labels = (
            np.kron(each, np.ones((times, times, *[1] * (each.ndim - 2)), np.uint8)) for each in street(random)
        )
        if times > 1:
            image = textured(image, random)
        photos.write(photos.image(name), image)
        photos.write(photos.label(name), labels)
    return make_bank(_Written(photos), folder / "bank", (), patches=True, min_area=64, **options)


def textured(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A picture with noise that has as much of every octave, as photographs have."""
    rows, cols = image.shape[:2]
    grain = np.zeros((rows, cols))
    for pixels in (1, 2, 4, 8, 16):
        noise = random.normal(0, 6, (rows // pixels, cols // pixels))
        grain += cv2.resize(noise, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


class _Written:
    """Photographs that are there already, as `make_bank` takes them."""

    def __init__(self, photos: Photos) -> None:
        self.root, self.spec = photos.root, photos.spec

    def add(self, *names: str) -> None:
        assert not names


def street(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its labels: sky, ground, a car with windows and wheels, a sign with a bar."""
    image = np.zeros((*SIZE, 3), np.uint8)
    labels = np.zeros(SIZE, np.uint8)
    image[:50], image[50:] = (120, 150, 190), (90, 90, 90)
    labels[50:] = 1
    top, left = int(random.integers(36, 44)), int(random.integers(8, 20))
    car = random.integers(60, 255, 3)
    image[top : top + 44, left : left + 56] = car
    labels[top : top + 44, left : left + 56] = 2
    for row, col, height, width in ((4, 6, 14, 18), (4, 32, 14, 18), (26, 6, 16, 16), (26, 34, 16, 16)):
        image[top + row : top + row + height, left + col : left + col + width] = random.integers(0, 255, 3)
    row, col = int(random.integers(4, 12)), int(random.integers(80, 88))
    image[row : row + 34, col : col + 36] = random.integers(100, 255, 3)
    image[row + 12 : row + 22, col + 6 : col + 30] = random.integers(0, 100, 3)
    labels[row : row + 34, col : col + 36] = 3
    noise = random.integers(-6, 7, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), labels


def save_assemblers(folder: Path, bank: Path, *names: str, objects: str | None = "car", judge: bool = True) -> Path:
    """Untrained networks under these names, or all of `SYSTEMS`, and a judge."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = tuple(Reader(bank).classes)
    for seed, name in enumerate(names or SYSTEMS):
        variant = name.removeprefix("key-patches-")
        form: Any = variant if variant in FORMS else "assembler"
        torch.manual_seed(seed)
        network = KeyPatchNetwork(KeyPatchConfig(SIDE, WIDTH, noise=8, embedding=8, parts=PARTS, form=form))
        for weights in network.parameters():
            if weights.ndim > 1:
                nn.init.normal_(weights, std=0.2)
        card = Card("key-patches", asdict(network.config), classes, (SIDE, SIDE), "bank", 1,
                    training={"objects": objects, "parts": PARTS})  # fmt: skip
        save_checkpoint(folder / f"{name}.safetensors", network.state_dict(), card)
    if judge:
        torch.manual_seed(0)
        reading = JudgeNetwork(JudgeConfig(len(classes), WIDTH))
        card = Card("judge", asdict(reading.config), classes, SIZE, "bank", 1)
        save_checkpoint(folder / "judge.safetensors", reading.state_dict(), card)
    return folder
