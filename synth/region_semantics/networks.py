"""The network of a generator's configuration, whichever kind it is of."""

from __future__ import annotations

from torch import nn

from .generator import GeneratorConfig, GeneratorNetwork

__all__ = ["GeneratorConfig", "generator_network"]


def generator_network(config: GeneratorConfig) -> nn.Module:
    """The network, with new weights."""
    return GeneratorNetwork(config)
