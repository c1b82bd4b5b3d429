"""Painting with CRN: from the layout alone, its pictures are the variants; as a system among others."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Photos, blocks
from tests.pipelines.tiny_models import SIZE, card_of, make_bank, network_of, save_models
from zeuxis import cli
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.evaluation.evaluate import evaluate
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.painting_steps import Stages
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import save_checkpoint
from zeuxis.synth.encoding import one_hot

IMAGES = 3
CRN = Stages(synthesis="crn")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crn")
    names = [f"{split}/{name}" for split in ("train", "test") for name in "abcd"]
    make_bank(Photos(folder / "photos"), folder / "bank", names)
    save_models(folder / "models", folder / "bank", "crn", "judge", images=IMAGES)
    return folder


@pytest.fixture(scope="module")
def painter(folder: Path) -> Painter:
    reader = Reader(folder / "bank")
    return Painter(reader, Retriever(reader), folder / "models")


def layout(seed: int = 1) -> np.ndarray:
    return blocks(np.random.default_rng(seed))


def test_its_pictures_are_the_variants_and_nothing_is_retrieved(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(painter.retriever, "retrieve", None)
    made = painter.paint(layout(), IMAGES, stages=CRN)
    model = painter._models_for(None).load("crn")
    with torch.no_grad():
        shown = torch.from_numpy(model.channel_of[made[0].layout])[None]
        wanted = model.network(one_hot(shown, 4))[0]
    for variant, image in enumerate(made):
        pixels = ((wanted[variant] + 1) * 127.5).round().clamp(0, 255).byte().movedim(0, -1).numpy()
        np.testing.assert_array_equal(image.image, pixels)
        assert image.image.shape == (*SIZE, 3)
        assert image.report.variant == variant
        assert image.report.share == 0
        assert not image.valid.any()
        assert not image.canvas.placements
        assert not image.report.warnings
        assert set(image.report.networks) == {"synthesis"}
        assert image.report.networks["synthesis"]["file"] == "crn.safetensors"
    assert not np.array_equal(made[0].image, made[1].image)


def test_an_image_depends_on_its_layout_alone(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    alone = painter.paint(layout(), stages=CRN)[0].image
    monkeypatch.setattr("zeuxis.pipelines.paint.BATCH", {"cpu": 4})
    many = list(painter.paint_many([layout(2), layout(1), layout(3)], 2, seed=5, stages=CRN))
    assert abs(many[1][0].image.astype(int) - alone).max() <= 1  # batches of another size differ in last bits
    (again,) = painter.paint_many([layout(1)], 2, stages=CRN)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again, many[1], strict=True))
    assert not np.array_equal(many[0][0].image, many[2][0].image)


def test_sources_and_unknown_ids_are_painted_too(painter: Painter):
    (image,) = painter.paint(source="folder/test/a", stages=CRN)
    np.testing.assert_array_equal(image.retrieval.layout, painter.reader.layout("folder/test/a"))
    strange = layout()
    strange[:4] = 77
    (image,) = painter.paint(strange, stages=CRN)
    assert image.report.void == ("id 77",)
    with pytest.raises(InputError, match="neither"):
        painter.paint(stages=CRN)


def test_more_variants_than_pictures_are_refused(painter: Painter):
    with pytest.raises(InputError, match=r"at most 3, as many pictures as crn.safetensors makes of a layout, found 4"):
        painter.paint(layout(), 4, stages=CRN)


def test_the_command_paints_with_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    Image.fromarray(layout()).save(tmp_path / "a.png")
    given = ["zeuxis", "paint", tmp_path / "a.png", "--bank", folder / "bank", "--models", folder / "models"]
    given += ["--network", "crn", "--variants", 2, "--out", tmp_path / "made"]
    monkeypatch.setattr(sys, "argv", [*map(str, given)])
    with suppress(SystemExit):
        cli.main()
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/made/a-{variant}.png" for variant in (0, 1)]
    assert np.asarray(Image.open(tmp_path / "made/a-1.png")).shape == (*SIZE, 3)


def test_it_is_evaluated_as_a_system(folder: Path, tmp_path: Path):
    models = Path(shutil.copytree(folder / "models", tmp_path / "models"))
    small = network_of("crn", 4, (64, 96), body="pix2pix")
    card = card_of("crn", small, Reader(folder / "bank").classes, (64, 96))
    path = models / "crn-pix2pix.safetensors"
    save_checkpoint(path, small.state_dict(), card)
    found = evaluate(folder / "bank", models, tmp_path / "out")
    assert [each.name for each in found.systems] == ["real", "real, blurred", "CRN"]
    figures = found.system("CRN").figures[0]
    assert figures.bank_share == 0
    assert figures.score is None
    assert figures.diversity is not None
    assert figures.diversity > 0
    said = f"pix2pix: left out, {path}: expected a network trained at 96x128, found one at 64x96"
    assert said in found.left_out
    assert not any("encoder-decoder" in said for said in found.left_out)
    assert any(said.startswith("collage: left out, there is no synthesis network") for said in found.left_out)
