"""Regions of pictures filled: what stays, what differs, what users may name, what is refused before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.conftest import Photos
from tests.pipelines.inpainting.tiny_roi import ROI, SIDE, SLIDERS, save_fillers
from tests.pipelines.tiny_models import make_bank
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.inpaint import Inpainted, inpaint
from zeuxis.pipelines.inpainting.methods import METHODS, VARYING, WHOLE, Draw, FromBank, FromNetwork, training_sources
from zeuxis.pipelines.inpainting.regions import alike, closed
from zeuxis.pipelines.inpainting.sheets import slider_sheet
from zeuxis.pipelines.inpainting.sliders import effect_of, mean_effect, rows_of
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.storage.records import hex_id
from zeuxis.synth.checkpoint import Card, load_checkpoint, save_checkpoint
from zeuxis.synth.compiling.buckets import Bucket, Compiled, Verdict
from zeuxis.synth.compiling.packages import Store
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.inpainting.seam import seam
from zeuxis.synth.roi_gan.generator import RoiGenerator

ROWS, COLS = 80, 110
BOX = (20, 30, 44, 62)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inpaint")
    make_bank(Photos(folder / "photos"), folder / "bank", ["train/a", "train/b", "train/c", "test/u"])
    save_fillers(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def retriever(folder: Path) -> Retriever:
    return Retriever(Reader(folder / "bank"))


def picture(rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    """Smooth colours with noise on them."""
    y, x = np.mgrid[:rows, :cols]
    noise = np.random.default_rng(0).integers(0, 20, (rows, cols, 3))
    return (np.stack([x, 2 * y, x + y], axis=2) + noise).astype(np.uint8)


@pytest.fixture
def fill(folder: Path, retriever: Retriever) -> Callable[..., list[Inpainted]]:
    def call(image: Any, region: Any, *arguments: Any, **settings: Any) -> list[Inpainted]:
        given = {"models": folder / "models", "retriever": retriever} | settings
        return inpaint(image, region, *arguments, **given)

    return call


@pytest.mark.parametrize("method", METHODS)
def test_nothing_outside_changes_and_equal_seeds_give_equal_bytes(fill: Callable, method: str):
    image = np.array(Image.fromarray(picture()).resize((60, 44))) if method == "bank" else picture()
    box = (14, 20, 24, 34) if method == "bank" else BOX
    given = image.copy()
    (made,) = fill(image, box, 1, 3, method=method)
    np.testing.assert_array_equal(image, given)
    inside = np.zeros(image.shape[:2], bool)
    inside[box[0] : box[2], box[1] : box[3]] = True
    np.testing.assert_array_equal(made.region, inside)
    np.testing.assert_array_equal(made.image[~inside], image[~inside])
    assert (made.image[inside] != image[inside]).any()
    assert made.report.share == inside.mean()
    (again,) = fill(image, box, 1, 3, method=method)
    np.testing.assert_array_equal(made.image, again.image)
    (other,) = fill(image, box, 1, 4, method=method)
    assert np.array_equal(made.image, other.image) != (method in VARYING)
    blind = np.where(inside[..., None], 0, image).astype(np.uint8)
    np.testing.assert_array_equal(fill(blind, box, 1, 3, method=method)[0].image, made.image, "the inside is not seen")


def test_variants_differ_and_do_not_depend_on_how_many_are_asked_for(fill: Callable):
    three, two = fill(picture(), BOX, 3), fill(picture(), BOX, 2)
    assert [each.report.variant for each in three] == [0, 1, 2]
    for a, b in zip(two, three, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
    assert len({each.image.tobytes() for each in three}) == 3
    assert "one window of 64x64 pixels at the network's resolution" in repr(three[0])


def test_sliders_decide_and_the_rest_of_them_is_zero(fill: Callable):
    short, whole, other = (fill(picture(), BOX, sliders=given)[0] for given in ([0.5], [0.5, 0, 0], [-1, 0, 0]))
    np.testing.assert_array_equal(short.image, whole.image)
    assert not np.array_equal(short.image, other.image)
    neutral, zeros, drawn = (fill(picture(), BOX, sliders=given)[0] for given in (None, [0, 0, 0], "random"))
    np.testing.assert_array_equal(neutral.image, zeros.image)
    assert not np.array_equal(neutral.image, drawn.image)
    assert [each.report.sliders for each in (neutral, drawn, short)] == [(), None, (0.5,)]
    first, second = fill(picture(), BOX, 2)
    np.testing.assert_array_equal(first.image, neutral.image)
    np.testing.assert_array_equal(second.image, fill(picture(), BOX, 2, sliders="random")[1].image)
    assert [each.report.sliders for each in (first, second)] == [(), None]


def test_noise_and_sliders_of_a_draw(folder: Path):
    filler = FromNetwork(folder / "models", "roi")
    z, sliders = filler.drawn(Draw(1, 2, None))
    same, other = filler.drawn(Draw(1, 2, (0.25,))), filler.drawn(Draw(1, 3))
    assert not other[1][0, :SLIDERS].any()
    torch.testing.assert_close(z, same[0])
    assert same[1][0, :SLIDERS].tolist() == [0.25, 0, 0]
    assert not torch.equal(z, other[0])
    assert sliders[:, :SLIDERS].abs().max() <= 1
    assert sliders[0, SLIDERS:].sum() == 1, "one choice of the categorical one"


def test_the_network_gets_what_it_was_trained_with(folder: Path, monkeypatch: pytest.MonkeyPatch):
    filler, seen = FromNetwork(folder / "models", "roi"), []

    def network(image: torch.Tensor, region: torch.Tensor, z: torch.Tensor, sliders: torch.Tensor) -> torch.Tensor:
        seen.append((image, region))
        return torch.full_like(image, 0.2)

    filler.network = network  # type: ignore[assignment]
    image, region = picture(), np.zeros((ROWS, COLS), bool)
    region[40:50, 0:12] = True
    made, _ = filler(image, region, Draw())
    ((shown, inside),) = seen
    window = image[13:77, :64]
    np.testing.assert_allclose(shown[0].numpy(), window.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(inside[0, 0].numpy(), region[13:77, :64])
    assert (made[region] == round(1.2 * 127.5)).all()


def test_a_scaled_window_is_corrected_at_the_size_of_the_picture(folder: Path):
    y, x = np.mgrid[:200, :260]
    image = np.stack([60 + y / 2, 40 + x / 2, 90 + 20 * ((x + y) % 2)], 2).astype(np.uint8)
    region = np.zeros((200, 260), bool)
    region[40:170, 60:190] = True
    filler = FromNetwork(folder / "models", "roi")
    joined, how = filler(image, region, Draw())
    assert "scaled" in how
    np.testing.assert_array_equal(joined[~region], image[~region])
    filler.card = replace(filler.card, config={**filler.card.config, "blend": 0.0})
    alone, _ = filler(image, region, Draw())
    assert seam(joined, region) < 0.8 * seam(alone, region)
    filler.network = lambda image, *_: torch.full_like(image, 0.2)  # type: ignore[assignment]
    raw, _ = filler(image, region, Draw())
    assert (raw[region] == round(1.2 * 127.5)).all(), "of a network of before all that it made is scaled, as it was"
    middle = np.s_[100:110, 120:130]
    assert np.abs(joined[middle].astype(int) - alone[middle]).max() <= 8, "far from the border nothing changes"


@pytest.mark.parametrize("before", [True, False])
def test_a_window_holds_what_its_network_makes_and_networks_of_before_have_no_correction(
    folder: Path, tmp_path: Path, before: bool
):
    card, tensors = load_checkpoint(folder / "models" / "roi.safetensors", "roi")
    left_out = ("blend", "beside") if before else ()
    config = {name: value for name, value in card.config.items() if name not in left_out}
    save_checkpoint(tmp_path / "roi.safetensors", tensors, replace(card, config=config))
    filler, wanted = FromNetwork(tmp_path, "roi"), replace(ROI, blend=0.0) if before else ROI
    assert filler.network.config == wanted
    network = RoiGenerator(wanted).eval()
    network.load_state_dict(tensors)
    region = np.zeros((ROWS, COLS), bool)
    region[20:44, 30:62] = True
    window = picture()[:64, 14:78]
    with torch.no_grad():
        raw = network(
            to_tensor(window)[None], torch.from_numpy(region[:64, 14:78])[None, None].float(), *filler.drawn(Draw())
        )
    made, _ = filler(picture(), region, Draw())
    np.testing.assert_array_equal(made[region], to_image(raw[0])[region[:64, 14:78]])


def test_a_mask_a_box_and_their_files_name_the_same_region(fill: Callable, tmp_path: Path):
    top, left, bottom, right = BOX
    mask = np.zeros((ROWS, COLS), bool)
    mask[top:bottom, left:right] = True
    Image.fromarray(mask.astype(np.uint8) * 7).save(tmp_path / "grey.png")
    Image.fromarray(np.where(mask[..., None], [0, 200, 0], 0).astype(np.uint8)).save(tmp_path / "colour.png")
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    expected = fill(picture(), mask)[0]
    for region in (BOX, "20,30,44,62", np.array(BOX), mask.astype(np.uint8), tmp_path / "grey.png"):
        np.testing.assert_array_equal(fill(tmp_path / "photo.png", region)[0].image, expected.image)
    assert np.array_equal(fill(picture(), str(tmp_path / "colour.png"))[0].region, mask)


def segment_of(reader: Reader, source: str) -> dict[str, Any]:
    rows = reader.table("segments", {"source": source}).to_pylist()
    return max((row for row in rows if row["class_name"] == "car"), key=lambda row: row["pixels"])


def test_a_segment_is_a_region_of_its_photograph_and_erasing_takes_a_little_more(fill: Callable, retriever: Retriever):
    row = segment_of(retriever.reader, "folder/test/u")
    name = f"segment:{hex_id(row['segment_id'])}"
    (exact,) = fill("folder/test/u", name, method="telea")
    photograph = retriever.reader.photograph("folder/test/u")
    layout = retriever.reader.layout("folder/test/u")
    assert exact.region.sum() == row["pixels"]
    assert set(np.unique(layout[exact.region])) == {row["class_id"]}
    np.testing.assert_array_equal(exact.image[~exact.region], photograph[~exact.region])
    (erased,) = fill("folder/test/u", name, method="telea", erase=True)
    assert erased.region[exact.region].all()
    rows, cols = np.nonzero(erased.region & ~exact.region)
    nearest = min(np.abs(np.argwhere(exact.region) - at).sum(1).min() for at in zip(rows, cols, strict=True))
    assert len(rows) > 4
    assert nearest == 1


def test_the_bank_gives_nothing_that_is_held_out_or_of_the_picture_itself(fill: Callable, retriever: Retriever):
    for source, barred in (("folder/test/u", "test"), ("folder/train/a", "train/a")):
        photograph = retriever.reader.photograph(source)
        for settings in ({}, {"erase": True}):
            (made,) = fill(source, (18, 20, 30, 40), method="bank", **settings)
            assert "folder/train/" in made.report.how
            assert barred not in made.report.how
            np.testing.assert_array_equal(made.image[~made.region], photograph[~made.region])


def test_a_layout_closes_over_what_is_erased_by_what_is_no_object(retriever: Retriever):
    classes = retriever.reader.classes
    thing, stuff = (next(each.id for each in classes if each.thing == wanted) for wanted in (True, False))
    other = [each.id for each in classes if not each.thing][1]
    layout = np.full((8, 12), stuff, np.uint16)
    layout[:, 7:] = other
    layout[2:6, 2:5], layout[2:6, 5] = thing, VOID  # another object and void lie beside the region
    region = np.zeros(layout.shape, bool)
    region[3:5, 4:9] = True
    found = closed(layout, region, classes)
    np.testing.assert_array_equal(found[~region], layout[~region])
    for row, col in np.argwhere(region):
        seeds = list(np.argwhere(~region & (layout != thing) & (layout != VOID)))
        apart = [np.hypot(*(at - (row, col))) for at in seeds]
        assert found[row, col] in {layout[tuple(at)] for at, far in zip(seeds, apart, strict=True) if far == min(apart)}
    assert set(np.unique(found[region])) == {stuff, other}
    nothing_else = np.full((4, 6), thing, np.uint16)
    assert (closed(nothing_else, region[:4, :6], classes) == thing).all()


def test_erasing_by_the_bank_goes_by_the_layout_without_the_object(
    fill: Callable, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(FromBank, "_by_place", lambda *_: pytest.fail("the layout around the object is known"))
    look = FromBank._by_layout
    monkeypatch.setattr(FromBank, "_by_layout", lambda bank, *given: asked.append(bank.layout) or look(bank, *given))
    source, reader = "folder/test/u", retriever.reader
    row = segment_of(reader, source)
    (made,) = fill(source, f"segment:{hex_id(row['segment_id'])}", method="bank", erase=True)
    own = reader.layout(source)
    assert (own[made.region] == row["class_id"]).any()
    np.testing.assert_array_equal(asked[0], closed(own, made.region, reader.classes))
    assert "segments of" in made.report.how


def test_the_bank_gives_a_copy_of_its_photograph_nothing_of_it_either(
    fill: Callable, retriever: Retriever, tmp_path: Path
):
    photograph = retriever.reader.photograph("folder/train/a")
    Image.fromarray(photograph).save(tmp_path / "a.png")
    Image.fromarray(photograph).save(tmp_path / "renamed.png")
    for image in (tmp_path / "a.png", tmp_path / "renamed.png", photograph):
        (made,) = fill(image, (4, 4, 40, 50), method="bank", erase=True)
        assert "folder/train/" in made.report.how
        assert "train/a" not in made.report.how
        assert (made.image[made.region] != photograph[made.region]).any()


def test_pictures_that_share_a_ground_are_not_the_same():
    one = np.full((40, 60, 3), 250, np.uint8)
    other = one.copy()
    one[5:15, 5:15], other[20:30, 30:40] = 20, 90
    again = (one - np.random.default_rng(0).integers(0, 4, one.shape)).astype(np.uint8)
    assert not alike(one, other, share=WHOLE)
    assert alike(one, again, share=WHOLE)
    assert alike(one, again)
    assert not alike(one, one[:-1])
    aside = np.zeros((40, 60), bool)
    aside[:, 45:] = True
    assert alike(one, other, aside, WHOLE)


def test_a_mask_with_a_palette_goes_by_its_colours(fill: Callable, tmp_path: Path):
    inside = np.zeros((ROWS, COLS), bool)
    inside[20:40, 30:60] = True
    mask = Image.fromarray(np.where(inside, 0, 1).astype(np.uint8), "P")  # what is inside has the first colour
    mask.putpalette([255, 255, 255, 0, 0, 0])
    mask.save(tmp_path / "mask.png")
    (made,) = fill(picture(), tmp_path / "mask.png", method="telea")
    np.testing.assert_array_equal(made.region, inside)
    mask = Image.new("P", (COLS, ROWS))  # without a palette
    mask.putdata(inside.ravel().astype(int).tolist())
    mask.save(tmp_path / "mask.png")
    (made,) = fill(picture(), tmp_path / "mask.png", method="telea")
    np.testing.assert_array_equal(made.region, inside)
    Image.fromarray(np.dstack([inside.astype(np.uint8) * 255] * 2), "LA").save(tmp_path / "mask.png")
    refused(fill, tmp_path, "mask.png: expected a lossless mask of grey levels or colours", picture(),
            tmp_path / "mask.png", method="telea")  # fmt: skip


def test_the_bank_gives_nothing_of_the_groups_before_and_after_where_they_are_alike():
    rows = [{"source": f"nyu/{group}", "group": f"nyu/{group}", "split": "train"} for group in range(5)]
    for neighbours, left in ((True, [0, 4]), (False, [0, 1, 3, 4])):
        entry = SimpleNamespace(name="nyu", neighbours=neighbours)
        reader: Any = SimpleNamespace(
            table=lambda *_: pa.Table.from_pylist(rows), manifest=SimpleNamespace(datasets=[entry])
        )
        assert training_sources(reader, "nyu/2") == [f"nyu/{group}" for group in left]


def test_by_layout_the_pixels_are_those_of_the_best_segments(fill: Callable, retriever: Retriever):
    from zeuxis.pipelines.collage import paint

    (made,) = fill("folder/test/u", (10, 10, 40, 50), method="bank")
    canvas = paint(retriever, None, source="folder/test/u").canvas
    shown = made.region & canvas.valid
    assert shown.mean() > 0.2
    np.testing.assert_array_equal(made.image[shown], canvas.image[shown])
    layout = retriever.reader.layout("folder/test/u")
    photograph = retriever.reader.photograph("folder/test/u")
    (given,) = fill(photograph, (10, 10, 40, 50), method="bank", layout=layout)
    assert given.report.how.startswith("segments of ")


def test_what_is_written(fill: Callable, tmp_path: Path):
    made = fill(picture(), BOX, 2, out=tmp_path / "made")
    assert [path.name for path in made[1].files] == ["image-1.png", "image-1.region.png", "image-1.json"]
    np.testing.assert_array_equal(np.asarray(Image.open(made[0].files[0])), made[0].image)
    np.testing.assert_array_equal(np.asarray(Image.open(made[0].files[1])) == 255, made[0].region)
    told = json.loads(made[1].files[2].read_text())
    assert told["method"] == "roi"
    assert told["variant"] == 1
    assert told["network"]["file"] == "roi.safetensors"
    first = {path.name: path.read_bytes() for each in made for path in each.files}
    fill(picture(), BOX, 2, out=tmp_path / "made")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}


# ---- sliders


def test_what_a_slider_does_is_measured():
    low = np.full((40, 40, 3), 100, np.uint8)
    region = np.zeros((40, 40), bool)
    region[10:30, 10:30] = True
    high = low.copy()
    high[region] = (110, 100, 70)
    high[0, 0] = 255
    effect = effect_of(low, high, region, lambda image: (image[..., 2] < 80).astype(np.int64))
    assert effect.change == pytest.approx(40 / 3)
    assert effect.colour == pytest.approx((10, 0, -30))
    assert effect.edges > 0
    assert effect.read == 1
    assert effect.gained == {0: -1, 1: 1}
    back = effect_of(high, low, region)
    assert (back.read, back.gained) == (None, {})
    both = mean_effect([effect, effect_of(high, low, region, lambda image: (image[..., 2] < 80).astype(np.int64))])
    assert both.colour == pytest.approx((0, 0, 0)), "what goes both ways cancels"
    assert both.change == pytest.approx(40 / 3)
    assert rows_of([effect], ["sky", "car"])[0][-1] == "car +100.0%"


def test_a_sheet_shows_every_slider(folder: Path, tmp_path: Path):
    found = slider_sheet(picture(), BOX, folder / "models", tmp_path / "made", seed=1)
    assert found.path.name == "image-sliders.png"
    np.testing.assert_array_equal(np.asarray(Image.open(found.path)), found.picture)
    assert len(found.effects) == SLIDERS
    assert found.render().row_count == SLIDERS
    assert all(each.change > 0 and each.read is not None for each in found.effects)
    assert set(found.names) == {"sky", "ground", "car", "sign"}
    again = slider_sheet(picture(), BOX, folder / "models", tmp_path / "made", seed=1)
    np.testing.assert_array_equal(again.picture, found.picture)


# ---- what cannot be used


def refused(fill: Callable, tmp_path: Path, said: str, image: Any, region: Any, *arguments: Any, **settings: Any):
    with pytest.raises(InputError, match=said) as caught:
        fill(image, region, *arguments, out=tmp_path / "made", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


MASK = np.zeros((ROWS, COLS), bool)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (MASK, "region: expected some of the 80x110 pixels inside and some outside, found none inside"),
        (~MASK, "found all of them inside"),
        (MASK[:-1], "region: expected a mask of the picture's 80x110 pixels, found 79x110"),
        (np.zeros((ROWS, COLS, 3)), "expected a mask of the picture's 80x110 pixels, found 80x110x3"),
        ("0,0,80,110", "found all of them inside"),
        ("4,4,4,10", "box: expected top,left,bottom,right inside 80x110 pixels, half-open, found 4,4,4,10"),
        ("-5,0,10,10", "box: expected .* found -5,0,10,10"),
        ((0, 0, 81, 5), "box: expected .* found 0,0,81,5"),
        ("1,2,3", "region: expected MASK.png, TOP,LEFT,BOTTOM,RIGHT or segment:ID, found 1,2,3"),
        ((1.5, 2, 3, 4), "region: expected MASK.png"),
        (None, "region: expected MASK.png.* found NoneType"),
        ((True, False, 20, 20), "region: expected MASK.png"),
        (np.where(MASK, 1.0, np.nan), "region: expected a mask of numbers, 0 outside, found some that are none"),
        (np.full((ROWS, COLS), "a"), "region: expected a mask of numbers, 0 outside, found <U1"),
        ("nowhere.png", "region nowhere.png: cannot be read .*, expected MASK.png, TOP"),
        ("segment:xyz", "region: expected segment: and 16 hexadecimal digits, found 'segment:xyz'"),
        ("segment:00000000000000ff", "segment 00000000000000ff: is not in"),
    ],
)
def test_a_region_that_cannot_be(fill: Callable, tmp_path: Path, region: Any, said: str):
    refused(fill, tmp_path, said, picture(), region)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sliders": [0.5] * (SLIDERS + 1)}, "sliders: expected at most 3, as many as roi has, found 4"),
        ({"sliders": [0, 1.5]}, "slider 1: expected a number from -1 to 1, found 1.5"),
        ({"sliders": [float("nan")]}, "slider 0: expected a number from -1 to 1, found nan"),
        ({"sliders": [0.5], "method": "telea"}, "sliders: expected at most 0, as many as telea has, found 1"),
        ({"method": "magic"}, "method: expected one of roi, roi-published, glcic, telea, .*, bank, found 'magic'"),
        ({"models": None}, "method roi: no folder of trained networks was named; give --models"),
        ({"models": "nowhere"}, "nowhere: expected a folder of trained networks, found no such folder"),
        ({"method": "telea", "models": "nowhere"}, "nowhere: expected a folder of trained networks"),
        ({"sliders": 0.3}, "sliders: expected a list of numbers, or random, found 0.3"),
        ({"method": "bank", "retriever": None}, "method bank: no bank was named; give --bank, or .*: telea"),
        ({"method": "telea", "dataset": "folder"}, "dataset: is for the method bank; leave it out"),
        ({"variants": 0}, "variants: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
        (
            {"method": "telea", "variants": 2},
            "variants: telea makes one picture alone, found 2; ask for one, or use roi",
        ),
    ],
)
def test_settings_that_cannot_be(fill: Callable, tmp_path: Path, settings: dict[str, Any], said: str):
    refused(fill, tmp_path, said, picture(), BOX, **settings)


def test_pictures_that_cannot_be(fill: Callable, tmp_path: Path):
    small = picture(SIDE - 1, COLS)
    refused(fill, tmp_path, "image: expected at least 64x64 pixels, which the network sees", small, (4, 4, 9, 9))
    refused(fill, tmp_path, "image: expected .H, W, 3. of uint8, found .80, 110. of uint8", picture()[..., 0], BOX)
    refused(fill, tmp_path, "image nowhere: cannot be read .*, expected a picture, or a source", "nowhere", BOX)
    refused(fill, tmp_path, "image: expected a file, .* or a source of the bank, found NoneType", None, BOX)
    (tmp_path / "text.png").write_text("no picture")
    refused(fill, tmp_path, r"text\.png", tmp_path / "text.png", BOX)
    refused(fill, tmp_path, r"region|text\.png", picture(), tmp_path / "text.png")


def test_a_segment_needs_its_bank_and_its_photograph(fill: Callable, retriever: Retriever, tmp_path: Path):
    name = f"segment:{hex_id(segment_of(retriever.reader, 'folder/test/u')['segment_id'])}"
    refused(fill, tmp_path, "no bank was named; give the one that holds", picture(), name, retriever=None)
    said = "expected a picture of the 48x64 pixels of folder/test/u, which holds it, found 80x110"
    refused(fill, tmp_path, said, picture(), name)
    fix = "give folder/test/u as the image"
    said = "expected the photograph folder/test/u, which holds it, found"
    refused(fill, tmp_path, f"{said} folder/train/a; {fix}", "folder/train/a", name)
    refused(fill, tmp_path, f"{said} another picture; {fix}", retriever.reader.photograph("folder/train/a"), name)


def test_a_copy_of_a_photograph_has_its_segments(fill: Callable, retriever: Retriever):
    name = f"segment:{hex_id(segment_of(retriever.reader, 'folder/test/u')['segment_id'])}"
    photograph = retriever.reader.photograph("folder/test/u")
    retouched = np.where(photograph > 250, 245, photograph).astype(np.uint8)
    retouched[:20] = 0
    (own,) = fill("folder/test/u", name, method="telea")
    for copy in (photograph, retouched):
        (made,) = fill(copy, name, method="telea")
        np.testing.assert_array_equal(made.region, own.region)


def test_a_network_for_other_pictures_is_refused(fill: Callable, folder: Path, tmp_path: Path):
    other = tmp_path / "models"
    other.mkdir()
    (other / "roi.safetensors").write_bytes((folder / "models" / "judge.safetensors").read_bytes())
    refused(fill, tmp_path, r"roi\.safetensors: expected a roi network, found a judge network", picture(), BOX,
            models=other)  # fmt: skip


def test_a_layout_is_not_written_over(fill: Callable, tmp_path: Path):
    Image.fromarray(picture()).save(tmp_path / "x.png")
    layout = np.zeros(picture().shape[:2], np.uint8)
    Image.fromarray(layout).save(tmp_path / "x-0.png")
    with pytest.raises(InputError, match=r"x-0\.png: would be written over"):
        fill(tmp_path / "x.png", BOX, method="bank", layout=tmp_path / "x-0.png", out=tmp_path)


def test_inputs_are_not_written_over(fill: Callable, tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    path.rename(tmp_path / "a-0.png")
    (tmp_path / "made").write_text("a file")
    with pytest.raises(InputError, match="made: expected a folder, found a file"):
        fill(tmp_path / "a-0.png", BOX, out=tmp_path / "made")
    Image.fromarray(MASK.astype(np.uint8) + 1).save(tmp_path / "x-0.region.png")
    mask = np.zeros((ROWS, COLS), np.uint8)
    mask[20:30, 20:30] = 255
    Image.fromarray(mask).save(tmp_path / "x-0.region.png")
    Image.fromarray(picture()).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x-0\.region\.png: would be written over; choose another name or folder"):
        fill(tmp_path / "x.png", tmp_path / "x-0.region.png", out=tmp_path)


def test_a_network_without_sliders_has_no_sheet(tmp_path: Path):
    network = RoiGenerator(config := replace(ROI, sliders=0))
    (tmp_path / "models").mkdir()
    card = Card("roi", asdict(config), (), (SIDE, SIDE), "bank", 1)
    save_checkpoint(tmp_path / "models/roi.safetensors", network.state_dict(), card)
    with pytest.raises(InputError, match="sheet: expected a network with sliders, found roi with none"):
        slider_sheet(picture(), BOX, tmp_path / "models", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_compiled_form_runs_where_it_fits_and_else_that_is_said(
    fill: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "compiled").mkdir(mode=0o700)
    (plain,) = fill(picture(), BOX, seed=1)
    with pytest.warns(UserWarning, match=r"holds nothing compiled for roi\.safetensors.*: it runs uncompiled"):
        (same,) = fill(picture(), BOX, seed=1, compiled=tmp_path / "compiled")
    np.testing.assert_array_equal(same.image, plain.image)
    assert same.report.network["backend"] == plain.report.network["backend"] == "eager"

    shapes = ((3, SIDE, SIDE), (1, SIDE, SIDE), (ROI.noise,), (ROI.n_sliders,))
    verdict = Verdict("inductor", "float32", 1, shapes, "cpu", None, 2.0, 1.0, "")
    white = Bucket(verdict, lambda image, *_: torch.ones_like(image))
    monkeypatch.setattr(Store, "load", lambda self, network: (Compiled(network, [white]), ()))
    (made,) = fill(picture(), BOX, seed=1, compiled=tmp_path / "compiled")
    assert (made.image[made.region] == 255).all()
    assert made.report.network["backend"] == "inductor float32"


def test_a_sheet_needs_sliders(folder: Path, tmp_path: Path):
    for method in ("telea", "glcic"):
        with pytest.raises(InputError, match=f"sheet: expected a network with sliders, .*found {method}"):
            slider_sheet(picture(), BOX, folder / "models", tmp_path / "made", method=method)
    assert not (tmp_path / "made").exists()
