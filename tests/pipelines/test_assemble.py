"""Whole pictures from patches: where patches come from, what is made and written, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.pipelines.tiny_key_patches import PARTS, SIDE, part_bank, save_assemblers
from zeuxis.pipelines.assemble import assemble
from zeuxis.pipelines.assembling.files import LONGEST, stem_of
from zeuxis.pipelines.assembling.network import CUT, Assembler, degraded, stretched
from zeuxis.pipelines.assembling.patches import GREY, given, mixed, of_class, of_photograph
from zeuxis.pipelines.assembling.sheet import annotated
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.synthesis.assembling import Assembling
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_checkpoint, save_checkpoint
from zeuxis.synth.compiling.buckets import Bucket, Compiled, Verdict
from zeuxis.synth.compiling.packages import Store
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.key_patches.placing import place_patches
from zeuxis.synth.key_patches.views import viewed

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["train/a", "train/b", "test/u", "test/v"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assemble")
    part_bank(folder, NAMES)
    save_assemblers(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def reader(folder: Path) -> Reader:
    return Reader(folder / "bank")


def patch(seed: int, size: tuple[int, int] = (20, 28)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_patches_make_pictures_whose_bytes_depend_on_seed_and_variant_alone(folder: Path):
    models = folder / "models"
    four = assemble([patch(0), patch(1)], models=models, seed=3)
    assert [each.report.variant for each in four] == [0, 1, 2, 3]
    assert len({each.image.tobytes() for each in four}) == 4
    assert all(each.image.shape == (SIDE, SIDE, 3) and each.mask.shape == (SIDE, SIDE) for each in four)
    again = assemble([patch(0), patch(1)], 1, 3, models=models)[0]
    assert again.image.tobytes() == four[0].image.tobytes()
    assert assemble([patch(0), patch(1)], 1, 4, models=models)[0].image.tobytes() != again.image.tobytes()
    # all but the last bits of a sum do not know the order
    turned = assemble([patch(1), patch(0)], 1, 3, models=models)[0]
    assert np.abs(turned.image.astype(int) - again.image).max() <= 1
    assert {place.box for place in turned.places} == {place.box for place in again.places}
    assert [used.box for used in again.report.patches] == [place.box for place in again.places]


def test_what_is_written_is_what_was_made(folder: Path, tmp_path: Path):
    Image.fromarray(patch(0)).save(tmp_path / "wheel.png")
    two = assemble([tmp_path / "wheel.png", patch(1)], 2, models=folder / "models", out=tmp_path / "out")
    listed = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert listed == ["wheel-0.json", "wheel-0.mask.png", "wheel-0.png", "wheel-1.json", "wheel-1.mask.png",
                      "wheel-1.png", "wheel-sheet.png"]  # fmt: skip
    for each in two:
        picture, mask, report = each.files
        np.testing.assert_array_equal(np.asarray(Image.open(picture)), each.image)
        np.testing.assert_array_equal(np.asarray(Image.open(mask)), np.rint(each.mask * 255))
        told = json.loads(report.read_text())
        assert [tuple(used["box"]) for used in told["patches"]] == [place.box for place in each.places]
        assert told["patches"][0]["name"] == str(tmp_path / "wheel.png")
        assert told["identity"]["objects"] == "car"
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assemble([tmp_path / "wheel.png", patch(1)], 2, models=folder / "models", out=tmp_path / "out")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_an_object_of_the_bank_is_drawn_by_the_seed_from_what_was_not_trained_on(folder: Path, reader: Reader):
    found = [of_class(reader, "car", SIDE, PARTS, seed) for seed in range(6)]
    assert {each.patches[0].source for each in found} == {"folder/test/u", "folder/test/v"}
    assert all(1 <= len(each.patches) <= PARTS for each in found)
    first, second = (assemble(models=folder / "models", reader=reader, from_bank=["class:car"], seed=1) for _ in "ab")
    assert first[0].image.tobytes() == second[0].image.tobytes()
    assert not first[0].report.warnings
    assert of_class(reader, "car", SIDE, 2, 0, split="train").patches[0].source.startswith("folder/train")


def test_no_object_is_drawn_twice_and_held_out_ones_come_first(reader: Reader):
    found: list[str] = []

    def draw_all() -> None:
        for number in range(40):
            found.append(of_class(reader, "car", SIDE, PARTS, 0, number, taken=found).of)

    with pytest.raises(InputError, match="expected another object of class 'car'"):
        draw_all()
    assert len(set(found)) == len(found)
    splits = [name.split("/")[1] for name in found]
    assert splits == sorted(splits, key=["test", "val", "train"].index)
    assert {"test", "train"} <= set(splits)
    assert 2 < len(found) < 40


def test_patches_of_a_photograph_are_those_of_the_bank(folder: Path, reader: Reader):
    group = of_photograph(reader, "folder/test/u", SIDE, PARTS)
    rows = reader.table("patches", {"source": "folder/test/u"}).num_rows
    assert len(group.patches) == rows > 0
    (row,) = [each for each in reader.table("patches", {"source": "folder/test/u"}).to_pylist() if each["rank"] == 0]
    size = np.array([96, 128, 96, 128]) / SIDE
    wanted = [row[side] for side in ("top", "left", "bottom", "right")]
    np.testing.assert_allclose(np.array(group.patches[0].box) * size, wanted, atol=1.1)
    (made,) = assemble(models=folder / "models", variants=1, reader=reader, sources=["folder/test/u"])
    assert "gets patches of whole photographs" in made.report.warnings[0]


def test_parts_of_several_pictures_are_taken_in_turn(folder: Path, reader: Reader, tmp_path: Path):
    one, other = (of_photograph(reader, name, SIDE, PARTS) for name in ("folder/test/u", "folder/test/v"))
    chosen = mixed([one, other], 3)
    assert [each.source for each in chosen] == ["folder/test/u", "folder/test/v", "folder/test/u"]
    (made,) = assemble([patch(0)], 1, models=folder / "models", reader=reader, from_bank=["class:car", "class:car"],
                       seed=2, count=3, out=tmp_path / "out")  # fmt: skip
    names = [used.name for used in made.report.patches]
    assert names[0] == "patch 0"
    assert all("#" in name for name in names[1:])
    assert made.files[0].name == "patches+car-0.png"
    asked = {"models": folder / "models", "variants": 1, "reader": reader}
    for seed in range(6):
        (both,) = assemble(**asked, from_bank=["class:car", "class:car"], seed=seed)
        names = [used.name for used in both.report.patches]
        assert len(names) == len(set(names)) == PARTS
    with pytest.raises(InputError, match="--patches: expected at least 2, one of each picture that is named, found 1"):
        assemble(**asked, from_bank=["class:car", "class:car"], count=1)
    with pytest.raises(InputError, match="source 'folder/test/u': expected once, found several times"):
        assemble(**asked, sources=["folder/test/u", "folder/test/u"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patches": None}, "patches: expected a list of them, found NoneType"),
        ({"patches": patch(0)}, "patches: expected a list of them, found ndarray"),
        ({"patches": [None]}, "patch 0: expected a file, or .* of uint8, found NoneType"),
        ({"from_bank": "class:car"}, "from_bank: expected a list of them, found 'class:car'"),
        ({"sources": "folder/test/u"}, "sources: expected a list of them, found 'folder/test/u'"),
        ({"patches": [patch(0)], "count": True}, "--patches: expected a whole number"),
    ],
)
def test_arguments_of_other_types_are_one_sentence(folder: Path, reader: Reader, given: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        assemble(models=folder / "models", reader=reader, **given)


def test_numbers_and_stacks_of_numpy_are_numbers_and_lists(folder: Path):
    (made,) = assemble([patch(0), patch(1)], 1, models=folder / "models", count=np.int64(1))
    assert len(made.places) == 1
    (made,) = assemble(np.stack([patch(0), patch(1)]), 1, models=folder / "models")
    assert len(made.places) == 2


def test_grey_is_read_as_rgb_and_what_is_transparent_lies_on_grey(tmp_path: Path):
    grey = patch(0)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    through = np.dstack([patch(1), np.zeros((20, 28), np.uint8)])
    through[:10, :, 3] = 255
    Image.fromarray(through).save(tmp_path / "alpha.png")
    one, other, array = given([tmp_path / "grey.png", tmp_path / "alpha.png", grey]).patches
    np.testing.assert_array_equal(one.pixels, np.dstack([grey] * 3))
    np.testing.assert_array_equal(array.pixels, one.pixels)
    np.testing.assert_array_equal(other.pixels[:10], patch(1)[:10])
    assert (other.pixels[10:] == GREY).all()
    half = np.dstack([grey, np.full_like(grey, 128)])
    Image.fromarray(half).save(tmp_path / "half.png")
    wanted = [other.pixels, one.pixels, given([tmp_path / "half.png"]).patches[0].pixels]
    for each, pixels in zip(given([through, grey[..., None], half]).patches, wanted, strict=True):
        assert (each.pixels.shape, each.pixels.dtype) == ((20, 28, 3), np.uint8)
        np.testing.assert_array_equal(each.pixels, pixels)
    (turned,) = given([through[::-1, ::-1]]).patches
    np.testing.assert_array_equal(turned.pixels, other.pixels[::-1, ::-1])


def test_more_patches_than_were_trained_with_work_and_are_told(folder: Path):
    (made,) = assemble([patch(n) for n in range(5)], 1, models=folder / "models")
    assert len(made.places) == 5
    assert made.report.warnings == ("key-patches.safetensors: was trained with 3 patches at most and gets 5",)


def test_a_network_of_another_class_warns(folder: Path, reader: Reader):
    (made,) = assemble(models=folder / "models", variants=1, reader=reader, from_bank=["class:sign"])
    assert "was trained on objects of class car, and gets patches of class:sign" in made.report.warnings[0]


def test_files_go_in_all_and_the_bank_fills_up(folder: Path, reader: Reader):
    asked = {"models": folder / "models", "variants": 1, "reader": reader, "from_bank": ["class:car"]}
    for files, of_bank in ((1, 2), (2, 1), (3, 1), (5, 1)):
        (made,) = assemble([patch(n) for n in range(files)], **asked)
        names = [used.name for used in made.report.patches]
        assert sorted(each for each in names if "#" not in each) == [f"patch {n}" for n in range(files)]
        assert sum("#" in each for each in names) == of_bank
        assert len(made.report.warnings) == (files + of_bank > PARTS)
    (made,) = assemble([patch(n) for n in range(3)], **asked | {"from_bank": ["class:car", "class:car"]})
    assert sum("#" in used.name for used in made.report.patches) == 2, "one of each object at least"


def test_a_compiled_form_runs_where_it_fits_and_else_that_is_said(
    folder: Path, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "compiled").mkdir(mode=0o700)
    models = folder / "models"
    (plain,) = assemble([patch(0)], 1, models=models)
    (same,) = assemble([patch(0)], 1, models=models, compiled=tmp_path / "compiled")
    assert plain.report.warnings == ()
    assert "holds nothing compiled for key-patches.safetensors" in same.report.warnings[0]
    np.testing.assert_array_equal(same.image, plain.image)
    assert same.report.identity["backend"] == plain.report.identity["backend"] == "eager"

    shapes = ((PARTS, 3, SIDE, SIDE), (PARTS,), (8,))
    verdict = Verdict("inductor", "float32", 1, shapes, "cpu", None, 2.0, 1.0, "")
    asked: list[list[float]] = []

    def white(patches: torch.Tensor, present: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(present[0].tolist())
        return torch.ones(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)

    monkeypatch.setattr(Store, "load", lambda self, network: (Compiled(network, [Bucket(verdict, white)]), ()))
    for count in (1, PARTS):
        (made,) = assemble([patch(0)] * count, 1, models=models, compiled=tmp_path / "compiled")
        assert (made.image == 255).all()
        assert made.report.identity["backend"] == "inductor float32"
        assert made.report.warnings == ()
    assert asked == [[1, 0, 0], [1, 1, 1]], "fewer patches take the same form"
    (more,) = assemble([patch(0)] * 4, 1, models=models, compiled=tmp_path / "compiled")
    assert not (more.image == 255).all(), "more go to the network itself"
    compiled = Models(models, reader, compiled=tmp_path / "compiled")
    assert Assembling(reader, compiled, SynthesisOptions(recompose=True, assemble=True)).assembler.packages


def test_patches_of_larger_pictures_are_as_sharp_as_those_trained_on(tmp_path: Path, folder: Path):
    reader = Reader(part_bank(tmp_path, ["train/a", "test/u", "test/v"], times=5))
    assembler, told = Assembler(folder / "models"), []
    for source in ("folder/test/u", "folder/test/v"):
        trained_on = [each.pixels for each in of_photograph(reader, source, SIDE, PARTS).patches]
        rows = sorted(reader.table("patches", {"source": source}).to_pylist(), key=lambda row: row["rank"])
        photograph = reader.photograph(source)
        own = [photograph[row["top"] : row["bottom"], row["left"] : row["right"]] for row in rows]
        averaged = [cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in own]
        (one,) = assemble(models=folder / "models", variants=1, reader=reader, sources=[source])
        (other,) = assemble(own, 1, models=folder / "models")
        assert [used.size for used in other.report.patches] == [each.shape[:2] for each in own]
        for shown, each in zip(other.patches, own, strict=True):
            np.testing.assert_array_equal(shown, stretched(each, SIDE))
        seen = [np.mean([sharpness(each) for each in some]) for some in (trained_on, other.patches, averaged)]
        apart = [np.abs(one.image.astype(int) - each.image).mean() for each in (other, assembler.made(averaged, 0))]
        told.append([*seen, *apart])
    wanted, found, sharper, near, far = np.mean(told, axis=0)
    assert sharper > 1.3 * wanted
    assert found == pytest.approx(wanted, rel=0.15)
    assert near < far, "the picture of a photograph's patches, from the bank and from their pixels"
    small = patch(0, (20, 28))
    enlarged = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(stretched(small, SIDE), enlarged)
    assert not np.array_equal(stretched(enlarged, SIDE), enlarged), "of a file of that size, which is no patch of ours"


def sharpness(patch: np.ndarray) -> float:
    return float(cv2.Laplacian(patch.astype(np.float32), cv2.CV_32F).std())


@pytest.fixture(scope="module")
def keeping(folder: Path) -> Path:
    """A folder with the same network, whose patches keep their shapes, and whose masks are of several views."""
    card, tensors = load_checkpoint(folder / "models" / "key-patches.safetensors", "key-patches")
    path = folder / "keeping" / "key-patches.safetensors"
    path.parent.mkdir()
    training = {**card.training, "views": True}
    save_checkpoint(path, tensors, replace(card, config={**card.config, "aspect": "kept"}, training=training))
    return path.parent


def test_files_keep_their_shapes_and_their_sizes_where_these_are_alike(keeping: Path, folder: Path):
    large, small = cv2.resize(patch(0), (200, 100)), cv2.resize(patch(1), (30, 60))
    shown = {alike: assemble([large, small], 1, models=keeping, alike=alike)[0] for alike in (False, True)}
    sides = {alike: [sides_shown(each) for each in made.patches] for alike, made in shown.items()}
    assert sides[False] == [(SIDE // 2, SIDE), (SIDE, SIDE // 2)], "of unrelated sizes: each as large as any"
    wide = SIDE * 60 / 200
    assert sides[True] == [(SIDE // 2, SIDE), (round(wide), round(wide / 2))]
    for made in shown.values():
        for (top, left, bottom, right), aspect in zip([each.box for each in made.places], (0.5, 2.0), strict=True):
            assert (bottom - top) / (right - left) == pytest.approx(aspect, rel=0.15)
        assert [each.size for each in made.report.patches] == [(100, 200), (60, 30)]
    (half,) = assemble([cv2.resize(large, (100, 50), interpolation=cv2.INTER_AREA), small], 1, models=keeping)
    assert [sides_shown(each) for each in half.patches] == sides[False], "whatever the resolution of a file"
    (stretching,) = assemble([large, small], 1, models=folder / "models", alike=True)
    for found, wanted in zip(stretching.patches, (large, small), strict=True):
        np.testing.assert_array_equal(found, stretched(wanted, SIDE))


def sides_shown(square: np.ndarray) -> tuple[int, int]:
    rows, cols = ((square != GREY).any(axis=(axis, 2)).nonzero()[0] for axis in (1, 0))
    return int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1)


def test_patches_of_the_bank_are_as_large_beside_one_another_as_in_their_picture(keeping: Path, reader: Reader):
    (made,) = assemble(models=keeping, variants=1, reader=reader, from_bank=["class:car"])
    boxes = [used.cut_from for used in made.report.patches]
    longest = max(max(bottom - top, right - left) for top, left, bottom, right in boxes)
    for square, (top, left, bottom, right) in zip(made.patches, boxes, strict=True):
        wanted = SIDE * (bottom - top) / longest, SIDE * (right - left) / longest
        assert sides_shown(square) == pytest.approx(wanted, abs=1)
    (beside,) = assemble([patch(0)], 1, models=keeping, reader=reader, from_bank=["class:car"])
    assert max(sides_shown(beside.patches[0])) == max(max(sides_shown(each)) for each in beside.patches[1:])


def test_networks_of_before_are_asked_once_about_stretched_patches(folder: Path, tmp_path: Path):
    card, tensors = load_checkpoint(folder / "models" / "key-patches.safetensors", "key-patches")
    before = {name: value for name, value in card.config.items() if name != "aspect"}
    (tmp_path / "models").mkdir()
    save_checkpoint(tmp_path / "models" / "key-patches.safetensors", tensors, replace(card, config=before))
    assembler, patches = Assembler(tmp_path / "models"), [patch(0), patch(1)]
    assert (assembler.aspect, assembler.views) == ("stretched", False)
    made = assembler.made(patches, 0)
    squares = torch.stack([to_tensor(stretched(each, SIDE)) for each in patches])[None]
    with torch.no_grad():
        image, mask = assembler.network(squares, torch.ones(1, 2), torch.from_numpy(assembler.noise(0, 0))[None])
    np.testing.assert_array_equal(made.image, to_image(image[0]))
    np.testing.assert_array_equal(made.mask, mask[0, 0].numpy())
    assert made.alone is None
    assert assembler.places(made, patches) == place_patches(made.image, made.mask, patches)


def test_places_and_masks_are_of_several_views(keeping: Path):
    assembler, patches = Assembler(keeping), [patch(0), patch(1, (28, 20))]
    made = assembler.made(patches, 0)
    squares = torch.stack([to_tensor(each) for each in assembler.squares(patches)])[None]
    wanted = viewed(assembler.network, squares, torch.ones(1, 2), torch.from_numpy(assembler.noise(0, 0))[None])
    np.testing.assert_allclose(made.mask, wanted.mask[0, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(made.alone, wanted.alone[0].numpy(), atol=1e-5)
    aspects = [20 / 28, 28 / 20]
    assert assembler.places(made, patches) == place_patches(made.image, made.alone, patches, aspects)
    several = assembler.many([patches, patches[:1]], [assembler.noise(0, 0)] * 2)
    assert [len(each.alone) for each in several] == [2, 1]


def test_masks_are_half_where_patches_usually_are(keeping: Path, tmp_path: Path):
    card, tensors = load_checkpoint(keeping / "key-patches.safetensors", "key-patches")
    usual = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / 2
    knowing = replace(card, config={**card.config, "usual": True})
    save_checkpoint(tmp_path / "key-patches.safetensors", {**tensors, "usual": usual}, knowing)
    patches = [patch(0), patch(1)]
    plain, made = (Assembler(models).made(patches, 0) for models in (keeping, tmp_path))
    np.testing.assert_allclose(made.mask, (plain.mask + 1 - (1 - usual[0].numpy()) ** 2) / 2, atol=1e-5)
    np.testing.assert_array_equal(made.image, plain.image)


def test_noise_degrades_the_patches_alike_for_every_variant(folder: Path):
    models = folder / "models"
    clean, noisy = (assemble([patch(0)], 2, models=models, noise=noise) for noise in (0, 30))
    assert clean[0].image.tobytes() != noisy[0].image.tobytes()
    np.testing.assert_array_equal(noisy[0].patches[0], noisy[1].patches[0])
    flat = [np.full((60, 60, 3), 128, np.uint8)]
    assert degraded(flat, 20, 0)[0].std() == pytest.approx(20, rel=0.05)
    assert degraded(flat, 0, 0)[0] is flat[0]


def test_a_rival_without_a_mask_places_by_pattern(folder: Path):
    (made,) = assemble([patch(0)], 1, models=folder / "models", network="key-patches-no-mask")
    assert not made.mask.any()
    assert made.report.network == "key-patches-no-mask"


def test_outlines_and_reports_are_of_the_cut_that_the_card_says(folder: Path, tmp_path: Path):
    card, tensors = load_checkpoint(folder / "models" / "key-patches.safetensors", "key-patches")
    (plain,) = assemble([patch(0)], 1, models=folder / "models", out=tmp_path / "plain")
    assert plain.report.mask_cut == Assembler(folder / "models").cut == CUT, "none was fitted"
    level = float(np.quantile(plain.mask, 0.9 if np.mean(plain.mask > CUT) > 0.3 else 0.4))
    path = tmp_path / "models" / "key-patches.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, tensors, replace(card, training={**card.training, "mask_cut": level}))
    (made,) = assemble([patch(0)], 1, models=path.parent, out=tmp_path / "made")
    np.testing.assert_array_equal(made.mask, plain.mask)
    assert json.loads(made.files[2].read_text())["mask_cut"] == level
    drawn = annotated(made.image, made.mask, [made.places[0].box], cut=level)
    shown = np.asarray(Image.open(tmp_path / "made" / "patches-sheet.png"))
    assert any(
        np.array_equal(drawn, shown[top : top + len(drawn), 8 : 8 + len(drawn)])
        for top in range(len(shown) - len(drawn) + 1)
    )
    assert not np.array_equal(drawn, annotated(plain.image, plain.mask, [plain.places[0].box]))
    for wrong in ("high", 2, None, True):
        save_checkpoint(path, tensors, replace(card, training={**card.training, "mask_cut": wrong}))
        with pytest.raises(InputError, match=f"expected a mask_cut from 0 to 1, found {wrong!r}; fetch it again"):
            Assembler(path.parent)


def test_a_batch_gives_what_single_pictures_give(folder: Path):
    assembler = Assembler(folder / "models")
    sets = [[patch(0), patch(1)], [patch(2)], [patch(3), patch(4), patch(5)]]
    noise = [assembler.noise(0, n) for n in range(3)]
    for each, patches, number in zip(assembler.many(sets, noise), sets, range(3), strict=True):
        alone = assembler.made(patches, 0, number)
        assert np.abs(each.image.astype(int) - alone.image).max() <= 1
        np.testing.assert_allclose(each.mask, alone.mask, atol=1e-3)
    codes = assembler.encoded(sets)
    np.testing.assert_allclose(codes[1], assembler.encoded(sets[1:2])[0], rtol=1e-3, atol=1e-3)
    assert stretched(patch(0), SIDE).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "patches: expected at least one, found none; name picture files, or --from-bank class:NAME"),
        ({"patches": [patch(0, (1, 1))]}, "patch 0: expected a patch of at least 4x4 pixels, found 1x1"),
        ({"patches": [np.zeros((9, 9, 5), np.uint8)]}, "patch 0: expected (h, w, 3) or (h, w), with alpha or without"),
        ({"patches": [np.zeros((9, 9, 4), np.float32)]}, "of uint8, found (9, 9, 4) of float32"),
        ({"patches": [np.zeros((9, 9, 0), np.uint8)]}, "of uint8, found (9, 9, 0) of uint8"),
        ({"patches": ["missing.png"]}, "patch missing.png: cannot be read (No such file or directory)"),
        ({"patches": [patch(0)] * 65}, "patches: expected at most 64, found 65"),
        ({"patches": [patch(0)], "count": 2}, "--patches: expected at most 1, as many as there are, found 2"),
        ({"patches": [patch(0)], "count": 0}, "--patches: expected a whole number of at least 1, found 0"),
        ({"patches": [patch(0)], "noise": -1}, "noise: expected a number from 0 to 255 levels, found -1"),
        ({"patches": [patch(0)], "variants": 0}, "variants: expected a whole number of at least 1"),
        ({"patches": [patch(0)], "network": "key-patches-pix"}, "key-patches-pix.safetensors: expected a trained"),
        ({"patches": [patch(0)], "network": "judge"}, "judge.safetensors: expected a key-patches network"),
        ({"patches": [patch(0)], "models": None}, "models: no folder of trained networks was named"),
        ({"from_bank": ["class:car"], "count": -1}, "--patches: expected a whole number of at least 1, found -1"),
        ({"from_bank": ["car"]}, "--from-bank: expected class:NAME, such as class:car, found 'car'"),
        ({"from_bank": ["class:bus"]}, "class 'bus': expected one of the bank's: car, ground, sign, sky"),
        ({"from_bank": ["class:sky"]}, "an object of class 'sky' with key patches"),
        ({"from_bank": ["class:car"], "split": "new"}, "--split: expected train, val or test, found 'new'"),
        ({"from_bank": ["class:car"], "reader": None}, "patches of the bank: no bank was named; give --bank"),
        ({"sources": ["nobody"]}, "source 'nobody': is not in"),
        ({"patches": [patch(0)], "split": "val"}, "--split: expected with --from-bank, found without it"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(
    folder: Path, reader: Reader, tmp_path: Path, given: dict, said: str
):
    settings = {"models": folder / "models", "reader": reader} | given
    with pytest.raises(InputError) as refused:
        assemble(settings.pop("patches", ()), settings.pop("variants", 1), out=tmp_path / "out", **settings)
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_no_name_of_a_patch_is_too_long_or_leads_elsewhere(folder: Path, tmp_path: Path):
    assert stem_of(["car", "a", "car"]) == "car+a"
    assert stem_of(["tv/set", "../pole"]) == "tv-set+..-pole"
    long, other = (stem_of(["ä" * 300, name]) for name in "ab")
    assert long != other
    assert max(len(os.fsencode(each)) for each in (long, other)) <= LONGEST
    path = tmp_path / f"{'x' * 250}.png"
    Image.fromarray(patch(0)).save(path)
    (made,) = assemble([path], 1, models=folder / "models", out=tmp_path / "out")
    assert all(each.exists() for each in made.files)


def test_a_pipe_is_refused_and_not_waited_for(folder: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: cannot be read \(no plain file\)"):
        assemble([tmp_path / "pipe.png"], models=folder / "models")


def test_damaged_files_are_refused(folder: Path, tmp_path: Path):
    whole = tmp_path / "whole.png"
    Image.fromarray(patch(0)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.png"):
        assemble([tmp_path / "cut.png"], models=folder / "models")
    (tmp_path / "models").mkdir()
    data = (folder / "models" / "key-patches.safetensors").read_bytes()
    (tmp_path / "models" / "key-patches.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="is no whole checkpoint"):
        assemble([whole], models=tmp_path / "models")
    Image.fromarray(patch(1)).save(tmp_path / "whole-0.png")
    with pytest.raises(InputError, match="would be written over"):
        assemble([whole, tmp_path / "whole-0.png"], models=folder / "models", out=tmp_path)


def test_a_network_of_whole_photographs_is_told_apart(folder: Path, reader: Reader, tmp_path: Path):
    card, tensors = load_checkpoint(folder / "models" / "key-patches.safetensors", "key-patches")
    card = replace(card, training={"objects": None})
    save_checkpoint(tmp_path / "key-patches.safetensors", tensors, card)
    (made,) = assemble(models=tmp_path, variants=1, reader=reader, sources=["folder/test/u"])
    assert made.report.warnings == ()
    (made,) = assemble(models=tmp_path, variants=1, reader=reader, from_bank=["class:car"])
    assert "was trained on whole photographs, and gets patches of class:car" in made.report.warnings[0]
