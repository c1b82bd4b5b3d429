"""Batch synthesis as users meet it: the command, its exit codes and its sentences."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Photos, blocks
from tests.pipelines.tiny_models import make_bank, save_models
from tests.zeuxis.command import Ran, called
from zeuxis import cli
from zeuxis.index.retriever import Retriever
from zeuxis.index.search import is_compiled
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.progress import first_use
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synthesizing import boosts

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesizing")
    make_bank(Photos(folder / "photos"), folder / "bank", "abcd")
    save_models(folder / "models", folder / "bank", "synthesis")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> Run:
    """`zeuxis synthesize` of two layouts into `made`: exit code, lines, error lines."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layouts").mkdir()
    for seed in range(2):
        Image.fromarray(blocks(np.random.default_rng(seed))).save(tmp_path / f"layouts/{seed}.png")

    def call(*arguments: object) -> Ran:
        given = ("synthesize", "--bank", folder / "bank", "--models", folder / "models", "--out", "made", *arguments)
        return called(monkeypatch, capsys, *given)

    return call


def test_the_command_makes_images_and_tells_how_fast(run: Run, tmp_path: Path):
    code, lines, errors = run("--layouts", "layouts", "--variants", 2, "--dataset", "folder", "--format", "parquet")
    assert code == 0
    assert lines[0].split()[:3] == ["stage", "threads", "images"]
    assert any("bottleneck" in line for line in lines)
    assert lines[-1] == "made: 4 images, 4 made now; see made/report.html"
    assert len([line for line in errors if "holds no" in line]) == 2
    assert (tmp_path / "made/train-00000.parquet").is_file()
    assert (tmp_path / "made/report.html").read_text().count("<img") == 8
    code, lines, _ = run("--layouts", "layouts", "--variants", 2, "--dataset", "folder", "--format", "parquet")
    assert (code, lines) == (0, ["made: 4 images, all made before; see made/report.html"])
    code, _, errors = run("--layouts", "layouts", "--variants", 3, "--dataset", "folder", "--format", "parquet")
    assert code == 2
    assert "holds another run: its option variants differs" in errors[-1]


def test_augment_stands_for_the_options_that_helped_most(run: Run, tmp_path: Path):
    code, _, _ = run("--augment", "--limit", 2)
    assert code == 0
    settings = json.loads((tmp_path / "made/plan.json").read_text())["settings"]
    assert (settings["recompose"], settings["apart"], settings["elision"]) == (True, "nothing", False)
    assert run("--recompose", "--apart", "nothing", "--no-elision", "--limit", 2)[0] == 0, "it is the same run"


def test_a_name_alone_is_one_name():
    options = SynthesisOptions(exclude="folder/a", erase="car")
    assert (options.exclude, options.erase) == (("folder/a",), ("car",))


def test_rejects_are_told_by_the_exit_code(run: Run, tmp_path: Path):
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(tmp_path / "layouts/odd.png")
    code, lines, errors = run("--layouts", "layouts", "--transform", "analytic", "--order", "classes")
    assert code == 3
    assert lines[-1].startswith("made: 2 images")
    assert "77" in errors[-2]
    assert errors[-1] == "1 images could not be made: made/rejects.csv"


def test_what_cannot_be_is_refused_in_a_sentence(run: Run, tmp_path: Path):
    for arguments, said in (
        (("--boost", "tram=2"), "tram"),
        (("--boost", "car"), "CLASS=FACTOR"),
        (("--boost", "car=many"), "CLASS=FACTOR"),
        (("--keep-real", 1.5), "keep_real"),
        (("--layouts", "nowhere"), "nowhere"),
        (("--workers", 0), "workers: expected a whole number of at least 1"),
        (("--device", "abacus"), "--device: expected one that is here, found 'abacus'"),
        (("--network", "nobody"), "nobody.safetensors: expected a trained network"),
        (("--augment", "--apart", "group"), "--augment: excludes --apart"),
        (("--augment", "--elision"), "--augment: excludes --elision"),
    ):
        code, _, errors = run(*arguments)
        assert code == 2
        assert said in errors[-1]
        assert errors[-1].startswith("zeuxis: ")
    assert not (tmp_path / "made").exists()


def test_the_first_search_of_an_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    from zeuxis.index import search

    def kept_in(folder: Path) -> None:
        monkeypatch.setattr(
            search, "search_part", SimpleNamespace(__name__="search_part", _cache=SimpleNamespace(cache_path=folder))
        )

    kept_in(tmp_path)
    first_use()
    assert capsys.readouterr().err == "compiling the search for this machine, once: about 20 s\n"
    (tmp_path / "best_first.search_part-120.py311.nbi").write_bytes(b"")
    first_use()
    assert capsys.readouterr().err == ""


def test_numba_keeps_the_search_where_it_is_looked_for(folder: Path):
    reader = Reader(folder / "bank")
    Retriever(reader).retrieve(source=reader.table("sources").column("source")[0].as_py())
    assert is_compiled()


def test_what_an_interrupted_command_does_next_is_told():
    assert {name for name in ("synthesize", "paint", "evaluate", "train") if "go on" in cli._what_then([name])} == {
        "synthesize", "evaluate", "train",
    }  # fmt: skip
    assert cli._what_then(["paint"]) == ", which starts over"
    assert cli._what_then(["train", "roi", "--restart"]) == " without --restart to go on"


def test_boosts_are_read():
    assert boosts(["car=3", "a=b=0.5"]) == {"car": 3.0, "a=b": 0.5}
    with pytest.raises(InputError, match="pedestrian=3"):
        boosts(["=3"])
