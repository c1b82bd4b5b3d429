"""Training features that two domains share: items of both banks, figures by hand, and features for a loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

import zeuxis
from tests.pipelines.tiny_models import make_bank
from tests.pipelines.training.steps import batch_of, learn
from tests.synth.test_generators import pictures
from tests.zeuxis.command import called
from zeuxis.pipelines.progress import silent
from zeuxis.pipelines.training import domains, logs
from zeuxis.pipelines.training.domains import make_task
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_card
from zeuxis.synth.features import NAMES, load_features

SIDE = 32
QUICK = {"preset": "tiny", "size": (SIDE, SIDE), "batch": 2, "devices": "cpu", "steps": 2, "lr": 2e-3}
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
    monkeypatch.setattr(domains, "N_VALIDATION", 2)
    monkeypatch.setattr(domains, "SHOWN", 2)


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[Path, Path]:
    from tests.conftest import Photos

    folder = tmp_path_factory.mktemp("domains")
    names = (["train/a", "train/b", "val/c"], ["train/x", "val/y"])
    first, second = (
        make_bank(Photos(folder / f"photos{number}"), folder / f"bank{number}", own) for number, own in enumerate(names)
    )
    return first, second


def task_of(banks, tmp_path):
    return make_task(Reader(banks[0]), tmp_path, TrainOptions(**QUICK, second=str(banks[1])), silent)


def test_items_are_of_both_banks_and_depend_on_seed_and_number_alone(banks, tmp_path):
    items, again = (task_of(banks, tmp_path).dataset() for _ in range(2))
    drawn = [items[k]["image"] for k in range(30)]
    assert all(torch.equal(image, again[k]["image"]) for k, image in enumerate(drawn))
    assert drawn[0].shape == (3, SIDE, SIDE)
    asked = []
    for number, bank in enumerate(items.banks):
        bank.__class__ = type("Watched", (type(bank),), {"__len__": lambda self, n=number: asked.append(n) or 1})
    for k in range(30):
        items[k]
    assert 6 <= sum(asked) <= 24, "either of them as often"


def test_the_auto_encoder_learns_and_its_figures_are_those_of_both_banks(banks, tmp_path):
    task = task_of(banks, tmp_path)
    modules = task.modules()
    assert batch_of(task)["image"].shape == (2, 3, SIDE, SIDE)
    smooth = {"image": pictures(2, SIDE)}  # those of the banks are noise, which no narrow middle lets through
    seen = [each["net"] for each in learn(task, modules, smooth, 30)]
    assert seen[-1] < 0.85 * seen[0]
    net = modules["net"].eval()
    with torch.no_grad():
        figures = task.validate(net)
        errors = []
        for bank in task.held_out:
            images = task._windows(bank, 2)
            errors.append(float((net(images) - images).abs().mean()))
        assert task.grid(net).shape == (4 * SIDE, 2 * SIDE, 3)
    assert [figures["first"], figures["second"]] == pytest.approx(errors, rel=1e-4)
    assert figures["error"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert figures["apart"] > 0


def test_trained_on_the_command_line_it_gives_features_by_name(banks, tmp_path, monkeypatch, capsys):
    models = tmp_path / "models"
    told = ["--preset", "tiny", "--steps", "1", "--batch", "1", "--devices", "cpu"]
    named = ["--bank", banks[0], "--second", banks[1], "--models", models]
    found = called(monkeypatch, capsys, "train", "domains", *named, *told)
    assert found.code == 0, found.errors
    card = load_card(models / "domains.safetensors")
    assert (card.network, card.bank, card.size) == ("domains", "bank0+bank1", (64, 64))
    features = load_features(models / "domains.safetensors", None)
    assert features.name == "domains:1/8 step 1"
    assert not any(each.requires_grad for each in features.parameters())
    layers = features(torch.rand(2, 3, 64, 64) * 2 - 1, NAMES)
    assert list(layers) == list(NAMES)
    assert all(each.min() >= 0 for each in layers.values())
    assert layers["conv4_1"].shape == (2, 64, 8, 8)


def test_a_second_bank_is_needed_and_another_one(banks, tmp_path):
    for second, said in (
        (None, "--second: expected a second bank, found none"),
        (banks[0], "--second: expected another bank than --bank, found the same photographs"),
        (tmp_path / "none", "none"),
    ):
        options = QUICK | ({} if second is None else {"second": str(second)})
        with pytest.raises(zeuxis.ZeuxisError, match=said):
            zeuxis.train("domains", banks[0], tmp_path / "models", **options)
    with pytest.raises(InputError, match="--second: expected with domains, found with features"):
        zeuxis.train("features", banks[0], tmp_path / "models", **QUICK, second=str(banks[1]))
    assert not (tmp_path / "models").exists()
