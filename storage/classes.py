"""The class table: which ids a bank's layouts hold, what they are called and how they are drawn."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import LayoutError, sentence

VOID = 65535
"""Class id of pixels that belong to no class, in every layout inside zeuxis."""

Layout = npt.NDArray[np.uint16]
"""`(H, W)` uint16 class ids, `VOID` where there is none."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class SemanticClass:
    """One class: `id` in 0..65534, `colour` RGB 0..255; `thing` (countable) or stuff; `thin` like a pole or a sign."""

    id: int
    name: str
    colour: Colour
    thing: bool = False
    thin: bool = False


def colour_of(name: str) -> Colour:
    """A saturated colour for a class that brings none; the same name always gets the same one."""
    digest = hashlib.blake2b(name.encode(), digest_size=3).digest()
    hue, saturation, value = digest[0] / 255, 0.45 + digest[1] / 510, 0.55 + digest[2] / 600
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


class ClassTable:
    """The append-only classes of a bank or of a data set, by id and by name.

    A bank's table takes over the ids of its first data set; a later data set shares an id where the
    names are equal, keeps its own id where that is free, and otherwise gets the next one.
    """

    def __init__(self, classes: Iterable[SemanticClass] = ()) -> None:
        self._by_id: dict[int, SemanticClass] = {}
        self._by_name: dict[str, SemanticClass] = {}
        for entry in classes:
            self._add(entry)

    def __iter__(self) -> Iterator[SemanticClass]:
        return iter(self._by_id[id] for id in sorted(self._by_id))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassTable) and list(self) == list(other)

    def __getitem__(self, id: int) -> SemanticClass:
        return self._by_id[id]

    def named(self, name: str) -> SemanticClass | None:
        """The class of that name, if there is one."""
        return self._by_name.get(name)

    @property
    def lut_size(self) -> int:
        """One more than the largest id: the length of an array indexed by class id."""
        return max(self._by_id, default=-1) + 1

    def merged(
        self, classes: Iterable[SemanticClass], renamed: Mapping[str, str | None] | None = None
    ) -> tuple[ClassTable, dict[int, int]]:
        """A table that also holds `classes`, and the map from their native ids to the table's.

        Args:
            classes: the classes of a data set, with its native ids.
            renamed: name in the data set to name in the bank (`None`: void), as `--classes` gives it.

        Returns:
            The merged table (self is unchanged), and native id to bank id, `VOID` where renamed to None.
        """
        table, mapping = ClassTable(self), {}
        renamed = renamed or {}
        for entry in sorted(classes, key=lambda entry: entry.id):
            name = renamed.get(entry.name, entry.name)
            if name is None:
                mapping[entry.id] = VOID
                continue
            known = table.named(name)
            if known is None:
                id = entry.id if entry.id not in table else table.lut_size
                known = SemanticClass(id, name, entry.colour, entry.thing, entry.thin)
                table._add(known)
            mapping[entry.id] = known.id
        return table, mapping

    def palette(self) -> npt.NDArray[np.uint8]:
        """`(65536, 3)` uint8 RGB by class id; ids outside the table, void included, are black."""
        colours = np.zeros((VOID + 1, 3), np.uint8)
        for entry in self:
            colours[entry.id] = entry.colour
        return colours

    def painted(self, layout: Layout) -> npt.NDArray[np.uint8]:
        """The layout as a picture: `(H, W, 3)` uint8 RGB in the classes' colours."""
        return self.palette()[layout]

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """`(65536,)` bool by class id of `"thing"` or `"thin"`."""
        flags = np.zeros(VOID + 1, bool)
        for entry in self:
            flags[entry.id] = getattr(entry, name)
        return flags

    def to_json(self) -> list[dict[str, object]]:
        """Plain rows for the manifest."""
        return [{"id": c.id, "name": c.name, "colour": list(c.colour), "thing": c.thing, "thin": c.thin} for c in self]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, object]]) -> ClassTable:
        """The table that `to_json` wrote."""
        return cls(
            SemanticClass(row["id"], row["name"], tuple(row["colour"]), row["thing"], row["thin"])  # type: ignore[arg-type]
            for row in rows
        )

    def _add(self, entry: SemanticClass) -> None:
        if not 0 <= entry.id < VOID:
            raise LayoutError(
                sentence(f"class {entry.name!r}", expected=f"an id in 0..{VOID - 1}", found=str(entry.id))
            )
        if entry.id in self._by_id or entry.name in self._by_name:
            raise LayoutError(
                sentence(
                    f"class {entry.name!r}",
                    f"id {entry.id} or its name is already taken",
                    fix="give every class an id and a name of its own",
                )
            )
        self._by_id[entry.id] = entry
        self._by_name[entry.name] = entry


def lookup_table(mapping: Mapping[int, int], void: Iterable[int] = ()) -> npt.NDArray[np.uint16]:
    """`(65536,)` uint16 from native id to bank id; everything not in `mapping` becomes `VOID`."""
    table = np.full(VOID + 1, VOID, np.uint16)
    for native, id in mapping.items():
        table[native] = id
    for native in void:
        table[native] = VOID
    return table
