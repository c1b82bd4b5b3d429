"""The training loop: what it leaves, what it keeps, accumulation, the running mean, losses that run away."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from zeuxis.pipelines.training.resume import load_marks, load_state
from zeuxis.storage.errors import BankBusyError, UnfinishedError
from zeuxis.storage.files import writer_lock
from zeuxis.synth.checkpoint import load_card, load_checkpoint


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_leaves_a_network_with_its_card_logs_and_pictures(learn, toy, tmp_path):
    report = learn(toy(), curve=True)
    card, tensors = load_checkpoint(report.checkpoint, "toy")
    assert (card.bank, card.generation, card.size, card.features) == ("bank", 3, (32, 64), "untrained")
    assert card.config == {"width": 8}
    assert card.training["steps"] == 20
    assert card.training["lr"] == 0.01
    assert card.training["bank content"] == "ab" * 16
    assert card.training["mean"] > 0
    assert card.training["figures"]["error"] == card.training["best"] == report.best
    toy().modules()["net"].load_state_dict(tensors)
    assert [int(row["step"]) for row in rows(report.logs / "losses.csv")] == [3, 6, 9, 12, 15, 18]
    assert list(rows(report.logs / "losses.csv")[0]) == [
        *("step", "seconds", "images_per_second", "total_critic", "total_net", "distance", "fooled")
    ]
    assert [int(row["step"]) for row in rows(report.logs / "validation.csv")] == [8, 16, 20]
    for name in ("curve.png", "grids/000008.png", "grids/000020.png"):
        assert np.asarray(Image.open(report.logs / name)).ndim == 3
    assert list(report.logs.glob("events.out.tfevents.*"))
    assert not [path for path in (tmp_path / "models").rglob(".*") if path.is_file()]


def test_a_row_of_the_log_is_the_mean_of_the_steps_since_the_one_before(learn, toy):
    task = toy()
    report = learn(task)
    totals = np.array(task.seen).reshape(20, 2)
    for number, row in enumerate(rows(report.logs / "losses.csv")):
        means = totals[3 * number : 3 * number + 3].mean(0)
        assert [float(row["total_critic"]), float(row["total_net"])] == pytest.approx(means, rel=1e-5)


def test_items_are_numbered_by_the_step_and_none_is_taken_twice(learn, toy):
    task = toy()
    learn(task, accumulate=2, steps=5)
    assert task.data.asked[:40] == list(range(40))


def test_the_network_that_was_best_in_validation_is_kept(learn, toy, monkeypatch):
    figures = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(toy, "validate", lambda self, net: {"error": next(figures)})
    report = learn(toy())
    assert (load_card(report.checkpoint).step, report.best) == (16, 1.0)


def test_what_is_kept_along_with_the_network_is_of_its_step(learn, toy, tmp_path):
    class Kept(toy):
        along = ("critic", "none")

        def __init__(self):
            super().__init__()
            self.figures, self.critics, self.raw = iter([3.0, 1.0, 2.0]), [], []

        def modules(self):
            self.made = super().modules()
            return self.made

        def read_with(self, along):
            self.means = along

        def validate(self, net):
            for found, modules in ((self.critics, self.means), (self.raw, self.made)):
                found.append(modules["critic"].weight.detach().clone())
            return {"error": next(self.figures)}

    task = Kept()
    learn(task)
    path = tmp_path / "models/resume/toy-along.safetensors"
    marks, held = load_state(path)
    assert marks.step == 16
    assert set(held) == {"modules.critic.weight", "modules.critic.bias"}
    assert torch.equal(held["modules.critic.weight"], task.critics[1])
    assert not torch.equal(held["modules.critic.weight"], task.critics[2])
    assert not torch.equal(held["modules.critic.weight"], task.raw[1]), "the running mean of it"
    learn(toy(), steps=1, restart=True)
    assert not path.exists(), "a new training removes what another one kept"


def test_larger_may_be_better(learn, toy, monkeypatch):
    figures = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(toy, "validate", lambda self, net: {"error": next(figures)})
    monkeypatch.setattr(toy, "smaller_is_better", False)
    assert load_card(learn(toy()).checkpoint).step == 8


def test_the_running_mean_is_kept_unless_it_is_switched_off(learn, toy):
    weights = {}
    for ema in (0.0, 0.9):
        report = learn(toy(), f"ema-{ema}", ema=ema, steps=1)
        weights[ema] = load_checkpoint(report.checkpoint, "toy")[1]["0.weight"]
    torch.manual_seed(0)
    start = toy().modules()["net"].state_dict()["0.weight"]
    torch.testing.assert_close(weights[0.9], start + 0.9 * (weights[0.0] - start))  # 0.1 of what was, at the first step


def test_an_accumulated_step_has_the_gradient_of_the_whole_batch(learn, toy, monkeypatch):
    for part in ("1", "2"):  # neither depends on the other items of a batch
        monkeypatch.setattr(torch.nn, {"1": "Dropout", "2": "BatchNorm1d"}[part], lambda *_: torch.nn.Identity())
    monkeypatch.setattr("torch.nn.Module.register_buffer", _without_calibration(torch.nn.Module.register_buffer))
    kept = [
        load_checkpoint(
            learn(toy(), f"at-{batch}", batch=batch, accumulate=8 // batch, steps=3, ema=0.0).checkpoint, "toy"
        )
        for batch in (8, 2)
    ]
    for name, tensor in kept[0][1].items():
        torch.testing.assert_close(tensor, kept[1][1][name], rtol=1e-4, atol=1e-6)


def _without_calibration(register):
    def run(self, name, tensor, persistent=True):
        frozen = {"calls": torch.tensor(12), "mean": torch.tensor(1.0)}
        register(self, name, frozen.get(name, tensor), persistent)

    return run


def test_a_loss_that_is_no_number_stops_and_names_step_and_term(learn, toy):
    task = toy()
    task.break_at = 13
    with pytest.raises(UnfinishedError, match=r"toy at step 13: the loss total_net is nan, distance is nan; what was "):
        learn(task)


def test_what_was_saved_before_a_loss_ran_away_is_kept(learn, toy, tmp_path):
    task = toy()
    task.break_at = 13
    with pytest.raises(UnfinishedError):
        learn(task)
    assert load_marks(tmp_path / "models/resume/toy.safetensors").step == 8
    assert load_card(tmp_path / "models/toy.safetensors").step == 8


def test_weights_that_are_no_numbers_are_never_saved(learn, toy, tmp_path):
    class Broken(toy):
        def losses(self, modules, batch, step):
            yield from super().losses(modules, batch, step)
            modules["critic"].weight.data.fill_(float("inf"))

    with pytest.raises(UnfinishedError, match="toy at step 2: a weight is no finite number"):
        learn(Broken(), steps=1)
    assert not (tmp_path / "models/resume/toy.safetensors").exists()


def test_a_network_of_no_numbers_is_never_kept_whatever_its_figure(learn, toy, tmp_path):
    class Broken(toy):
        def losses(self, modules, batch, step):
            yield from super().losses(modules, batch, step)
            next(modules["net"].parameters()).data.fill_(float("nan"))

        def validate(self, net):
            return {"error": 1.0}

    with pytest.raises(UnfinishedError, match="toy at step 2: a weight is no finite number"):
        learn(Broken(), steps=1)
    assert not (tmp_path / "models/toy.safetensors").exists()


def test_two_processes_do_not_train_the_same_network(learn, toy, tmp_path):
    logs = tmp_path / "models/logs/toy"
    logs.mkdir(parents=True)
    with writer_lock(logs), pytest.raises(BankBusyError, match="is being written by process"):
        learn(toy())


def test_the_callers_random_numbers_stay_as_they_are(learn, toy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    learn(toy(), steps=2)
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_trains(learn, toy):
    report = learn(toy(), precision="bf16-mixed", steps=60)
    assert float(rows(report.logs / "validation.csv")[0]["error"]) > report.best
    assert load_checkpoint(report.checkpoint, "toy")[1]["0.weight"].dtype == torch.float32


def test_batches_prepared_by_workers_are_the_same(learn, toy):
    here, there = toy(), toy()
    learn(here, "here", steps=6)
    learn(there, "there", steps=6, workers=2)
    assert here.seen == there.seen
