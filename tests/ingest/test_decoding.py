"""Whatever is wrong with one source has a name and a sentence, and is never read as something else."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from zeuxis.ingest.datasets import open_dataset
from zeuxis.storage import hdf5 as hdf5_reader
from zeuxis.storage.classes import VOID, SemanticClass
from zeuxis.storage.decoding import Decoding, Stereo
from zeuxis.storage.errors import SourceError
from zeuxis.storage.images import (
    ENCODED_METRES_PER_UNIT,
    decode_depth,
    depth_size,
    disparity_to_depth,
    encode_depth,
)

SIZE = (24, 32)
INDICES = (np.arange(24 * 32).reshape(SIZE) // 200).astype(np.uint8)
WIDE = INDICES.astype(np.int64)
CLASSES = "id,name,colour\n0,sky,#0000ff\n1,tree,#00ff00\n2,road,#808080\n3,car,#ff0000\n"


def encoded(array: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


PHOTOGRAPH = encoded(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8), "JPEG", quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder data set of one good source, `a`."""
    for folder in ("images", "labels", "depths"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/a.jpg").write_bytes(PHOTOGRAPH)
    (tmp_path / "labels/a.png").write_bytes(encoded(INDICES))
    (tmp_path / "depths/a.png").write_bytes(encoded(np.full(SIZE, 2500, np.uint16)))
    return tmp_path


def decoded(root: Path):
    dataset = open_dataset(f"folder:{root}")
    (ref,) = dataset.sources()
    return dataset.decode(ref, dataset.read(ref))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def rgb(*colours: tuple[int, int, int]) -> np.ndarray:
    """A label map whose columns take turns in these colours."""
    return np.array(colours, np.uint8)[np.arange(SIZE[1]) % len(colours)][None].repeat(SIZE[0], 0)


def test_the_good_source_is_good(root: Path) -> None:
    source = decoded(root)
    assert source.image.shape == (*SIZE, 3)
    assert source.image.dtype == np.uint8
    assert np.array_equal(source.layout, INDICES)
    assert source.layout.dtype == np.uint16
    assert np.array_equal(source.depth, np.full(SIZE, 2.5, np.float32))


FAKE = b"this is a text, not a picture"
PNG_PHOTOGRAPH = encoded(np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8))
BAD = {
    "truncated JPEG": ("images/a.jpg", PHOTOGRAPH[:-400], "", "unreadable-image", ["cut short"]),
    "truncated PNG": ("images/a.jpg", PNG_PHOTOGRAPH[:-400], "", "unreadable-image", ["cut short"]),
    "text renamed .jpg": ("images/a.jpg", FAKE, "", "unreadable-image", ["JPEG", "b'this'"]),
    "empty image": ("images/a.jpg", b"", "", "unreadable-image", ["an empty file"]),
    "truncated labels": ("labels/a.png", encoded(INDICES)[:60], "", "unreadable-label", ["cut short"]),
    "text renamed .png": ("labels/a.png", FAKE, "", "unreadable-label", ["b'this'"]),
    "JPEG labels": ("labels/a.png", encoded(INDICES, "JPEG"), "", "unreadable-label", ["lossless", "JPEG"]),
    "grey and alpha": (
        "labels/a.png",
        encoded(np.dstack([INDICES, INDICES])),
        "",
        "unreadable-label",
        ["mode LA", "index PNG"],
    ),
    "labels of another size": ("labels/a.png", encoded(INDICES[:-1]), "", "size-mismatch", ["24x32", "23x32"]),
    "labels turned": ("labels/a.png", encoded(INDICES.T.copy()), "", "size-mismatch", ["24x32", "32x24"]),
    "RGB without palette": ("labels/a.png", encoded(rgb((0, 0, 255))), "", "rgb-without-palette", ["class file"]),
    "unknown colours": (
        "labels/a.png",
        encoded(rgb((0, 0, 255), (0, 0, 255), (9, 8, 7), (1, 2, 3))),
        CLASSES,
        "unknown-colour",
        ["(9, 8, 7) (192 pixels)", "(1, 2, 3) (192 pixels)"],
    ),
    "seven unknown colours": (
        "labels/a.png",
        encoded(rgb(*((1, 1, i) for i in range(7)), (0, 0, 255))),
        CLASSES,
        "unknown-colour",
        ["and 2 more"],
    ),
    "id beyond the class list": (
        "labels/a.png",
        encoded(np.where(WIDE == 3, 9, WIDE).astype(np.uint8)),
        CLASSES,
        "unknown-id",
        ["9 (168 pixels)", "class list"],
    ),
    "16-bit id beyond the class list": (
        "labels/a.png",
        encoded(np.where(WIDE == 3, 4000, WIDE).astype(np.uint16)),
        CLASSES,
        "unknown-id",
        ["4000 (168 pixels)"],
    ),
    "id above 255 without a class list": (
        "labels/a.png",
        encoded(np.where(WIDE == 3, 256, WIDE).astype(np.uint16)),
        "",
        "unknown-id",
        ["256 (168 pixels)"],
    ),
    "32-bit id": (
        "labels/a.png",
        encoded(np.where(WIDE == 3, 70000, WIDE).astype(np.int32), "TIFF"),
        "",
        "unknown-id",
        ["70000"],
    ),
    "all void": ("labels/a.png", encoded(np.full(SIZE, 255, np.uint8)), "", "all-void", ["only void"]),
    "all void by colour": (
        "labels/a.png",
        encoded(rgb((0, 0, 0))),
        'id,name,colour,void\n0,sky,#0000ff,false\n9,none,"0, 0, 0",true\n',
        "all-void",
        ["only void"],
    ),
    "depth of another size": (
        "depths/a.png",
        encoded(np.ones((24, 31), np.uint16)),
        "",
        "size-mismatch",
        ["depth map", "24x31"],
    ),
    "depth in colour": ("depths/a.png", PNG_PHOTOGRAPH, "", "unreadable-depth", ["mode RGB"]),
    "truncated depth": ("depths/a.png", PNG_PHOTOGRAPH[:90], "", "unreadable-depth", ["cut short"]),
    "pickled depth": ("depths/a.npy", npy(np.array([[{}]], object)), "", "unreadable-depth", ["numpy.save"]),
    "truncated .npy": ("depths/a.npy", npy(np.ones(SIZE, np.float32))[:-9], "", "unreadable-depth", [".npy"]),
    "complex depth": ("depths/a.npy", npy(np.ones(SIZE, complex)), "", "unreadable-depth", ["complex"]),
    ".npy of three axes": ("depths/a.npy", npy(np.ones((2, 3, 4))), "", "unreadable-depth", ["(2, 3, 4)"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_rejected_with_its_reason_and_a_sentence(root: Path, case: str) -> None:
    file, data, classes, reason, words = BAD[case]
    if file.endswith(".npy"):
        (root / "depths/a.png").unlink()
    (root / file).write_bytes(data)
    if classes:
        (root / "classes.csv").write_text(classes)
    with pytest.raises(SourceError) as caught:
        decoded(root)
    said = str(caught.value)
    assert caught.value.reason == reason
    assert str(root / file) in said
    assert all(word in said for word in words), said
    assert ";" in said, f"no advice in: {said}"


def test_a_missing_image_and_a_missing_label_map_are_named(root: Path) -> None:
    (root / "images/a.jpg").unlink()
    with pytest.raises(SourceError, match=r"labels/a\.png: expected an image") as caught:
        decoded(root)
    assert caught.value.reason == "missing-image"
    (root / "labels/a.png").unlink()
    (root / "images/a.jpg").write_bytes(PHOTOGRAPH)
    with pytest.raises(SourceError, match=r"images/a\.jpg: expected a label map") as caught:
        decoded(root)
    assert caught.value.reason == "missing-label"


def test_a_file_that_vanished_after_listing_is_a_reject(root: Path) -> None:
    dataset = open_dataset(f"folder:{root}")
    (ref,) = dataset.sources()
    (root / "labels/a.png").unlink()
    with pytest.raises(SourceError, match="No such file") as caught:
        dataset.read(ref)
    assert caught.value.reason == "unreadable-file"


def grey_png(indices: np.ndarray, bits: int) -> bytes:
    """A greyscale PNG of 1, 2, 4 or 8 bits, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    planes = np.unpackbits(indices[..., None], axis=2)[..., -bits:].reshape(len(indices), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)
    header = struct.pack(">IIBBBBB", indices.shape[1], indices.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_few_bits_are_not_stretched(root: Path, bits: int) -> None:
    indices = (WIDE % 2**bits).astype(np.uint8)
    (root / "labels/a.png").write_bytes(grey_png(indices, bits))
    assert np.array_equal(decoded(root).layout, indices)


@pytest.mark.parametrize("mode", ["palette", "16 bit", "32-bit TIFF", "WebP RGB", "RGB", "opaque RGBA"])
def test_every_way_to_write_labels_is_read_as_the_same_indices(root: Path, mode: str) -> None:
    (root / "classes.csv").write_text(CLASSES)
    colours = np.array([(0, 0, 255), (0, 255, 0), (128, 128, 128), (255, 0, 0)], np.uint8)
    paletted = Image.fromarray(INDICES, "P")
    paletted.putpalette([7, 7, 7] * 4)  # a palette that tells nothing apart: only the indices may count
    buffer = io.BytesIO()
    paletted.save(buffer, "PNG")
    opaque = np.dstack([colours[INDICES], np.full(SIZE, 255, np.uint8)])
    data = {
        "palette": buffer.getvalue(),
        "16 bit": encoded(INDICES.astype(np.uint16)),
        "32-bit TIFF": encoded(INDICES.astype(np.int32), "TIFF"),
        "WebP RGB": encoded(colours[INDICES], "WEBP", lossless=True),
        "RGB": encoded(colours[INDICES]),
        "opaque RGBA": encoded(opaque),
    }[mode]
    (root / "labels/a.png").write_bytes(data)
    assert np.array_equal(decoded(root).layout, INDICES)


def test_void_ids_become_void_and_other_pixels_stay(root: Path) -> None:
    labels = INDICES.copy()
    labels[:5] = 255
    (root / "labels/a.png").write_bytes(encoded(labels))
    assert np.array_equal(decoded(root).layout, np.where(labels == 255, VOID, WIDE))


def test_depth_that_is_unknown_is_zero(root: Path) -> None:
    (root / "depths/a.png").unlink()
    depth = np.full(SIZE, 1.5, np.float32)
    depth[0, :4] = [np.nan, np.inf, -1, 0]
    (root / "depths/a.npy").write_bytes(npy(depth))
    found = decoded(root).depth
    assert found[0, :4].tolist() == [0, 0, 0, 0]
    assert (found[1:] == 1.5).all()


def hdf5(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, chunks=(8, 8), compression="gzip", shuffle=True, fletcher32=True)
    return buffer.getvalue()


def pfm(array: np.ndarray, order: str) -> bytes:
    scale = b"-2.5" if order == "<" else b"2.5"  # the size of the number says nothing, its sign the order
    return b"Pf\n32 24\n%b\n" % scale + array[::-1].astype(f"{order}f4").tobytes()


METRES = np.random.default_rng(3).uniform(0.5, 20, SIZE).astype(np.float32)
MILLIMETRES = np.rint(METRES * 1000).astype(np.uint16)
FORMS = {
    "16-bit PNG": (encoded(MILLIMETRES), 0.001, 0.0006),
    "16-bit TIFF": (encoded(MILLIMETRES, "TIFF"), 0.001, 0.0006),
    "8-bit PNG": (encoded(np.rint(METRES * 12).astype(np.uint8)), 1 / 12, 0.05),
    "float TIFF": (encoded(METRES, "TIFF"), 1, 0),
    ".npy": (npy(METRES), 1, 0),
    ".npy of doubles in columns": (npy(np.asfortranarray(METRES, np.float64)), 1, 0),
    ".npy of big-endian integers": (npy(MILLIMETRES.astype(">i4")), 0.001, 0.0006),
    "little-endian PFM": (pfm(METRES, "<"), 1, 0),
    "big-endian PFM": (pfm(METRES, ">"), 1, 0),
    "HDF5 with one map": (hdf5(z=METRES), 1, 0),
    "HDF5 with a map named depth": (hdf5(aaa=METRES * 3, depth=METRES), 1, 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_depth_is_read_upright_as_the_same_metres(form: str) -> None:
    data, unit, tolerance = FORMS[form]
    depth = decode_depth(data, "x", unit)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, METRES, atol=tolerance + 1e-6)
    assert depth_size(data, "x") == SIZE


def test_disparity_becomes_metres_and_what_is_unknown_stays_so() -> None:
    disparity = np.array([[0.5, 64, 0, -1, np.nan, np.inf, 1e-38]])
    depth = disparity_to_depth(disparity, 0.2, 2000)
    assert depth.dtype == np.float32
    assert depth.tolist() == [[800, 6.25, 0, 0, 0, 0, 0]]


def test_encoded_depth_comes_back_to_half_a_unit_and_keeps_what_is_known() -> None:
    depth = np.array([[0, 1, 6.2517, 255.9, 1e9, 1e-9, -3, np.nan, np.inf]], np.float32)
    found = decode_depth(encode_depth(depth), "x", ENCODED_METRES_PER_UNIT)
    assert found == pytest.approx(np.array([[0, 1, 6.2517, 255.9, 255.996, 1 / 256, 0, 0, 0]]), abs=1 / 512)
    assert (found > 0).tolist() == [[False, True, True, True, True, True, False, False, False]]


def test_stored_disparities_are_metres_for_whoever_has_the_decoding() -> None:
    stereo = Stereo(baseline_m=0.2, focal_px=2000, pixels_per_unit=1 / 256, offset=1)
    decoding = Decoding((SemanticClass(0, "sky", (1, 2, 3)),), stereo=stereo)
    assert decoding.depth_origin == "disparity"
    stored = np.full((2, 3), 1 + 256 * 40, np.uint16)
    stored[0] = 0, 1, 1 + 128
    again = Decoding.from_json(json.loads(json.dumps(decoding.to_json())))
    assert again == decoding
    assert again.depth(encoded(stored), "x").tolist() == [[0, 0, 800], [10, 10, 10]]
    with pytest.raises(SourceError) as caught:
        again.depth(encoded(np.ones((2, 3), np.uint16)), "x")
    assert caught.value.reason == "empty-depth"


def test_decodings_of_older_banks_are_read() -> None:
    decoding = Decoding((SemanticClass(0, "sky", (1, 2, 3)),), metres_per_unit=0.5)
    row = decoding.to_json()
    del row["depth_origin"], row["stereo"]
    assert Decoding.from_json(row) == decoding
    assert (decoding.depth_origin, decoding.stereo) == ("depth", None)


def test_a_depth_map_that_kills_the_library_costs_no_more_than_itself() -> None:
    good = hdf5(depth=METRES)
    assert decode_depth(good, "x").shape == SIZE
    hdf5_reader._CHILD.stop()
    dying = "import os, sys; sys.stdin.buffer.read(16); os.abort()"  # amid the request, as a crash of the library
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    hdf5_reader._CHILD.process = subprocess.Popen([sys.executable, "-c", dying], **pipes)
    with pytest.raises(SourceError, match="dies or hangs") as caught:
        decode_depth(good, "x")
    assert caught.value.reason == "unreadable-depth"
    hdf5_reader._CHILD.stop()
    assert decode_depth(good, "x").shape == SIZE


def test_a_depth_map_over_which_the_library_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    good = hdf5(depth=METRES)
    decode_depth(good, "x")
    child = hdf5_reader._CHILD.process
    os.kill(child.pid, signal.SIGSTOP)
    monkeypatch.setattr(hdf5_reader, "_ANSWER_S", 0.2)
    with pytest.raises(SourceError, match="dies or hangs"):
        decode_depth(good, "x")
    assert child.returncode == -signal.SIGKILL
    monkeypatch.undo()
    assert decode_depth(good, "x").shape == SIZE


@pytest.mark.parametrize("wrong", [np.ones((4, 4, 4), np.uint8), np.ones((4, 4)), np.ones(4, np.uint8)])
def test_arrays_that_are_no_label_map_are_refused(wrong: np.ndarray) -> None:
    decoding = Decoding((SemanticClass(1, "sky", (1, 1, 1)),), palette={(1, 1, 1): 1})
    with pytest.raises(SourceError, match="class indices or RGB") as caught:
        decoding.layout(wrong, "x")
    assert caught.value.reason == "unreadable-label"


def test_a_photograph_turned_by_exif_is_stood_upright(root: Path) -> None:
    turned = Image.fromarray(np.random.default_rng(2).integers(0, 255, (32, 24, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "images/a.jpg", exif=exif)
    assert decoded(root).image.shape == (*SIZE, 3)
    dataset = open_dataset(f"folder:{root}")
    assert dataset.survey(dataset.sources()[0]).shape == SIZE
