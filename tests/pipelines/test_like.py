"""Pictures like a region: what the generator sees, what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Photos
from tests.pipelines.region_models import NAMES, SIDE, save_region_models
from tests.pipelines.tiny_models import make_bank
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.generators import load_generator
from zeuxis.pipelines.like import Liked, like, objective_of
from zeuxis.pipelines.liking.domain import STRANGE
from zeuxis.pipelines.liking.lookup import LookUp
from zeuxis.pipelines.liking.references import reference_of, square_around
from zeuxis.pipelines.liking.sheets import mean_of
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.features import FeaturesConfig, load_features
from zeuxis.synth.region_semantics.shared_features import SharedNetwork

pytestmark = pytest.mark.usefixtures("one_thread")
BOX = (8, 20, 30, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("like")
    make_bank(Photos(folder / "photos"), folder / "bank", NAMES)
    save_region_models(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def ask(folder: Path) -> Callable[..., Liked]:
    """`like` of a noisy picture, with few steps."""
    generator, features = load_generator(folder / "models"), load_features(None, folder / "models", "max")

    def call(image: Any = None, region: Any = BOX, count: int = 3, **settings: Any) -> Liked:
        image = picture() if image is None else image
        given = {"steps": 3} | settings
        made_by, compared = given.pop("generator", generator), given.pop("features", features)
        return like(made_by, compared, [(image, region)], count, **given)

    return call


class Faint(torch.nn.Module):
    """A generator of grey pictures."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """See `GeneratorNetwork`."""
        made: torch.Tensor = self.network(z)
        return 0.2 * made


def picture(size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def test_pictures_come_best_first_and_are_those_of_their_latents(ask: Callable[..., Liked], folder: Path):
    found = ask()
    assert len(found.images) == len(found.losses) == len(found.report.numbers) == 3
    assert list(found.losses) == sorted(found.losses)
    network = load_generator(folder / "models").network
    with torch.no_grad():
        made = network(torch.from_numpy(found.latents))
    for image, again in zip(found.images, made, strict=True):
        assert np.abs(image.astype(int) - to_image(again)).max() <= 1
    np.testing.assert_array_equal(found.mean, mean_of(found.images))
    assert found.report.layers == ("conv3_1",), "the box has 15 of 32 pixels"
    assert (found.report.field, found.report.side, found.report.tried) == (24, 15, 5)


def test_equal_seeds_give_equal_bytes(ask: Callable[..., Liked], tmp_path: Path):
    for name in ("a", "b"):
        found = ask(out=tmp_path / name, seed=5)
        assert all(path.exists() for path in found.files)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    pictures = [f"image-0{number}.png" for number in range(3)]
    assert names == sorted([*pictures, "image-grid.png", "image-mean.png", "image-like.json"])
    for name in (each for each in names if each.endswith("png")):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    told = json.loads((tmp_path / "a" / "image-like.json").read_text())
    assert told["losses"] == list(found.losses)
    assert told["features"].startswith("bank:1/16")
    assert told["references"][0]["square"] == [0, 8, 48, 56]
    assert told["seconds"] > 0
    assert not np.array_equal(ask(seed=6).images[0], found.images[0])


def test_the_papers_own_loss_is_sought_with_apart_0(ask: Callable[..., Liked], folder: Path):
    found = ask(apart=0, depth="conv2_1")
    features = load_features(None, folder / "models", "max")
    seen = reference_of(picture(), BOX, SIDE)
    own = objective_of(features, [seen], ["conv2_1"], torch.device("cpu"))
    made = torch.stack([to_tensor(each) for each in found.images])
    assert own(made).tolist() == pytest.approx(list(found.losses), rel=0.1)  # of pictures rounded to 8 bits
    assert found.report.apart == 0
    assert ask(depth="conv2_1").report.apart == 0.8


def test_the_square_moves_only_as_far_as_the_region_needs():
    def square(top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
        region = np.zeros((48, 100), bool)
        region[top:bottom, left:right] = True
        return square_around(region)

    assert square(0, 30, 10, 60) == (0, 26, 48, 74), "the middle"
    assert square(0, 20, 10, 60) == (0, 20, 48, 68)
    assert square(0, 60, 10, 90) == (0, 42, 48, 90)
    assert square(0, 0, 10, 5) == (0, 0, 48, 48)
    assert square(0, 10, 10, 80) == (0, 21, 48, 69), "longer than the square: its middle"


def test_a_region_shrinks_by_area_and_never_to_nothing():
    region = np.zeros((96, 96), bool)
    region[3:33, 6:50] = True  # cells of 3 pixels
    found = reference_of(picture((96, 96)), region, SIDE)
    assert found.region.sum() == 10 * 15
    assert found.region[1:11, 2:17].all()
    thin = np.zeros((96, 96), bool)
    thin[10, 10:60] = True
    assert reference_of(picture((96, 96)), thin, SIDE).region[3].sum() >= 15
    cut = np.zeros((48, 100), bool)
    cut[10:20, 10:80] = True
    assert reference_of(picture((48, 100)), cut, SIDE).cut == pytest.approx(22 / 70)


def test_several_references_are_added(folder: Path):
    generator, features = load_generator(folder / "models"), load_features(None, folder / "models", "max")
    one, other = (picture(), BOX), (picture()[:, ::-1].copy(), (30, 20, 40, 40))
    found = like(generator, features, [one, other], 2, steps=2, depth="conv2_1..conv2_2")
    assert [each["name"] for each in found.report.references] == ["image", "image"]
    assert found.report.layers == ("conv2_1", "conv2_2")
    alone = like(generator, features, [one], 2, steps=2, depth="conv2_1..conv2_2")
    assert min(found.losses) > min(alone.losses)
    assert found.grid().ndim == 3


def test_a_sheet_shows_depths_beside_noise(ask: Callable[..., Liked], tmp_path: Path):
    found = ask(with_sheet=True, out=tmp_path / "made", count=1, steps=1)
    page = np.asarray(Image.open(tmp_path / "made" / "image-sheet.png"))
    assert tmp_path / "made" / "image-sheet.png" in found.files
    assert page.shape[0] > 10 * 96
    assert page.shape[1] > 9 * 96


def test_what_is_made_can_be_looked_up(ask: Callable[..., Liked], folder: Path, tmp_path: Path):
    retriever = Retriever(Reader(folder / "bank"))
    found = ask(look_up=LookUp(folder / "models", retriever, 2), out=tmp_path / "made", retriever=retriever)
    hits = json.loads((tmp_path / "made" / "image-hits.json").read_text())
    assert list(hits) == [f"image-0{number}.png" for number in range(3)]
    for name, each in zip(hits, found.looked_up, strict=True):
        layout = np.asarray(Image.open(tmp_path / "made" / name.replace(".png", ".layout.png")))
        np.testing.assert_array_equal(layout, each.layout)
        direct = retriever.retrieve(layout.astype(np.uint16), 2)
        assert [row["class"] for row in hits[name]] == [component.class_name for component in direct]
        assert [hit["source"] for row in hits[name] for hit in row["hits"]] == [
            hit.source for component in direct for hit in component.hits
        ]
    with pytest.raises(InputError, match="looking up: no bank was named"):
        LookUp(folder / "models", None)


def test_a_reference_of_another_domain_is_warned_of(ask: Callable[..., Liked], folder: Path):
    generator = load_generator(folder / "models")
    faint = replace(generator, network=Faint(generator.network))
    with torch.no_grad():
        own = to_image(faint.network(faint.draw(1, torch.Generator().manual_seed(77)))[0])
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    near, far = (ask(each, (4, 4, 20, 20), generator=faint) for each in (own, black))
    assert near.report.warnings == ()
    assert near.report.references[0]["strangeness"] < 3 < far.report.references[0]["strangeness"]
    (said,) = far.report.warnings
    assert "deviations from the generator's own pictures" in said


def test_features_of_two_domains_are_for_references_of_the_other(
    ask: Callable[..., Liked], folder: Path, tmp_path: Path
):
    generator = load_generator(folder / "models")
    network = SharedNetwork(FeaturesConfig(1 / 16, normalise=True))
    card = Card("domains", asdict(network.config), (), (SIDE, SIDE), "bank", 1)
    save_checkpoint(tmp_path / "domains.safetensors", network.state_dict(), card)
    shared = load_features(tmp_path / "domains.safetensors", None)
    black, faint = np.zeros((SIDE, SIDE, 3), np.uint8), replace(generator, network=Faint(generator.network))
    found = ask(black, (4, 4, 20, 20), generator=faint, features=shared)
    assert found.report.references[0]["strangeness"] > STRANGE
    assert found.report.warnings == ()
    shared.name = "bank:1/16 step 0"
    (said,) = ask(black, (4, 4, 20, 20), generator=faint, features=shared).report.warnings
    assert "it may be of another domain" in said


def test_dropped_latents_are_told_and_none_left_is_refused(
    ask: Callable[..., Liked], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    generator = load_generator(folder / "models")

    class Torn(torch.nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = generator.network(z)
            return torch.where((z[:, 0] > self.share)[:, None, None, None], torch.nan, made)

    torn = replace(generator, network=Torn(-1.2))
    found = ask(generator=torn, count=6)
    assert found.report.dropped
    assert any("latents were dropped, their loss became no number" in each for each in found.report.warnings)
    assert set(found.report.numbers).isdisjoint(found.report.dropped)
    assert found.report.references[0]["strangeness"] > STRANGE, "by its pictures that are numbers"
    assert any("deviations from the generator's own pictures" in each for each in found.report.warnings)
    monkeypatch.setattr("zeuxis.pipelines.like.SAMPLES", 30)
    few = ask(generator=torn, count=6, out=tmp_path / "made")
    own = torn.draw(30, torch.Generator().manual_seed(0))
    said = f"generator-wgan-gp: {int((own[:, 0] <= -1.2).sum())} of 30 of its own pictures are numbers, too few to tell"
    assert any(each.startswith(said) for each in few.report.warnings)
    told = (tmp_path / "made" / "image-like.json").read_text()
    assert json.loads(told)["references"][0]["strangeness"] is None
    assert "NaN" not in told
    with pytest.raises(InputError, match="the loss of every latent became no number"):
        ask(generator=replace(generator, network=Torn(-99.0)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"region": np.zeros((48, 64), bool)},
            "region: expected some of the 48x64 pixels inside .*, found none inside",
        ),
        ({"region": np.ones((48, 64), bool)}, "region: .*found all of them inside"),
        (
            {"region": (0, 8, 48, 56)},
            "region: expected some pixels outside of it in the square that the generator",
        ),
        ({"region": np.ones((20, 20), bool)}, "region: expected a mask of the picture's 48x64 pixels, found 20x"),
        ({"count": 0}, "count: expected a whole number from 1 to 1,024, found 0"),
        ({"steps": 0}, "steps: expected a whole number from 1 to 10,000, found 0"),
        ({"noise": -1.0}, "noise: expected a number from 0 to 10, found -1.0"),
        ({"apart": 1.0}, "apart: expected a number from 0 to below 1, found 1.0"),
        ({"noise": float("nan")}, "noise: expected a number from 0 to 10, found nan"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"depth": None}, "depth: expected auto, or names of layers, found None"),
        ({"region": np.full((48, 64), np.nan)}, "region: expected a mask of numbers, 0 outside, found some that are"),
        ({"depth": "conv9"}, "depth: no layer 'conv9', expected auto, one of conv1_1, .*conv5_4, or two"),
        ({"depth": "conv4_1..conv3_1"}, "depth: conv3_1 comes before conv4_1"),
    ],
)
def test_what_cannot_be_is_one_sentence(ask: Callable[..., Liked], tmp_path: Path, given: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as refused:
        ask(out=tmp_path / "made", **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "made").exists()


def test_nothing_that_is_read_is_written_over(ask: Callable[..., Liked], tmp_path: Path):
    mask = tmp_path / "image-00.png"
    Image.fromarray(picture()[..., 0] // 128 * 255).save(mask)
    with pytest.raises(InputError, match=r"image-00\.png: would be written over; choose another name or folder"):
        ask(region=mask, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        ask(out=tmp_path / "file")
