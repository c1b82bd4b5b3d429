"""One procedural street: its houses, trees, poles, light and parked cars, and the views from a car along it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from . import scene_objects as things
from . import scene_vehicles as vehicles
from .datasets.scenes import BUILDING, GRASS, METRES_PER_UNIT, PAVEMENT, ROAD, TREE, VOID_ID
from .scene_canvas import Camera, Canvas, Light, Point, Rgb, Surface
from .scene_objects import KERB, Building, Person, Pole, Sign, Tree
from .scene_textures import (
    ASPHALT,
    BLANK,
    DOOR,
    GLASS_STYLE,
    LAWN,
    PAVING,
    PEOPLE,
    PLATES,
    ROOFS,
    SHOP,
    STYLES,
    Textures,
)
from .scene_vehicles import Vehicle

PARKING_HALF = 4.8
"""From this half width of the road on, metres, cars park along it."""

_SUPERSAMPLING = 2
_LENGTH = 250.0
"""Metres of a street."""

NOON = Light(
    sun=(0.45, 0.72, -0.52), sunlight=(0.62, 0.59, 0.53), ambient=(0.6, 0.63, 0.68), zenith=(58, 118, 196),
    horizon=(178, 208, 230), cloud=(248, 248, 246), haze=(190, 206, 220), haze_distance=260.0, cover=0.35, shadow=0.52,
    lit=0.04,
)  # fmt: skip
MORNING = Light(
    sun=(0.72, 0.52, -0.46), sunlight=(0.64, 0.56, 0.42), ambient=(0.56, 0.6, 0.68), zenith=(92, 146, 204),
    horizon=(226, 222, 206), cloud=(252, 246, 236), haze=(222, 220, 210), haze_distance=170.0, cover=0.3, shadow=0.52,
    lit=0.1,
)  # fmt: skip
OVERCAST = Light(
    sun=(0.1, 0.98, -0.15), sunlight=(0.16, 0.16, 0.16), ambient=(0.74, 0.76, 0.78), zenith=(158, 168, 178),
    horizon=(206, 210, 212), cloud=(226, 228, 228), haze=(200, 206, 210), haze_distance=150.0, cover=0.85, shadow=0.6,
    lit=0.15,
)  # fmt: skip
EVENING = Light(
    sun=(0.86, 0.3, 0.42), sunlight=(0.66, 0.44, 0.28), ambient=(0.66, 0.6, 0.66), zenith=(72, 92, 150),
    horizon=(250, 186, 128), cloud=(250, 196, 158), haze=(236, 188, 150), haze_distance=190.0, cover=0.45, shadow=0.72,
    lit=0.45,
)  # fmt: skip
LIGHTS = (NOON, MORNING, OVERCAST, EVENING)

_PAINTS: tuple[Rgb, ...] = (
    (168, 30, 34), (224, 224, 222), (40, 42, 46), (150, 154, 160), (34, 62, 120), (84, 100, 84), (214, 170, 60),
    (90, 24, 34), (122, 164, 190),
)  # fmt: skip
_COACHES: tuple[Rgb, ...] = ((196, 40, 40), (230, 180, 50), (60, 110, 170), (236, 236, 230))


@dataclass(frozen=True)
class Scene:
    """One painted scene.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        labels: `(H, W)` uint8 class ids, 255 void.
        depth: `(H, W)` uint16 centimetres along the view axis, 65535 in the sky.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Crossing:
    """A side street, on one side of the road or both, between two places along it (metres)."""

    near: float
    far: float
    sides: tuple[int, ...]


class Street:
    """One street: everything that stays while the camera drives along it, drawn from `(seed, number)`."""

    def __init__(self, seed: int, number: int) -> None:
        self.seed, self.number = seed, number
        rng = np.random.default_rng([seed, number])
        side = float(rng.choice((-1.0, 1.0)))
        light = LIGHTS[int(rng.integers(len(LIGHTS)))]
        self.light = replace(light, sun=(light.sun[0] * side, *light.sun[1:]))
        self.textures = Textures.drawn(rng, side * min(1.0, 2 * light.sunlight[0]), light.lit)
        self.half = _between(rng, 3.5, 6.2)
        """Half the road's width, metres."""
        self.walk = _between(rng, 2.4, 4.2)
        """Width of a pavement, metres."""
        self.garden = _between(rng, 2.0, 7.0) if rng.random() < 0.5 else 0.0
        """Grass between pavement and houses, metres."""
        self.bonnet = bool(rng.random() < 0.25)
        self.eye = _between(rng, 1.35, 1.95)
        self.crossings = list(_crossings(rng))
        self.houses = [house for side in (-1, 1) for house in self._houses(rng, side)]
        self.trees = [tree for side in (-1, 1) for tree in self._trees(rng, side)]
        self.poles = [pole for side in (-1, 1) for pole in self._poles(rng, side)]
        self.signs = [sign for side in (-1, 1) for sign in self._signs(rng, side)]
        self.parked = [car for side in (-1, 1) for car in self._parked(rng, side)]
        self.hills = [(_between(rng, -260, 220), _between(rng, 40, 120), _between(rng, 14, 46)) for _ in range(14)]

    def paint(self, index: int, size: tuple[int, int]) -> Scene:
        """The scene of that number in the street, `size` rows and columns."""
        rng = np.random.default_rng([self.seed, self.number, index])
        camera = self._camera(rng, index, size)
        canvas = Canvas(camera, self.light)
        traffic, people = list(self._traffic(rng, camera)), list(self._people(rng, camera))
        self._paint_ground(canvas)
        self._paint_shadows(canvas, [*self.parked, *traffic], people)
        self._paint_things(canvas, [*self.parked, *traffic], people)
        self._paint_distance(canvas)
        canvas.haze()
        canvas.sky(_sky(rng, canvas, self.textures.noise))
        if self.bonnet:
            _paint_bonnet(canvas, _PAINTS[self.number % len(_PAINTS)])
        return _developed(rng, canvas)

    def _camera(self, rng: np.random.Generator, index: int, size: tuple[int, int]) -> Camera:
        rows, columns = (n * _SUPERSAMPLING for n in size)
        x = self.half * _between(rng, 0.1, 0.42)
        z = 4 + index * 17 + _between(rng, 0, 8)
        vanishing = columns * _between(rng, 0.36, 0.62), rows * _between(rng, 0.42, 0.54)
        return Camera((x, self.eye, z), max(columns, rows) * 0.84, vanishing, (rows, columns))

    def _front(self, side: int) -> float:
        return side * (self.half + self.walk + self.garden)

    def _blocks(self, side: int) -> Iterator[tuple[float, float]]:
        """The stretches of one side between side streets."""
        start = -12.0
        for crossing in self.crossings:
            if side in crossing.sides:
                yield start, crossing.near
                start = crossing.far
        yield start, _LENGTH

    def _houses(self, rng: np.random.Generator, side: int) -> Iterator[Building]:
        tall, gabled = int(rng.integers(2, 6)), rng.random() < (0.85 if self.garden else 0.35)
        for start, end in self._blocks(side):
            z = start + self.walk
            while z < end - self.walk - 6:
                bays = int(rng.integers(3, 7))
                far = min(z + bays * things.BAY * _between(rng, 0.9, 1.15), end - self.walk)
                if rng.random() > 0.12:  # else a garden
                    storeys = max(2, tall + int(rng.integers(-1, 2))) if not gabled else int(rng.integers(2, 4))
                    yield self._house(rng, side, (z, far), (storeys, bays), gabled)
                z = far + (_between(rng, 2, 7) if self.garden or rng.random() < 0.12 else 0.0)

    def _house(
        self, rng: np.random.Generator, side: int, span: tuple[float, float], shape: tuple[int, int], gabled: bool
    ) -> Building:
        style = int(rng.integers(len(STYLES)))
        if style == GLASS_STYLE and (gabled or shape[0] < 4):
            style = (style + 1) % len(STYLES)
        roll = rng.random(shape)
        share = self.light.lit
        bays = np.where(roll < share, 3, np.where(roll < share + (1 - share) * 0.4, 0, np.where(roll < 0.82, 1, 2)))
        bays[:, rng.random(shape[1]) < 0.06] = BLANK
        if not self.garden and rng.random() < 0.6:
            bays[0] = SHOP
        bays[0, int(rng.integers(shape[1]))] = DOOR
        roof = int(rng.integers(len(ROOFS))) if gabled else None
        return Building(side, self._front(side), *span, _between(rng, 8, 12), style, bays.astype(np.int32), roof)

    def _free(self, z: float, side: int, margin: float = 2.0) -> bool:
        """Whether a place along the pavement is not in a side street."""
        return all(side not in c.sides or not c.near - margin < z < c.far + margin for c in self.crossings)

    def _trees(self, rng: np.random.Generator, side: int) -> Iterator[Tree]:
        crown, lined = int(rng.integers(4)), rng.random() < 0.6
        step = _between(rng, 11, 20)
        for place in range(int(_LENGTH / step)) if lined else ():
            z = place * step + _between(rng, -1.5, 1.5)
            if self._free(z, side) and rng.random() < 0.85:
                yield Tree(side * (self.half + 0.8), z, _between(rng, 5.0, 8.0), crown % 3, bool(rng.integers(2)))
        built = [(house.near, house.far) for house in self.houses if house.side == side]
        for z in np.arange(0.0, _LENGTH, 3.5):
            z = float(z) + _between(rng, -1, 1)
            if all(not near - 1 < z < far + 1 for near, far in built) and self._free(z, side, 1):
                x = self._front(side) + side * _between(rng, 0.5, 9)
                yield Tree(x, z, _between(rng, 5, 11), int(rng.integers(4)), bool(rng.integers(2)), 0.0)

    def _poles(self, rng: np.random.Generator, side: int) -> Iterator[Pole]:
        start = _between(rng, 0, 24)
        for place in range(int(_LENGTH / 28)):
            if self._free(start + place * 28, side):
                yield Pole(side * (self.half + 0.45), start + place * 28, side, "lamp")
        for crossing in self.crossings:
            yield Pole(side * (self.half + 0.5), crossing.near - 1.2, side, "traffic", int(rng.integers(3)))

    def _signs(self, rng: np.random.Generator, side: int) -> Iterator[Sign]:
        z = _between(rng, 8, 20)
        while z < _LENGTH:
            if self._free(z, side):
                yield Sign(side * (self.half + 0.5), z, int(rng.integers(PLATES)))
            z += _between(rng, 12, 26)

    def _parked(self, rng: np.random.Generator, side: int) -> Iterator[Vehicle]:
        if self.half < PARKING_HALF:
            return
        density, z = _between(rng, 0.1, 0.55), 0.0
        while z < 140:
            z += 5.8
            if rng.random() < density and self._free(z, side, 5.0):
                yield Vehicle(side * (self.half - 1.1), z, (0, side), *_make(rng, 0))

    def _traffic(self, rng: np.random.Generator, camera: Camera) -> Iterator[Vehicle]:
        """Cars ahead in both lanes, and at times one that crosses out of a side street."""
        lane = self.half * (0.3 if self.half >= PARKING_HALF else 0.45)
        z0 = camera.position[2]
        for way, first in ((1, 13.0), (-1, 9.0)):
            z = z0 + first + _between(rng, 0, 30)
            while z < z0 + 90:
                yield Vehicle(way * lane, z, (0, way), *_make(rng, 0.12))
                z += _between(rng, 14, 60)
        for crossing in self.crossings:
            if crossing.near > z0 + 9 and rng.random() < 0.55:
                side = crossing.sides[int(rng.integers(len(crossing.sides)))]
                way = int(rng.choice((-1, 1)))
                middle = (crossing.near + crossing.far) / 2 - way * 1.6
                yield Vehicle(side * (self.half + _between(rng, -1.5, 6)), middle, (way, 0), *_make(rng, 0.08))

    def _people(self, rng: np.random.Generator, camera: Camera) -> Iterator[Person]:
        z0 = camera.position[2]
        for _ in range(int(rng.integers(4, 16))):
            side, z = int(rng.choice((-1, 1))), z0 + 5.5 + 50 * _between(rng, 0, 1) * _between(rng, 0.2, 1)
            tall, sprite, mirrored = _between(rng, 1.5, 1.92), int(rng.integers(PEOPLE)), bool(rng.integers(2))
            aside = side * (self.half + _between(rng, 0.9, self.walk - 0.3))
            ground = KERB if self._free(z, side, 0.5) else 0.0
            yield Person(aside, z, tall, sprite, mirrored, ground)
            if rng.random() < 0.3:
                yield Person(aside + 0.55, z + 0.3, _between(rng, 1.5, 1.9), (sprite + 3) % PEOPLE, mirrored, ground)
        for crossing in self.crossings:
            for _ in range(int(rng.integers(0, 4)) if crossing.near > z0 + 8 else 0):
                x, z = _between(rng, -self.half, self.half), crossing.near - 2.6 + _between(rng, -0.9, 0.9)
                yield Person(x, z, _between(rng, 1.55, 1.9), int(rng.integers(PEOPLE)), bool(rng.integers(2)), 0.0)

    def _paint_ground(self, canvas: Canvas) -> None:
        """Grass everywhere, the road and its side streets on it, then markings, kerbs and pavements."""
        ground = self.textures.ground

        def laid(tile: int, metres: float) -> Surface:
            return Surface(ground, (0, 0.0, metres), (2, 0.0, metres), np.array([[tile]], np.int32))

        asphalt, paving, lawn = laid(ASPHALT, 4.0), laid(PAVING, 4.0), laid(LAWN, 5.0)
        half, walk = self.half, self.walk
        canvas.paint(things.flat(-half, half, -12, 640, 0), ROAD, asphalt)
        for side in (-1, 1):
            edge = side * half
            canvas.paint(things.flat(edge, side * 400, -12, 640, 0), GRASS, lawn)
            for crossing in self.crossings:
                if side in crossing.sides:
                    strip = things.flat(edge, side * 160, crossing.near, crossing.far, 0)
                    canvas.paint(strip, ROAD, asphalt, decal=True)
            for start, end in self._blocks(side):
                outer = edge + side * walk
                canvas.paint(things.along(edge, 0, KERB, start, end), PAVEMENT, (168, 166, 160))
                canvas.paint(things.flat(edge, outer, start, end, KERB), PAVEMENT, paving)
                kerb = things.flat(edge, edge + side * 0.18, start, end, KERB)
                canvas.paint(kerb, PAVEMENT, (186, 184, 178), decal=True)
                for near, far in ((start, start + walk), (end - walk, end)):  # along the side street
                    canvas.paint(things.flat(outer, side * 90, near, far, KERB), PAVEMENT, paving)
                canvas.paint(things.upright(edge, side * 90, 0, KERB, start), PAVEMENT, (168, 166, 160))
        self._paint_markings(canvas)

    def _paint_markings(self, canvas: Canvas) -> None:
        """The dashed centre line, edge lines, and a zebra before each crossing."""
        white = (212, 212, 206)
        z0 = canvas.camera.position[2]
        for side in (-1, 1):
            for start, end in self._blocks(side):
                gutter = things.flat(side * (self.half - 0.35), side * self.half, start, end, 0)
                canvas.paint(gutter, ROAD, (84, 82, 80), decal=True)
                line = things.flat(side * (self.half - 2.1), side * (self.half - 2.2), start + 6, end - 7, 0)
                if self.half >= PARKING_HALF:
                    canvas.paint(line, ROAD, white, decal=True)
        for place in range(int(z0 / 6) - 1, int(z0 / 6) + 22):
            z = place * 6.0
            if all(not c.near - 9 < z < c.far + 1 for c in self.crossings):
                canvas.paint(things.flat(-0.07, 0.07, z, z + 3, 0), ROAD, white, decal=True)
        for crossing in self.crossings:
            near = crossing.near - 4.2
            if not z0 - 4 < near < z0 + 110:
                continue
            for bar in range(int(self.half / 0.5)):
                x = -self.half + 0.3 + bar * 1.0
                canvas.paint(things.flat(x, x + 0.5, near, near + 3, 0), ROAD, white, decal=True)
            canvas.paint(things.flat(0.15, self.half - 0.3, near - 1.3, near - 0.9, 0), ROAD, white, decal=True)

    def _paint_shadows(self, canvas: Canvas, cars: list[Vehicle], people: list[Person]) -> None:
        for car in cars:
            vehicles.ground_contact(canvas, car)
        if self.light.sunlight[0] > 0.3:
            for house in self.houses:
                things.cast_box(canvas, (house.front, house.back), (house.near, house.far), house.height)
            for tree in self.trees:
                things.cast_round(canvas, tree.x, tree.z, tree.height * 0.6, tree.height * 0.28)
            for car in cars:
                (x0, _, z0), (x1, _, z1) = car.at(0, -0.8, 0), car.at(car.length, 0.8, 0)
                things.cast_box(canvas, (x0, x1), (z0, z1), car.shape.profile[4][1] * 0.9)
            for person in people:
                things.cast_round(canvas, person.x, person.z, person.height * 0.6, person.height * 0.2)
        for person in people:
            things.cast_round(canvas, person.x, person.z, 0.0, 0.3)
        canvas.cast_shadows()

    def _paint_things(self, canvas: Canvas, cars: list[Vehicle], people: list[Person]) -> None:
        start = canvas.camera.position[2]
        for house in sorted(self.houses, key=lambda house: house.near):
            if house.far > start:
                things.paint_building(canvas, self.textures, house)
        for car in cars:
            if start + 3 < car.z < start + things.FAR:
                vehicles.paint_car(canvas, car)
        for tree in self.trees:
            if tree.z > start + 3:
                things.paint_tree(canvas, self.textures, tree)
        for pole in self.poles:
            if start + 3 < pole.z < start + things.FAR:
                things.paint_pole(canvas, pole)
        for sign in self.signs:
            if start + 3 < sign.z < start + 70:
                things.paint_sign(canvas, self.textures, sign)
        for person in people:
            things.paint_person(canvas, self.textures, person)

    def _paint_distance(self, canvas: Canvas) -> None:
        """What closes the street: far roofs, and woods behind them."""
        for rank, (x, wide, high) in enumerate(self.hills):
            if rank % 2:
                wall = things.upright(x, x + wide * 0.4, 0, high, 330 + rank)
                tone = 96 + 6 * rank
                canvas.paint(wall, BUILDING, (tone, tone, tone + 6))
            else:
                z = 420.0 + rank
                wood: list[Point] = [
                    (x - 60, 0, z),
                    (x + wide + 60, 0, z),
                    (x + wide * 0.8, high * 0.6, z),
                    (x + wide * 0.3, high * 0.75, z),
                ]
                canvas.paint(wood, TREE, (76, 96, 66))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _crossings(rng: np.random.Generator) -> Iterator[Crossing]:
    z = _between(rng, 28, 70)
    while z < _LENGTH - 40:
        yield Crossing(z, z + _between(rng, 7, 10), ((-1, 1), (-1,), (1,))[int(rng.integers(3))])
        z += _between(rng, 50, 100)


def _make(rng: np.random.Generator, coaches: float) -> tuple[vehicles.Shape, Rgb]:
    """A vehicle's form and paint; `coaches` is the share of buses."""
    if rng.random() < coaches:
        return vehicles.COACH, _COACHES[int(rng.integers(len(_COACHES)))]
    shape = (vehicles.SALOON, vehicles.SALOON, vehicles.HATCHBACK, vehicles.HATCHBACK, vehicles.VAN)[
        int(rng.integers(5))
    ]
    return shape, _PAINTS[int(rng.integers(len(_PAINTS)))]


def _sky(rng: np.random.Generator, canvas: Canvas, noise: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """`(H, W, 3)` uint8: a gradient from the horizon up, and clouds that lie in a plane over the street."""
    light, camera = canvas.light, canvas.camera
    rows, columns = camera.size
    sky = np.zeros((rows, columns, 3), np.uint8)
    bottom = max(1, min(rows, int(camera.vanishing[1]) + 1))
    up = ((camera.vanishing[1] - np.arange(bottom)) / camera.focal).astype(np.float32)
    distance = np.float32(1) / (up + np.float32(0.09))
    across = (np.arange(columns) - camera.vanishing[0]).astype(np.float32) / np.float32(camera.focal)
    size, drift = len(noise), rng.integers(len(noise), size=2)
    row = ((distance * 42).astype(np.int32) + drift[0]) % size
    column = ((across[None, :] * distance[:, None] * 42).astype(np.int32) + drift[1]) % size
    veil = noise[row[:, None], column]
    cover = (
        np.clip((veil - np.float32(1 - light.cover) * np.float32(0.9)) * 3, 0, 0.92) * np.clip(up * 9, 0, 1)[:, None]
    )
    blend = np.clip(up * np.float32(1.9), 0, 1)
    blend = (blend * (2 - blend))[:, None]
    for channel in range(3):
        base = light.horizon[channel] + (light.zenith[channel] - light.horizon[channel]) * blend
        cloud = light.cloud[channel] * (np.float32(1.06) - np.float32(0.3) * veil)
        sky[:bottom, :, channel] = np.clip(base + (cloud - base) * cover, 0, 255)
    sky[bottom:] = np.array(light.horizon, np.uint8)
    return sky


def _paint_bonnet(canvas: Canvas, colour: Rgb) -> None:
    """The bonnet of the car that carries the camera: void, at the bottom of the picture."""
    rows, columns = canvas.camera.size
    for step in range(16):
        share = step / 16
        tone = 0.3 + 0.55 * share * (2 - share)
        arc = [(0.5 + t * (0.46 - 0.1 * share), 0.9 + 0.1 * share + 0.1 * t * t * t * t) for t in _BONNET_ARC]
        outline = [(columns * x, rows * y) for x, y in arc]
        canvas.overlay(outline, VOID_ID, 1.5, (colour[0] * tone, colour[1] * tone, colour[2] * tone))


_BONNET_ARC = tuple(step / 12 for step in range(-12, 13))


def _developed(rng: np.random.Generator, canvas: Canvas) -> Scene:
    """The canvas at half its size: colours averaged and grained, label and depth of one pixel in four."""
    k = _SUPERSAMPLING
    rows, columns = canvas.camera.size[0] // k, canvas.camera.size[1] // k
    blocks = canvas.colour.reshape(rows, k, columns, k, 3)
    colour = (blocks[:, 0, :, 0].astype(np.int16) + blocks[:, 0, :, 1] + blocks[:, 1, :, 0] + blocks[:, 1, :, 1]) >> 2
    colour += rng.integers(-3, 4, (rows, columns, 1), np.int16)
    centimetres = canvas.depth()[::k, ::k] / np.float32(METRES_PER_UNIT) + np.float32(0.5)
    return Scene(
        np.clip(colour, 0, 255).astype(np.uint8),
        np.ascontiguousarray(canvas.labels[::k, ::k]),
        np.clip(centimetres, 1, 65535).astype(np.uint16),
    )
