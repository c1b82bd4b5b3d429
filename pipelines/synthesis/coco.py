"""Annotations as COCO has them, with masks run-length encoded by pycocotools: things each, stuff once an image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...storage.classes import VOID, ClassTable, Layout

Annotation = Mapping[str, Any]
MOST = 1 << 20
"""Annotations an image: their ids follow from the image's number, and are the same whoever makes them."""


def annotations_of(
    index: int, layout: Layout, instances: npt.NDArray[np.uint16], classes: ClassTable
) -> tuple[Annotation, ...]:
    """What of an image is seen: every thing, and every class of stuff.

    Args:
        index: number of the image; layout: `(H, W)` in the bank's ids; instances: `(H, W)`, 0 where there is no thing.
    """
    masks: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for number in np.unique(instances[instances > 0]).tolist():
        mask = instances == number
        masks.append((int(layout[mask][0]), mask))
    for id in np.unique(layout[instances == 0]).tolist():
        if id != VOID and not classes[id].thing:
            masks.append((id, layout == id))
    return tuple(_annotation(index, number, id, mask) for number, (id, mask) in enumerate(masks, start=1))


def _annotation(index: int, number: int, class_id: int, mask: npt.NDArray[np.bool_]) -> Annotation:
    from pycocotools import mask as masks

    coded = masks.encode(np.asfortranarray(mask, np.uint8))
    return {
        "id": index * MOST + number,
        "image_id": index,
        "category_id": class_id,
        "iscrowd": 0,
        "area": int(masks.area(coded)),
        "bbox": [float(side) for side in masks.toBbox(coded)],
        "segmentation": {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")},
    }


def as_coco(classes: ClassTable, licences: Iterable[str], parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The text of a COCO file, piece by piece; `parts` hold `images` and `annotations`, and are taken twice."""
    categories = [
        {
            "id": each.id,
            "name": each.name,
            "supercategory": "thing" if each.thing else "stuff",
            "isthing": int(each.thing),
        }
        for each in classes
    ]
    listed = [{"id": number, "name": name, "url": ""} for number, name in enumerate(licences, start=1)]
    yield '{"info": {"description": "synthesised by zeuxis"},\n"licenses": ' + json.dumps(listed)
    yield ',\n"categories": ' + json.dumps(categories)
    for key in ("images", "annotations"):
        yield f',\n"{key}": ['
        separator = "\n"
        for part in parts:
            for row in part[key]:
                yield separator + json.dumps(row)
                separator = ",\n"
        yield "]"
    yield "}\n"
