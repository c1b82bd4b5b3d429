"""Many latents at once: each by itself, in the range of its prior, the best first; what is no number is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.region_semantics.generator import GeneratorConfig, GeneratorNetwork, draw
from zeuxis.synth.region_semantics.latents import plausible, random_of
from zeuxis.synth.region_semantics.objective import FeatureObjective, PixelObjective
from zeuxis.synth.region_semantics.solver import Descent, Solution, solve

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
LATENT, SIDE = 6, 32
PLAN = Descent(steps=12, spare=0.0, tries=2)


class Nearness(nn.Module):
    """Mean distance of a flat picture to a point, and of some to no number."""

    def __init__(self, bad: float = 2.0) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, images: Tensor) -> Tensor:
        apart = (images - 0.5).abs().mean((1, 2, 3))
        return torch.where(images[:, 0, 0, 0] > self.bad, torch.nan, apart)


class Slope(nn.Module):
    """The mean of a picture."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))


def flat(latents: Tensor) -> Tensor:
    """A latent as a picture of one row."""
    return latents[:, None, None, :]


def network(kind: str = "wgan-gp") -> GeneratorNetwork:
    torch.manual_seed(1)
    return GeneratorNetwork(GeneratorConfig(kind, SIDE, 1 / 32)).requires_grad_(False).eval()  # type: ignore[arg-type]


def scene(generator: GeneratorNetwork) -> tuple[Tensor, Tensor]:
    """A picture that the generator can make, and a region of it."""
    latent = torch.randn(1, generator.config.latent, generator=torch.Generator().manual_seed(9))
    region = torch.zeros(1, 1, SIDE, SIDE)
    region[..., 4:22, 8:28] = 1
    return generator(plausible(generator.config.prior, latent)), region


class InDouble(nn.Module):
    """An objective in float64, so that a search does not depend on how sums are rounded in batches of other sizes."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective.double()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.objective(images).float()
        return found


def solved(plan: Descent = PLAN, count: int = 4, seed: int = 3, kind: str = "wgan-gp", **more: object) -> Solution:
    generator = network(kind)
    torch.manual_seed(2)
    features = Features(FeaturesConfig(1 / 16, "max", True)).requires_grad_(False).eval()
    objective = InDouble(FeatureObjective(features, *scene(generator), ("conv3_1",)))
    config = generator.config
    exact = generator.double()
    return solve(
        lambda z: exact(z.double()),
        objective,
        config.prior,
        config.latent,
        count,
        plan,
        seed,
        **more,  # type: ignore[arg-type]
    )


def test_losses_fall_below_those_of_the_starts():
    begun, done = solved(replace(PLAN, steps=1)), solved(replace(PLAN, steps=25, noise=0.0))
    own = dict(zip(begun.numbers, begun.losses.tolist(), strict=True))
    for number, loss in zip(done.numbers, done.losses.tolist(), strict=True):
        assert loss < 0.8 * own[number]
    assert done.losses.tolist() == sorted(done.losses.tolist())
    assert (done.tried, done.dropped, done.backend, done.said) == (4, [], "eager", "")


def test_a_latent_is_solved_as_if_it_were_alone():
    together, apart = solved(count=5), solved(replace(PLAN, together=2), count=5)
    for one, other in ((together, apart), (together, solved(count=3))):
        own = dict(zip(one.numbers, one.losses.tolist(), strict=True))
        for number, loss in zip(other.numbers, other.losses.tolist(), strict=True):
            assert loss == pytest.approx(own[number], rel=1e-3)


def test_equal_seeds_are_equal_and_others_are_not():
    first, again, other = solved(), solved(), solved(seed=4)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.losses, again.losses)
    assert not torch.equal(first.latents, other.latents)


def test_the_best_of_more_than_were_asked_for_are_kept():
    several = solved(count=8)
    best = solved(replace(PLAN, spare=1.0), count=4)
    assert best.tried == 8
    assert best.numbers == several.numbers[:4]
    torch.testing.assert_close(best.losses, several.losses[:4], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["began", "wgan-gp"])
def test_latents_stay_where_the_prior_has_them(kind: str):
    found = solved(replace(PLAN, rate=2.0, noise=3.0), kind=kind).latents
    if kind == "began":
        assert found.abs().max() <= 1
    else:
        long = found.norm(dim=1)
        assert ((long > 128**0.5 - 2.5) & (long < 128**0.5 + 2.5)).all()
        assert found.abs().max() < 5


def test_implausible_latents_are_moved_and_others_are_not():
    drawn = torch.randn(200, 128, generator=torch.Generator().manual_seed(0)).clamp(-3.9, 3.9)
    usual = (drawn.norm(dim=1) - 127.5**0.5).abs() < 2
    assert usual.sum() > 190
    torch.testing.assert_close(plausible("normal", drawn[usual]), drawn[usual])
    assert plausible("normal", 3 * drawn).norm(dim=1).max() < 13.5
    assert plausible("normal", drawn / 3).norm(dim=1).min() > 9
    assert torch.equal(plausible("uniform", drawn), drawn.clamp(-1, 1))


def test_a_latent_begins_at_the_best_of_its_tries():
    """Of a rate of 0, so that none goes on from there; some tries are no numbers."""
    plan = replace(PLAN, tries=6, rate=0.0, noise=0.0)
    found = solve(flat, Nearness(0.8), "uniform", LATENT, 8, plan, 5)
    for number, loss in zip(found.numbers, found.losses.tolist(), strict=True):
        tries = Nearness(0.8)(flat(draw("uniform", 6, random_of(5, number), LATENT)))
        assert loss == pytest.approx(float(tries[tries.isfinite()].min()), rel=1e-5)
    assert len(found.numbers) == 8


class Scaled(nn.Module):
    """The mean of a picture, times a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean((1, 2, 3))


@pytest.mark.parametrize("scale", [1e-5, 1e3])
def test_noise_moves_latents_as_far_as_the_plan_says_whatever_the_loss(scale: float):
    """Down an even slope, where what is left beside the even steps is the noise: a sum of steps of known variance."""
    plan = Descent(steps=10, rate=0.01, last_rate=1.0, noise=2.0, noisy=0.8, tries=1, spare=0.0)
    starts = torch.cat([draw("normal", 1, random_of(0, number), 512) for number in range(4)])
    found = solve(flat, Scaled(scale), "normal", 512, 4, plan, 0)
    moved = found.latents[torch.tensor(found.numbers).argsort()] - starts
    variance = sum((0.01 * plan.level(step)) ** 2 for step in range(10))
    torch.testing.assert_close(moved.mean(1), torch.full((4,), -0.1), rtol=0.1, atol=0.01)
    torch.testing.assert_close(moved.std(1), torch.full((4,), variance**0.5), rtol=0.1, atol=0)


def test_noise_shortens_no_step():
    """What it did to Adam's averages, it would do still when it has ended."""
    plan = Descent(steps=20, rate=0.01, last_rate=1.0, noise=50.0, noisy=0.5, tries=1, spare=0.0)
    quiet, noisy = (
        solve(flat, Slope(), "normal", 512, 4, replace(plan, noise=level), 0).losses.mean() for level in (0.0, 50.0)
    )
    starts = torch.cat([draw("normal", 1, random_of(0, number), 512) for number in range(4)]).mean()
    assert float(quiet - starts) == pytest.approx(-0.2, abs=0.01)
    assert float(noisy - starts) < -0.1


def test_steps_follow_a_rate_that_falls_to_a_share_of_itself():
    """Down an even slope each step is as long as the rate."""
    plan = Descent(steps=10, rate=0.01, last_rate=0.2, noise=0.0, tries=1, spare=0.0, patience=100)
    rates = [0.01 * (1 - 0.8 * step / 9) for step in range(10)]
    assert [plan.rate_at(step) for step in range(10)] == pytest.approx(rates)
    found = solve(flat, Slope(), "uniform", LATENT, 4, plan, 0)
    starts = torch.cat([draw("uniform", 1, random_of(0, number), LATENT) for number in found.numbers])
    torch.testing.assert_close(found.latents, (starts - sum(rates)).clamp(-1), rtol=0, atol=1e-5)


def test_noise_makes_latents_differ_and_falls_to_nothing():
    plan = Descent(steps=10, noise=2.0, noisy=0.5)
    assert [plan.level(step) for step in (0, 1, 4, 5, 9)] == pytest.approx([2, 1.6, 0.4, 0, 0])
    still = replace(PLAN, steps=20, noise=0.0)
    quiet, noisy = solved(still), solved(replace(still, noise=2.0))
    own = dict(zip(quiet.numbers, quiet.latents, strict=True))
    for number, latent in zip(noisy.numbers, noisy.latents, strict=True):
        assert (latent - own[number]).norm() > 1


def test_from_one_start_noise_alone_makes_latents_differ():
    alike = replace(PLAN, steps=6, alike=True, tries=3)
    still, noisy = (solved(replace(alike, noise=level)).latents for level in (0.0, 2.0))
    torch.testing.assert_close(still, still[:1].expand_as(still), rtol=1e-3, atol=1e-4)
    first, second = torch.triu_indices(4, 4, 1)
    assert ((noisy[first] - noisy[second]).norm(dim=1) > 0.5).all()
    apart = solved(replace(alike, noise=0.0, alike=False))
    (own,) = (latent for number, latent in zip(apart.numbers, apart.latents, strict=True) if number == 0)
    torch.testing.assert_close(still[0], own, rtol=1e-3, atol=1e-4)


def test_a_latent_whose_loss_is_no_number_is_dropped_alone():
    """The first number of some latents passes 0.3 on its way to 0.5."""
    calm = replace(PLAN, noise=0.0, tries=1, rate=0.05)
    whole = solve(flat, Nearness(), "uniform", LATENT, 8, calm, 0)
    found = solve(flat, Nearness(0.3), "uniform", LATENT, 8, calm, 0)
    assert 0 < len(found.dropped) < 8
    assert set(found.numbers) == set(range(8)) - set(found.dropped)
    own = dict(zip(whole.numbers, whole.losses.tolist(), strict=True))
    for number, loss in zip(found.numbers, found.losses.tolist(), strict=True):
        assert loss == pytest.approx(own[number], rel=1e-4)
    starts = [float(torch.rand(1, LATENT, generator=random_of(0, number))[0, 0] * 2 - 1) for number in range(8)]
    assert any(start < 0.3 for number, start in enumerate(starts) if number in found.dropped), "dropped on its way"
    nothing = solve(flat, Nearness(-2.0), "uniform", LATENT, 3, calm, 0)
    assert (len(nothing.latents), nothing.dropped) == (0, [0, 1, 2])


def test_a_latent_that_gains_nothing_more_is_done_early():
    plan = replace(PLAN, steps=200, noise=0.0, patience=5)
    found = solve(flat, Nearness(), "uniform", LATENT, 4, plan, 0)
    assert max(found.steps) < 200
    assert len(set(found.steps)) > 1, "each by itself"
    again = solve(flat, Nearness(), "uniform", LATENT, 4, replace(plan, noise=0.5), 0)
    assert min(again.steps) > plan.noisy * 200, "not while there is noise"
    assert min(found.steps) > plan.noisy * 200, "nor sooner without: both have as many steps"


def test_the_same_search_takes_the_loss_of_pixels():
    generator = network("began")
    reference, region = scene(generator)
    plan = replace(PLAN, steps=60, noise=0.0)
    found = solve(generator, PixelObjective(reference, region), "uniform", 64, 3, plan, 0)
    begun = solve(generator, PixelObjective(reference, region), "uniform", 64, 3, replace(plan, steps=1), 0)
    assert found.losses.max() < 0.2 * begun.losses.min()


def test_what_cannot_be_compiled_runs_as_it_is_and_it_is_said(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> object:
        def call(latents: Tensor) -> Tensor:
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", refused)
    found = solved(compiled=True)
    assert found.backend == "eager"
    assert found.said == "the steps run uncompiled: no compiler here"
    assert torch.equal(found.latents, solved().latents)


@pytest.mark.slow
def test_compiled_steps_find_what_others_do():
    calm = replace(PLAN, noise=0.0, together=3)
    plain, fast = (solve(flat, Nearness(), "uniform", LATENT, 4, calm, 0, compiled=each) for each in (False, True))
    assert (fast.backend, fast.said) == ("inductor cpu", "")
    assert fast.warming > 0
    assert fast.numbers == plain.numbers
    torch.testing.assert_close(fast.losses, plain.losses, rtol=1e-3, atol=1e-5)
