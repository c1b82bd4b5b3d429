"""The bytes of every value in the bank's blobs: a checked envelope, and the codecs of masks and crops.

A value is `magic | version | codec | length | crc32c | payload`. A segment is two of them, one behind the
other: its mask, readable alone, then its pixels.

The codecs were chosen by measurement: `benchmarks/codecs.py` over segments of 10 NYU and 7 CamVid photographs, in one
run on one core (bytes over those of the raw crop, milliseconds a segment; crops average 54 and 31 kB):

| crop, zeros outside the mask        | NYU    | encode | decode | CamVid | encode | decode |
|-------------------------------------|--------|--------|--------|--------|--------|--------|
| gradient predictor, zstd 1 (chosen) | 23.2 % |  0.195 |  0.087 | 24.0 % |  0.185 |  0.079 |
| gradient predictor, lz4             | 38.4 % |  0.137 |  0.052 | 36.2 % |  0.117 |  0.054 |
| left neighbour, zstd 1              | 26.0 % |  0.172 |  0.187 | 24.6 % |  0.165 |  0.154 |
| own pixels only, left, zstd 1       | 23.9 % |  0.307 |  0.337 | 22.4 % |  0.310 |  0.311 |
| PNG level 1, sub filter             | 32.6 % |  0.478 |  0.249 | 34.2 % |  0.451 |  0.230 |
| PNG level 1, run lengths            | 25.5 % |  0.678 |  0.349 | 32.6 % |  0.621 |  0.280 |
| WebP lossless                       | 18.7 % |   15.5 |  0.296 | 18.7 % |   11.6 |  0.245 |
| the JPEG, decoded and cut           |        |        |  1.192 |        |        |  0.929 |

The gradient predictor's inverse is a summed-area table, which OpenCV computes many values at a time; that makes it
the fastest of those that zstd packs, and small. Rows of packed bits in zstd take 9 and 14 % of a mask's bits and
0.03 and 0.02 ms to read; lz4 reads them in 0.006 ms and takes twice the bytes. Sealed, with both checksums, mask and
pixels together are read in 0.15 and 0.13 ms: 8.2 and 7.2 times faster than from the JPEG.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import crc32c
import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .cutting import cut_crop, runs_by_label
from .errors import DamagedBankError, InputError, sentence
from .images import MAX_PIXELS, Photograph
from .layouts import Runs

Mask = npt.NDArray[np.bool_]
"""`(h, w)` bool, True on a segment's own pixels."""


class Codec(IntEnum):
    """How a payload is to be read. Numbers are never reused."""

    RAW = 0
    """The bytes as they came: a source's encoded image, layout or depth."""
    MASK = 1
    """`height | width |` zstd of the mask's rows, each packed to whole bytes, first pixel in the highest bit."""
    PIXELS = 2
    """`height | width |` zstd of the planes G, R-G, B-G, one below the other, after the gradient predictor."""


VERSION = 1
_MAGIC = b"ZXV\x00"
_HEADER = struct.Struct("<4sBBII")  # magic, version, codec, bytes of payload, crc32c
_CHECKED = 10  # bytes of the header that the checksum covers, together with the payload
_SIZE = struct.Struct("<II")  # height, width
_ZSTD = pa.Codec("zstd", compression_level=1)
_KNOWN = frozenset(Codec)
_INTEGRAL_BYTES = (2**31 - 1) // 255  # cv2.integral adds up in int32


def seal(codec: Codec, payload: bytes) -> bytes:
    """The payload behind a header that lets `unseal` find any damage; at most 4 GiB, LMDB's own limit."""
    head = _HEADER.pack(_MAGIC, VERSION, codec, len(payload), 0)[:_CHECKED]
    return head + _checksum(head, payload).to_bytes(4, "little") + payload


def unseal(value: bytes | memoryview, name: str) -> tuple[Codec, memoryview]:
    """The codec and payload of a sealed value, checked.

    Args:
        value: what `seal` returned, read back.
        name: what the value is, for the message.

    Returns:
        The codec, and a view of the payload that lives as long as `value` does.

    Raises:
        DamagedBankError: anything but the very bytes that were sealed, or a version this zeuxis cannot read.
    """
    codec, payload, rest = _first(memoryview(value), name)
    _refuse_more(rest, name)
    return codec, payload


def checksums(value: bytes) -> bytes:
    """What tells a sealed segment from any other: codec, length and checksum of its mask and of its pixels."""
    length = _HEADER.size + int(_HEADER.unpack_from(value)[3])
    return value[: _HEADER.size] + value[length : length + _HEADER.size]


def check_value(value: bytes | memoryview, name: str) -> None:
    """Check a value, whatever it holds, without decoding it: a file as it came, or a whole segment.

    Raises:
        DamagedBankError: as `unseal`.
    """
    codec, payload, rest = _first(memoryview(value), name)
    if codec is Codec.MASK:
        _expect(Codec.PIXELS, unseal(rest, name), name)
    else:
        _expect(Codec.RAW, (codec, payload), name)
        _refuse_more(rest, name)


def encode_segment(pixels: Photograph, mask: Mask) -> bytes:
    """A segment's crop as one value: sealed mask, then sealed pixels.

    Args:
        pixels: `(h, w, 3)` uint8, the source's crop; what lies outside the mask is not kept.
        mask: `(h, w)` bool.

    Raises:
        InputError: the two differ in size, or hold no pixel at all.
    """
    if pixels.shape != (*mask.shape, 3) or not mask.size:
        raise InputError(
            sentence("segment", expected="pixels (h, w, 3) and mask (h, w)", found=f"{pixels.shape}, {mask.shape}")
        )
    mask = np.ascontiguousarray(mask)
    return _packed(np.packbits(mask, axis=1), _to_deltas(cv2.copyTo(pixels, mask.view(np.uint8))))


def encode_segments(
    image: Photograph, runs: Runs, labels: npt.NDArray[np.integer], boxes: npt.NDArray[np.integer]
) -> Iterator[bytes]:
    """Segments of a photograph, each as `encode_segment` has it, in three quarters of its time.

    Args:
        image: `(H, W, 3)` uint8 RGB; runs: of its label map, see `storage.cutting`.
        labels: `(n,)` of the segments, from 1; boxes: `(n, 4)`, their tight boxes: top, left, bottom, right.
    """
    heads, own = runs_by_label(*runs, int(runs[3].max(initial=0)))
    sizes = boxes[:, 2:].astype(np.int64) - boxes[:, :2]
    room = np.empty(3 * int(sizes.prod(axis=1).max(initial=0)), np.uint8)
    for label, (top, left), (height, width) in zip(labels, boxes[:, :2].tolist(), sizes.tolist(), strict=True):
        bits = np.zeros((height, -(-width // 8)), np.uint8)
        deltas = room[: 3 * height * width].reshape(3 * height, width)
        cut_crop(image, own[heads[label] : heads[label + 1]], top, left, bits, deltas)
        yield _packed(bits, deltas)


def _packed(bits: npt.NDArray[np.uint8], deltas: npt.NDArray[np.uint8]) -> bytes:
    size = _SIZE.pack(len(bits), deltas.shape[1])
    return seal(Codec.MASK, size + _ZSTD.compress(bits, asbytes=True)) + seal(
        Codec.PIXELS, size + _ZSTD.compress(deltas, asbytes=True)
    )


def decode_mask(value: bytes | memoryview, name: str) -> Mask:
    """The mask of an encoded segment, `(h, w)` bool; its pixels are neither read nor checked.

    Raises:
        DamagedBankError: as `unseal`.
    """
    payload = _expect(Codec.MASK, _first(memoryview(value), name)[:2], name)
    height, width = _size(payload, name)
    rows = _decompressed(payload, height * (-(-width // 8)), name).reshape(height, -1)
    return np.unpackbits(rows, axis=1, count=width).view(bool)


def decode_pixels(value: bytes | memoryview, name: str) -> Photograph:
    """The crop of an encoded segment, `(h, w, 3)` uint8: the source's bytes inside the mask, 0 outside.

    Raises:
        DamagedBankError: as `unseal`; the mask's payload is passed over unchecked.
    """
    view = memoryview(value)
    _, length, _ = _opened(view, name)
    payload = _expect(Codec.PIXELS, unseal(view[_HEADER.size + length :], name), name)
    height, width = _size(payload, name)
    return _from_deltas(_decompressed(payload, 3 * height * width, name).reshape(3 * height, width))


def _to_deltas(crop: Photograph) -> npt.NDArray[np.uint8]:
    """`(3h, w)`: colours decorrelated, each value less what its left, upper and upper-left neighbours predict.

    All arithmetic is modulo 256, so nothing is lost, and the inverse is a sum over all values left and above.
    """
    red, green, blue = cv2.split(crop)
    planes = np.concatenate([green, red - green, blue - green])
    planes[:, 1:] -= planes[:, :-1].copy()
    planes[1:] -= planes[:-1].copy()
    return planes


def _from_deltas(deltas: npt.NDArray[np.uint8]) -> Photograph:
    """The inverse of `_to_deltas`, by summed-area tables over bands of rows short enough not to overflow."""
    planes = np.empty_like(deltas)
    band = max(1, _INTEGRAL_BYTES // deltas.shape[1])
    for top in range(0, len(deltas), band):
        part = planes[top : top + band]
        part[:] = cv2.integral(deltas[top : top + band], sdepth=cv2.CV_32S)[1:, 1:]
        if top:
            part += planes[top - 1]
    green, red, blue = planes.reshape(3, -1, deltas.shape[1])
    red += green
    blue += green
    crop: Photograph = cv2.merge((red, green, blue))
    return crop


def _opened(view: memoryview, name: str) -> tuple[Codec, int, int]:
    """Codec, payload length and checksum from a header that makes sense."""
    if view.nbytes < _HEADER.size:
        raise _damaged(name, f"{view.nbytes} bytes are too few for a value")
    magic, version, codec, length, checksum = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise _damaged(name, f"starts with {magic!r} and not with {_MAGIC!r}")
    if version != VERSION:
        raise _damaged(name, f"its format version {version} is not the {VERSION} that this zeuxis reads")
    if codec not in _KNOWN:
        raise _damaged(name, f"its codec {codec} is unknown")
    if length > view.nbytes - _HEADER.size:
        raise _damaged(name, f"cut short, {view.nbytes - _HEADER.size:,} bytes are left of {length:,}")
    return Codec(codec), length, checksum


def _first(view: memoryview, name: str) -> tuple[Codec, memoryview, memoryview]:
    """Codec and payload of the sealed value at the start, its checksum verified, and what follows it."""
    codec, length, checksum = _opened(view, name)
    payload = view[_HEADER.size : _HEADER.size + length]
    if _checksum(view[:_CHECKED], payload) != checksum:
        raise _damaged(name, "its checksum does not match")
    return codec, payload, view[_HEADER.size + length :]


def _refuse_more(rest: memoryview, name: str) -> None:
    if rest.nbytes:
        raise _damaged(name, f"{rest.nbytes:,} bytes follow its end")


def _checksum(head: bytes | memoryview, payload: bytes | memoryview) -> int:
    return int(crc32c.crc32c(payload, crc32c.crc32c(head)))


def _expect(codec: Codec, found: tuple[Codec, memoryview], name: str) -> memoryview:
    if found[0] is not codec:
        raise _damaged(name, f"holds {found[0].name} where {codec.name} should stand")
    return found[1]


def _size(payload: memoryview, name: str) -> tuple[int, int]:
    """Height and width, both at least 1."""
    if payload.nbytes < _SIZE.size:
        raise _damaged(name, "holds no size")
    height, width = _SIZE.unpack_from(payload)
    if not 0 < height * width <= MAX_PIXELS:
        raise _damaged(name, f"its size {height}x{width} cannot be")
    return height, width


def _decompressed(payload: memoryview, size: int, name: str) -> npt.NDArray[np.uint8]:
    """What stands behind the size, which must come to exactly `size` bytes."""
    try:
        data = _ZSTD.decompress(payload[_SIZE.size :], size)
    except (OSError, ValueError) as error:  # what Arrow raises, also where the sizes differ
        raise _damaged(name, f"cannot be decompressed ({error})") from error
    return np.frombuffer(data, np.uint8)


def _damaged(name: str, message: str) -> DamagedBankError:
    return DamagedBankError(sentence(name, message, fix="run `zeuxis repair`"))
