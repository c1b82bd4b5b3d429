"""Pictures with key patches: windows around objects, boxes and what is cut out, the cache, random patches."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.pipelines.training.block_photos import CAR, block_bank, blocks
from zeuxis.ingest.patches import PatchSettings, box_iou, key_patches
from zeuxis.pipelines.training import patch_pictures
from zeuxis.pipelines.training.object_windows import is_worth_it, window_around
from zeuxis.pipelines.training.patch_pictures import (
    PatchPicture,
    PatchPictures,
    boxes_in,
    cut_out,
    held_out,
    mask_of,
    random_boxes,
    squeezed,
)
from zeuxis.pipelines.training.photographs import BankOrigin, DatasetOrigin
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader

R = 64


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return block_bank(tmp_path_factory.mktemp("patches"))


def of(bank: Path, **options) -> PatchPictures:
    origin = BankOrigin(Reader(bank))
    return PatchPictures(origin, origin.names("train"), R, **options)


def test_a_photograph_is_squeezed_and_has_the_banks_own_patches(bank, monkeypatch):
    reader = Reader(bank)
    monkeypatch.setattr(patch_pictures, "key_patches", None)  # nothing is searched for
    pictures = of(bank)
    assert (len(pictures), pictures.left_out) == (2, 0)
    found = pictures[1]
    assert (found.source, found.name) == ("folder/train/b", "folder/train/b")
    large = squeezed(reader.photograph(found.source), 2 * R)
    assert np.array_equal(found.image, cv2.resize(large, (R, R), interpolation=cv2.INTER_AREA))
    assert np.array_equal(pictures.image(1), found.image)
    rows = sorted(reader.table("patches", {"source": found.source}).to_pylist(), key=lambda row: row["rank"])
    assert len(found.boxes) == len(rows) > 0
    for box, row, patch in zip(found.boxes, rows, found.patches, strict=True):
        wanted = [row["top"] * R / 100, row["left"] * R / 140, row["bottom"] * R / 100, row["right"] * R / 140]
        assert np.abs(box - wanted).max() <= 0.5
        top, left, bottom, right = 2 * box
        assert np.array_equal(patch, cv2.resize(large[top:bottom, left:right], (R, R), interpolation=cv2.INTER_CUBIC))
    assert found.boxes.dtype == np.int32
    assert all(patch.dtype == np.uint8 for patch in found.patches)


def test_more_patches_than_the_bank_has_are_searched_for(bank):
    reader, found = Reader(bank), of(bank, n=5)[0]
    wanted = key_patches(reader.photograph(found.source), PatchSettings(top=5))
    assert np.array_equal(found.boxes, boxes_in([each.box for each in wanted], (100, 140), R))
    assert len(of(bank, n=1)[0].boxes) == 1


def test_a_bank_without_key_patches_and_a_data_set_find_the_same(bank, tmp_path):
    origin = DatasetOrigin(f"folder:{bank.parent / 'photos'}")
    pictures = PatchPictures(origin, origin.names("train"), R)
    assert np.array_equal(pictures[0].boxes, of(bank)[0].boxes)
    assert np.array_equal(pictures[0].image, of(bank)[0].image)
    with pytest.raises(InputError, match="--class: expected a bank with classes, found photographs alone"):
        PatchPictures(origin, origin.names("train"), R, objects="car")


def test_objects_are_in_the_middle_of_square_windows_and_small_or_cut_ones_left_out(bank):
    reader = Reader(bank)
    pictures = of(bank, objects="car", n=2)
    assert len(pictures) == 2
    found = pictures[0]
    assert found.name.startswith("folder/train/a#")
    top, left, bottom, right = window_around(CAR, (100, 140))
    assert (bottom - top, right - left) == (84, 84)
    assert (top, left) == (13, 13)
    crop = np.ascontiguousarray(reader.photograph(found.source)[top:bottom, left:right])
    assert np.array_equal(found.image, cv2.resize(squeezed(crop, 2 * R), (R, R), interpolation=cv2.INTER_AREA))
    wanted = key_patches(crop, PatchSettings(top=2))
    assert np.array_equal(found.boxes, boxes_in([each.box for each in wanted], (84, 84), R))


def test_windows_stay_in_the_photograph():
    assert window_around((0, 0, 20, 50), (100, 140)) == (0, 0, 60, 60)
    assert window_around((80, 100, 100, 140), (100, 140)) == (52, 92, 100, 140)
    assert window_around((10, 10, 20, 130), (100, 140)) == (0, 20, 100, 120), "the photograph is not as high"


def test_what_is_worth_it():
    size = (400, 400)
    for box, wanted in (
        ((100, 100, 132, 132), True), ((100, 100, 131, 131), False), ((100, 100, 116, 132), True),
        ((100, 100, 115, 132), False), ((100, 100, 120, 160), True), ((100, 100, 120, 161), False),
        ((0, 100, 40, 140), True), ((0, 0, 40, 40), False),
    ):  # fmt: skip
        assert is_worth_it(box, size, R) == wanted, box


def test_the_cache_gives_the_same_and_knows_its_options(bank, tmp_path, monkeypatch):
    fresh, told = of(bank, objects="car"), []
    cached = of(bank, objects="car", cache=tmp_path, progress=lambda *said: told.append(said))
    cached.prepare()
    fresh.prepare()
    assert told[-1] == (2, 2, "finding key patches")
    (folder,) = tmp_path.iterdir()
    monkeypatch.setattr(patch_pictures, "key_patches", None)  # what is kept is not searched for again
    for pictures in (of(bank, objects="car", cache=tmp_path), pickle.loads(pickle.dumps(cached))):
        for k in range(2):
            for name in ("image", "boxes", "patches"):
                assert np.array_equal(getattr(pictures[k], name), getattr(fresh[k], name))
            assert pictures[k].name == fresh[k].name
    monkeypatch.undo()
    for name in ("boxes.npz", "pixels"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
        anew = of(bank, objects="car", cache=tmp_path)
        assert all(np.array_equal(anew[k].image, fresh[k].image) for k in range(2))
    monkeypatch.setattr(patch_pictures, "key_patches", None)
    stale = folder.with_name(folder.name.replace(folder.name.split("-")[3], "0" * 8))
    stale.mkdir()
    with pytest.raises(TypeError):  # another option, searched for anew
        of(bank, objects="car", n=2, cache=tmp_path).prepare()
    of(bank, cache=tmp_path).prepare()
    assert folder.exists()
    assert not stale.exists(), "what was cached before the bank changed"
    monkeypatch.setattr(patch_pictures, "PatchSettings", lambda top: replace(PatchSettings(top=top), max_iou=0.2))
    with pytest.raises(TypeError):  # other settings, searched for anew
        of(bank, objects="car", cache=tmp_path).prepare()


def test_pictures_without_a_patch_are_left_out_and_counted(tmp_path):
    for name, image in (("a", blocks(0)), ("b", np.full((100, 140, 3), 90, np.uint8)), ("c", blocks(1))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    origin = DatasetOrigin(f"images:{tmp_path}")
    for cache in (None, tmp_path / "cache"):
        pictures = PatchPictures(origin, origin.names("train"), R, cache=cache)
        assert (len(pictures), pictures.left_out) == (2, 1)
        assert [pictures[k].name for k in range(2)] == ["a", "c"]
        assert list(pictures)[-1].name == "c"
        flat = PatchPictures(origin, ["b"], R, cache=cache)
        with pytest.raises(NothingToLearn, match=r"expected pictures with key patches, found no key patches in any"):
            flat.prepare()
        assert len(PatchPictures(origin, ["b"], R, cache=cache, patches="random")) == 1


def test_unknown_and_missing_classes_are_one_sentence(bank):
    with pytest.raises(InputError, match="class 'boat': expected one of the bank's: car, ground, sign, sky, found no"):
        of(bank, objects="boat")
    with pytest.raises(NothingToLearn, match="expected pictures of class 'sign', found no sign large enough"):
        of(bank, objects="sign")
    with pytest.raises(NothingToLearn, match="found no photographs"):
        PatchPictures(Reader(bank), [], R)


def test_held_out_pictures_are_those_of_a_split(bank):
    assert [each.source for each in held_out(Reader(bank), R)] == ["folder/val/c"]
    assert [each.source for each in held_out(Reader(bank), R, split="test", objects="car")] == ["folder/test/d"]


def test_random_patches_keep_the_limits_and_depend_on_seed_and_number(bank):
    settings, random = PatchSettings(top=3), np.random.default_rng(0)
    middles = []
    for _ in range(200):
        boxes = random_boxes(R, settings, random)
        assert boxes.shape == (3, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        assert boxes.min() >= 0
        assert boxes.max() <= R
        assert (abs(sides.prod(1) / R**2 - 0.15) <= 0.1 + 0.02).all()  # but for whole pixels
        assert (sides.max(1) <= 2.5 * sides.min(1) + 2).all()
        assert max(box_iou(tuple(boxes[i]), tuple(boxes[j])) for i, j in ((0, 1), (0, 2), (1, 2))) <= 0.3
        middles.append((boxes[0, :2] + boxes[0, 2:]) / 2)
    np.testing.assert_allclose(np.mean(middles, 0), R / 2, atol=3)
    one, again = of(bank, patches="random"), of(bank, patches="random")
    assert np.array_equal(one[1].boxes, again[1].boxes)
    assert not np.array_equal(one[0].boxes, one[1].boxes)
    assert not np.array_equal(one[1].boxes, of(bank, patches="random", seed=1)[1].boxes)
    drawn = one.redrawn(1, np.random.default_rng(5))
    assert not np.array_equal(drawn.boxes, one[1].boxes)
    assert np.array_equal(drawn.image, one[1].image)


def test_masks_are_unions_and_boxes_never_empty():
    boxes = boxes_in([(0, 0, 50, 70), (99, 139, 100, 140), (25, 35, 75, 105)], (100, 140), R)
    assert boxes.tolist() == [[0, 0, 32, 32], [63, 63, 64, 64], [16, 16, 48, 48]]
    picture = PatchPicture(np.zeros((R, R, 3), np.uint8), boxes, np.zeros((3, R, R, 3), np.uint8), "a", "a")
    mask = picture.mask()
    assert mask.dtype == bool
    assert np.array_equal(mask, mask_of(boxes, R))
    assert mask.sum() == 2 * 32 * 32 - 16 * 16 + 1
    gradient = np.tile(np.arange(128, dtype=np.uint8)[None, :, None], (128, 1, 3))
    patch = cut_out(gradient, np.array([[0, 16, 64, 48]], np.int32), R)[0]
    assert patch[:, 0].mean() == pytest.approx(32, abs=1)
    assert patch[:, -1].mean() == pytest.approx(95, abs=1)
