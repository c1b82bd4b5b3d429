"""How BEGAN keeps its two sides in step (Berthelot et al. 2017, sections 3.3 and 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

GAMMA = 0.5
"""Error of made pictures that is aimed at, as a share of that of photographs: the lower, the less diverse."""
RATE, SHORT_RATE = 1e-3, 1e-2
"""Of the control (lambda of k): the paper's, and that of trainings with a hundredth of its steps, in which k would
hardly leave 0: the auto-encoder would never learn to tell made pictures from photographs."""


class Balance(nn.Module):
    """The control k, which says how much the auto-encoder minds made pictures; a buffer, so that resuming restores it.

        L_D = L(x) - k L(G(z)),   L_G = L(G(z)),   k <- k + lambda (gamma L(x) - L(G(z))), within [0, 1]

    Args:
        gamma: the ratio L(G(z)) / L(x) that is aimed at; rate: lambda.
    """

    k: Tensor

    def __init__(self, gamma: float = GAMMA, rate: float = RATE) -> None:
        super().__init__()
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros(()))

    @torch.no_grad()
    def update(self, real: Tensor, made: Tensor) -> Tensor:
        """Follows the errors of a step, scalars; returns the convergence measure M = L(x) + |gamma L(x) - L(G(z))|."""
        both = torch.stack([real, made]).float()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(both)
            both /= distributed.get_world_size()
        apart = self.gamma * both[0] - both[1]
        self.k.add_(self.rate * apart).clamp_(0, 1)
        return both[0] + apart.abs()
