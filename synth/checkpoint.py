"""Trained networks on the disk: one safetensors file each, with a card inside that says what it is.

Nothing is ever unpickled: the file is read by safetensors, the card is JSON in its header. A file is written under a
temporary name and takes its own when it is whole, so that a full disk or a kill leaves the one before. A checksum in
the header is compared whenever weights are read: a damaged number would paint on, wrongly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import crc32c
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..storage.classes import SemanticClass
from ..storage.errors import InputError, sentence
from ..storage.outputs import write_outputs

FORMAT = 1
"""Version of the card; newer ones are refused."""
SUFFIX = ".safetensors"
CHECKSUM = "crc32c"
"""Entry of a header's JSON; files of before it have none, and are read as they are."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself.

    Attributes:
        network: its kind, such as `synthesis`; the file's name in a folder of models.
        config: the network's configuration, as its dataclass was resolved.
        classes: of the bank it was trained on, in the order of its channels; void is one more.
        size: `(rows, cols)` it was trained at.
        bank: name of the bank's folder; generation: the one it was trained on.
        features: which feature network its loss used, such as `vgg19` or `bank:1/8`; empty where it used none.
        step: how many optimiser steps it has had.
        training: the resolved options of its training (preset, seed, learning rate, frozen loss weights, ...).
    """

    network: str
    config: Mapping[str, Any]
    classes: Sequence[SemanticClass]
    size: tuple[int, int]
    bank: str
    generation: int
    features: str = ""
    step: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as it stands in the file's header."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The card that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        row = json.loads(text)
        row.pop(CHECKSUM, None)
        if row.pop("format") != FORMAT:
            raise ValueError("another format")
        classes = tuple(SemanticClass(**{**each, "colour": tuple(each["colour"])}) for each in row.pop("classes"))
        rows, cols = row.pop("size")
        if not (type(rows) is type(cols) is int and min(rows, cols) > 0):
            raise ValueError(f"size {rows}x{cols}")
        card = cls(**row, classes=classes, size=(rows, cols))
        named = all(type(entry.id) is int and isinstance(entry.name, str) for entry in classes)
        if not named or not isinstance(card.config, dict) or not isinstance(card.training, dict):
            raise TypeError("classes, config or training of another type")
        steps, best = card.training.get("steps", 0), card.training.get("best", 0.0)
        if not (type(card.step) is type(steps) is int and type(best) in (int, float)):
            raise TypeError("step, steps or best are no numbers")
        return card


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], card: Card) -> None:
    """Writes a checkpoint in place of the one before.

    Raises:
        InputError: the disk refuses; the one before is still there.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_outputs({path: save(held, {"card": sealed(card.to_json(), held)})})


def sealed(text: str, tensors: Mapping[str, Tensor]) -> str:
    """A header's JSON object, its entries in their order, with the checksum of itself and of all tensors."""
    row = json.loads(text)
    return json.dumps(row | {CHECKSUM: _checksum(row, tensors)})


def damage(text: str, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The checksum that `sealed` wrote and the one found, where they differ; raises ValueError if it is no JSON."""
    row = json.loads(text)
    written = row.pop(CHECKSUM, None)
    found = _checksum(row, tensors)
    return None if written in (None, found) else (str(written), found)


def _checksum(row: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    found = crc32c.crc32c(json.dumps(row, sort_keys=True).encode())
    for part in parts_of(tensors):
        found = crc32c.crc32c(part, found)
    return f"{found:08x}"


def parts_of(tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    """What a digest of tensors is made of, in the order of their names: name, type and shape of each, its bytes."""
    for name, tensor in sorted(tensors.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def load_card(path: Path, network: str | None = None) -> Card:
    """The card alone; nothing of the weights is read.

    Args:
        path: of the checkpoint; network: the kind it must be.

    Raises:
        InputError: there is no such file, it is cut short or no checkpoint, of a newer format, or of another network.
    """
    return _opened(path, network)[0]


def is_whole(path: Path) -> bool:
    """Whether there is a checkpoint that is neither cut short nor damaged; what its card says is not looked at."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return damage((file.metadata() or {})["card"], _tensors(file)) is None
    except (FileNotFoundError, SafetensorError):
        return False
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):  # as well
        return True
    except OSError:  # as whoever reads it is told
        return True


def load_checkpoint(path: Path, network: str) -> tuple[Card, dict[str, Tensor]]:
    """A checkpoint's card and tensors, on the CPU.

    Raises:
        InputError: as `load_card`, or bytes are not those that were written.
    """
    return _opened(path, network, tensors=True)


def _training_of(path: Path, network: str | None) -> str:
    """What `zeuxis train` is given for a file of that name."""
    name = path.name.removesuffix(SUFFIX)
    if name == "glcic":
        return "roi --variant glcic"
    kind = network or "all"
    if not name.startswith(f"{kind}-"):
        return kind
    rest, patches = name.removeprefix(f"{kind}-"), ""
    if kind == "key-patches" and rest.rpartition("-")[2] in ("key", "random"):
        rest, _, patches = rest.rpartition("-")
    option = "--kind" if kind == "generator" else "--variant"
    return " ".join([kind, *([option, rest] if rest else []), *(["--patches", patches] if patches else [])])


def _opened(path: Path, network: str | None, tensors: bool = False) -> tuple[Card, dict[str, Tensor]]:
    train = f"train it: `zeuxis train {_training_of(path, network)}`"
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for without end
        raise InputError(sentence(path, expected="a trained network", found="no plain file", fix=train))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("card", "")
            card = _card(path, text)
            held = _tensors(file) if tensors else {}
    except FileNotFoundError:
        raise InputError(sentence(path, expected="a trained network", found="no such file", fix=train)) from None
    except (SafetensorError, OSError) as error:
        said = f"is no whole checkpoint ({error})"
        raise InputError(sentence(path, said, fix=f"fetch it again, or {train}")) from error
    if tensors and (differs := damage(text, held)):
        expected = f"the bytes that were written, checksum {differs[0]}"
        raise InputError(sentence(path, expected=expected, found=differs[1], fix=f"fetch it again, or {train}"))
    if network is not None and card.network != network:
        raise InputError(sentence(path, expected=f"a {network} network", found=f"a {card.network} network", fix=train))
    return card, held


def _tensors(file: Any) -> dict[str, Tensor]:
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _card(path: Path, text: str) -> Card:
    try:
        return Card.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        expected = f"a checkpoint of zeuxis, format {FORMAT}"
        raise InputError(sentence(path, expected=expected, found=f"something else ({error})")) from error
