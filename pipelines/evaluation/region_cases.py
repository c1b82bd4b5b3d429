"""Regions of held-out photographs whose meaning is to be kept: three sizes, of one object and of several classes.

Each photograph has one: what several regions of one photograph tell is not independent.
"""

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
from ..training.photographs import BankOrigin, trained_and_held_out
from ..training.sources import held_out_split

SIZES = {"small": 0.25, "medium": 0.45, "large": 0.7}
"""Side of a region's box in that of the picture: at 64 pixels conv3_1 compares the first, conv4_1 the others."""
KINDS = ("simple", "complex")
FEWEST = 4
"""Photographs."""
FEWEST_GROUPS = 5
"""Groups of sources that intervals are over; of fewer, or where each source is one, over photographs."""
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
        group: number of the sources that are alike because they are of one place, such as a room.
        drawn: number of the photographs that intervals draw together: of its group, or itself.
    """

    photograph: int
    size: str
    kind: str
    reference: Reference
    group: int
    drawn: int


def cases_of(reader: Reader, split: str | None, most: int, side: int, seed: int) -> tuple[str, list[Case]]:
    """The split, and a region of each photograph: of every size in turn, three simple ones, then three complex ones.

    Args:
        split: default `test`, else `val`. Where a bank has no sources of `val`, that is what trainings set apart of
            `train` to choose by: to try settings on, without a look at `test`.
        most: photographs, evenly spaced; side: of the pictures; seed: of the boxes.

    Raises:
        InputError: too few photographs are there.
    """
    chosen, names, groups = _held_out(reader, split)
    if len(names) < FEWEST:
        expected = f"at least {FEWEST} labelled held-out sources (split test or val)"
        raise InputError(sentence(reader.path, expected=expected, found=f"{len(names)} in {chosen}"))
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    group = np.unique([groups[i] for i in places], return_inverse=True)[1]
    drawn = group if group.max() + 1 >= FEWEST_GROUPS else np.arange(len(places))
    found = []
    for number, place in enumerate(places):
        name, size = names[place], list(SIZES)[number % len(SIZES)]
        kind = KINDS[number // len(SIZES) % len(KINDS)]
        image, layout = middle(reader.photograph(name), (side, side)), _middle(reader.layout(name), side)
        random = np.random.default_rng([seed, number])
        region = region_in(layout, kind, max(2, round(SIZES[size] * side)), random)
        reference = Reference(name, image, region, (0, 0, side, side), 0.0)
        found.append(Case(number, size, kind, reference, int(group[number]), int(drawn[number])))
    return chosen, found


def _held_out(reader: Reader, split: str | None) -> tuple[str, list[str], list[str]]:
    """The split, its labelled sources ascending, and their groups."""
    rows = reader.table("sources", None, ["source", "split", "group", "layout"]).to_pylist()
    group_of = {row["source"]: row["group"] for row in rows if row["layout"] is not None}
    split_of = {row["source"]: row["split"] for row in rows if row["layout"] is not None}
    chosen = split or held_out_split(reader)
    names = [] if chosen == "train" else sorted(name for name, own in split_of.items() if own == chosen)
    if chosen == "val" and not names:
        names = trained_and_held_out(BankOrigin(reader), group_of)[1]
    return chosen, names, [group_of[name] for name in names]


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
