"""Features that two domains share, for references of one and pictures of the other (Liu et al. 2018, figure 11).

An auto-encoder takes photographs of both, without labels; its encoder has the shape of VGG-19 and is used as that is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...storage.errors import InputError, sentence
from ..checkpoint import load_checkpoint
from ..features import CHANNELS, Features, FeaturesConfig, fraction
from ..layers import channels
from .blocks import UpBlock, initialised
from .generator import last_scaled, to_picture

NETWORK = "domains"
"""Kind of the checkpoint."""
DEEPEST = "conv5_4"
"""What the decoder is given: a sixteenth of the picture's side."""


class SharedNetwork(nn.Module):
    """An encoder, built as `config` says, and a decoder that know nothing of which domain a picture is of."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        deep, *sizes = (channels(full, config.width) for full in CHANNELS[::-1])
        up = nn.Sequential(UpBlock(deep, sizes[0]), *(UpBlock(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)))
        self.decoder = nn.Sequential(up, *to_picture(sizes[-1]))
        initialised(self.decoder)
        last_scaled(self.decoder)
        self.features = Features(config)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1], sides of multiples of 16, to what is left of them."""
        return torch.tanh(self.decoder(self.features(images, (DEEPEST,))[DEEPEST]))


def load_shared(path: Path) -> Features:
    """The encoder of a checkpoint, frozen.

    Raises:
        InputError: there is none, or it is not what it should be.
    """
    card, tensors = load_checkpoint(path, NETWORK)
    try:
        network = SharedNetwork(FeaturesConfig(**card.config))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        fix = "train it again: `zeuxis train domains`"
        raise InputError(sentence(path, "its weights are not those of its card", fix=fix)) from error
    network.features.name = f"{NETWORK}:{fraction(float(card.config['width']))} step {card.step}"
    return network.features.requires_grad_(False).eval()


def is_shared(features: Features) -> bool:
    """Whether features are those that `load_shared` gives."""
    return features.name.startswith(f"{NETWORK}:")
