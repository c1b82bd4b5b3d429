"""Bytes of photographs, label maps and depth maps to arrays, refusing whatever is not whole.

Pillow decodes: it raises on truncated data, where others hand back a half-grey picture, and it reads a
palette image as the indices it holds.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import SourceError, sentence

Photograph = npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8 RGB."""

Depth = npt.NDArray[np.float32]
"""`(H, W)` float32 metres, larger is farther; 0 where unknown."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
MAX_PIXELS = 1 << 27
"""Pictures with more pixels are refused before they are decoded (16,384 x 8,192)."""

_NPY = b"\x93NUMPY"

_INDEX_MODES = {
    "1": np.uint8,
    "L": np.uint8,
    "P": np.uint8,
    "I;16": np.uint16,
    "I;16B": np.uint16,
    "I": np.int32,
}


def decode_photograph(data: bytes, name: str | Path) -> Photograph:
    """An encoded photograph as `(H, W, 3)` uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        SourceError: `unreadable-image` for what is no whole picture of a known format.
    """
    with _opened(data, name, "unreadable-image") as picture:
        upright = ImageOps.exif_transpose(picture) if _orientation(picture) != 1 else picture
        return np.array(upright.convert("RGB"))


def decode_labels(data: bytes, name: str | Path) -> npt.NDArray[np.integer]:
    """An encoded label map: `(H, W)` integer indices, or `(H, W, 3)` uint8 where it is an RGB picture.

    A palette-mode picture is read as its indices. 16-bit indices stay 16-bit, 2- and 4-bit ones are not stretched to
    0..255. JPEG is refused: it alters indices.

    Raises:
        SourceError: `unreadable-label` for what is no whole picture, or holds neither indices nor RGB.
    """
    with _opened(data, name, "unreadable-label") as picture:
        if picture.format == "JPEG":
            raise SourceError(
                "unreadable-label",
                sentence(
                    name,
                    expected="a label map in a lossless format",
                    found="a JPEG, which alters class ids",
                    fix="save it as PNG from the original labels",
                ),
            )
        if picture.mode in _INDEX_MODES:
            return np.array(picture).astype(_INDEX_MODES[picture.mode]) // _stretch(data)
        if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
            return np.array(picture.convert("RGB"))
        if picture.mode == "RGB":
            return np.array(picture)
        raise SourceError(
            "unreadable-label",
            sentence(
                name,
                expected="class indices or an RGB palette picture",
                found=f"a picture of mode {picture.mode}",
                fix="save it as an 8- or 16-bit index PNG",
            ),
        )


def decode_depth(data: bytes, name: str | Path, metres_per_unit: float = 1.0) -> Depth:
    """A depth map in metres from an encoded picture (8- or 16-bit) or a `.npy` file.

    Values that are not finite or not positive become 0: unknown.

    Raises:
        SourceError: `unreadable-depth` for anything else.
    """
    values = _depth_values(data, name)
    if len(values.shape) != 2 or values.dtype.kind not in "uif":
        raise SourceError(
            "unreadable-depth",
            sentence(
                name,
                expected="a depth map with one number a pixel",
                found=f"shape {values.shape} of {values.dtype}",
                fix="save it as a 16-bit PNG or a two-dimensional .npy array",
            ),
        )
    with np.errstate(invalid="ignore", over="ignore"):
        depth = values.astype(np.float32) * np.float32(metres_per_unit)
        depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return depth


def depth_size(data: bytes, name: str | Path) -> tuple[int, ...]:
    """`(height, width)` of what `decode_depth` takes; of a picture from its header alone.

    Raises:
        SourceError: `unreadable-depth`.
    """
    if data.startswith(_NPY):
        return _depth_values(data, name).shape
    return picture_size(data, name, "unreadable-depth")


def picture_size(data: bytes, name: str | Path, reason: str = "unreadable-image") -> tuple[int, int]:
    """`(height, width)` from the header alone, after the EXIF orientation.

    Raises:
        SourceError: `reason` where there is no such header.
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


def _stretch(data: bytes) -> int:
    """What Pillow multiplies the values of a grey PNG of 2 or 4 bits with, so that they fill 0..255; else 1."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[25] == 0:
        return {2: 85, 4: 17}.get(data[24], 1)
    return 1


def _depth_values(data: bytes, name: str | Path) -> npt.NDArray[np.generic]:
    """The numbers of a `.npy` file, never unpickled, or of a picture."""
    if not data.startswith(_NPY):
        with _opened(data, name, "unreadable-depth") as picture:
            return np.array(picture)
    try:
        values: npt.NDArray[np.generic] = np.load(io.BytesIO(data), allow_pickle=False)
        return values
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(
            "unreadable-depth",
            sentence(
                name,
                expected="a .npy array of plain numbers",
                found=f"one that cannot be read ({error})",
                fix="save it again with numpy.save as float32",
            ),
        ) from error


def _opened(data: bytes, name: str | Path, reason: str, load: bool = True) -> Image.Image:
    """A Pillow image whose header is known to be sane and whose data is whole."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise SourceError(
                "too-large",
                sentence(
                    name,
                    expected=f"at most {MAX_PIXELS:,} pixels",
                    found=f"{picture.width}x{picture.height}",
                    fix="make it smaller",
                ),
            )
        if load:
            picture.load()
        return picture
    except Image.DecompressionBombError as error:  # Pillow's own limit, of about 179 million pixels
        raise SourceError(
            "too-large", sentence(name, expected=f"at most {MAX_PIXELS:,} pixels", found="more", fix="make it smaller")
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
