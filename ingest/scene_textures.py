"""Textures of the procedural scenes, drawn from noise: ground, facades, tree crowns, people, sign plates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .scene_canvas import Atlas, Rgb

Plane = npt.NDArray[np.float32]
"""`(size, size)` or `(size, size, 3)` float32."""

TILE = 128
"""Pixels a side of a ground or facade tile."""
SPRITE = 256
"""Pixels a side of a tree, a person or a plate."""

DARK, REFLECTING, CURTAIN, LIT, BLANK, SHOP, DOOR = range(7)
"""Bays of one facade style, in the order of its tiles."""
BAYS = 7

CROWNS, PEOPLE, PLATES = 4, 10, 5
"""How many of each sprite there are."""


@dataclass(frozen=True)
class FacadeStyle:
    """How one kind of house looks; `window` is top, left, bottom, right in tile pixels."""

    wall: Rgb
    pattern: str
    window: tuple[int, int, int, int]
    frame: Rgb
    mullions: tuple[int, int]


STYLES = (
    FacadeStyle((171, 92, 70), "brick", (30, 40, 96, 88), (236, 232, 222), (1, 2)),
    FacadeStyle((216, 197, 160), "plaster", (26, 38, 98, 90), (245, 242, 235), (2, 2)),
    FacadeStyle((193, 196, 198), "plaster", (34, 22, 92, 106), (70, 74, 80), (3, 1)),
    FacadeStyle((139, 128, 115), "stone", (24, 42, 100, 86), (225, 218, 205), (2, 3)),
    FacadeStyle((92, 108, 122), "glass", (10, 4, 122, 124), (58, 66, 74), (3, 1)),
    FacadeStyle((206, 148, 118), "plaster", (28, 36, 94, 92), (250, 246, 238), (2, 1)),
    FacadeStyle((120, 66, 56), "brick", (32, 30, 92, 98), (52, 50, 50), (3, 1)),
    FacadeStyle((168, 184, 170), "plaster", (26, 40, 98, 88), (250, 250, 246), (2, 2)),
)
GLASS_STYLE = 4


@dataclass(frozen=True)
class Textures:
    """All atlases of one street; `facades` holds `BAYS` tiles a style."""

    ground: Atlas
    facades: Atlas
    roofs: Atlas
    crowns: Atlas
    people: Atlas
    plates: Atlas
    noise: Plane

    @classmethod
    def drawn(cls, rng: np.random.Generator, sun_side: float, lit: float) -> Textures:
        """Textures for one street; `sun_side` is -1 (left) to 1 (right), `lit` the share of lit windows."""
        noise = fractal_noise(rng, SPRITE, 4, 6)
        fine = [fractal_noise(rng, TILE, 8, 5) for _ in range(3)]
        return cls(
            Atlas(_opaque([_asphalt(rng, fine[0]), _paving(rng, fine[1]), _grass(rng, fine[2])])),
            Atlas(np.concatenate([_facade(rng, style, fine, lit) for style in STYLES])),
            Atlas(_opaque([_roof(rng, fine[i], colour) for i, colour in enumerate(ROOFS)])),
            Atlas(np.stack([_crown(rng, noise, sun_side, i) for i in range(CROWNS)])),
            Atlas(np.stack([_person(rng, noise, sun_side) for _ in range(PEOPLE)])),
            Atlas(np.stack([_plate(i) for i in range(PLATES)])),
            noise,
        )


ASPHALT, PAVING, LAWN = range(3)
ROOFS: tuple[Rgb, ...] = ((150, 76, 58), (86, 84, 88), (112, 72, 60))


def fractal_noise(rng: np.random.Generator, size: int, cells: int, octaves: int) -> Plane:
    """`(size, size)` float32 in about [0, 1], tileable: value noise summed over octaves (fBm, Musgrave 1994)."""
    total, weight = np.zeros((size, size), np.float32), 0.0
    for octave in range(octaves):
        amplitude = 0.5**octave
        total += np.float32(amplitude) * _value_noise(rng, size, min(size, cells << octave))
        weight += amplitude
    stretched: Plane = (total / np.float32(weight) - np.float32(0.5)) * np.float32(1.6) + np.float32(0.5)
    return np.clip(stretched, 0, 1)


def _value_noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    grid = rng.random((cells, cells), np.float32)
    position = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    low = position.astype(np.int32)
    t = position - low
    t = t * t * (3 - 2 * t)
    high = (low + 1) % cells
    rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
    values: Plane = rows[:, low] * (1 - t) + rows[:, high] * t
    return values


def _coloured(colour: Rgb, factor: Plane) -> Plane:
    """`(size, size, 3)`: the colour times a factor a pixel."""
    return np.array(colour, np.float32) * factor[:, :, None]


def _opaque(tiles: Sequence[Plane]) -> npt.NDArray[np.uint8]:
    """Float tiles as `(n, size, size, 4)` uint8 RGBA without holes."""
    stack = np.clip(np.stack(tiles), 0, 255).astype(np.uint8)
    return np.concatenate([stack, np.full((*stack.shape[:3], 1), 255, np.uint8)], axis=-1)


def _asphalt(rng: np.random.Generator, noise: Plane) -> Plane:
    tone = 0.82 + 0.25 * noise + 0.14 * rng.random(noise.shape, np.float32)
    return _coloured((96, 97, 101), tone)


def _paving(rng: np.random.Generator, noise: Plane) -> Plane:
    slabs = 8
    step = TILE // slabs
    tone = np.kron(0.9 + 0.16 * rng.random((slabs, slabs), np.float32), np.ones((step, step), np.float32))
    tone = tone * (0.9 + 0.16 * noise) + 0.04 * rng.random(noise.shape, np.float32)
    tone[::step] *= 0.78
    tone[:, ::step] *= 0.78
    return _coloured((172, 166, 156), tone)


def _grass(rng: np.random.Generator, noise: Plane) -> Plane:
    tone = 0.55 + 0.5 * noise + 0.3 * rng.random(noise.shape, np.float32)
    return _coloured((98, 132, 58), tone)


def _roof(rng: np.random.Generator, noise: Plane, colour: Rgb) -> Plane:
    rows = np.arange(TILE) % 16
    tone = (0.78 + 0.3 * noise) * (1.1 - 0.025 * rows[:, None].astype(np.float32))
    tone = tone + 0.08 * rng.random(noise.shape, np.float32)
    tone[rows == 15] *= 0.72
    return _coloured(colour, tone)


def _wall(rng: np.random.Generator, style: FacadeStyle, noise: Plane) -> Plane:
    tone = 0.86 + 0.2 * noise + 0.05 * rng.random(noise.shape, np.float32)
    if style.pattern in ("brick", "stone"):
        height, width = (8, 16) if style.pattern == "brick" else (16, 32)
        rows, columns = np.arange(TILE)[:, None] // height, np.arange(TILE)[None, :]
        shifted = (columns + (rows % 2) * (width // 2)) % TILE
        tone = tone * (0.84 + 0.3 * rng.random((TILE // height, TILE // width), np.float32))[rows, shifted // width]
        joints = (np.arange(TILE)[:, None] % height == 0) | (shifted % width == 0)
        tone = np.where(joints, tone * 0.84 + 0.1, tone)
    return _coloured(style.wall, tone.astype(np.float32))


def _facade(rng: np.random.Generator, style: FacadeStyle, fine: Sequence[Plane], lit: float) -> npt.NDArray[np.uint8]:
    """`(BAYS, TILE, TILE, 4)`: the bays of one style; lit panes glow."""
    wall = _wall(rng, style, fine[0])
    wall[116:120] *= 1.1  # string course under the next storey
    wall[120:122] *= 0.72
    tiles = []
    for bay in range(BAYS):
        tile = np.concatenate([wall, np.full((TILE, TILE, 1), 255, np.float32)], axis=-1)
        if bay in (DARK, REFLECTING, CURTAIN, LIT):
            _draw_window(tile, style, bay, fine[1])
        elif bay == SHOP:
            _draw_shop(rng, tile, lit)
        elif bay == DOOR:
            _draw_door(rng, tile, style)
        tiles.append(tile)
    stack: npt.NDArray[np.uint8] = np.clip(np.stack(tiles), 0, 255).astype(np.uint8)
    return stack


def _draw_window(tile: Plane, style: FacadeStyle, bay: int, noise: Plane) -> None:
    top, left, bottom, right = style.window
    tile[top - 4 : bottom + 4, left - 4 : right + 4, :3] = style.frame
    rows = np.linspace(0, 1, bottom - top, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, right - left, dtype=np.float32)[None, :]
    pane = tile[top:bottom, left:right]
    sky = np.clip(1.15 - rows - 0.35 * columns + 0.5 * (noise[top:bottom, left:right] - 0.5), 0.12, 1)
    shine = 0.35 if bay in (DARK, CURTAIN) else 0.95
    pane[..., :3] = np.array((34, 42, 52), np.float32) + shine * sky[..., None] * np.array((140, 160, 178), np.float32)
    if bay == CURTAIN:
        drawn = (columns < 0.3) | (columns > 0.72) | (rows < 0.12)
        pane[np.broadcast_to(drawn, pane.shape[:2]), :3] = (206, 198, 184)
    if bay == LIT:
        warm = 0.75 + 0.25 * (1 - np.abs(2 * columns - 1)) * (1.2 - rows)
        pane[..., :3] = np.array((255, 206, 122), np.float32) * np.minimum(warm, 1)[..., None]
        pane[..., 3] = 160
    for count, axis in zip(style.mullions, (1, 0), strict=True):
        for bar in range(1, count):
            at = pane.shape[axis] * bar // count
            part = pane[:, at - 1 : at + 2] if axis == 1 else pane[at - 1 : at + 2]
            part[..., :3], part[..., 3] = style.frame, 255
    pane[:4, :, :3] *= 0.55  # the reveal throws a shadow
    if style.pattern != "glass":
        tile[bottom + 4 : bottom + 9, left - 8 : right + 8, :3] = np.array(style.frame, np.float32) * 0.92
        tile[bottom + 9 : bottom + 13, left - 6 : right + 6, :3] *= 0.66


def _draw_shop(rng: np.random.Generator, tile: Plane, lit: float) -> None:
    awning = np.array(((150, 40, 42), (38, 84, 66), (36, 60, 110), (190, 140, 50))[int(rng.integers(4))], np.float32)
    tile[8:34, :, :3] = awning
    tile[14:26, 20:108, :3] = awning * 0.35 + 160
    tile[16:24, 26:102:9, :3] = awning * 0.7
    tile[34:40, :, :3] *= 0.5
    tile[40:112, 6:122, :3] = np.linspace(120, 52, 72, dtype=np.float32)[:, None, None] * np.array(
        (0.9, 1, 1.08), np.float32
    )
    for left in range(12, 112, 14):  # goods behind the pane
        height = int(rng.integers(12, 40))
        tile[108 - height : 108, left : left + 9, :3] = rng.integers(50, 210, 3)
    if lit > 0.3:
        tile[40:112, 6:122, :3] = tile[40:112, 6:122, :3] * 0.6 + np.array((120, 92, 50), np.float32)
        tile[40:112, 6:122, 3] = 160
    tile[40:112, 62:66, :3], tile[40:112, 62:66, 3] = (48, 46, 46), 255
    tile[112:, :, :3] *= 0.6


def _draw_door(rng: np.random.Generator, tile: Plane, style: FacadeStyle) -> None:
    tile[28:, 38:90, :3] = style.frame
    door = np.array(rng.integers(30, 120, 3), np.float32)
    tile[34:, 43:85, :3] = door
    for top, bottom in ((62, 86), (92, 118)):
        tile[top:bottom, 48:62, :3] = door * 0.75
        tile[top:bottom, 66:80, :3] = door * 0.75
    tile[37:54, 46:82, :3] = (120, 140, 152)


def _crown(rng: np.random.Generator, noise: Plane, sun_side: float, kind: int) -> npt.NDArray[np.uint8]:
    """A tree crown of many lit leaf balls, the lowest and hindmost first; the last kind is a conifer."""
    green = np.array(((86, 118, 48), (104, 126, 44), (70, 106, 52), (54, 88, 56))[kind], np.float32)
    sprite = np.zeros((SPRITE, SPRITE, 4), np.float32)
    sprite[..., :3] = green * 0.5
    leaves = 0.62 + 0.76 * rng.random((SPRITE // 2, SPRITE // 2), np.float32).repeat(2, 0).repeat(2, 1)
    leaves = leaves * (0.7 + 0.6 * noise)
    rough = np.roll(noise, int(rng.integers(SPRITE)), axis=1) - np.float32(0.5)
    rough = rough + 0.5 * (leaves - 1)
    for ball in _leaf_balls(rng, kind == CROWNS - 1):
        _draw_ball(sprite, ball, green, leaves, rough, sun_side)
    return np.clip(sprite, 0, 255).astype(np.uint8)


def _leaf_balls(rng: np.random.Generator, conifer: bool) -> list[tuple[float, float, float]]:
    """Column, row and radius of leaf balls, in sprite pixels, back to front."""
    balls: list[tuple[float, float, float]] = []
    while len(balls) < 46:
        x, y = rng.random(2) * 2 - 1
        width = 0.12 + 0.5 * (y + 1) / 2 if conifer else 0.74
        if conifer and abs(x) < width:
            balls.append((x * 96, y * 104, 14 + 14 * rng.random()))
        elif not conifer and x * x / (width * width) + y * y / 0.55 < 1:
            balls.append((x * 112, y * 112, 20 + 20 * rng.random()))
    balls.sort(key=lambda ball: -ball[1] + 60 * rng.random())
    return [(128 + x, 128 + y, radius) for x, y, radius in balls]


def _draw_ball(
    sprite: Plane, ball: tuple[float, float, float], green: Plane, leaves: Plane, rough: Plane, sun_side: float
) -> None:
    x, y, radius = ball
    reach = radius * 1.3
    rows = slice(max(0, int(y - reach)), min(SPRITE, int(y + reach)))
    columns = slice(max(0, int(x - reach)), min(SPRITE, int(x + reach)))
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(radius)
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(x)) / np.float32(radius)
    inside = dx * dx + dy * dy + 0.9 * rough[rows, columns] < 0.85
    height = (np.float32(y) - SPRITE / 2) / SPRITE  # lower balls stand in the crown's own shade
    lit = np.clip(0.78 - 0.34 * dy + 0.3 * sun_side * dx - 0.6 * height, 0.3, 1.5) * leaves[rows, columns]
    part = sprite[rows, columns]
    part[inside, :3] = (green * lit[..., None])[inside]
    part[inside, 3] = 255


_SKIN: tuple[Rgb, ...] = ((232, 190, 160), (198, 146, 112), (142, 96, 70), (96, 64, 48))
_HAIR: tuple[Rgb, ...] = ((40, 30, 26), (92, 64, 40), (176, 140, 84), (130, 126, 122))
_CLOTHES: tuple[Rgb, ...] = (
    (44, 52, 74), (150, 44, 46), (222, 218, 208), (58, 62, 60), (54, 96, 132), (196, 154, 74), (86, 110, 84),
    (110, 74, 110),
)  # fmt: skip


def _person(rng: np.random.Generator, noise: Plane, sun_side: float) -> npt.NDArray[np.uint8]:
    """Somebody walking or standing, 240 of the sprite's 256 rows tall, in its middle."""
    sprite = np.zeros((SPRITE, SPRITE, 4), np.uint8)

    def pick(colours: Sequence[Rgb]) -> Rgb:
        return colours[int(rng.integers(len(colours)))]

    skin, hair, coat, trousers = pick(_SKIN), pick(_HAIR), pick(_CLOTHES), pick(_CLOTHES[:5])
    stride, swing = int(rng.integers(4, 26)), int(rng.integers(4, 20))
    arm = (coat[0] * 0.82, coat[1] * 0.82, coat[2] * 0.82)
    _limb(sprite, [(120, 132), (122 - stride // 2, 186), (118 - stride, 242)], trousers, 17, 0.8)
    _limb(sprite, [(116 - stride, 248), (126 - stride, 249)], (30, 28, 28), 11, 1)
    _limb(sprite, [(138, 68), (146 + swing // 2, 104), (142 + swing, 132)], arm, 12, 0.9)
    _limb(sprite, [(136, 132), (138 + stride // 2, 186), (136 + stride, 242)], trousers, 18, 1)
    _limb(sprite, [(136 + stride, 248), (146 + stride, 249)], (34, 32, 32), 11, 1)
    hem = int(rng.integers(128, 158))
    torso = [(106, 62), (118, 53), (138, 53), (150, 62), (149, 100), (152, hem), (104, hem), (107, 100)]
    cv2.fillPoly(sprite, [np.array(torso, np.int32)], (*coat, 255))
    _limb(sprite, [(110, 68), (106 - swing // 2, 104), (110 - swing, 134)], arm, 13, 1)
    _limb(sprite, [(110 - swing, 139), (110 - swing, 141)], skin, 10, 1)
    _limb(sprite, [(128, 44), (128, 54)], skin, 12, 0.85)
    cv2.ellipse(sprite, (128, 30), (15, 19), 0, 0, 360, (*skin, 255), -1)
    cv2.ellipse(sprite, (128, 25), (17, 17), 0, 170, 370, (*hair, 255), -1)
    if rng.random() < 0.4:
        cv2.ellipse(sprite, (112, 86), (13, 26), 0, 0, 360, (*pick(_CLOTHES), 255), -1)
    side = np.linspace(-1, 1, SPRITE, dtype=np.float32)[None, :] * 3
    shade = np.clip(0.94 + 0.3 * sun_side * side, 0.66, 1.25) * (0.8 + 0.4 * noise)
    sprite[..., :3] = np.clip(sprite[..., :3] * shade[..., None], 0, 255).astype(np.uint8)
    return sprite


def _limb(sprite: npt.NDArray[np.uint8], joints: list[tuple[int, int]], colour: Rgb, width: int, tone: float) -> None:
    points = [np.array(joints, np.int32)]
    cv2.polylines(sprite, points, False, (*(c * tone for c in colour), 255), width)


def _plate(kind: int) -> npt.NDArray[np.uint8]:
    """A sign plate: no entry, speed limit, warning, parking, stop."""
    sprite = np.zeros((SPRITE, SPRITE, 4), np.uint8)
    centre, red, white = (128, 128), (196, 30, 38, 255), (244, 244, 240, 255)
    if kind == 0:
        cv2.circle(sprite, centre, 122, red, -1)
        cv2.rectangle(sprite, (44, 108), (212, 148), white, -1)
    elif kind == 1:
        cv2.circle(sprite, centre, 122, red, -1)
        cv2.circle(sprite, centre, 92, white, -1)
        cv2.rectangle(sprite, (86, 84), (98, 172), (30, 30, 30, 255), -1)
        cv2.ellipse(sprite, (150, 128), (24, 42), 0, 0, 360, (30, 30, 30, 255), 12)
    elif kind == 2:
        cv2.fillPoly(sprite, [np.array([(128, 14), (246, 230), (10, 230)], np.int32)], red)
        cv2.fillPoly(sprite, [np.array([(128, 66), (206, 208), (50, 208)], np.int32)], white)
        cv2.line(sprite, (128, 110), (128, 160), (30, 30, 30, 255), 16)
        cv2.circle(sprite, (128, 186), 10, (30, 30, 30, 255), -1)
    elif kind == 3:
        cv2.rectangle(sprite, (14, 14), (242, 242), (28, 84, 168, 255), -1)
        cv2.line(sprite, (96, 56), (96, 206), white, 26)
        cv2.ellipse(sprite, (120, 96), (46, 38), 0, -90, 90, white, 26)
    else:
        corners = [(78, 8), (178, 8), (248, 78), (248, 178), (178, 248), (78, 248), (8, 178), (8, 78)]
        cv2.fillPoly(sprite, [np.array(corners, np.int32)], red)
        cv2.rectangle(sprite, (52, 106), (204, 150), white, -1)
        cv2.rectangle(sprite, (66, 118), (190, 138), red, -1)
    return sprite
