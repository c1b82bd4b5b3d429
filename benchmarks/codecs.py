"""What a segment's crop and mask cost in each codec: size, encoding and decoding, beside cutting its JPEG."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeuxis.storage.classes import VOID
from zeuxis.storage.codec import decode_mask, decode_pixels, encode_segment
from zeuxis.storage.images import decode_labels, decode_photograph
from zeuxis.storage.layouts import areas_and_boxes, find_components

MIN_PIXELS = 100
REPEATS = 3
DATASETS = {"nyu": ("nyu", 39, 120), "camvid": ("camvid/train", 11, 60)}
"""Name to folder, native id of void, and every how many photographs one is taken."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Segment:
    """A crop `(h, w, 3)` uint8 with its mask `(h, w)` bool, and the JPEG it is cut from with its place there."""

    crop: Array
    mask: Array
    jpeg: bytes
    place: tuple[slice, slice]


Encode = Callable[[Segment], bytes]
Decode = Callable[[bytes, Segment], Array]
Method = tuple[Encode, Decode]


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a set of segments and codec, all measured in one run on one thread.

    Args:
        quick: a few generated segments only.
        data: the folder that holds `nyu/` and `camvid/`, or `None` for generated segments.

    Returns:
        Rows of `segments` (the set), `codec`, `share` (bytes over those of the raw crop, or of the mask's bits),
        `encode_ms` and `decode_ms` (mean over the segments, median over the repeats).
    """
    if quick or data is None:
        sets = {"generated": _generated(2 if quick else 20)}
    else:
        sets = {name: _real(data / folder, void, step) for name, (folder, void, step) in DATASETS.items()}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return [
            _row(name, segments, codec, method, 1 if quick else REPEATS)
            for name, segments in sets.items()
            for codec, method in (_pixel_methods() | _mask_methods()).items()
        ]
    finally:
        cv2.setNumThreads(threads)


def _row(name: str, segments: list[Segment], codec: str, method: Method, repeats: int) -> dict[str, Any]:
    encode, decode = method
    values, encode_ms = _timed(encode, [(segment,) for segment in segments], repeats)
    found, decode_ms = _timed(decode, list(zip(values, segments, strict=True)), repeats)
    of_mask = codec.startswith("mask")
    for array, segment in zip(found, segments, strict=True):
        if encode is not _jpeg and not np.array_equal(array, segment.mask if of_mask else _masked(segment)):
            raise AssertionError(f"{codec} is not lossless")
    raw = sum(segment.mask.size / 8 if of_mask else segment.crop.size for segment in segments)
    share = sum(map(len, values)) / raw
    return {"segments": name, "codec": codec, "share": share, "encode_ms": encode_ms, "decode_ms": decode_ms}


def _timed(call: Callable[..., Any], arguments: list[tuple[Any, ...]], repeats: int) -> tuple[list[Any], float]:
    """Results, and milliseconds a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        results = [call(*each) for each in arguments]
        times.append((time.perf_counter() - start) * 1000 / len(arguments))
    return results, median(times)


def _pixel_methods() -> dict[str, Method]:
    zstd, lz4 = pa.Codec("zstd", compression_level=1), pa.Codec("lz4_raw")
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return {
        "the bank's: mask and pixels, sealed": (_encode_bank, _decode_bank),
        "gradient, zstd": _planes(zstd, _gradient, _summed),
        "gradient, lz4": _planes(lz4, _gradient, _summed),
        "gradient, zstd, box not masked": _planes(zstd, _gradient, _summed, whole_box=True),
        "left, zstd": _planes(zstd, lambda planes: _less(planes, 1), lambda planes: _accumulated(planes, 1)),
        "up, zstd": _planes(zstd, lambda planes: _less(planes, 0), lambda planes: _accumulated(planes, 0)),
        "own pixels in a row, left, zstd": _own_pixels(zstd),
        "PNG 1, sub filter": _opencv(".png", [*level, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]),
        "PNG 1, run lengths": _opencv(".png", [*level, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]),
        "WebP lossless": _opencv(".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        "no codec: the whole JPEG, decoded and cut": (_jpeg, _cut),
    }


def _mask_methods() -> dict[str, Method]:
    zstd, lz4 = pa.Codec("zstd", compression_level=1), pa.Codec("lz4_raw")
    return {
        "mask: rows of bits, zstd": _bits(zstd),
        "mask: rows of bits, lz4": _bits(lz4),
        "mask: bytes, zstd": _bytes(zstd),
        "mask: run lengths, zstd": _runs(zstd),
        "mask: PNG of one bit": (
            lambda s: _imencoded(".png", s.mask.view(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1]),
            lambda value, s: cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_GRAYSCALE) > 0,
        ),
    }


def _encode_bank(segment: Segment) -> bytes:
    return encode_segment(segment.crop, segment.mask)


def _decode_bank(value: bytes, segment: Segment) -> Array:
    decode_mask(value, "segment")
    return decode_pixels(value, "segment")


def _jpeg(segment: Segment) -> bytes:
    return segment.jpeg


def _cut(jpeg: bytes, segment: Segment) -> Array:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return cv2.copyTo(image[segment.place], segment.mask.view(np.uint8))


def _masked(segment: Segment) -> Array:
    return cv2.copyTo(segment.crop, segment.mask.view(np.uint8))


def _opencv(suffix: str, parameters: list[int]) -> Method:
    def decode(value: bytes, segment: Segment) -> Array:
        return cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)

    return lambda segment: _imencoded(suffix, _masked(segment), parameters), decode


def _imencoded(suffix: str, array: Array, parameters: list[int]) -> bytes:
    return cv2.imencode(suffix, array, parameters)[1].tobytes()


def _planes(
    codec: Any, predicted: Callable[[Array], Array], inverse: Callable[[Array], Array], whole_box: bool = False
) -> Method:
    """Planes G, R-G, B-G one below the other, what a predictor leaves of them, compressed."""

    def encode(segment: Segment) -> bytes:
        red, green, blue = cv2.split(segment.crop if whole_box else _masked(segment))
        deltas = predicted(np.concatenate([green, red - green, blue - green]))
        return codec.compress(deltas, asbytes=True)

    def decode(value: bytes, segment: Segment) -> Array:
        height, width = segment.mask.shape
        deltas = np.frombuffer(codec.decompress(value, 3 * height * width), np.uint8)
        green, red, blue = inverse(deltas.reshape(3 * height, width)).reshape(3, height, width)
        crop = cv2.merge((red + green, green, blue + green))
        return cv2.copyTo(crop, segment.mask.view(np.uint8)) if whole_box else crop

    return encode, decode


def _less(planes: Array, axis: int) -> Array:
    return np.diff(planes, axis=axis, prepend=np.uint8(0))


def _accumulated(deltas: Array, axis: int) -> Array:
    return np.add.accumulate(deltas, axis=axis, dtype=np.uint8)


def _gradient(planes: Array) -> Array:
    return _less(_less(planes, 0), 1)


def _summed(deltas: Array) -> Array:
    return cv2.integral(deltas, sdepth=cv2.CV_32S)[1:, 1:].astype(np.uint8)


def _own_pixels(codec: Any) -> Method:
    """The mask's pixels only, in raster order, each less the one before."""

    def encode(segment: Segment) -> bytes:
        red, green, blue = segment.crop[segment.mask].T
        return codec.compress(_less(np.stack([green, red - green, blue - green]), 1), asbytes=True)

    def decode(value: bytes, segment: Segment) -> Array:
        count = int(np.count_nonzero(segment.mask))
        deltas = np.frombuffer(codec.decompress(value, 3 * count), np.uint8).reshape(3, count)
        green, red, blue = _accumulated(deltas, 1)
        crop = np.zeros_like(segment.crop)
        crop[segment.mask] = np.stack([red + green, green, blue + green], axis=1)
        return crop

    return encode, decode


def _bits(codec: Any) -> Method:
    def decode(value: bytes, segment: Segment) -> Array:
        height, width = segment.mask.shape
        rows = np.frombuffer(codec.decompress(value, height * (-(-width // 8))), np.uint8)
        return np.unpackbits(rows.reshape(height, -1), axis=1, count=width).view(bool)

    return lambda segment: codec.compress(np.packbits(segment.mask, axis=1), asbytes=True), decode


def _bytes(codec: Any) -> Method:
    def decode(value: bytes, segment: Segment) -> Array:
        return np.frombuffer(codec.decompress(value, segment.mask.size), bool).reshape(segment.mask.shape)

    return lambda segment: codec.compress(segment.mask, asbytes=True), decode


def _runs(codec: Any) -> Method:
    def encode(segment: Segment) -> bytes:
        turns = np.flatnonzero(np.diff(segment.mask.ravel(), prepend=False))
        runs = np.diff(turns, prepend=0).astype(np.uint32)
        return len(runs).to_bytes(4, "little") + codec.compress(runs, asbytes=True)

    def decode(value: bytes, segment: Segment) -> Array:
        size = 4 * int.from_bytes(value[:4], "little")
        turns = np.zeros(segment.mask.size, np.uint8)
        turns[np.frombuffer(codec.decompress(value[4:], size), np.uint32).cumsum()] = 1
        return np.bitwise_xor.accumulate(turns).reshape(segment.mask.shape).view(bool)

    return encode, decode


def _generated(pictures: int) -> list[Segment]:
    """Segments of smooth, slightly noisy pictures cut into blobs, the same every time."""
    rng = np.random.default_rng(0)
    segments: list[Segment] = []
    for _ in range(pictures):
        picture = cv2.resize(rng.integers(0, 256, (15, 20, 3)).astype(np.uint8), (320, 240))
        picture = cv2.add(picture, rng.integers(0, 6, picture.shape).astype(np.uint8))
        layout = (cv2.resize(rng.random((6, 8)), (320, 240)) * 5).astype(np.uint16)
        jpeg = _imencoded(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        segments += _cut_out(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), layout, jpeg)
    return segments


def _real(root: Path, void: int, step: int) -> list[Segment]:
    segments: list[Segment] = []
    for path in sorted((root / "images").iterdir())[::step]:
        jpeg, label = path.read_bytes(), root / "labels" / f"{path.stem}.png"
        layout = decode_labels(label.read_bytes(), label).astype(np.uint16)
        layout[layout == void] = VOID
        segments += _cut_out(decode_photograph(jpeg, path), layout, jpeg)
    return segments


def _cut_out(image: Array, layout: Array, jpeg: bytes) -> Iterator[Segment]:
    labels = find_components(layout).labels
    areas, boxes = areas_and_boxes(labels, int(labels.max()))
    for i in np.flatnonzero(areas >= MIN_PIXELS):
        top, left, bottom, right = boxes[i].tolist()
        place = np.s_[top:bottom, left:right]
        yield Segment(np.ascontiguousarray(image[place]), labels[place] == i + 1, jpeg, place)
