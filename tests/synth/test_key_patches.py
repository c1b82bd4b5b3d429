"""Key patches: the sum over patches, what each form sees, layers of the released code, losses against plain sums."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.nn import functional

from zeuxis.synth.augment import changed
from zeuxis.synth.key_patches.losses import (
    HINGE,
    MADE,
    MIXED,
    PAPER,
    REAL,
    SWAPPED,
    LossWeights,
    appearance,
    composites,
    decayed,
    discriminator_loss,
    generator_loss,
    overlap,
    ramped,
    spatial,
    swaps,
)
from zeuxis.synth.key_patches.network import KeyPatchConfig, KeyPatchDiscriminator, KeyPatchNetwork
from zeuxis.synth.layers import n_parameters

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
SMALL = {"width": 1 / 16, "noise": 6, "embedding": 16}


def network(**settings: object) -> KeyPatchNetwork:
    """With no weight at zero, as if it had learned."""
    made = KeyPatchNetwork(KeyPatchConfig(**{**SMALL, **settings})).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def given(n: int = 3, items: int = 2) -> tuple[torch.Tensor, ...]:
    return torch.rand(items, n, 3, 64, 64) * 2 - 1, torch.ones(items, n), torch.rand(items, 6) * 2 - 1


def same(found, wanted) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


# ---- networks


@torch.no_grad()
def test_the_order_of_patches_does_not_matter_and_patches_do():
    net, (patches, present, z) = network(), given()
    image, mask = net(patches, present, z)
    assert image.shape == (2, 3, 64, 64)
    assert mask.shape == (2, 1, 64, 64)
    assert 0 < mask.min() < mask.max() < 1
    for order in permutations(range(3)):
        same(net(patches[:, list(order)], present, z), (image, mask))
    other = patches.clone()
    other[:, 2] = -other[:, 2]
    assert not torch.allclose(net(other, present, z)[0], image, atol=1e-3)
    assert not torch.allclose(net(other, present, z)[1], mask, atol=1e-3)


@torch.no_grad()
def test_absent_patches_contribute_nothing_and_their_number_is_made_up_for():
    net, (patches, present, z) = network(), given()
    present[:, 1] = 0
    wanted = net(patches, present, z)
    filled = patches.clone()
    filled[:, 1] = 1
    assert torch.equal(net(filled, present, z)[0], wanted[0])
    same(net(patches[:, [0, 2]], present[:, [0, 2]], z), wanted)
    same(net(patches[:, [0, 0, 2, 2, 2, 0]], torch.ones(2, 6), z), wanted)  # more than it was trained with
    assert not torch.allclose(net(patches, torch.ones(2, 3), z)[0], wanted[0], atol=1e-3)


@torch.no_grad()
def test_every_level_is_the_papers_sum_where_all_patches_are_there():
    net, (patches, present, _) = network(), given()
    sums: list[torch.Tensor] = [torch.zeros(())] * 5
    for patch in patches.unbind(1):
        x = patch
        for level, layer in enumerate((*net.encoder, net.to_embedding)):
            x = layer(x)
            sums[level] = sums[level] + x
    same(net._summed(patches, present), sums)
    assert [tuple(each.shape[1:]) for each in sums] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4), (16, 1, 1)]
    assert torch.equal(net.encode(patches, present), net._summed(patches, present)[-1].flatten(1))
    alone = net._summed(patches[:, :1], present[:, :1])
    x = patches[:, 0]
    for layer, found in zip((*net.encoder, net.to_embedding), alone, strict=True):
        x = layer(x)
        torch.testing.assert_close(found, 3 * x)


@pytest.mark.parametrize(
    ("resolution", "wanted"), [(64, (5.357, 9.656, 15.017, 4.315)), (256, (18.467, 35.874, 54.342, 17.423))]
)
def test_at_full_width_the_networks_are_those_of_the_released_code(resolution, wanted):
    """5.4, 9.7, 15.0 and 4.3 million numbers at 64 pixels, 18.5, 35.9, 54.3 and 17.4 at 256."""
    with torch.device("meta"):
        config = KeyPatchConfig(resolution)
        net, discriminator = KeyPatchNetwork(config), KeyPatchDiscriminator(config)
    parts = nn.ModuleList([net.encoder, net.to_embedding]), net.mask_decoder, net.image_decoder, discriminator
    assert [n_parameters(each) / 1e6 for each in parts] == pytest.approx(wanted, abs=1e-3)


@torch.no_grad()
def test_forms_see_what_they_are_said_to_see():
    patches, present, z = given()
    for form, masked, noisy, skipping in (
        ("assembler", True, True, True), ("no-mask", False, True, True), ("auto-encoder", False, False, False),
        ("conditional-gan", False, True, False),
    ):  # fmt: skip
        net = network(form=form)
        image, mask = net(patches, present, z)
        assert net.config.has_mask == masked
        assert bool(mask.any()) == masked
        assert torch.equal(net(patches, present, -z)[0], image) != noisy
        for parameter in net.to_embedding.parameters():
            parameter.zero_()  # nothing of the patches but what passes beside the embedding
        seen = not torch.allclose(net(-patches, present, z)[0], net(patches, present, z)[0], atol=1e-6)
        assert seen == skipping, form


@torch.no_grad()
def test_an_untrained_decoder_makes_no_chequerboard():
    layer = KeyPatchNetwork(KeyPatchConfig(**SMALL)).image_decoder.layers[-1][0]
    layer.bias.zero_()
    flat = layer(torch.randn(1, layer.in_channels, 1, 1).expand(-1, -1, 8, 8))[..., 4:-4, 4:-4]
    assert float(flat.std((2, 3)).max()) < 1e-5 < float(flat.abs().min())
    picture = torch.randn(1, layer.in_channels, 8, 8)
    for name, evened in (("image_decoder", 2), ("mask_decoder", 2)):
        learned = [each[0] for each in getattr(network(), name).layers]
        for depth, other in enumerate(reversed(learned)):
            x = torch.randn(1, other.in_channels, 1, 1).expand(-1, -1, 8, 8)
            assert (float(other(x)[..., 4:-4, 4:-4].std((2, 3)).max()) < 1e-5) == (depth < evened)
    kernel = torch.linalg.lstsq(_box(), layer.weight.flatten(0, 1).flatten(1).T).solution.T.unflatten(1, (4, 4))
    enlarged = functional.interpolate(picture, scale_factor=2)
    wanted = functional.conv2d(
        functional.pad(enlarged, (1, 2, 1, 2)), kernel.unflatten(0, layer.weight.shape[:2]).transpose(0, 1).flip(2, 3)
    )
    torch.testing.assert_close(layer(picture)[..., 4:-4, 4:-4], wanted[..., 4:-4, 4:-4], rtol=1e-4, atol=1e-5)


def _box() -> torch.Tensor:
    """`(25, 16)`: 4x4 kernels to sums of four, as 5x5 ones."""
    each = torch.eye(16).view(16, 1, 4, 4)
    return functional.conv_transpose2d(each, torch.ones(1, 1, 2, 2)).flatten(1).T


def test_norms_are_those_asked_for():
    for norm, kind, other in (("group", nn.GroupNorm, nn.BatchNorm2d), ("batch", nn.BatchNorm2d, nn.GroupNorm)):
        config = KeyPatchConfig(norm=norm, **SMALL)
        for made in (KeyPatchNetwork(config), KeyPatchDiscriminator(config, spectral=False)):
            kinds = [type(each) for each in made.modules()]
            assert kind in kinds
            assert other not in kinds
    spectral = KeyPatchDiscriminator(KeyPatchConfig(**SMALL))
    assert not any(isinstance(each, nn.GroupNorm) for each in spectral.modules())
    with torch.no_grad():
        for _ in range(30):
            spectral(torch.rand(2, 3, 64, 64))
    norms = [torch.linalg.matrix_norm(spectral.trunk[i].weight.flatten(1), 2).item() for i in (0, 2, 4, 6)]
    assert norms == pytest.approx([1] * 4, abs=0.1)


@torch.no_grad()
def test_the_discriminator_of_the_conditional_gan_is_told_of_the_patches():
    config = KeyPatchConfig(form="conditional-gan", **SMALL)
    discriminator, image, embedding = KeyPatchDiscriminator(config).eval(), torch.rand(2, 3, 64, 64), torch.rand(2, 16)
    scores = discriminator(image, embedding)
    assert scores.shape == (2,)
    assert not torch.allclose(discriminator(image, -embedding), scores)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"resolution": 96}, "resolution 96"), ({"norm": "layer"}, "norm 'layer'"), ({"form": "x"}, "form 'x'"),
     ({"parts": 0}, "at least 1"), ({"aspect": "any"}, "aspect 'any'")],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        KeyPatchConfig(**wrong)


# ---- losses


def test_weights_of_means_are_the_papers_weights_of_sums():
    """lambda times a sum over 64 pictures, from 1e-2 to 1e-4 evenly in the logarithm."""
    random = torch.Generator().manual_seed(0)
    mask, true = torch.rand(64, 1, 64, 64, generator=random), torch.rand(64, 1, 64, 64, generator=random).round()
    made, real = torch.rand(2, 64, 3, 64, 64, generator=random)
    for share, weight in ((0.0, 1e-2), (0.5, 1e-3), (0.75, 10**-3.5), (1.0, 1e-4), (1.5, 1e-4)):
        found = decayed(share, 64)
        sums = (mask - true).abs().sum(), (made * mask - real * true).abs().sum()
        assert found.spatial * float(spatial(mask, true)) == pytest.approx(weight * float(sums[0]), rel=1e-5)
        got = found.appearance * float(appearance(made, mask, real, true))
        assert got == pytest.approx(weight * float(sums[1]), rel=1e-5)
    assert decayed(0, 64) == pytest.approx((2621.44, 7864.32))
    assert decayed(1, 64) == pytest.approx((26.2144, 78.6432))
    assert decayed(0, 128) == pytest.approx((4 * 2621.44, 4 * 7864.32))
    assert [ramped(share) for share in (0, 0.05, 0.1, 1)] == pytest.approx([0, 0.5, 1, 1])


def test_overlap_is_intersection_over_union_and_the_difference_over_the_union():
    mask, true = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8).round()
    sharp = mask.round()
    each = [1 - ((a * b).sum() / (a + b).clamp(max=1).sum()) for a, b in zip(sharp, true, strict=True)]
    assert float(overlap(sharp, true)) == pytest.approx(float(sum(each)) / 3)
    each = [(a - b).abs().sum() / torch.maximum(a, b).sum() for a, b in zip(mask, true, strict=True)]
    assert float(overlap(mask, true)) == pytest.approx(float(sum(each)) / 3, rel=1e-5)
    assert float(overlap(true, true)) == pytest.approx(0, abs=1e-6)


def test_composites_are_those_of_equation_4():
    real, made, other = (torch.full((1, 3, 4, 4), float(value)) for value in (1, 2, 3))
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    found = composites(real, made, mask) | swaps(real, other, mask)
    inside_outside = {name: (float(each[0, 0, 0, 0]), float(each[0, 0, 0, 3])) for name, each in found.items()}
    assert list(found) == [*MIXED, *SWAPPED]
    assert list(inside_outside.values()) == [(2, 1), (1, 2), (3, 1), (1, 3)]


def scores() -> dict[str, torch.Tensor]:
    return {name: torch.randn(5) for name in (REAL, MADE, *MIXED, *SWAPPED)}


def test_the_log_loss_is_equation_4():
    seen = scores()
    wanted = -functional.logsigmoid(seen[REAL]).mean()
    for name in (MADE, *MIXED, *SWAPPED):
        wanted = wanted - torch.log(1 - seen[name].sigmoid()).mean()
    assert float(discriminator_loss(seen, PAPER, "log")) == pytest.approx(float(wanted), rel=1e-5)
    fooled = sum(-functional.logsigmoid(seen[name]).mean() for name in (MADE, *MIXED))
    assert float(generator_loss(seen, PAPER, "log")) == pytest.approx(float(fooled), rel=1e-5)


def test_the_hinge_loss_weighs_photographs_as_much_as_all_else():
    seen = scores()
    told = {name: float(functional.relu(1 + seen[name]).mean()) for name in (MADE, *MIXED, *SWAPPED)}
    real = float(functional.relu(1 - seen[REAL]).mean())
    for ramp in (0.0, 0.5, 1.0):
        counted = {MADE: 1.0, **dict.fromkeys((*MIXED, *SWAPPED), 0.5 * ramp)}
        wanted = real + sum(counted[name] * told[name] for name in told) / sum(counted.values())
        assert float(discriminator_loss(seen, HINGE, "hinge", ramp)) == pytest.approx(wanted, rel=1e-5)
        fooled = -float(seen[MADE].mean()) - 0.5 * ramp * sum(float(seen[name].mean()) for name in MIXED)
        assert float(generator_loss(seen, HINGE, "hinge", ramp)) == pytest.approx(fooled, rel=1e-4, abs=1e-6)
    two = {name: seen[name] for name in (REAL, MADE)}
    assert float(discriminator_loss(two, HINGE.plain(), "hinge")) == pytest.approx(real + told[MADE], rel=1e-5)
    exposed = LossWeights(real=2, made=3, mixed=0, swapped=5)
    wanted = 2 * real + 3 * told[MADE] + 5 * sum(told[name] for name in SWAPPED)
    assert float(discriminator_loss(seen, exposed, "hinge")) == pytest.approx(wanted, rel=1e-5)


def test_what_is_pasted_over_learns_nothing():
    real, mask = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    made = torch.rand(1, 3, 4, 4, requires_grad=True)
    for name, kept in zip(MIXED, (slice(0, 2), slice(2, 4)), strict=True):
        (gradient,) = torch.autograd.grad(composites(real, made, mask)[name].sum(), made)
        wanted = torch.zeros(4, 4)
        wanted[:, kept] = 1
        assert torch.equal(gradient[0, 0], wanted)


def test_changed_pictures_are_lit_and_shifted_each_by_itself():
    image = torch.rand(1, 3, 32, 32).repeat(6, 1, 1, 1).requires_grad_(True)
    torch.manual_seed(3)
    found = changed(image)
    torch.manual_seed(3)
    assert torch.equal(changed(image), found)
    assert found.shape == image.shape
    assert len({each.detach().numpy().tobytes() for each in found}) == 6
    empty = [int(torch.all(each == 0, 0).sum()) for each in found.detach()]
    assert max(empty) <= 32 * 32 - 28 * 28
    assert max(empty) > 0
    found.sum().backward()
    assert math.isfinite(float(image.grad.abs().sum()))
    assert float(image.grad.abs().sum()) > 0
