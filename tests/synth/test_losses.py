"""Losses: weights that make every term count like the pixels, freeze, and resume; void that costs nothing."""

import math

import pytest
import torch

from zeuxis.synth.features import LAYERS, Features, FeaturesConfig
from zeuxis.synth.losses import PerceptualLoss, hinge_discriminator, hinge_generator, parsing_loss

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def features() -> Features:
    torch.manual_seed(7)
    return Features(FeaturesConfig(1 / 16, normalise=True)).requires_grad_(False).eval()


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 32, 32, generator=random) * 2 - 1, torch.rand(2, 3, 32, 32, generator=random) * 2 - 1


def calibrated(steps: int, total: int) -> PerceptualLoss:
    loss = PerceptualLoss(features(), calibration_steps=total).train()
    for seed in range(steps):
        loss(*batch(seed))
    return loss


def test_terms_are_mean_absolute_differences_of_features():
    loss = PerceptualLoss(features())
    image, target = batch(0)
    terms = loss(image, target)
    assert list(terms) == ["pixel", *LAYERS]
    assert terms["pixel"] == (image - target).abs().mean()
    found, wanted = (features()(each, ("conv3_2",))["conv3_2"] for each in (image, target))
    torch.testing.assert_close(terms["conv3_2"], (found - wanted).abs().mean())
    assert all(term == 0 for term in loss(image, image).values())


def test_after_calibration_every_term_counts_like_the_pixels():
    loss = calibrated(4, 4)
    means = dict.fromkeys(loss.names, 0.0)
    for seed in range(4):
        for name, term in loss(*batch(seed)).items():
            means[name] += term.item() / 4
    weighted = [means[name] * weight.item() for name, weight in zip(loss.names, loss.weights, strict=True)]
    assert weighted == pytest.approx([means["pixel"]] * len(weighted), rel=1e-4)
    terms = loss(*batch(9))
    expected = sum(terms[name] * weight for name, weight in zip(loss.names, loss.weights, strict=True))
    torch.testing.assert_close(loss.total(terms), expected)


def test_weights_follow_until_calibration_is_over_and_then_stay():
    loss = calibrated(2, 3)
    before = loss.weights.clone()
    assert not loss.frozen
    loss(*batch(2))
    assert loss.frozen
    assert not torch.equal(loss.weights, before)
    before = loss.weights.clone()
    loss(*batch(3))
    assert torch.equal(loss.weights, before)


def test_validation_does_not_calibrate():
    loss = calibrated(1, 3).eval()
    before = {name: each.clone() for name, each in loss.state_dict().items()}
    loss(*batch(5))
    assert all(torch.equal(before[name], each) for name, each in loss.state_dict().items())


def test_calibration_resumes_where_it_was():
    whole = calibrated(5, 4)
    resumed = PerceptualLoss(features(), calibration_steps=4).train()
    resumed.load_state_dict(calibrated(2, 4).state_dict())
    for seed in range(2, 5):
        resumed(*batch(seed))
    assert torch.equal(resumed.weights, whole.weights)
    assert resumed.frozen


def test_a_state_holds_the_calibration_and_not_the_features():
    loss = torch.nn.ModuleDict({"loss": calibrated(1, 4)})
    state = loss.state_dict()
    assert set(state) == {"loss.weights", "loss.sums", "loss.steps"}
    assert loss.load_state_dict(state).missing_keys == []
    assert set(state) == {"loss.weights", "loss.sums", "loss.steps"}


def test_a_term_that_is_nought_leaves_the_weights_finite():
    loss = PerceptualLoss(features(), calibration_steps=1).train()
    image, _ = batch(0)
    loss(image, image)
    assert torch.equal(loss.weights, torch.ones(6))
    loss = PerceptualLoss(features(), calibration_steps=1).train()
    for parameter in loss.features.convolutions["conv5_2"].parameters():
        parameter.data.zero_()
    loss(*batch(0))
    assert loss.weights[-1] == 1
    assert loss.weights[-2] > 1


def test_calibration_may_go_on_before_a_total_is_differentiated():
    loss = PerceptualLoss(features()).train()
    image, target = batch(0)
    image.requires_grad_()
    total = loss.total(loss(image, target))
    loss(*batch(1))
    total.backward()
    assert image.grad.abs().max() > 0


def test_only_the_painted_picture_takes_a_gradient():
    image, target = (each.requires_grad_() for each in batch(0))
    loss = PerceptualLoss(features())
    terms = loss(image, target)
    terms["conv5_2"].backward()
    assert image.grad is not None
    assert target.grad is None


def test_image_space_compares_pixels_alone():
    loss = PerceptualLoss(None, image_space=True).train()
    image, target = batch(0)
    terms = loss(image, target)
    assert list(terms) == ["pixel"]
    assert loss.total(terms) == (image - target).abs().mean()
    with pytest.raises(ValueError, match="features"):
        PerceptualLoss(None)


def test_void_costs_nothing():
    logits = torch.randn(2, 3, 4, 4)
    indices = torch.randint(0, 3, (2, 4, 4))
    indices[:, :2] = 3
    kept = torch.nn.functional.cross_entropy(logits[:, :, 2:], indices[:, 2:])
    torch.testing.assert_close(parsing_loss(logits, indices), kept)
    assert parsing_loss(logits, torch.full((2, 4, 4), 3)) == 0


def test_hinge():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0])
    assert hinge_discriminator(real, fake) == 0.25 + 0.5
    assert hinge_generator(fake) == 1.0


def test_equal_predictions_cost_the_logarithm_of_the_classes():
    assert parsing_loss(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)).item() == pytest.approx(
        math.log(4)
    )


def test_calibration_counts_steps_of_several_batches():
    loss = PerceptualLoss(features(), calibration_steps=1, wait=1, accumulate=2).train()
    seen = []
    for seed in range(4):
        loss(*batch(seed))
        seen.append((bool((loss.weights == 1).all()), loss.frozen))
    assert seen == [(True, False), (True, False), (False, False), (False, True)]
