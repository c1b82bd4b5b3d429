"""A training that was interrupted goes on as if it had not been."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zeuxis.pipelines.training import standing
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.pipelines.training.resume import load_marks
from zeuxis.pipelines.training.standing import Paths, _as_named
from zeuxis.storage.errors import InputError, UnfinishedError
from zeuxis.synth.checkpoint import load_card, load_checkpoint


def table(path):
    """Rows without what depends on the clock."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder, losses of an uninterrupted training, made by the first test that asks."""
    return {}


def uninterrupted(whole, learn, toy):
    if not whole:
        task = toy()
        report = learn(task, "whole")
        state = load_file(report.checkpoint.parent / "resume/toy.safetensors")
        whole.update(
            seen=task.seen, state=state, losses=table(report.logs / "losses.csv"), best=report.best,
            validation=table(report.logs / "validation.csv"), net=load_checkpoint(report.checkpoint, "toy")[1],
        )  # fmt: skip
    return whole


@pytest.mark.parametrize(
    ("stop", "number"),
    [(1, signal.SIGINT), (7, signal.SIGINT), (8, signal.SIGINT), (13, signal.SIGTERM), (19, signal.SIGINT)],
)
def test_losses_weights_and_logs_are_those_of_an_uninterrupted_training(whole, learn, toy, stop, number):
    expected = uninterrupted(whole, learn, toy)
    first, second = toy(), toy()
    with pytest.raises(KeyboardInterrupt):
        learn(first, stop=stop, number=number)
    report = learn(second)
    assert (report.first, report.step) == (stop, 20)
    assert first.seen + second.seen == expected["seen"]
    state = load_file(report.checkpoint.parent / "resume/toy.safetensors")
    assert state.keys() == expected["state"].keys()
    assert all(torch.equal(state[name], expected["state"][name]) for name in state)
    kept = load_checkpoint(report.checkpoint, "toy")[1]
    assert all(torch.equal(kept[name], expected["net"][name]) for name in kept)
    assert table(report.logs / "losses.csv") == expected["losses"]
    assert table(report.logs / "validation.csv") == expected["validation"]
    assert report.best == expected["best"]


def test_accumulated_steps_go_on_with_the_items_that_are_next(learn, toy):
    whole, first, second = toy(), toy(), toy()
    learn(whole, "accumulated", steps=7, accumulate=2)
    with pytest.raises(KeyboardInterrupt):
        learn(first, stop=3, steps=7, accumulate=2)
    learn(second, steps=7, accumulate=2)
    assert second.data.asked[:8] == list(range(24, 32))  # of two batches of four a step
    assert first.seen + second.seen == whole.seen


def test_a_state_holds_parameters_buffers_moments_the_mean_and_random_numbers_but_nothing_frozen(whole, learn, toy):
    names = set(uninterrupted(whole, learn, toy)["state"])
    assert {
        "modules.net.0.weight", "modules.net.2.running_var", "modules.critic.bias", "modules.loss.mean",
        "modules.loss.calls", "average.3.bias", "average.2.running_mean", "optimiser.net.0.exp_avg",
        "optimiser.net.0.exp_avg_sq", "optimiser.net.0.max_exp_avg_sq", "optimiser.net.0.step",
        "optimiser.critic.1.step", "random.cpu",
    } <= names  # fmt: skip
    assert not [name for name in names if "frozen" in name]


def test_a_killed_training_goes_on_from_what_was_saved_last_and_its_log_has_no_row_twice(
    whole, learn, toy, monkeypatch
):
    expected = uninterrupted(whole, learn, toy)
    task = toy()
    task.break_at = 15  # as good as a kill: nothing is saved
    with pytest.raises(UnfinishedError):
        learn(task)
    again = toy()
    report = learn(again)
    assert report.first == 8
    assert again.seen == expected["seen"][16:]
    assert table(report.logs / "losses.csv") == expected["losses"]
    assert table(report.logs / "validation.csv") == expected["validation"]


def test_a_second_interrupt_does_not_wait(learn, toy, monkeypatch):
    def validate(self, net):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(toy, "validate", validate)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        learn(toy())
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_of_the_last_validation_is_heard_once_all_is_saved(learn, toy, monkeypatch):
    validate = toy.validate

    def interrupted(self, net):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(self, net)

    monkeypatch.setattr(toy, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(toy(), steps=3)
    monkeypatch.undo()
    task = toy()
    report = learn(task, steps=3)
    assert (report.first, report.step, task.seen) == (3, 3, [])
    assert load_card(report.checkpoint).step == 3


STOPPED = """
import sys, time
from pathlib import Path
from tests.pipelines.training.conftest import Numbers, Toy
from zeuxis.pipelines.training.loop import train
from zeuxis.pipelines.training.standing import _as_named
from zeuxis.pipelines.training.options import TrainOptions

class Slow(Numbers):
    def __getitem__(self, k):
        time.sleep(0.02)
        return super().__getitem__(k)

def progress(done, total, note=""):
    if done == 3:
        print("three steps", flush=True)

if __name__ == "__main__":
    task = Toy()
    task.data = Slow(0)
    chosen = {"batch": 4, "lr": task.lr, "steps": 5000, "size": (32, 64), "devices": "cpu", "workers": 2}
    try:
        train(task, Path(sys.argv[1]), TrainOptions(**chosen, validate_every=5000, log_every=100), progress=progress)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_sigterm_of_the_whole_group_saves_and_ends_the_workers_too(tmp_path):
    root = Path(__file__).resolve().parents[3]
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    command = [sys.executable, str(script), str(tmp_path / "models")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, start_new_session=True, env=environment, **pipes) as process:
        assert process.stdout.readline() == "three steps\n"
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert load_marks(tmp_path / "models/resume/toy.safetensors").step >= 3


def test_a_finished_training_does_nothing(learn, toy, tmp_path):
    done = learn(toy())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    task = toy()
    again = learn(task)
    assert (again.first, again.step, again.seconds) == (20, 20, 0.0)
    assert again.best == done.best
    assert not task.seen
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_more_steps_go_on(whole, learn, toy):
    expected = uninterrupted(whole, learn, toy)
    first, second = toy(), toy()
    learn(first, steps=11)
    report = learn(second)
    assert (report.first, report.step) == (11, 20)
    assert first.seen + second.seen == expected["seen"]


def test_a_removed_checkpoint_is_made_anew(learn, toy):
    learn(toy(), steps=8).checkpoint.unlink()
    assert load_card(learn(toy(), steps=8).checkpoint).step == 8


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_checkpoint_that_was_cut_short_is_made_anew(learn, toy, left):
    path = learn(toy(), steps=8).checkpoint
    whole = path.read_bytes()
    for resumed in (True, False):
        path.write_bytes(whole[:left])
        if not resumed:
            Paths(path.parent, "toy").resume.unlink()
        learn(toy(), steps=8)
        assert load_checkpoint(path, "toy")[0].step == 8


def flip(path: Path, at: int) -> None:
    """One bit, that many bytes before the end."""
    data = bytearray(path.read_bytes())
    data[-at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("at", [1, 9])
def test_a_network_of_which_a_bit_flipped_is_refused_and_made_anew(learn, toy, at):
    path = learn(toy(), steps=8).checkpoint
    whole = path.read_bytes()
    flip(path, at)
    with pytest.raises(
        InputError, match=r"toy\.safetensors: expected the bytes that were written, checksum \w{8}, found"
    ):
        load_checkpoint(path, "toy")
    assert load_card(path).step == 8, "the card is whole"
    learn(toy(), steps=8)
    assert path.read_bytes() == whole


def test_every_option_is_compared_or_known_not_to_matter():
    elsewhere = {
        "size", "features", "devices", "start", "variant", "images", "sliders", "categories", "fourier", "spectral",
        "equalised", "blend", "norm", "kind", "dataset", "second", "coarse", "canvas", "ema",
    }  # fmt: skip
    of_no_matter = {"steps", "workers", "checkpointing", "validate_every", "log_every"}
    compared = {*standing._OPTIONS, *standing._CHOICES}
    assert compared | elsewhere | of_no_matter == {each.name for each in fields(TrainOptions)}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"lr": 0.02}, "expected lr 0.01, found lr 0.02"),
        ({"batch": 2, "accumulate": 2}, "expected batch 4, accumulate 1, found batch 2, accumulate 2"),
        ({"ema": 0.5}, "expected ema 0.999, found ema 0.5"),
    ],
)
def test_other_options_are_refused_and_named(learn, toy, tmp_path, other, said):
    learn(toy(), steps=2)
    before = (tmp_path / "models/resume/toy.safetensors").read_bytes()
    with pytest.raises(InputError, match=f"{said}; give the same ones to go on, or --restart to train anew"):
        learn(toy(), **other)
    assert (tmp_path / "models/resume/toy.safetensors").read_bytes() == before


def test_another_bank_and_other_frozen_weights_are_refused(learn, toy, monkeypatch):
    learn(toy(), steps=2)
    other = toy()
    other.subject = type(other.subject)(**{**vars(other.subject), "content": "cd" * 16})
    with pytest.raises(InputError, match=f"bank content {'ab' * 16}, found bank content {'cd' * 16}"):
        learn(other)
    made = toy.modules
    monkeypatch.setattr(toy, "modules", lambda self: _shifted(made(self)))
    with pytest.raises(InputError, match=r"expected frozen weights [0-9a-f]{16}, found frozen weights"):
        learn(toy())


def _shifted(modules):
    with torch.no_grad():
        modules["loss"].frozen.bias += 1
    return modules


def test_restart_trains_anew_under_other_options(learn, toy):
    learn(toy(), steps=12)
    report = learn(toy(lr=0.02), steps=6, restart=True)
    assert (report.first, report.step) == (0, 6)
    assert load_card(report.checkpoint).training["lr"] == 0.02
    assert [row["step"] for row in table(report.logs / "losses.csv")] == ["3", "6"]
    assert [path.name for path in (report.logs / "grids").iterdir()] == ["000006.png"]


def test_a_restart_that_is_stopped_before_it_saved_is_not_done(learn, toy, monkeypatch):
    before = learn(toy(), steps=8).checkpoint.read_bytes()
    stopped, task = toy(), toy()
    monkeypatch.setattr(stopped, "dataset", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        learn(stopped, steps=8, restart=True)
    report = learn(task, steps=8)
    assert (report.first, report.step) == (0, 8)
    assert len(task.seen) > 0
    assert report.checkpoint.read_bytes() == before, "the same training, taken anew"


def test_a_checkpoint_without_its_state_is_done_or_refused_but_never_written_over(learn, toy, tmp_path):
    report = learn(toy())
    (tmp_path / "models/resume/toy.safetensors").unlink()
    assert learn(toy()).first == 20
    with pytest.raises(InputError, match=r"expected 30 steps, found 20, and no .* to go on from; .* --restart"):
        learn(toy(), steps=30)
    with pytest.raises(InputError, match=r"expected lr 0.01, found lr 0.5"):
        learn(toy(lr=0.5))
    assert load_card(report.checkpoint).training["lr"] == 0.01


def test_a_damaged_state_is_refused(learn, toy, tmp_path):
    learn(toy(), steps=2)
    path = tmp_path / "models/resume/toy.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is no whole state of a training .*; train anew with --restart"):
        learn(toy())
    path.write_bytes((tmp_path / "models/toy.safetensors").read_bytes())
    with pytest.raises(InputError, match="holds something else"):
        learn(toy())


def test_a_state_of_which_a_bit_flipped_is_refused(learn, toy, tmp_path):
    learn(toy(), steps=2)
    flip(tmp_path / "models/resume/toy.safetensors", 1)
    with pytest.raises(InputError, match=r"is no whole state of a training \(expected checksum \w{8}, found \w{8}\)"):
        learn(toy())


@pytest.mark.parametrize("what", ["resume/toy.safetensors", "toy.safetensors", "curve.png"])
def test_a_full_disk_leaves_what_was_saved_before(whole, learn, toy, tmp_path, monkeypatch, what):
    expected = uninterrupted(whole, learn, toy)
    learn(toy(), steps=8)
    models = tmp_path / "models"
    kept = {path: path.read_bytes() for path in (models / "toy.safetensors", models / "resume/toy.safetensors")}
    replace = os.replace

    def full(source, target):
        if str(target).endswith(what):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(toy, "validate", lambda self, net: {"error": -1.0})  # better, so that it is to be kept
    with pytest.raises(UnfinishedError, match=r"cannot be written at step 16 .No space left on device.; .* is intact"):
        learn(toy())
    monkeypatch.undo()
    assert (models / "resume/toy.safetensors").read_bytes() == kept[models / "resume/toy.safetensors"]
    if what == "toy.safetensors":
        assert (models / "toy.safetensors").read_bytes() == kept[models / "toy.safetensors"]
    assert not [path for path in models.rglob(".*") if path.is_file()]
    again = toy()
    assert learn(again).first == 8
    assert again.seen == expected["seen"][16:]


def test_a_long_time_between_validations_is_bridged(learn, toy, tmp_path, monkeypatch):
    monkeypatch.setattr("zeuxis.pipelines.training.loop.SAVE_SECONDS", -1.0)
    task = toy()
    task.break_at = 6
    with pytest.raises(UnfinishedError):
        learn(task)
    assert load_marks(tmp_path / "models/resume/toy.safetensors").step == 5


def _edited(path, change):
    with safe_open(path, "pt") as file:
        row = json.loads(file.metadata()["training"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(row, held)
    save_file(held, path, {"training": json.dumps(row)})


@pytest.mark.parametrize(
    "change",
    [
        lambda row, held: row.update(step="many"),
        lambda row, held: row.update(step=-1),
        lambda row, held: row.update(settings=[]),
        lambda row, held: row.update(best="good"),
        lambda row, held: row.update(rates=3),
        lambda row, held: row.update(rates={}),
        lambda row, held: held.pop(next(name for name in held if name.startswith("modules."))),
        lambda row, held: held.pop(next(name for name in held if name.startswith("average."))),
        lambda row, held: held.update({name: each[:1] for name, each in held.items() if name.endswith("weight")}),
    ],
)
def test_a_state_that_is_not_that_of_the_network_is_named(learn, toy, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        learn(toy(), stop=3)
    _edited(tmp_path / "models/resume/toy.safetensors", change)
    with pytest.raises(InputError, match=r"toy\.safetensors: is no whole state of a training .*--restart"):
        learn(toy())


def test_a_state_that_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "toy.safetensors")
    with pytest.raises(InputError, match="no plain file"):
        load_marks(tmp_path / "toy.safetensors")


def test_features_by_their_name_of_before_are_the_same_and_others_are_not():
    today = {"features": "bank:1/8 step 1500 (camvid, 3fa2c1)", "batch": 8}
    for before, as_named in (
        ("bank:1/8 step 1500", today["features"]),
        ("bank:1/8 step 2500", "bank:1/8 step 2500"),
        ("bank:1/8 step 1500 (camvid, 000000)", "bank:1/8 step 1500 (camvid, 000000)"),
        (None, None),
    ):
        assert _as_named({"features": before, "batch": 8}, today) == {"features": as_named, "batch": 8}
