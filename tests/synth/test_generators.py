"""Generators, their critics and what they are compared with: shapes, laws by hand, learning, export."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.synth.test_networks import LISTED, named
from zeuxis.pipelines.examples import made_example
from zeuxis.synth.compiling.casting import cast, lowered
from zeuxis.synth.features import FeaturesConfig
from zeuxis.synth.layers import n_parameters
from zeuxis.synth.region_semantics.balance import Balance
from zeuxis.synth.region_semantics.blocks import HalvingConvolution
from zeuxis.synth.region_semantics.critics import BeganCritic, WganCritic
from zeuxis.synth.region_semantics.generator import GENERATORS, GeneratorConfig, GeneratorNetwork, draw
from zeuxis.synth.region_semantics.ladder_vae import (
    BOUND,
    SHARPEST,
    Gaussian,
    LadderVae,
    divergence,
    joined,
    laplace,
)
from zeuxis.synth.region_semantics.networks import RIVALS, generator_network
from zeuxis.synth.region_semantics.pixel_vae import LEVELS, PixelVae, brightness, levels_of
from zeuxis.synth.region_semantics.shared_features import SharedNetwork
from zeuxis.synth.roi_gan.losses import gradient_penalty

WIDTH, SIDE = 1 / 16, 32

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def config_of(kind: str, side: int = SIDE) -> GeneratorConfig:
    return GeneratorConfig(kind, side, WIDTH)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, side: int = SIDE) -> torch.Tensor:
    return functional.interpolate(torch.rand(n, 3, 4, 4, generator=random(3)) * 2 - 1, (side, side), mode="bilinear")


def scattered(network: nn.Module) -> nn.Module:
    """All weights drawn, so that no part stands for nothing."""
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.2)
    return network.requires_grad_(False).eval()


# ---- generators and critics


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_picture_depends_on_its_latent_alone(kind):
    config = config_of(kind, 64)
    network = GeneratorNetwork(config).requires_grad_(False)
    z = draw(config, 5, random())
    assert z.shape == (5, {"began": 64, "wgan-gp": 128}[kind])
    made = network(z)
    assert made.shape == (5, 3, 64, 64)
    assert made.abs().max() <= 1
    assert made.std() > 0.01
    torch.testing.assert_close(network(z[2:3]), made[2:3], rtol=0, atol=1e-5)
    assert not any(isinstance(each, nn.BatchNorm2d | nn.GroupNorm) for each in network.modules())


def test_latents_are_drawn_as_the_prior_has_them():
    uniform, normal = (draw(GeneratorConfig(kind), 2000, random()) for kind in GENERATORS)
    assert uniform.abs().max() <= 1
    assert uniform.var() == pytest.approx(1 / 3, rel=0.02)
    assert (float(normal.mean()), float(normal.std())) == (pytest.approx(0, abs=0.01), pytest.approx(1, rel=0.01))
    assert torch.equal(draw("normal", 2000, random(), 128), normal)
    with pytest.raises(ValueError, match="how long"):
        draw("normal", 1, random())


def test_at_full_width_generators_are_as_large_as_the_released_ones():
    with torch.device("meta"):
        sizes = [n_parameters(GeneratorNetwork(GeneratorConfig(kind))) / 1e6 for kind in GENERATORS]
    assert sizes == [pytest.approx(2.9, abs=0.05), pytest.approx(8.5, abs=0.05)]


@pytest.mark.parametrize("critic", [BeganCritic, WganCritic])
@pytest.mark.parametrize("width", [WIDTH, 1.0])
def test_a_critic_judges_each_picture_by_itself(critic, width):
    network = critic(GeneratorConfig("began" if critic is BeganCritic else "wgan-gp", SIDE, width)).eval()
    images = pictures(3)
    with torch.no_grad():
        found = network(images)
        assert found.shape == (images.shape if critic is BeganCritic else (3,))
        torch.testing.assert_close(network(images[1:2]), found[1:2], rtol=1e-4, atol=1e-5)


def test_a_halving_convolution_is_a_convolution_and_a_mean():
    layer = HalvingConvolution(3, 5)
    x = torch.randn(2, 3, 8, 6)
    whole = functional.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), functional.avg_pool2d(whole, 2))


def test_began_keeps_its_balance_as_the_paper_says():
    balance = Balance(gamma=0.5, rate=0.1)
    # k + 0.1 (0.5 * 0.8 - 0.1) = 0.03; M = 0.8 + |0.4 - 0.1|
    assert float(balance.update(torch.tensor(0.8), torch.tensor(0.1))) == pytest.approx(1.1)
    assert float(balance.k) == pytest.approx(0.03)
    # k + 0.1 (0.5 * 0.2 - 0.3) = 0.01; M = 0.2 + |0.1 - 0.3|
    assert float(balance.update(torch.tensor(0.2), torch.tensor(0.3))) == pytest.approx(0.4)
    assert float(balance.k) == pytest.approx(0.01)
    balance.update(torch.tensor(0.0), torch.tensor(5.0))
    assert float(balance.k) == 0, "it stays in [0, 1]"
    balance.update(torch.tensor(100.0), torch.tensor(0.0))
    assert float(balance.k) == 1
    assert "k" in dict(balance.named_buffers())


def test_the_penalty_of_a_linear_critic_is_how_far_its_slope_is_from_one():
    slope = torch.randn(3, 8, 8) * 0.2
    real, fake = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    found = gradient_penalty(lambda at, _: (at * slope).sum((1, 2, 3))[:, None], real, fake, torch.ones(4, 1, 8, 8))
    assert float(found) == pytest.approx((float(slope.norm()) - 1) ** 2, rel=1e-4)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_learns_pictures_by_heart(kind):
    config = config_of(kind)
    network, z, wanted = GeneratorNetwork(config), draw(config_of(kind), 2, random()), pictures(2)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    seen = []
    for _ in range(40):
        loss = (network(z) - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.35 * seen[0]


# ---- Ladder-VAE


def test_divergence_is_that_of_many_draws():
    first = Gaussian(torch.tensor([0.5, -1.0]), torch.tensor([0.2, -0.7]))
    second = Gaussian(torch.tensor([-0.3, 0.4]), torch.tensor([-0.4, 0.6]))

    def normal(each: Gaussian) -> torch.distributions.Normal:
        return torch.distributions.Normal(each.mean, (0.5 * each.logvar).exp())

    exact = torch.distributions.kl_divergence(normal(first), normal(second))
    torch.testing.assert_close(divergence(first, second), exact)
    drawn = first.at(torch.randn(200_000, 2, generator=random()))
    estimate = (normal(first).log_prob(drawn) - normal(second).log_prob(drawn)).mean(0)
    torch.testing.assert_close(divergence(first, second), estimate, rtol=0.02, atol=0.01)


def test_joined_distributions_are_their_normalised_product():
    first, second = (
        Gaussian(torch.tensor([1.0]), torch.tensor([0.0])),
        Gaussian(torch.tensor([4.0]), torch.tensor([1.0])),
    )
    found = joined(first, second)
    x = torch.linspace(-10, 15, 20_001, dtype=torch.float64)
    density = torch.exp(-0.5 * (x - 1) ** 2 - 0.5 * (x - 4) ** 2 / math.e)
    density /= density.sum()
    mean = float((x * density).sum())
    assert float(found.mean) == pytest.approx(mean, rel=1e-4)
    assert float(found.logvar.exp()) == pytest.approx(float((density * (x - mean) ** 2).sum()), rel=1e-4)


def test_the_likelihood_of_colours_is_laplaces():
    image, middle, log_scale = pictures(2), pictures(2).flip(0), torch.tensor(-0.7)
    exact = -torch.distributions.Laplace(middle, log_scale.exp()).log_prob(image).mean()
    torch.testing.assert_close(laplace(image, middle, log_scale), exact)


def test_the_divergences_of_a_pass_are_those_of_its_distributions():
    network = scattered(LadderVae(config_of("ladder-vae")))
    image, noise = pictures(2), torch.randn(2, network.n_noise, generator=random())
    found = network(image, noise, full=True)
    said1, second = network.upwards(image)
    z2 = second.at(network.split(noise)[1])
    own = network.decoding1(z2)
    kl1 = divergence(joined(said1, own), own)
    torch.testing.assert_close(found.kl1, kl1.sum((1, 2, 3)))
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(second.mean, (0.5 * second.logvar).exp()), standard
    )
    torch.testing.assert_close(found.kl2, exact.sum(1))
    assert torch.equal(network(image, noise), found.image)
    assert said1.logvar.abs().max() < BOUND


@pytest.mark.parametrize("kind", ["ladder-vae", "vae-gan"])
def test_the_colours_of_a_pass_do_not_become_a_spike(kind):
    network = generator_network(config_of(kind)).requires_grad_(False)
    network.log_scale.fill_(2 * SHARPEST)
    assert float(network(pictures(1), torch.zeros(1, network.n_noise), full=True).log_scale) == SHARPEST


REGION = torch.zeros(SIDE, SIDE, dtype=torch.bool)
REGION[9:15, 0:8] = True  # rows 2 and 3 of the 8x8 cells, columns 0 and 1


@pytest.fixture(scope="module")
def ladder() -> LadderVae:
    torch.manual_seed(0)
    network = LadderVae(config_of("ladder-vae"))
    return scattered(network)


def test_the_dimensions_that_see_a_simple_region_keep_the_distribution_of_the_reference(ladder):
    reference = pictures(1)[0]
    second = ladder.fixed2(reference)
    assert torch.equal(second.mean, ladder.upwards(reference[None])[1].mean)
    z2 = second.at(torch.randn(5, ladder.second, generator=random()))
    kept, free = ladder.fixed1(reference, REGION, z2, True), ladder.decoding1(z2)
    said1, _ = ladder.upwards(reference[None])
    own = joined(said1, ladder.decoding1(second.mean))
    cells = torch.zeros(ladder.side, ladder.side, dtype=torch.bool)
    side = SIDE // ladder.side
    for row in range(ladder.side):
        for column in range(ladder.side):
            cells[row, column] = REGION[row * side : (row + 1) * side, column * side : (column + 1) * side].any()
    assert 0 < cells.sum() < cells.numel()
    for name in ("mean", "logvar"):
        fixed, wanted, other = getattr(kept, name), getattr(own, name), getattr(free, name)
        assert torch.equal(fixed[..., cells], wanted[..., cells].expand(5, -1, -1)), "inside that of the reference"
        assert torch.equal(fixed[..., ~cells], other[..., ~cells]), "outside the decoder's own"
        assert not torch.equal(fixed[..., cells], other[..., cells])


def test_of_a_complex_region_only_the_second_layer_is_fixed(ladder):
    reference = pictures(1)[0]
    z2 = ladder.fixed2(reference).at(torch.randn(4, ladder.second, generator=random()))
    free, own = ladder.fixed1(reference, REGION, z2, False), ladder.decoding1(z2)
    assert torch.equal(free.mean, own.mean)
    assert torch.equal(free.logvar, own.logvar)


@pytest.mark.parametrize("kind", RIVALS)
def test_pictures_that_keep_a_region_follow_seed_and_reference(kind):
    network = scattered(generator_network(config_of(kind)))
    first, second = pictures(2)
    made = network.preserving(first, REGION, 3, random(1), True)
    assert made.shape == (3, 3, SIDE, SIDE)
    assert made.abs().max() <= 1
    assert not torch.equal(made[0], made[1])
    assert torch.equal(network.preserving(first, REGION, 3, random(1), True), made)
    if kind == "pixel-vae":  # it takes a step a pixel
        return
    assert not torch.equal(network.preserving(first, REGION, 3, random(2), True), made)
    assert not torch.equal(network.preserving(second, REGION, 3, random(1), True), made)
    assert network.sample(2, random()).shape == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_learns_pictures_by_heart(kind):
    network, image = generator_network(config_of(kind)), pictures(2)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    noise, seen = torch.randn(2, network.n_noise, generator=random()), []
    for _ in range(30):
        found = network(image, noise, full=True)
        if kind == "pixel-vae":
            loss = functional.cross_entropy(found.image, levels_of(image))
        else:
            loss = (found.image - image).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.7 * seen[0]


def test_no_gradient_of_fooling_reaches_the_encoder_of_a_vae_gan():
    network = generator_network(config_of("vae-gan"))
    found = network(pictures(2), torch.randn(2, network.n_noise, generator=random()), full=True)
    found.others.square().sum().backward()
    reached = {name.partition(".")[0] for name, each in network.named_parameters() if each.grad is not None}
    assert reached == {"downwards2", "downwards1", "exit", "up", "to_image"}
    torch.testing.assert_close(found.others[:2], found.image, msg="reconstructions come first")


# ---- Pixel-VAE


@pytest.fixture(scope="module")
def pixel() -> PixelVae:
    torch.manual_seed(0)
    return scattered(PixelVae(config_of("pixel-vae")))


def test_no_pixel_knows_a_later_one_or_a_later_colour_of_its_own(pixel):
    condition = torch.randn(1, pixel.features, 8, 8, generator=random())
    image = (torch.rand(1, 3, 8, 8, generator=random(1)) * 2 - 1).requires_grad_(True)
    logits = pixel.read(image, condition)
    assert logits.shape == (1, LEVELS, 3, 8, 8)
    for row, column, colour in ((3, 4, 0), (3, 4, 1), (3, 4, 2), (0, 0, 2), (7, 7, 0)):
        (slope,) = torch.autograd.grad(logits[0, :, colour, row, column].square().sum(), image, retain_graph=True)
        known = torch.zeros(3, 8, 8, dtype=torch.bool)
        known[:, :row] = True
        known[:, row, :column] = True
        known[:colour, row, column] = True
        assert not slope[0][~known].any()
        if (row, column) == (3, 4):
            assert slope[0, :, row, column - 1].all(), "it knows the pixel to the left"
            assert slope[0, :, row - 1, column + 1].all(), "and one of the row above, right of it"
            assert slope[0, :colour, row, column].all()


def test_a_pixel_sees_five_rows_up_and_five_columns_to_either_side(pixel):
    condition = torch.randn(1, pixel.features, 15, 15, generator=random())
    image = (torch.rand(1, 3, 15, 15, generator=random(1)) * 2 - 1).requires_grad_(True)
    (slope,) = torch.autograd.grad(pixel.read(image, condition)[0, :, 0, 7, 7].square().sum(), image)
    seen = slope[0].any(0)
    known = torch.zeros(15, 15, dtype=torch.bool)
    known[2:7, 2:13] = known[7, 2:7] = True
    assert torch.equal(seen, known)


def test_pixels_drawn_one_by_one_are_those_of_the_pass_over_all(pixel):
    condition = torch.randn(2, pixel.features, 9, 11, generator=random())
    likeliest = pixel.drawn(condition, None)
    steps = levels_of(likeliest)
    assert torch.equal(brightness(steps), likeliest)
    agree = (pixel.read(likeliest, condition).argmax(1) == steps).float().mean()
    assert agree > 0.999, "what is kept between steps changes nothing"
    assert len(steps.unique()) > 3


def test_pixels_follow_the_chances_that_the_network_gives():
    network = scattered(PixelVae(config_of("pixel-vae")))
    for layer in network.logits:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, -20.0)
        layer.bias[3], layer.bias[20] = 0.0, math.log(3)
    steps = levels_of(network.drawn(torch.zeros(4, network.features, 16, 16), random()))
    assert set(steps.unique().tolist()) == {3, 20}
    assert (steps == 20).float().mean() == pytest.approx(0.75, abs=0.03)


# ---- compiled

KINDS = [*GENERATORS, "ladder-vae", "pixel-vae", "domains"]  # the pass of a VAE-GAN is that of a Ladder-VAE


def network_of(kind: str) -> tuple[str, nn.Module, dict[str, object]]:
    if kind == "domains":
        return "domains", scattered(SharedNetwork(FeaturesConfig(WIDTH, normalise=True))), {}
    config = config_of(kind)
    return "generator", scattered(generator_network(config)), {"kind": kind, "resolution": SIDE, "width": WIDTH}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_computes_in_half_precision_where_it_is_cast(kind):
    name, network, config = network_of(kind)
    inputs = tuple(each[:2] for each in made_example(name, 0, (SIDE, SIDE), config).inputs)
    half, _ = lowered(network, inputs, "bfloat16")
    with torch.no_grad():
        found, expected = cast(half, "bfloat16")(*inputs), network(*inputs)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_network_answers_alike_with_known_operators(kind):
    """Of Pixel-VAE the pass over all pixels: drawing them one after the other is a loop that is no graph."""
    name, network, config = network_of(kind)
    example = made_example(name, 0, (SIDE, SIDE), config)
    inputs = tuple(each[:2] for each in example.inputs)
    program = torch.export.export(network, inputs)
    torch.testing.assert_close(program.module()(*inputs), network(*inputs))
    table = torch.export.default_decompositions()
    for operator in [operator for operator in table if named(operator) in LISTED]:
        del table[operator]
    graph = program.run_decompositions(table).graph
    used = {named(node.target) for node in graph.nodes if node.op == "call_function"}
    assert used - LISTED == set()
