"""Training RoI-GAN and GLCIC: items, figures by hand, every variant learns, going on, photographs without a bank."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import zeuxis
from tests.pipelines.tiny_models import make_bank, network_of
from tests.pipelines.training.steps import batch_of, learn
from zeuxis.pipelines.examples import made_example
from zeuxis.pipelines.models import built
from zeuxis.pipelines.training import completion, logs, roi
from zeuxis.pipelines.training.completion import correlations, masked_distance, middle, steps_across
from zeuxis.pipelines.training.glcic import GlcicTask
from zeuxis.pipelines.training.keeping import Learner
from zeuxis.pipelines.training.options import TrainOptions, resolved
from zeuxis.pipelines.training.photographs import BankOrigin, DatasetOrigin, Photographs, shortened
from zeuxis.pipelines.training.photographs import trained_and_held_out as dealt
from zeuxis.pipelines.training.resume import refuse_other_settings
from zeuxis.pipelines.training.roi import RoiTask
from zeuxis.pipelines.training.standing import settings_of
from zeuxis.storage.errors import DatasetError, InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, load_card, load_checkpoint, save_checkpoint
from zeuxis.synth.features import LAYERS, Features, FeaturesConfig
from zeuxis.synth.roi_gan.generator import completed
from zeuxis.synth.roi_gan.losses import EVEN, LossWeights, gradient_penalty, of_region, perceptual
from zeuxis.synth.roi_gan.losses import LAYERS as LAYERS_OF_CODE

OPTIONS = TrainOptions(preset="tiny", size=(64, 64), lr=2e-3, batch=2, devices="cpu", steps=10, sliders=2)
QUICK = {"preset": "tiny", "batch": 1, "devices": "cpu", "validate_every": 3, "log_every": 1, "sliders": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
    monkeypatch.setattr(completion, "N_VALIDATION", 2)
    monkeypatch.setattr(roi, "REDRAWN", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    from tests.conftest import Photos

    folder = tmp_path_factory.mktemp("roi")
    return make_bank(Photos(folder / "photos"), folder / "bank", ["train/a", "train/b", "val/c", "test/d"])


@pytest.fixture(scope="module")
def features(bank, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("networks")
    zeuxis.train("features", bank, folder, preset="tiny", size=(32, 32), steps=1, batch=1, devices="cpu")
    return str(folder / "features.safetensors")


@pytest.fixture
def plain(tmp_path) -> Path:
    """A folder of photographs without labels, in folders of their own."""
    folder = tmp_path / "plain"
    for number in range(11):
        path = folder / f"album{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 20 * number, np.uint8)).save(path)
    return folder


def untrained() -> Features:
    torch.manual_seed(0)
    return Features(FeaturesConfig(1 / 16)).requires_grad_(False).eval()


def task_of(bank, tmp_path, **options) -> RoiTask | GlcicTask:
    given = replace(OPTIONS, **options)
    if given.variant == "glcic":
        return GlcicTask(BankOrigin(Reader(bank)), tmp_path, given, untrained(), lambda *_: None)
    return RoiTask(BankOrigin(Reader(bank)), tmp_path, given, untrained())


# ---- photographs and items


def test_photographs_keep_their_shape_and_are_the_same_from_the_cache(bank, tmp_path):
    origin = BankOrigin(Reader(bank))
    names = origin.names("train")
    assert names == sorted(f"folder/train/{name}" for name in "ab")
    subject = origin.subject((64, 64))
    cached = Photographs(origin, names, 32, cache=tmp_path, subject=subject)
    fresh = Photographs(origin, names, 32, cache=None, subject=subject)
    for number, name in enumerate(names):
        wanted = shortened(origin.read(name), 32)
        assert wanted.shape == (32, 43, 3)  # of 48x64
        assert np.array_equal(cached[number], wanted)
        assert np.array_equal(fresh[number], wanted)
    (folder,) = tmp_path.iterdir()
    stale = folder.with_name(folder.name.replace(folder.name.split("-")[2], "0" * 8))
    stale.mkdir()
    Photographs(origin, names, 16, cache=tmp_path, subject=subject).prepare()
    assert folder.exists()
    assert not stale.exists(), "what was cached before the bank changed"
    assert shortened(np.zeros((10, 40, 3), np.uint8), 20).shape == (20, 80, 3)
    assert shortened(np.zeros((40, 10, 3), np.uint8), 5).shape == (20, 5, 3)


def test_what_is_validated_on_is_not_trained_on(bank, plain):
    assert dealt(BankOrigin(Reader(bank))) == (["folder/train/a", "folder/train/b"], ["folder/val/c"])
    names, held_out = dealt(DatasetOrigin(f"images:{plain}"))
    assert len(names) == 10
    assert held_out == ["album1/07"], "without splits every tenth"
    assert not set(names) & set(held_out)


def test_items_depend_on_seed_and_number_alone(bank, tmp_path):
    items, again = (task_of(bank, tmp_path, categories=1).dataset() for _ in range(2))
    seen = []
    for k in range(12):
        item = items[k]
        assert all(torch.equal(each, again[k][name]) for name, each in item.items())
        assert {name: tuple(each.shape) for name, each in item.items()} == {
            "image": (3, 64, 64), "region": (1, 64, 64), "z": (146,), "sliders": (12,),
        }  # fmt: skip
        assert set(item["region"].unique().tolist()) == {0.0, 1.0}
        assert item["sliders"][:2].abs().max() <= 1
        assert sorted(item["sliders"][2:].tolist()) == [0.0] * 9 + [1.0]
        seen.append(item["image"])
    assert len({each.numpy().tobytes() for each in seen}) == 12
    held = task_of(bank, tmp_path).held_out
    photograph = held.photographs[0]
    assert torch.equal(held[0]["image"], completion.to_tensor(middle(photograph, (64, 64))))


def test_crops_are_windows_of_the_photograph_half_of_them_mirrored():
    photograph = np.zeros((128, 192, 3), np.uint8)
    photograph[..., 0] = np.arange(192)  # the column
    photograph[..., 1] = np.arange(128)[:, None]
    random = np.random.default_rng(0)
    sides, mirrored = [], 0
    for _ in range(60):
        found = completion.crop(photograph, (64, 64), random).astype(int)
        right, down = (found[:, -1, 0] - found[:, 0, 0]).mean(), (found[-1, :, 1] - found[0, :, 1]).mean()
        mirrored += right < 0
        assert abs(right) == pytest.approx(down, abs=3), "square"
        sides.append(down * 64 / 63)
    assert 15 < mirrored < 45
    assert min(sides) > 60
    assert max(sides) > 120
    small = completion.crop(np.zeros((20, 30, 3), np.uint8), (64, 64), random)
    assert small.shape == (64, 64, 3)


# ---- losses and variants


@pytest.mark.parametrize("variant", [None, "published", "glcic"])
def test_every_variant_takes_steps_and_learns_a_batch(bank, tmp_path, variant):
    task = task_of(bank, tmp_path, variant=variant, steps=1000 if variant == "glcic" else 10)
    modules, batch = task.modules(), batch_of(task)
    before = {name: each.clone() for name, each in modules.named_parameters() if not each.requires_grad}
    first, *_, last = learn(task, modules, batch, 8)
    assert task.name == {None: "roi", "published": "roi-published", "glcic": "glcic"}[variant]
    assert task.network == ("glcic" if variant == "glcic" else "roi")
    assert last["net"] < 0.9 * first["net"]
    assert set(last) == ({"net"} if variant == "glcic" else {"net", "discriminator"})
    assert all(torch.equal(each, dict(modules.named_parameters())[name]) for name, each in before.items())
    net = modules["net"].eval()
    with torch.no_grad():
        figures, shown = task.validate(net), task.grid(net)
    assert {"masked", "pixel", "outside", "seam"} <= set(figures)
    assert all(np.isfinite(list(figures.values())))
    n_sliders = {None: 2, "published": 2, "glcic": 0}[variant]
    assert shown.shape == (64, 64 * (3 + 2 * n_sliders), 3)
    assert ("recovered" in figures) == (variant != "glcic")
    assert json.dumps([task.extra(modules), task.config()])


def test_the_total_is_the_thesis_sum_and_the_penalty_comes_every_fourth_step(bank, tmp_path):
    task = task_of(bank, tmp_path)
    modules, batch = task.modules(), batch_of(task)
    weights = LossWeights()
    raw = modules["net"](batch["image"], batch["region"], batch["z"], batch["sliders"])
    done = completed(batch["image"], batch["region"], raw)
    share = batch["region"].mean((1, 2, 3), keepdim=True)
    inside = (done - batch["image"]).abs().mean((1, 2, 3)) / share[:, 0, 0, 0].clamp(min=1 / 50)
    apart = float((raw - batch["image"]).abs().mean().detach() + inside.mean().detach())
    for step in (0, 1, 4):
        (_, total, parts), (_, judged, found) = task.losses(modules, batch, step)
        assert set(parts) == {"fooled", "matching", "perceptual", "pixel", "variation", "style", "information"}
        counts = asdict(weights)
        wanted = sum(counts.get(name, 1.0) * float(each.detach()) for name, each in parts.items())
        assert float(total.detach()) == pytest.approx(wanted, rel=1e-5)
        assert float(parts["pixel"].detach()) == pytest.approx(apart, rel=1e-5)
        assert ("penalty" in found) == (step % 4 == 0)
        rest = float(judged.detach()) - float(found["hinge"].detach()) - 0.5 * float(found["kept"].detach())
        if "penalty" in found:
            assert rest == pytest.approx(4 * 5 * float(found["penalty"].detach()), abs=1e-2)
        else:
            assert 0 <= rest < 1e-3
    task = task_of(bank, tmp_path, variant="published")
    (_, _, parts), (_, _, found) = task.losses(task.modules(), batch_of(task), 1)
    assert set(parts) == {"fooled", "matching", "perceptual", "variation", "style", "information"}
    assert set(found) == {"hinge", "penalty"}
    assert task.weights.information == task.weights.fooled == 1
    assert weights.fooled == 3
    assert (task.net_config.blend, task.figure) == (0, "masked")
    assert [task_of(bank, tmp_path, variant=name).net_config.blend for name in (None, "glcic")] == [1 / 8] * 2
    assert task_of(bank, tmp_path, blend=0.0).net_config.blend == 0


def test_only_what_is_trained_now_copies_and_tints_and_weighs_layers_alike(bank, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(roi, "perceptual", lambda *given: asked.append(given[3]) or perceptual(*given))
    for variant, wanted in ((None, EVEN), ("published", LAYERS_OF_CODE)):
        task = task_of(bank, tmp_path, variant=variant)
        next(iter(task.losses(task.modules(), batch_of(task), 1)))
        assert asked.pop() is wanted
        assert (task.net_config.copies, task.net_config.tints) == ((variant is None,) * 2)


def test_augmented_pictures_are_judged_and_sliders_read_of_those_that_are_not(bank, tmp_path):
    for augment in (False, True):
        task = task_of(bank, tmp_path, augment=augment)
        modules, batch = task.modules(), batch_of(task)
        seen = []
        modules["head"].register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given))
        (_, _, parts), (_, total, found) = task.losses(modules, batch, 1)
        assert len(seen) == 2
        outside = (batch["region"] == 0).expand_as(batch["image"])
        for image, region, features in seen:
            assert torch.equal(region, batch["region"])
            assert torch.equal(image[outside], batch["image"][outside]), "no light is changed, and nothing shifted"
            fresh = modules["discriminator"].eval()(image, region).features
            modules["discriminator"].train()
            assert torch.allclose(features[-1], fresh[-1], atol=0.2), "the trunk's own of the same picture"
        assert {"information", "kept"} <= {*parts, *found}
        total.backward()
        assert modules["discriminator"].trunk[0].parametrizations.weight.original.grad.any()


def test_regions_count_alike_whatever_their_size():
    region = torch.zeros(2, 1, 32, 32)
    region[0, :, :8], region[1, :, :16, 4:] = 1, 1
    counted = of_region(region)
    assert counted.mean((1, 2, 3)).tolist() == pytest.approx([1, 1])
    region[0] = 0
    region[0, :, 3, 3] = 1
    assert float(of_region(region)[0].sum()) == pytest.approx(50), "a pixel as a fiftieth of the picture"
    features = untrained()
    image, target = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    flat = perceptual(features, image, target)
    assert float(perceptual(features, image, target, weights=torch.ones(2, 1, 32, 32))) == pytest.approx(float(flat))
    assert float(perceptual(features, image, target, weights=torch.zeros(2, 1, 32, 32))) == 0
    left = torch.zeros(2, 1, 32, 32)
    left[..., :16] = 2
    halves = [float(perceptual(features, image, target, weights=each)) for each in (left, 2 - left)]
    assert np.mean(halves) == pytest.approx(float(flat), rel=1e-4)
    assert halves[0] != pytest.approx(halves[1], rel=1e-3)


def test_the_head_learns_with_the_generator_and_the_discriminator_without(bank, tmp_path):
    task = task_of(bank, tmp_path)
    modules, batch = task.modules(), batch_of(task)
    optimisers = task.optimisers(modules)
    held = {name: {id(each) for group in o.param_groups for each in group["params"]} for name, o in optimisers.items()}
    for name, module in (("net", "net"), ("net", "head"), ("discriminator", "discriminator")):
        assert {id(each) for each in modules[module].parameters()} <= held[name]
    assert not held["net"] & held["discriminator"]
    for lr, wanted in ((1e-4, 3e-4), (5e-4, 1e-3), (2e-3, 2e-3)):
        found = task_of(bank, tmp_path, lr=lr).optimisers(modules)
        assert [found[name].param_groups[0]["lr"] for name in ("net", "discriminator")] == [lr, pytest.approx(wanted)]
    steps = task.losses(modules, batch, 1)
    for learning in (("net", "head"), ("discriminator",)):
        next(steps)[1].backward()
        assert all(each.grad is not None for name in learning for each in modules[name].parameters())


@pytest.mark.parametrize("penalty", ["inside", "outside", "r1"])
def test_the_penalty_is_the_one_that_was_asked_for(bank, tmp_path, monkeypatch, penalty):
    asked = []
    monkeypatch.setattr(roi, "gradient_penalty", lambda *given: asked.append(given[-1]) or gradient_penalty(*given))
    task = task_of(bank, tmp_path, penalty=penalty, augment=True)
    for _ in task.losses(task.modules(), batch_of(task), 0):
        pass
    assert asked == [penalty]
    task = task_of(bank, tmp_path, variant="published")
    assert (task.penalty, task.drawn.kind) == ("outside", "ellipse")
    assert task_of(bank, tmp_path, variant="published", regions="mixed").held_out.drawn.kind == "mixed"
    assert task.net_config.categories == (10,) * 10
    assert task_of(bank, tmp_path).held_out.drawn.kind == "mixed"


def test_the_discriminator_sees_photographs_and_completed_pictures(bank, tmp_path):
    task = task_of(bank, tmp_path)
    modules, batch = task.modules(), batch_of(task)
    seen = []
    modules["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given))
    for _ in task.losses(modules, batch, 1):
        pass
    outside = (batch["region"] == 0).expand_as(batch["image"])
    assert len(seen) == 3
    for image, region in seen:
        assert torch.equal(region, batch["region"])
        assert torch.equal(image[outside], batch["image"][outside])
    assert torch.equal(seen[1][0], batch["image"])
    assert torch.equal(seen[0][0], seen[2][0])
    assert seen[0][0].requires_grad
    assert not seen[2][0].requires_grad


def test_the_released_code_sees_noisy_photographs_and_lets_a_network_rest_while_the_other_learns(bank, tmp_path):
    task = task_of(bank, tmp_path, variant="published")
    modules, batch = task.modules(), batch_of(task)
    seen: dict[str, list[Any]] = {"net": [], "discriminator": []}
    for name, calls in seen.items():
        modules[name].register_forward_pre_hook(
            lambda module, given, calls=calls: calls.append((module.training, given[0], torch.is_grad_enabled()))
        )
    for _ in task.losses(modules, batch, 1):
        pass
    outside = (batch["region"] == 0).expand_as(batch["image"])
    assert [(training, learns) for training, _, learns in seen["net"]] == [(True, True), (False, False)]
    modes = [training for training, _, _ in seen["discriminator"]]
    assert modes[:2] == [False, False]
    assert all(modes[2:])
    assert modules["net"].training
    photograph = seen["net"][0][1]
    assert float((photograph - batch["image"]).std()) == pytest.approx(0.05, rel=0.1)
    for _, image, _ in seen["discriminator"][:4]:
        assert torch.equal(image[outside], photograph[outside]), "the same noise in photographs and completed pictures"


def test_the_released_code_draws_its_weights_by_he(bank, tmp_path):
    torch.manual_seed(0)
    modules = task_of(bank, tmp_path, variant="published").modules()
    for layer in (modules["net"].to_mean, modules["head"].layers[0]):
        wanted = math.sqrt(2 / math.prod(layer.weight.shape[1:]))
        assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("option", ["fourier", "spectral", "equalised"])
def test_switches_reach_the_network_that_is_trained(bank, tmp_path, option):
    task = task_of(bank, tmp_path, **{option: True})
    assert getattr(task.net_config, option)
    modules, batch = task.modules(), batch_of(task)
    for _, total, _ in task.losses(modules, batch, 0):
        total.backward()
    plain = task_of(bank, tmp_path).modules()["net"].state_dict()
    assert set(modules["net"].state_dict()) != set(plain)


def test_glcic_has_three_phases(bank, tmp_path):
    task = task_of(bank, tmp_path, variant="glcic", steps=100)
    modules, batch = task.modules(), batch_of(task)
    asked = {
        step: [(n, set(parts)) for n, _, parts in task.losses(modules, batch, step)] for step in (0, 17, 18, 19, 20)
    }
    assert asked[0] == asked[17] == [("net", {"squares"})]
    assert asked[18] == asked[19] == [("discriminator", set())]
    assert asked[20] == [("net", {"squares", "fooled"}), ("discriminator", set())]
    (_, total, parts), _ = task.losses(modules, batch, 20)
    wanted = float(parts["squares"].detach()) + 4e-4 * float(parts["fooled"].detach())
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-5)
    raw = modules["net"](batch["image"], batch["region"], batch["z"], batch["sliders"])
    inside = (batch["region"] > 0).expand_as(raw)
    assert float(parts["squares"].detach()) == pytest.approx(
        float((raw - batch["image"])[inside].square().mean().detach()), rel=1e-4
    )


# ---- figures


def test_correlations_are_pearsons_and_nought_of_what_does_not_move():
    random = np.random.default_rng(0)
    said, read = random.normal(size=(2, 50, 3))
    read[:, 0] += 2 * said[:, 0]
    read[:, 2] = 1
    found = correlations(torch.from_numpy(said), torch.from_numpy(read))
    wanted = [np.corrcoef(said[:, i], read[:, i])[0, 1] for i in (0, 1)]
    np.testing.assert_allclose(found, [*wanted, 0], atol=1e-12)
    assert found[0] > 0.8


def test_masked_distance_and_seams_by_hand():
    features = untrained()
    image, real = torch.rand(2, 3, 2, 32, 32) * 2 - 1
    image, real = image.movedim(1, 0).contiguous(), real.movedim(1, 0).contiguous()
    region = torch.zeros(2, 1, 32, 32)
    region[:, :, 8:24, 4:20] = 1
    outside = torch.where(region > 0, real, image)
    assert masked_distance(features, outside, real, region).tolist() == [0, 0], "what is outside does not count"
    found, wanted = features(image, LAYERS, region), features(real, LAYERS, region)
    each = [float((found[n][1] - wanted[n][1]).abs().sum() / wanted[n][1].sum()) for n in LAYERS]
    assert float(masked_distance(features, image, real, region)[1]) == pytest.approx(np.mean(each), rel=1e-4)
    flat = torch.zeros(1, 3, 4, 4)
    one = torch.zeros(1, 1, 4, 4)
    one[..., 1, 1] = 1
    flat[..., 1, 1] = 0.5
    flat[..., 1, 2] = 0.1
    assert float(steps_across(flat, one)) == pytest.approx((0.5 * 3 + 0.4) / 4)


def test_figures_say_what_a_generator_does(bank, tmp_path, monkeypatch):
    task = task_of(bank, tmp_path)
    task.modules()
    monkeypatch.setattr(task, "_reading", lambda done, region: SAID["sliders"] * torch.tensor([2.0, -1.0]))
    SAID = {}

    class Perfect(torch.nn.Linear):
        def forward(self, image, region, z, sliders):
            SAID["sliders"] = sliders
            return image + self.bias * region

    net = Perfect(1, 1)
    torch.nn.init.zeros_(net.bias)
    with torch.no_grad():
        figures = task.validate(net)
        assert (figures["masked"], figures["pixel"], figures["outside"], figures["spread"]) == (0, 0, 0, 0)
        assert figures["seam"] == pytest.approx(1)
        assert (figures["slider_1"], figures["slider_2"]) == (pytest.approx(1), pytest.approx(-1))
        assert (figures["recovered"], figures["read"]) == (1, pytest.approx(0))
        assert figures["cost"] == pytest.approx(0.01), "one slider is read, and the other not"
        torch.nn.init.constant_(net.bias, 0.25)
        figures = task.validate(net)
        assert figures["pixel"] == pytest.approx(0.25, rel=1e-5)
        assert figures["outside"] == 0
        assert figures["masked"] > 0.01
        assert figures["cost"] == pytest.approx(figures["masked"] + 0.01)
        monkeypatch.setattr(roi, "correlations", lambda said, read: np.array([0.2, 0.9]))
        figures = task.validate(net)
        assert figures["cost"] == pytest.approx(figures["masked"] + 0.01 * 0.75), "of one a quarter of 0.8"


def test_what_the_head_reads_is_of_the_completed_picture_and_leaves_the_modes(bank, tmp_path):
    task = task_of(bank, tmp_path, variant="published")
    modules, batch = task.modules(), batch_of(task)
    with torch.no_grad():
        raw = modules["net"].eval()(batch["image"], batch["region"], batch["z"], batch["sliders"])
        done = completed(batch["image"], batch["region"], raw)
        read = task._reading(done, batch["region"])
        assert modules["head"].training
        assert modules["discriminator"].training
        features = modules["discriminator"].eval()(done, batch["region"]).features
        wanted = modules["head"].eval()(done, batch["region"], features)
    assert torch.equal(read, wanted.mean)


def test_what_reads_sliders_is_a_running_mean_of_the_generators_age(bank, tmp_path):
    task = task_of(bank, tmp_path)
    modules = task.modules()
    plain: Any = SimpleNamespace(
        fabric=SimpleNamespace(device="cpu"), set_up=lambda each: each, set_up_optimisers=lambda each: each
    )
    learner = Learner(task, modules, plain)
    assert set(learner.along) == {"discriminator", "head"}
    before = {name: each.clone() for name, each in modules.named_parameters()}
    with torch.no_grad():
        for each in modules.parameters():
            each.add_(1)
    learner.follow(0.75)
    for name, module in {"net": learner.average, **learner.along}.items():
        for key, mean in module.named_parameters():
            torch.testing.assert_close(mean, before[f"{name}.{key}"] + 0.25)
            assert not mean.requires_grad
    batch = batch_of(task)
    with torch.no_grad():
        live = task._reading(batch["image"], batch["region"])
        task.read_with(learner.along)
        mean = task._reading(batch["image"], batch["region"])
        features = learner.along["discriminator"](batch["image"], batch["region"]).features
        wanted = learner.along["head"](batch["image"], batch["region"], features).mean
    assert torch.equal(mean, wanted)
    assert not torch.allclose(mean, live, atol=1e-3)


def test_the_means_are_kept_and_validated_with(bank, features, tmp_path, monkeypatch):
    asked = []
    told = RoiTask.read_with
    monkeypatch.setattr(RoiTask, "read_with", lambda task, along: asked.append(along) or told(task, along))
    zeuxis.train("roi", bank, tmp_path / "models", steps=2, features=features, **QUICK | {"validate_every": 2})
    (along,) = asked
    kept, state = (load_file(tmp_path / f"models/resume/roi{each}.safetensors") for each in ("-along", ""))
    for name, each in along.state_dict().items():
        assert torch.equal(kept[f"modules.{name}"], each)
        assert torch.equal(state[f"along.{name}"], each)
    name = "head.layers.0.weight"
    assert not torch.equal(kept[f"modules.{name}"], state[f"modules.{name}"])


# ---- going on, and without a bank


def test_a_resumed_training_takes_the_steps_of_one_that_was_not_interrupted(bank, features, tmp_path):
    options = {**QUICK, "features": features, "augment": True}
    zeuxis.train("roi", bank, tmp_path / "whole", steps=5, **options)

    def stop(done, total, note=""):
        if done == 2 and note.startswith("roi: loss"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        zeuxis.train("roi", bank, tmp_path / "parts", steps=5, progress=stop, **options)
    (report,) = zeuxis.train("roi", bank, tmp_path / "parts", steps=5, **options)
    assert (report.first, report.step) == (2, 5)
    whole, parts = (load_file(tmp_path / name / "resume/roi.safetensors") for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    assert all(torch.equal(each, parts[name]) for name, each in whole.items())
    assert any(name.startswith("along.head.") for name in whole)
    rows = [logs.read_table(tmp_path / name / "logs/roi/losses.csv") for name in ("whole", "parts")]
    for column in ("total_net", "total_discriminator"):
        assert [row[column] for row in rows[0]] == [row[column] for row in rows[1]]
    card, tensors = load_checkpoint(tmp_path / "parts/roi.safetensors", "roi")
    assert (card.size, card.config["sliders"]) == ((64, 64), 2)
    assert card.features.startswith("bank:1/8 step 1 (")
    assert card.training["loss_weights"]["perceptual"] == 5
    assert built("roi", card, tensors, tmp_path / "parts/roi.safetensors").config.sliders == 2
    with Image.open(next((tmp_path / "parts/logs/roi/grids").glob("*.png"))) as grid:
        assert grid.size == (7 * 64, 64)
    for other, said in (({"augment": False}, "augment true, found augment null"), ({"regions": "ellipse"}, "regions")):
        with pytest.raises(InputError, match=said):
            zeuxis.train("roi", bank, tmp_path / "parts", steps=5, **options | other)


def test_only_what_takes_the_steps_it_took_before_goes_on_with_a_training_of_before(bank, tmp_path):
    def before(options: TrainOptions) -> dict[str, Any]:
        found = settings_of(task_of(bank, tmp_path, **options), OPTIONS)
        return {name: value for name, value in found.items() if name != "revision"} | {
            "config": {name: each for name, each in found["config"].items() if name not in ("blend", "copies", "tints")}
        }

    same = {"variant": "glcic", "blend": 0.0}
    refuse_other_settings(tmp_path, before(same), settings_of(task_of(bank, tmp_path, **same), OPTIONS))
    others = ({"blend": 0.0}, "revision"), ({"variant": "published"}, "revision"), ({"variant": "glcic"}, "config")
    for other, said in others:
        with pytest.raises(InputError, match=said):
            refuse_other_settings(tmp_path, before(other), settings_of(task_of(bank, tmp_path, **other), OPTIONS))


def test_a_folder_of_photographs_needs_no_bank_and_no_labels(plain, features, tmp_path):
    given = {**QUICK, "features": features, "steps": 1, "size": (64, 64)}
    (report,) = zeuxis.train("roi", None, tmp_path / "models", dataset=f"folder:{plain}", **given)
    card = load_card(report.checkpoint)
    assert (card.network, card.bank, card.generation, list(card.classes)) == ("roi", "images:plain", 0, [])
    assert card.training["dataset"] == f"folder:{plain}"
    (report,) = zeuxis.train(
        "roi", None, tmp_path / "models", dataset=f"folder:{plain}", variant="glcic", **given | {"sliders": None}
    )
    assert load_card(report.checkpoint).network == "glcic"
    assert sorted(path.name for path in (tmp_path / "models").glob("*.safetensors")) == [
        "glcic.safetensors", "roi.safetensors",
    ]  # fmt: skip


def test_what_completes_pictures_is_compiled_at_its_own_size(tmp_path):
    from zeuxis.pipelines.compile import _networks

    for kind, config in (("roi", {"noise": 7, "sliders": 2, "categories": (3,)}), ("glcic", {})):
        network = network_of(kind, 0, **config).eval()
        card = Card(kind, asdict(network.config), (), (64, 64), "bank", 1)
        save_checkpoint(tmp_path / f"{kind}.safetensors", network.state_dict(), card)
    for each in _networks(tmp_path, (96, 128))[0]:
        assert each.size == (64, 64)
        example = made_example(each.card.network, 0, each.size, each.card.config)
        with torch.no_grad():
            found = each.load(torch.device("cpu"))(*(one[:2] for one in example.inputs))
        assert found.shape == (2, 3, 64, 64)


def test_a_labelled_folder_is_read_as_it_is(photos):
    photos.add("train/a", "val/b")
    origin = DatasetOrigin(photos.spec)
    assert (origin.names("train"), origin.names("val")) == (["train/a"], ["val/b"])
    assert origin.read("train/a").shape == (48, 64, 3)
    before = origin.subject((64, 64))
    assert DatasetOrigin(photos.spec).subject((64, 64)) == before
    photos.add("train/c")
    assert DatasetOrigin(photos.spec).subject((64, 64)).content != before.content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (64, 96)}, "size: expected one of 64x64, 128x128, 256x256, found 64x96"),
        ({"size": (32, 32)}, "size: expected one of"),
        ({"regions": "round"}, "--regions: expected one of rectangle, ellipse, level-set, mixed, found 'round'"),
        ({"penalty": "both"}, "--penalty: expected one of inside, outside, r1"),
        ({"sliders": -1}, "sliders: expected a whole number of at least 0"),
        ({"sliders": 1000}, "--sliders: expected at most 256"),
        ({"blend": -1.0}, "--blend: expected 0 or a length of 0.001 to 16 sides of the picture, found -1.0"),
        ({"variant": "published", "blend": 0.1}, "--blend: expected without --variant published"),
        ({"what": "crn", "blend": 0.1}, "--blend: expected with roi, found with crn"),
        ({"spectral": True, "equalised": True}, "--equalised: expected no --spectral-norm"),
        ({"variant": "published", "penalty": "r1"}, "--penalty: expected without --variant published"),
        ({"variant": "published", "spectral": True}, "--spectral-norm: expected without --variant published"),
        ({"variant": "published", "batch": 1}, "--variant published: expected batches of at least 2"),
        ({"variant": "glcic", "sliders": 3}, "--sliders: expected without --variant glcic"),
        ({"variant": "gan"}, "variant 'gan': expected one of published, glcic with roi"),
        ({"images": 2}, "--images: expected with crn, found with roi"),
        ({"what": "crn", "sliders": 3}, "--sliders: expected with roi, found with crn"),
        (
            {"what": "all", "dataset": "images:x"},
            "--dataset: expected with roi, key-patches or generator, found with all",
        ),
        ({"dataset": "images:x"}, "--dataset: expected no --bank beside it, found both"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(bank, features, tmp_path, options, said):
    given = {**QUICK, "steps": 1, "sliders": None, "features": features, **options}
    if (what := given.pop("what", "roi")) != "roi":
        given["features"] = None
    with pytest.raises(InputError, match=said):
        zeuxis.train(what, bank, tmp_path / "models", **given)
    assert not (tmp_path / "models").exists()


def test_places_without_photographs_are_refused(bank, features, tmp_path):
    for dataset, error in (("images:nowhere", DatasetError), ("photographs", DatasetError), (None, InputError)):
        with pytest.raises(error):
            zeuxis.train("roi", None, tmp_path / "models", dataset=dataset, features=features, **QUICK)
    with pytest.raises(InputError, match="run `zeuxis train features`"):
        zeuxis.train("roi", bank, tmp_path / "models", **QUICK)
    assert not (tmp_path / "models").exists()


def test_a_preset_gives_square_pictures():
    for name, side in (("tiny", 64), ("small", 128), ("paper-256", 256), ("paper-1024", 256)):
        assert resolved(TrainOptions(preset=name), "roi", (180, 240)).size == (side, side)
