"""How the bytes of one data set's label and depth maps become layouts and metres.

A data set carries one; the bank's manifest stores it, so that a bank can decode its sources and read queries in
native ids without the data set at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .classes import VOID, ClassTable, Colour, Layout, SemanticClass
from .images import Depth, decode_depth, decode_labels, depth_values, disparity_to_depth, known_depth
from .layouts import labels_to_layout

DepthOrigin = Literal["depth", "disparity"]


@dataclass(frozen=True)
class Stereo:
    """How stored disparities become metres: `baseline_m x focal_px / ((value - offset) x pixels_per_unit)`.

    Attributes:
        baseline_m: distance of the two cameras, metres.
        focal_px: focal length in pixels of the map's resolution.
        pixels_per_unit: pixels of disparity that one unit of a stored value is worth, such as 1/256.
        offset: the stored value that stands for no disparity, such as 1; a stored value of 0 is always unknown.
    """

    baseline_m: float
    focal_px: float
    pixels_per_unit: float = 1.0
    offset: float = 0.0

    def depth(self, data: bytes, name: str | Path) -> Depth:
        """An encoded disparity map in metres, 0 where unknown.

        Raises:
            SourceError: as `decode_depth`.
        """
        values = depth_values(data, name).astype(np.float64)
        disparity = np.where(values == 0, 0, (values - self.offset) * self.pixels_per_unit)
        return known_depth(disparity_to_depth(disparity, self.baseline_m, self.focal_px), name)


@dataclass(frozen=True)
class Decoding:
    """The conventions of one data set.

    Attributes:
        classes: native ids, names and colours.
        void: native ids that mean void.
        palette: RGB to native id where label maps are RGB pictures; void colours map to a void id.
        metres_per_unit: what one unit of a stored depth value is worth, metres.
        depth_origin: what the data set gave; orderings say so. Of `disparity`, stored maps are metres already unless
            `stereo` is given.
        stereo: the cameras, where stored maps are disparities, all of one pair of cameras.
    """

    classes: tuple[SemanticClass, ...]
    void: frozenset[int] = frozenset({255})
    palette: Mapping[Colour, int] | None = None
    metres_per_unit: float = 1.0
    depth_origin: DepthOrigin = "depth"
    stereo: Stereo | None = None
    _known: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = np.zeros(VOID + 1, bool)
        known[[entry.id for entry in self.classes]] = True
        object.__setattr__(self, "_known", known)
        if self.stereo:
            object.__setattr__(self, "depth_origin", "disparity")

    def layout(self, labels: bytes | npt.NDArray[np.integer], name: str | Path) -> Layout:
        """A label map, encoded or as an array, as a layout of native ids with `VOID`.

        Raises:
            SourceError: see `decode_labels` and `labels_to_layout`.
        """
        array = decode_labels(labels, name) if isinstance(labels, bytes) else labels
        return labels_to_layout(array, name, known=self._known, void=self.void, palette=self.palette)

    def depth(self, data: bytes, name: str | Path) -> Depth:
        """An encoded depth map in metres, 0 where unknown.

        Raises:
            SourceError: see `decode_depth`.
        """
        if self.stereo:
            return self.stereo.depth(data, name)
        return decode_depth(data, name, self.metres_per_unit)

    def with_depth_of(self, other: Decoding) -> Decoding:
        """The same conventions but for those of depth."""
        names = ("metres_per_unit", "depth_origin", "stereo")
        return replace(self, **{name: getattr(other, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        palette = self.palette and [[*colour, id] for colour, id in sorted(self.palette.items())]
        return {
            "classes": ClassTable(self.classes).to_json(),
            "void": sorted(self.void),
            "palette": palette,
            "metres_per_unit": self.metres_per_unit,
            "depth_origin": self.depth_origin,
            "stereo": self.stereo and asdict(self.stereo),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Decoding:
        """The conventions that `to_json` wrote."""
        palette = row["palette"] and {(red, green, blue): id for red, green, blue, id in row["palette"]}
        return cls(
            tuple(ClassTable.from_json(row["classes"])),
            frozenset(row["void"]),
            palette,
            row["metres_per_unit"],
            row.get("depth_origin", "depth"),  # older manifests say neither
            Stereo(**row["stereo"]) if row.get("stereo") else None,
        )
