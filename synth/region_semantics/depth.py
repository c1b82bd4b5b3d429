"""Which layers of a feature network hold what a region means (macro-alignment, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..roi_gan.regions import Region

AUTOMATIC = "auto"
SHALLOWEST = "conv3_1"
"""That the automatic depth begins at: what lies before it sees texture, however small the region."""
THROUGH = ".."
"""Between the first and the last layer of a sum."""


class UnknownDepth(ValueError):
    """A depth names a layer that the network does not have, or its layers are in the wrong order."""


def longer_side(region: Region) -> int:
    """Pixels of the longer side of the smallest box around a region that is not empty."""
    rows, cols = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    return int(max(rows[-1] - rows[0], cols[-1] - cols[0])) + 1


def automatic_layer(fields: Mapping[str, int], side: int) -> str:
    """The first layer of a block whose units see more than a box of that longer side, none before `SHALLOWEST`.

    Where none sees so much, it is the deepest of them. In VGG-19 a unit of conv3_1, conv4_1 and conv5_1 sees 24, 68 and
    156 pixels.

    Args:
        fields: layer to the pixels that its units see, from the first layer to the last; side: pixels.
    """
    names = list(fields)
    starts = [name for name in names[names.index(SHALLOWEST) :] if name.endswith("_1")]
    return next((name for name in starts if fields[name] > side), starts[-1])


def layers_of(depth: str, fields: Mapping[str, int], side: int) -> tuple[str, ...]:
    """The layers that a depth names: one, or from the first to the last of a sum (equation 1).

    The paper sums from a layer on; its released code takes a single one, and so does `auto`.

    Args:
        depth: `auto`, a layer, or two with `..` between them, the first of which may be `auto`.
        fields: as in `automatic_layer`; side: of the region's box, for `auto`.

    Raises:
        UnknownDepth: there is no such layer, or the last comes before the first.
    """
    first, through, last = depth.partition(THROUGH)
    first = automatic_layer(fields, side) if first == AUTOMATIC else first
    last = last if through else first
    names = list(fields)
    for name in (first, last):
        if name not in fields:
            raise UnknownDepth(f"no layer {name!r}")
    if names.index(last) < names.index(first):
        raise UnknownDepth(f"{last} comes before {first}")
    return tuple(names[names.index(first) : names.index(last) + 1])
