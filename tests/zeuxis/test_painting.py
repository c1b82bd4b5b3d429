"""Painting as users meet it: `bank.paint`, `zeuxis.paint`, and the command."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis
from tests.conftest import Photos, blocks
from tests.pipelines.tiny_models import SIZE, make_bank, save_models
from tests.zeuxis.command import Ran, called
from zeuxis.storage.errors import InputError

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painting")
    make_bank(Photos(folder / "photos"), folder / "bank")
    save_models(folder / "models", folder / "bank")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> Run:
    """`zeuxis paint` on the bank with the networks, in a folder of its own: exit code, lines, error lines."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        Image.fromarray(blocks(np.random.default_rng(seed))).save(tmp_path / f"{name}.png")

    def call(*arguments: object, models: Path = folder / "models") -> Ran:
        given = ("paint", *arguments, "--bank", folder / "bank", "--models", models, "--out", "made")
        return called(monkeypatch, capsys, *given)

    return call


def layout() -> np.ndarray:
    return blocks(np.random.default_rng(1))


def test_a_bank_opened_with_networks_paints(folder: Path, tmp_path: Path):
    bank = zeuxis.open(folder / "bank", models=folder / "models")
    images = bank.paint(layout(), variants=2, seed=3, out=tmp_path / "made")
    assert [image.image.shape for image in images] == [(*SIZE, 3)] * 2
    assert [image.files[0].name for image in images] == ["layout-0.png", "layout-1.png"]
    again = pickle.loads(pickle.dumps(bank)).paint(layout(), variants=2, seed=3)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(images, again, strict=True))
    called = zeuxis.paint(layout(), 2, 3, bank=folder / "bank", models=folder / "models")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(images, called, strict=True))


def test_without_networks_it_is_said_where_to_get_some(folder: Path):
    with pytest.raises(InputError, match="zeuxis train all"):
        zeuxis.open(folder / "bank").paint(layout())
    with pytest.raises(InputError, match="nowhere"):
        zeuxis.open(folder / "bank").paint(layout(), models=folder / "nowhere")


def test_what_is_missing_is_a_warning_once(folder: Path, tmp_path: Path):
    bank = zeuxis.open(folder / "bank", models=save_models(tmp_path, folder / "bank", "synthesis"))
    with pytest.warns(UserWarning, match="holds no") as caught:
        bank.paint(layout(), variants=3)
    assert sorted("transform" in str(warning.message) for warning in caught) == [False, True]


def test_a_folder_of_layouts_is_painted(run: Run, tmp_path: Path):
    code, lines, errors = run(tmp_path, "--variants", 2, "--seed", 1)
    assert (code, errors) == (0, [])
    assert lines == [f"made/{name}-{variant}.png" for name in "ab" for variant in (0, 1)]
    assert all(np.asarray(Image.open(tmp_path / line)).shape == (*SIZE, 3) for line in lines)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert len(whole) == 4 * 5
    code, lines, _ = run("b.png", "--seed", 1)
    assert lines == ["made/b-0.png"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == whole


def test_the_command_switches_stages(run: Run, tmp_path: Path):
    assert run("a.png")[0] == 0
    full = (tmp_path / "made/a-0.png").read_bytes()
    switches = ("--transform", "identity", "--order", "classes", "--no-elision", "--no-synthesis")
    assert run("a.png", *switches) == (0, ["made/a-0.png"], [])
    canvas = np.asarray(Image.open(tmp_path / "made/a-0.canvas.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "made/a-0.png")), canvas)
    assert full != (tmp_path / "made/a-0.png").read_bytes()
    assert '"transform": "identity"' in (tmp_path / "made/a-0.json").read_text()


def test_the_command_takes_a_source_a_class_map_and_coarse_layouts(run: Run, folder: Path, tmp_path: Path):
    assert run("--source", "folder/a") == (0, ["made/folder-a-0.png"], [])
    assert run("a.png", "--densify")[0] == 0
    (tmp_path / "map.yaml").write_text("sky: ground\n")
    code, _, errors = run("a.png", "--map-classes", "map.yaml")
    assert code == 0
    assert any("does not know sky" in line for line in errors)


def test_a_layout_that_cannot_be_used_is_passed_over(run: Run, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    code, lines, errors = run(tmp_path)
    assert code == 3
    assert lines == ["made/a-0.png", "made/b-0.png"]
    assert [line.count("bad.png") for line in errors if "bad.png" in line] == [1]
    assert errors[-1] == "1 of 3 layouts could not be used"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("a.png", "--transform", "no"), "transform"),
        (("a.png", "--variants", 0), "variants"),
        (("a.png", "--map-classes", "none.yaml"), "none.yaml"),
        (("a.png", "sub/a.png"), "two layouts are called a"),
        (("bad.png",), "bad.png"),
        (("a.png", "--no-synthesis", "--network", "crn"), "--network: excludes --no-synthesis"),
        ((), "layout"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(arguments: tuple[object, ...], word: str, run: Run, tmp_path: Path):
    code, lines, errors = run(*arguments)
    assert (code, lines) == (2, [])
    assert len(errors) == 1
    assert word in errors[0]
    assert not (tmp_path / "made").exists()


def test_a_layout_is_never_written_over(run: Run, tmp_path: Path):
    (tmp_path / "made").mkdir()
    path = tmp_path / "made/a-0.png"
    path.write_bytes((tmp_path / "a.png").read_bytes())
    code, _, errors = run(path, "a.png")
    assert code == 2
    assert "a-0.png" in errors[0]
    assert path.read_bytes() == (tmp_path / "a.png").read_bytes()


def test_networks_that_do_not_fit_are_refused(run: Run, folder: Path, tmp_path: Path):
    few = save_models(tmp_path / "few", folder / "bank", classes=[*zeuxis.open(folder / "bank").classes][:2])
    code, lines, errors = run("a.png", models=few)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert "car (2)" in errors[0]
    assert run("a.png", models=tmp_path / "none")[0] == 2
