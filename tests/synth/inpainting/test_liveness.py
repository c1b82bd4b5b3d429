"""Parameters that have no part in what a network makes are counted, and no others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zeuxis.synth.inpainting.liveness import dead_parameters
from zeuxis.synth.roi_gan.generator import RoiConfig, RoiGenerator


class _Half(nn.Module):
    """One layer that is used, one that is not, and one whose output is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.lost = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) + 0 * self.lost(x)


def test_what_is_unused_or_lost_is_dead():
    network = _Half().requires_grad_(False)
    assert dead_parameters(network, [torch.rand(2, 3)]) == 5 * 4 + 4 * 4
    assert not any(each.requires_grad for each in network.parameters()), "left as it was"
    assert all(each.grad is None for each in network.parameters())


def test_the_released_code_is_half_dead_and_the_repaired_one_lives():
    torch.manual_seed(0)
    image, region = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    region[..., 16:40, 20:50] = 1
    shares = []
    for published in (False, True):
        config = RoiConfig(64, 1 / 16, noise=4, sliders=2, published=published)
        network = RoiGenerator(config).eval()
        total = sum(each.numel() for each in network.parameters())
        shares.append(dead_parameters(network, [image, region, torch.randn(1, 4), torch.zeros(1, 2)]) / total)
    assert shares[0] == 0
    assert shares[1] > 0.3
