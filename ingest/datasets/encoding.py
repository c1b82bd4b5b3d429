"""Arrays as the bytes that a bank stores: lossless and, for equal versions of Pillow, always the same."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def png(array: npt.NDArray[Any]) -> bytes:
    """A lossless picture of `(H, W, 3)` uint8, `(H, W)` uint8 or `(H, W)` uint16."""
    return png_of(Image.fromarray(np.ascontiguousarray(array)))


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
