"""Training in two processes: what it learns is what one learns from all items, and where one stops the other does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zeuxis.pipelines.training.resume import load_marks
from zeuxis.storage.files import writer_lock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from torch import nn
from tests.pipelines.training.conftest import Toy
from zeuxis.pipelines.training.loop import train
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.storage.errors import ZeuxisError

FOLDER, DEVICES, BATCH, STEPS, HOW = sys.argv[1:]

class Plain(Toy):
    def modules(self):
        return nn.ModuleDict({"net": nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))})

    def optimisers(self, modules):
        return {"net": torch.optim.SGD(modules["net"].parameters(), 0.05)}

    def losses(self, modules, batch, step):
        if HOW == "fails" and step == 2 and os.environ.get("LOCAL_RANK", "0") == "0":
            raise RuntimeError("out of memory")
        if HOW == "slow":
            time.sleep(0.05)
        yield "net", (modules["net"](batch["x"]) - batch["y"]).square().mean(), {}

    def extra(self, modules):
        return {}

def progress(done, total, note=""):
    if done == 3 and os.environ.get("LOCAL_RANK", "0") == "0":
        print("three steps", flush=True)

if __name__ == "__main__":
    chosen = {"batch": int(BATCH), "accumulate": 2, "lr": 0.05, "steps": int(STEPS), "size": (32, 64)}
    options = TrainOptions(**chosen, devices=DEVICES, validate_every=1000, log_every=2)
    try:
        if HOW == "fails":
            HOW = "learns"
            train(Plain(), Path(FOLDER) / "first", options)  # the processes take up the second one
            HOW = "fails"
        train(Plain(), Path(FOLDER), options, progress=progress)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    except (ZeuxisError, RuntimeError) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            time.sleep(7)  # whoever watches over the others would end this one as well
        print(type(error).__name__, error, flush=True)
        sys.exit(1)
"""


@contextmanager
def started(folder: Path, devices: str, batch: int, steps: int, how: str = "learns") -> Iterator[subprocess.Popen[str]]:
    """A training in a group of processes of its own, all of which are gone in the end."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder), devices, str(batch), str(steps), how]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed, once all of its group have ended by themselves."""
    out, err = process.communicate(timeout=120)
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return out
        time.sleep(0.1)
    pytest.fail(f"a process of the training is left: {out}{err}")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {key: each for key, each in load_file(folder / "resume/toy.safetensors").items() if "modules." in key}


def test_two_processes_learn_what_one_does_and_go_on_where_they_were(tmp_path: Path):
    with started(tmp_path / "one", "cpu", 4, 6) as process:
        assert "three steps" in ended(process)
    for steps in (4, 6):  # accumulated as well: gradients are exchanged at the end of a step
        with started(tmp_path / "two", "cpu:2", 2, steps) as process:
            ended(process)
            assert process.returncode == 0
    assert load_marks(tmp_path / "two/resume/toy.safetensors").step == 6
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert set(one) == set(two)
    for name, each in one.items():
        torch.testing.assert_close(two[name], each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_once_and_ends_both(tmp_path: Path, number: int):
    with started(tmp_path / "models", "cpu:2", 2, 5000, "slow") as process:
        assert process.stdout is not None
        assert "three steps" in process.stdout.readline()
        os.killpg(process.pid, number)
        assert "interrupted" in ended(process)
    assert 3 <= load_marks(tmp_path / "models/resume/toy.safetensors").step < 5000


def test_where_the_first_one_fails_the_other_does_not_wait_for_it(tmp_path: Path):
    with started(tmp_path / "models", "cpu:2", 2, 6, "fails") as process:
        assert "RuntimeError out of memory" in ended(process)
        assert process.returncode == 1


def test_where_another_trains_it_both_are_refused(tmp_path: Path):
    logs = tmp_path / "models/logs/toy"
    logs.mkdir(parents=True)
    with writer_lock(logs), started(tmp_path / "models", "cpu:2", 2, 6) as process:
        assert "BankBusyError" in ended(process)
        assert process.returncode == 1
