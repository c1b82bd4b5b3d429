"""CRN: the paper's shapes, stages, recomputation; the loss of collections against a slow loop; adversarial losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zeuxis.synth.baselines import LAYER_CHANNELS, dilations
from zeuxis.synth.crn import CrnConfig, CrnNetwork, crn_channels
from zeuxis.synth.features import LAYERS, Features, FeaturesConfig
from zeuxis.synth.layers import n_parameters
from zeuxis.synth.losses import DiversityLoss, PerceptualLoss, gan_discriminator, gan_generator
from zeuxis.synth.presets import PRESETS
from zeuxis.synth.refinement import halved, n_levels

N_CLASSES = 3
WIDTH = 1 / 16


pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def layout(n: int, size: tuple[int, int]) -> torch.Tensor:
    """`(N, C + 1, H, W)`: every class somewhere, void as well."""
    indices = torch.randint(0, N_CLASSES + 1, (n, size[0] // 4, size[1] // 4)).repeat_interleave(4, 1)
    return functional.one_hot(indices.repeat_interleave(4, 2), N_CLASSES + 1).movedim(-1, 1).float()


def features() -> Features:
    torch.manual_seed(7)
    return Features(FeaturesConfig(WIDTH, normalise=True)).requires_grad_(False).eval()


def network(size: tuple[int, int], **settings) -> CrnNetwork:
    return CrnNetwork(CrnConfig(N_CLASSES, size, WIDTH, **settings)).eval()


# ---- shapes


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("body", ["cascade", "encoder-decoder", "full-resolution", "pix2pix", "gan"])
def test_at_every_preset_pictures_have_the_size_of_the_layout(name, body):
    preset = PRESETS[name]
    for frame in ((256, 512), (192, 256)):
        size = preset.size(frame)
        with torch.device("meta"):
            net = CrnNetwork(CrnConfig(19, size, preset.width, images=9, body=body))
            assert net(torch.zeros(1, 20, *size)).shape == (1, 9, 3, *size)


def test_the_cascade_is_that_of_the_paper():
    assert crn_channels(1024, 1.0) == [32, 128, 512, 512, *[1024] * 5]
    assert crn_channels(256, 1.0) == [512, 512, *[1024] * 5]
    assert crn_channels(96, 1.0) == [512, *[1024] * 5]
    with torch.device("meta"):
        nets = [CrnNetwork(CrnConfig(19, (rows, 2 * rows))) for rows in (256, 1024)]
    assert [n_parameters(net) / 1e6 for net in nets] == pytest.approx([97.9, 98.7], abs=0.06)
    levels = nets[1].body.cascade.levels
    assert [level[0][0].in_channels for level in levels] == [20 + below for below in (128, 512, 512, *[1024] * 5, 0)]


def test_the_rivals_are_those_of_their_papers():
    with torch.device("meta"):
        sizes = {body: n_parameters(CrnNetwork(CrnConfig(3, (256, 256), body=body))) / 1e6 for body in ("pix2pix",)}
        full = CrnNetwork(CrnConfig(19, (256, 512), body="full-resolution"))
        unet = CrnNetwork(CrnConfig(19, (256, 512), body="encoder-decoder"))
    assert sizes["pix2pix"] == pytest.approx(54.4, abs=0.2)  # 54.4 million in its authors' code
    assert n_parameters(unet) / 1e6 == pytest.approx(31.4, abs=0.1)  # 31.0 with transposed convolutions in place of
    convolutions = [each for each in full.modules() if isinstance(each, nn.Conv2d)][:-1]
    assert [each.dilation[0] for each in convolutions] == dilations(256) == [128, 64, 32, 16, 8, 4, 2, 1, 1, 1]
    assert {each.out_channels for each in convolutions} == {LAYER_CHANNELS}


def test_the_coarsest_level_reaches_the_whole_picture_and_the_finest_one_pixel():
    net = network((64, 128))
    given = layout(1, (64, 128))
    other = given.clone()
    other[..., :32, :64] = given[..., :32, :64].flip(1)
    with torch.no_grad():
        apart = (net(given) - net(other)).abs().amax((0, 1, 2))
    assert (apart > 0).float().mean() > 0.99


# ---- stages


def test_a_finer_network_begins_with_the_features_of_a_coarser_one():
    size, coarse = (64, 96), (32, 48)
    before, net = network(coarse, images=2), network(size, images=2)
    fresh = {name: each.clone() for name, each in net.state_dict().items()}
    net.begin_from(before.config, before.state_dict())
    seen = {}
    net.body.cascade.levels[1].register_forward_hook(lambda _, __, found: seen.update(finer=found))
    before.body.cascade.levels[0].register_forward_hook(lambda _, __, found: seen.update(coarser=found))
    given = layout(2, size)
    with torch.no_grad():
        net(given)
        before(halved(given))
    torch.testing.assert_close(seen["finer"], seen["coarser"])
    kept = {name for name, each in net.state_dict().items() if torch.equal(each, fresh[name])}
    assert {name for name in fresh if name.startswith(("body.cascade.levels.0.", "to_images"))} <= kept


def test_a_network_of_the_same_size_begins_with_all_of_another():
    before, net = network((32, 48)), network((32, 48))
    net.begin_from(before.config, before.state_dict())
    given = layout(1, (32, 48))
    with torch.no_grad():
        assert torch.equal(net(given), before(given))
    more = network((32, 48), images=4)  # whose projection is another
    more.begin_from(before.config, before.state_dict())
    assert torch.equal(more.body.cascade.levels[0][0][0].weight, before.body.cascade.levels[0][0][0].weight)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"body": "full-resolution"}, "only a cascade"),
        ({"size": (128, 192)}, "128 rows instead of at most 64"),
        ({"width": 1 / 8}, "width 0.125"),
        ({"n_classes": 4}, "4 classes"),
    ],
)
def test_a_network_that_does_not_fit_is_not_begun_from(settings, said):
    config = CrnConfig(**{"n_classes": N_CLASSES, "size": (32, 48), "width": WIDTH} | settings)
    with pytest.raises(ValueError, match=said):
        network((64, 96)).begin_from(config, CrnNetwork(config).state_dict())


# ---- recomputation


@pytest.mark.parametrize("body", ["cascade", "encoder-decoder", "full-resolution"])
def test_recomputed_gradients_are_the_same_to_the_bit(body):
    gradients = []
    for yes in (False, True):
        torch.manual_seed(1)
        net = network((32, 48), images=3, body=body).train()
        loss = DiversityLoss(features()).eval()
        net.recompute(yes)
        loss.recompute = yes
        torch.manual_seed(2)
        given, real = layout(2, (32, 48)), torch.rand(2, 3, 32, 48)
        loss.total(loss(net(given), real, given)).backward()
        gradients.append([each.grad for each in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# ---- the loss of a collection


def slow_loss(loss: DiversityLoss, images: torch.Tensor, target: torch.Tensor, given: torch.Tensor) -> float:
    """Equation 3 and the code's mean term, written out: one sample, class, picture, layer, row and column at a time."""
    weights = loss.weights.double().numpy()
    total = 0.0
    for n in range(len(target)):
        real = [target[n : n + 1], *loss.features(target[n : n + 1], LAYERS).values()]
        of_class = []
        for p in range(given.shape[1]):
            of_image = []
            for u in range(images.shape[1]):
                made = [images[n : n + 1, u], *loss.features(images[n : n + 1, u], LAYERS).values()]
                error = 0.0
                for weight, a, b in zip(weights, real, made, strict=True):
                    a, b = a[0].double().numpy(), b[0].double().numpy()
                    channels, rows, cols = a.shape
                    mask = shrunk(given[n, p].double().numpy(), rows, cols)
                    layer = 0.0
                    for j in range(channels):
                        layer += (mask * np.abs(a[j] - b[j])).sum()
                    error += weight * layer / (channels * rows * cols)
                of_image.append(error)
            of_class.append(0.999 * min(of_image) + 0.001 * sum(of_image) / len(of_image))
        total += sum(of_class)
    return total / len(target)


def shrunk(mask: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Each cell the mean of the pixels it covers."""
    high, wide = mask.shape[0] // rows, mask.shape[1] // cols
    return np.array(
        [[mask[i * high : (i + 1) * high, j * wide : (j + 1) * wide].mean() for j in range(cols)] for i in range(rows)]
    )


def collection(n: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    size = (32, 48)
    return torch.rand(n, k, 3, *size) * 2 - 1, torch.rand(n, 3, *size) * 2 - 1, layout(n, size)


def test_the_loss_of_a_collection_is_equation_3():
    loss = DiversityLoss(features(), calibration_steps=2).train()
    given = collection(2, 3)
    found = loss.total(loss(*given))  # weights of the first calibration
    assert float(found) == pytest.approx(slow_loss(loss, *given), rel=1e-5)
    loss(*collection(2, 3))
    assert loss.frozen
    loss.weights[2] *= 30
    assert float(loss.total(loss(*given))) == pytest.approx(slow_loss(loss, *given), rel=1e-5)


def test_each_sample_chooses_for_itself():
    loss = DiversityLoss(features()).eval()
    images, target, given = collection(2, 2)
    images[0, 0], images[1, 1] = target[0], target[1]  # of each another picture is perfect
    together = float(loss.total(loss(images, target, given)))
    alone = [float(loss.total(loss(images[n : n + 1], target[n : n + 1], given[n : n + 1]))) for n in range(2)]
    assert together == pytest.approx(sum(alone) / 2, rel=1e-5)
    errors = loss.errors(images, target, given)
    worst = errors.sum(0).amax(1).sum(1).mean()
    assert together < 0.01 * float(worst)


def test_each_class_has_a_picture_of_its_own():
    loss = DiversityLoss(None, image_space=True).eval()
    _, target, given = collection(1, 2)
    other = 1 - target
    first = given[:, :2].sum(1, keepdim=True)
    images = torch.stack([first * target + (1 - first) * other, (1 - first) * target + first * other], 1)
    found = float(loss.total(loss(images, target, given)))
    assert found == pytest.approx(0.001 * float((other - target).abs().mean()) / 2, rel=1e-4)


def test_of_one_picture_it_is_the_perceptual_loss():
    several, one = DiversityLoss(features()).eval(), PerceptualLoss(features()).eval()
    images, target, given = collection(2, 1)
    wanted = one(images[:, 0], target)
    found = several(images, target, given)
    assert list(found) == list(wanted)
    for name in wanted:
        assert float(found[name]) == pytest.approx(float(wanted[name]), rel=1e-5)


def test_a_picture_that_is_never_the_best_still_learns():
    loss = DiversityLoss(features()).eval()
    images, target, given = collection(1, 2)
    images[:, 0] = target + 0.01
    images.requires_grad_()
    loss.total(loss(images, target, given)).backward()
    size = images.grad.abs().sum((0, 2, 3, 4))
    assert 0 < size[1] < 0.1 * size[0]


def test_calibration_may_wait_as_the_paper_does():
    loss = PerceptualLoss(features(), calibration_steps=2, wait=3).train()
    for step in range(5):
        assert not loss.frozen
        images, target, _ = collection(1, 1)
        loss(images[:, 0] * step / 4, target)
        assert torch.equal(loss.weights, torch.ones(6)) == (step < 3)
    assert loss.frozen
    counted = PerceptualLoss(features(), calibration_steps=2).train()
    for step in (3, 4):
        counted(images[:, 0] * step / 4, target)
    assert torch.equal(loss.weights, counted.weights)


# ---- adversarial losses


def test_gan_losses_are_cross_entropies():
    real, fake = torch.randn(5), torch.randn(5)
    entropy = functional.binary_cross_entropy_with_logits
    wanted = entropy(real, torch.ones(5)) + entropy(fake, torch.zeros(5))
    torch.testing.assert_close(gan_discriminator(real, fake), wanted)
    torch.testing.assert_close(gan_generator(fake), entropy(fake, torch.ones(5)))


def test_levels_follow_the_rows():
    assert [len(crn_channels(rows, 1.0)) for rows in (96, 192, 256, 512, 1024)] == [
        n_levels(rows) for rows in (96, 192, 256, 512, 1024)
    ]
