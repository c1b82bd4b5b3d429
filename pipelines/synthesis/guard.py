"""The split guard: every pixel of a synthesised image comes from photographs that may be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...index.filters import alike_groups
from ...storage.errors import LeakError, sentence
from ...storage.reader import Reader
from .layouts import TRAIN


class Source(NamedTuple):
    """What is known of a source of the bank."""

    split: str
    group: str
    dataset: str
    image: str
    licence: str | None


class Used(NamedTuple):
    """What an image was made from.

    Attributes:
        use: `segment`, `object` (of which a layout was recomposed), `patch` (parts that an object was assembled from),
            `photograph` (as it is) or `layout` (its labels).
        source: name in the bank.
        segment: 16 hex digits, and class_name, where it is one; pixels: how many the canvas shows of it.
    """

    use: str
    source: str
    segment: str | None = None
    class_name: str | None = None
    pixels: int = 0


class Guard:
    """Knows the split, group and licence of every source of a bank."""

    def __init__(self, reader: Reader) -> None:
        licences = {entry.name: entry.licence for entry in reader.manifest.datasets}
        columns = ["source", "split", "group", "dataset", "image"]
        self.sources = {
            row["source"]: Source(row["split"], row["group"], row["dataset"], row["image"], licences[row["dataset"]])
            for row in reader.table("sources", columns=columns).to_pylist()
        }
        self._neighbours = {entry.name for entry in reader.manifest.datasets if entry.neighbours}

    def check(self, name: str, used: Iterable[Used], group: str | None, source: str | None = None) -> None:
        """That an image may be trained on: it has nothing of `group`, of those like it, and of `source`.

        Segments, objects and photographs are of sources of `train`; a photograph may be of any of its groups. Of a
        layout nothing but its labels is used, and its split stands beside the image.

        Raises:
            LeakError: they are not.
        """
        alike = set() if group is None else set(self._alike(group))
        for each in used:
            if each.use == "layout":
                continue
            found = self.sources.get(each.source)
            where = f"image {name}"
            if found is None or found.split != TRAIN:
                split = "of no split" if found is None else f"of {found.split}"
                said = f"{each.use} of {each.source}, {split}"
                raise LeakError(sentence(where, expected=f"sources of {TRAIN} alone", found=said))
            if each.use != "photograph" and (found.group in alike or each.source == source):
                expected = f"nothing of the layout's own {f'group {group}' if found.group in alike else 'source'}"
                raise LeakError(sentence(where, expected=expected, found=f"{each.use} of {each.source}"))

    def _alike(self, group: str) -> list[str]:
        return alike_groups(group, group.partition("/")[0] in self._neighbours)
