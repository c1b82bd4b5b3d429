"""Training generators and their rivals: items, losses by hand, going on, objects, photographs without a bank."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import zeuxis
from tests.pipelines.tiny_models import make_bank
from tests.pipelines.training.steps import batch_of, learn
from zeuxis.pipelines.compile import _networks
from zeuxis.pipelines.examples import made_example
from zeuxis.pipelines.generators import load_generator, load_rival
from zeuxis.pipelines.progress import silent
from zeuxis.pipelines.training import generator, generator_pictures, logs, object_windows, vae_generators
from zeuxis.pipelines.training.generator import PENALTY, make_task
from zeuxis.pipelines.training.generator_pictures import SMALLEST, window
from zeuxis.pipelines.training.object_windows import ObjectOrigin, is_worth_it, window_around
from zeuxis.pipelines.training.options import TrainOptions, check, resolved
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, load_card, save_checkpoint
from zeuxis.synth.compiling.packages import Store
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.region_semantics.balance import Balance
from zeuxis.synth.region_semantics.generator import GeneratorConfig
from zeuxis.synth.region_semantics.networks import generator_network
from zeuxis.synth.region_semantics.pixel_vae import levels_of

SIDE = 32
OPTIONS = TrainOptions(preset="tiny", size=(SIDE, SIDE), lr=2e-3, batch=2, devices="cpu", steps=10)
QUICK = {"preset": "tiny", "size": (SIDE, SIDE), "batch": 1, "devices": "cpu", "validate_every": 3, "log_every": 1}
KINDS = ("began", "wgan-gp", "ladder-vae", "pixel-vae", "vae-gan")
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
    for module in (generator, generator_pictures):
        monkeypatch.setattr(module, "N_VALIDATION", 2)
    monkeypatch.setattr(generator.GeneratorTask, "n_made", 2)
    monkeypatch.setattr(vae_generators.PixelTask, "n_made", 2)
    monkeypatch.setattr(vae_generators.PixelTask, "rows", 1)
    for module in (generator, vae_generators):
        monkeypatch.setattr(module, "COLUMNS", 2)
    monkeypatch.setattr(generator.GeneratorTask, "rows", 1)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    from tests.conftest import Photos

    folder = tmp_path_factory.mktemp("generator")
    return make_bank(Photos(folder / "photos"), folder / "bank", ["train/a", "train/b", "val/c", "test/d"])


@pytest.fixture(scope="module")
def features(bank, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("networks")
    zeuxis.train("features", bank, folder, preset="tiny", size=(32, 32), steps=1, batch=1, devices="cpu")
    return str(folder / "features.safetensors")


def task_of(bank, tmp_path, features, **options):
    given = replace(OPTIONS, features=features, **options)
    return make_task(Reader(bank), tmp_path, given, silent)


# ---- pictures


def test_items_depend_on_seed_and_number_alone(bank, features, tmp_path):
    items, again = (task_of(bank, tmp_path, features, critic_steps=3, kind="wgan-gp").dataset() for _ in range(2))
    seen = set()
    for k in range(6):
        item = items[k]
        assert all(torch.equal(each, again[k][name]) for name, each in item.items())
        assert {name: tuple(each.shape) for name, each in item.items()} == {
            "images": (3, 3, SIDE, SIDE), "z": (4, 128),
        }  # fmt: skip
        seen.add(item["images"].numpy().tobytes())
    assert len(seen) == 6
    uniform = task_of(bank, tmp_path, features, kind="began").dataset()[0]["z"]
    assert uniform.shape == (2, 64)
    assert 0.9 < uniform.abs().max() <= 1
    held = task_of(bank, tmp_path, features).held_out
    assert not torch.equal(held[0]["images"], held[1]["images"]), "other windows of the one photograph"


def test_a_window_is_a_large_square_anywhere_in_the_photograph():
    rows, cols = np.mgrid[:80, :120].astype(np.uint8)
    photograph, lefts, mirrored = np.dstack([rows, cols, cols]), set(), 0
    for seed in range(40):
        cut = window(photograph, 16, np.random.default_rng(seed)).astype(int)
        assert cut.shape == (16, 16, 3)
        height, width = (np.ptp(cut[..., channel]) * 16 / 15 for channel in (0, 1))
        assert abs(height - width) <= 2, "square"
        assert SMALLEST * 80 - 2 <= height <= 82
        mirrored += bool(cut[0, 0, 1] > cut[0, -1, 1])
        lefts.add(int(cut[..., 1].min()) // 8)
    assert 8 < mirrored < 32
    assert len(lefts) >= 5


def test_windows_of_objects_are_squares_about_their_segments(bank):
    assert window_around((10, 20, 30, 30), (48, 64)) == (8, 13, 32, 37)  # side 1.2 * 20 about row 20, column 25
    assert window_around((0, 50, 20, 64), (48, 64)) == (0, 40, 24, 64), "moved inside"
    assert window_around((0, 0, 48, 10), (48, 64)) == (0, 0, 48, 48), "as large as there is room"
    assert is_worth_it((4, 4, 20, 14), (48, 64), 32)
    assert not is_worth_it((4, 4, 12, 14), (48, 64), 32), "small"
    assert not is_worth_it((4, 4, 40, 14), (48, 64), 32), "long"
    assert not is_worth_it((0, 0, 20, 20), (48, 64), 32), "cut at two sides"
    reader = Reader(bank)
    objects = ObjectOrigin(reader, "car", 16)
    names = objects.names("train")
    assert names
    for name in names:
        picture = objects.read(name)
        assert picture.shape[0] == picture.shape[1]
        assert name.startswith("folder/train/")
    assert not set(objects.names("val")) & set(names)


def test_objects_are_of_a_class_that_the_bank_has(bank, features, tmp_path, monkeypatch):
    monkeypatch.setattr(object_windows, "LEAST_LONGER", 1 / 8)
    monkeypatch.setattr(object_windows, "LEAST_SHORTER", 1 / 8)
    task = task_of(bank, tmp_path, features, objects="car")
    train, held_out = (each.photographs.names for each in (task.samples, task.held_out))
    assert train
    assert not {name.partition("#")[0] for name in train} & {name.partition("#")[0] for name in held_out}
    assert task.dataset()[0]["images"].shape == (5, 3, SIDE, SIDE)
    with pytest.raises(InputError, match=r"class 'cat': expected one of the bank's: car, ground, sign, sky, found no"):
        task_of(bank, tmp_path, features, objects="cat")
    with pytest.raises(NothingToLearn, match="expected pictures of class 'sign', found no sign large enough"):
        task_of(bank, tmp_path, features, objects="sign", size=(128, 128))
    given = replace(OPTIONS, features=features, objects="car", dataset="images:nowhere")
    with pytest.raises(InputError, match="--class: expected a bank with classes, found photographs alone"):
        make_task(None, tmp_path, given, silent)


# ---- losses


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 8), ("paper-256", 16), ("paper-1024", 16)])
def test_at_full_width_a_step_takes_as_many_pictures_as_that_of_the_paper(preset, batch):
    assert resolved(TrainOptions(preset=preset), "generator", (192, 256)).batch == batch
    assert resolved(TrainOptions(preset=preset, batch=3), "generator", (192, 256)).batch == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_says_how_well(bank, features, tmp_path, kind):
    task = task_of(bank, tmp_path, features, kind=kind)
    modules = task.modules()
    before = {name: each.clone() for name, each in modules.state_dict().items()}
    seen = learn(task, modules, batch_of(task), 2)
    after = modules.state_dict()
    moved = {name.partition(".")[0] for name, each in before.items() if not torch.equal(each, after[name])}
    assert moved == set(modules) - {"balance"}, "the control of BEGAN is at its end"
    assert all(np.isfinite(list(each.values())).all() for each in seen)
    assert (task.network, task.name, task.config()["kind"]) == ("generator", f"generator-{kind}", kind)
    with torch.no_grad():
        figures = task.validate(modules["net"].eval())
    wanted = {"kid", "spread"} | ({"bound"} if kind in ("ladder-vae", "pixel-vae") else set())
    assert set(figures) == wanted
    assert task.figure in figures
    if kind != "pixel-vae":  # it takes a step a pixel
        with torch.no_grad():
            grid = task.grid(modules["net"])
        assert grid.shape == ((3 if kind in ("ladder-vae", "vae-gan") else 2) * SIDE, 2 * SIDE, 3)


def test_the_critic_takes_its_steps_on_photographs_and_latents_of_its_own(bank, features, tmp_path):
    task = task_of(bank, tmp_path, features, kind="wgan-gp", critic_steps=3)
    modules, batch = task.modules(), batch_of(task)
    rows = list(task.losses(modules, batch, 0))
    assert [name for name, _, _ in rows] == ["net", "critic", "critic", "critic"]
    net, critic = modules["net"], modules["critic"]
    with torch.no_grad():
        assert rows[0][1].item() == pytest.approx(-float(critic(net(batch["z"][:, 0])).mean()), abs=1e-4)
        for number, (_, total, parts) in enumerate(rows[1:]):
            real, fake = batch["images"][:, number], net(batch["z"][:, number + 1])
            distance = float(critic(real).mean() - critic(fake).mean())
            assert float(parts["distance"]) * 3 == pytest.approx(distance, abs=1e-4)
            assert float(total) == pytest.approx(PENALTY * 3 * float(parts["penalty"]) - distance, abs=1e-3)
    default = task_of(bank, tmp_path, features, kind="wgan-gp")
    check(TrainOptions(critic_steps=2))  # of the kind that is trained where none is named
    assert default.critic_steps == default.extra(modules)["critic_steps"] == 5


@pytest.mark.parametrize("kind", ["began", "wgan-gp"])
def test_rates_fall_on_a_straight_line_to_nothing(bank, features, tmp_path, kind):
    task = task_of(bank, tmp_path, features, kind=kind)
    modules, batch = task.modules(), batch_of(task)
    optimisers = task.optimisers(modules)
    assert set(optimisers) == {"net", "critic"}
    for step, rate in ((0, 2e-3), (5, 1e-3), (9, 2e-4), (12, 0.0)):
        next(iter(task.losses(modules, batch, step)))
        found = [group["lr"] for each in optimisers.values() for group in each.param_groups]
        assert found == pytest.approx([rate, rate]), "of the 10 steps of the options"


def test_began_weighs_made_pictures_by_its_control(bank, features, tmp_path):
    task = task_of(bank, tmp_path, features, kind="began")
    modules, batch = task.modules(), batch_of(task)
    modules["balance"].k.fill_(0.25)
    (_, made, _), (_, total, parts) = task.losses(modules, batch, 0)
    critic, real = modules["critic"], batch["images"][:, 0]
    with torch.no_grad():
        fake = modules["net"](batch["z"][:, 0])
        errors = [float((critic(each) - each).abs().mean()) for each in (real, fake)]
    assert made.item() == pytest.approx(errors[1], rel=1e-4)
    assert total.item() == pytest.approx(errors[0] - 0.25 * errors[1], rel=1e-4)
    assert float(parts["convergence"]) == pytest.approx(errors[0] + abs(0.5 * errors[0] - errors[1]), rel=1e-4)
    assert float(modules["balance"].k) == pytest.approx(0.25 + task.rate * (0.5 * errors[0] - errors[1]), rel=1e-4)


@pytest.mark.parametrize("kind", ["began", "wgan-gp"])
def test_the_generator_learns_from_changed_pictures_too(bank, features, tmp_path, kind):
    task = task_of(bank, tmp_path, features, kind=kind, augment=True)
    modules = task.modules()
    name, total, _ = next(iter(task.losses(modules, batch_of(task), 0)))
    assert name == "net"
    slopes = torch.autograd.grad(total, list(modules["net"].parameters()))
    assert all(each.any() for each in slopes)


def test_the_bound_of_a_ladder_vae_is_per_number_with_divergences_that_warm_up(bank, features, tmp_path):
    task = task_of(bank, tmp_path, features, kind="ladder-vae")
    modules, batch = task.modules(), batch_of(task)
    net, image, noise = modules["net"], batch["images"][:, 0], batch["z"][:, 0]
    with torch.no_grad():
        found = net(image, noise, full=True)
    likelihood = float(((image - found.image).abs() + math.log(2)).mean())  # of a scale of 1, as a network begins
    both = float((found.kl1 + found.kl2).mean()) / (3 * SIDE * SIDE)
    assert both > 1e-4
    for step, share in ((0, 1 / 500), (249, 0.5), (499, 1.0), (2000, 1.0)):
        ((_, total, _),) = task.losses(modules, batch, step)
        assert total.item() == pytest.approx(likelihood + share * both, rel=1e-5, abs=1e-6)
    windows = torch.cat([task.held_out[k]["images"] for k in range(2)])
    noise = torch.randn(2, task.noise, generator=torch.Generator().manual_seed(generator_pictures.VALIDATION_SEED))
    with torch.no_grad():
        bound, found = task.validate(net)["bound"], net(windows, noise, full=True)
    wanted = (windows - found.image).abs().mean() + math.log(2) + (found.kl1 + found.kl2).mean() / (3 * SIDE * SIDE)
    assert bound == pytest.approx(float(wanted), rel=1e-5)


def test_the_losses_of_a_vae_gan_are_those_by_hand(bank, features, tmp_path):
    task = task_of(bank, tmp_path, features, kind="vae-gan")
    modules, batch = task.modules(), batch_of(task)
    net, discriminator, image = modules["net"], modules["discriminator"], batch["images"][:, 0]
    (_, total, parts), (name, judged, _) = task.losses(modules, batch, 249)
    with torch.no_grad():
        found = net(image, batch["z"][:, 0], full=True)
        real, left, fake = (discriminator(each) for each in (image, found.image, found.others))
        apart = (real.features - left.features).abs().mean() / real.features.square().mean().sqrt() + math.log(2)
        both = (found.kl1 + found.kl2).mean() / (3 * SIDE * SIDE)
        fooled = -functional.logsigmoid(fake.scores).mean()
        told = -functional.logsigmoid(real.scores).mean() - functional.logsigmoid(-fake.scores).mean()
    assert (name, len(fake.scores)) == ("discriminator", 4)
    assert parts["fooled"].item() == pytest.approx(float(fooled), rel=1e-4)
    assert total.item() == pytest.approx(float(apart + 0.5 * both + fooled), rel=1e-4)
    assert judged.item() == pytest.approx(float(told), rel=1e-4)
    assert abs(float(told - fooled) - math.log(2)) > 1e-4, "which of the two is real is told"


def test_the_bound_of_a_pixel_vae_is_the_cross_entropy_of_its_steps(bank, features, tmp_path):
    task = task_of(bank, tmp_path, features, kind="pixel-vae")
    net, batch = task.modules()["net"], batch_of(task)
    image = batch["images"][:, 0]
    with torch.no_grad():
        parts = task.parts(net, image, batch["z"][:, 0])
        logits = net(image, batch["z"][:, 0])
    chances = logits.log_softmax(1).gather(1, levels_of(image)[:, None])
    assert float(parts["likelihood"]) == pytest.approx(-float(chances.mean()), rel=1e-4)


def test_kid_is_nought_of_the_photographs_themselves_and_large_of_grey(bank, features, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "N_VALIDATION", 8)
    monkeypatch.setattr(generator.GeneratorTask, "n_made", 8)
    task = task_of(bank, tmp_path, features)
    task._features = Features(FeaturesConfig(1 / 16)).requires_grad_(False).eval()
    net = nn.Linear(1, 1)
    photographs = torch.cat([task.held_out[k]["images"] for k in range(8, 16)])
    monkeypatch.setattr(task, "made", lambda _, z: photographs[: len(z)])
    alike = task.validate(net)
    monkeypatch.setattr(task, "made", lambda _, z: torch.zeros(len(z), 3, SIDE, SIDE))
    grey = task.validate(net)
    assert abs(alike["kid"]) < 0.3 * grey["kid"]
    assert 0.5 < alike["spread"] < 2
    assert grey["spread"] == pytest.approx(0, abs=1e-4)


# ---- going on, and without a bank


@pytest.mark.parametrize("kind", ["began", "wgan-gp"])
def test_a_resumed_training_takes_the_steps_of_one_that_was_not_interrupted(
    bank, features, tmp_path, kind, monkeypatch
):
    def begun(rate):
        balance = Balance(rate=rate)
        balance.k.fill_(0.5)
        return balance

    monkeypatch.setattr(generator, "Balance", begun)
    options = {**QUICK, "features": features, "augment": True, "kind": kind}
    zeuxis.train("generator", bank, tmp_path / "whole", steps=4, **options)

    def stop(done, total, note=""):
        if done == 2 and note.startswith(f"generator-{kind}: loss"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        zeuxis.train("generator", bank, tmp_path / "parts", steps=4, progress=stop, **options)
    (report,) = zeuxis.train("generator", bank, tmp_path / "parts", steps=4, **options)
    assert (report.first, report.step, report.figure) == (2, 4, "kid")
    file = f"resume/generator-{kind}.safetensors"
    whole, parts = (load_file(tmp_path / name / file) for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    assert all(torch.equal(each, parts[name]) for name, each in whole.items())
    if kind == "began":
        assert 0 < abs(whole["modules.balance.k"] - 0.5) < 0.1
    found = load_generator(tmp_path / "parts", device="cpu")
    assert (found.name, found.resolution) == (f"generator-{kind}", SIDE)
    assert found.card.features.startswith("bank:1/8 step 1 (")
    with pytest.raises(InputError, match="augment true, found augment null"):
        zeuxis.train("generator", bank, tmp_path / "parts", steps=4, **options | {"augment": False})


def test_a_folder_of_photographs_needs_no_bank(features, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((20, 30, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    given = {**QUICK, "features": features, "steps": 1, "kind": "vae-gan", "dataset": f"images:{folder}"}
    (report,) = zeuxis.train("generator", None, tmp_path / "models", **given)
    card, network = load_rival(report.checkpoint, "vae-gan", device="cpu")
    assert (card.bank, list(card.classes), card.size) == ("images:plain", [], (SIDE, SIDE))
    assert network.sample(1, torch.Generator()).shape == (1, 3, SIDE, SIDE)
    assert load_card(report.checkpoint).training["warm_up"] == vae_generators.WARM_UP


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_compiled_at_its_own_size(tmp_path, kind):
    """Of Pixel-VAE the pass over all pixels."""
    network = generator_network(GeneratorConfig(kind, SIDE, 1 / 16)).eval()
    card = Card("generator", asdict(network.config), (), (SIDE, SIDE), "bank", 1)
    save_checkpoint(tmp_path / f"generator-{kind}.safetensors", network.state_dict(), card)
    ((found,), left_out) = _networks(tmp_path, (96, 128))
    assert (found.name, found.size) == (f"generator-{kind}", (SIDE, SIDE))
    assert len(left_out) <= 1
    example = made_example("generator", 0, found.size, found.card.config)
    with torch.no_grad():
        made = found.load(torch.device("cpu"))(*(each[:2] for each in example.inputs))
    assert made.shape[-3:] == (3, SIDE, SIDE)


def test_what_is_compiled_for_latents_is_named_after_their_length(tmp_path):
    store = Store(tmp_path / "compiled", make=True)
    path = store._path("generator-began", {"inputs": [[64]], "batch": 1})
    assert path.name.startswith("generator-began-64-b1-")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (64, 96)}, "size: expected one of 32x32, 64x64, 128x128, found 64x96"),
        ({"kind": "stylegan"}, "--kind: expected one of began, wgan-gp, ladder-vae, pixel-vae, vae-gan, found 'styleg"),
        ({"kind": "began", "critic_steps": 2}, "--critic-steps: expected with --kind wgan-gp, found with --kind began"),
        ({"kind": "ladder-vae", "augment": True}, "--augment: expected without --kind ladder-vae, which has no critic"),
        ({"kind": "pixel-vae", "augment": True}, "--augment: expected without --kind pixel-vae, which has no critic"),
        ({"features": "/nowhere.safetensors"}, "no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(bank, features, tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        zeuxis.train("generator", bank, tmp_path / "models", **{**QUICK, "features": features, "steps": 1} | options)
    assert not (tmp_path / "models").exists()
