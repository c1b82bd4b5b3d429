"""RoI-GAN: regions as the thesis draws them, the generator's parts, the losses against plain computations, GLCIC."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zeuxis.storage.errors import InputError
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.glcic import GlcicConfig, GlcicDiscriminator, GlcicNetwork, windows
from zeuxis.synth.inpainting.membrane import corrected
from zeuxis.synth.layers import n_parameters
from zeuxis.synth.losses import hinge_discriminator
from zeuxis.synth.roi_gan import losses
from zeuxis.synth.roi_gan.augment import augmented
from zeuxis.synth.roi_gan.blocks import Denormalisation, FourierBlock, GatedConvolution, UpsampleBlock, wrap_of
from zeuxis.synth.roi_gan.discriminator import Reading, RoiDiscriminator, SliderHead
from zeuxis.synth.roi_gan.generator import PUBLISHED_CATEGORIES, RoiConfig, RoiGenerator, completed
from zeuxis.synth.roi_gan.regions import KINDS, from_box, from_mask, sample_region

PLAIN = wrap_of(False, False)
SMALL = RoiConfig(64, 1 / 8, noise=6, sliders=3)


pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def given(config: RoiConfig, n: int = 2) -> tuple[torch.Tensor, ...]:
    side = config.resolution
    region = torch.zeros(n, 1, side, side)
    region[..., side // 4 : side // 2 + 8, side // 3 : side // 2 + 8] = 1  # the nearest pixel of some coarse cell
    sliders = torch.rand(n, config.n_sliders) * 2 - 1
    return torch.rand(n, 3, side, side) * 2 - 1, region, torch.randn(n, config.noise), sliders


# ---- regions


def drawn(kind, n, size=(40, 60), seed=0):
    random = np.random.default_rng(seed)
    return np.stack([sample_region(kind, size, random) for _ in range(n)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (3, 2)])
def test_a_region_is_never_empty_and_never_everything(kind, size):
    regions = drawn(kind, 60, size)
    assert regions.dtype == bool
    assert regions.shape == (60, *size)
    assert regions.any((1, 2)).all()
    assert not regions.all((1, 2)).any()
    assert (drawn(kind, 60, size) == regions).all(), "equal seeds, equal regions"
    assert len({region.tobytes() for region in regions}) > 4


def test_corners_of_rectangles_are_uniform():
    regions = drawn("rectangle", 3000)
    for axis, side in ((2, 40), (1, 60)):
        covered = regions.any(axis)
        first, last = covered.argmax(1), side - covered[:, ::-1].argmax(1)
        assert (last - first).mean() == pytest.approx((side + 2) / 3, rel=0.04)  # of two of 0 to side that differ
        assert (first + last).mean() / 2 == pytest.approx(side / 2, rel=0.03)
        assert first.min() == 0
        assert last.max() == side


def test_ellipses_have_the_moments_of_the_thesis():
    """The area within half the maximum is 2 pi log 2 times the square root of the covariance's determinant."""
    size, n = (80, 120), 1500
    regions = drawn("ellipse", n, size)
    inner = ~(regions[:, [0, -1]].any((1, 2)) | regions[:, :, [0, -1]].any((1, 2)))
    assert inner.mean() > 0.5
    rows, cols = np.mgrid[: size[0], : size[1]] + 0.5
    count = regions.sum((1, 2))
    middle = np.stack([(regions * each).sum((1, 2)) / count for each in (rows, cols)], 1)[inner]
    np.testing.assert_allclose(middle.mean(0), (40, 60), atol=1.5)
    # a mean's variance is its side (those near the border are not among them, which takes a little)
    assert np.all(middle.var(0) < np.array(size) * 1.1)
    assert np.all(middle.var(0) > np.array(size) * 0.6)
    random = np.random.default_rng(1)
    rho = random.uniform(-0.8, 0.8, 200_000)
    sigmas = [random.uniform(side / 5, side / 3, 200_000) for side in size]
    wanted = 2 * np.pi * np.log(2) * sigmas[0] * sigmas[1] * np.sqrt(1 - rho * rho)
    small = wanted < np.quantile(wanted, 0.4)  # few of these are cut by the border
    found = np.sort(count)[: int(0.4 * n)]
    assert found.mean() == pytest.approx(wanted[small].mean(), rel=0.04)


def test_level_sets_are_no_ellipses_and_smaller():
    sets, ellipses = drawn("level-set", 150, (64, 64)), drawn("ellipse", 150, (64, 64))
    assert sets.mean() < 0.6 * ellipses.mean()
    assert 0.08 < sets.mean() < 0.16
    import cv2

    def hollow(region):  # share of its convex hull that it leaves
        points = np.argwhere(region)[:, ::-1].astype(np.int32)
        hull = cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), cv2.convexHull(points), 1)
        return 1 - region.sum() / hull.sum()

    assert np.mean([hollow(each) for each in ellipses]) < 0.03
    assert np.mean([hollow(each) for each in sets]) > 0.05


def test_mixed_regions_are_a_third_of_each_kind():
    regions = drawn("mixed", 600, (32, 32))
    boxes = [region[np.ix_(region.any(1), region.any(0))].all() for region in regions]
    assert np.mean(boxes) == pytest.approx(1 / 3, abs=0.06)


def test_regions_come_from_what_users_have():
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3] = 255
    assert (from_mask(mask) == (mask > 0)).all()
    assert from_mask(mask, (12, 16)).sum() == 8
    box = from_box((1, 2, 4, 8), (6, 8))
    assert box.sum() == 18
    assert box[1:4, 2:8].all()
    for bad, said in (
        (lambda: from_mask(np.zeros((4, 4))), "region: expected some of the 4x4 pixels inside and some .*none inside"),
        (lambda: from_mask(np.ones((4, 4))), "all of them inside"),
        (lambda: from_mask(np.ones((4, 4, 3))), "expected a mask of rows and columns, found 3 dimensions"),
        (lambda: from_mask(mask, (2, 2)), "none inside"),
        (lambda: from_box((0, 0, 7, 8), (6, 8)), "box: expected top,left,bottom,right inside 6x8 .*found 0,0,7,8"),
        (lambda: from_box((2, 2, 2, 4), (6, 8)), "box: expected"),
        (lambda: from_box((0, 0, 6, 8), (6, 8)), "box: .*all of them inside"),
    ):
        with pytest.raises(InputError, match=said):
            bad()
    with pytest.raises(ValueError, match="round region"):
        sample_region("round", (8, 8), np.random.default_rng(0))


# ---- the parts of the generator


def normal(x: np.ndarray) -> np.ndarray:
    return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)


def convolved(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """A 3x3 convolution with a border of zeros, from its definition."""
    weight, bias = layer.weight.detach().numpy().astype(float), layer.bias.detach().numpy().astype(float)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, cols = x.shape[2:]
    windows = np.stack([padded[:, :, i : i + rows, j : j + cols] for i in range(3) for j in range(3)], 2)
    return np.einsum("nckhw,ock->nohw", windows, weight.reshape(*weight.shape[:2], 9)) + bias[:, None, None]


@pytest.mark.parametrize("style", [0, 5])
def test_denormalisation_is_equation_3_8(style):
    layer = Denormalisation(4, 6, style, PLAIN)
    x, region, z = torch.randn(2, 4, 7, 9) * 3 + 1, (torch.rand(2, 1, 7, 9) > 0.5).float(), torch.randn(2, 5)
    found = layer(x, region, z if style else None).detach().numpy()
    leaky = lambda each: np.where(each > 0, each, 0.2 * each)  # noqa: E731
    hidden = leaky(convolved(region.numpy().astype(float), layer.read))
    if style:
        a, b = z.numpy() @ layer.modulate.weight.detach().numpy().T + layer.modulate.bias.detach().numpy(), None
        a, b = a[:, :6, None, None], a[:, 6:, None, None]
        hidden = (1 + a) * hidden + b
    both = leaky(convolved(hidden, layer.gamma_beta))
    wanted = (1 + both[:, :4]) * normal(x.numpy().astype(float)) + both[:, 4:]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_gates_weigh_features_in_both_orders():
    for published in (False, True):
        layer = GatedConvolution(3, 4, PLAIN, published=published)
        x = torch.randn(2, 3, 8, 8)
        features, gates = layer.features(x), torch.sigmoid(layer.gates(x))
        if published:
            wanted = functional.instance_norm(functional.leaky_relu(features, 0.2) * gates)
        else:
            wanted = functional.leaky_relu(functional.instance_norm(features * gates), 0.2)
        assert torch.equal(layer(x), wanted)
        assert layer(x).shape == (2, 4, 4, 4)
    bright = GatedConvolution(3, 4, PLAIN, normalise=False)
    assert not torch.allclose(bright(x), bright(x + 2), atol=1e-2), "what is not normalised keeps the light"


def test_a_small_region_is_not_lost_at_coarse_levels_but_in_the_published_code():
    z, x = torch.randn(1, 5), torch.randn(1, 8, 4, 4)
    region = torch.zeros(1, 1, 64, 64)
    region[..., 20:24, 20:24] = 1
    for published in (False, True):
        block = UpsampleBlock(8, 6, 4, 5, PLAIN, published)
        block.denormalise = OnlyFeatures()
        assert torch.equal(block(x, region, z), block(x, 0 * region, z)) == published


class OnlyFeatures(nn.Module):
    def forward(self, x, region, style):
        return x


@pytest.mark.parametrize("published", [False, True])
def test_an_upsample_block_doubles_the_size_and_reads_the_region(published):
    block = UpsampleBlock(8, 6, 4, 5, PLAIN, published)
    x, z = torch.randn(2, 8, 8, 8), torch.randn(2, 5)
    region = (torch.rand(2, 1, 32, 32) > 0.5).float()
    found = block(x, region, z)
    assert found.shape == (2, 6, 16, 16)
    assert not torch.allclose(found, block(x, 1 - region, z), atol=1e-3)
    assert not torch.allclose(found, block(x, region, -z), atol=1e-3)


def dead(generator: nn.Module, config: RoiConfig) -> int:
    """Parameters that nothing comes back to."""
    raw, mean, logvar = generator(*given(config), styled=True)
    (raw.square().mean() + mean.mean() + logvar.mean()).backward()
    return sum(each.numel() for each in generator.parameters() if each.grad is None or not each.grad.any())


def test_both_branches_learn_and_the_published_code_has_dead_halves():
    generator = RoiGenerator(SMALL)
    assert dead(generator, SMALL) == 0
    for block in generator.decoder:
        for branch in (block.inside, block.outside):
            assert all(each.grad.abs().sum() > 0 for each in branch.parameters())
    config = RoiConfig(64, 1.0, published=True, categories=PUBLISHED_CATEGORIES)
    published = RoiGenerator(config)
    lost = sum(
        n_parameters(each) for block in published.decoder for each in (block.outside, block.never)
    )  # the released code has 6.53 million, of which about 3.0 million are dead
    assert lost == dead(published, config) == 3_059_848
    assert n_parameters(published) == pytest.approx(6.53e6, rel=0.02)
    assert config.noise + config.n_sliders == 256


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_every_resolution_has_its_levels(resolution):
    config = RoiConfig(resolution, 1 / 16, noise=4, sliders=2, categories=(3,))
    with torch.no_grad():
        raw, mean, logvar = RoiGenerator(config).eval()(*given(config, 1), styled=True)
        scores, features = RoiDiscriminator(config)(*given(config, 1)[:2])
    assert raw.shape == (1, 3, resolution, resolution)
    assert raw.abs().max() <= 1
    assert mean.shape == logvar.shape
    assert scores.shape == (1, 26)
    assert features[-1].shape[2:] == (7, 7)
    with pytest.raises(ValueError, match="resolution 96 instead of one of 64, 128, 256"):
        RoiConfig(96)


def test_what_is_inside_the_region_is_not_seen_and_what_is_outside_is_not_touched():
    generator = RoiGenerator(SMALL).eval()
    image, region, z, sliders = given(SMALL)
    with torch.no_grad():
        raw = generator(image, region, z, sliders)
        assert torch.equal(generator(image * (1 - region) - region, region, z, sliders), raw)
        assert not torch.allclose(generator(-image, region, z, sliders), raw, atol=1e-3)
    image[0, 0, 0, 0] = math.pi / 4 - 1e-7
    done = completed(image, region, raw)
    outside = (region == 0).expand_as(image)
    assert torch.equal(done[outside], image[outside])
    assert torch.equal(done[~outside], raw[~outside])


def test_a_correction_is_part_of_the_network_and_none_by_default():
    plain = RoiGenerator(SMALL).eval()
    joined = RoiGenerator(replace(SMALL, blend=1 / 8)).eval()
    joined.load_state_dict(plain.state_dict())
    image, region, z, sliders = given(SMALL)
    with torch.no_grad():
        raw, found = plain(image, region, z, sliders), joined(image, region, z, sliders)
        assert torch.equal(found, corrected(image, region, raw, 64 / 8))
        assert torch.equal(found, joined(image, region, z, sliders, styled=True)[0])
        assert not torch.allclose(found, raw, atol=1e-2)
        assert torch.equal(joined(image * (1 - region) - region, region, z, sliders), found), "the inside is not seen"
        rival, other = (GlcicNetwork(GlcicConfig(64, 1 / 16, blend)).eval() for blend in (0.0, 1 / 4))
        other.load_state_dict(rival.state_dict())
        raw = rival(image, region, z, sliders)
        assert torch.equal(other(image, region, z, sliders), corrected(image, region, raw, 64 / 4))
    assert (RoiConfig().blend, GlcicConfig().blend) == (0, 0)
    with pytest.raises(ValueError, match="expected 0 or a length"):
        RoiConfig(blend=-1.0)


@pytest.mark.parametrize("what", ["z", "sliders", "categories"])
def test_noise_and_sliders_change_the_picture(what):
    config = RoiConfig(64, 1 / 8, noise=6, sliders=3, categories=(4,) if what == "categories" else ())
    generator = RoiGenerator(config).eval()
    image, region, z, sliders = given(config)
    other = {"z": (-z, sliders), "sliders": (z, -sliders), "categories": (z, sliders.roll(1, 1))}[what]
    with torch.no_grad():
        apart = (generator(image, region, z, sliders) - generator(image, region, *other)).abs().mean()
    assert apart > 1e-2


def test_sliders_reach_the_blocks_past_the_dense_layers_but_in_the_published_code():
    for published in (False, True):
        config = RoiConfig(64, 1 / 8, noise=6, sliders=3, published=published)
        generator = RoiGenerator(config).eval()
        nn.init.zeros_(generator.dense[0][0].weight)
        image, region, z, sliders = given(config)
        with torch.no_grad():
            same = torch.equal(generator(image, region, z, sliders), generator(image, region, z, -sliders))
        assert same == published


def test_options_of_the_layers():
    image, region, z, sliders = given(SMALL)
    block = FourierBlock(4, PLAIN)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x), "begins as the identity"
    nn.init.ones_(block.out.weight)
    near, far = x.clone(), x.clone()
    near[0, 0, 0, 0] += 1
    assert ((block(near) - block(far))[0].abs().sum(0) > 1e-6).all(), "one pixel reaches all others"
    for option in ("fourier", "spectral", "equalised"):
        config = RoiConfig(64, 1 / 8, noise=6, sliders=3, **{option: True})
        assert RoiGenerator(config)(image, region, z, sliders).shape == image.shape
    equal = RoiGenerator(RoiConfig(64, 1 / 8, equalised=True)).to_mean
    held, used = equal.parametrizations.weight.original.detach(), equal.weight.detach()
    torch.testing.assert_close(used, held * math.sqrt(2 / held.shape[1]))  # equation 3.20
    assert held.std() == pytest.approx(1, abs=0.05)
    spectral = RoiGenerator(RoiConfig(64, 1 / 8, spectral=True)).to_mean.eval()
    assert torch.linalg.matrix_norm(spectral.weight.detach(), 2) == pytest.approx(1, abs=0.3)
    with pytest.raises(ValueError, match="leaves nothing"):
        RoiGenerator(RoiConfig(64, 1 / 8, spectral=True, equalised=True))


def test_the_discriminator_is_that_of_the_code():
    config = RoiConfig(published=True, categories=PUBLISHED_CATEGORIES)
    with torch.device("meta"):
        discriminator = RoiDiscriminator(config)
        head = SliderHead(config, discriminator.levels)
    assert n_parameters(discriminator) + n_parameters(head) == pytest.approx(6.05e6, rel=0.03)
    given = [torch.zeros(2, channels, 64, 64, device="meta") for channels in (3, 1)]
    features = discriminator(*given).features
    assert [each.shape[1:] for each in features] == [
        (64, 32, 32), (128, 16, 16), (256, 13, 13), (512, 10, 10), (256, 7, 7),
    ]  # fmt: skip
    reading = head(*given, features)
    assert reading.mean.shape == reading.logvar.shape == (2, 10)
    assert [each.shape for each in reading.logits] == [(2, 10)] * 10


def test_the_head_reads_means_over_the_region_and_the_published_one_the_last_cells():
    image, region = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    region[:, :, 4:8, 5:9] = 1
    features = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 5, 5)]
    head, seen = SliderHead(RoiConfig(64, 1 / 8, sliders=2), (4, 8)), []
    head.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(image, region, features)
    torch.testing.assert_close(seen[0][:, :3], image[..., 4:8, 5:9].mean((2, 3)))
    share = functional.adaptive_avg_pool2d(region, 8)
    torch.testing.assert_close(seen[0][:, 3:7], (features[0] * share).sum((2, 3)) / share.sum((2, 3)))
    share = functional.avg_pool2d(share, 4, 1)
    torch.testing.assert_close(seen[0][:, 7:], (features[1] * share).sum((2, 3)) / share.sum((2, 3)))
    assert seen[0].shape == (2, 3 + 4 + 8)
    features[1] = torch.rand(2, 8, 7, 7)
    published = SliderHead(RoiConfig(64, 1 / 8, sliders=2, published=True), (4, 8))
    reading = published(image, region, features)
    assert torch.equal(published(-image, 1 - region, [-features[0], features[1]]).mean, reading.mean)
    assert not torch.allclose(published(image, region, [features[0], -features[1]]).mean, reading.mean)


# ---- losses


def linear(x: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Scores of which the slope is known: 3 at each pixel of the first column, 0 elsewhere."""
    one = 3 * x[..., 0].sum((1, 2))
    return torch.stack([one, one], 1)


def test_the_gradient_penalty_looks_at_one_side_of_the_region():
    x = torch.randn(2, 3, 4, 5)
    region = torch.zeros(2, 1, 4, 5)
    region[0, :, :2, :2] = 1  # two pixels of the first column; of the second picture none
    norm = torch.tensor([math.sqrt(3 * 2 * 9), 0.0]), torch.tensor([math.sqrt(3 * 2 * 9), math.sqrt(3 * 4 * 9)])
    for kind, norms in (("inside", norm[0]), ("outside", norm[1])):
        found = losses.gradient_penalty(linear, x, -x, region, kind)
        assert found.item() == pytest.approx(((norms - 1) ** 2).mean().item(), rel=1e-5)
    found = losses.gradient_penalty(linear, x, -x, region, "r1")
    assert found.item() == pytest.approx((norm[0] ** 2).mean().item(), rel=1e-5)


def test_the_gradient_penalty_is_taken_between_the_pictures_and_teaches_the_discriminator():
    seen = []
    discriminator = RoiDiscriminator(RoiConfig(64, 1 / 16))
    image, region, *_ = given(SMALL)

    def score(at, where):
        seen.append(at)
        return discriminator(at, where).scores

    losses.gradient_penalty(score, image, -image, region).backward()
    share = ((seen[0] + image) / (2 * image))[:, 0, 0, 0]  # at = alpha x - (1 - alpha) x
    assert ((share > 0) & (share < 1)).all()
    assert share[0] != share[1]
    torch.testing.assert_close(seen[0], (2 * share[:, None, None, None] - 1) * image, rtol=1e-3, atol=1e-4)
    assert all(each.parametrizations.weight.original.grad.any() for each in discriminator.trunk)
    losses.gradient_penalty(score, image, -image, region, "r1")
    assert torch.equal(seen[-1], image)


def test_feature_matching_is_over_the_whole_batch_unless_it_is_published():
    real, fake = ([torch.zeros(2, 3, 2, 2), torch.ones(2, 1, 1, 1)] for _ in range(2))
    fake[0][0] = 0.5
    fake[0][1] = -1.5
    fake[1] = fake[1] * 3
    real = [each.requires_grad_() for each in real]
    fake = [each.requires_grad_() for each in fake]
    loss = losses.feature_matching(real, fake)
    assert loss.item() == pytest.approx((0.5 + 1.5) / 2 + 2)
    assert losses.feature_matching(real, fake, first_alone=True).item() == pytest.approx(0.5 + 2)
    loss.backward()
    assert all(each.grad is None for each in real)
    assert all(each.grad.abs().sum() > 0 for each in fake)


def test_the_perceptual_loss_weighs_layers_and_sums_over_pictures():
    features = Features(FeaturesConfig(1 / 16)).requires_grad_(False)
    target, first, second = (torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(3))
    assert losses.perceptual(features, torch.cat([target, target]), target).item() == 0
    wanted = 0.0
    names = ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]
    for name, weight in zip(names, (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), strict=True):
        real = features(target, [name])[name]
        for each in (first, second):
            wanted += weight * float((features(each, [name])[name] - real).abs().mean() / real.mean())
    found = losses.perceptual(features, torch.cat([first, second]), target)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    assert list(losses.EVEN) == names
    assert sum(losses.EVEN.values()) == pytest.approx(1 + 15 / 32), "as much in all as the code's"
    assert set(losses.EVEN.values()) == {losses.EVEN["conv1_1"]}


def test_sliders_are_read_by_their_likelihood():
    mean, logvar = torch.tensor([[0.5, -1.0], [0.0, 0.2]]), torch.tensor([[0.0, 1.0], [-2.0, 0.3]])
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
    said = torch.tensor([[0.1, 0.7, 0, 1, 0], [-0.3, 0.2, 1, 0, 0]])
    normals = torch.distributions.Normal(mean, (logvar / 2).exp())
    wanted = -normals.log_prob(said[:, :2]).sum(1).mean() + functional.cross_entropy(logits, torch.tensor([1, 0]))
    assert losses.slider_loss(Reading(mean, logvar, (logits,)), said).item() == pytest.approx(wanted.item(), rel=1e-5)
    sure = losses.slider_loss(Reading(said[:, :2], torch.full((2, 2), -99.0), ()), said[:, :2])
    assert sure.item() == pytest.approx(math.log(2 * math.pi) + losses.NARROWEST), "no Gaussian becomes a spike"


def test_the_other_losses_by_hand():
    mean, logvar = torch.randn(4, 3), torch.randn(4, 3)
    normals = torch.distributions.Normal(mean, (logvar / 2).exp())
    wanted = torch.distributions.kl_divergence(normals, torch.distributions.Normal(0.0, 1.0)).mean()
    assert losses.style_loss(mean, logvar).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert losses.centring(torch.tensor([[1.0, -2.0], [0.0, 3.0]])).item() == 14 / 4
    image = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)  # 1 to the right, 4 below
    region = torch.zeros(1, 1, 3, 4)
    region[..., 0, 0] = region[..., 2, 3] = region[..., 0, 3] = 1  # both neighbours, none, the one below
    assert losses.total_variation(image, region).item() == pytest.approx((1 + 4 + 0 + 4) / 3)
    weights = losses.LossWeights()
    found = (weights.perceptual, weights.matching, weights.variation, weights.penalty, weights.centring)
    assert (*found, weights.information) == (5, 1, 0.5, 5, 1e-4, 0.5)


def test_augmentation_changes_both_alike_and_passes_gradients():
    image, region, *_ = given(SMALL)
    image = image.requires_grad_()
    first, second, where = augmented(image, image, region)
    assert torch.equal(first, second)
    assert not torch.allclose(first, image, atol=0.1)
    assert set(where.unique().tolist()) == {0.0, 1.0}
    assert where.sum() == region.sum()
    first.sum().backward()
    assert image.grad.abs().sum() > 0
    assert not where.requires_grad
    flat = torch.full((64, 3, 8, 8), 0.25)
    moved, _, mask = augmented(flat, flat, torch.ones(64, 1, 8, 8))
    assert 0 < (mask == 0).float().mean() < 0.4, "what is shifted in is outside"
    assert (moved * (1 - mask)).abs().max() == 0


# ---- GLCIC


def test_windows_are_about_the_middle_of_the_region_and_inside_the_picture():
    image = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(3, 1, 1, 1)
    region = torch.zeros(3, 1, 8, 8)
    region[0, :, 3:5, 3:5] = 1
    region[1, :, 0, 0] = 1
    region[2, :, 7, 5:8] = 1
    found = windows(image, region)
    assert found[:, 0, 0, 0].tolist() == [2 * 8 + 2, 0, 4 * 8 + 4]
    assert found.shape == (3, 1, 4, 4)


def test_glcic_completes_in_one_way_and_its_discriminator_looks_at_both():
    config = GlcicConfig(64, 1 / 8)
    network, discriminator = GlcicNetwork(config).eval(), GlcicDiscriminator(config)
    image, region, z, sliders = given(SMALL)
    with torch.no_grad():
        raw = network(image, region, z, sliders)
        assert torch.equal(network(image * (1 - region), region, -z, -sliders), raw)
        assert raw.shape == image.shape
    scores = discriminator(image, region)
    assert scores.shape == (2, 1)
    scores.sum().backward()
    assert all(each.grad.any() for each in discriminator.parameters())
    with torch.device("meta"):
        assert n_parameters(GlcicNetwork(GlcicConfig())) == pytest.approx(6.07e6, rel=0.01)


def test_the_discriminator_learns_a_batch():
    discriminator = RoiDiscriminator(RoiConfig(64, 1 / 16))
    image, region, *_ = given(SMALL)
    optimiser = torch.optim.Adam(discriminator.parameters(), 3e-3)
    seen = []
    for _ in range(15):
        loss = hinge_discriminator(discriminator(image, region).scores, discriminator(-image, region).scores)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    assert seen[-1] < 0.6 * seen[0]
