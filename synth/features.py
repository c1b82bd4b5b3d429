"""Features of photographs in the shape of VGG-19 (Simonyan and Zisserman 2015): what the perceptual loss compares.

Either the published network, or a narrower one of the same shape that has learned to parse a bank's photographs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..storage.errors import InputError, sentence
from . import vgg19
from .checkpoint import SUFFIX, Card, load_card, load_checkpoint
from .layers import averaged, channels
from .vgg19 import CONVOLUTIONS, NAMES

LAYERS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")
"""Those of CRN's and SIMS' loss."""
CHANNELS = (64, 128, 256, 512, 512)
"""Of each block at width 1."""
NETWORK = "features"
"""Kind of the checkpoint with features learned on a bank."""
POOL = 2
"""Side of the pooling before each block but the first."""
GROUP = 8
"""Channels a group, where activations are normalised."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1], as torchvision's weights expect them."""

Pooling = Literal["average", "max"]


@dataclass(frozen=True)
class FeaturesConfig:
    """How features are built.

    Attributes:
        width: multiplies the channel counts of VGG-19.
        pooling: CRN and SIMS average, VGG-19 was trained with maxima.
        normalise: group normalisation before each ReLU, without which so deep a network does not learn from scratch.
    """

    width: float = 1.0
    pooling: Pooling = "average"
    normalise: bool = False


class Features(nn.Module):
    """Activations of any convolution of VGG-19 by name, `conv1_1` to `conv5_4`, after its ReLU.

    `name` says which weights these are: `vgg19`, `bank:1/8 step 1500 (camvid, 3fa2c1)`, `untrained:1`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.name = f"untrained:{fraction(config.width)}"
        self.convolutions = nn.ModuleDict()
        inputs = 3
        for name in NAMES:
            outputs = channels(CHANNELS[_block(name)], config.width)
            norm = [nn.GroupNorm(outputs // GROUP, outputs)] if config.normalise else []
            self.convolutions[name] = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), *norm, nn.ReLU())
            inputs = outputs
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, layers: Sequence[str] = LAYERS, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The activations asked for; nothing deeper than the deepest of them is computed.

        Args:
            images: `(N, 3, H, W)` RGB in [-1, 1].
            layers: their names.
            mask: `(N, 1, H, W)` in [0, 1]; blackens the images outside and, shrunk by area, weighs the activations.

        Returns:
            name to `(N, C, h, w)`, not negative; a block has half the size of the one before.

        Raises:
            ValueError: a layer is none of `NAMES`.
        """
        if unknown := set(layers) - set(NAMES):
            raise ValueError(f"no layers of VGG-19: {', '.join(sorted(unknown))}")
        lit = (images + 1) / 2
        x = ((lit if mask is None else lit * mask) - self.mean) / self.std
        found: dict[str, Tensor] = {}
        deepest = max(NAMES.index(name) for name in layers)
        for name in NAMES[: deepest + 1]:
            if name.endswith("_1") and name != NAMES[0]:
                x = self._pooled(x)
            x = self.convolutions[name](x)
            if name in layers:
                size = (x.shape[-2], x.shape[-1])
                found[name] = x if mask is None else x * averaged(mask, size)
        return {name: found[name] for name in layers}

    def fields(self) -> dict[str, int]:
        """Pixels of a picture, along a side, that one unit of each layer sees: convolutions and poolings are walked.

        Normalisation, which looks at the whole picture, does not count.
        """
        found: dict[str, int] = {}
        field, apart = 1, 1  # pixels that a unit sees, and between the middles of two neighbours
        for name in NAMES:
            if name.endswith("_1") and name != NAMES[0]:
                field, apart = field + (POOL - 1) * apart, apart * POOL
            for layer in self.convolutions[name].modules():
                if isinstance(layer, nn.Conv2d):
                    field += layer.dilation[0] * (layer.kernel_size[0] - 1) * apart
                    apart *= layer.stride[0]
            found[name] = field
        return found

    def _pooled(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, POOL) if self.config.pooling == "max" else functional.avg_pool2d(x, POOL)


@dataclass(frozen=True)
class ParsingConfig:
    """How the network is built that teaches features to parse.

    Attributes:
        n_classes: it tells apart.
        width, pooling, normalise: of its features, see `FeaturesConfig`.
    """

    n_classes: int
    width: float = 1.0
    pooling: Pooling = "average"
    normalise: bool = True

    @property
    def features(self) -> FeaturesConfig:
        """Those of the features alone."""
        return FeaturesConfig(self.width, self.pooling, self.normalise)


class ParsingNetwork(nn.Module):
    """Features and a light decoder: logits of each block's last layer, summed from coarse to fine."""

    def __init__(self, config: ParsingConfig) -> None:
        super().__init__()
        self.config = config
        self.features = Features(config.features)
        last = {name: CHANNELS[_block(name)] for name in _last_layers()}
        self.heads = nn.ModuleDict(
            {name: nn.Conv2d(channels(full, config.width), config.n_classes, 1) for name, full in last.items()}
        )

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N, C, H, W)` logits."""
        found = self.features(images, _last_layers())
        logits: Tensor | None = None
        for name in reversed(_last_layers()):
            finer = self.heads[name](found[name])
            if logits is not None:
                finer = finer + functional.interpolate(logits, finer.shape[-2:], mode="bilinear", align_corners=False)
            logits = finer
        assert logits is not None
        return logits


def load_features(source: str | Path | None, models: Path | None, pooling: Pooling = "average") -> Features:
    """The features a loss compares, frozen: whichever of these there is, the first first.

    1. `source`, where it is a path: torchvision's `vgg19-dcbb9e9d.pth`, the same as `.safetensors`, or a checkpoint of
       features, of one bank or shared by two (`domains`); the word `vgg19` fetches torchvision's file once, `bank`
       takes the one of `models`;
    2. the file that the variable `ZEUXIS_VGG19` names;
    3. `features.safetensors` in `models`, which `zeuxis train features` wrote.

    Args:
        source: see above; models: folder of trained networks; pooling: of VGG-19's weights (a checkpoint says its own).

    Raises:
        InputError: there is none of them, a file is not what it should be, or it cannot be fetched.
    """
    named = os.environ.get(vgg19.VARIABLE)
    own = None if models is None else Path(models) / f"{NETWORK}{SUFFIX}"
    if source == "vgg19":
        return _published(Path(named), pooling) if named else _frozen_vgg(vgg19.fetched(), vgg19.NAME, pooling)
    if source is not None and source != "bank":
        return _from_file(Path(source), pooling)
    if named and source is None:
        return _from_file(Path(named), pooling)
    if own is not None and (own.exists() or source == "bank"):
        return _learned(own)
    raise InputError(
        sentence(
            "features for the perceptual loss",
            expected=f"{own or 'a folder of models'}, or VGG-19's weights in {vgg19.VARIABLE}",
            found="neither",
            fix=f"run `zeuxis train features`, or fetch {vgg19.URL} and let {vgg19.VARIABLE} name it",
        )
    )


def load_parser(path: Path) -> tuple[Card, ParsingNetwork]:
    """A network that has learned to parse a bank's photographs, frozen, and what its checkpoint says of it.

    Raises:
        InputError: there is none, or it is not what it should be.
    """
    card, tensors = load_checkpoint(path, NETWORK)
    try:
        network = ParsingNetwork(ParsingConfig(**card.config))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        fix = "train it again: `zeuxis train features`"
        raise InputError(sentence(path, "its weights are not those of its card", fix=fix)) from error
    network.features.name = features_name(card, tensors)
    return card, network.requires_grad_(False).eval()


def features_name(card: Card, tensors: Mapping[str, Tensor]) -> str:
    """What features of a checkpoint are called, such as `bank:1/8 step 1500 (camvid, 3fa2c1)`.

    In brackets stand the bank, and a digest of the weights, so that no two are mixed up.
    """
    digest = hashlib.blake2b(digest_size=3)
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return f"bank:{fraction(float(card.config['width']))} step {card.step} ({card.bank}, {digest.hexdigest()})"


def _from_file(path: Path, pooling: Pooling) -> Features:
    if path.suffix == SUFFIX and not vgg19.is_vgg(path):
        return _learned(path)
    return _published(path, pooling)


def _published(path: Path, pooling: Pooling) -> Features:
    tensors, name = vgg19.read(path)
    return _frozen_vgg(tensors, name, pooling)


def _frozen_vgg(tensors: Mapping[str, Tensor], name: str, pooling: Pooling) -> Features:
    first = tensors[f"features.{CONVOLUTIONS[NAMES[0]]}.weight"]
    features = Features(FeaturesConfig(first.shape[0] / CHANNELS[0], pooling))
    state = {
        f"convolutions.{layer}.0.{kind}": tensors[f"features.{index}.{kind}"]
        for layer, index in CONVOLUTIONS.items()
        for kind in ("weight", "bias")
    }
    try:
        features.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(sentence(name, expected="the shape of VGG-19", found="another")) from error
    return _frozen(features, name)


def _learned(path: Path) -> Features:
    from .region_semantics.shared_features import NETWORK as SHARED
    from .region_semantics.shared_features import load_shared

    kind = NETWORK
    with suppress(InputError):  # said below, of features
        kind = load_card(path).network
    return load_shared(path) if kind == SHARED else load_parser(path)[1].features


def _frozen(features: Features, name: str) -> Features:
    features.name = name
    return features.requires_grad_(False).eval()


def _last_layers() -> tuple[str, ...]:
    return tuple(name for name, after in zip(NAMES, (*NAMES[1:], "_1"), strict=True) if after.endswith("_1"))


def _block(name: str) -> int:
    return int(name[4]) - 1


def fraction(width: float) -> str:
    """A width as users read it, such as `1/8`."""
    return str(Fraction(width).limit_denominator(64))
