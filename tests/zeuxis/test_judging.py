"""`zeuxis evaluate synthesis` as users meet it: table, page, a study with people, and their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Photos
from tests.pipelines.small_inception import stands_in
from tests.pipelines.tiny_models import make_bank, save_models
from tests.zeuxis.command import Ran, called

Run = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judging")
    names = [*(f"train/{name}" for name in "abcd"), *(f"test/{name}" for name in "uvwx")]
    make_bank(Photos(folder / "photos"), folder / "bank", names)
    save_models(folder / "models", folder / "bank", "synthesis", "judge")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> Run:
    """`zeuxis evaluate synthesis` on the bank with the networks, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEUXIS_INCEPTION", raising=False)

    def call(*arguments: object) -> Ran:
        given = ("--bank", folder / "bank", "--models", folder / "models", "--out", "made")
        return called(monkeypatch, capsys, "evaluate", "synthesis", *arguments, *given)

    return call


def test_two_systems_are_measured_and_people_asked(run: Run, tmp_path: Path):
    code, lines, errors = run("--system", "SIMS", "--study", "SIMS", "collage")
    assert code == 0
    assert all(" pictures " in line for line in errors), errors  # progress alone
    made = tmp_path / "made"
    written = {f"made/{name}" for name in ("evaluation.json", "report.html", "study.html", "study.key.json")}
    assert written <= set(lines)
    assert all((tmp_path / name).is_file() for name in written)
    assert list(json.loads((made / "evaluation.json").read_text())["systems"])[2:] == ["collage", "SIMS"]
    key = json.loads((made / "study.key.json").read_text())
    sides = {pair["number"]: "right" if pair["swapped"] else "left" for pair in key["pairs"]}
    (tmp_path / "a.json").write_text(json.dumps({"study": key["study"], "answers": sides}))
    code, lines, errors = run("--answers", "a.json")
    assert (code, errors) == (0, [])
    assert lines == ["SIMS preferred to collage in 4 of 4 pairs (100.0%; 95 % interval 51.0% to 100.0%), 1 people"]


def test_a_study_of_one_system_is_refused_before_anything_is_painted(run: Run, tmp_path: Path):
    code, lines, errors = run("--study", "SIMS", "SIMS")
    assert (code, lines) == (2, [])
    assert errors == ["zeuxis: --study: expected two systems, found 'SIMS' twice"]
    assert not (tmp_path / "made").exists()


def test_answers_without_a_study_are_refused(run: Run):
    code, _, errors = run("--answers", "a.json")
    assert code == 2
    assert "study.key.json" in errors[0]


def test_weights_of_inception_are_named_by_an_option_or_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code, lines, errors = run("--inception", "none.pth")
    assert (code, lines) == (2, [])
    assert errors[0].startswith("zeuxis: none.pth: expected weights of the Inception-v3 of FID, found no such file; ")
    assert not (tmp_path / "made").exists()
    path = stands_in(monkeypatch, tmp_path)
    for given in (("--inception", path), ()):
        code, lines, errors = run("--system", "collage", *given)
        assert code == 0, errors
        told = json.loads((tmp_path / "made" / "evaluation.json").read_text())
        assert told["about"]["inception"].startswith("small.safetensors, SHA-256 ")
        assert told["systems"]["collage"][0]["kid_inception"]
        monkeypatch.setenv("ZEUXIS_INCEPTION", str(path))


def test_weights_of_inception_are_for_synthesis_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    given = ("--models", "models", "--inception", "small.safetensors", "--out", "made")
    code, _, errors = called(monkeypatch, capsys, "evaluate", "inpaint", *given)
    assert (code, errors) == (2, ["zeuxis: --inception: expected with synthesis, found with inpaint"])
