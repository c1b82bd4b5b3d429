"""SIMS' ordering network: which of two overlapping segments is in front, by its class (section 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import LEAK, channels
from .trunk import Trunk

LEVELS = 5
HIDDEN = 1024


@dataclass(frozen=True)
class OrderingConfig:
    """How an ordering network is built.

    Attributes:
        n_classes: of the layout; void is one more channel.
        width: multiplies the channel counts of the paper's code.
        dropout: share of hidden units dropped in training.
    """

    n_classes: int
    width: float = 1.0
    dropout: float = 0.5


class OrderingNetwork(nn.Module):
    """The trunk of the transformation network, a hidden layer, and one number a class."""

    def __init__(self, config: OrderingConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(2 * config.n_classes + 1, config.width, LEVELS, "max")
        hidden = channels(HIDDEN, config.width)
        self.hidden = nn.Linear(self.trunk.outputs[-1], hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.to_logits = nn.Linear(hidden, config.n_classes)

    def forward(self, pair: Tensor, layout: Tensor) -> Tensor:
        """Logits of which class is in front; only those of the two segments' classes mean anything.

        Args:
            pair: `(N, C, H, W)`, 1 in a class's channel at the pixels of the segment that has it.
            layout: `(N, C + 1, H, W)` one-hot, void last.

        Returns:
            `(N, C)`.
        """
        pooled = self.trunk(torch.cat([pair, layout], 1))[-1].mean((2, 3))
        hidden = functional.leaky_relu(self.hidden(pooled), LEAK)
        logits: Tensor = self.to_logits(self.dropout(hidden))
        return logits
