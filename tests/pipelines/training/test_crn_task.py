"""Training CRN: every variant learns, stages follow, a resumed run takes the same steps, memory is foreseen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import zeuxis
from tests.pipelines.tiny_models import make_bank
from tests.pipelines.training.steps import batch_of, learn
from zeuxis.pipelines.training import crn, logs, memory
from zeuxis.pipelines.training.crn import CrnTask, make_task
from zeuxis.pipelines.training.memory import check_memory, peak_of, predicted
from zeuxis.pipelines.training.options import TrainOptions, resolved
from zeuxis.pipelines.training.own_options import VARIANTS
from zeuxis.pipelines.training.standing import settings_of
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_card
from zeuxis.synth.crn import CrnConfig, CrnNetwork
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.losses import DiversityLoss
from zeuxis.synth.vivid import vivid

SIZE = (32, 64)
OPTIONS = TrainOptions(preset="tiny", size=SIZE, lr=2e-3, batch=2, devices="cpu")
QUICK = {"preset": "tiny", "size": SIZE, "batch": 1, "devices": "cpu", "validate_every": 2, "log_every": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
    monkeypatch.setattr(crn, "N_VALIDATION", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    from tests.conftest import Photos

    folder = tmp_path_factory.mktemp("crn")
    return make_bank(Photos(folder / "photos"), folder / "bank", ["train/a", "train/b", "val/c", "test/d"])


@pytest.fixture(scope="module")
def models(bank, tmp_path_factory) -> Path:
    """A folder with features, which `gan` parses with as well."""
    folder = tmp_path_factory.mktemp("networks")
    zeuxis.train("features", bank, folder, preset="tiny", size=SIZE, steps=1, batch=1, devices="cpu")
    return folder


def untrained():
    torch.manual_seed(0)
    return Features(FeaturesConfig(1 / 16)).requires_grad_(False).eval()


# ---- losses and variants


def test_weights_wait_for_steps_of_however_many_batches(bank, models):
    options = replace(OPTIONS, accumulate=3, calibrate_after=5)
    loss = make_task(Reader(bank), models, options).modules()["loss"]
    assert (loss.wait, loss.calibration_calls) == (15, 300)


@pytest.mark.parametrize("variant", [None, *VARIANTS["crn"]])
def test_every_variant_takes_steps_and_learns_a_batch(bank, models, tmp_path, variant):
    torch.manual_seed(0)
    task = make_task(Reader(bank), models, replace(OPTIONS, variant=variant))
    modules, batch = task.modules(), batch_of(task)
    before = {name: each.clone() for name, each in modules.named_parameters() if not each.requires_grad}
    modules["loss"].eval()  # which would give the terms other weights meanwhile
    if variant == "pix2pix":
        modules["net"].eval()  # without its noise
    first, *_, last = learn(task, modules, batch, 20)
    assert task.name == (f"crn-{variant}" if variant else "crn")
    name = "discriminator" if variant == "gan" else "net"  # of two that are against each other one may gain
    assert last[name] < 0.95 * first[name]
    assert set(last) == {"net", "discriminator"} if variant in ("gan", "pix2pix") else {"net"}
    assert all(torch.equal(each, dict(modules.named_parameters())[name]) for name, each in before.items())
    net = modules["net"].eval()
    with torch.no_grad():
        assert task.figure in task.validate(net)
        assert task.grid(net).shape == (SIZE[0], 3 * SIZE[1], 3)
    assert json.dumps(task.extra(modules))
    assert task.features.partition(" (")[0] == ("" if variant in ("image-space", "pix2pix") else "bank:1/8 step 1")
    assert task.figure == ("pixel" if variant in ("image-space", "gan", "pix2pix") else "perceptual")


def test_totals_are_what_the_papers_say(bank, models):
    reader, totals = Reader(bank), {}
    for variant in ("gan", "pix2pix"):
        torch.manual_seed(0)
        task = make_task(reader, models, replace(OPTIONS, variant=variant))
        ((name, total, parts), (other, _, _)) = task.losses(task.modules(), batch_of(task), 0)
        assert (name, other) == ("net", "discriminator")
        totals[variant] = float(total.detach()), {part: float(value.detach()) for part, value in parts.items()}
    total, parts = totals["gan"]
    assert set(parts) == {"fooled", "parsing"}
    assert total == pytest.approx(parts["fooled"] + parts["parsing"], rel=1e-6)
    total, parts = totals["pix2pix"]
    assert set(parts) == {"fooled", "pixel"}
    assert total == pytest.approx(parts["fooled"] + 100 * parts["pixel"], rel=1e-6)


def test_the_parser_of_a_gan_reads_the_layout_in_its_pictures(bank, models):
    task = make_task(Reader(bank), models, replace(OPTIONS, variant="gan"))
    modules, batch = task.modules(), batch_of(task)
    (_, total, parts), *_ = task.losses(modules, batch, 0)
    wrong = {**batch, "layout": (batch["layout"] + 1) % 4}
    image = modules["net"](torch.nn.functional.one_hot(batch["layout"], 5).movedim(-1, 1).float())[:, 0]
    logits = modules["parser"](image)
    for each, found in ((batch, parts["parsing"]), (wrong, None)):
        wanted = torch.nn.functional.cross_entropy(logits, each["layout"], ignore_index=4)
        assert found is None or float(found) == pytest.approx(float(wanted), rel=1e-5)
    total.backward()
    assert all(each.grad is None for each in modules["parser"].parameters())
    assert all(each.grad is not None for each in modules["net"].parameters())


def test_a_collection_is_trained_by_the_loss_of_collections(bank, tmp_path):
    torch.manual_seed(0)
    task = CrnTask(Reader(bank), tmp_path, replace(OPTIONS, images=3), untrained())
    modules, batch = task.modules(), batch_of(task)
    ((_, total, _),) = task.losses(modules, batch, 0)
    loss = DiversityLoss(untrained()).train()
    layout = torch.nn.functional.one_hot(batch["layout"], 5).movedim(-1, 1).float()
    wanted = loss.total(loss(modules["net"](layout), batch["image"], layout))
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-3)
    modules["loss"].eval()
    first, *_, last = learn(task, modules, batch, 20)
    assert last["net"] < 0.95 * first["net"]
    with torch.no_grad():
        figures, shown = task.validate(modules["net"].eval()), task.grid(modules["net"].eval())
    assert set(figures) == {"pixel", "perceptual", "spread"}
    assert figures["spread"] > 0
    assert shown.shape == (SIZE[0], (1 + 3 + 1) * SIZE[1], 3)


def test_validation_takes_the_nearest_picture_and_a_perfect_one_is_nought(bank, tmp_path):
    task = CrnTask(Reader(bank), tmp_path, replace(OPTIONS, images=2), untrained())
    real = task._held_out.of(0)["image"]

    class Painter(torch.nn.Linear):
        def forward(self, _):
            return torch.stack([-real, real])[None]

    with torch.no_grad():
        figures = task.validate(Painter(1, 1))
    assert figures["pixel"] == 0
    assert figures["perceptual"] == pytest.approx(0, abs=1e-6)
    assert figures["spread"] == pytest.approx(float((2 * real).abs().mean()), rel=1e-5)


def test_items_depend_on_seed_and_number_alone_and_half_are_mirrored(bank, tmp_path):
    task = CrnTask(Reader(bank), tmp_path, OPTIONS, untrained())
    items, again = task.dataset(), CrnTask(Reader(bank), tmp_path, OPTIONS, untrained()).dataset()
    plain = [items.of(number)["image"] for number in range(len(items.sources))]
    mirrored = 0
    for k in range(40):
        image = items[k]["image"]
        assert torch.equal(image, again[k]["image"])
        assert torch.equal(items[k]["layout"], again[k]["layout"])
        flipped = any(torch.equal(image, each.flip(-1)) for each in plain)
        assert flipped != any(torch.equal(image, each) for each in plain)
        mirrored += flipped
    assert 8 < mirrored < 32


def test_vivid_targets_are_those_of_training_and_validation_alike(bank, tmp_path):
    plain = CrnTask(Reader(bank), tmp_path, OPTIONS, untrained())
    strong = CrnTask(Reader(bank), tmp_path, replace(OPTIONS, vivid=True), untrained())
    for before, after in ((plain.dataset(), strong.dataset()), (plain._held_out, strong._held_out)):
        photograph = before.of(0)
        assert torch.equal(after.of(0)["image"], to_tensor(vivid(to_image(photograph["image"]))))
        assert not torch.equal(after.of(0)["image"], photograph["image"])
        assert torch.equal(after.of(0)["layout"], photograph["layout"])
    before, after = (settings_of(each, each.options) for each in (plain, strong))
    assert [name for name in before if before[name] != after[name]] == ["vivid"]


# ---- going on


def test_a_resumed_training_takes_the_steps_of_one_that_was_not_interrupted(bank, models, tmp_path):
    features = str(models / "features.safetensors")
    options = {**QUICK, "features": features, "images": 2, "checkpointing": True, "calibrate_after": 2}
    zeuxis.train("crn", bank, tmp_path / "whole", steps=6, **options)

    def stop(done, total, note=""):
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        zeuxis.train("crn", bank, tmp_path / "parts", steps=6, progress=stop, **options)
    (report,) = zeuxis.train("crn", bank, tmp_path / "parts", steps=6, **options)
    assert (report.first, report.step) == (3, 6)
    whole, parts = (load_file(tmp_path / name / "resume/crn.safetensors") for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    assert all(torch.equal(each, parts[name]) for name, each in whole.items())
    assert int(whole["modules.loss.steps"]) == 6
    assert not torch.equal(whole["modules.loss.weights"], torch.ones(6))
    rows = [logs.read_table(tmp_path / name / "logs/crn/losses.csv") for name in ("whole", "parts")]
    assert [row["total_net"] for row in rows[0]] == [row["total_net"] for row in rows[1]]
    weights = load_card(tmp_path / "parts/crn.safetensors").training["loss_weights"]
    assert set(weights) == {"pixel", "conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2"}
    with pytest.raises(InputError, match="calibrate_after 2, found calibrate_after 1"):
        zeuxis.train("crn", bank, tmp_path / "parts", steps=6, **options | {"calibrate_after": 1})


def test_a_stage_begins_with_the_one_before_and_goes_on_where_it_was(bank, tmp_path):
    coarse, fine = tmp_path / "coarse", tmp_path / "fine"
    options = {**QUICK, "variant": "image-space"}
    zeuxis.train("crn", bank, coarse, steps=2, **options)
    start = str(coarse / "crn-image-space.safetensors")
    given = TrainOptions(**{**options, "size": (64, 128), "start": start})
    task = make_task(Reader(bank), fine, resolved(given, "crn", (48, 64)))
    state, before = task.modules()["net"].state_dict(), load_file(start)
    pairs = [
        (f"body.cascade.levels.{level + 1}.1.0.weight", f"body.cascade.levels.{level}.1.0.weight") for level in range(4)
    ]
    assert all(torch.equal(state[finer], before[coarser]) for finer, coarser in pairs)
    options = {**options, "size": (64, 128), "start": start}
    zeuxis.train("crn", bank, fine, steps=1, **options)
    (report,) = zeuxis.train("crn", bank, fine, steps=2, **options)
    assert (report.first, report.step) == (1, 2)
    with pytest.raises(InputError, match=r"from crn 32x64 step 2 of bank, found from null"):
        zeuxis.train("crn", bank, fine, steps=2, **options | {"start": None})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CrnConfig(4, (64, 128), 1 / 8), "64 rows instead of at most 32"),
        (CrnConfig(4, (32, 64), 1 / 16), "width 0.0625"),
        (CrnConfig(4, (32, 64), 1 / 8, body="pix2pix"), "only a cascade"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_a_sentence(bank, tmp_path, config, said):
    from tests.pipelines.tiny_models import card_of
    from zeuxis.synth.checkpoint import save_checkpoint

    path, net = tmp_path / "other.safetensors", CrnNetwork(config)
    save_checkpoint(path, net.state_dict(), card_of("crn", net, Reader(bank).classes, config.size))
    with pytest.raises(InputError, match=rf"other.safetensors: cannot be begun from \(.*{said}"):
        CrnTask(Reader(bank), tmp_path, replace(OPTIONS, start=str(path)), untrained())
    with pytest.raises(InputError, match="nowhere"):
        CrnTask(Reader(bank), tmp_path, replace(OPTIONS, start=str(tmp_path / "nowhere")), untrained())


# ---- memory

MEASURED = """
import gc, json, sys
import torch
from zeuxis.pipelines.training.crn import CrnTask
from zeuxis.pipelines.training.memory import predicted
from zeuxis.pipelines.training.options import TrainOptions, is_emulated
from zeuxis.storage.reader import Reader
from zeuxis.synth.features import Features, FeaturesConfig
from torch.utils.data import default_collate

torch.set_num_threads(1)
HALF = "bf16-mixed"

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

def features():
    return Features(FeaturesConfig(1 / 8, normalise=True)).requires_grad_(False).eval()

def peak(options):
    gc.collect()
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    task = CrnTask(Reader(sys.argv[1]), None, options, features())
    modules, optimisers = task.modules(), None
    optimisers = task.optimisers(modules)
    average = [each.detach().clone() for each in modules["net"].parameters()]
    batch = default_collate([task.samples[k] for k in range(options.batch)])
    dtype = torch.bfloat16 if options.precision == "bf16-mixed" else None
    for step in range(2):
        losses = task.losses(modules, batch, step)
        while True:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                found = next(losses, None)
            if found is None:
                break
            optimisers[found[0]].zero_grad()
            found[1].backward()
            optimisers[found[0]].step()
    return status("VmHWM") - before

class NoCache:
    def __truediv__(self, name):
        return None

import zeuxis.pipelines.training.crn as crn
make = CrnTask.__init__
CrnTask.__init__ = lambda self, reader, models, *rest: make(self, reader, NoCache(), *rest)
first = TrainOptions(preset="tiny", size=(32, 64), lr=1e-4, batch=1, devices="cpu", images=2, checkpointing=True)
peak(first)  # what is loaded once
predicted(CrnTask(Reader(sys.argv[1]), None, first, features()), first)
cases = [
    dict(batch=2, precision="32-true") if is_emulated(TrainOptions(precision=HALF)) else dict(batch=4, precision=HALF),
    dict(batch=4, images=2, checkpointing=True),
]
rows = []
for case in cases:
    options = TrainOptions(**{"preset": "tiny", "size": (96, 128), "lr": 1e-4, "devices": "cpu", **case})
    task = CrnTask(Reader(sys.argv[1]), None, options, features())
    rows.append((predicted(task, options).peak, peak(options)))
print(json.dumps(rows))
"""


def test_the_memory_foreseen_is_that_of_a_real_step(bank):
    """To 10 % at a hundred megabytes, some of which are no tensors; what is free is given back at once."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(bank)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [found / real for found, real in rows] == pytest.approx([1.0] * 2, abs=0.1), rows


def test_checkpointing_and_half_precision_take_less(bank, tmp_path):
    def foreseen(**settings):
        options = replace(OPTIONS, **{"images": 2, "size": (96, 128)} | settings)
        return predicted(CrnTask(Reader(bank), tmp_path, options, untrained()), options).peak

    whole, less, half = foreseen(), foreseen(checkpointing=True), foreseen(precision="bf16-mixed")
    assert less < 0.75 * whole
    assert half < 0.75 * whole
    assert foreseen(batch=4) > 1.7 * whole


def test_a_training_that_cannot_fit_is_refused_before_anything_is_written(bank, models, tmp_path, monkeypatch):
    said = []
    features = str(models / "features.safetensors")
    zeuxis.train("crn", bank, tmp_path / "fits", steps=1, features=features, tell=said.append, **QUICK)
    assert len(said) == 1
    assert said[0].startswith("crn: takes about ")
    assert " MB of memory, of " in said[0]
    monkeypatch.setattr(memory, "_there", lambda *_: 20_000_000)
    expected = (
        r"crn: expected about [0-9.]+ MB of memory and 15% more, found 20.0 MB; give --checkpointing, "
        r"--precision bf16-mixed, a smaller --batch, with --accumulate, fewer --images, a smaller --preset"
    )
    with pytest.raises(InputError, match=expected):
        zeuxis.train("crn", bank, tmp_path / "not", steps=1, features=features, **QUICK | {"batch": 2, "images": 2})
    assert not (tmp_path / "not").exists()


def test_a_prediction_draws_nothing_and_holds_nothing(bank, tmp_path):
    task = CrnTask(Reader(bank), tmp_path, OPTIONS, untrained())
    state = torch.get_rng_state()
    before = {name: each.clone() for name, each in task._features.state_dict().items()}
    assert check_memory(task, OPTIONS, tmp_path).startswith("crn: takes about")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(each, task._features.state_dict()[name]) for name, each in before.items())
    assert not any(tmp_path.iterdir())


def test_two_megapixels_can_be_painted_in_the_memory_of_a_small_gpu():
    """The paper's network at 1024x2048 in single precision: its weights and one picture."""

    def paint(_):
        net = CrnNetwork(CrnConfig(19, (1024, 2048)))
        with torch.inference_mode():
            net(torch.zeros(1, 20, 1024, 2048))

    assert 2e9 < peak_of(paint) < 8e9


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": 2, "what": "synthesis"}, "--images: expected with crn, found with synthesis"),
        ({"checkpointing": True, "what": "judge"}, "--checkpointing: expected with crn, found with judge"),
        ({"start": "x", "what": "all"}, "--from: expected with synthesis or crn, found with all"),
        ({"vivid": True, "what": "synthesis"}, "--vivid: expected with crn, found with synthesis"),
        ({"calibrate_after": 3, "what": "features"}, "--calibrate-after: expected with crn"),
        (
            {"variant": "gan", "what": "synthesis"},
            "variant 'gan': expected one of no-canvas, image-space with synthesis",
        ),
        ({"variant": "no-canvas"}, "variant 'no-canvas': expected one of image-space, encoder-decoder"),
        ({"adversarial": 0.1}, "--adversarial: expected with synthesis or all, found with crn"),
        ({"images": 0}, "images: expected a whole number of at least 1"),
        ({"images": 65}, "--images: expected at most 64, found 65"),
        ({"calibrate_after": 0}, "calibrate_after: expected a whole number of at least 1"),
        ({"variant": "gan", "images": 2}, "--images: expected without --variant gan"),
        ({"variant": "pix2pix", "checkpointing": True}, "--checkpointing: expected without --variant pix2pix"),
        ({"variant": "encoder-decoder", "start": "x"}, "--from: expected no --variant encoder-decoder"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        zeuxis.train(options.pop("what", "crn"), tmp_path / "no bank", tmp_path / "models", **QUICK | options)
    assert not (tmp_path / "models").exists()


def test_missing_features_parser_and_sources_are_told_apart(bank, tmp_path, photos):
    for variant in (None, "gan"):
        with pytest.raises(InputError, match="zeuxis train features"):
            make_task(Reader(bank), tmp_path, replace(OPTIONS, variant=variant))
    tests = make_bank(photos, tmp_path / "tests", ["test/a"])
    with pytest.raises(NothingToLearn, match="labelled sources in train"):
        CrnTask(Reader(tests), tmp_path, OPTIONS, untrained())


def test_adversarial_variants_have_the_learning_rate_of_their_papers():
    frame = (48, 64)
    rates = {
        variant: resolved(TrainOptions(preset="tiny", variant=variant), "crn", frame).lr
        for variant in (None, "gan", "pix2pix")
    }
    assert rates == {None: 1e-3, "gan": 2e-4, "pix2pix": 2e-4}
    assert resolved(TrainOptions(preset="paper-256"), "crn", frame).steps == 600_000  # 200 epochs of Cityscapes
    assert np.isclose(resolved(TrainOptions(preset="paper-1024"), "crn", frame).steps, 15_000)
