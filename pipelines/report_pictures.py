"""The pictures of the report as data URIs: layouts, photographs, collages, cut-outs, provenance, drawn evidence."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..index.figure import cut_out
from ..storage.codec import Mask
from ..synth.canvas import Canvas

Picture = npt.NDArray[np.uint8]

QUALITY = 84  # of lossy WebP, 0..100
GOLDEN = 0.6180339887  # turns of hue from one source to the next: neighbours differ most


def data_uri(picture: Picture, longest: int = 640, *, exact: bool = False) -> str:
    """A picture, `(H, W, 3)` or `(H, W, 4)` uint8, as a WebP data URI, its longer side at most `longest` pixels.

    Args:
        exact: lossless and never interpolated, for layouts and what is drawn in flat colours.
    """
    image = Image.fromarray(picture)
    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS)
    data = io.BytesIO()
    how = {"lossless": True, "quality": 0, "method": 2} if exact else {"quality": QUALITY, "method": 4}
    image.save(data, "WEBP", **how)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def with_gaps(canvas: Canvas) -> Picture:
    """A collage as RGBA, clear where no segment painted."""
    return cut_out(canvas.image, canvas.valid)


def by_source(canvas: Canvas, colours: Sequence[tuple[int, int, int]]) -> Picture:
    """Who painted what: RGBA in the colour of each placement's source, shaded by the collage, segments outlined."""
    table = np.array([(0, 0, 0), *colours], np.float32)
    light = 0.35 + 0.65 * canvas.image.astype(np.float32).mean(axis=2, keepdims=True) / 255
    painted = table[canvas.provenance] * light
    edge = np.zeros(canvas.valid.shape, bool)
    edge[:, 1:] |= canvas.provenance[:, 1:] != canvas.provenance[:, :-1]
    edge[1:] |= canvas.provenance[1:] != canvas.provenance[:-1]
    painted[edge] *= 0.45
    return cut_out(np.clip(painted, 0, 255).astype(np.uint8), canvas.valid)


def source_colours(count: int) -> list[tuple[int, int, int]]:
    """That many colours, each far in hue from the one before."""
    return [_colour(i * GOLDEN % 1, (0.62, 0.42)[i % 2], (1.0, 0.88, 0.95)[i % 3]) for i in range(count)]


def inner_point(mask: Mask) -> tuple[float, float]:
    """The point `(y, x)` of a mask that lies deepest inside it."""
    depth: Any = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return float(y) + 0.5, float(x) + 0.5


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(channel * 255) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue
