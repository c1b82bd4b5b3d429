"""`train`: in order, each once; what is refused is refused before anything is written."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path

import pytest
import torch

import zeuxis
from zeuxis.pipelines import train as training
from zeuxis.pipelines.training.options import NETWORKS, SHARES, TrainOptions, resolved
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.errors import BankError, InputError, NotABankError
from zeuxis.synth.presets import PRESETS

QUICK = {"preset": "tiny", "steps": 3, "batch": 2, "size": (32, 64), "devices": "cpu"}


@pytest.fixture
def bank(photos, rebuild_bank, tmp_path) -> Path:
    photos.add("a", "b")
    rebuild_bank(photos.spec)
    return tmp_path / "bank"


@pytest.fixture
def toys(toy, monkeypatch):
    """Every network is the toy, of its own name; those in `missing` have nothing to learn from."""
    monkeypatch.setattr("zeuxis.pipelines.training.logs.draw_curve", lambda *_: b"a picture")
    made = {"order": [], "missing": set(), "tasks": {}}
    for name in NETWORKS:

        def make_task(reader, models, options, progress, name=name):
            if name in made["missing"]:
                raise NothingToLearn(f"no {name} here")
            task = toy(lr=options.lr)
            task.network = task.name = name
            made["order"].append((name, options))
            made["tasks"][name] = task
            return task

        module = types.ModuleType(name)
        module.make_task = make_task
        monkeypatch.setitem(sys.modules, f"zeuxis.pipelines.training.{name}", module)
    return made


def test_all_trains_features_first_and_all_that_paints_and_judges(bank, toys, tmp_path):
    reports = zeuxis.train("all", bank, tmp_path / "models", **QUICK)
    names = ["features", "transform", "ordering", "densify", "synthesis", "judge"]
    assert [report.name for report in reports] == names
    assert sorted(path.stem for path in (tmp_path / "models").glob("*.safetensors")) == sorted(names)


def test_what_is_done_is_not_done_again_and_what_was_interrupted_goes_on(bank, toys, tmp_path):
    zeuxis.train("features", bank, tmp_path / "models", **QUICK)
    zeuxis.train("transform", bank, tmp_path / "models", **QUICK | {"steps": 2})
    lines = []
    reports = zeuxis.train("all", bank, tmp_path / "models", **QUICK, tell=lines.append)
    assert [(report.first, report.step) for report in reports] == [(3, 3), (2, 3), *[(0, 3)] * 4]
    assert lines == ["transform: goes on from step 2"]
    assert len(toys["tasks"]["transform"].seen) == 2


def test_all_passes_over_what_the_bank_has_nothing_for(bank, toys, tmp_path):
    toys["missing"] = {"ordering"}
    with pytest.warns(UserWarning, match="ordering is passed over: no ordering here"):
        reports = zeuxis.train("all", bank, tmp_path / "models", **QUICK)
    assert "ordering" not in [report.name for report in reports]
    lines = []
    zeuxis.train("all", bank, tmp_path / "models", **QUICK, tell=lines.append)
    assert lines == ["ordering is passed over: no ordering here"]
    with pytest.raises(NothingToLearn):
        zeuxis.train("ordering", bank, tmp_path / "models", **QUICK)


def test_features_given_are_not_trained_and_go_to_the_synthesis_network_alone(bank, toys, tmp_path):
    zeuxis.train("all", bank, tmp_path / "models", **QUICK, features="vgg19")
    given = {name: options.features for name, options in toys["order"]}
    assert "features" not in given
    assert {name for name, features in given.items() if features} == {"synthesis"}


def test_a_bank_of_coarse_layouts_goes_to_the_densification_network_alone(bank, toys, tmp_path):
    zeuxis.train("all", bank, tmp_path / "models", **QUICK, coarse="drawn", adversarial=0.5)
    assert {name for name, options in toys["order"] if options.coarse} == {"densify"}
    assert [name for name, _ in toys["order"]][:2] == ["densify", "features"], "it is looked at before all others"
    assert {name for name, options in toys["order"] if options.adversarial == 0.5} == {"synthesis"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"what": "painter"}, "network 'painter': expected features, .* or all"),
        ({"preset": "huge"}, "preset 'huge': expected one of tiny, small"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, found 0"),
        ({"batch": -1}, "batch: expected a whole number of at least 1"),
        ({"accumulate": 0}, "accumulate: expected"),
        ({"workers": -1}, "workers: expected a whole number of at least 0"),
        ({"batch": 10**9}, "batch: expected at most 65,536, found 1,000,000,000"),
        ({"accumulate": 10**30}, "accumulate: expected at most 65,536"),
        ({"workers": 100_000}, "workers: expected at most [0-9]+, found 100,000"),
        ({"seed": 2**64}, "seed: expected at most 18,446,744,073,709,551,615"),
        ({"lr": 1e300}, "lr: expected a number above 0, at most 1,000,000"),
        ({"lr": 0.0}, "lr: expected a number above 0"),
        ({"lr": float("nan")}, "lr: expected a number above 0"),
        ({"ema": 1.0}, "ema: expected a number from 0 to below 1"),
        ({"precision": "8"}, "precision '8': expected one of 32-true, bf16-mixed, 16-mixed"),
        ({"precision": "16-mixed", "devices": "cpu"}, "precision 16-mixed: expected a GPU"),
        ({"devices": "cuda:99"}, "devices: expected at most the [0-9]+ GPUs that are here, found 99"),
        ({"devices": "cpu:9999"}, "devices: expected at most the [0-9]+ CPU cores"),
        ({"devices": "tpu"}, "devices: expected a number of devices"),
        ({"devices": "0"}, "devices: expected a number of devices"),
        ({"devices": ":2"}, "devices: expected a number of devices"),
        ({"size": (40, 64)}, "size: expected ROWSxCOLS in multiples of 32, found 40x64"),
        ({"variant": "no-canvas"}, "--variant: expected with synthesis, crn, roi or key-patches, found with features"),
        ({"variant": "other", "what": "synthesis"}, "variant 'other': expected one of no-canvas, image-space"),
        (
            {"features": "vgg19"},
            "--features: expected with synthesis, crn, roi, key-patches, generator or all, found with features",
        ),
        ({"coarse": "bank"}, "--coarse: expected with densify or all, found with features"),
        ({"adversarial": 0.5}, "--adversarial: expected with synthesis or all, found with features"),
        ({"adversarial": -1.0, "what": "synthesis"}, "adversarial: expected a number of at least 0, found -1.0"),
        ({"adversarial": math.nan, "what": "synthesis"}, "adversarial: expected a number of at least 0, found nan"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read_or_written(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        zeuxis.train(options.pop("what", "features"), tmp_path / "no bank", tmp_path / "models", **QUICK | options)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("there", "precision"), [(False, "bf16-mixed"), (True, "bf16-mixed"), (False, "32-true")])
def test_arithmetic_that_the_processor_lacks_is_told(bank, toys, tmp_path, monkeypatch, there, precision):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: there)
    lines: list[str] = []
    options = QUICK | {"precision": precision, "devices": "cpu:1"}
    zeuxis.train("features", bank, tmp_path / "models", **options, tell=lines.append)
    slow = [line for line in lines if "this processor lacks it, 32-true is several times as fast" in line]
    assert len(slow) == (precision == "bf16-mixed" and not there)


def test_places_that_cannot_be_are_refused(bank, toys, tmp_path, photos):
    with pytest.raises(NotABankError):
        zeuxis.train("features", photos.root, tmp_path / "models", **QUICK)
    file = tmp_path / "file"
    file.write_text("mine")
    for models in (file, file / "models"):
        with pytest.raises(InputError, match="expected a folder for networks, found a file"):
            zeuxis.train("features", bank, models, **QUICK)
    assert file.read_text() == "mine"
    assert not (tmp_path / "models").exists()


def test_a_bank_that_keeps_no_sources_is_refused(photos, rebuild_bank, tmp_path):
    photos.add("a")
    rebuild_bank(photos.spec, tmp_path / "bare", keep_sources=False)
    with pytest.raises((InputError, BankError), match="keeps no sources; rebuild it without --no-keep-sources"):
        zeuxis.train("features", tmp_path / "bare", tmp_path / "models", **QUICK)
    assert not (tmp_path / "models").exists()


def test_a_further_process_leaves_the_message_to_the_first(bank, toys, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "run", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        zeuxis.train("features", bank, tmp_path / "models", **QUICK)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as stopped:
        zeuxis.train("features", bank, tmp_path / "models", **QUICK)
    assert stopped.value.code == 0


def _interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_each_network_its_share(name):
    for network in NETWORKS:
        options = resolved(TrainOptions(preset=name), network, (192, 256))
        assert options.steps == SHARES[network].n_steps(PRESETS[name])
        assert options.batch >= 1
        assert options.size == SHARES[network].size(PRESETS[name], (192, 256))
        assert 0 < options.lr <= 2e-3
        if name == "paper-256" and network in ("transform", "ordering"):  # 100 epochs of Cityscapes, ten a photograph
            assert (options.steps, options.batch) == (300_000, 10)
        own = resolved(TrainOptions(preset=name, steps=7, batch=3, lr=0.5, size=(32, 32)), network, (192, 256))
        assert (own.steps, own.batch, own.lr, own.size) == (7, 3, 0.5, (32, 32))
