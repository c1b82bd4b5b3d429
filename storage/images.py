"""Bytes of photographs, label maps and depth maps to arrays, refusing whatever is not whole or would be a guess.

Pillow decodes: it raises on truncated data, where others hand back a half-grey picture, and it reads a
palette image as the indices it holds. What it would change without a word is refused by name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .depth_arrays import array_shape, is_array, read_array
from .errors import InputError, SourceError, sentence

Photograph = npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8 RGB."""

Depth = npt.NDArray[np.float32]
"""`(H, W)` float32 metres, larger is farther; 0 where unknown."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
MAX_PIXELS = 1 << 27
"""Pictures with more pixels are refused before they are decoded (16,384 x 8,192)."""

ENCODED_METRES_PER_UNIT = 1 / 256
"""What one unit of a map that `encode_depth` wrote is worth, metres."""

_INDEX_MODES = {"1": np.uint8, "L": np.uint8, "P": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32}
_PHOTOGRAPH_MODES = {"1", "L", "P", "RGB", "RGBX", "YCbCr", "LA", "PA", "RGBA"}
_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L"}
_LOSSY_FORMATS = {"JPEG", "MPO"}
_MAX_PAGES = 64  # of a TIFF that are looked at for a second picture

# The numbers of TIFF's tags (TIFF 6.0, section 8).
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 258, 259, 262
_TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 322, 323, 339

_limit = MAX_PIXELS


@contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Lowers, within the `with`, the number of pixels beyond which pictures of this process are refused.

    Args:
        max_pixels: 1 to `MAX_PIXELS`; None leaves the limit as it is.

    Raises:
        InputError: a number outside that range.
    """
    global _limit
    if max_pixels is not None and not 1 <= max_pixels <= MAX_PIXELS:
        raise InputError(sentence("max_pixels", expected=f"1 to {MAX_PIXELS:,}", found=repr(max_pixels)))
    before, _limit = _limit, max_pixels or _limit
    try:
        yield
    finally:
        _limit = before


def decode_photograph(data: bytes, name: str | Path) -> Photograph:
    """An encoded photograph as `(H, W, 3)` uint8 RGB, turned upright by its EXIF orientation.

    Grey and palette pictures become RGB, and of a JPEG that carries further pictures (a gain map, the other eye's
    view) the first one is the photograph. What has no one right 8-bit RGB picture is refused: CMYK without its colour
    profile's device, more than 8 bits, more than one frame, transparency.

    Raises:
        SourceError: `unreadable-image` for what is no whole picture of a known format, `too-large`, `cmyk`,
            `not-8-bit`, `animated`, `transparent`.
    """
    with _opened(data, name, "unreadable-image") as picture:
        fault = _photograph_fault(picture, data)
        if fault:
            reason, found, fix = fault
            raise SourceError(
                reason, sentence(name, expected="a photograph of 8 bits in RGB or grey", found=found, fix=fix)
            )
        upright = ImageOps.exif_transpose(picture) if _orientation(picture) != 1 else picture
        return np.array(upright.convert("RGB"))


def decode_labels(data: bytes, name: str | Path) -> npt.NDArray[np.integer]:
    """An encoded label map: `(H, W)` integer indices, or `(H, W, 3)` uint8 where it is an RGB picture.

    A palette-mode picture is read as its indices. 16-bit indices stay 16-bit, few-bit ones are not stretched to
    0..255. Lossy pictures are refused: they alter indices.

    Raises:
        SourceError: `unreadable-label` for what is no whole picture, or holds neither indices nor RGB; `too-large`,
            `animated`.
    """
    with _opened(data, name, "unreadable-label") as picture:
        if _is_lossy(picture, data):
            raise SourceError(
                "unreadable-label",
                sentence(
                    name,
                    expected="a label map in a lossless format",
                    found=f"a {picture.format} with lossy compression, which alters class ids",
                    fix="save it as PNG from the original labels",
                ),
            )
        if picture.mode in _INDEX_MODES:
            indices: npt.NDArray[np.integer] = _stored_values(picture, data, name, "unreadable-label")
            return indices
        if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
            return np.array(picture.convert("RGB"))
        if picture.mode == "RGB" and not _is_deep(picture, data):
            return np.array(picture)
        raise SourceError(
            "unreadable-label",
            sentence(
                name,
                expected="class indices or an RGB palette picture",
                found=f"a picture of mode {picture.mode}" + " with 16 bits a channel" * _is_deep(picture, data),
                fix="save it as an 8- or 16-bit index PNG",
            ),
        )


def decode_depth(data: bytes, name: str | Path, metres_per_unit: float = 1.0) -> Depth:
    """A depth map in metres from a picture (8- or 16-bit grey, float TIFF or PFM), a `.npy` or an HDF5 file.

    Values that are not finite or not positive become 0: unknown. See `read_array` for what is taken from HDF5.

    Raises:
        SourceError: `unreadable-depth` for anything else, `empty-depth` where nothing is known, `too-large`,
            `animated`.
    """
    values = depth_values(data, name)
    with np.errstate(invalid="ignore", over="ignore"):
        depth = values.astype(np.float32) * np.float32(metres_per_unit)
        if values.dtype.kind != "u" or not np.isfinite(depth.max(initial=0)):  # else none is what is taken out
            depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return known_depth(depth, name)


def known_depth(depth: Depth, name: str | Path) -> Depth:
    """The depth map, if anything in it is known.

    Raises:
        SourceError: `empty-depth`.
    """
    if not depth.any():
        said = sentence(
            name,
            expected="a depth map with some known depths",
            found="none, all are zero, negative or not finite",
            fix="correct it or remove it, then its source has no depth",
        )
        raise SourceError("empty-depth", said)
    return depth


def depth_values(data: bytes, name: str | Path) -> npt.NDArray[np.generic]:
    """The `(H, W)` numbers of an encoded depth or disparity map, in whatever unit they were written.

    Raises:
        SourceError: `unreadable-depth`, `too-large`, `animated`.
    """
    if is_array(data):
        values = read_array(data, name, _limit)
        fault = "" if values.ndim == 2 and values.dtype.kind in "uif" else f"shape {values.shape} of {values.dtype}"
    else:
        with _opened(data, name, "unreadable-depth") as picture:
            fault = "" if picture.mode in ("L", *_DEEP_MODES) else f"a picture of mode {picture.mode}"
            fault = fault or f"a lossy {picture.format}" * _is_lossy(picture, data)
            values = np.empty(0) if fault else _stored_values(picture, data, name, "unreadable-depth")
    if fault:
        raise SourceError(
            "unreadable-depth",
            sentence(
                name,
                expected="a depth map with one number a pixel",
                found=fault,
                fix="save it as a 16-bit PNG or a two-dimensional .npy array",
            ),
        )
    return values


def disparity_to_depth(disparity: npt.NDArray[np.floating], baseline_m: float, focal_px: float) -> Depth:
    """Metres from a stereo pair's disparity: baseline x focal length / disparity.

    Args:
        disparity: `(H, W)` pixels of the map's own resolution; unknown where not finite or not positive.
        baseline_m: distance of the two cameras, metres, above 0.
        focal_px: focal length in pixels of the same resolution, above 0.

    Returns:
        `(H, W)` float32 metres, 0 where unknown.
    """
    known = np.isfinite(disparity) & (disparity > 0)
    depth = np.zeros(disparity.shape, np.float32)
    with np.errstate(over="ignore"):
        np.divide(np.float32(baseline_m * focal_px), disparity, out=depth, where=known, casting="same_kind")
    depth[~np.isfinite(depth)] = 0
    return depth


def encode_depth(depth: Depth) -> bytes:
    """A depth map as a 16-bit PNG in units of `ENCODED_METRES_PER_UNIT`, which `decode_depth` takes.

    Args:
        depth: `(H, W)` metres; what is not finite or not positive is written as 0, unknown. What is known stays known:
            farther than 255.99 m is written as that, nearer than one unit as one unit.
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0)
        units = np.clip(np.rint(depth / ENCODED_METRES_PER_UNIT), 1, 65535)
    buffer = io.BytesIO()
    Image.fromarray(np.where(known, units, 0).astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def depth_size(data: bytes, name: str | Path) -> tuple[int, ...]:
    """`(height, width)` of what `decode_depth` takes, from its header alone.

    Raises:
        SourceError: `unreadable-depth`, `too-large`.
    """
    if is_array(data):
        return array_shape(data, name, _limit)
    return picture_size(data, name, "unreadable-depth")


def picture_size(data: bytes, name: str | Path, reason: str = "unreadable-image") -> tuple[int, int]:
    """`(height, width)` from the header alone, after the EXIF orientation.

    Raises:
        SourceError: `reason` where there is no such header, `too-large`.
    """
    with _opened(data, name, reason, load=False) as picture:
        width, height = picture.size
        return (width, height) if _orientation(picture) >= 5 else (height, width)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read.

    The format's own `getexif` decodes all of a PNG that has none in front of its pixels; the base's reads the header.
    """
    try:
        return int(Image.Image.getexif(picture).get(0x0112, 1))
    except Exception:  # Pillow's parsers raise many kinds on damaged data
        return 1


def _photograph_fault(picture: Image.Image, data: bytes) -> tuple[str, str, str] | None:
    """Reason, what was found and what to do, where a picture is no 8-bit RGB or grey photograph."""
    if picture.mode == "CMYK":
        return "cmyk", "CMYK, whose colours depend on a printer", "convert it to RGB by its colour profile"
    if _is_deep(picture, data):
        return "not-8-bit", f"more than 8 bits a channel (mode {picture.mode})", "develop it to 8 bits a channel"
    if picture.mode not in _PHOTOGRAPH_MODES:
        return "unreadable-image", f"a picture of mode {picture.mode}", "convert it to RGB"
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        return "transparent", "transparent pixels, whose colours nobody sees", "put it on a background"
    return None


def _is_deep(picture: Image.Image, data: bytes) -> bool:
    """Whether the file holds more than 8 bits a channel; Pillow hands some of them out as 8."""
    if picture.format == "PNG":
        return data[24] == 16
    if picture.format == "TIFF":
        return max(_tag(picture, _BITS, (1,))) > 8
    return picture.mode in _DEEP_MODES or (picture.format == "PPM" and _ppm_top(data) > 255)


def _is_lossy(picture: Image.Image, data: bytes) -> bool:
    """Whether the format has altered values; of WebP and TIFF that depends on the file."""
    if picture.format == "WEBP":
        return b"VP8 " in (data[12:16], data[30:34])
    if picture.format == "TIFF":
        return _tag(picture, _COMPRESSION, (1,))[0] in (6, 7, 34892, 50001, 50002)
    return picture.format in _LOSSY_FORMATS


def _stored_values(picture: Image.Image, data: bytes, name: str | Path, reason: str) -> npt.NDArray[Any]:
    """The numbers of a one-channel picture as they were written: Pillow stretches few bits and turns white zeros."""
    tags = picture.format == "TIFF"
    white_zero = tags and _tag(picture, _PHOTOMETRIC, (1,))[0] == 0
    signed = tags and picture.mode == "L" and _tag(picture, _SAMPLE_FORMAT, (1,))[0] == 2
    if white_zero or signed or (picture.format == "PPM" and picture.mode == "1"):
        found = "signed 8-bit numbers" if signed else "a picture whose zero is white"
        raise SourceError(
            reason, sentence(name, expected="plain numbers", found=found, fix="save it as an 8- or 16-bit PNG")
        )
    values = np.array(picture)
    if picture.mode in _INDEX_MODES:
        values = values.astype(_INDEX_MODES[picture.mode])
    bits = data[24] if picture.format == "PNG" else _tag(picture, _BITS, (8,))[0] if tags else 8
    if picture.mode == "L" and bits in (2, 4):
        values //= {2: 85, 4: 17}[bits]
    if picture.format == "PPM" and picture.mode in ("L", "I"):
        top = 255 if picture.mode == "L" else 65535
        values = np.rint(values * (_ppm_top(data) / top)).astype(values.dtype)
    return values


def _ppm_top(data: bytes) -> int:
    """The largest value that a PGM or PPM header announces; 1 for the other kinds of that family."""
    if data[:2] in (b"P1", b"P4", b"Pf"):
        return 1
    header = [line.partition(b"#")[0] for line in data[2:4096].splitlines()]
    return int(b" ".join(header).split()[2])


def _tag(picture: Any, number: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """A tag of a TIFF, always as a tuple."""
    value = picture.tag_v2.get(number, default)
    return value if isinstance(value, tuple) else (value,)


def _opened(data: bytes, name: str | Path, reason: str, load: bool = True) -> Image.Image:
    """A Pillow image whose header is known to be sane and whose data is whole."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, which are refused here, and of strange metadata
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_extent(picture, name)
            if load:
                _check_single(picture, name)
                if picture.format == "PNG":
                    Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # all checksums, which decoding does not
                picture.load()
        return picture
    except Image.DecompressionBombError as error:  # Pillow's own limit, of about 179 million pixels
        raise SourceError(
            "too-large", sentence(name, expected=f"at most {_limit:,} pixels", found="more", fix="make it smaller")
        ) from error
    except UnidentifiedImageError as error:
        what = "an empty file" if not data else f"{len(data):,} bytes that start with {data[:4]!r}"
        raise SourceError(
            reason,
            sentence(name, expected="a picture (" + ", ".join(FORMATS) + ")", found=what, fix="replace the file"),
        ) from error
    except SourceError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data
        raise SourceError(
            reason,
            sentence(name, f"cannot be decoded ({error})", fix="replace the file: it is cut short or damaged"),
        ) from error


def _check_extent(picture: Image.Image, name: str | Path) -> None:
    """That neither the picture nor a tile of it, which is unpacked whole, has more pixels than it may."""
    width, height = picture.size
    tile = 0
    if picture.format == "TIFF":
        tile = _tag(picture, _TILE_WIDTH, (0,))[0] * _tag(picture, _TILE_LENGTH, (0,))[0]
    if width * height > _limit or tile > 4 * width * height + (1 << 20):
        found = f"{width}x{height}" + f" in tiles of {tile:,} pixels" * (tile > 0)
        raise SourceError(
            "too-large", sentence(name, expected=f"at most {_limit:,} pixels", found=found, fix="make it smaller")
        )


def _check_single(picture: Image.Image, name: str | Path) -> None:
    """That a file holds one picture; smaller copies of it and masks, as TIFFs carry, do not count."""
    if picture.format in ("PNG", "WEBP"):
        single = getattr(picture, "n_frames", 1) == 1
    elif picture.format in ("TIFF", "GIF"):
        single = not _has_second_page(picture)
    else:
        return
    if not single:
        found, fix = "more than one frame", "save the one that is meant as a file of its own"
        raise SourceError("animated", sentence(name, expected="a single picture", found=found, fix=fix))


def _has_second_page(picture: Image.Image) -> bool:
    """Whether anything but a reduced copy (1) or a mask (4) follows the first page (TIFF 6.0, NewSubfileType)."""
    try:
        for page in range(1, _MAX_PAGES):
            picture.seek(page)
            if picture.format == "GIF" or not _tag(picture, _SUBFILE, (0,))[0] & 5:
                return True
        return True
    except EOFError:
        return False
    finally:
        picture.seek(0)
