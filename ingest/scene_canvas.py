"""The canvas of the procedural scenes: one depth test decides colour, label and depth of every pixel together.

World axes are metres: x to the right, y up, z along the street. Arithmetic keeps to operations that IEEE 754 rounds
the same everywhere (no sin, exp or BLAS on arrays), so a seed gives the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from .datasets.scenes import METRES_PER_UNIT, SKY

Point = tuple[float, float, float]
"""World coordinates x, y, z in metres."""

Rgb = tuple[float, float, float]

Samples = npt.NDArray[np.float32]
"""`(n,)` float32, one value for each pixel being painted."""

SKY_DEPTH = 65535 * METRES_PER_UNIT
"""Depth that the sky gets, metres: finite, and behind everything."""

_NEAR = 0.4
"""Metres before the camera where polygons are cut off."""

_DECAL = 0.04
"""Metres in front of a decal that it still wins over: it lies on that surface."""

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Light:
    """What lights a street; colours are RGB 0..255, factors 0..1.

    Attributes:
        sun: unit-like direction towards the sun.
        sunlight, ambient: factors a channel of the two lights.
        zenith, horizon, cloud, haze: colours.
        haze_distance: metres after which half of a colour is haze.
        cover: share of the sky under clouds.
        shadow: how much of the light a cast shadow leaves.
        lit: share of windows with a lamp behind them.
    """

    sun: Point
    sunlight: Rgb
    ambient: Rgb
    zenith: Rgb
    horizon: Rgb
    cloud: Rgb
    haze: Rgb
    haze_distance: float
    cover: float
    shadow: float
    lit: float

    def tint(self, normal: Point) -> Rgb:
        """Factors for a surface with this unit normal: ambient light, a little more from above, and the sun."""
        towards = max(0.0, _dot(normal, self.sun))
        above = 0.85 + 0.15 * normal[1]
        red, green, blue = (a * above + s * towards for a, s in zip(self.ambient, self.sunlight, strict=True))
        return red, green, blue


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along z; turning it a little is a shift of the vanishing point.

    Attributes:
        position: world metres.
        focal: pixels.
        vanishing: column and row, pixels, where lines along z meet.
        size: rows and columns of the picture, pixels.
    """

    position: Point
    focal: float
    vanishing: tuple[float, float]
    size: tuple[int, int]

    def view(self, corners: Sequence[Point]) -> list[Point]:
        """World points relative to the camera."""
        cx, cy, cz = self.position
        return [(x - cx, y - cy, z - cz) for x, y, z in corners]

    def outline(self, view: Sequence[Point]) -> list[tuple[float, float]]:
        """The polygon in pixels `(column, row)`, cut off at the near plane and a little outside the picture."""
        rows, columns = self.size
        left, top = -self.vanishing[0] - 8, -self.vanishing[1] - 8
        right, bottom = left + columns + 16, top + rows + 16
        f = self.focal
        polygon = list(view)
        for plane in ((0, 0, 1, -_NEAR), (f, 0, -left, 0), (-f, 0, right, 0), (0, -f, -top, 0), (0, f, bottom, 0)):
            polygon = _clip(polygon, plane)
            if not polygon:
                return []
        return [(self.vanishing[0] + f * x / z, self.vanishing[1] - f * y / z) for x, y, z in polygon]


class Atlas:
    """Square RGBA tiles with their smaller copies, so that a distant surface does not flicker.

    Args:
        tiles: `(n, size, size, 4)` uint8 with size a power of two; alpha under 128 is a hole, 128..223 glows by
            itself, the rest is lit.
    """

    def __init__(self, tiles: npt.NDArray[np.uint8]) -> None:
        self.size = tiles.shape[1]
        levels = [tiles]
        while levels[-1].shape[1] > 1:
            levels.append(_halved(levels[-1]))
        self.levels = len(levels)
        self._texels = np.concatenate([np.ascontiguousarray(level).view(np.uint32).ravel() for level in levels])
        sizes = [level.shape[0] * level.shape[1] ** 2 for level in levels]
        self._start = np.cumsum([0, *sizes[:-1]]).astype(np.int32)

    def sample(
        self,
        tile: npt.NDArray[np.int32] | int,
        u: npt.NDArray[np.float32],
        v: npt.NDArray[np.float32],
        texels_per_pixel: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.uint8]:
        """`(n, 4)` RGBA at `u` (to the right) and `v` (upwards), both in [0, 1), of each point's tile."""
        level = np.clip(np.frexp(texels_per_pixel)[1] - 1, 0, self.levels - 1)
        size = np.right_shift(self.size, level)
        column = (u * size).astype(np.int32)
        row = size - 1 - (v * size).astype(np.int32)
        texels = self._texels[self._start[level] + (tile * size + row) * size + column]
        rgba: npt.NDArray[np.uint8] = texels[:, None].view(np.uint8)
        return rgba


@dataclass(frozen=True)
class Surface:
    """A texture laid out in the world along two axes.

    Attributes:
        atlas: where the tiles are.
        across, up: axis (0 x, 1 y, 2 z), where the first tile starts, and metres a tile (negative runs backwards).
        tiles: tile ids, `[up][across]`, repeated without end.
        cutout: alpha under 128 is a hole, as in sprites; else alpha under 224 glows, as in lit windows.
    """

    atlas: Atlas
    across: tuple[int, float, float]
    up: tuple[int, float, float]
    tiles: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((1, 1), np.int32))
    cutout: bool = False

    def texels(
        self, points: Sequence[npt.NDArray[np.float32]], metres_per_pixel: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """`(n, 4)` RGBA at world points."""
        u, column = _tile_of(points, self.across)
        v, row = _tile_of(points, self.up)
        rows, columns = self.tiles.shape
        tile = self.tiles[row % rows, column % columns] if self.tiles.size > 1 else int(self.tiles[0, 0])
        scale = np.float32(self.atlas.size / min(abs(self.across[2]), abs(self.up[2])))
        return self.atlas.sample(tile, u, v, metres_per_pixel * scale)


class Canvas:
    """Colour, label and depth of a scene being painted, in any order: the nearest polygon keeps the pixel.

    Attributes:
        colour: `(H, W, 3)` uint8 RGB.
        labels: `(H, W)` uint8 class ids.
        nearness: `(H, W)` float32, one over the depth in metres along the view axis.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera, self.light = camera, light
        self.colour = np.zeros((*camera.size, 3), np.uint8)
        self.labels = np.full(camera.size, SKY, np.uint8)
        self.nearness = np.full(camera.size, 1 / SKY_DEPTH, np.float32)
        self._shade = np.zeros(camera.size, np.uint8)
        columns, rows = np.arange(camera.size[1]), np.arange(camera.size[0])
        self._right = ((columns + 0.5 - camera.vanishing[0]) / camera.focal).astype(np.float32)
        self._above = ((camera.vanishing[1] - rows - 0.5) / camera.focal).astype(np.float32)

    def paint(
        self,
        corners: Sequence[Point],
        class_id: int,
        paint: Rgb | Surface,
        *,
        decal: bool = False,
        glow: bool = False,
        normal: Point | None = None,
    ) -> None:
        """Paint a flat polygon where it is nearer than what is there.

        Args:
            corners: at least three world points in one plane, the first three not on a line.
            class_id: its label.
            paint: one colour, or a texture.
            decal: it lies on a surface already painted and wins over that one at equal depth.
            glow: not darkened by the light.
            normal: unit normal for the light instead of the polygon's own (sprites carry their own shading).
        """
        view = self.camera.view(corners)
        face, distance = _plane(view)
        outline = self.camera.outline(view) if distance > 1e-4 else []
        if len(outline) < 3:
            return
        box, mask = self._rasterise(outline)
        if mask.size == 0:
            return
        nearness = (self._above[box[0]] * np.float32(face[1] / distance))[:, None] + (
            self._right[box[1]] * np.float32(face[0] / distance) + np.float32(face[2] / distance)
        )
        behind = self.nearness[box]
        mask &= (nearness + nearness * nearness * np.float32(_DECAL) > behind) if decal else (nearness > behind)
        tint = (1.0, 1.0, 1.0) if glow else self.light.tint(normal or (-face[0], -face[1], -face[2]))
        if isinstance(paint, Surface):
            self._texture(box, mask, nearness, distance, paint, tint)
        else:
            red, green, blue = (min(255, int(c * t)) for c, t in zip(paint, tint, strict=True))
            self.colour[box][mask] = (red, green, blue)
        self.labels[box][mask] = class_id
        np.copyto(behind, nearness, where=mask)

    def overlay(self, outline: Sequence[tuple[float, float]], class_id: int, depth: float, colour: Rgb) -> None:
        """Paint a polygon given in pixels `(column, row)` at one depth, in metres, unlit."""
        box, mask = self._rasterise(outline)
        mask &= self.nearness[box] <= np.float32(1 / depth)
        self.colour[box][mask] = tuple(int(c) for c in colour)
        self.labels[box][mask] = class_id
        self.nearness[box][mask] = 1 / depth

    def shadow(self, corners: Sequence[Point], strength: float = 1.0) -> None:
        """Mark a polygon on the ground as shaded (`strength` 0..1); `cast_shadows` darkens what is marked."""
        outline = self.camera.outline(self.camera.view(corners))
        if len(outline) >= 3:
            box, mask = self._rasterise(outline)
            marked = self._shade[box]
            np.maximum(marked, np.uint8(255 * strength), out=marked, where=mask)

    def cast_shadows(self) -> None:
        """Darken what has been painted so far where it is marked; labels and depths stay."""
        where = (self._shade > 0) & (self.labels != SKY)
        keep = 255 - (self._shade[where].astype(np.uint32) * int(255 * (1 - self.light.shadow))) // 255
        self.colour[where] = ((self.colour[where] * keep[:, None]) >> 8).astype(np.uint8)
        self._shade[:] = 0

    def sky(self, colour: npt.NDArray[np.uint8]) -> None:
        """Fill what nothing covers with `(H, W, 3)` uint8 colours."""
        np.copyto(self.colour, colour, where=(self.labels == SKY)[:, :, None])

    def haze(self) -> None:
        """Blend everything but the sky towards the haze, half of it at the light's haze distance."""
        depth_share = 1 / (1 + self.nearness * np.float32(self.light.haze_distance))
        share = (depth_share * depth_share * np.float32(4 / 3) * 256).astype(np.uint16)
        share = np.minimum(share, 216) * (self.labels != SKY)
        for channel, haze in enumerate(self.light.haze):
            plane = self.colour[:, :, channel]
            plane[:] = (plane * (256 - share) + share * np.uint16(haze)) >> 8

    def depth(self) -> npt.NDArray[np.float32]:
        """`(H, W)` metres along the view axis; `SKY_DEPTH` in the sky."""
        depth: npt.NDArray[np.float32] = np.float32(1) / self.nearness
        return depth

    def _rasterise(self, outline: Sequence[tuple[float, float]]) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
        """The polygon's bounding box inside the picture and its mask there."""
        rows, columns = self.camera.size
        xs, ys = [x for x, _ in outline], [y for _, y in outline]
        left, right = max(0, int(min(xs))), min(columns, int(max(xs)) + 2)
        top, bottom = max(0, int(min(ys))), min(rows, int(max(ys)) + 2)
        box = slice(top, max(top, bottom)), slice(left, max(left, right))
        mask = np.zeros((box[0].stop - top, box[1].stop - left), np.uint8)
        if mask.size:
            scale = 1 << _SUBPIXEL_BITS
            fixed = [(int((x - left - 0.5) * scale), int((y - top - 0.5) * scale)) for x, y in outline]
            cv2.fillPoly(mask, [np.array(fixed, np.int32)], 1, shift=_SUBPIXEL_BITS)
        return box, mask.view(bool)

    def _texture(
        self,
        box: tuple[slice, slice],
        mask: npt.NDArray[np.bool_],
        nearness: npt.NDArray[np.float32],
        distance: float,
        surface: Surface,
        tint: Rgb,
    ) -> None:
        """Colour the pixels of `mask`; a cut-out texture takes its holes out of `mask`."""
        rows, columns = np.nonzero(mask)
        if rows.size == 0:
            return
        z: Samples = np.reciprocal(np.maximum(nearness[rows, columns], np.float32(1 / SKY_DEPTH)))
        x0, y0, z0 = (np.float32(c) for c in self.camera.position)
        points: tuple[Samples, ...] = (
            x0 + z * self._right[box[1]][columns],
            y0 + z * self._above[box[0]][rows],
            z0 + z,
        )
        slant: Samples = np.sqrt(np.maximum(z * np.float32(1 / distance), 1))  # geometric mean of both footprints
        texels = surface.texels(points, slant * z * np.float32(1 / self.camera.focal))
        factors = np.array([min(1023, int(256 * t)) for t in tint], np.uint32)
        lit = np.minimum((texels[:, :3] * factors) >> 8, 255).astype(np.uint8)
        alpha = texels[:, 3]
        if surface.cutout:
            solid = alpha >= 128
            mask[rows[~solid], columns[~solid]] = False
            rows, columns, lit = rows[solid], columns[solid], lit[solid]
        else:
            glowing = alpha < 224
            lit[glowing] = texels[glowing, :3]
        self.colour[box][rows, columns] = lit


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _plane(view: Sequence[Point]) -> tuple[Point, float]:
    """Unit normal of a polygon, pointing away from the camera, and the plane's distance from it."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = view[:3]
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = float(np.sqrt(nx * nx + ny * ny + nz * nz)) or 1.0
    distance = (nx * ax + ny * ay + nz * az) / length
    length = -length if distance < 0 else length
    return (nx / length, ny / length, nz / length), abs(distance)


def _clip(polygon: list[Point], plane: tuple[float, float, float, float]) -> list[Point]:
    """Sutherland and Hodgman (1974): the part of a polygon where `plane . (x, y, z, 1) >= 0`."""
    a, b, c, d = plane
    heights = [a * x + b * y + c * z + d for x, y, z in polygon]
    if min(heights) >= 0:
        return polygon
    kept: list[Point] = []
    for here, point in enumerate(polygon):
        h0, h1, (x, y, z), (px, py, pz) = heights[here - 1], heights[here], point, polygon[here - 1]
        if (h0 < 0) != (h1 < 0):
            t = h0 / (h0 - h1)
            kept.append((px + t * (x - px), py + t * (y - py), pz + t * (z - pz)))
        if h1 >= 0:
            kept.append(point)
    return kept


def _tile_of(
    points: Sequence[npt.NDArray[np.float32]], axis: tuple[int, float, float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Where points lie in their tile, [0, 1), and which tile that is."""
    position = (points[axis[0]] - np.float32(axis[1])) * np.float32(1 / axis[2])
    whole = np.floor(position)
    return np.minimum(position - whole, np.float32(0.999999)), whole.astype(np.int32)


def _halved(tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Tiles at half their size; holes do not bleed into colours."""
    weight = (tiles[..., 3:] >> 2).astype(np.uint16) + 1  # 1..64, so that four weighted colours fit 16 bits
    colour = _four(tiles[..., :3] * weight) // _four(weight)
    alpha = _four(tiles[..., 3:].astype(np.uint16)) >> 2
    return np.concatenate([colour, alpha], axis=-1).astype(np.uint8)


def _four(texels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Sums of 2x2 texels."""
    rows = texels[:, ::2] + texels[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]
