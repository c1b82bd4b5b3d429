"""Key local patches of a photograph: the regions EdgeBoxes finds most object-like, pruned by size and shape.

Sources: Lee et al., "Unsupervised holistic image generation from key local patches" (ECCV 2018), section 3.1;
Zitnick and Dollár, "Edge Boxes: locating object proposals from edges" (ECCV 2014), by OpenCV's implementation.
The time of EdgeBoxes grows with the edge pixels and with the size of the picture, so that edges are thinned
to one pixel, only the strongest share of them is kept, and the search runs on a reduced picture;
`benchmarks/key_patches.py` measures what that costs in agreement with the full search.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.files import plain_bytes
from ..storage.images import Photograph
from ..storage.layouts import Box

EdgeMap = npt.NDArray[np.float32]
"""`(h, w)` float32: edge strength in [0, 1], or the edge's normal as an angle in [0, pi)."""

SMOOTHING_PIXELS = 1.0
"""Standard deviation of the blur before the gradient."""
LEAST_GRADIENT = 24.0
"""Sobel units: a step of about 8 grey levels. Weaker gradients are noise in every photograph."""
WEAK_EDGE = 0.6
"""An edge goes on while its gradient stays above this share of the gradient that starts one (hysteresis)."""
FULL_EDGE = 6.0
"""An edge has strength 1 from this multiple of the gradient that starts one."""
MODEL_KEYS = ("options", "childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")


@dataclass(frozen=True)
class PatchSettings:
    """How key patches are chosen. The defaults were measured on NYU photographs.

    Attributes:
        top: patches kept an image, at most; 1 or more.
        min_area, max_area: share of the image's area a patch may cover; 0.01 or more and less than 1.
        max_aspect: longer over shorter side of a patch, at most; in [1, 4]. The default admits 78 % of the boxes of
            labelled objects in NYU; 3 admits 84 % and takes 1.5 times as long.
        max_iou: intersection over union that two kept patches may have, at most; in [0, 1].
        border: share of height and width at each side that is not looked at, in [0, 0.25): frames of scanners and
            cameras (NYU's is 7 pixels of 640, and blurred) would outshine every object.
        working_side: pixels; the search runs on the picture resized to this many pixels squared; in [64, 960].
        edge_share: share of the working pixels whose gradient is strong enough to start an edge, in (0, 1).
        alpha: overlap of neighbouring boxes of the sliding window, in [0.3, 0.95]; time grows steeply with it.
        beta: intersection over union at which EdgeBoxes drops the weaker proposal, in (0, 1).
        edge_model: OpenCV's structured-edge model (`model.yml` or `model.yml.gz`), `None` for image gradients.

    Raises:
        InputError: a value outside its range.
    """

    top: int = 3
    min_area: float = 0.05
    max_area: float = 0.25
    max_aspect: float = 2.5
    max_iou: float = 0.3
    border: float = 0.02
    working_side: int = 384
    edge_share: float = 0.15
    alpha: float = 0.65
    beta: float = 0.75
    edge_model: str | None = None

    def __post_init__(self) -> None:
        # Beyond these limits of area, aspect, side and alpha, OpenCV reads outside its tables or divides by zero.
        limits = {
            "top": (self.top >= 1, "1 or more"),
            "min_area": (0.01 <= self.min_area <= self.max_area, "0.01 or more and at most max_area"),
            "max_area": (self.max_area < 1, "less than 1"),
            "max_aspect": (1 <= self.max_aspect <= 4, "1 to 4"),
            "max_iou": (0 <= self.max_iou <= 1, "0 to 1"),
            "border": (0 <= self.border < 0.25, "0 or more and less than 0.25"),
            "working_side": (64 <= self.working_side <= 960, "64 to 960"),
            "edge_share": (0 < self.edge_share < 1, "more than 0 and less than 1"),
            "alpha": (0.3 <= self.alpha <= 0.95, "0.3 to 0.95"),
            "beta": (0 < self.beta < 1, "more than 0 and less than 1"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                found = str(getattr(self, name))
                raise InputError(sentence(f"key patches: {name}", expected=expected, found=found))


@dataclass(frozen=True)
class KeyPatch:
    """One key patch.

    Attributes:
        box: `(top, left, bottom, right)`, half-open, pixels of the photograph.
        score: EdgeBoxes' objectness, positive; comparable between images of the same settings.
    """

    box: Box
    score: float


def key_patches(image: Photograph, settings: PatchSettings) -> list[KeyPatch]:
    """The most object-like regions of a photograph, best first.

    Args:
        image: `(H, W, 3)` uint8 RGB, any size.
        settings: limits and search; see `PatchSettings`.

    Returns:
        At most `settings.top` patches, each within the limits; none where there is no structure, or where the
        image is too narrow for any patch of that area and aspect.

    Raises:
        InputError: no such image, or the edge model cannot be read.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"shape {image.shape} of {image.dtype}"
        raise InputError(sentence("key patches", expected="an (H, W, 3) uint8 RGB image", found=found))
    height, width = image.shape[:2]
    if min(height, width) ** 2 * settings.max_aspect < settings.min_area * height * width:
        return []
    rows, columns = ceil(height * settings.border), ceil(width * settings.border)
    interior = image[rows : height - rows, columns : width - columns]
    if not interior.size:
        return []
    working = _resized(interior, settings.working_side)
    scale = np.divide(interior.shape[:2], working.shape[:2])
    proposals, scores = _proposals(working, settings.min_area * height * width / scale.prod(), settings)
    boxes = np.rint(proposals * np.tile(scale, 2) + np.tile((rows, columns), 2)).astype(np.int64)
    return _chosen(boxes, scores, height * width, settings)


def _resized(image: Photograph, side: int) -> Photograph:
    """The picture at `side * side` pixels, its aspect kept; small ones are enlarged, so that all score alike."""
    height, width = image.shape[:2]
    factor = side / sqrt(height * width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def _proposals(
    image: Photograph, min_pixels: float, settings: PatchSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """EdgeBoxes' proposals of about `min_pixels` or more, best first.

    Returns:
        `(n, 4)` boxes in pixels of the working picture, and `(n,)` scores.
    """
    if settings.edge_model is None:
        strength, normal = gradient_edges(image, settings.edge_share)
    else:
        strength, normal = structured_edges(image, settings.edge_model)
    # A fresh object for every image: OpenCV's keeps sums of the last one.
    search = cv2.ximgproc.createEdgeBoxes(
        alpha=settings.alpha,
        beta=settings.beta,
        edgeMinMag=0.99 * WEAK_EDGE / FULL_EDGE,
        maxAspectRatio=settings.max_aspect,
        minBoxArea=min_pixels,
    )
    found, scores = search.getBoundingBoxes(strength, normal)
    if scores is None:
        return np.empty((0, 4)), np.empty(0)
    left, top, width, height = np.asarray(found, dtype=np.float64).T
    # OpenCV counts from 1, and the pixel at the far side belongs to the box it scored.
    boxes = np.stack([top - 1, left - 1, top + height, left + width], axis=1)
    return boxes, np.asarray(scores, dtype=np.float64).ravel()


def gradient_edges(image: Photograph, share: float) -> tuple[EdgeMap, EdgeMap]:
    """Edges one pixel wide from image gradients.

    Args:
        image: `(h, w, 3)` uint8 RGB.
        share: share of the pixels whose gradient may start an edge. The threshold follows the picture's own contrast,
            so that dark pictures keep edges and textured ones take little longer.

    Returns:
        Strength in [0, 1], 0 off the edges, and the edge's normal in [0, pi), as EdgeBoxes wants them.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), SMOOTHING_PIXELS)
    across, down = (cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
    squared = across.astype(np.float32) ** 2 + down.astype(np.float32) ** 2
    strongest = squared.argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(part, strongest, axis=2)[..., 0] for part in (across, down))
    gradient, angle = cv2.cartToPolar(across.astype(np.float32), down.astype(np.float32))
    start = max(LEAST_GRADIENT, float(np.quantile(gradient, 1 - share)))
    thin = cv2.Canny(across, down, WEAK_EDGE * start, start, L2gradient=True) > 0
    strength = np.where(thin, np.minimum(gradient / (FULL_EDGE * start), 1), 0)
    return strength.astype(np.float32), np.mod(angle, np.float32(np.pi))


def structured_edges(image: Photograph, model: str) -> tuple[EdgeMap, EdgeMap]:
    """Edges of a learned structured-edge model (Dollár and Zitnick, ICCV 2013), thinned; as `gradient_edges`.

    Raises:
        InputError: the model file is missing or is none.
    """
    detector = _edge_detector(model)
    edges = detector.detectEdges(image.astype(np.float32) / 255)
    normal = detector.computeOrientation(edges)
    return detector.edgesNms(edges, normal), normal


@lru_cache(maxsize=2)
def _edge_detector(path: str) -> cv2.ximgproc.StructuredEdgeDetection:
    """The model, read once a process: it takes seconds to parse and does not pickle."""
    try:
        data = plain_bytes(Path(path))
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise _bad_model(path, f"a file that cannot be read ({error})") from error
    # OpenCV divides by zero on a file without these.
    missing = [key for key in MODEL_KEYS if b"\n" + key.encode() + b":" not in text]
    if missing:
        raise _bad_model(path, "a file without " + ", ".join(missing))
    try:
        return cv2.ximgproc.createStructuredEdgeDetection(path)
    except cv2.error as error:
        raise _bad_model(path, f"a file OpenCV cannot parse ({error.err or error})") from error


def _bad_model(path: str, found: str) -> InputError:
    return InputError(
        sentence(
            path,
            expected="OpenCV's structured-edge model (model.yml or model.yml.gz)",
            found=found,
            fix="give its path, or none to use image gradients",
        )
    )


def _chosen(
    boxes: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], pixels: int, settings: PatchSettings
) -> list[KeyPatch]:
    """The first boxes within the limits that do not overlap a better one too much."""
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(axis=1)
    fits = (area >= settings.min_area * pixels) & (area <= settings.max_area * pixels)
    fits &= sides.max(axis=1) <= settings.max_aspect * sides.min(axis=1)
    chosen: list[KeyPatch] = []
    for row in np.flatnonzero(fits):
        top, left, bottom, right = (int(edge) for edge in boxes[row])
        box = (top, left, bottom, right)
        if all(box_iou(box, other.box) <= settings.max_iou for other in chosen):
            chosen.append(KeyPatch(box, float(scores[row])))
        if len(chosen) == settings.top:
            break
    return chosen


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes of positive area, in [0, 1]."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, height) * max(0, width)
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both
    return float(both / either)
