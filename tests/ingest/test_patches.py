"""Key patches: they sit on objects, stay within their limits, and bad input is answered in one sentence."""

import gzip
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from zeuxis.ingest import patches
from zeuxis.ingest.patches import PatchSettings, box_iou, key_patches
from zeuxis.storage.errors import InputError
from zeuxis.storage.images import decode_photograph

ROOT = Path(__file__).resolve().parents[2]
NYU = ROOT.parent / "shared/data/nyu/images"
SETTINGS = PatchSettings()


def with_object(box, shape=(240, 320), seed=0):
    """A textured object on a plain ground."""
    image = np.full((*shape, 3), 120, np.uint8)
    top, left, bottom, right = box
    texture = np.random.default_rng(seed).integers(0, 256, ((bottom - top) // 6 + 1, (right - left) // 6 + 1, 3))
    image[top:bottom, left:right] = np.kron(texture, np.ones((6, 6, 1)))[: bottom - top, : right - left]
    return image


def cluttered(seed, shape=(240, 320)):
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), 120, np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        image[top : top + rng.integers(8, 120), left : left + rng.integers(8, 120)] = rng.integers(0, 256, 3)
    return image


@pytest.mark.parametrize("box", [(60, 100, 150, 210), (120, 20, 210, 90), (20, 180, 100, 310)])
def test_best_patch_is_the_textured_object(box):
    assert box_iou(key_patches(with_object(box), SETTINGS)[0].box, box) > 0.75


def test_object_is_found_at_every_resolution_of_the_picture():
    box = np.array((15, 25, 38, 52))
    for zoom in (1, 4, 12):
        image = np.kron(with_object(box, (60, 80)), np.ones((zoom, zoom, 1), np.uint8))
        assert box_iou(key_patches(image, SETTINGS)[0].box, tuple(box * zoom)) > 0.6


def test_object_is_found_in_a_dark_picture():
    box = (60, 100, 150, 210)
    assert box_iou(key_patches(with_object(box) // 6, SETTINGS)[0].box, box) > 0.75


@pytest.mark.parametrize("settings", [SETTINGS, PatchSettings(top=10, min_area=0.08, max_area=0.12, max_aspect=1.3)])
def test_limits_hold_for_every_patch(settings):
    seen = 0
    for seed in range(4):
        image = cluttered(seed)
        found = key_patches(image, settings)
        seen += len(found)
        assert len(found) <= settings.top
        assert [patch.score for patch in found] == sorted((patch.score for patch in found), reverse=True)
        for patch in found:
            top, left, bottom, right = patch.box
            assert 0 <= top < bottom <= image.shape[0]
            assert 0 <= left < right <= image.shape[1]
            sides = sorted((bottom - top, right - left))
            assert settings.min_area <= sides[0] * sides[1] / (240 * 320) <= settings.max_area
            assert sides[1] / sides[0] <= settings.max_aspect
            assert patch.score > 0
    assert seen >= 8


@pytest.mark.parametrize("max_iou", [0.0, 0.3])
def test_kept_patches_overlap_no_more_than_allowed(max_iou):
    for seed in range(4):
        found = key_patches(cluttered(seed), replace(SETTINGS, top=8, max_iou=max_iou))
        assert len(found) >= 2
        assert all(box_iou(a.box, b.box) <= max_iou for a, b in combinations(found, 2))


@pytest.mark.parametrize("noise", [0, 3])
def test_plain_image_has_no_patch(noise):
    image = 120 + np.random.default_rng(0).integers(-noise, noise + 1, (240, 320, 3))
    assert key_patches(image.astype(np.uint8), SETTINGS) == []


def test_white_frame_alone_attracts_no_patch():
    image = np.full((480, 640, 3), 40, np.uint8)
    image[:6], image[-6:], image[:, :8], image[:, -8:] = 255, 255, 255, 255
    assert key_patches(image, replace(SETTINGS, border=0.0, max_area=0.99)) != []
    assert key_patches(image, replace(SETTINGS, max_area=0.99)) == []


def test_same_image_gives_same_patches_whatever_came_between():
    first = key_patches(cluttered(1), SETTINGS)
    key_patches(cluttered(2), SETTINGS)
    assert key_patches(cluttered(1), SETTINGS) == first


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (20, 30), (31, 17), (9, 400), (1500, 60), (1, 3000), (237, 411)])
def test_sizes_of_every_kind_are_answered(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for patch in key_patches(image, SETTINGS):
        assert patch.box[0] >= 0
        assert patch.box[1] >= 0
        assert patch.box[2] <= shape[0]
        assert patch.box[3] <= shape[1]


def test_image_too_narrow_for_any_patch_is_not_searched(monkeypatch):
    monkeypatch.setattr(patches, "_proposals", None)
    assert key_patches(np.random.default_rng(0).integers(0, 256, (6, 60000, 3), dtype=np.uint8), SETTINGS) == []


def test_gradient_edges_are_thin_and_carry_their_normal_as_opencv_defines_it(tmp_path):
    y, x = np.mgrid[:120, :120]
    (tmp_path / "model.yml").write_text(edge_model())
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(tmp_path / "model.yml"))
    for degrees in (0, 30, 45, 88, 120, 160):  # at 90 exactly, OpenCV says 0
        away = (x - 60) * np.cos(np.deg2rad(degrees)) + (y - 60) * np.sin(np.deg2rad(degrees))
        image = np.repeat(np.where(away > 0, 200, 50).astype(np.uint8)[..., None], 3, axis=2)
        strength, normal = patches.gradient_edges(image, 0.05)
        inner = strength[20:100, 20:100] > 0
        assert 70 < inner.sum() < 170
        expected = np.median(detector.computeOrientation(np.exp(-(away.astype(np.float32) ** 2) / 8))[58:63, 58:63])
        for angle, tolerance in ((np.deg2rad(degrees), 0.2), (expected, 0.4)):  # OpenCV's is rough between the axes
            off = np.abs(normal[20:100, 20:100][inner] - angle) % np.pi
            assert np.median(np.minimum(off, np.pi - off)) < tolerance


def test_tiny_image_with_an_object_has_its_patch():
    image = np.full((20, 30, 3), 120, np.uint8)
    image[6:15, 8:22] = 220
    assert box_iou(key_patches(image, SETTINGS)[0].box, (6, 8, 15, 22)) > 0.5


def test_grey_photograph_and_read_only_view_are_taken():
    box = (60, 100, 150, 210)
    image = with_object(box)
    grey = np.broadcast_to(image[..., :1], image.shape)[:, ::-1]
    assert box_iou(key_patches(grey, SETTINGS)[0].box, (60, 110, 150, 220)) > 0.75


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(InputError, match=r"expected an \(H, W, 3\) uint8 RGB image"):
        key_patches(image, SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [{"top": 0}, {"min_area": 0.3}, {"max_area": 1.0}, {"max_aspect": 0.5}, {"max_iou": 2.0}, {"border": 0.3},
     {"working_side": 10}, {"edge_share": 0.0}, {"alpha": 0.1}, {"beta": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PatchSettings(**wrong)


def edge_model():
    """A structured-edge forest of one tree: an edge where the normalised gradient at the centre is high."""
    return """%YAML:1.0
---
options:
   numberOfTrees: 1
   numberOfTreesToEvaluate: 1
   selfsimilarityGridSize: 5
   stride: 2
   shrinkNumber: 2
   patchSize: 32
   patchInnerSize: 16
   numberOfGradientOrientations: 4
   gradientSmoothingRadius: 0
   regFeatureSmoothingRadius: 2
   ssFeatureSmoothingRadius: 8
   gradientNormalizationRadius: 4
childs:
   - [ 2, 0, 0 ]
featureIds:
   - [ 904, 0, 0 ]
thresholds:
   - [ 0.9, 0., 0. ]
edgeBoundaries:
   - [ 0, 0, 0, 30 ]
edgeBins:
   - [ {} ]
""".format(", ".join(["136"] * 30))


@pytest.mark.parametrize("name", ["model.yml", "model.yml.gz"])
def test_structured_edge_model_is_used_and_read_once(tmp_path, monkeypatch, name):
    data = edge_model().encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    settings = replace(SETTINGS, edge_model=str(tmp_path / name))
    monkeypatch.setattr(patches, "gradient_edges", None)
    box = (60, 100, 150, 210)
    found = key_patches(with_object(box), settings)
    assert box_iou(found[0].box, box) > 0.5
    (tmp_path / name).unlink()
    assert key_patches(with_object(box), settings) == found


BAD_MODELS = {
    "missing": None,
    "empty": b"",
    "no model": b"%YAML:1.0\n---\noptions:\n   stride: 2\n",
    "cut gzip": gzip.compress(edge_model().encode())[:-40],
    "not YAML": b"\n".join(b"%s: [" % key.encode() for key in ("", *patches.MODEL_KEYS)),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_edge_model_is_refused_in_one_sentence(tmp_path, kind):
    path = tmp_path / "model.yml.gz"
    if BAD_MODELS[kind] is not None:
        path.write_bytes(BAD_MODELS[kind])
    with pytest.raises(InputError, match="expected OpenCV's structured-edge model") as caught:
        key_patches(cluttered(0), replace(SETTINGS, edge_model=str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.realdata
@pytest.mark.skipif(not NYU.exists(), reason="shared/data/nyu is not here")
def test_patches_of_photographs_stay_off_the_white_frame():
    for file in sorted(NYU.glob("*.jpg"))[::240]:
        found = key_patches(decode_photograph(file.read_bytes(), file), SETTINGS)
        assert len(found) == SETTINGS.top
        for top, left, bottom, right in (patch.box for patch in found):
            assert min(top, left, 480 - bottom, 640 - right) >= 9
