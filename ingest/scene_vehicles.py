"""Vehicles of the procedural scenes: a side profile drawn out across its width, with glass, lamps and wheels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .datasets.scenes import BUS, CAR
from .scene_canvas import Canvas, Point, Rgb
from .scene_objects import CIRCLE, FAR


@dataclass(frozen=True)
class Shape:
    """A vehicle's form in metres: `(length from the front, height)` over its back, and where the glass starts.

    `glass` are indices of the profile's pieces that are windows; `doors` where the side windows are divided.
    """

    profile: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    half_width: float
    roof_half_width: float
    belt: float
    windows: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
    doors: tuple[float, ...]
    wheels: tuple[float, float]
    wheel_radius: float = 0.32
    clearance: float = 0.2
    class_id: int = CAR


SALOON = Shape(
    ((0.0, 0.3), (0.0, 0.6), (0.12, 0.74), (1.15, 0.92), (1.95, 1.4), (2.3, 1.45), (3.0, 1.43), (3.75, 1.04),
     (4.3, 0.98), (4.4, 0.7), (4.4, 0.3)),
    (3, 6), 0.88, 0.62, 0.93, ((1.3, 0.93), (2.0, 1.36), (2.98, 1.38), (3.65, 0.98)), (2.42,), (0.82, 3.55),
)  # fmt: skip
HATCHBACK = Shape(
    ((0.0, 0.3), (0.0, 0.62), (0.1, 0.78), (0.95, 0.98), (1.6, 1.46), (2.0, 1.52), (3.35, 1.46), (3.75, 1.02),
     (3.85, 0.75), (3.85, 0.3)),
    (3, 6), 0.86, 0.64, 0.98, ((1.1, 0.98), (1.66, 1.4), (3.28, 1.4), (3.55, 1.02)), (2.2, 2.95), (0.74, 3.15),
)  # fmt: skip
VAN = Shape(
    ((0.0, 0.35), (0.0, 0.8), (0.1, 1.0), (0.7, 1.18), (1.45, 2.0), (1.8, 2.12), (4.8, 2.12), (4.9, 1.15), (4.95, 0.8),
     (4.95, 0.35)),
    (3, 6), 0.95, 0.84, 1.2, ((0.95, 1.2), (1.55, 1.9), (2.35, 1.9), (2.35, 1.2)), (1.7,), (0.9, 4.0), 0.35, 0.25,
)  # fmt: skip
COACH = Shape(
    ((0.0, 0.4), (0.0, 1.15), (0.12, 2.85), (0.35, 3.0), (10.2, 3.0), (10.4, 2.85), (10.5, 1.6), (10.5, 0.4)),
    (1, 5), 1.24, 1.2, 1.2, ((0.35, 1.3), (0.42, 2.55), (10.1, 2.55), (10.1, 1.3)),
    (1.6, 3.0, 4.4, 5.8, 7.2, 8.6), (2.2, 7.8), 0.48, 0.3, BUS,
)  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """A vehicle whose middle is at x, z; its front points along `heading`, a unit step in x and z."""

    x: float
    z: float
    heading: tuple[int, int]
    shape: Shape
    colour: Rgb

    @property
    def length(self) -> float:
        """Metres from front to back."""
        return self.shape.profile[-1][0]

    def at(self, along: float, aside: float, height: float) -> Point:
        """World point `along` metres behind the front, `aside` metres to the left or right, over the ground."""
        dx, dz = self.heading
        ahead = self.length / 2 - along
        return self.x + dx * ahead + dz * aside, height, self.z + dz * ahead - dx * aside


_GLASS: Rgb = (62, 74, 86)
_TYRE: Rgb = (34, 34, 36)


def paint_car(canvas: Canvas, car: Vehicle) -> None:
    """Body from a side profile, then windows, lamps and plate, and the wheels on the sides towards the camera."""
    _paint_shell(canvas, car)
    seen_from = canvas.camera.position
    for side in (-1, 1):
        (x0, _, z0), (x1, _, z1) = car.at(0, side * car.shape.half_width, 0), car.at(0, side * 9, 0)
        if (seen_from[0] - x0) * (x1 - x0) + (seen_from[2] - z0) * (z1 - z0) > 0:
            _paint_flank(canvas, car, side)
    if _distance((car.x, 0, car.z), seen_from) < FAR:
        _paint_ends(canvas, car)


def _paint_shell(canvas: Canvas, car: Vehicle) -> None:
    """The strips across the vehicle, and under them a dark floor so that nothing shines through."""
    shape = car.shape
    for piece, ((a0, h0), (a1, h1)) in enumerate(zip(shape.profile, shape.profile[1:], strict=False)):
        w0, w1 = _half_width(shape, h0), _half_width(shape, h1)
        strip = [car.at(a0, -w0, h0), car.at(a0, w0, h0), car.at(a1, w1, h1), car.at(a1, -w1, h1)]
        canvas.paint(strip, shape.class_id, car.colour)
        if piece in shape.glass:
            canvas.paint(_shrunk(strip, 0.1), shape.class_id, _GLASS, decal=True)
            canvas.paint(_shrunk([_middle(strip[0], strip[3]), _middle(strip[1], strip[2]), *strip[2:]], 0.13),
                         shape.class_id, (104, 120, 134), decal=True)  # fmt: skip
    for at in (0.15, car.length - 0.15):
        w = shape.half_width - 0.12
        lower = [
            car.at(at, -w, shape.clearance - 0.12),
            car.at(at, w, shape.clearance - 0.12),
            car.at(at, w, 0.5),
            car.at(at, -w, 0.5),
        ]
        canvas.paint(lower, shape.class_id, (24, 24, 26))


def _half_width(shape: Shape, height: float) -> float:
    """Half the body's width: full up to the belt line, narrower towards the roof."""
    top = max(h for _, h in shape.profile)
    share = max(0.0, height - shape.belt) / (top - shape.belt)
    return shape.half_width + share * (shape.roof_half_width - shape.half_width)


def _paint_flank(canvas: Canvas, car: Vehicle, side: int) -> None:
    """One side: lower body, the glasshouse above it, doors, and two wheels."""
    shape, w = car.shape, side * car.shape.half_width
    below = [(a, min(h, shape.belt)) for a, h in shape.profile]
    lower = [car.at(a, w, max(h, shape.clearance)) for a, h in below]
    canvas.paint([lower[-1], lower[0], *lower[1:-1]], shape.class_id, car.colour)
    sill = [car.at(a, w, h) for a, h in ((0.0, 0.2), (car.length, 0.2), (car.length, 0.42), (0.0, 0.42))]
    canvas.paint(sill, shape.class_id, _darker(car.colour, 0.45), decal=True)
    above = [car.at(a, side * _half_width(shape, h), h) for a, h in _above(shape)]
    canvas.paint(above, shape.class_id, car.colour)
    window = [car.at(a, side * _half_width(shape, h), h) for a, h in shape.windows]
    canvas.paint(window, shape.class_id, _GLASS, decal=True)
    for door in shape.doors:
        low, high = shape.windows[0][1], shape.windows[1][1]
        pillar = [
            car.at(door + d, side * _half_width(shape, h), h)
            for d, h in ((0, low), (0, high), (0.08, high), (0.08, low))
        ]
        canvas.paint(pillar, shape.class_id, _darker(car.colour, 0.7), decal=True)
        seam = [car.at(door + d, w, h) for d, h in ((0, 0.35), (0, low), (0.03, low), (0.03, 0.35))]
        canvas.paint(seam, shape.class_id, _darker(car.colour, 0.55), decal=True)
    for axle in shape.wheels:
        for radius, colour, out in (
            (1.16, (22, 22, 24), 0.0),
            (1.0, _TYRE, 0.01),
            (0.62, (150, 152, 156), 0.012),
            (0.2, (60, 60, 64), 0.014),
        ):
            r = shape.wheel_radius
            disc = [car.at(axle + r * radius * c, w + side * out, max(0.0, r + r * radius * s)) for c, s in CIRCLE]
            canvas.paint(disc, shape.class_id, colour, decal=True)


def _above(shape: Shape) -> list[tuple[float, float]]:
    """The profile over the belt line, starting with its two ends on that line."""
    kept: list[tuple[float, float]] = []
    for (a0, h0), (a1, h1) in zip(shape.profile, shape.profile[1:], strict=False):
        if (h0 < shape.belt) != (h1 < shape.belt):
            kept.append((a0 + (a1 - a0) * (shape.belt - h0) / (h1 - h0), shape.belt))
        if h1 >= shape.belt:
            kept.append((a1, h1))
    return [kept[-1], *kept[:-1]]


def _paint_ends(canvas: Canvas, car: Vehicle) -> None:
    """Lamps, grille and plate at the front, lamps and plate at the back, tyres under both."""
    shape, w = car.shape, car.shape.half_width
    low, high = shape.profile[1][1] - 0.14, shape.profile[1][1] + 0.02
    back = shape.profile[-2][1]
    for at, bottom, top, lamp in (
        (-0.01, low, high, (250, 246, 226)),
        (car.length + 0.01, back - 0.02, back + 0.16, (196, 28, 30)),
    ):
        shining = canvas.light.lit > 0.3 and lamp[1] < 100
        for side in (-1, 1):
            quad = [car.at(at, side * w * s, h) for s, h in ((0.62, bottom), (0.97, bottom), (0.97, top), (0.62, top))]
            canvas.paint(quad, shape.class_id, lamp, decal=True, glow=shining)
            tyre = [
                car.at(at + (0.3 if at < 1 else -0.3), side * w * s, h)
                for s, h in ((0.74, 0.0), (0.96, 0.0), (0.96, 0.35), (0.74, 0.35))
            ]
            canvas.paint(tyre, shape.class_id, _TYRE)
        plate = [car.at(at, 0.26 * s, h) for s, h in ((-1, 0.44), (1, 0.44), (1, 0.55), (-1, 0.55))]
        canvas.paint(plate, shape.class_id, (226, 226, 214), decal=True)
        bumper = [car.at(at, w * 0.98 * s, h) for s, h in ((-1, 0.3), (1, 0.3), (1, 0.4), (-1, 0.4))]
        canvas.paint(bumper, shape.class_id, (44, 44, 48), decal=True)
    grille = [car.at(-0.012, w * 0.55 * s, h) for s, h in ((-1, low), (1, low), (1, high), (-1, high))]
    canvas.paint(grille, shape.class_id, (36, 36, 40), decal=True)


def _darker(colour: Rgb, factor: float) -> Rgb:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _shrunk(quad: Sequence[Point], by: float) -> list[Point]:
    """A polygon drawn in towards its middle."""
    n = len(quad)
    mx, my, mz = (sum(p[axis] for p in quad) / n for axis in range(3))
    return [(x + (mx - x) * by, y + (my - y) * by, z + (mz - z) * by) for x, y, z in quad]


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2


def _distance(a: Point, b: Point) -> float:
    dx, dz = a[0] - b[0], a[2] - b[2]
    return float(np.sqrt(dx * dx + dz * dz))


def ground_contact(canvas: Canvas, car: Vehicle) -> None:
    """The dark place under a vehicle, softer at its rim."""
    for margin, strength in ((0.25, 0.45), (0.1, 0.8), (-0.05, 1.2)):
        a, w = car.length + margin, car.shape.half_width + margin
        corners = [car.at(-margin, -w, 0), car.at(-margin, w, 0), car.at(a, w, 0), car.at(a, -w, 0)]
        canvas.shadow(corners, min(1.0, strength))
