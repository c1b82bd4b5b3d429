"""Every network: shapes, learning, independence of neighbours, save and load, export, TensorRT's operators."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zeuxis.storage.classes import SemanticClass
from zeuxis.synth.baselines import WholeConfig, WholeDiscriminator
from zeuxis.synth.checkpoint import Card, load_checkpoint, save_checkpoint
from zeuxis.synth.compiling.casting import cast, lowered
from zeuxis.synth.crn import Body, CrnConfig, CrnNetwork
from zeuxis.synth.densification import DensificationConfig, DensificationNetwork
from zeuxis.synth.discriminator import DiscriminatorConfig, PatchDiscriminator
from zeuxis.synth.encoding import one_hot
from zeuxis.synth.features import LAYERS, Features, FeaturesConfig, ParsingConfig, ParsingNetwork
from zeuxis.synth.filling import MARGIN
from zeuxis.synth.fitting import Window, as_affine, moved_by
from zeuxis.synth.glcic import GlcicConfig, GlcicNetwork
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork
from zeuxis.synth.key_patches.network import Form, KeyPatchConfig, KeyPatchDiscriminator, KeyPatchNetwork
from zeuxis.synth.layers import n_parameters
from zeuxis.synth.losses import gan_discriminator, hinge_discriminator, parsing_loss
from zeuxis.synth.ordering_network import OrderingConfig, OrderingNetwork
from zeuxis.synth.refinement import halved, n_fine, n_levels, pyramid, refinement_channels
from zeuxis.synth.roi_gan.discriminator import RoiDiscriminator
from zeuxis.synth.roi_gan.generator import RoiConfig, RoiGenerator
from zeuxis.synth.synthesis import SynthesisConfig, SynthesisNetwork, passed
from zeuxis.synth.transform import Origin, Piece, Target, Transform, warp
from zeuxis.synth.transformation import (
    TransformationConfig,
    TransformationNetwork,
    premultiplied,
    warped,
)

N_CLASSES = 3
SIZE = (32, 48)
WIDTH = 1 / 16
CLASSES = tuple(SemanticClass(i, f"class{i}", (i, i, i), True) for i in range(N_CLASSES))
LISTED = {
    line for line in (Path(__file__).parent / "tensorrt_operators.txt").read_text().splitlines() if line[:1] != "#"
}


pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def layouts(n: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """`(N, H, W)` int64: bands of classes and void that differ from item to item."""
    edges = torch.rand(n, N_CLASSES, 1, 1, generator=torch.Generator().manual_seed(seed)) * size[0]
    return (torch.arange(size[0])[:, None].expand(size) > edges).sum(1)


def images(n: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    noise = torch.rand(n, 3, size[0] // 8, size[1] // 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise * 2 - 1, size, mode="bilinear")


@dataclass(frozen=True)
class Case:
    """A network: how it is built, what it is given, the shape of its first output, and what it learns in how long."""

    build: Callable[[tuple[int, int], float], nn.Module]
    inputs: Callable[[int, tuple[int, int]], tuple[torch.Tensor, ...]]
    shape: Callable[[int, tuple[int, int]], tuple[int, ...]]
    loss: Callable[[object, int, tuple[int, int]], torch.Tensor]
    steps: int = 30
    left: float = 0.5
    lr: float = 3e-3


def hot(n: int, size: tuple[int, int]) -> torch.Tensor:
    return one_hot(layouts(n, size), N_CLASSES)


def image_loss(outputs: object, n: int, size: tuple[int, int]) -> torch.Tensor:
    image, logits = outputs
    return functional.l1_loss(image, images(n, size, 1)) + 0.1 * parsing_loss(logits, layouts(n, size))


def logits_loss(logits: object, n: int, size: tuple[int, int]) -> torch.Tensor:
    return parsing_loss(logits, layouts(n, size))


def synthesis(size: tuple[int, int], width: float, canvas: bool = True) -> nn.Module:
    return SynthesisNetwork(SynthesisConfig(N_CLASSES, size, width, canvas=canvas, passing=canvas, filled=canvas))


def synthesis_inputs(n: int, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    return hot(n, size), images(n, size), (images(n, size)[:, :1] > 0).float()


def theta_loss(theta: object, n: int, size: tuple[int, int]) -> torch.Tensor:
    wanted = torch.tensor([[[0.9, 0.1, 0.2], [-0.1, 1.1, -0.1]], [[1.1, 0.0, -0.2], [0.0, 0.9, 0.1]]])
    return (theta - wanted[:n]).abs().mean()


def pixels(n: int, size: tuple[int, int]) -> tuple[int, ...]:
    return n, N_CLASSES, *size


def crn(body: Body) -> Case:
    """Two pictures of a layout."""
    return Case(
        lambda size, width: CrnNetwork(CrnConfig(N_CLASSES, size, width, images=2, body=body)),
        lambda n, size: (hot(n, size),),
        lambda n, size: (n, 2, 3, *size),
        lambda found, n, size: functional.l1_loss(found, images(n, size, 1)[:, None].expand_as(found)),
        left=0.75,
    )


SQUARE = (64, 64)


def roi_inputs(n: int, _: object) -> tuple[torch.Tensor, ...]:
    """A picture, a region of it, noise and sliders."""
    random = torch.Generator().manual_seed(2)
    region = (images(n, SQUARE)[:, :1] > 0).float()
    return images(n, SQUARE), region, torch.randn(n, 5, generator=random), torch.rand(n, 3, generator=random) * 2 - 1


def roi(left: float, **options: object) -> Case:
    """Learns another picture than the one it is given."""
    return Case(
        lambda _, width: RoiGenerator(RoiConfig(64, width, noise=5, sliders=3, **options)),
        roi_inputs,
        lambda n, _: (n, 3, *SQUARE),
        lambda found, n, _: functional.l1_loss(found, images(n, SQUARE, 1)),
        left=left,
    )


def patches(n: int, _: object) -> tuple[torch.Tensor, ...]:
    """Two patches of each picture, of the last one only one, and noise."""
    both, present = torch.stack([images(n, SQUARE, 2), images(n, SQUARE, 3)], 1), torch.ones(n, 2)
    present[-1, 1] = 0
    return both, present, torch.rand(n, 5, generator=torch.Generator().manual_seed(2)) * 2 - 1


def key_patches(form: Form, left: float) -> Case:
    """Learns another picture than the patches, and a mask where there is one."""

    def loss(found: object, n: int, _: object) -> torch.Tensor:
        image, mask = found
        wanted = (images(n, SQUARE, 4)[:, :1] > 0).float()
        return functional.l1_loss(image, images(n, SQUARE, 1)) + (form == "assembler") * functional.l1_loss(
            mask, wanted
        )

    return Case(
        lambda _, width: KeyPatchNetwork(KeyPatchConfig(64, width, noise=5, embedding=16, parts=2, form=form)),
        patches,
        lambda n, _: (n, 3, *SQUARE),
        loss,
        left=left,
    )


CASES = {
    "synthesis": Case(synthesis, synthesis_inputs, lambda n, size: (n, 3, *size), image_loss, left=0.65),
    "synthesis-no-canvas": Case(
        lambda size, width: synthesis(size, width, canvas=False),
        synthesis_inputs,
        lambda n, size: (n, 3, *size),
        image_loss,
        left=0.7,
    ),
    "densification": Case(
        lambda size, width: DensificationNetwork(DensificationConfig(N_CLASSES, size, width)),
        lambda n, size: (hot(n, size),),
        pixels,
        logits_loss,
        left=0.3,
    ),
    "transformation": Case(
        lambda size, width: TransformationNetwork(TransformationConfig(N_CLASSES, width)),
        lambda n, size: (images(n, size) + 1, (images(n, size)[:, :1] > 0).float(), hot(n, size)),
        lambda n, size: (n, 2, 3),
        theta_loss,
    ),
    "ordering": Case(
        lambda size, width: OrderingNetwork(OrderingConfig(N_CLASSES, width)),
        lambda n, size: (hot(n, size)[:, 1:], hot(n, size)),
        lambda n, size: (n, N_CLASSES),
        lambda logits, n, size: functional.cross_entropy(logits, torch.arange(n)),
        left=0.2,
        lr=2e-3,
    ),
    **{f"crn-{body}": crn(body) for body in get_args(Body)},
    "whole-discriminator": Case(
        lambda size, width: WholeDiscriminator(WholeConfig(size, width)),
        lambda n, size: (images(n, size), hot(n, size)),
        lambda n, size: (n, 1),
        lambda scores, n, size: gan_discriminator(scores[:1], scores[1:]),
    ),
    "discriminator": Case(
        lambda size, width: PatchDiscriminator(DiscriminatorConfig(N_CLASSES, width)),
        lambda n, size: (images(n, size), hot(n, size)),
        lambda n, size: (n, 1, size[0] // 8 - 2, size[1] // 8 - 2),
        lambda scores, n, size: hinge_discriminator(scores[:1], scores[1:]),
        left=0.6,
    ),
    "roi": roi(0.7),
    "roi-published": roi(0.7, published=True),
    "roi-corrected": replace(
        roi(0.8, blend=1 / 8), loss=lambda found, n, _: functional.l1_loss(found, images(n, SQUARE))
    ),
    "roi-copies": roi(0.8, blend=1 / 8, copies=True, tints=True, textures=True, grain=0.5),
    "roi-discriminator": Case(
        lambda _, width: RoiDiscriminator(RoiConfig(64, width)),
        lambda n, size: roi_inputs(n, size)[:2],
        lambda n, _: (n, 26),
        lambda judged, n, _: hinge_discriminator(judged.scores[:1], judged.scores[1:]),
        left=0.7,
    ),
    "glcic": Case(
        lambda _, width: GlcicNetwork(GlcicConfig(64, width)),
        roi_inputs,
        lambda n, _: (n, 3, *SQUARE),
        lambda found, n, _: functional.l1_loss(found, images(n, SQUARE, 1)),
        left=0.7,
    ),
    **{
        f"key-patches-{form}": key_patches(form, left)
        for form, left in zip(get_args(Form), (0.75, 0.6, 0.7, 0.7), strict=True)
    },
    "key-patches-discriminator": Case(
        lambda _, width: KeyPatchDiscriminator(KeyPatchConfig(64, width)),
        lambda n, _: (images(n, SQUARE),),
        lambda n, _: (n,),
        lambda scores, n, _: hinge_discriminator(scores[:1], scores[1:]),
        left=0.7,
    ),
    **{
        name: Case(
            lambda size, width, fine=fine: JudgeNetwork(JudgeConfig(N_CLASSES, width, fine)),
            lambda n, size: (images(n, size),),
            pixels,
            logits_loss,
        )
        for name, fine in (("judge", True), ("judge-coarse", False))
    },
    "parsing": Case(
        lambda size, width: ParsingNetwork(ParsingConfig(N_CLASSES, width)),
        lambda n, size: (images(n, size),),
        pixels,
        logits_loss,
    ),
    "features": Case(
        lambda size, width: OnlyFeatures(FeaturesConfig(width)),
        lambda n, size: (images(n, size),),
        lambda n, size: (n, 1, *size),
        lambda found, n, size: (found - 1).abs().mean(),
        left=0.9,
    ),
}
LEARNING = [name for name in CASES if name != "features"]


class OnlyFeatures(nn.Module):
    """The features behind an output that is no dictionary."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.features = Features(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.features(image, LAYERS)
        return sum(found[name].mean((1, 2, 3), keepdim=True) for name in LAYERS[1:]) + found["conv1_2"].mean(1, True)


def made(name: str, size: tuple[int, int] = SIZE, width: float = WIDTH) -> nn.Module:
    return CASES[name].build(size, width).eval()


def awake(network: nn.Module) -> nn.Module:
    """The network with no weight at zero: one that begins at the identity would pass whatever its trunk did."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


def first(outputs: object) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("size", "width"), [((32, 48), 1 / 16), ((64, 96), 1 / 4)])
def test_outputs_have_their_shape(name, size, width):
    case = CASES[name]
    with torch.no_grad():
        found = first(made(name, size, width)(*case.inputs(2, size)))
    assert found.shape == case.shape(2, size)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", LEARNING)
def test_one_batch_can_be_learned(name):
    case = CASES[name]
    network = made(name).train()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    inputs = case.inputs(2, SIZE)
    optimiser = torch.optim.Adam(network.parameters(), case.lr)
    losses = []
    for _ in range(case.steps):
        loss = case.loss(network(*inputs), 2, SIZE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < case.left * losses[0], (losses[0], losses[-1])


@pytest.mark.parametrize("name", CASES)
def test_neighbours_in_a_batch_do_not_matter(name):
    network = awake(made(name))
    inputs = CASES[name].inputs(3, SIZE)
    with torch.no_grad():
        together = first(network(*inputs))
        alone = first(network(*(each[1:2] for each in inputs)))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


@pytest.mark.parametrize("case", [*CASES.values(), roi(0.7, fourier=True, blend=1 / 8)], ids=[*CASES, "roi-fourier"])
def test_a_network_computes_in_half_precision_where_it_is_cast(case):
    network = awake(case.build(SIZE, WIDTH).eval())
    inputs = case.inputs(2, SIZE)
    half, _ = lowered(network, inputs, "bfloat16")
    with torch.no_grad():
        found, expected = first(cast(half, "bfloat16")(*inputs)), first(network(*inputs))
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


@pytest.mark.parametrize("name", CASES)
def test_a_saved_network_answers_alike(name, tmp_path):
    network = awake(made(name))
    card = Card(name, asdict(network.config), CLASSES, SIZE, "bank", 1)
    save_checkpoint(tmp_path / "network.safetensors", network.state_dict(), card)
    card, tensors = load_checkpoint(tmp_path / "network.safetensors", name)
    again = type(network)(type(network.config)(**card.config)).eval()
    again.load_state_dict(tensors)
    assert again.config == network.config
    inputs = CASES[name].inputs(2, SIZE)
    with torch.no_grad():
        assert torch.equal(first(again(*inputs)), first(network(*inputs)))


EXPORTED = [  # the graph of the one is that of densification, nobody paints with the other
    name for name in CASES if name not in ("synthesis-no-canvas", "roi-published")
]


@cache
def exported(name: str) -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return torch.export.export(awake(made(name)), CASES[name].inputs(2, SIZE))


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_answers_alike(name):
    torch.manual_seed(0)
    network = awake(made(name))
    inputs = CASES[name].inputs(2, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(first(exported(name).module()(*inputs)), first(network(*inputs)))


FALL_BACKS: dict[str, set[str]] = {}
"""Network to the operators that run outside TensorRT: none needs any."""


@pytest.mark.parametrize("name", EXPORTED)
def test_what_tensorrt_cannot_run_is_known(name):
    table = torch.export.default_decompositions()
    for operator in [operator for operator in table if named(operator) in LISTED]:
        del table[operator]
    graph = exported(name).run_decompositions(table).graph
    used = {named(node.target) for node in graph.nodes if node.op == "call_function"}
    assert used - LISTED == FALL_BACKS.get(name, set())
    assert "aten.convolution.default" in used


def named(operator: object) -> str:
    module = getattr(operator, "__module__", "")
    return f"operator.{operator.__name__}" if module == "_operator" else str(operator)


def test_at_256_rows_the_network_is_that_of_the_paper():
    with torch.device("meta"):
        network = SynthesisNetwork(SynthesisConfig(19, (256, 512)))
        fine = SynthesisNetwork(SynthesisConfig(19, (512, 1024)))
    assert n_parameters(network) == pytest.approx(55.7e6, rel=2e-3)  # 20 label channels, the code's layers
    assert fine.cascade.levels[0][1][0].out_channels == 128
    assert [len(level) for level in fine.encoder.levels] == [2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(("rows", "coarsest"), [(96, 3), (128, 4), (192, 3), (256, 4), (512, 4), (1024, 4)])
def test_the_cascade_begins_at_about_four_rows(rows, coarsest):
    levels = pyramid(torch.zeros(1, 1, rows, rows), n_levels(rows))
    assert levels[-1].shape[-1] == coarsest
    assert len(refinement_channels(rows, 1.0)) == len(levels)
    assert n_fine(rows) == max(0, math.log2(rows / 256) // 1)


def test_halving_averages_and_odd_sides_keep_their_last_row():
    image = torch.arange(15.0).reshape(1, 1, 3, 5)
    assert halved(image)[0, 0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def test_any_multiple_of_32_can_be_painted():
    network = SynthesisNetwork(SynthesisConfig(N_CLASSES, (96, 160), WIDTH))
    with torch.no_grad():
        image, logits = network(*synthesis_inputs(1, (96, 160)))
    assert image.shape == (1, 3, 96, 160)
    assert logits.shape == (1, N_CLASSES, 96, 160)


def test_without_a_canvas_nothing_of_it_reaches_the_picture():
    network = made("synthesis-no-canvas")
    layout, canvas, valid = synthesis_inputs(1, SIZE)
    with torch.no_grad():
        assert torch.equal(network(layout, canvas, valid)[0], network(layout, -canvas, 1 - valid)[0])
        other = awake(made("synthesis"))
        assert not torch.allclose(other(layout, canvas, valid)[0], other(layout, -canvas, valid)[0], atol=1e-3)
        assert not torch.allclose(other(layout, canvas, valid)[0], other(layout, canvas, 1 - valid)[0], atol=1e-3)


def test_pixels_of_the_canvas_pass_where_it_is_valid_all_around():
    valid = torch.ones(1, 1, 32, 32)
    valid[..., 16:] = 0
    valid[..., 10, 20] = 1  # a lone pixel that elision left
    share = passed(valid)[0, 0]
    assert share[:, : 16 - 2 * MARGIN].eq(1).all()
    assert share[:, 16:].eq(0).all()
    assert torch.all(share[valid[0, 0] == 0] == 0)
    fading = share[0, 16 - 2 * MARGIN : 16].tolist()
    assert fading == sorted(fading, reverse=True)
    assert 0 < fading[1] < 1


def test_a_passing_network_shows_the_canvas_itself_but_for_what_it_corrects():
    layout, canvas, _ = synthesis_inputs(1, SIZE)
    valid = torch.zeros(1, 1, *SIZE)
    valid[..., :24] = 1
    network = SynthesisNetwork(SynthesisConfig(N_CLASSES, SIZE, WIDTH, passing=True))
    nn.init.zeros_(network.to_image.weight)
    with torch.no_grad():
        network.to_image.bias.copy_(torch.tensor([0.5, 0.5, 0.5, 0.25, 0.25, 0.25]))  # painted anew, and a correction
        image = network(layout, canvas, valid)[0]
    share = passed(valid)
    assert torch.allclose(image, (1 - share) * 0.5 + share * (canvas + 0.25))
    assert {0.0, 1.0} < set(share.unique().tolist())
    plain = SynthesisNetwork(SynthesisConfig(N_CLASSES, SIZE, WIDTH))
    assert plain.to_image.out_channels == 3, "as networks were before"


def test_a_filled_canvas_is_the_picture_but_for_what_it_lacks():
    layout, canvas, valid = synthesis_inputs(1, SIZE)
    network = made("synthesis")
    with torch.no_grad():
        assert torch.equal(network(layout, canvas, valid)[0], canvas), "nothing, before it learns"
        network.to_image.bias.fill_(0.25)
        assert torch.allclose(network(layout, canvas, valid)[0], canvas + 0.25)
        nn.init.normal_(network.to_image.weight)
        assert not torch.allclose(network(layout, canvas, 1 - valid)[0], network(layout, canvas, valid)[0])


def test_a_network_begins_from_another_without_what_that_projects_to_otherwise():
    plain, passing, begun = (
        SynthesisNetwork(SynthesisConfig(N_CLASSES, SIZE, WIDTH, **settings))
        for settings in ({}, {"passing": True}, {"passing": True, "filled": True})
    )
    for other in (plain, passing):
        taken = begun.taken_from(other.config, other.state_dict())
        assert any(name.startswith("encoder.") for name in taken)
        assert not any(name.startswith("to_image.") for name in taken)
        begun.begin_from(other.config, other.state_dict())
        assert not begun.to_image.weight.any(), "it begins with its canvas still"
    assert any(name.startswith("to_image.") for name in plain.taken_from(plain.config, plain.state_dict()))
    with pytest.raises(ValueError, match="do not pass"):
        SynthesisConfig(N_CLASSES, SIZE, WIDTH, filled=True)


def test_without_a_semantic_head_there_are_no_logits():
    config = SynthesisConfig(N_CLASSES, SIZE, WIDTH, semantic_head=False)
    assert SynthesisNetwork(config)(*synthesis_inputs(1, SIZE))[1] is None


def matrix_of(theta, size):
    """The warp of a theta of the whole picture, in pixels."""
    return as_affine(moved_by(theta.double().numpy(), Window(0, 0, *size)))


def test_an_untrained_transformation_leaves_segments_in_place():
    network = made("transformation")
    inputs = CASES["transformation"].inputs(2, SIZE)
    with torch.no_grad():
        theta = network(*inputs)
    assert torch.equal(theta, torch.eye(2, 3).expand(2, 2, 3))
    torch.testing.assert_close(warped(inputs[0], theta), inputs[0], rtol=0, atol=1e-4)
    assert matrix_of(theta[0], SIZE) == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def test_theta_reads_where_affine_grid_says():
    image = images(1, (8, 16))
    right = torch.tensor([[[1.0, 0, 4 / 16 * 2], [0, 1, 0]]])  # each pixel reads 4 columns to its right
    torch.testing.assert_close(warped(image, right)[..., :12], image[..., 4:], rtol=0, atol=1e-4)
    assert warped(image, right)[..., 12:].abs().max() < 1e-4
    matrix = matrix_of(right[0], (8, 16))
    np.testing.assert_allclose(matrix, ((1, 0, -4), (0, 1, 0)), atol=1e-6)
    twice = torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]])  # reads the middle half: enlarges twice about the centre
    np.testing.assert_allclose(matrix_of(twice[0], (8, 16)), ((2, 0, -8), (0, 2, -4)), atol=1e-6)


def test_matrix_and_theta_warp_alike():
    rows, cols = 40, 60
    theta = torch.tensor([[0.8, 0.15, -0.1], [-0.2, 0.9, 0.15]])
    image = images(1, (rows, cols))
    found = warped(image, theta[None])[0].permute(1, 2, 0).numpy()
    matrix = np.array(matrix_of(theta, (rows, cols)))
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV puts whole coordinates at pixel centres
    picture = image[0].permute(1, 2, 0).numpy()
    wanted = cv2.warpAffine(picture, centred, (cols, rows), flags=cv2.INTER_LINEAR)
    assert np.abs(found - wanted)[2:-2, 2:-2].max() < 0.05  # OpenCV rounds to 1/32 pixel


def test_a_piece_warped_by_the_matrix_lands_where_the_network_put_it():
    rows, cols = 48, 64
    mask = np.zeros((rows, cols), bool)
    mask[10:30, 12:40] = True
    theta = torch.tensor([[0.8, 0.2, -0.1], [-0.1, 0.9, 0.2]])
    covered = warped(torch.from_numpy(mask)[None, None].float(), theta[None])[0, 0].numpy() >= 0.5
    target = Target((0, 0, rows, cols), mask)
    origin = Origin("a", "scenes", "a.png")
    piece = Piece(1, 0, "car", np.zeros((rows, cols, 3), np.uint8), mask, (0.0, 0.0, 1.0, 1.0), target, origin)
    box, _, found = warp(piece, Transform("network", matrix_of(theta, (rows, cols))), (rows, cols))
    whole = np.zeros((rows, cols), bool)
    whole[box[0] : box[2], box[1] : box[3]] = found
    assert (whole & covered).sum() / (whole | covered).sum() > 0.97


def test_premultiplied_segments_are_nothing_outside():
    mask = (images(1, SIZE)[:, :1] > 0).float()
    both = premultiplied(images(1, SIZE), mask)
    assert both.shape == (1, 4, *SIZE)
    assert (both[:, :3] * (1 - mask)).abs().max() == 0
    assert torch.equal(both[:, :3][mask.expand(1, 3, *SIZE) > 0], (images(1, SIZE) + 1)[mask.expand(1, 3, *SIZE) > 0])


def test_the_place_in_the_picture_reaches_the_transformation():
    config = TransformationConfig(N_CLASSES, WIDTH)
    assert replace(config, coordinates=False) != config
    inputs = [torch.zeros(1, channels, *SIZE) for channels in (3, 1, N_CLASSES + 1)]
    inputs[0][..., 10:16, 10:16] = 1
    moved = [torch.roll(each, 12, -1) for each in inputs]
    network = awake(TransformationNetwork(config).eval())
    with torch.no_grad():
        assert not torch.allclose(network(*inputs), network(*moved), atol=1e-3)


@pytest.mark.parametrize("name", ["judge", "judge-coarse"])
def test_the_judge_tells_how_many_features_it_has(name):
    judge = made(name)
    with torch.no_grad():
        assert judge.features(images(2, SIZE)).shape == (2, judge.feature_size)
        logits, features = judge.judged(images(2, SIZE))
        assert torch.equal(logits, judge(images(2, SIZE)))
        assert torch.equal(features, judge.features(images(2, SIZE)))
        layers = judge.layers(images(2, SIZE))
        assert torch.equal(layers[-1], judge.stages(judge.stem(images(2, SIZE))))
    assert [layer.shape[-1] for layer in layers] == [SIZE[1] // by for by in (2, 4, 8, 8, 8)]
    assert judge.to_logits.in_channels == 64
    assert judge.feature_size == (64 if name == "judge-coarse" else 2 * (8 * 2 + 8 + 16 + 16 + 64))
    with torch.device("meta"):
        assert JudgeNetwork(JudgeConfig(N_CLASSES, 1.0)).feature_size == 256


def test_features_of_a_fine_judge_are_means_and_deviations_of_every_layer():
    judge = made("judge")
    with torch.no_grad():
        layers = judge.layers(images(2, SIZE))
        found = judge.features(images(2, SIZE))
        layers.append(judge._cells(layers))
    means = torch.cat([each.flatten(2).mean(2) for each in layers], 1)
    deviations = torch.cat([each.flatten(2).std(2, correction=0) for each in layers], 1)
    torch.testing.assert_close(found, torch.cat([means, deviations], 1))


def test_a_fine_judge_tells_neighbours_apart_that_a_coarse_one_reads_alike():
    picture = torch.zeros(1, 3, *SIZE)
    picture[..., 20:24] = 1  # a pole of four pixels
    changes = []
    for name in ("judge", "judge-coarse"):
        with torch.no_grad():
            logits = made(name)(picture)[0, :, 16]
        steps = (logits[:, 1:] - logits[:, :-1]).abs().sum(0)
        changes.append(float(steps.max() / steps.mean()))
    assert changes[0] > 1.5 * changes[1]
