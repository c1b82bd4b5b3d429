"""What exact search scans of one index part: segments in leaves of similar boxes, with bounds and signatures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .arrays import arrays_to_bytes, map_arrays

SIZES = (1, 16, 64, 1024)
"""Rows of a row, a block, a leaf and a trunk."""


@dataclass(frozen=True)
class Leaves:
    """Columns of one index part, as they lie memory-mapped on disk; rows sorted by class, then by similar boxes.

    The rows of a class fall into blocks of 16, these into leaves of 64 rows, these into trunks of 1024 rows; the last
    of each may be smaller. Blocks, leaves and trunks are bounded by 12 numbers: the hull of the boxes (4), the hull of
    the context boxes (4), the least and largest area, the least and largest count of context pixels that are not void.

    Attributes:
        class_ids: `(K,)` uint16, ascending; class_start: `(K + 1, 4)` uint32, where the rows, blocks, leaves and trunks
            of each begin.
        block_bounds, leaf_bounds, trunk_bounds: `(·, 12)` int32.
        leaf_grid: `(L, 8)` int32: top, left, rows and columns of a cell of the mask grid (4) and the context grid (4).
        leaf_classes: `(L, 7)` uint16, classes that context signatures count apart, `VOID` where there are fewer.
        shard: `(N,)` uint16, which shard of the part; row: `(N,)` uint32, the row there.
        box: `(N, 4)` uint16; area, context_area: `(N,)` uint32, as in `Footprints`.
        signature: `(N, 192)` uint8; block_signature: `(B, 192)` uint8, the largest of each block.
    """

    class_ids: npt.NDArray[np.uint16]
    class_start: npt.NDArray[np.uint32]
    block_bounds: npt.NDArray[np.int32]
    leaf_bounds: npt.NDArray[np.int32]
    trunk_bounds: npt.NDArray[np.int32]
    leaf_grid: npt.NDArray[np.int32]
    leaf_classes: npt.NDArray[np.uint16]
    shard: npt.NDArray[np.uint16]
    row: npt.NDArray[np.uint32]
    box: npt.NDArray[np.uint16]
    area: npt.NDArray[np.uint32]
    context_area: npt.NDArray[np.uint32]
    signature: npt.NDArray[np.uint8]
    block_signature: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.row)

    def to_bytes(self) -> bytes:
        """The file of these columns."""
        return arrays_to_bytes(self)

    @classmethod
    def map(cls, path: Path) -> Leaves:
        """The columns of a file that `to_bytes` made, memory-mapped; the file must have been checked."""
        return map_arrays(cls, path)
