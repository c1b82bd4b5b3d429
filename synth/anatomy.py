"""What a label map says of its objects: what they stand on, what carries them, and what hides them.

An object is a component of a thing class. Its foot is the lower edge of its box. It *rests* on what lies right below
the lowest pixels of its columns in the lowest fifth of its height. Another object on which it rests with more columns
than on ground *carries* it, if that one reaches lower: a sign's pole, but also the car that hides the lower half of a
pedestrian. What rests on neither is carried by the object it touches most. What carries each other belongs together,
wherever it goes. Else an object *bites* those that it touches and that do not reach as low: it is in front of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.layouts import areas_and_boxes

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))
CONTACT_SHARE = 0.2
"""Of an object's height, from its foot: where its columns must end for what is below to count."""


class Anatomy(NamedTuple):
    """Of the components 1..n of a label map; row 0 is of void and says nothing.

    Attributes:
        areas: `(n + 1,)` int64 pixels; boxes: `(n + 1, 4)` int32.
        contact: `(n + 1, C + 1)` int32, columns in which an object rests on each class; the last one counts void.
        carrier: `(n + 1,)` int64, the object that carries it, 0 for none.
        root: `(n + 1,)` int64, the lowest of what carries it, itself where nothing does; 0 for stuff.
        bitten: `(n + 1,)` float64 in 0..1, the share of an object's outline where another one in front of it begins.
        bites: the share where one behind it begins that it does not carry.
    """

    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int32]
    contact: npt.NDArray[np.int32]
    carrier: npt.NDArray[np.int64]
    root: npt.NDArray[np.int64]
    bitten: npt.NDArray[np.float64]
    bites: npt.NDArray[np.float64]


def anatomy(
    labels: npt.NDArray[np.uint32],
    class_index: npt.NDArray[np.int64],
    objects: npt.NDArray[np.bool_],
    ground: npt.NDArray[np.bool_],
) -> Anatomy:
    """Measures every object of a label map.

    Args:
        labels: `(H, W)` uint32, 0 is void, 1..n the components.
        class_index: `(n + 1,)`, of each component in 0..C - 1, C for void.
        objects: `(n + 1,)`, which components are objects.
        ground: `(C + 1,)`, which classes are ground.
    """
    n = len(class_index) - 1
    areas, boxes = areas_and_boxes(labels, n)
    areas, boxes = np.insert(areas, 0, 0), np.insert(boxes, 0, 0, axis=0)
    contact = np.zeros((n + 1, len(ground)), np.int32)
    carrier, bitten, bites = np.zeros(n + 1, np.int64), np.zeros(n + 1), np.zeros(n + 1)
    _find_carriers(labels, boxes, class_index, objects, ground, contact, carrier)
    _compare_outlines(labels, boxes, objects, carrier, bitten, bites)
    root = np.where(objects, np.arange(n + 1), 0)
    for label in np.argsort(-boxes[:, 2], kind="stable").tolist():  # what carries comes first: it reaches lower
        if carrier[label]:
            root[label] = root[carrier[label]]
    return Anatomy(areas, boxes, contact, carrier, root, bitten, bites)


@nb.njit(cache=True, nogil=True)
def _find_carriers(labels, boxes, class_index, objects, ground, contact, carrier):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    counts, counted = np.zeros(len(objects), np.int64), np.empty(len(objects), np.int64)
    for label in range(1, len(objects)):
        top, left, bottom, right = boxes[label]
        if not objects[label] or bottom == top:
            continue
        lowest = bottom - max(np.int64(CONTACT_SHARE * (bottom - top)), 1)
        n, on_ground = 0, 0
        for col in range(left, right):
            for row in range(bottom - 1, lowest - 1, -1):
                if labels[row, col] == label:
                    if row + 1 < rows:
                        other = labels[row + 1, col]
                        contact[label, class_index[other]] += 1
                        on_ground += ground[class_index[other]]
                        n = _count(other, objects, counts, counted, n)
                    break
        carrier[label] = _most(counts, counted[:n], boxes, bottom, on_ground)
        if carrier[label] or on_ground or bottom == rows:
            continue
        n = 0
        for row in range(top, bottom):
            for col in range(left, right):
                if labels[row, col] == label:
                    for down, along in NEIGHBOURS:
                        y, x = row + down, col + along
                        if 0 <= y < rows and 0 <= x < cols and labels[y, x] != label:
                            n = _count(labels[y, x], objects, counts, counted, n)
        carrier[label] = _most(counts, counted[:n], boxes, bottom, 0)


@nb.njit(cache=True, nogil=True)
def _count(label, objects, counts, counted, n):  # type: ignore[no-untyped-def]
    """Counts an object; `counted` lists the first n that were. Returns how many they are now."""
    if not objects[label]:
        return n
    if counts[label] == 0:
        counted[n] = label
        n += 1
    counts[label] += 1
    return n


@nb.njit(cache=True, nogil=True)
def _most(counts, counted, boxes, bottom, least):  # type: ignore[no-untyped-def]
    """The object that reaches lower and was counted most, more than `least` times, 0 for none; clears the counts."""
    best, found = 0, least
    for label in counted:
        if boxes[label, 2] > bottom and counts[label] > found:
            best, found = label, counts[label]
        counts[label] = 0
    return best


@nb.njit(cache=True, nogil=True)
def _compare_outlines(labels, boxes, objects, carrier, bitten, bites):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    for label in range(1, len(objects)):
        top, left, bottom, right = boxes[label]
        if not objects[label] or bottom == top:
            continue
        outline, hidden, hides = 0, 0, 0
        for row in range(top, bottom):
            for col in range(left, right):
                if labels[row, col] != label:
                    continue
                for down, along in NEIGHBOURS:
                    y, x = row + down, col + along
                    if y < 0 or x < 0 or y >= rows or x >= cols or labels[y, x] == label:
                        continue
                    other = labels[y, x]
                    outline += 1
                    if not objects[other] or carrier[label] == other or carrier[other] == label:
                        continue
                    if boxes[other, 2] > bottom:
                        hidden += 1
                    else:
                        hides += 1
        if outline:
            bitten[label], bites[label] = hidden / outline, hides / outline


WHOLE = 0.05
"""Of an object's outline, where others in front of it may begin, for it to count as whole."""
LARGEST = 0.1
"""Of a layout: what stands together and is larger stays where it is, because too little is known of what it hides."""
BITES = 0.2
"""Of an object's outline, where others behind it may begin for it to be taken out: they would keep the bite."""
NARROW = 0.04
"""Of the columns: so narrow an object may be taken out whatever is behind it, which goes on on its other side."""


def loose_roots(parts: Anatomy, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The objects that nothing carries and that can be taken out of a layout of this size, with all that they carry."""
    together = np.bincount(parts.root, parts.areas, len(parts.root))
    wide = (parts.boxes[:, 3] - parts.boxes[:, 1]) > NARROW * size[1]
    roots = (parts.root > 0) & (parts.root == np.arange(len(parts.root)))
    found: npt.NDArray[np.int64] = np.flatnonzero(
        roots & (together <= LARGEST * size[0] * size[1]) & ((parts.bites <= BITES) | ~wide)
    )
    return found
