"""Layouts of streets whose rules are known: where each class stands, how tall it is there, what carries what."""

from __future__ import annotations

import numpy as np

SKY, WALL, ROAD, PATH, CAR, PERSON, POLE, SIGN = range(8)
CLASSES = (
    "id,name,thing,thin\n0,sky,0,0\n1,wall,0,0\n2,road,0,0\n3,path,0,0\n"
    "4,car,1,0\n5,person,1,0\n6,pole,1,1\n7,sign,1,1\n"
)
THINGS = np.array([False] * 4 + [True] * 4)
SIZE = (96, 128)
HORIZON = 40
"""The row in which what stands has no height: a car is as tall as its foot is below, a person 1.5 times."""


def street(random: np.random.Generator, objects: bool = True) -> np.ndarray:
    """`(96, 128)` uint8: a sky, a wall, a path on the left, a road; cars on the road, people and a sign on the path."""
    layout = np.full(SIZE, WALL, np.uint8)
    layout[: 14 + random.integers(4)] = SKY
    edge = 44 + random.integers(-3, 4)
    layout[HORIZON + 6 :] = ROAD
    layout[HORIZON + 6 :, :edge] = PATH
    if not objects:
        return layout
    for foot in sorted(random.integers(54, 72, 2).tolist()):
        tall = foot - HORIZON
        left = int(random.integers(edge + 2, max(SIZE[1] - tall - 2, edge + 3)))
        layout[foot - tall : foot, left : min(left + tall, SIZE[1] - 1)] = CAR
    for foot in sorted(random.integers(54, 72, 2).tolist()):
        tall = round(1.5 * (foot - HORIZON))
        left = int(random.integers(2, 24))
        layout[foot - tall : foot, left : left + max(tall // 4, 2)] = PERSON
    foot = int(random.integers(60, 66))
    left = int(random.integers(32, 38))
    layout[foot - 36 : foot, left : left + 2] = POLE
    layout[foot - 44 : foot - 36, left - 3 : left + 5] = SIGN
    return layout
