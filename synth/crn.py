"""The cascaded refinement network: photographs from a layout alone (Chen and Koltun 2017), and its rivals there.

Layout `(N, C + 1, H, W)`, body, features `(N, d, H, W)`, 1x1 convolution, k images `(N, k, 3, H, W)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .baselines import EncoderDecoder, FullResolution, StridedGenerator
from .layers import channels
from .refinement import Cascade, begun, n_levels, pyramid

COARSE, MIDDLE, FINE = 5, 2, (128, 32)
"""Levels of 1024 channels from the coarsest on, then levels of 512, then the channels of two more (section 3.2)."""

Body = Literal["cascade", "encoder-decoder", "full-resolution", "pix2pix", "gan"]


@dataclass(frozen=True)
class CrnConfig:
    """How a network is built that paints from the layout alone.

    Attributes:
        n_classes: of the layout; void is one more channel.
        size: `(rows, cols)` of the pictures; decides how many levels a cascade has.
        width: multiplies the channel counts of the paper.
        images: k, how many pictures are made of a layout in one pass (section 3.4).
        body: `cascade`, or what the paper compares it with (section 4).
    """

    n_classes: int
    size: tuple[int, int]
    width: float = 1.0
    images: int = 1
    body: Body = "cascade"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if self.images < 1:
            raise ValueError(f"{self.images} images")


def crn_channels(rows: int, width: float) -> list[int]:
    """Channels of each level, finest first: 1024 up to 64 rows, 512 at 128 and 256, 128 at 512, 32 at 1024 and on."""
    full = [*[1024] * COARSE, *[512] * MIDDLE, *FINE]
    levels = n_levels(rows)
    full += [FINE[-1]] * (levels - len(full))
    return [channels(each, width) for each in full[:levels]][::-1]


class Refinement(nn.Module):
    """The cascade on the layout, which each level sees shrunk by area averaging.

    Both convolutions of every level, the last one too, are normalised and activated, as in the released code; the
    paper's text leaves the features of the last level as they are.
    """

    def __init__(self, inputs: int, config: CrnConfig) -> None:
        super().__init__()
        each = crn_channels(config.size[0], config.width)
        self.outputs = each[0]
        self.cascade = Cascade([inputs] * len(each), each)

    def forward(self, layout: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        features: Tensor = self.cascade(pyramid(layout, len(self.cascade.levels)))
        return features


class CrnNetwork(nn.Module):
    """A layout to k pictures, none of which sees a pixel of the bank."""

    def __init__(self, config: CrnConfig) -> None:
        super().__init__()
        self.config = config
        self.body = _body(config)
        self.to_images = nn.Conv2d(self.body.outputs, 3 * config.images, 1)
        self.bounded = config.body in ("pix2pix", "gan")

    def forward(self, layout: Tensor) -> Tensor:
        """Photographs for the layout.

        Args:
            layout: `(N, C + 1, H, W)` one-hot, void last.

        Returns:
            `(N, k, 3, H, W)`, around [-1, 1] and not clipped (`encoding.to_image` clips).
        """
        flat = self.to_images(self.body(layout))
        images: Tensor = flat.tanh() if self.bounded else flat
        return images.reshape(len(images), self.config.images, 3, *images.shape[2:])

    def recompute(self, yes: bool = True) -> None:
        """Trades time for memory: the backward pass computes levels and layers once more instead of keeping them."""
        for module in self.body.modules():
            if isinstance(module, Cascade | EncoderDecoder | FullResolution):
                module.recompute = yes

    def begin_from(self, config: CrnConfig, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `taken_from` another network; the rest stays as it is. Raises what that raises."""
        self.load_state_dict(self.state_dict() | self.taken_from(config, tensors))

    def taken_from(self, config: CrnConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a coarser cascade, or of one of the same size, by the names that they have here.

        Levels are paired from the coarsest on. The projection to colours is taken where the last level and the number
        of images are the same.

        Raises:
            ValueError: it is no cascade, of other channels or classes, or finer than this one.
        """
        if not config.body == self.config.body == "cascade":
            raise ValueError("only a cascade goes on from a cascade")
        if (config.n_classes, config.width) != (self.config.n_classes, self.config.width):
            raise ValueError(f"{config.n_classes} classes and width {config.width:g} instead of this network's")
        own = self.state_dict()
        finer = len(crn_channels(self.config.size[0], 1.0)) - len(crn_channels(config.size[0], 1.0))
        if finer < 0:
            raise ValueError(f"pictures of {config.size[0]} rows instead of at most {self.config.size[0]}")
        return begun(own, tensors, "body.cascade.levels.", finer)


def _body(config: CrnConfig) -> Refinement | EncoderDecoder | FullResolution | StridedGenerator:
    inputs = config.n_classes + 1
    if config.body == "encoder-decoder":
        return EncoderDecoder(inputs, config.width)
    if config.body == "full-resolution":
        return FullResolution(inputs, config.width, config.size[0])
    if config.body in ("pix2pix", "gan"):
        return StridedGenerator(inputs, config.width, config.size, skips=config.body == "pix2pix")
    if config.body != "cascade":
        raise ValueError(f"body {config.body!r}")
    return Refinement(inputs, config)
