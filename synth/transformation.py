"""SIMS' transformation network: the affine warp that lays a segment on a component's mask (section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .trunk import Trunk

LEVELS = 5
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class TransformationConfig:
    """How a transformation network is built.

    Attributes:
        n_classes: of the layout; void is one more channel.
        width: multiplies the channel counts of the paper's code.
        coordinates: whether it also sees where in the picture each pixel lies, which a pool over the whole picture
            would forget: a scale about a segment's own centre shifts it by how far that lies from the picture's.
    """

    n_classes: int
    width: float = 1.0
    coordinates: bool = True


class TransformationNetwork(nn.Module):
    """Five levels, a pool over the whole picture and six numbers; as it begins, it leaves every segment in place."""

    def __init__(self, config: TransformationConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(3 + 1 + config.n_classes + 1 + 2 * config.coordinates, config.width, LEVELS, "max")
        self.to_theta = nn.Linear(self.trunk.outputs[-1], 6)
        nn.init.zeros_(self.to_theta.weight)
        with torch.no_grad():
            self.to_theta.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, segment: Tensor, target_mask: Tensor, layout: Tensor) -> Tensor:
        """The warp of each segment.

        Args:
            segment: `(N, 3, H, W)` at its own place in the picture, `(image + 1) * mask` and so 0 outside it, up to 2
                inside (the first three channels of `premultiplied`).
            target_mask: `(N, 1, H, W)` of 0 and 1, the component to cover.
            layout: `(N, C + 1, H, W)` one-hot, void last.

        Returns:
            `(N, 2, 3)` theta of `warped`.
        """
        given = [segment, target_mask, layout]
        if self.config.coordinates:
            given.append(_coordinates(segment))
        pooled = self.trunk(torch.cat(given, 1))[-1].mean((2, 3))
        theta: Tensor = self.to_theta(pooled)
        return theta.view(-1, 2, 3)


def premultiplied(image: Tensor, mask: Tensor) -> Tensor:
    """`(N, 3, H, W)` in [-1, 1] and `(N, 1, H, W)` to `(N, 4, H, W)`: `(image + 1) * mask`, and the mask.

    Zeros stand for nothing, so that sampling beyond the mask or the picture mixes in neither grey nor black.
    """
    return torch.cat([(image + 1) * mask, mask], 1)


def warped(image: Tensor, theta: Tensor) -> Tensor:
    """A picture warped by `theta`, bilinearly, with zeros beyond it.

    Args:
        image: `(N, C, H, W)`, 0 where there is nothing: what `premultiplied` returns, or a mask.
        theta: `(N, 2, 3)` maps where a pixel of the output lies to where it is read from, both in [-1, 1] from edge to
            edge of the picture (`affine_grid`, `align_corners=False`).
    """
    grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _coordinates(image: Tensor) -> Tensor:
    """`(N, 2, H, W)`: x and y of each pixel's centre, -1 to 1 from edge to edge."""
    n, _, rows, cols = image.shape
    x = (torch.arange(cols, device=image.device, dtype=image.dtype) * 2 + 1) / cols - 1
    y = (torch.arange(rows, device=image.device, dtype=image.dtype) * 2 + 1) / rows - 1
    return torch.stack([x.expand(rows, cols), y[:, None].expand(rows, cols)]).expand(n, 2, rows, cols)
