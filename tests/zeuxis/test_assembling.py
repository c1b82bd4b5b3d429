"""Pictures from patches as users meet them: `zeuxis.assemble`, `bank.assemble`, `bank.patch_pixels` and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis
from tests.pipelines.tiny_key_patches import SIDE, part_bank, save_assemblers
from tests.zeuxis.command import Ran, called
from zeuxis.storage.errors import InputError

Run = Callable[..., Ran]
NAMES = ["train/a", "train/b", "test/u", "test/v"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assembling")
    part_bank(folder, NAMES)
    save_assemblers(folder / "models", folder / "bank", "key-patches")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command in a folder of its own with two patches, `a.png` and `b.png`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    for seed, name in enumerate("ab"):
        Image.fromarray(patch(seed)).save(tmp_path / f"{name}.png")

    def call(*arguments: object) -> Ran:
        return called(monkeypatch, capsys, *arguments)

    return call


def patch(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 28, 3), np.uint8)


def test_a_bank_gives_the_pixels_of_its_key_patches(folder: Path):
    bank = zeuxis.open(folder / "bank")
    table = bank.patches({"split": "train"})
    assert table.num_rows
    for row, pixels in zip(table.to_pylist(), bank.patch_pixels(table), strict=True):
        photograph = bank.photograph(row["source"])
        np.testing.assert_array_equal(pixels, photograph[row["top"] : row["bottom"], row["left"] : row["right"]])
    (again,) = bank.patch_pixels([(table["source"][0].as_py(), table["rank"][0].as_py())])
    np.testing.assert_array_equal(again, bank.patch_pixels(table.slice(0, 1))[0])
    with pytest.raises(InputError, match=r"key patch 9 of source 'folder/train/a': is not in .*: it has [1-3], from 0"):
        bank.patch_pixels([("folder/train/a", 9)])
    with pytest.raises(InputError, match=r"key patch 0 of source 'x': is not in .*: no key patch is of that source"):
        bank.patch_pixels([("x", 0)])
    with pytest.raises(InputError, match="patches: expected rows with source and rank, found no rank"):
        bank.patch_pixels(table.select(["source", "top"]))


def test_pictures_are_made_with_a_bank_and_without(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    bank = zeuxis.open(folder / "bank", models=folder / "models")
    pixels = bank.patch_pixels(bank.patches({"source": "folder/test/u"}))
    (one,) = bank.assemble(pixels, 1, 5)
    (other,) = zeuxis.assemble(pixels, 1, 5, models=folder / "models")
    assert one.image.tobytes() == other.image.tobytes()
    assert one.image.shape == (SIDE, SIDE, 3)
    with pytest.warns(UserWarning, match="gets patches of class:sign"):
        bank.assemble(variants=1, from_bank=["class:sign"])
    with pytest.warns(UserWarning, match="at most and gets 4"):
        zeuxis.assemble([patch(0)] * 4, 1, models=folder / "models")
    with pytest.raises(InputError, match="no bank was named"):
        zeuxis.assemble(from_bank=["class:car"], models=folder / "models")


@pytest.mark.parametrize("alike", [False, True])
def test_the_command_says_whether_patches_are_of_one_scale(run: Run, monkeypatch: pytest.MonkeyPatch, alike: bool):
    seen = []

    def told(*_: object, **given: object) -> None:
        seen.append(given["alike"])
        raise InputError("enough")

    monkeypatch.setattr("zeuxis.pipelines.assemble.assemble", told)
    code, _, errors = run("assemble", "a.png", "b.png", "--out", "made", *(["--alike"] if alike else []))
    assert (code, errors, seen) == (2, ["zeuxis: enough"], [alike])


def test_the_command_says_where_patches_went(run: Run, folder: Path):
    models = folder / "models"
    code, lines, errors = run("assemble", "a.png", "b.png", "--models", models, "--out", "made", "--variants", 2)
    assert (code, lines) == (0, ["made/a-0.png", "made/a-1.png", "made/a-sheet.png"])
    assert [line.split(":")[0] for line in errors] == ["a.png", "b.png"]
    assert all(" of a-0.png" in line for line in errors)
    assert np.asarray(Image.open("made/a-sheet.png")).shape[1] > 2 * SIDE
    Path("compiled").mkdir(mode=0o700)
    code, lines, errors = run("assemble", "a.png", "--models", models, "--out", "made", "--variants", 1, "--compiled",
                              "compiled")  # fmt: skip
    assert (code, lines) == (0, ["made/a-0.png", "made/a-sheet.png"])
    assert errors[0].startswith("warning: compiled: holds nothing compiled for key-patches.safetensors")
    code, lines, errors = run("assemble", "--from-bank", "class:sign", "--from-bank", "class:car", "--bank",
                              folder / "bank", "--models", models, "--out", "made", "--variants", 1)  # fmt: skip
    assert (code, lines) == (0, ["made/sign+car-0.png", "made/sign+car-sheet.png"])
    assert errors[0].startswith("warning: key-patches.safetensors: was trained on objects of class car")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "zeuxis: patches: expected at least one, found none"),
        (["a.png", "--patches", "3"], "zeuxis: --patches: expected at most 1"),
        (["x.png"], "zeuxis: patch x.png: cannot be read"),
        (["--from-bank", "class:car"], "zeuxis: patches of the bank: no bank was named"),
        (["a.png", "--network", "none"], "zeuxis: {models}/none.safetensors: expected a trained network"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(run: Run, folder: Path, words: list[str], said: str):
    models = folder / "models"
    code, lines, errors = run("assemble", *words, "--models", models, "--out", "made")
    assert (code, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(said.format(models=models))
    assert not Path("made").exists()
