"""Every malformed picture, label map and depth map has its reason, costs little memory and no more than a moment."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from zeuxis.storage.errors import InputError, SourceError
from zeuxis.storage.images import (
    MAX_PIXELS,
    decode_depth,
    decode_labels,
    decode_photograph,
    depth_size,
    picture_size,
    pixel_limit,
)

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(1, 255, (24, 32, 3), np.uint8)
GREY = RANDOM.integers(0, 4, (24, 32), np.uint8)
DEPTH = RANDOM.uniform(1, 9, (24, 32)).astype(np.float32)
WIDE = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80


def saved(picture: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, format, **options)
    return buffer.getvalue()


def frames(format: str) -> bytes:
    """A picture of two frames that differ."""
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())
    return saved(first, format, save_all=True, append_images=[second])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG of any header, with extra chunks in front of its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def png_of_zeros(side: int) -> bytes:
    """A whole PNG of side x side zeros, packed a thousandfold."""
    packer, rows = zlib.compressobj(9), bytes(1 + side) * 64
    packed = b"".join(packer.compress(rows) for _ in range(side // 64)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side // 64 * 64, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff(**tags: int) -> bytes:
    """An 8-bit grey TIFF of 24x32 with tags of one's own, by their number after an underscore."""
    first = {256: 32, 257: 24, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 24, 279: 768}
    entries = sorted((first | {int(key[1:]): value for key, value in tags.items()}).items())
    body = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    return b"II*\0" + struct.pack("<I", 776) + GREY.tobytes() + struct.pack("<H", len(entries)) + body + bytes(4)


def tiled_bomb() -> bytes:
    """A TIFF of 24x32 in one tile of 65,536 x 32,768 zeros, two gigabytes unpacked."""
    packer, block = zlib.compressobj(9), bytes(1 << 24)
    packed = b"".join(packer.compress(block) for _ in range(4)) + packer.flush()
    tags = {256: 32, 257: 24, 258: 8, 259: 8, 262: 1, 277: 1, 322: 65536, 323: 32768, 324: 8, 325: len(packed)}
    body = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + body + bytes(4)


def bmp_bomb() -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_bomb() -> bytes:
    """A whole GIF of one small frame on a screen of 65,535 x 65,535."""
    data = saved(GREY, "GIF")
    return data[:6] + bytes([255] * 4) + data[10:]


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=True)
    return buffer.getvalue()


def npy_header(text: str, version: int = 1, length: int | None = None) -> bytes:
    """A `.npy` file of nothing but a header."""
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=np.zeros((4096, 4096)))
    return buffer.getvalue()


def pfm(array: np.ndarray, order: str = "<", magic: bytes = b"Pf") -> bytes:
    scale = b"-1.0" if order == "<" else b"1.0"
    header = b"%b\n%d %d\n%b\n" % (magic, array.shape[1], array.shape[0], scale)
    return header + array[::-1].astype(f"{order}f4").tobytes()


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def inflating_chunk(file: h5py.File) -> None:
    """A dataset whose one chunk of three kilobytes unpacks to 200 MB."""
    dataset = file.create_dataset("depth", (24, 32), np.float32, chunks=(24, 32), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(200 << 20), 9))


def cmyk_jpeg(inverted: bool) -> bytes:
    """A CMYK JPEG; Pillow writes Adobe's marker, without which the values are not inverted."""
    data = saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG")
    if inverted:
        return data
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def transparent() -> bytes:
    picture = Image.fromarray(PIXELS).convert("RGBA")
    picture.putpixel((3, 3), (0, 0, 0, 254))
    return saved(picture)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def noisy(kind: bytes, count: int) -> bytes:
    """Compressed text chunks that unpack to 64 MB each."""
    packed = zlib.compress(bytes(64 << 20), 9)
    body = b"key\0\0" + packed if kind == b"zTXt" else b"key\0\1\0\0\0" + packed
    return png(32, 24, data=bytes(97 * 24), extra=chunk(kind, body) * count)


PHOTOGRAPHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "unreadable-image"),
    "a text": (lambda: b"this is a text, not a picture", "unreadable-image"),
    "a PDF": (lambda: b"%PDF-1.7\n" + bytes(99), "unreadable-image"),
    "an SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable-image"),
    "a gzipped PNG": (lambda: gzip.compress(saved(PIXELS)), "unreadable-image"),
    "an EPS, which would run": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable-image"),
    "cut JPEG": (lambda: saved(PIXELS, "JPEG")[:-200], "unreadable-image"),
    "cut PNG": (lambda: saved(PIXELS)[:-200], "unreadable-image"),
    "PNG without its end": (lambda: saved(PIXELS)[:-12], "unreadable-image"),
    "PNG with one bit flipped": (lambda: flipped(saved(PIXELS), 900), "unreadable-image"),
    "cut WebP": (lambda: saved(PIXELS, "WEBP")[:-200], "unreadable-image"),
    "cut TIFF": (lambda: saved(PIXELS, "TIFF")[:-900], "unreadable-image"),
    "cut BMP": (lambda: saved(PIXELS, "BMP")[:-200], "unreadable-image"),
    "cut PPM": (lambda: saved(PIXELS, "PPM")[:-200], "unreadable-image"),
    "cut GIF": (lambda: saved(PIXELS, "GIF")[:-300], "unreadable-image"),
    "CMYK": (lambda: cmyk_jpeg(False), "cmyk"),
    "CMYK as Adobe inverts it": (lambda: cmyk_jpeg(True), "cmyk"),
    "CMYK TIFF": (lambda: saved(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"), "cmyk"),
    "Lab TIFF": (lambda: saved(Image.fromarray(PIXELS).convert("LAB"), "TIFF"), "unreadable-image"),
    "16-bit grey PNG": (lambda: saved(WIDE), "not-8-bit"),
    "16-bit RGB PNG": (lambda: png(32, 24, 16, 2, bytes(1 + 32 * 6) * 24), "not-8-bit"),
    "16-bit grey TIFF": (lambda: saved(WIDE, "TIFF"), "not-8-bit"),
    "16-bit PGM": (lambda: saved(WIDE, "PPM"), "not-8-bit"),
    "16-bit PPM": (lambda: b"P6\n# deep\n2 2\n65535\n" + bytes(24), "not-8-bit"),
    "float TIFF": (lambda: saved(DEPTH, "TIFF"), "not-8-bit"),
    "PFM": (lambda: pfm(DEPTH), "not-8-bit"),
    "animated GIF": (lambda: frames("GIF"), "animated"),
    "animated PNG": (lambda: frames("PNG"), "animated"),
    "animated WebP": (lambda: frames("WEBP"), "animated"),
    "TIFF of two pages": (lambda: frames("TIFF"), "animated"),
    "one transparent pixel": (transparent, "transparent"),
    "a transparent colour": (lambda: saved(Image.fromarray(PIXELS).quantize(9), transparency=2), "transparent"),
    "PNG bomb by its header": (lambda: png(60000, 60000), "too-large"),
    "PNG of a negative size": (lambda: png(2**32 - 1, 2**32 - 1), "too-large"),
    "PNG bomb": (lambda: png_of_zeros(12800), "too-large"),
    "BMP bomb": (bmp_bomb, "too-large"),
    "PPM bomb": (lambda: b"P6\n99999 99999\n255\n", "too-large"),
    "GIF bomb": (gif_bomb, "too-large"),
    "TIFF bomb": (lambda: tiff(_256=100000, _257=100000), "too-large"),
    "TIFF of one giant tile": (tiled_bomb, "too-large"),
    "zTXt bomb": (lambda: noisy(b"zTXt", 3), "unreadable-image"),
    "iTXt bomb": (lambda: noisy(b"iTXt", 3), "unreadable-image"),
    "iCCP bomb": (lambda: noisy(b"iCCP", 1), "unreadable-image"),
}  # fmt: skip
LABELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a text": (lambda: b"sky sky sky", "unreadable-label"),
    "JPEG": (lambda: saved(GREY, "JPEG", quality=100), "unreadable-label"),
    "JPEG of two pictures": (lambda: frames("MPO"), "unreadable-label"),
    "lossy WebP": (lambda: saved(PIXELS, "WEBP"), "unreadable-label"),
    "TIFF with JPEG inside": (lambda: saved(GREY, "TIFF", compression="jpeg"), "unreadable-label"),
    "PNG with one bit flipped": (lambda: flipped(saved(GREY), 90), "unreadable-label"),
    "float TIFF": (lambda: saved(GREY.astype(np.float32), "TIFF"), "unreadable-label"),
    "grey and alpha": (lambda: saved(np.dstack([GREY, GREY])), "unreadable-label"),
    "RGB and alpha": (lambda: saved(np.dstack([PIXELS, GREY])), "unreadable-label"),
    "16-bit RGB": (lambda: png(32, 24, 16, 2, bytes(1 + 32 * 6) * 24), "unreadable-label"),
    "TIFF whose zero is white": (lambda: tiff(_262=0), "unreadable-label"),
    "TIFF of signed bytes": (lambda: tiff(_339=2), "unreadable-label"),
    "PBM, whose zero is white": (lambda: b"P4\n32 24\n" + bytes(96), "unreadable-label"),
    "TIFF of two pages": (lambda: frames("TIFF"), "animated"),
    "bomb": (lambda: png(60000, 60000, 8, 0), "too-large"),
}  # fmt: skip
DEPTHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a text": (lambda: b"1.5 1.5 1.5", "unreadable-depth"),
    "RGB": (lambda: saved(PIXELS), "unreadable-depth"),
    "palette": (lambda: saved(Image.fromarray(GREY, "P")), "unreadable-depth"),
    "JPEG": (lambda: saved(GREY, "JPEG"), "unreadable-depth"),
    "PFM in colour": (lambda: pfm(DEPTH, magic=b"PF"), "unreadable-depth"),
    "cut PFM": (lambda: pfm(DEPTH)[:-9], "unreadable-depth"),
    "PFM of scale zero": (lambda: b"Pf\n2 2\n0\n" + bytes(16), "unreadable-depth"),
    "zeros": (lambda: saved(np.zeros((24, 32), np.uint16)), "empty-depth"),
    "not a number": (lambda: npy(DEPTH * np.nan), "empty-depth"),
    "negative": (lambda: npy(-DEPTH), "empty-depth"),
    "infinite": (lambda: pfm(DEPTH * np.inf), "empty-depth"),
    "objects": (lambda: npy(np.array([[{}]], object)), "unreadable-depth"),
    "text": (lambda: npy(np.array([["far"]])), "unreadable-depth"),
    "fields": (lambda: npy(np.zeros((2, 2), [("z", "f4"), ("é", "f4")])), "unreadable-depth"),
    "three axes": (lambda: npy(np.ones((2, 3, 4))), "unreadable-depth"),
    "complex": (lambda: npy(DEPTH.astype(complex)), "unreadable-depth"),
    "cut .npy": (lambda: npy(DEPTH)[:-9], "unreadable-depth"),
    "npz": (npz, "unreadable-depth"),
    ".npy header of 4 GB": (lambda: npy_header("{}", 2, 2**32 - 1), "unreadable-depth"),
    ".npy header of brackets": (lambda: npy_header("(" * 9000), "unreadable-depth"),
    ".npy header that calls": (lambda: npy_header("__import__('os').abort()"), "unreadable-depth"),
    ".npy without order": (lambda: npy_header("{'descr': '<f4', 'shape': (0, 0)}"), "unreadable-depth"),
    ".npy of a negative side": (
        lambda: npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}"), "unreadable-depth",
    ),
    ".npy bomb": (
        lambda: npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}"), "too-large",
    ),
    ".npy of wide items": (
        lambda: npy_header("{'descr': '|S2000000000', 'fortran_order': False, 'shape': (9, 9)}"), "unreadable-depth",
    ),
    "HDF5 of zeros": (lambda: hdf5(lambda f: f.create_dataset("depth", data=DEPTH * 0)), "empty-depth"),
    "HDF5 of two maps": (lambda: hdf5(lambda f: (f.update(a=DEPTH), f.update(b=DEPTH))), "unreadable-depth"),
    "HDF5 of none": (lambda: hdf5(lambda f: f.create_group("depth")), "unreadable-depth"),
    "HDF5 of text": (lambda: hdf5(lambda f: f.create_dataset("depth", data=[["far"]])), "unreadable-depth"),
    "HDF5 bomb": (lambda: hdf5(lambda f: f.create_dataset("depth", (10**6, 10**6), "f4", chunks=(9, 9))), "too-large"),
    "HDF5 of a giant chunk": (
        lambda: hdf5(lambda f: f.create_dataset("depth", (9, 9), "f4", maxshape=(None, None), chunks=(10**4, 10**4))),
        "unreadable-depth",
    ),
    "HDF5 chunk that inflates": (lambda: hdf5(inflating_chunk), "unreadable-depth"),
    "HDF5 in another file": (
        lambda: hdf5(lambda f: f.create_dataset("depth", (2, 2), "f4", external=[("/etc/passwd", 0, 16)])),
        "unreadable-depth",
    ),
    "HDF5 link to another file": (
        lambda: hdf5(lambda f: f.__setitem__("depth", h5py.ExternalLink("/etc/passwd", "/"))), "unreadable-depth",
    ),
    "HDF5 by an unknown filter": (
        lambda: hdf5(lambda f: f.create_dataset("depth", data=DEPTH, chunks=(24, 32), compression="lzf")),
        "unreadable-depth",
    ),
    "cut HDF5": (lambda: hdf5(lambda f: f.update(depth=DEPTH))[:-999], "unreadable-depth"),
    "TIFF of two pages": (lambda: frames("TIFF"), "animated"),
}  # fmt: skip
TABLE = {
    **{f"photograph: {case}": (decode_photograph, *row) for case, row in PHOTOGRAPHS.items()},
    **{f"labels: {case}": (decode_labels, *row) for case, row in LABELS.items()},
    **{f"depth: {case}": (decode_depth, *row) for case, row in DEPTHS.items()},
}


@pytest.mark.parametrize("case", TABLE)
def test_each_has_its_reason_and_a_sentence(case: str) -> None:
    decode, make, reason = TABLE[case]
    data = make()
    started = time.thread_time()
    with pytest.raises(SourceError) as caught:
        decode(data, "some/file.xyz")
    assert caught.value.reason == reason, str(caught.value)
    assert str(caught.value).startswith("some/file.xyz: ")
    assert "; " in str(caught.value), f"no advice in: {caught.value}"
    assert time.thread_time() - started < 2


WHOLE = {
    "PNG": saved(PIXELS),
    "palette": saved(Image.fromarray(PIXELS).quantize(64)),
    "grey": saved(GREY),
    "opaque alpha": saved(Image.fromarray(PIXELS).convert("RGBA")),
    "WebP": saved(PIXELS, "WEBP"),
    "GIF": saved(PIXELS, "GIF"),
    "BMP": saved(PIXELS, "BMP"),
    "PPM": saved(PIXELS, "PPM"),
    "TIFF": saved(PIXELS, "TIFF", compression="tiff_lzw"),
    "JPEG with a second view": frames("MPO"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_photographs_are_taken_whatever_their_name_says(kind: str) -> None:
    assert decode_photograph(WHOLE[kind], "some/file.jpg").shape == (24, 32, 3)
    assert picture_size(WHOLE[kind], "some/file.jpg") == (24, 32)


def test_a_tiff_with_a_smaller_copy_of_itself_is_one_picture() -> None:
    first, small = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::2, ::2].copy())
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[254] = 1
    small.encoderinfo = {"tiffinfo": info}
    data = saved(first, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(decode_photograph(data, "x"), PIXELS)


@pytest.mark.parametrize("top", [3, 12, 255, 300, 65535])
def test_labels_of_a_pgm_are_not_stretched(top: int) -> None:
    wide = top > 255
    values = GREY.astype(">u2" if wide else np.uint8)
    data = b"P5 # labels\n32 24\n%d\n" % top + values.tobytes()
    assert np.array_equal(decode_labels(data, "x"), GREY)


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_of_a_tiff_of_few_bits_are_not_stretched(bits: int) -> None:
    packed = np.packbits(np.unpackbits(GREY[..., None], axis=2)[..., -bits:].reshape(24, -1), axis=1).tobytes()
    data = tiff(_258=bits, _279=len(packed))
    assert np.array_equal(decode_labels(data[:8] + packed + data[8 + len(packed) :], "x"), GREY)


def test_the_pixel_limit_can_be_lowered_and_comes_back() -> None:
    with pixel_limit(24 * 32):
        assert decode_photograph(WHOLE["PNG"], "x").shape == (24, 32, 3)
    with pixel_limit(24 * 32 - 1):
        for decode, data in (
            (decode_photograph, WHOLE["PNG"]),
            (picture_size, WHOLE["PNG"]),
            (decode_labels, saved(GREY)),
            (decode_depth, npy(DEPTH)),
            (depth_size, npy(DEPTH)),
            (decode_depth, hdf5(lambda f: f.update(depth=DEPTH))),
        ):
            with pytest.raises(SourceError, match="767 pixels") as caught:
                decode(data, "x")
            assert caught.value.reason == "too-large"
    assert decode_photograph(WHOLE["PNG"], "x").shape == (24, 32, 3)
    for wrong in (0, -1, MAX_PIXELS + 1):
        with pytest.raises(InputError, match="max_pixels"), pixel_limit(wrong):
            pass


def test_refusing_bombs_takes_little_memory(tmp_path: Path) -> None:
    """In a process of its own: its peak resident memory, with all that is imported, stays under 512 MB."""
    bombs = [row[:2] for case, row in TABLE.items() if any(word in case for word in ("bomb", "giant", "inflates"))]
    for number, (decode, make) in enumerate(bombs):
        (tmp_path / f"{number} {decode.__name__}").write_bytes(make())
    assert len(bombs) >= 14
    program = """
import re, sys
from pathlib import Path
from zeuxis.storage import hdf5, images
from zeuxis.storage.errors import SourceError
for path in Path(sys.argv[1]).iterdir():
    try:
        getattr(images, path.name.split()[1])(path.read_bytes(), path)
        print("taken:", path)
    except SourceError:
        pass
child = hdf5._CHILD.process
most = [Path(f"/proc/{pid}/status").read_text() for pid in ("self", *([child.pid] if child else []))]
hdf5._CHILD.stop()
print(sum(int(re.search(r"VmHWM:\\s+(\\d+)", text)[1]) for text in most) // 1024)  # not of who forked it
"""
    run = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 512, f"{done.stdout.strip()} MB"


def test_a_flipped_bit_of_a_png_never_alters_a_class_id() -> None:
    data, source, same = saved(GREY.repeat(4, 0), compress_level=9), random.Random(1), 0
    for _ in range(600):
        at = source.randrange(33, len(data))
        try:
            found = decode_labels(data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :], "x")
        except SourceError:
            continue
        assert np.array_equal(found, GREY.repeat(4, 0))
        same += 1
    assert same < 30


def mutated(data: bytes, source: random.Random) -> bytes:
    """Bits flipped, cut short, cut out, doubled, or numbers set to the largest."""
    copy, at = bytearray(data), source.randrange(len(data))
    kind = source.randrange(5)
    if kind == 0:
        return bytes(copy[:at])
    if kind == 1:
        del copy[at : at + source.randrange(1, 99)]
    elif kind == 2:
        copy[at:at] = copy[source.randrange(len(data)) :][:99]
    elif kind == 3:
        copy[at : at + 4] = source.choice([b"\xff" * 4, b"\x7f" + b"\xff" * 3, bytes(4)])
    else:
        for _ in range(source.choice([1, 3, 30])):
            copy[source.randrange(source.choice([64, len(copy)])) % len(copy)] ^= 1 << source.randrange(8)
    return bytes(copy)


def test_whatever_is_done_to_a_file_only_a_source_error_comes_out() -> None:
    source, outcomes = random.Random(7), {"taken": 0, "refused": 0}
    arrays = [npy(DEPTH), pfm(DEPTH, ">"), hdf5(lambda f: f.create_dataset("depth", data=DEPTH, compression="gzip"))]
    files = [*WHOLE.values(), saved(PIXELS, "JPEG"), saved(GREY), saved(WIDE), saved(DEPTH, "TIFF"), *arrays]
    for _ in range(1200):
        data = mutated(source.choice(files), source)
        for decode in (decode_photograph, decode_labels, decode_depth, picture_size, depth_size):
            started = time.thread_time()
            try:
                decode(data, "x")
                outcomes["taken"] += 1
            except SourceError:
                outcomes["refused"] += 1
            assert time.thread_time() - started < 5
    assert min(outcomes.values()) > 1000, outcomes
