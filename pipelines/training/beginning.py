"""Networks that a training begins from: coarser ones, or others of the same build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...storage.errors import InputError, sentence
from ...storage.reader import Reader
from ...synth.checkpoint import load_checkpoint
from ..models import channels_of

Beginning = tuple[Any, dict[str, Tensor]]
"""A configuration, and weights."""


def beginning(path: Path, network: str, reader: Reader, config: Any, build: Callable[[Any], Any]) -> Beginning:
    """The configuration and the weights of a checkpoint that a training begins from.

    Args:
        path: of the checkpoint; network: the kind that it must be of; reader: of the bank, for its classes.
        config: of the network that begins; build: a network of a configuration, with `taken_from`.

    Raises:
        InputError: there is none, or they do not fit.
    """
    card, tensors = load_checkpoint(path, network)
    channels_of(card, reader.classes, None, path)
    try:
        before = type(config)(**card.config)
        with torch.device("meta"):
            build(config).taken_from(before, tensors)
    except (TypeError, ValueError) as error:
        fix = f"begin from a coarser {network} network of the same preset width, or without --from"
        raise InputError(sentence(path, f"cannot be begun from ({error})", fix=fix)) from error
    return before, tensors
