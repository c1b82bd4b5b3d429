"""From a coarse layout to a dense one by the cascade of CRN, as SIMS densifies coarse annotations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .refinement import Cascade, n_levels, pyramid, refinement_channels


@dataclass(frozen=True)
class DensificationConfig:
    """How a densification network is built.

    Attributes:
        n_classes: of the layout; void is one more channel of what it is given.
        size: `(rows, cols)` of the layouts; decides how many levels there are.
        width: multiplies the channel counts, which are those of the synthesis network's decoder.
    """

    n_classes: int
    size: tuple[int, int]
    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))


class DensificationNetwork(nn.Module):
    """CRN's cascade with classes in place of colours."""

    def __init__(self, config: DensificationConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = n_levels(config.size[0])
        outputs = refinement_channels(config.size[0], config.width)
        self.cascade = Cascade([config.n_classes + 1] * self.levels, outputs)
        self.to_logits = nn.Conv2d(outputs[0], config.n_classes, 1)

    def forward(self, layout: Tensor) -> Tensor:
        """`(N, C + 1, H, W)` coarse one-hot layout, void last, to `(N, C, H, W)` logits: every pixel gets a class."""
        logits: Tensor = self.to_logits(self.cascade(pyramid(layout, self.levels)))
        return logits
