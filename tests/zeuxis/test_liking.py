"""Pictures like a region as users meet them: `zeuxis.generator`, `zeuxis.like`, and the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

import zeuxis
from tests.conftest import Photos
from tests.pipelines.region_models import NAMES, save_region_models
from tests.pipelines.test_load_generator import normalised, save
from tests.pipelines.tiny_models import make_bank
from tests.zeuxis.command import Ran, called
from zeuxis.liking import like
from zeuxis.storage.errors import InputError
from zeuxis.synth.region_semantics.objective import APART
from zeuxis.synth.region_semantics.solver import Descent

Run = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("liking")
    make_bank(Photos(folder / "photos"), folder / "bank", NAMES)
    save_region_models(folder / "models", folder / "bank")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command in a folder of its own with a picture `p.png`: exit code, lines, error lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    Image.fromarray(picture()).save(tmp_path / "p.png")

    def call(*arguments: object) -> Ran:
        return called(monkeypatch, capsys, *arguments)

    return call


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.mark.filterwarnings("ignore:.*deviations from the generator:UserWarning")
def test_a_generator_makes_pictures_like_a_region(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)
    generator = zeuxis.generator(folder / "models")
    assert generator.resolution == 32
    assert "generator-wgan-gp" in repr(generator)
    assert generator.samples(2)[0].shape == (32, 32, 3)
    found = generator.like(picture(), (8, 20, 30, 40), 2, 1, steps=2)
    again = zeuxis.like(picture(), (8, 20, 30, 40), 2, 1, generator=folder / "models", steps=2)
    assert all(np.array_equal(a, b) for a, b in zip(found.images, again.images, strict=True))
    assert "conv3_1" in repr(found)
    with pytest.raises(InputError, match="looking up: no bank was named"):
        generator.like(picture(), (8, 20, 30, 40), look_up=True)


def test_the_command_takes_several_references_and_looks_them_up(run: Run, folder: Path):
    bank = zeuxis.open(folder / "bank")
    segment = bank.segments({"source": "folder/test/u", "class_name": "car"}, ["segment_id"])["segment_id"][0].as_py()
    code, lines, errors = run("like", "folder/test/u", "--region", f"segment:{segment:016x}", "--and",
                              "p.png@8,20,30,40", "--bank", folder / "bank", "--models", folder / "models",
                              "--generator", "began", "--count", 2, "--steps", 2, "--out", "made",
                              "--look-up")  # fmt: skip
    assert code == 0
    assert lines[:2] == ["made/folder-test-u-00.png", "made/folder-test-u-01.png"]
    assert {"made/folder-test-u-grid.png", "made/folder-test-u-hits.json"} < set(lines)
    assert all(Path(line).exists() for line in lines)
    assert any(re.search(r"of bank:1/16 step 0 \(bank, [0-9a-f]{6}\), 3 latents", line) for line in errors)


@pytest.mark.filterwarnings("ignore:.*deviations from the generator:UserWarning")
@pytest.mark.filterwarnings("ignore:.*treespec.*:FutureWarning")
def test_an_exported_program_is_sought_and_frozen_where_that_is_asked_for(run: Run, folder: Path):
    torch.manual_seed(0)
    save(Path("own.pt2"), normalised(learned=True), extra_files={"prior": "uniform"})
    given = ("like", "p.png", "--region", "8,20,30,40", "--generator", "own.pt2", "--models", folder / "models",
             "--count", 2, "--steps", 2, "--depth", "conv2_1", "--out", "made")  # fmt: skip
    code, _, errors = run(*given)
    assert (code, len(errors)) == (2, 1)
    assert "give --freeze" in errors[0]
    code, lines, _ = run(*given, "--freeze")
    assert code == 0
    assert np.asarray(Image.open(lines[0])).shape == (16, 16, 3)
    told = json.loads(Path("made/p-like.json").read_text())["generator"]
    assert told == {"name": "own", "resolution": 16, "prior": "uniform", "batch normalisations frozen": 1}


def test_the_defaults_that_the_command_tells_are_those_of_the_search():
    options = get_type_hints(like, include_extras=True)
    usual = {"noise": Descent().noise, "steps": Descent().steps, "apart": APART}
    for name, value in usual.items():
        (option,) = options[name].__metadata__
        assert option.help.endswith(f"default {value:g}.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "empty"], "zeuxis: empty: expected generator-wgan-gp.safetensors or generator-began"),
        ([], "zeuxis: --models: none was named; give a folder of networks, or --generator"),
        (["--models", "M", "--count", "0"], "zeuxis: count: expected a whole number from 1 to 1,024, found 0"),
        (["--models", "M", "--depth", "deep"], "zeuxis: depth: no layer 'deep', expected auto, one of conv1_1"),
        (["--models", "M", "--and", "p.png"], "zeuxis: --and: expected IMAGE@REGION, such as"),
        (["--models", "M", "--look-up"], "zeuxis: looking up: no bank was named"),
        (["--generator", "none.pt2"], "zeuxis: none.pt2: expected a generator or a folder of networks, found no such"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(run: Run, folder: Path, words: list[str], said: str):
    Path("empty").mkdir()
    given = [folder / "models" if word == "M" else word for word in words]
    code, lines, errors = run("like", "p.png", "--region", "8,20,30,40", *given, "--out", "made")
    assert (code, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(said)
    assert not Path("made").exists()


def test_the_evaluation_is_a_command(run: Run, folder: Path):
    given = ("evaluate", "region-semantics", "--bank", folder / "bank", "--models", folder / "models", "--out", "made")
    code, lines, _ = run(*given, "--system", "unconditional")
    assert code == 0
    assert lines[-3:] == ["made/evaluation.json", "made/table.md", "made/report.html"]
    said = (
        r"Random pictures, generator-wgan-gp: KID .*, FID of too few pictures; generator-began: KID .*\. The held-out"
    )
    assert any(re.match(said, line) for line in lines)
    code, lines, _ = run(*given, "--system", "unconditional", "--generator", "began")
    assert code == 0
    assert any(line.startswith("Random pictures, generator-began: ") for line in lines)
    code, _, errors = run("evaluate", "inpaint", *given[2:], "--generator", "began")
    assert (code, errors) == (2, ["zeuxis: --generator: expected with region-semantics, found with inpaint"])
    code, _, errors = run(*given, "--study", "a", "b")
    assert (code, errors) == (2, ["zeuxis: evaluate region-semantics: has no study; leave --study and --answers out"])
