"""RoI-GAN that copies and tints: where it begins, what sliders do, what the head reads, what was there before."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zeuxis.synth.checkpoint import Card, load_checkpoint, save_checkpoint
from zeuxis.synth.inpainting.directions import FILLS, depth, fills, nearest_known, textures
from zeuxis.synth.inpainting.membrane import corrected
from zeuxis.synth.roi_gan.discriminator import RoiDiscriminator, SliderHead
from zeuxis.synth.roi_gan.generator import RoiConfig, RoiGenerator
from zeuxis.synth.roi_gan.regions import sample_region
from zeuxis.synth.roi_gan.tints import CONTRAST, FADE, LEVELS, PATTERNS, Tints, apart, moments, patterns

WHOLE = RoiConfig(64, 1 / 8, noise=6, sliders=10, blend=1 / 8, copies=True, tints=True, textures=True)
COPIES = replace(WHOLE, blend=0.0, tints=False)

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def given(config: RoiConfig, n: int = 3) -> tuple[torch.Tensor, ...]:
    """Smooth pictures, a region of each kind, noise, sliders."""
    random = np.random.default_rng(0)
    regions = [sample_region(kind, (64, 64), random) for kind in ("ellipse", "rectangle", "level-set")[:n]]
    image = functional.interpolate(torch.rand(n, 3, 6, 6) - 0.5, 64, mode="bicubic")
    region = torch.from_numpy(np.stack(regions))[:, None].float()
    return image, region, torch.randn(n, config.noise), torch.rand(n, config.n_sliders) * 2 - 1


def test_the_first_picture_is_the_mean_of_the_copies_and_mostly_that_of_the_nearest():
    image, region, z, sliders = given(COPIES)
    with torch.no_grad():
        raw = RoiGenerator(COPIES).eval()(image, region, z, sliders)
    copies = fills(image, region, nearest_known(image, region))
    weights = torch.tensor([3.0 * (name == "nearest") for name in FILLS]).softmax(0)
    torch.testing.assert_close(raw, sum(w * each for w, each in zip(weights, copies, strict=True)))
    assert weights[FILLS.index("nearest")] > 0.7


def test_grain_adds_mirrored_details_in_evaluation_alone_and_less_towards_the_border():
    generator, with_grain = (stirred(RoiGenerator(replace(COPIES, grain=each))).eval() for each in (0.0, 0.5))
    with_grain.load_state_dict(generator.state_dict())
    image, region, z, sliders = given(COPIES)
    image = image / 2 + torch.rand_like(image) / 4  # so that nothing is clipped
    with torch.no_grad():
        plain, grained = (each(image, region, z, sliders) for each in (generator, with_grain))
        learning = with_grain.train()(image, region, z, sliders)
        torch.testing.assert_close(learning, generator.train()(image, region, z, sliders))
    found = nearest_known(image, region)
    share = 0.5 * (depth(found) / FADE).clamp(max=1) * region
    wanted = plain + share * sum(textures(image, region, found))
    torch.testing.assert_close(grained, wanted.clamp(-1, 1))
    assert torch.equal(grained[(region == 0).expand_as(image)], plain[(region == 0).expand_as(image)])
    beside = ((depth(found) == 1) & (region > 0)).expand_as(image)
    assert (grained - plain)[beside].abs().mean() < (grained - plain)[(depth(found) > 3).expand_as(image)].abs().mean()


@pytest.mark.parametrize(("grain", "textured"), [(-0.1, True), (1.1, True), (float("nan"), True), (0.5, False)])
def test_other_grain_is_refused(grain: float, textured: bool):
    with pytest.raises(ValueError, match="grain"):
        replace(WHOLE, grain=grain, textures=textured)


def test_outside_the_region_the_raw_picture_is_the_photograph_itself():
    generator = stirred(RoiGenerator(WHOLE)).eval()
    image, region, z, sliders = given(WHOLE)
    image[0, 0, 0, 0] = 0.1234567
    outside = (region == 0).expand_as(image)
    with torch.no_grad():
        raw = generator(image, region, z, sliders)
        seen = generator(torch.where(region > 0, 0.9, image), region, z, sliders)
    assert torch.equal(raw[outside], image[outside])
    assert torch.equal(seen, raw), "nothing inside the region is seen"
    assert (raw[~outside] != image[~outside]).float().mean() > 0.99
    assert raw.abs().max() <= 1


def test_noise_moves_the_weights_and_what_is_added_once_they_are_learned():
    image, region, z, sliders = given(WHOLE)
    for layer in ("weigh", "add", "roughen"):
        generator = RoiGenerator(replace(COPIES)).eval()
        with torch.no_grad():
            assert torch.equal(generator(image, region, z, sliders), generator(image, region, -z, sliders))
            nn.init.normal_(getattr(generator.to_image, layer).weight, std=0.1)
            moved = (generator(image, region, z, sliders) - generator(image, region, -z, sliders)).abs()
        assert moved.sum() > 0.1
        assert (moved * (1 - region)).sum() == 0


def test_choices_reach_the_blocks_past_the_dense_layers():
    config = replace(WHOLE, sliders=2, categories=(4,))
    generator = stirred(RoiGenerator(config)).eval()
    nn.init.zeros_(generator.dense[0][0].weight)
    image, region, z, sliders = given(config)
    with torch.no_grad():
        made = generator(image, region, z, sliders)
        chosen = generator(image, region, z, torch.cat([sliders[:, :2], sliders[:, 2:].roll(1, 1)], 1))
        tinted = generator(image, region, z, torch.cat([-sliders[:, :2], sliders[:, 2:]], 1))
    for other in (chosen, tinted):
        assert (made - other).abs().max() > 1e-3


def stirred(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for each in network.parameters():
            each.add_(0.05 * torch.randn_like(each))
    return network


def test_every_parameter_has_a_part_in_the_picture():
    generator = stirred(RoiGenerator(WHOLE))
    generator(*given(WHOLE)).square().mean().backward()
    assert all(each.grad is not None and each.grad.any() for each in generator.parameters())


# ---- sliders


def test_at_first_each_slider_changes_the_inside_monotonically_by_its_own_pattern():
    generator = RoiGenerator(WHOLE).eval()
    image, region, z, _ = given(WHOLE)
    image = image * 0.6
    outside = (region == 0).expand_as(image)
    deep = depth(nearest_known(image, region)).clamp(max=FADE) / FADE
    with torch.no_grad():
        made = torch.stack([
            torch.stack([generator(image, region, z, setting(slider, value)) for value in (-1.0, -0.5, 0.0, 0.5, 1.0)])
            for slider in range(10)
        ])  # fmt: skip
    assert (made[..., :] == made[:, :1])[:, :, outside].all()
    for slider in range(10):
        steps = made[slider].diff(dim=0)
        high = made[slider, -1] - made[slider, 0]
        for step in steps:
            assert (step * high >= -1e-6).all(), "from step to step each pixel goes one way"
        found = (high / 2)[~outside]
        assert found.abs().max() > 3 / 127.5
    for slider, colour in ((0, [1, 1, 1]), (1, [1.5**0.5, 0, -(1.5**0.5)]), (2, [0.5**0.5, -(2**0.5), 0.5**0.5])):
        high = (made[slider, -1] - made[slider, 2]) / LEVELS
        wanted = deep * torch.tensor(colour)[None, :, None, None] * region
        torch.testing.assert_close(high, wanted, atol=1e-4, rtol=1e-3)
    base = made[9, 2]
    contrast = made[9, -1] - base
    torch.testing.assert_close(contrast, deep * region * CONTRAST * apart(base, region), atol=1e-5, rtol=1e-3)


def setting(slider: int, value: float, n: int = 3) -> torch.Tensor:
    found = torch.zeros(n, 10)
    found[:, slider] = value
    return found


def test_what_sliders_add_is_put_on_after_the_border_was_corrected_and_ends_at_it():
    image, region, z, sliders = given(WHOLE)
    generator, bare = RoiGenerator(WHOLE).eval(), RoiGenerator(replace(WHOLE, tints=False, sliders=0)).eval()
    with torch.no_grad():
        still = generator(image, region, z, 0 * sliders)
        corrected_alone = bare(image, region, z, sliders[:, :0])
        copied = RoiGenerator(replace(WHOLE, blend=0.0)).eval()(image, region, z, 0 * sliders)
        torch.testing.assert_close(still, corrected(image, region, copied, 8.0))
        torch.testing.assert_close(still, corrected_alone)
        changed = (generator(image, region, z, setting(0, 1.0)) - still)[:, 0] / LEVELS
    deep = depth(nearest_known(image, region))[:, 0]
    for steps in (1, 2, 3, 4, 9):
        at = deep == steps
        assert at.any()
        assert changed[at].median() == pytest.approx(min(1, steps / FADE), rel=1e-3)


def test_patterns_are_centred_on_the_region_and_as_wide_as_it():
    region = torch.zeros(2, 1, 40, 60)
    region[0, :, 10:31, 20:31] = 1
    region[1, :, 5, 7] = 1
    found = patterns(region)
    assert found.shape == (2, PATTERNS, 40, 60)
    inside = found[0, :, 10:31, 20:31]
    np.testing.assert_allclose(inside[1, 4], np.linspace(-1, 1, 11), atol=0.1)
    np.testing.assert_allclose(inside[2, :, 4], np.linspace(-1, 1, 21), atol=0.1)
    for number in range(PATTERNS):
        wanted = 1.0 if number == 0 else 0.0
        assert inside[number].mean() == pytest.approx(wanted, abs=1e-5)
    for one in range(3):
        for other in range(one):
            assert (inside[one] * inside[other]).mean() == pytest.approx(0, abs=1e-5), "at right angles"
    assert found.abs().max() <= 4
    assert found[1].isfinite().all()


@pytest.mark.parametrize("sliders", [0, 1, 10, 30])
def test_any_number_of_sliders_begins_at_right_angles(sliders: int):
    modes = Tints(sliders).modes.detach()
    assert modes.shape == (sliders, 3 * (PATTERNS + 1))
    known = modes[modes.any(1)]
    gram = known @ known.T
    torch.testing.assert_close(gram, torch.diag(gram.diag()), atol=1e-7, rtol=0)
    assert len(known) == min(sliders, 19)


def test_a_slider_comes_to_twice_what_it_begins_with_at_most():
    image, region, *_ = given(WHOLE)
    layer, deep = Tints(10), depth(nearest_known(image, region))
    grown = Tints(10)
    for times, wanted in ((1.0, 1.0), (1.5, 1.5), (2.0, 2.0), (7.0, 2.0)):
        grown.modes.data = layer.modes.data * times
        for slider in (0, 4, 9):
            plain, more = (
                each(0.1 * image, region, setting(slider, 0.4), deep) - 0.1 * image for each in (layer, grown)
            )
            torch.testing.assert_close(more, wanted * plain, atol=1e-6, rtol=1e-4)


# ---- the head


def test_moments_are_least_squares_of_what_sliders_added():
    image, region, *_ = given(WHOLE)
    base, _, *_ = fills(image, region, nearest_known(image, region))
    shapes = patterns(region)
    wanted = torch.randn(3, 3, 3)  # picture, pattern, colour
    added = sum(wanted[:, j, :, None, None] * shapes[:, j : j + 1] for j in range(3)) * LEVELS
    found = moments(base + added * region, base, region).unflatten(1, (PATTERNS + 1, 3))
    torch.testing.assert_close(found[:, 0], wanted[:, 0], atol=1e-4, rtol=1e-4)
    box = region.clone()
    box[:] = 0
    box[:, :, 10:30, 20:50] = 1
    shapes = patterns(box)
    added = sum(wanted[:, j, :, None, None] * shapes[:, j : j + 1] for j in range(3)) * LEVELS
    found = moments(base + added * box, base, box).unflatten(1, (PATTERNS + 1, 3))
    torch.testing.assert_close(found[:, :3], wanted, atol=1e-4, rtol=1e-4)
    stronger = base + 0.5 * CONTRAST * apart(base, region) * region
    found = moments(stronger, base, region).unflatten(1, (PATTERNS + 1, 3))
    assert found[:, -1].numpy() == pytest.approx(0.5, rel=0.3)
    assert found[:, 0].abs().max() < 1e-4


def test_at_first_sliders_can_be_told_from_what_the_head_reads_whatever_the_picture():
    """By least squares, on pictures, regions, noise and sliders that were left out."""
    generator, random = RoiGenerator(WHOLE).eval(), np.random.default_rng(1)
    said, read = [], []
    for _ in range(24):
        image = functional.interpolate(torch.rand(32, 3, 4, 4) - 0.5, 64, mode="bicubic")
        regions = np.stack([sample_region("mixed", (64, 64), random) for _ in range(32)])
        region = torch.from_numpy(regions)[:, None].float()
        sliders = torch.rand(32, 10) * 2 - 1
        with torch.no_grad():
            raw = generator(image, region, torch.randn(32, WHOLE.noise), sliders)
        rows, columns, _, nearest, *_ = fills(image, region, nearest_known(image, region))
        said.append(sliders)
        seen = [moments(each, nearest, region) for each in (raw, rows, columns)]
        read.append(torch.cat([*seen, torch.ones(32, 1)], 1))
    a, b = torch.cat(read).double(), torch.cat(said).double()
    half = len(a) // 2
    guess = a[half:] @ torch.linalg.lstsq(a[:half], b[:half], driver="gelsd").solution
    found = [np.corrcoef(guess[:, k], b[half:, k])[0, 1] for k in range(10)]
    assert sum(each >= 0.8 for each in found) >= 8, found


@pytest.mark.parametrize("textured", [False, True])
def test_the_head_weighs_cells_by_the_region_below_them(textured: bool):
    """Directly: the part of the region that the cells of every level have below them, level by level."""
    config = replace(WHOLE, width=1 / 16, textures=textured)
    discriminator = RoiDiscriminator(config)
    head, seen = SliderHead(config, discriminator.levels), []
    head.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    image, region, *_ = given(config)
    features = discriminator(image, region).features
    head(image, region, features)
    wanted = [(image * region).sum((2, 3)) / region.sum((2, 3))]
    share = region.numpy()[:, 0].astype(float)
    for level in features:
        side, size = share.shape[-1], level.shape[-1]
        step, wide = (2, 2) if 2 * size == side else (1, 4)
        assert (side - wide) // step + 1 == size
        below = np.zeros((len(share), size, size))
        for row, col in np.ndindex(size, size):
            top, left = row * step, col * step
            below[:, row, col] = share[:, top : top + wide, left : left + wide].mean((1, 2))
        share = below
        weights = torch.from_numpy(share)[:, None].float()
        wanted.append((level * weights).sum((2, 3)) / weights.sum((2, 3)))
    by_rows, by_columns, around, nearest, *_ = fills(image, region, nearest_known(image, region))
    first, *others = (nearest, by_rows, by_columns) if textured else (by_rows, by_columns, around)
    wanted += [moments(each, first, region) for each in (image, *others)]
    torch.testing.assert_close(seen[0], torch.cat(wanted, 1), atol=1e-4, rtol=1e-4)


# ---- networks of before


def test_a_checkpoint_of_before_has_neither_and_makes_what_it_made(tmp_path):
    config = RoiConfig(64, 1 / 8, noise=6, sliders=3, blend=1 / 8)
    told = {name: value for name, value in asdict(config).items() if name not in ("copies", "tints")}
    network = RoiGenerator(config).eval()
    save_checkpoint(tmp_path / "roi.safetensors", network.state_dict(), Card("roi", told, (), (64, 64), "bank", 1))
    card, tensors = load_checkpoint(tmp_path / "roi.safetensors", "roi")
    again = RoiGenerator(RoiConfig(**card.config)).eval()
    again.load_state_dict(tensors)
    image, region, z, sliders = given(config)
    assert not again.config.copies
    assert not again.config.tints
    assert not any(name.startswith(("tints", "to_image.mix")) for name in tensors)
    with torch.no_grad():
        assert torch.equal(again(image, region, z, sliders), network(image, region, z, sliders))


def test_the_released_code_takes_neither():
    for name in ("copies", "tints"):
        with pytest.raises(ValueError, match="released code has neither copies nor tints"):
            RoiConfig(published=True, **{name: True})
