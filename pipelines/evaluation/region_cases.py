"""Regions of held-out photographs whose meaning is to be kept: three sizes, of one object and of several classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...storage.classes import VOID, Layout
from ...storage.errors import InputError, sentence
from ...storage.layouts import find_components
from ...storage.reader import Reader
from ...synth.encoding import resized
from ...synth.roi_gan.regions import Region
from ..liking.references import Reference
from ..training.completion import middle

SIZES = {"small": 0.25, "medium": 0.45, "large": 0.7}
"""Side of a region's box in that of the picture: at 64 pixels conv3_1 compares the first, conv4_1 the others."""
KINDS = ("simple", "complex")
FEWEST = 4
"""Photographs."""
TRIES = 40
"""Boxes of which one is chosen."""
FILLED = 0.5
"""Share of its box that a simple region fills, where any of the tries does."""


@dataclass(frozen=True, eq=False)
class Case:
    """A region of a photograph.

    Attributes:
        photograph: number of it; size: one of `SIZES`; kind: `simple`, inside one component, or `complex`.
        reference: at the resolution of the generator.
    """

    photograph: int
    size: str
    kind: str
    reference: Reference


def cases_of(reader: Reader, split: str | None, most: int, side: int, seed: int) -> tuple[str, list[Case]]:
    """The split, and a region of every size of each photograph, simple and complex in turn.

    Args:
        split: default `test`, else `val`; most: photographs, evenly spaced; side: of the pictures; seed: of the boxes.

    Raises:
        InputError: too few photographs are there.
    """
    rows = reader.table("sources", None, ["source", "split", "layout"]).to_pylist()
    labelled = [row for row in rows if row["layout"] is not None]
    chosen = split or ("test" if any(row["split"] == "test" for row in labelled) else "val")
    names = sorted(row["source"] for row in labelled if row["split"] == chosen)
    if chosen == "train" or len(names) < FEWEST:
        expected = f"at least {FEWEST} labelled held-out sources (split test or val)"
        raise InputError(sentence(reader.path, expected=expected, found=f"{len(names)} in {chosen}"))
    names = [names[i] for i in np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)]
    found = []
    for number, name in enumerate(names):
        image, layout = middle(reader.photograph(name), (side, side)), _middle(reader.layout(name), side)
        for place, (size, share) in enumerate(SIZES.items()):
            kind = KINDS[(number + place) % len(KINDS)]
            random = np.random.default_rng([seed, number, place])
            region = region_in(layout, kind, max(2, round(share * side)), random)
            found.append(Case(number, size, kind, Reference(name, image, region, (0, 0, side, side), 0.0)))
    return chosen, found


def region_in(layout: Layout, kind: str, side: int, random: np.random.Generator) -> Region:
    """A region of a layout, in a box of that side; never empty, never everything.

    Simple: what lies in the box of the component that has most of it, of the box that is filled most, or the first that
    is filled half. Complex: the box whose classes are mixed most (entropy of their shares).
    """
    whole = find_components(layout).labels
    best, found = -1.0, np.zeros(layout.shape, bool)
    for _ in range(TRIES):
        top, left = (int(random.integers(0, each - side + 1)) for each in layout.shape)
        box = slice(top, top + side), slice(left, left + side)
        values, counts = np.unique((whole if kind == "simple" else layout)[box], return_counts=True)
        known = values != (0 if kind == "simple" else VOID)
        if not known.any():
            continue
        shares = counts[known] / side**2
        score = float(shares.max() if kind == "simple" else -(shares * np.log(shares)).sum())
        if score > best:
            best, found = score, np.zeros(layout.shape, bool)
            found[box] = whole[box] == values[known][shares.argmax()] if kind == "simple" else True
        if kind == "simple" and best >= FILLED:
            break
    if best < 0:  # nothing is labelled
        found[:side, :side] = True
    return found


def _middle(layout: Layout, side: int) -> npt.NDArray[np.uint16]:
    """The largest square about the middle of a layout."""
    rows, cols = layout.shape
    short = min(rows, cols)
    top, left = (rows - short) // 2, (cols - short) // 2
    return resized(layout[top : top + short, left : left + short], (side, side))
