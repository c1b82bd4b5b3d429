"""Filling a region as users meet it: `zeuxis.inpaint`, `bank.inpaint`, and the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis
from tests.conftest import Photos
from tests.pipelines.inpainting.tiny_roi import SLIDERS, save_fillers
from tests.pipelines.tiny_models import make_bank
from tests.zeuxis.command import Ran, called
from zeuxis.storage.errors import InputError

Run = Callable[..., Ran]
NAMES = ["train/a", "train/b", "test/u", "test/v", "test/w", "test/x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inpainting")
    make_bank(Photos(folder / "photos"), folder / "bank", NAMES)
    save_fillers(folder / "models", folder / "bank")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command in a folder of its own with a picture `p.png`: exit code, lines, error lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    Image.fromarray(picture()).save(tmp_path / "p.png")

    def call(*arguments: object) -> Ran:
        return called(monkeypatch, capsys, *arguments)

    return call


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, 110, 3), np.uint8)


def test_a_picture_is_filled_without_a_bank_and_with_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    (alone,) = zeuxis.inpaint(picture(), (20, 30, 40, 60), method="telea")
    bank = zeuxis.open(folder / "bank", models=folder / "models")
    np.testing.assert_array_equal(bank.inpaint(picture(), (20, 30, 40, 60), method="telea")[0].image, alone.image)
    two = bank.inpaint(picture(), (20, 30, 40, 60), 2, 5, sliders=[0.5])
    again = zeuxis.inpaint(
        picture(), (20, 30, 40, 60), 2, 5, bank=folder / "bank", models=folder / "models", sliders=[0.5]
    )
    assert all(np.array_equal(a.image, b.image) for a, b in zip(two, again, strict=True))
    with pytest.raises(InputError, match="no bank was named"):
        zeuxis.inpaint(picture(), (20, 30, 40, 60), method="bank")


def test_the_command_fills_and_says_how(run: Run, folder: Path):
    models = folder / "models"
    code, lines, errors = run("inpaint", "p.png", "--region", "20,30,40,60", "--models", models, "--out", "made",
                              "--variants", 2, "--sliders", "-1,0.5", "--sheet")  # fmt: skip
    assert code == 0
    assert [line for line in lines if line.startswith("made")] == ["made/p-0.png", "made/p-1.png", "made/p-sliders.png"]
    assert sum(line.split()[0].isdecimal() for line in lines) == SLIDERS
    assert "roi: one window of 64x64 pixels at the network's resolution, 6.8% of the picture" in errors
    made = np.asarray(Image.open("made/p-0.png"))
    inside = np.zeros((80, 110), bool)
    inside[20:40, 30:60] = True
    np.testing.assert_array_equal(made[~inside], picture()[~inside])
    first = Path("made/p-1.png").read_bytes()
    run("inpaint", "p.png", "--region", "20,30,40,60", "--models", models, "--out", "again", "--variants", 2,
        "--sliders", "-1,0.5")  # fmt: skip
    assert Path("again/p-1.png").read_bytes() == first


def test_the_command_erases_a_segment_of_a_source(run: Run, folder: Path):
    bank = zeuxis.open(folder / "bank")
    segment = bank.segments({"source": "folder/test/u", "class_name": "car"}, ["segment_id"])["segment_id"][0].as_py()
    code, lines, _ = run("inpaint", "folder/test/u", "--region", f"segment:{segment:016x}", "--erase", "--method",
                         "patchmatch", "--bank", folder / "bank", "--out", "made")  # fmt: skip
    assert (code, lines) == (0, ["made/folder-test-u-0.png"])
    changed = (np.asarray(Image.open("made/folder-test-u-0.png")) != bank.photograph("folder/test/u")).any(axis=2)
    region = np.asarray(Image.open("made/folder-test-u-0.region.png")) == 255
    assert changed[region].mean() > 0.9
    assert not changed[~region].any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--region", "1,2,3"], "zeuxis: region: expected MASK.png, TOP,LEFT,BOTTOM,RIGHT or segment:ID"),
        (["--region", "1,2,9,9", "--method", "bank"], "zeuxis: method bank: no bank was named"),
        (["--region", "1,2,9,9"], "zeuxis: method roi: no folder of trained networks was named"),
        (
            ["--region", "1,2,9,9", "--sliders", "a"],
            "zeuxis: --sliders: expected numbers such as 0.3,-1,0, or random, found 'a'",
        ),
        (["--region", "1,2,9,9", "--sheet"], "zeuxis: sheet: expected a network with sliders"),
        (["--region", "segment:0123456789abcdef"], "zeuxis: segment:0123456789abcdef: no bank was named"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(run: Run, words: list[str], said: str):
    code, lines, errors = run("inpaint", "p.png", *words, "--out", "made")
    assert (code, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(said)
    assert not Path("made").exists()


def test_a_mask_is_never_written_over_by_the_sheet(run: Run, folder: Path):
    mask = Path("made/p-sliders.png")
    mask.parent.mkdir()
    Image.fromarray(np.pad(np.full((20, 30), 255, np.uint8), ((20, 40), (30, 50)))).save(mask)
    before = mask.read_bytes()
    code, lines, errors = run("inpaint", "p.png", "--region", mask, "--models", folder / "models", "--sheet", "--out",
                              "made")  # fmt: skip
    assert (code, lines, len(errors)) == (2, [], 1)
    assert "would be written over" in errors[0]
    assert [path.name for path in mask.parent.iterdir()] == [mask.name]
    assert mask.read_bytes() == before


def test_the_evaluation_is_a_command(run: Run, folder: Path):
    given = ("evaluate", "inpaint", "--bank", folder / "bank", "--models", folder / "models", "--out", "made")
    code, lines, _ = run(*given, "--system", "telea", "--system", "glcic")
    assert code == 0
    assert lines[-3:] == ["made/evaluation.json", "made/table.md", "made/report.html"]
    assert any(line.startswith("glcic: ") and "parameters" in line for line in lines)
    code, _, errors = run(*given, "--study", "a", "b")
    assert (code, errors) == (2, ["zeuxis: evaluate inpaint: has no study; leave --study and --answers out"])
    code, _, errors = run("evaluate", "painting", "--out", "made")
    expected = "synthesis, inpaint, key-patches or region-semantics"
    assert (code, errors) == (2, [f"zeuxis: evaluate: expected {expected}, found painting"])


def test_painting_takes_a_way_to_fill(run: Run, folder: Path):
    code, _, errors = run("paint", "x.png", "--bank", folder / "bank", "--models", folder / "models", "--out", "made",
                          "--inpaint", "magic")  # fmt: skip
    assert code == 2
    assert errors[0].startswith("zeuxis: stages: inpaint: expected one of roi")
