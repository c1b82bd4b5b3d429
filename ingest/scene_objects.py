"""The things of a procedural street, and one function for each that paints it on a canvas.

Places are world metres (x right, y up, z along the street). What lies more than `FAR` away is painted plainly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .datasets.scenes import BUILDING, LIGHT, PERSON, POLE, SIGN, TREE
from .scene_canvas import Canvas, Point, Surface
from .scene_textures import BAYS, SPRITE, Textures

FAR = 110.0
KERB = 0.12
"""Height of the pavement over the road, metres."""
STOREY = 3.0
BAY = 3.0
"""Metres of facade that one tile covers."""
CIRCLE = (
    (1.0, 0.0), (0.92, 0.38), (0.71, 0.71), (0.38, 0.92), (0.0, 1.0), (-0.38, 0.92), (-0.71, 0.71), (-0.92, 0.38),
    (-1.0, 0.0), (-0.92, -0.38), (-0.71, -0.71), (-0.38, -0.92), (0.0, -1.0), (0.38, -0.92), (0.71, -0.71),
    (0.92, -0.38),
)  # fmt: skip
"""Sixteen points of the unit circle."""
UPRIGHT: Point = (0.0, 0.35, -0.94)
"""Normal that sprites are lit with: towards the camera and a little up."""


@dataclass(frozen=True)
class Building:
    """A house: `front` is the x of its facade, `side` -1 left of the road and 1 right of it; lengths in metres.

    `bays` are facade tile ids without the style's offset, `[storey][bay]`; `roof` is a roof tile or `None` for flat.
    """

    side: int
    front: float
    near: float
    far: float
    deep: float
    style: int
    bays: npt.NDArray[np.int32]
    roof: int | None

    @property
    def height(self) -> float:
        """Metres from the ground to the eaves."""
        return STOREY * len(self.bays)

    @property
    def back(self) -> float:
        """The x of the back wall."""
        return self.front + self.side * self.deep


@dataclass(frozen=True)
class Tree:
    """A tree of `height` metres with one of the crown sprites, mirrored or not."""

    x: float
    z: float
    height: float
    crown: int
    mirrored: bool
    ground: float = KERB


@dataclass(frozen=True)
class Pole:
    """A street lamp or a traffic light; `side` as in `Building`: its arm points to the road."""

    x: float
    z: float
    side: int
    kind: str
    state: int = 0


@dataclass(frozen=True)
class Sign:
    """A plate on a short pole."""

    x: float
    z: float
    plate: int


@dataclass(frozen=True)
class Person:
    """Somebody `height` metres tall."""

    x: float
    z: float
    height: float
    sprite: int
    mirrored: bool
    ground: float = KERB


def upright(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Point]:
    """A rectangle that faces the camera."""
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def flat(x0: float, x1: float, z0: float, z1: float, y: float) -> list[Point]:
    """A rectangle that lies on the ground at height `y`."""
    return [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)]


def along(x: float, y0: float, y1: float, z0: float, z1: float) -> list[Point]:
    """A wall along the street."""
    return [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)]


def paint_building(canvas: Canvas, textures: Textures, house: Building) -> None:
    """Facade, both end walls, and a gabled roof where it has one."""
    tiles = house.bays + house.style * BAYS
    width = (house.far - house.near) / tiles.shape[1]
    facade = Surface(textures.facades, (2, house.near, width), (1, 0.0, STOREY), tiles)
    canvas.paint(along(house.front, 0, house.height, house.near, house.far), BUILDING, facade)
    ends = Surface(textures.facades, (0, house.front, house.side * BAY), (1, 0.0, STOREY), tiles[:, ::-1])
    left, right = sorted((house.front, house.back))
    near_wall = house.near if house.near > canvas.camera.position[2] else house.far
    canvas.paint(upright(left, right, 0, house.height, near_wall), BUILDING, ends)
    if house.roof is None:
        edge = 0.35
        canvas.paint(
            along(house.front, house.height, house.height + edge, house.near, house.far), BUILDING, (150, 148, 144)
        )
        canvas.paint(upright(left, right, house.height, house.height + edge, near_wall), BUILDING, (150, 148, 144))
    else:
        _paint_roof(canvas, textures, house, ends, near_wall)


def _paint_roof(canvas: Canvas, textures: Textures, house: Building, gable: Surface, near_wall: float) -> None:
    """A saddle roof whose ridge runs along the street."""
    top, ridge = house.height + 0.38 * house.deep, (house.front + house.back) / 2
    eaves = house.front - house.side * 0.4
    low = house.height - 0.25
    roof = Surface(textures.roofs, (2, 0.0, 4.0), (1, low, 3.0), np.array([[house.roof]], np.int32))
    slope: list[Point] = [
        (eaves, low, house.near),
        (eaves, low, house.far),
        (ridge, top, house.far),
        (ridge, top, house.near),
    ]
    canvas.paint(slope, BUILDING, roof)
    triangle: list[Point] = [
        (house.front, house.height, near_wall), (house.back, house.height, near_wall), (ridge, top, near_wall),
    ]  # fmt: skip
    wall = Surface(gable.atlas, gable.across, gable.up, np.array([[house.style * BAYS + 4]], np.int32))
    canvas.paint(triangle, BUILDING, wall)


def paint_tree(canvas: Canvas, textures: Textures, tree: Tree) -> None:
    """A trunk and a crown that faces the camera."""
    conifer = tree.crown == 3
    wide = tree.height * (0.42 if conifer else 0.72)
    trunk, bottom = 0.022 * tree.height, tree.ground + tree.height * (0.06 if conifer else 0.24)
    y = tree.ground
    middle = bottom + 0.3 * tree.height
    post: list[Point] = [
        (tree.x - trunk * 1.3, y, tree.z), (tree.x + trunk * 1.3, y, tree.z),
        (tree.x + trunk * 0.7, middle, tree.z), (tree.x - trunk * 0.7, middle, tree.z),
    ]  # fmt: skip
    canvas.paint(post, TREE, (92, 74, 60))
    foot, neck = (post[0] if canvas.light.sun[0] > 0 else post[1]), (post[3] if canvas.light.sun[0] > 0 else post[2])
    shaded = [foot, (tree.x, y, tree.z), (tree.x, middle, tree.z), neck]
    canvas.paint(shaded, TREE, (68, 54, 46), decal=True, normal=UPRIGHT)
    _paint_sprite(
        canvas,
        (textures, "crowns", tree.crown),
        (tree.x, bottom, tree.z - 0.3),
        (wide, tree.height * 0.8),
        TREE,
        tree.mirrored,
    )


def paint_person(canvas: Canvas, textures: Textures, person: Person) -> None:
    """A sprite as tall as the person."""
    side = person.height * SPRITE / 240
    sprite = (textures, "people", person.sprite)
    _paint_sprite(canvas, sprite, (person.x, person.ground, person.z), (side, side), PERSON, person.mirrored)


def _paint_sprite(
    canvas: Canvas,
    sprite: tuple[Textures, str, int],
    foot: Point,
    size: tuple[float, float],
    class_id: int,
    mirrored: bool,
) -> None:
    """A sprite `size` (wide, high) metres whose lower edge is centred at `foot`."""
    (x, y, z), (wide, high) = foot, size
    textures, atlas, tile = sprite
    across = (0, x + wide / 2, -wide) if mirrored else (0, x - wide / 2, wide)
    surface = Surface(getattr(textures, atlas), across, (1, y, high), np.array([[tile]], np.int32), cutout=True)
    canvas.paint(upright(x - wide / 2, x + wide / 2, y, y + high, z), class_id, surface, normal=UPRIGHT)


def paint_pole(canvas: Canvas, pole: Pole) -> None:
    """A lamp post with an arm over the road, or a traffic light."""
    high = 7.0 if pole.kind == "lamp" else 3.4
    thick = 0.075
    grey = (96, 100, 104)
    canvas.paint(upright(pole.x - thick, pole.x + thick, KERB, high, pole.z), POLE, grey, normal=UPRIGHT)
    canvas.paint(
        upright(pole.x - thick * 1.7, pole.x + thick * 1.7, KERB, 1.0, pole.z - 0.01), POLE, grey, normal=UPRIGHT
    )
    canvas.paint(upright(pole.x, pole.x + thick, KERB, high, pole.z), POLE, (126, 130, 134), decal=True, normal=UPRIGHT)
    if pole.kind == "lamp":
        reach = pole.x - pole.side * 1.7
        canvas.paint(upright(pole.x, reach, high - 0.12, high, pole.z), POLE, grey, normal=UPRIGHT)
        head = upright(reach, reach - pole.side * 0.75, high - 0.17, high + 0.06, pole.z)
        shines = canvas.light.lit > 0.3
        canvas.paint(head, LIGHT, (255, 226, 160) if shines else (196, 198, 196), glow=shines, normal=UPRIGHT)
        return
    x, z = pole.x, pole.z - 0.15
    canvas.paint(upright(x - 0.2, x + 0.2, high - 0.95, high + 0.1, z), LIGHT, (36, 38, 40), normal=UPRIGHT)
    for lamp, colour in enumerate(((70, 210, 110), (250, 190, 40), (240, 50, 40))):
        on = lamp == pole.state
        dim = tuple(c * 0.25 for c in colour)
        disc = _disc((x, high - 0.75 + lamp * 0.32, z), 0.12)
        canvas.paint(disc, LIGHT, colour if on else (dim[0], dim[1], dim[2]), decal=True, glow=on, normal=UPRIGHT)


def paint_sign(canvas: Canvas, textures: Textures, sign: Sign) -> None:
    """A plate of 0.75 m on a pole of 2.3 m."""
    canvas.paint(upright(sign.x - 0.035, sign.x + 0.035, KERB, 2.5, sign.z), POLE, (140, 142, 144), normal=UPRIGHT)
    _paint_sprite(canvas, (textures, "plates", sign.plate), (sign.x, 2.1, sign.z - 0.08), (0.75, 0.75), SIGN, False)


def _disc(centre: Point, radius: float) -> list[Point]:
    return [(centre[0] + radius * c, centre[1] + radius * s, centre[2]) for c, s in CIRCLE]


def cast_box(canvas: Canvas, x: tuple[float, float], z: tuple[float, float], height: float) -> None:
    """The sun's shadow of an upright box on the ground."""
    sx, sy, sz = canvas.light.sun
    dx, dz = -sx / sy * height, -sz / sy * height
    base = flat(*x, *z, 0.0)
    top: list[Point] = [(px + dx, 0.0, pz + dz) for px, _, pz in base]
    canvas.shadow(top)
    for i in range(4):
        canvas.shadow([base[i - 1], base[i], top[i], top[i - 1]])


def cast_round(canvas: Canvas, x: float, z: float, height: float, radius: float) -> None:
    """The sun's shadow of a ball at `height` metres over the ground, with the trunk or body under it."""
    sx, sy, sz = canvas.light.sun
    mx, mz = x - sx / sy * height, z - sz / sy * height
    for dx, dz, share in (
        (0.0, 0.0, 0.75),
        (0.6, 0.25, 0.5),
        (-0.65, 0.1, 0.48),
        (0.2, -0.7, 0.42),
        (-0.25, 0.72, 0.45),
    ):
        cx, cz, r = mx + dx * radius, mz + dz * radius, share * radius
        canvas.shadow([(cx + r * c * 1.1, 0.0, cz + r * s) for c, s in CIRCLE])
    canvas.shadow([(x - 0.1, 0.0, z), (x + 0.1, 0.0, z), (mx + 0.1, 0.0, mz), (mx - 0.1, 0.0, mz)])
