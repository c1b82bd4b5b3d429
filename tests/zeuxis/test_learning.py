"""`zeuxis train` as it is called: exit codes, what it says, Ctrl-C, and the same command once more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from zeuxis import cli

OPTIONS = ("--preset", "tiny", "--batch", "1", "--devices", "cpu", "--validate-every", "1000")


@pytest.fixture
def bank(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    rebuild_bank(photos.spec)
    return tmp_path / "bank"


@pytest.fixture
def call(monkeypatch, capsys):
    """Exit code, standard output and errors of a command, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["zeuxis", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", lambda *_: None)
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_a_training_is_interrupted_goes_on_and_is_done(bank, call, tmp_path):
    models = tmp_path / "models"
    command = ["train", "judge", "--bank", bank, "--models", models, *OPTIONS, "--steps"]
    program = [sys.executable, "-c", "from zeuxis.cli import main; main()", *map(str, command), "10000"]
    child = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = models / "logs/judge/losses.csv"
    while child.poll() is None and not (log.exists() and log.read_text().count("\n") > 1):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert not (models / "judge.safetensors").exists()

    from zeuxis.pipelines.training.resume import load_marks

    step = load_marks(models / "resume/judge.safetensors").step
    assert step >= 10
    code, out, said = call(*command, step + 2)
    assert (code, said) == (0, f"judge: goes on from step {step}\n")
    assert out.startswith(f"judge: steps {step + 1} to {step + 2} in ")
    assert out.endswith(f" s, best miou {out.split()[-2][:-1]}: {models}/judge.safetensors\n")
    code, out, said = call(*command, step + 2)
    assert (code, said) == (0, "")
    assert out.startswith(f"judge: done before, {step + 2} steps, best miou 0.")
    code, out, said = call(*command, step + 2, "--lr", 0.5)
    assert (code, out) == (2, "")
    assert "was trained otherwise, expected lr 0.001, found lr 0.5; give the same ones to go on, or --restart" in said


def test_what_is_refused_is_one_sentence_and_leaves_nothing(bank, call, tmp_path, monkeypatch):
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    models = tmp_path / "models"
    code, out, said = call("train", "features", "--bank", bank, "--models", models, "--preset", "huge")
    assert (code, out, len(said.splitlines())) == (2, "", 1)
    assert said.startswith("zeuxis: preset 'huge': expected one of tiny")
    assert call("train", "features", "--models", models)[::2] == (
        2,
        "zeuxis: bank: none was named; give --bank or set ZEUXIS_BANK\n",
    )
    said = call("train", "features", "--bank", bank, "--models", models, "--size", "40x40")[2]
    assert said.startswith("zeuxis: size: expected ROWSxCOLS in multiples of 32, found 40x40")
    assert not models.exists()


def test_the_bank_may_be_named_by_the_environment(bank, call, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEUXIS_BANK", str(bank))
    code, _, said = call("train", "features", "--models", tmp_path / "models", "--variant", "no-canvas")
    assert (code, said) == (
        2,
        "zeuxis: --variant: expected with synthesis, crn, roi or key-patches, found with features\n",
    )
