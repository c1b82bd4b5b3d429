"""Regions as users name them: a mask, a box, or a segment of the bank."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_edt

from ...storage.classes import VOID, ClassTable, Layout
from ...storage.errors import InputError, SourceError, sentence
from ...storage.files import plain_bytes
from ...storage.images import Photograph, decode_labels
from ...storage.reader import Reader
from ...storage.records import id_of_hex
from ...synth.roi_gan.regions import Region, from_box, from_mask

RegionLike = str | Path | Sequence[int] | npt.NDArray[Any]
"""A mask as an array or a picture, anything but 0 (with a palette, but black) is inside; a box `(top, left, bottom,
right)` or `T,L,B,R`; or `segment:ID` of the bank."""

FORMS = "MASK.png, TOP,LEFT,BOTTOM,RIGHT or segment:ID"
SEGMENT = "segment:"
GROWN = 0.02
"""Share of a picture's rows by which a region is enlarged that shall be erased: edges and what is reflected beside them
lie around an object."""

SAME = 4.0
"""Levels by which a pixel of a photograph may differ from that of its copy."""


def region_of(
    given: RegionLike,
    picture: Photograph,
    source: str | None = None,
    reader: Reader | None = None,
    *,
    erase: bool = False,
) -> Region:
    """A region of a picture.

    Args:
        given: see `RegionLike`; picture: `(H, W, 3)` uint8; source: of the bank, where the picture is one.
        reader: of the bank, for segments.
        erase: enlarge it by `GROWN` on each side, at least one pixel.

    Raises:
        InputError: it is none, of another picture or size, empty, or everything.
    """
    size = picture.shape[0], picture.shape[1]
    if isinstance(given, str | Path) and str(given).startswith(SEGMENT):
        what, mask = str(given), _segment(str(given), picture, source, reader)
    else:
        what, mask = _mask(given, size)
    if mask.shape != size:
        expected = f"a mask of the picture's {size[0]}x{size[1]} pixels"
        raise InputError(sentence(what, expected=expected, found="x".join(map(str, mask.shape))))
    return from_mask(grown(mask != 0) if erase else mask, what=what)


def grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What must be made anew for an object to vanish: its `(H, W)` mask, larger by `GROWN` and by a pixel at least."""
    reach = max(1, round(GROWN * mask.shape[0]))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk) > 0)


def closed(layout: Layout, region: Region, classes: ClassTable) -> Layout:
    """A layout over which what surrounds a region has closed: each pixel inside is what the nearest one outside is.

    Of those outside, objects and void do not spread, unless there is nothing else.

    Args:
        layout: `(H, W)` uint16 class ids of the bank, of which `classes` are; region: `(H, W)` bool.
    """
    objects = [entry.id for entry in classes if entry.thing]
    spreads = ~region & (layout != VOID) & ~np.isin(layout, objects)
    if not spreads.any():
        spreads = ~region
    rows, cols = distance_transform_edt(~spreads, return_distances=False, return_indices=True)
    return np.where(region, layout[rows, cols], layout)


def _mask(given: RegionLike, size: tuple[int, int]) -> tuple[str, npt.NDArray[Any]]:
    """What it is called, and the mask."""
    if isinstance(given, np.ndarray) and given.ndim != 1:
        if given.dtype.kind not in "buif" or (given.dtype.kind == "f" and not np.isfinite(given).all()):
            found = str(given.dtype) if given.dtype.kind != "f" else "some that are none"
            raise InputError(sentence("region", expected="a mask of numbers, 0 outside", found=found))
        return "region", given
    if not isinstance(given, str | Path):
        if not isinstance(given, Sequence | np.ndarray):
            raise InputError(sentence("region", expected=FORMS, found=type(given).__name__))
        return "region", from_box(_sides(list(given)), size)
    said = str(given)
    if re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", said):
        return f"region {said}", from_box(_sides([int(side) for side in said.split(",")]), size)
    return said, _picture(Path(os.path.expanduser(given)))


def _sides(found: Sequence[Any]) -> tuple[int, int, int, int]:
    whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in found)
    if len(found) != 4 or not whole:
        raise InputError(sentence("region", expected=FORMS, found=",".join(map(str, found))[:80]))
    top, left, bottom, right = (int(side) for side in found)
    return top, left, bottom, right


def _picture(path: Path) -> npt.NDArray[Any]:
    """A mask in a file; one with a palette by its colours, as it looks."""
    try:
        data = plain_bytes(path)
        values = decode_labels(data, path)
    except OSError as error:
        raise InputError(sentence(f"region {path}", f"cannot be read ({error.strerror})", expected=FORMS)) from error
    except SourceError as error:
        expected = "a lossless mask of grey levels or colours, black outside, nothing transparent"
        raise InputError(sentence(f"region {path}", expected=expected, found=str(error))) from error
    with Image.open(io.BytesIO(data)) as picture:  # sound, as that was the first thing looked at
        if picture.mode == "P":
            colours = np.array(picture.convert("RGB"))
            if (colours != colours[:1, :1]).any():  # else it has no palette to speak of
                values = colours
    return np.asarray(values.any(axis=2) if values.ndim == 3 else values)


def _segment(said: str, picture: Photograph, source: str | None, reader: Reader | None) -> npt.NDArray[Any]:
    """The pixels of a segment in its photograph, which the picture must be, or a copy of it."""
    if reader is None:
        raise InputError(sentence(said, "no bank was named", fix="give the one that holds the segment with --bank"))
    try:
        segment_id = id_of_hex(said.removeprefix(SEGMENT))
    except ValueError as error:
        expected = f"{SEGMENT} and 16 hexadecimal digits"
        raise InputError(sentence("region", expected=expected, found=repr(said[:80]))) from error
    shard, row = reader.find_segment(segment_id)
    record = reader.row("segments", shard, row)
    whole = reader.row("sources", shard, int(reader.shards[shard].footprints.source[row]))
    own, size, name = (whole["height"], whole["width"]), picture.shape[:2], record["source"]
    expected, found = f"a picture of the {own[0]}x{own[1]} pixels of {name}, which holds it", f"{size[0]}x{size[1]}"
    if own == size:
        expected = f"the photograph {name}, which holds it"
        found = source or "another picture"
    if own != size or (source not in (None, name)) or (source is None and not alike(picture, reader.photograph(name))):
        raise InputError(sentence(said, expected=expected, found=found, fix=f"give {name} as the image"))
    mask = np.zeros(size, bool)
    box = slice(record["crop_top"], record["crop_bottom"]), slice(record["crop_left"], record["crop_right"])
    mask[box] = reader.segment_mask(shard, segment_id)
    return mask


def alike(picture: Photograph, photograph: Photograph, where: Region | None = None, share: float = 0.5) -> bool:
    """Whether one is the other, or a copy that was compressed again, or of which some was made anew.

    Args:
        where: only there, `(H, W)` bool; pictures of other sizes are not alike.
        share: of the pixels, how many must be the same.
    """
    return distance(picture, photograph, where, share) <= SAME


def distance(picture: Photograph, photograph: Photograph, where: Region | None = None, share: float = 0.5) -> float:
    """What a share of the pixels differ by at most, levels of the worst channel; infinite for other sizes."""
    if picture.shape != photograph.shape:
        return math.inf
    apart = np.abs(picture.astype(np.int16) - photograph).max(axis=2)
    return float(np.quantile(apart if where is None else apart[where], share))
