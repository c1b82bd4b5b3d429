"""Pixel-VAE: a Ladder-VAE whose decoder is completed by a small gated PixelCNN (van den Oord et al. 2016).

Pixels are drawn one after the other, which is what makes it slow: at 64x64 some 4,096 steps a batch, whatever the
machine. What a step shares with those before is kept here, so that it costs one column of each layer instead of a pass
over the picture. It cannot be compiled as a whole: the pass that training takes, of all pixels at once, can be.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers import channels
from .generator import LEAST, GeneratorConfig
from .ladder_vae import Encoded, LadderVae

LEVELS = 32
"""Steps of brightness of each colour."""
CELLS, LAYERS = 128, 4
"""Channels of the PixelCNN at width 1, and gated layers: a pixel sees 5 rows up, and as many columns to either side."""
REACH = 2
"""Pixels that the first layer sees, up and to the left."""
COLOURS = 3


class GatedLayer(nn.Module):
    """A vertical and a horizontal stack, each gated (van den Oord et al. 2016, figure 2).

    The vertical stack of a row knows the rows above it, the horizontal one the pixels to the left as well. In the first
    layer neither knows the pixel itself.

    Args:
        inputs: channels of what comes in; cells: of what goes out, and of the condition; first: the first layer.
    """

    def __init__(self, inputs: int, cells: int, condition: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.rows, self.columns = (REACH, 2 * REACH + 1) if first else (2, 3)
        self.left = REACH if first else 2
        self.vertical = nn.Conv2d(inputs, 2 * cells, (self.rows, self.columns))
        self.horizontal = nn.Conv2d(inputs, 2 * cells, (1, self.left))
        self.link = nn.Conv2d(2 * cells, 2 * cells, 1)
        self.condition = nn.Conv2d(condition, 4 * cells, 1)
        self.out = nn.Conv2d(cells, cells, 1)

    def forward(self, down: Tensor, across: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """All pixels at once.

        Args:
            down, across: `(N, inputs, H, W)` of both stacks, the picture itself in the first layer.
            condition: `(N, F, H, W)`.

        Returns:
            both stacks, `(N, cells, H, W)`.
        """
        above, beside = self.condition(condition).chunk(2, 1)
        side = self.columns // 2
        vertical = self.vertical(functional.pad(down, (side, side, self.rows if self.first else self.rows - 1, 0)))
        horizontal = self.horizontal(functional.pad(across, (self.left if self.first else self.left - 1, 0)))
        if self.first:  # what is beyond the last row and column knows the pixel itself
            vertical, horizontal = vertical[:, :, :-1], horizontal[..., :-1]
        return gated(vertical + above), self.merged(horizontal, self.link(vertical) + beside, across)

    def merged(self, horizontal: Tensor, linked: Tensor, across: Tensor) -> Tensor:
        """The horizontal stack of what its convolution gave, and what the vertical one and the condition say."""
        found: Tensor = self.out(gated(horizontal + linked))
        return found if self.first else found + across


def gated(x: Tensor) -> Tensor:
    """`(N, 2 C, ...)` to `(N, C, ...)`: one half through tanh, the other as its gate."""
    value, gate = x.chunk(2, 1)
    return torch.tanh(value) * torch.sigmoid(gate)


class PixelVae(LadderVae):
    """As `LadderVae`, with pixels that are drawn one after the other."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.log_scale.requires_grad_(False)  # of a likelihood that pixels drawn one by one do not have
        self.cells = max(LEAST, channels(CELLS, config.width))
        self.layers = nn.ModuleList(
            GatedLayer(self.cells if number else COLOURS, self.cells, self.features, first=not number)
            for number in range(LAYERS)
        )
        # red of the pixels before; green of these and red; blue of all of them: no colour knows a later one
        self.colours = nn.ModuleList(nn.Conv2d(self.cells + known, 2 * self.cells, 1) for known in range(COLOURS))
        self.logits = nn.ModuleList(nn.Conv2d(2 * self.cells, LEVELS, 1) for _ in range(COLOURS))

    def _to_image(self) -> nn.Module:
        return nn.Identity()  # the PixelCNN stands in its place

    def forward(self, image: Tensor, noise: Tensor, *, full: bool = False) -> Tensor | Encoded:
        """Logits of every pixel given those before it, latents drawn from what the encoder says.

        Args:
            image: `(N, 3, R, R)` in [-1, 1]; the PixelCNN sees it in `LEVELS` steps of brightness.
            noise: `(N, L)` standard normal; full: all that a loss needs.

        Returns:
            `(N, LEVELS, 3, R, R)`; or `Encoded` with these.
        """
        z1, kl1, kl2 = self.encoded(image, noise)
        logits = self.read(in_steps(image), self.expanded(z1))
        return Encoded(logits, kl1, kl2, self.log_scale) if full else logits

    def read(self, image: Tensor, condition: Tensor) -> Tensor:
        """Logits of all pixels at once: each knows those before it, rows first, and its own earlier colours.

        Args:
            image: `(N, 3, H, W)` in [-1, 1], in steps; condition: `(N, F, H, W)`.

        Returns:
            `(N, LEVELS, 3, H, W)`.
        """
        down = across = image
        for layer in self.layers:
            down, across = layer(down, across, condition)
        return torch.stack([self._logits(across, image, colour) for colour in range(COLOURS)], 2)

    def _logits(self, across: Tensor, image: Tensor, colour: int) -> Tensor:
        """Of one colour: `(N, LEVELS, H, W)`."""
        known = torch.cat([across, image[:, :colour]], 1)
        found: Tensor = self.logits[colour](functional.relu(self.colours[colour](known)))
        return found

    def decoded(self, z1: Tensor) -> Tensor:
        """Pictures of latents, each pixel the likeliest; what `sample` and `preserving` do draws them."""
        return self.drawn(self.expanded(z1), None)

    def made(self, noise: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures of `(N, L)` noise; pixels are drawn from the generator, else the likeliest."""
        noise1, noise2 = self.split(noise)
        return self.drawn(self.expanded(self.decoding1(noise2).at(noise1)), generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Pictures `(n, 3, R, R)` in [-1, 1], in steps; takes R * R steps."""
        return self.made(self.noise(n, generator), generator)

    @torch.no_grad()
    def preserving(
        self, reference: Tensor, region: Tensor, n: int, generator: torch.Generator, simple: bool = False
    ) -> Tensor:
        """As that of `LadderVae`, with pixels that are drawn one after the other."""
        return self.drawn(self.expanded(self.latents(reference, region, n, generator, simple)), generator)

    @torch.no_grad()
    def drawn(self, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws pixels in their order: `(N, F, H, W)` features to `(N, 3, H, W)` in [-1, 1], in steps.

        Args:
            generator: None takes the likeliest step of each colour.
        """
        return _Walk(self, condition, generator).picture()


class _Walk:
    """Pixels drawn one after the other, with what each layer has computed of those before."""

    def __init__(self, network: PixelVae, condition: Tensor, generator: torch.Generator | None) -> None:
        self.network, self.generator = network, generator
        self.n, _, self.height, self.width = condition.shape
        self.layers = [cast(GatedLayer, layer) for layer in network.layers]
        self.conditions = [layer.condition(condition).chunk(2, 1) for layer in self.layers]
        side = REACH
        self.image = condition.new_zeros(self.n, COLOURS, self.height + REACH, self.width + 2 * side)
        shape = (self.n, network.cells, self.height + 1, self.width + 2)
        self.down = [condition.new_zeros(shape) for _ in network.layers]  # a row above and a column beside of zeros
        self.across = [condition.new_zeros(self.n, network.cells, 1, self.width + 1) for _ in network.layers]

    def picture(self) -> Tensor:
        """All rows."""
        for row in range(self.height):
            linked = self._row(row)
            for column in range(self.width):
                self._pixel(row, column, linked)
        return self.image[:, :, REACH:, REACH:-REACH].clone()

    def _row(self, row: int) -> list[Tensor]:
        """The vertical stack of a row, which the rows above it decide; what the horizontal one is told, by layer."""
        found = []
        source = self.image[:, :, row : row + REACH]
        for layer, (above, beside), held in zip(self.layers, self.conditions, self.down, strict=True):
            vertical = layer.vertical(source)
            found.append(layer.link(vertical) + beside[:, :, row : row + 1])
            held[:, :, row + 1 : row + 2, 1:-1] = gated(vertical + above[:, :, row : row + 1])
            source = held[:, :, row : row + 2]
        return found

    def _pixel(self, row: int, column: int, linked: list[Tensor]) -> None:
        """Draws one pixel, colour after colour."""
        source = self.image[:, :, row + REACH : row + REACH + 1, column : column + REACH]
        across = source
        for layer, told, held in zip(self.layers, linked, self.across, strict=True):
            across = layer.merged(layer.horizontal(source), told[..., column : column + 1], across)
            held[..., column + 1 : column + 2] = across
            source = held[..., column : column + 2]
        pixel = self.image[:, :, row + REACH : row + REACH + 1, column + REACH : column + REACH + 1]
        for colour in range(COLOURS):
            logits = self.network._logits(across, pixel, colour)[:, :, 0, 0]
            pixel[:, colour, 0, 0] = brightness(self._chosen(logits))

    def _chosen(self, logits: Tensor) -> Tensor:
        """`(N,)` steps of `(N, LEVELS)` logits."""
        if self.generator is None:
            return logits.argmax(1)
        chances = logits.float().softmax(1).to(self.generator.device)
        return torch.multinomial(chances, 1, generator=self.generator)[:, 0].to(logits.device)


def levels_of(image: Tensor) -> Tensor:
    """Brightness in [-1, 1] as the nearest of `LEVELS` steps, int64."""
    return ((image + 1) / 2 * (LEVELS - 1)).round().clamp(0, LEVELS - 1).long()


def in_steps(image: Tensor) -> Tensor:
    """Brightness in [-1, 1] at the nearest of `LEVELS` steps."""
    return ((image + 1) / 2 * (LEVELS - 1)).round().clamp(0, LEVELS - 1) * (2 / (LEVELS - 1)) - 1


def brightness(levels: Tensor) -> Tensor:
    """Steps as brightness in [-1, 1]."""
    return levels.float() * (2 / (LEVELS - 1)) - 1
