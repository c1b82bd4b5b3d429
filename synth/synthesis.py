"""SIMS' synthesis network: a layout and a canvas of bank pixels to a photograph (section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .filling import MARGIN
from .refinement import Cascade, begun, n_fine, n_levels, pyramid, refinement_channels
from .trunk import Trunk, trunk_channels

CANVAS_CHANNELS = 4
"""Red, green, blue and the validity mask."""


@dataclass(frozen=True)
class SynthesisConfig:
    """How a synthesis network is built.

    Attributes:
        n_classes: of the layout; void is one more channel.
        size: `(rows, cols)` of the pictures; decides how many levels there are.
        width: multiplies the channel counts of the paper's code.
        canvas: whether it sees the canvas; without it is the cascade of CRN, of the same width, on the layout alone.
        semantic_head: whether it also predicts the layout, which its loss then compares (SIMS' code).
        passing: whether the canvas's own pixels reach the picture, corrected; the paper's network paints all anew.
        filled: whether its canvas has a colour everywhere (`filling.filled`), which all of the picture begins as;
            otherwise what is not valid is black, or white where it was elided.
    """

    n_classes: int
    size: tuple[int, int]
    width: float = 1.0
    canvas: bool = True
    semantic_head: bool = True
    passing: bool = False
    filled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if self.filled and not self.passing:
            raise ValueError("a filled canvas whose pixels do not pass")


class SynthesisNetwork(nn.Module):
    """Encoder and cascade: each level sees the layout and canvas at its size, the encoder's features and its own.

    Layout and canvas are shrunk by area averaging, features enlarged bilinearly with their corners aligned. At 512
    rows the encoder sees half the size and the cascade has one level of 128 channels more.

    With `passing` it makes two pictures: what is painted anew, and a correction of the canvas's own pixels, which show
    wherever the canvas is valid all around (`passed`). A cascade has only its narrowest features at full size to copy
    textures through, and takes very long to learn to; here it starts from them, and learns to agree with them. Of a
    canvas that is `filled` it makes one, what that lacks everywhere: nothing before it learns.
    """

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.config = config
        rows = config.size[0]
        self.levels, self.fine = n_levels(rows), n_fine(rows)
        seen = config.n_classes + 1 + (CANVAS_CHANNELS if config.canvas else 0)
        outputs = refinement_channels(rows, config.width)
        encoded = [0] * self.levels
        if config.canvas:
            coded = self.levels - self.fine - 1
            self.encoder = Trunk(seen, config.width, coded)
            encoded[self.fine + 1 :] = trunk_channels(config.width, coded)
        self.cascade = Cascade([seen + each for each in encoded], outputs)
        self.begun = config.canvas and config.filled
        self.passing = config.canvas and config.passing and not config.filled
        self.to_image = nn.Conv2d(outputs[0], 6 if self.passing else 3, 1)
        if self.begun:
            for parameter in self.to_image.parameters():
                nn.init.zeros_(parameter)
        self.to_logits = nn.Conv2d(outputs[0], config.n_classes, 1) if config.semantic_head else None

    def begin_from(self, config: SynthesisConfig, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `taken_from` another network; the rest stays as it is. Raises what that raises."""
        self.load_state_dict(self.state_dict() | self.taken_from(config, tensors))

    def taken_from(self, config: SynthesisConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a network for fewer rows, or as many, by the names that they have here.

        Encoder and levels are those of the trunk of 256 rows; what is finer is new (SIMS, 5.1: the model of 512 rows is
        fine-tuned from that of 256).

        Raises:
            ValueError: it is built otherwise, or for more rows.
        """
        own = self.config
        free = {name: getattr(own, name) for name in ("size", "semantic_head", "passing", "filled")}
        if (config.passing, config.filled) != (own.passing, own.filled):  # what they project to is not the same
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("to_image.")}
        if replace(config, **free) != own:
            raise ValueError(f"{config.n_classes} classes, width {config.width:g}, canvas {config.canvas}")
        finer = self.levels - n_levels(config.size[0])
        if finer != self.fine - n_fine(config.size[0]) or finer < 0:
            raise ValueError(f"pictures of {config.size[0]} rows, whose encoder is another one")
        if self.to_logits is None:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("to_logits.")}
        return begun(self.state_dict(), tensors, "cascade.levels.", finer, ("encoder.",))

    def forward(self, layout: Tensor, canvas: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None]:
        """A photograph for the layout.

        Args:
            layout: `(N, C + 1, H, W)` one-hot, void last.
            canvas: `(N, 3, H, W)` in [-1, 1]; where it is not valid filled, or black (-1), and white (1) where elided.
            valid: `(N, 1, H, W)`, 1 where the canvas holds a pixel of the bank, else 0.

        Returns:
            `(N, 3, H, W)` image, around [-1, 1] and not clipped (`encoding.to_image` clips), and `(N, C, H, W)`
            logits of the classes, `None` without a semantic head.
        """
        given = torch.cat([layout, canvas, valid], 1) if self.config.canvas else layout
        inputs = pyramid(given, self.levels)
        if self.config.canvas:
            coded = self.encoder(inputs[self.fine])
            at = self.fine + 1
            inputs[at:] = [torch.cat(pair, 1) for pair in zip(inputs[at:], coded, strict=True)]
        features = self.cascade(inputs)
        image = self.to_image(features)
        if self.begun:
            image = canvas + image
        elif self.passing:
            share = passed(valid)
            image = (1 - share) * image[:, :3] + share * (canvas + image[:, 3:])
        return image, None if self.to_logits is None else self.to_logits(features)


def passed(valid: Tensor) -> Tensor:
    """`(N, 1, H, W)` shares, 0..1, in which a canvas's pixels show: all where it is valid well around, none near holes.

    Args:
        valid: `(N, 1, H, W)`, 0 or 1. Lone pixels that elision has left count as holes: what is made around them need
            not have their tone.
    """
    side = 2 * MARGIN + 1
    inner = 1 - functional.max_pool2d(1 - valid, side, 1, MARGIN)
    return functional.avg_pool2d(inner, side, 1, MARGIN, count_include_pad=False)
