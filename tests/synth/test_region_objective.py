"""Equation 1 against loops, receptive fields against gradients, and the depth that a region asks for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.region_semantics.depth import UnknownDepth, automatic_layer, layers_of, longer_side
from zeuxis.synth.region_semantics.objective import FeatureObjective, PixelObjective

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
SIDE = 48


def features(normalise: bool = True) -> Features:
    return Features(FeaturesConfig(1 / 16, "max", normalise)).requires_grad_(False).eval()


def regions() -> torch.Tensor:
    """Two, neither of which ends where cells of deep layers do."""
    found = torch.zeros(2, 1, SIDE, SIDE)
    found[0, :, 5:23, 10:31] = 1
    found[1, :, 30:41, 3:6] = 1
    return found


@pytest.mark.parametrize("normalise", [False, True])
def test_receptive_fields_are_those_of_vgg_19(normalise: bool):
    fields = features(normalise).fields()
    assert [fields[f"conv{block}_1"] for block in (1, 2, 3, 4, 5)] == [3, 10, 24, 68, 156]
    assert list(fields.values()) == sorted(fields.values())


@pytest.mark.parametrize("layer", ["conv1_2", "conv2_1", "conv3_1", "conv3_4", "conv4_1", "conv5_1"])
def test_a_receptive_field_is_where_gradients_reach(layer: str):
    network = Features(FeaturesConfig(1 / 16, "average"))
    for weights in network.parameters():
        nn.init.uniform_(weights, 0.1, 1.0)  # so that no path ends at a ReLU, or cancels another one
    image = torch.ones(1, 3, 192, 192, requires_grad=True)
    found = network(image, [layer])[layer]
    middle = found.shape[-1] // 2
    found[0, :, middle, middle].sum().backward()
    for axis in (1, 2):
        reached = np.flatnonzero((image.grad[0] != 0).any(0).any(axis - 1).numpy())
        assert reached[-1] - reached[0] + 1 == network.fields()[layer]


def test_depth_follows_the_longer_side_of_the_box():
    fields = features().fields()
    sides = {3: "conv3_1", 23: "conv3_1", 24: "conv4_1", 64: "conv4_1", 68: "conv5_1", 200: "conv5_1"}
    assert {side: automatic_layer(fields, side) for side in sides} == sides
    region = np.zeros((64, 64), bool)
    region[10:15, 20:50] = region[40, 30] = True
    assert longer_side(region) == 31
    assert layers_of("auto", fields, 31) == ("conv4_1",)
    assert layers_of("conv2_2", fields, 31) == ("conv2_2",)
    assert layers_of("conv3_3..conv4_1", fields, 31) == ("conv3_3", "conv3_4", "conv4_1")
    assert layers_of("auto..conv4_2", fields, 31) == ("conv4_1", "conv4_2")
    for wrong in ("conv6_1", "", "conv4_1..conv3_1", "conv3_1..x"):
        with pytest.raises(UnknownDepth):
            layers_of(wrong, fields, 31)


def test_the_objective_is_equation_1():
    """Written as loops over references, layers, channels and cells."""
    network, inside = features(), regions()
    references, images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1, torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    layers = ("conv3_1", "conv4_1")
    found = FeatureObjective(network, references, inside, layers)(images)
    for number, image in enumerate(images):
        total = 0.0
        for reference, mask in zip(references, inside, strict=True):
            ours, theirs = network(image[None], layers), network(reference[None], layers)
            for layer in layers:
                one, other = ours[layer][0].numpy(), theirs[layer][0].numpy()
                cell = SIDE // one.shape[-1]
                top = bottom = 0.0
                for row, col in itertools.product(range(one.shape[1]), range(one.shape[2])):
                    share = float(mask[0, row * cell : (row + 1) * cell, col * cell : (col + 1) * cell].mean())
                    for channel in range(one.shape[0]):
                        top += share * abs(float(one[channel, row, col]) - float(other[channel, row, col]))
                        bottom += share
                total += top / bottom
        assert float(found[number]) == pytest.approx(total, rel=1e-4)


def test_what_pictures_have_in_common_with_others_gains_nothing():
    """Of equation 1 alone: with each of the others as the reference, for pictures and for the references."""
    network, inside = features(), regions()
    references, images, others = (torch.rand(n, 3, SIDE, SIDE) * 2 - 1 for n in (2, 3, 4))
    layers = ("conv3_1", "conv4_1")
    found = FeatureObjective(network, references, inside, layers, others, 0.6)(images)
    expected = FeatureObjective(network, references, inside, layers)(images)
    for reference, region in zip(references, inside, strict=True):
        for other in others:
            near = FeatureObjective(network, other[None], region[None], layers)
            expected = expected - 0.6 / 4 * (near(images) - near(reference[None]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(
        FeatureObjective(network, references, inside, layers, others, 0.0)(images),
        FeatureObjective(network, references, inside, layers)(images),
    )


def test_no_picture_gains_by_being_strange():
    """Pictures that are driven away from all others end no lower than the reference, where the loss is 0."""
    network, inside = features(), regions()[:1]
    reference, others = torch.rand(1, 3, SIDE, SIDE) * 2 - 1, torch.rand(4, 3, SIDE, SIDE) * 0.2
    one = FeatureObjective(network, reference, inside, ("conv3_1",))
    less = FeatureObjective(network, reference, inside, ("conv3_1",), others, 0.8)
    image = (torch.rand(2, 3, SIDE, SIDE) * 2 - 1).requires_grad_()
    for _ in range(30):
        loss = less(image)
        assert (loss >= 0.2 * one(image) - 1e-6).all()
        (gradient,) = torch.autograd.grad(loss.sum(), image)
        image = (image - 0.3 * gradient.sign()).detach().requires_grad_()
    assert float(less(reference)) == pytest.approx(0, abs=1e-6)


def test_pixels_are_compared_inside_the_regions():
    inside, references = regions(), torch.rand(2, 3, SIDE, SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)
    found = PixelObjective(references, inside)(images)
    for number, image in enumerate(images):
        apart = [
            float((image - reference).square()[:, mask[0] == 1].mean())
            for reference, mask in zip(references, inside, strict=True)
        ]
        assert float(found[number]) == pytest.approx(sum(apart), rel=1e-5)


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_a_picture_is_judged_by_itself_and_by_the_region_alone(kind: str):
    inside, references = regions()[:1], torch.rand(1, 3, SIDE, SIDE)
    network = features(normalise=False)
    objective = (
        FeatureObjective(network, references, inside, ("conv2_1",))
        if kind == "features"
        else PixelObjective(references, inside)
    )
    images = torch.rand(5, 3, SIDE, SIDE)
    alone = torch.cat([objective(image[None]) for image in images])
    torch.testing.assert_close(objective(images), alone, rtol=1e-4, atol=1e-6)
    far = images.clone()
    far[..., 40:, :] = 0  # beyond the region and the reach of a unit in it
    torch.testing.assert_close(objective(far), objective(images))
    near = images.clone()
    near[..., 12:14, 15:20] = 0
    assert (objective(near) != objective(images)).all()
    assert float(objective(references)) == 0
