"""How many parameters of a network have no part in what it makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def dead_parameters(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Numbers in the tensors of parameters that no gradient of the output reaches, or zeros alone.

    The network is differentiated as it stands, with weights drawn for its outputs; its gradients are left as they were.

    Args:
        inputs: of `forward`, which returns one tensor.
    """
    parameters = list(network.parameters())
    needed = [each.requires_grad for each in parameters]
    network.requires_grad_(True)
    try:
        with torch.enable_grad():
            made = network(*inputs)
            drawn = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made.device)
            gradients = torch.autograd.grad((made * drawn).sum(), parameters, allow_unused=True)
    finally:
        for each, before in zip(parameters, needed, strict=True):
            each.requires_grad_(before)
    return sum(
        each.numel() for each, slope in zip(parameters, gradients, strict=True) if slope is None or not slope.any()
    )
