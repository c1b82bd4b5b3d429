"""Masks of several views of the same patches: what each is, and what does not matter to them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tests.synth.test_key_patches import given, network, same
from zeuxis.synth.key_patches.views import viewed

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@torch.no_grad()
def test_a_mask_is_the_mean_of_all_patches_both_ways_round_and_of_the_most_of_each():
    net, (patches, present, z) = network(), given()
    present[1, 2] = 0
    found = viewed(net, patches, present, z)
    image, mask = net(patches, present, z)
    mirrored = net(patches.flip(4), present, z)[1].flip(3)
    alone = [[net(patches[b : b + 1, k : k + 1], torch.ones(1, 1), z[b : b + 1])[1][0, 0] for k in range(3)]
             for b in range(2)]  # fmt: skip
    wanted = torch.stack([torch.stack(each) for each in alone])
    wanted[1, 2] = 0
    same((found.image, found.alone), (image, wanted))
    same([found.mask], [((mask + mirrored) / 2 + wanted.amax(1, keepdim=True)) / 2])
    assert (found.alone[0].std(0) > 0).any(), "each has its own place"


@torch.no_grad()
def test_masks_are_half_where_as_many_patches_usually_are():
    net, (patches, present, z) = network(), given()
    present[1, 2] = 0
    usual = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) / 2
    plain, found = viewed(net, patches, present, z), viewed(net, patches, present, z, usual)
    same((found.image, found.alone), (plain.image, plain.alone))
    for row, count in enumerate((3, 2)):
        nowhere = torch.ones_like(usual)
        for _ in range(count):
            nowhere = nowhere * (1 - usual)
        same([found.mask[row]], [(plain.mask[row] + 1 - nowhere) / 2])


@torch.no_grad()
def test_neither_order_nor_absent_patches_matter_and_mirrored_patches_have_mirrored_masks():
    net, (patches, present, z) = network(), given()
    first = viewed(net, patches, present, z)
    for order in permutations(range(3)):
        turned = viewed(net, patches[:, order], present, z)
        same([turned.image, turned.mask, turned.alone], [first.image, first.mask, first.alone[:, order]])
    more = torch.cat([patches, torch.randn(2, 2, 3, 64, 64)], 1), torch.cat([present, torch.zeros(2, 2)], 1)
    same(viewed(net, *more, z)[:2], first[:2])
    both = (viewed(net, each, present, z) for each in (patches, patches.flip(4)))
    ways = [each.mask - each.alone.amax(1, keepdim=True) / 2 for each in both]
    same([ways[1]], [ways[0].flip(3)])
