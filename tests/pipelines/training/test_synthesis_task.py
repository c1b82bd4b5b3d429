"""The synthesis network's task: what counts, what its variants leave out, what it refuses, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipelines.tiny_models import card_of
from tests.pipelines.training.steps import batch_of, learn
from zeuxis.pipelines.training import synthesis
from zeuxis.pipelines.training.canvas_settings import canvas_settings
from zeuxis.pipelines.training.options import ADVERSARIAL, TrainOptions, check, resolved
from zeuxis.pipelines.training.standing import settings_of
from zeuxis.pipelines.training.synthesis import SynthesisLoss, SynthesisTask, make_task
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import save_checkpoint
from zeuxis.synth.elision import Elision
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.simulation import Simulation
from zeuxis.synth.synthesis import SynthesisConfig, SynthesisNetwork

OPTIONS = TrainOptions(preset="tiny", size=(32, 64), lr=1e-3, batch=2)


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "N_VALIDATION", 3)
    photos.add("a", "b", "c", "d", "e")
    (photos.root / "sources.csv").write_text("name,split,group\ne,test,\n")
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


def features():
    torch.manual_seed(0)
    return Features(FeaturesConfig(1 / 16)).requires_grad_(False).eval()


def test_the_total_is_the_perceptual_loss_and_the_parsing(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features())
    torch.manual_seed(0)
    modules = task.modules()
    ((name, total, parts),) = task.losses(modules, batch_of(task), 0)
    weights = dict(zip(modules["loss"].names, modules["loss"].weights.tolist(), strict=True))
    expected = sum(weights[term] * parts[term].item() for term in weights) + 10 / 127.5 * parts["parsing"].item()
    assert name == "net"
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert task.extra(modules)["loss_weights"] == weights


def test_a_batch_is_learned(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features())
    torch.manual_seed(0)
    modules = task.modules()
    seen = learn(task, modules, batch_of(task), 40)
    assert seen[-1]["net"] < 0.85 * seen[0]["net"]


def test_a_discriminator_learns_beside_it_where_it_counts(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features(), loss=SynthesisLoss(0, 0.1))
    torch.manual_seed(0)
    modules = task.modules()
    assert modules["net"].to_logits is None
    seen = learn(task, modules, batch_of(task), 6)
    assert seen[-1]["discriminator"] < seen[0]["discriminator"]


@pytest.mark.parametrize(
    ("given", "weight"),
    [
        ({}, ADVERSARIAL),
        ({"variant": "no-canvas"}, ADVERSARIAL),
        ({"variant": "image-space"}, 0),
        ({"adversarial": 0}, 0),
        ({"adversarial": 0.5}, 0.5),
    ],
)
def test_a_discriminator_counts_by_default_where_features_do(reader, tmp_path, monkeypatch, given, weight):
    monkeypatch.setattr(synthesis, "load_features", lambda *_: features())
    options = resolved(TrainOptions(preset="tiny", size=(32, 64), **given), "synthesis", (192, 256))
    task = make_task(reader, tmp_path / "models", options)
    assert task.loss.adversarial == weight
    assert ("discriminator" in task.modules()) == (weight > 0)
    assert task.config()["passing"] == (given.get("variant") != "no-canvas")
    assert task.config()["filled"] == task.samples.fill == task._held_out.fill == task.config()["passing"]


def test_what_is_set_of_canvases_reaches_them_the_loss_and_the_checkpoint(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "load_features", lambda *_: features())
    given = (
        "interior=0.4", "interior_width=0.05", "exterior_width=0", "colour_share=0.5", "transfer=reinhard", "k=2",
        "flip=no", "parsing=0", "passing=no",
    )  # fmt: skip
    options = resolved(TrainOptions(preset="tiny", size=(32, 64), canvas=given), "synthesis", (192, 256))
    task = make_task(reader, tmp_path / "models", options)
    found = task.extra(task.modules())
    assert found["elision"] == {"interior": 0.4, "interior_width": 0.05, "exterior_width": 0.0}
    assert [found[name] for name in ("colour_share", "transfer", "k", "flip")] == [0.5, "reinhard", 2, False]
    assert (found["loss"]["parsing"], task.config()["semantic_head"], task.config()["passing"]) == (0, False, False)
    assert (task.config()["filled"], task.samples.fill, task._held_out.fill) == (False, False, False)
    assert task._held_out.settings == task.samples.settings
    plain = make_task(reader, tmp_path / "models", replace(options, canvas=None))
    assert (plain.samples.settings, plain.samples.flip, plain.loss.parsing) == (Simulation(), True, 10)
    other = replace(options, canvas=None)
    assert settings_of(task, options) != settings_of(plain, other)
    assert settings_of(plain, replace(options, canvas=("flip=yes", "k=5"))) == settings_of(plain, other)


def test_a_network_of_512_rows_begins_with_that_of_256(reader, tmp_path):
    """Its encoder and the levels of the trunk; the finest level is new. A coarser one has another encoder."""

    def saved(size):
        config = SynthesisConfig(len(reader.classes), size, 1 / 8, passing=True)
        net, path = SynthesisNetwork(config), tmp_path / f"{size[0]}.safetensors"
        save_checkpoint(path, net.state_dict(), card_of("synthesis", net, reader.classes, size))
        return net.state_dict(), str(path)

    before, start = saved((256, 64))
    options = resolved(TrainOptions(preset="tiny", size=(512, 64), start=start), "synthesis", (192, 256))
    task = SynthesisTask(reader, tmp_path / "models", options, features())
    state = task.modules()["net"].state_dict()
    finest = [name for name in state if name.startswith("cascade.levels.0.")]
    for name, tensor in before.items():
        if name.startswith("encoder."):
            assert torch.equal(state[name], tensor)
        elif name.startswith("cascade.levels."):
            level = int(name.split(".")[2])
            assert torch.equal(state[name.replace(f"levels.{level}.", f"levels.{level + 1}.", 1)], tensor)
    assert len(state) == len(before) + len(finest)
    fewer = replace(options, start=saved((128, 64))[1])
    with pytest.raises(InputError, match=r"cannot be begun from \(pictures of 128 rows"):
        SynthesisTask(reader, tmp_path / "models", fewer, features())


def test_at_full_width_elision_is_as_wide_as_the_papers():
    narrow, full = (canvas_settings((), width) for width in (0.25, 1.0))
    assert (narrow.interior_width, narrow.exterior_width) == (0.025, 0.025)
    assert (full.interior_width, full.exterior_width) == (0.05, 0.05)
    assert canvas_settings(("exterior_width=0",), 1.0).simulation.elision == Elision(0.8, 0.05, 0.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("width=1", r"--canvas: expected NAME=VALUE, each name once, of interior, .* found 'width=1'"),
        ("k", "--canvas: expected NAME=VALUE"),
        ("k=0", "--canvas k: expected a whole number of at least 1, found 0"),
        ("k=two", "--canvas k: expected a whole number, found 'two'"),
        ("flip=1", "--canvas flip: expected yes or no, found '1'"),
        ("interior=2", r"elision: interior: expected a number in 0\.\.1, found 2"),
        ("transfer=none", "simulation: transfer: expected one of"),
        ("parsing=nan", "--canvas parsing: expected a number of at least 0, found nan"),
    ],
)
def test_settings_of_canvases_that_cannot_be(given, said):
    with pytest.raises(InputError, match=said):
        check(TrainOptions(canvas=(given,)))
    with pytest.raises(InputError, match="each name once"):
        check(TrainOptions(canvas=("k=1", "k=1")))


@pytest.mark.parametrize("variant", ["no-canvas", "image-space"])
def test_variants_leave_out_what_their_name_says(reader, tmp_path, variant):
    options = TrainOptions(preset="tiny", size=(32, 64), lr=1e-3, batch=2, variant=variant)
    task = SynthesisTask(reader, tmp_path / "models", options, None if variant == "image-space" else features())
    torch.manual_seed(0)
    modules, batch = task.modules(), batch_of(task)
    assert task.name == f"synthesis-{variant}"
    assert task.network == "synthesis"
    blind = {**batch, "canvas": torch.zeros_like(batch["canvas"]), "valid": torch.zeros_like(batch["valid"])}
    modules["loss"].eval()
    one, two = (next(iter(task.losses(modules, each, 0)))[1] for each in (batch, blind))
    assert (float(one.detach()) == float(two.detach())) == (variant == "no-canvas")
    assert modules["loss"].names == (("pixel",) if variant == "image-space" else modules["loss"].names)
    assert task.figure in task.validate(modules["net"].eval())


def test_validation_is_on_held_out_photographs_and_the_same_each_time(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features())
    net = task.modules()["net"].eval()
    with torch.no_grad():
        first, again = task.validate(net), task.validate(net)
    assert first == again
    assert set(first) == {"pixel", "perceptual", "accuracy"}
    names = [[name[-1] for name in each.sources.names] for each in (task.samples, task._held_out)]
    assert names == [["a", "b", "c"], ["d"]], "without val one that trains is set apart, and test chooses nothing"


def test_a_perfect_painter_scores_zero_and_a_blank_one_one(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features())
    real = task._held_out[0]["image"][None]

    class Painter(torch.nn.Linear):
        def __init__(self, image):
            super().__init__(1, 1)
            self.image = image

        def forward(self, *_):
            return self.image, None

    perfect = task.validate(Painter(real.contiguous()))
    assert perfect["pixel"] == 0
    assert perfect["perceptual"] == pytest.approx(0, abs=0.03)  # features that learned nothing differ by their rounding
    blank = real.mean((2, 3), keepdim=True).expand_as(real)
    assert task.validate(Painter(blank))["perceptual"] == pytest.approx(1, rel=1e-3)


def test_samples_are_shown_a_row_each(reader, tmp_path):
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features())
    shown = task.grid(task.modules()["net"].eval())
    held = task._held_out[0]
    assert shown.shape == (32, 4 * 64, 3)
    assert np.array_equal(shown[:, 192:], ((held["image"].movedim(0, -1) + 1) * 127.5).round().byte().numpy())


def test_the_card_says_how_canvases_were_elided(reader, tmp_path):
    elision = Elision(0.5, 0.02, 0.03)
    task = SynthesisTask(reader, tmp_path / "models", OPTIONS, features(), settings=Simulation(elision=elision))
    assert Elision(**task.extra(task.modules())["elision"]) == elision


def test_a_bank_too_small_is_refused_in_a_sentence(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    (photos.root / "sources.csv").write_text("name,split,group\na,train,one\nb,train,one\n")
    rebuild_bank(photos.spec)
    with pytest.raises(InputError, match="own group is left out"):
        SynthesisTask(Reader(tmp_path / "bank"), tmp_path / "models", OPTIONS, features())
    assert not (tmp_path / "models").exists()


def test_missing_features_and_missing_sources_are_told_apart(photos, rebuild_bank, reader, tmp_path, monkeypatch):
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    with pytest.raises(InputError, match="zeuxis train features"):
        make_task(reader, tmp_path / "models", OPTIONS)
    rebuild_bank(f"{photos.spec}", tmp_path / "tests-only", split=["test"])
    with pytest.raises(NothingToLearn, match="labelled sources in train"):
        SynthesisTask(Reader(tmp_path / "tests-only"), tmp_path / "models", OPTIONS, features())
