"""`images`: mutated photographs, label maps and depth maps through the decoders, in processes that may die."""

from __future__ import annotations

import io
import random
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from zeuxis.storage.errors import SourceError
from zeuxis.storage.images import decode_depth, decode_labels, decode_photograph, picture_size

from . import Outcome
from .forks import DONE, forked

INPUTS, QUICK = 20_000, 300
BATCH = 100
EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00")
SECONDS = 5
"""An input that takes longer hangs."""
MEMORY = 4 << 30
"""Bytes that a process may take, so that what would eat the machine is an error of its own."""
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "photograph": lambda data: (picture_size(data, "it"), decode_photograph(data, "it")),
    "label map": lambda data: decode_labels(data, "it"),
    "depth map": lambda data: decode_depth(data, "it"),
}


def run(quick: bool) -> Outcome:
    """Every input is decoded or refused with a reason: no death, no hang, no other error."""
    inputs = QUICK if quick else INPUTS
    originals = samples()
    counts: dict[str, Counter[str]] = {name: Counter() for name in DECODERS}
    failures: list[str] = []
    first = 0
    while first < inputs:
        batch = range(first, min(first + BATCH, inputs))
        done = _batch(originals, batch)
        for number, decoder, how in done:
            counts[decoder][how if how in ("decoded", "rejected") else "wrong"] += 1
            if how not in ("decoded", "rejected"):
                failures.append(f"input {number}, a {decoder}: {how}")
        first = batch.stop
    rows = [
        {"input": name, "mutated": sum(each.values()), **{how: each[how] for how in ("decoded", "rejected", "wrong")}}
        for name, each in counts.items()
    ]
    return Outcome(rows, failures)


def _batch(originals: dict[str, list[bytes]], numbers: range) -> list[tuple[int, str, str]]:
    """Ends of some inputs; where a process dies or hangs, each is tried alone. Together they have the time of one."""
    end = forked(lambda: [_tried(originals, number) for number in numbers], seconds=SECONDS)
    if end.how == DONE:
        return [tuple(each) for each in end.said]
    found = []
    for number in numbers:
        alone = forked(partial(_tried, originals, number), seconds=SECONDS)
        found.append(tuple(alone.said) if alone.how == DONE else (number, _decoder(number), f"the process {alone.how}"))
    return found


def _tried(originals: dict[str, list[bytes]], number: int) -> tuple[int, str, str]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    decoder = _decoder(number)
    data = mutated(originals[decoder], random.Random(number))
    try:
        DECODERS[decoder](data)
    except SourceError:
        return number, decoder, "rejected"
    except Exception as error:
        return number, decoder, f"{type(error).__name__}: {error}"[:200]
    return number, decoder, "decoded"


def _decoder(number: int) -> str:
    return list(DECODERS)[number % len(DECODERS)]


def mutated(originals: list[bytes], drawn: random.Random) -> bytes:
    """One of some files after one to four mutations."""
    data = bytearray(drawn.choice(originals))
    for _ in range(drawn.randint(1, 4)):
        _mutate(data, originals, drawn)
    return bytes(data)


def _mutate(data: bytearray, originals: list[bytes], drawn: random.Random) -> None:
    if not data:
        return
    place = drawn.randrange(min(len(data), drawn.choice((64, 1 << 30))))  # headers are where harm is done
    length = drawn.randint(1, 64)
    kind = drawn.randrange(7)
    if kind == 0:
        data[place] ^= 1 << drawn.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        data[place : place + length] = drawn.randbytes(length)
    elif kind == 3:
        data[place : place + 4] = drawn.choice(
            (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00")
        )
    elif kind == 4:
        del data[place : place + length]
    elif kind == 5:
        data[place:place] = data[place : place + length]
    else:
        other = drawn.choice(originals)
        start = drawn.randrange(len(other))
        data[place : place + length] = other[start : start + length]


def samples() -> dict[str, list[bytes]]:
    """Small files of every format and kind of picture that the decoders take."""
    random_ = np.random.default_rng(0)
    rgb = random_.integers(0, 256, (40, 56, 3), np.uint8)
    indices = np.kron(random_.integers(0, 5, (5, 7)), np.ones((8, 8), np.int64)).astype(np.uint8)
    palette = Image.fromarray(indices)
    palette.putpalette(random_.integers(0, 256, 768).tolist())
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph, deep = Image.fromarray(rgb), Image.fromarray(indices.astype(np.uint16) * 257)
    photographs = [_saved(photograph, kind) for kind in ("PNG", "WEBP", "BMP", "PPM")]
    photographs += [_saved(photograph, "JPEG", quality=80, exif=exif), _saved(photograph, "JPEG", progressive=True)]
    photographs += [
        _saved(photograph, "TIFF", compression=how) for how in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    ]
    photographs += [_saved(photograph.convert("CMYK"), "JPEG"), _saved(photograph.convert("RGBA"), "PNG")]
    photographs += [_saved(photograph, "WEBP", lossless=True), _saved(photograph.convert("L"), "JPEG")]
    labels = [
        _saved(palette, "PNG"),
        _saved(Image.fromarray(indices), "PNG"),
        _saved(deep, "PNG"),
        _saved(deep, "TIFF"),
    ]
    labels += [
        _saved(photograph, "PNG"),
        _saved(Image.fromarray(indices), "BMP"),
        _saved(Image.fromarray(indices), "WEBP", lossless=True),
    ]
    depth = random_.uniform(0, 9, (20, 30)).astype(np.float32)
    depths = [_saved(deep, "PNG"), _array(depth), _array(depth.astype(np.float64)), _array(indices)]
    depths.append(b"Pf\n30 20\n-1.0\n" + depth.tobytes())
    return {"photograph": photographs, "label map": labels, "depth map": depths}


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def _array(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()
