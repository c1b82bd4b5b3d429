"""A folder of networks compiled ahead of time, resumed, and painted with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Photos
from tests.pipelines.tiny_key_patches import PARTS, save_assemblers
from tests.pipelines.tiny_models import card_of, make_bank, network_of, save_models
from tests.synth.test_compile import Fake
from zeuxis import cli
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.assembling.network import Assembler
from zeuxis.pipelines.compile import compile
from zeuxis.pipelines.examples import Recorded
from zeuxis.pipelines.paint import Painter
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth import compile as compiling
from zeuxis.synth.checkpoint import load_card, load_checkpoint, save_checkpoint
from zeuxis.synth.compiling import onnx
from zeuxis.synth.compiling.backends import BACKENDS
from zeuxis.synth.compiling.packages import Store

KINDS = ("synthesis", "transform", "ordering", "densify", "judge")
ASKED = ("synthesis", "transform", "densify", "judge")
"""Those that are given something where the bank's small layouts are painted: no two segments there contest a place."""
PACKAGES = 7
"""Two batch sizes of two of them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compile")
    make_bank(Photos(folder / "photos"), folder / "bank")
    return folder


@pytest.fixture
def reader(folder: Path) -> Reader:
    return Reader(folder / "bank")


@pytest.fixture
def models(folder: Path, tmp_path: Path) -> Path:
    return save_models(tmp_path / "models", folder / "bank", *KINDS, size=(32, 32))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A compiler whose packages are networks that it keeps, twice as fast as eager."""
    made = Fake()
    monkeypatch.setitem(BACKENDS, "inductor", made.backend())
    monkeypatch.setattr(compiling, "side_by_side", lambda calls, given: [2.0, 1.0][: len(calls)])
    return made


def painted(folder: Path, models: Path, compiled: Path | None) -> Any:
    reader = Reader(folder / "bank")
    painter = Painter(reader, Retriever(reader), models, "cpu", compiled)
    return painter.paint(source=reader.table("sources").column("source")[0].as_py())[0]


def test_every_network_is_compiled_at_its_own_size_and_once(models: Path, compiler: Fake):
    told: list[tuple[int, int, str]] = []
    report = compile(models, progress=lambda *each: told.append(each))
    assert sorted({name for name, _ in report.verdicts}) == sorted(KINDS)
    assert len(report.verdicts) == len(compiler.kept) == PACKAGES
    assert {verdict.shapes[0][-2:] for _, verdict in report.verdicts} == {(32, 32)}
    assert {verdict.backend for _, verdict in report.verdicts} == {"inductor"}
    assert report.folder == models / "compiled"
    assert told[0] == (0, PACKAGES, "densify, batch 1")
    assert told[-1][:2] == (PACKAGES, PACKAGES)
    again = compile(models)
    assert len(compiler.kept) == PACKAGES
    assert again.verdicts == report.verdicts
    assert "inductor float32" in [str(each) for _, each in compile(models, (64, 64), (2,)).verdicts]
    assert len(compiler.kept) == PACKAGES + len(KINDS)


def test_an_interrupted_run_goes_on_where_it_stopped(models: Path, compiler: Fake):
    build, calls = compiler.build, []

    def stopped(*given: Any) -> bytes:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return build(*given)

    BACKENDS["inductor"] = BACKENDS["inductor"]._replace(build=stopped)
    with pytest.raises(KeyboardInterrupt):
        compile(models)
    assert len(list((models / "compiled").glob("*.json"))) == 3
    compile(models)
    assert len(calls) == PACKAGES + 1


def test_real_inputs_are_those_that_painting_gives(models: Path, reader: Reader):
    recorded = Recorded(models, reader)
    for kind in ASKED:
        card = load_card(models / f"{kind}.safetensors")
        example = recorded.example(kind, card, card.size)
        assert example is not None, kind
        assert example.about == "bank bank"
        assert all(each.shape[-2:] == (32, 32) for each in example.inputs)
    layout, canvas, valid = recorded.example("synthesis", load_card(models / "synthesis.safetensors"), (64, 96)).inputs
    assert layout.shape == (2, 5, 64, 96)
    assert layout.sum(1).eq(1).all()
    assert set(valid.unique().tolist()) == {0, 1}
    assert canvas.std() > 0.1
    elsewhere = card_of("judge", network_of("judge", 4), reader.classes)
    assert recorded.example("features", elsewhere, (32, 32)) is not None


def test_parity_on_the_bank_stands_in_the_cards(models: Path, folder: Path, compiler: Fake):
    report = compile(models, bank=folder / "bank")
    examples = {name: verdict.example for name, verdict in report.verdicts}
    assert examples == dict.fromkeys(ASKED, "bank bank") | {"ordering": "made up"}
    for path in (models / "compiled").glob("*.json"):
        verdict = json.loads(path.read_text())["verdict"]
        assert verdict["parity"]["tolerance"] == 1e-3
        assert verdict["parity"]["real"] <= 1e-3
        assert "2.00 times as fast as eager" in verdict["why"]


def test_painting_uses_compiled_networks_and_says_so(models: Path, folder: Path, compiler: Fake):
    plain = painted(folder, models, None)
    assert {each["backend"] for each in plain.report.networks.values()} == {"eager"}
    compile(models)
    compiler.seen.clear()
    found = painted(folder, models, models / "compiled")
    assert {each["backend"] for each in found.report.networks.values()} == {"inductor float32"}
    assert compiler.seen
    assert found.report.warnings == plain.report.warnings
    assert np.abs(found.image.astype(int) - plain.image).max() <= 1


def test_views_of_patches_are_asked_of_the_compiled_network(tmp_path: Path, folder: Path, compiler: Fake):
    models = save_assemblers(tmp_path / "assemblers", folder / "bank", "key-patches", judge=False)
    path = models / "key-patches.safetensors"
    card, tensors = load_checkpoint(path, "key-patches")
    save_checkpoint(path, tensors, replace(card, training={**card.training, "views": True}))
    compile(models)
    plain, compiled = Assembler(models), Assembler(models, compiled=Store(models / "compiled"))
    assert compiled.views
    assert compiled.packages
    random = np.random.default_rng(0)
    sets = [[random.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(n)] for n in (1, PARTS, 2)]
    noise = [plain.noise(0, variant) for variant in range(len(sets))]
    compiler.seen.clear()
    found, wanted = compiled.many(sets, noise), plain.many(sets, noise)
    calls = 2 + PARTS  # all patches, all mirrored, each alone
    assert sum(compiler.seen) == calls * len(sets)
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one.image.astype(int) - other.image).max() <= 1
        np.testing.assert_allclose(one.mask, other.mask, atol=1e-5)
        np.testing.assert_allclose(one.alone, other.alone, atol=1e-5)


def test_a_network_without_a_package_paints_uncompiled_and_says_so(models: Path, folder: Path, compiler: Fake):
    compile(models)
    network = network_of("synthesis", 4, (32, 32), seed=5)
    card = card_of("synthesis", network, Reader(folder / "bank").classes, (32, 32))
    save_checkpoint(models / "synthesis.safetensors", network.state_dict(), card)
    found = painted(folder, models, models / "compiled")
    assert found.report.networks["synthesis"]["backend"] == "eager"
    assert found.report.networks["transform"]["backend"] == "inductor float32"
    assert any("nothing compiled for synthesis.safetensors" in said for said in found.report.warnings)
    assert np.array_equal(found.image, painted(folder, models, None).image)


def test_an_altered_package_is_told_and_not_run(models: Path, folder: Path, compiler: Fake):
    compile(models)
    (package,) = (models / "compiled").glob("synthesis-*.pt2")
    package.write_bytes(b"something else")
    found = painted(folder, models, models / "compiled")
    assert found.report.networks["synthesis"]["backend"] == "eager"
    assert any(f"{package.name}: is not the package" in said for said in found.report.warnings)


def test_a_folder_that_others_may_enter_is_refused(models: Path, folder: Path, compiler: Fake):
    compile(models)
    (models / "compiled").chmod(0o755)
    with pytest.raises(InputError, match="you alone may enter"):
        painted(folder, models, models / "compiled")
    with pytest.raises(InputError, match="you alone may enter"):
        compile(models)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shape": (33, 64)}, "--shape: expected multiples of 32 from 32 to 8,192, found 33x64"),
        ({"shape": (32, 1 << 20)}, "--shape: expected multiples of 32"),
        ({"batch": (0,)}, "--batch: expected whole numbers from 1 to 1,024, found 0"),
        ({"batch": (True,)}, "--batch: expected whole numbers"),
        ({"backend": "xla"}, "--backend: expected one of auto, tensorrt, inductor, eager, onnx"),
        ({"precision": "int4"}, "--precision: expected one of auto, float32"),
        ({"backend": "onnx", "precision": "float16"}, "float32 with --backend onnx"),
        ({"device": "cuda:99"}, "--device: expected one that is here"),
        ({"device": "fridge"}, "--device: expected one that is here"),
        ({"device": "meta"}, "--device: expected cpu or cuda"),
        ({"models": "nothing"}, "nothing: expected a folder of trained networks, found none"),
        ({"bank": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(models: Path, compiler: Fake, given: Any, words: str):
    if given.get("bank"):
        from zeuxis.storage.errors import NotABankError as Error
    else:
        Error = InputError
    with pytest.raises(Error, match=words.replace("(", "\\(")) as caught:
        compile(**({"models": models} | given))
    assert "\n" not in str(caught.value)
    assert not (models / "compiled").exists()
    assert not compiler.kept


def test_a_damaged_network_is_refused_before_anything_is_written(models: Path, compiler: Fake):
    path = models / "transform.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"transform\.safetensors: is no whole checkpoint"):
        compile(models)
    assert not (models / "compiled").exists()
    for each in models.glob("*.safetensors"):
        each.unlink()
    with pytest.raises(InputError, match="expected trained networks, found none"):
        compile(models)


def test_a_network_of_unknown_kind_is_passed_over(models: Path, compiler: Fake, reader: Reader):
    network = network_of("judge", 4)
    save_checkpoint(models / "odd.safetensors", network.state_dict(), card_of("oddity", network, reader.classes))
    report = compile(models)
    assert report.left_out == (f"{models / 'odd.safetensors'}: a oddity network is not compiled",)
    assert len(report.verdicts) == PACKAGES


def test_onnx_files_are_written_beside_the_networks(models: Path, monkeypatch: pytest.MonkeyPatch):
    for path in models.glob("*.safetensors"):
        if path.stem != "judge":
            path.unlink()
    report = compile(models, backend="onnx", batch=(1,))
    ((name, verdict),) = report.verdicts
    assert (name, verdict.backend, verdict.batch) == ("judge", "onnx", 1)
    assert verdict.parity.worst < 1e-4
    (file,) = (models / "onnx").iterdir()
    assert file.name == "judge-32x32-b1.onnx"
    (logits,) = onnx.onnx_call(file.read_bytes())(torch.zeros(1, 3, 32, 32))
    assert logits.shape == (1, 4, 32, 32)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["zeuxis", *map(str, words)])
        monkeypatch.setattr("warnings.showwarning", lambda *_: None)
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_the_command_prints_a_table_and_paint_takes_the_folder(
    models: Path, folder: Path, compiler: Fake, call: Any, tmp_path: Path
):
    code, said, errors = call("compile", models, "--out", tmp_path / "fast", "--bank", folder / "bank", "--batch", 1)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0].split()[:4] == ["network", "size", "batch", "backend"]
    assert len(lines) == 1 + len(KINDS) + 1
    assert lines[-1] == str(tmp_path / "fast")
    paint = ["paint", "--bank", folder / "bank", "--models", models, "--source", "folder/a", "--out", tmp_path / "out"]
    code, said, _ = call(*paint, "--compiled", tmp_path / "fast")
    assert code == 0
    told = json.loads((tmp_path / "out" / "folder-a-0.json").read_text())
    assert told["painting"]["networks"]["synthesis"]["backend"] == "inductor float32"
    code, _, errors = call(*paint, "--compiled", tmp_path / "none")
    assert code == 2
    assert errors.startswith(f"zeuxis: {tmp_path / 'none'}: expected a folder of compiled networks, found none;")
    code, _, errors = call("compile", models, "--shape", "10")
    assert (code, errors) == (2, "zeuxis: --shape: expected ROWSxCOLS, such as 384x512, found '10'\n")
