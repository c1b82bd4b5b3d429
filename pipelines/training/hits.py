"""What is retrieved for every component of a bank's own photographs, found once and kept; and where segments lie."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...index.filters import alike_groups
from ...index.result import Retrieval
from ...index.retriever import Retriever
from ...storage.classes import SemanticClass
from ...storage.errors import DamagedBankError, InputError, sentence
from ...storage.outputs import write_outputs
from ...storage.reader import Reader
from ...synth.transform import Mask, Origin, Piece, Target
from ..progress import Progress, silent
from .caches import DAMAGES
from .sources import BankSources

NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Instead of a segment id, which has 63 bits, where there is no further hit."""
TRIES = 32
"""Draws of a segment until one is of another group."""


class SegmentPool:
    """All segments of a bank by row, shard after shard: their ids, where they lie, who may be shown them.

    Attributes:
        segment_id: `(n,)` uint64; class_id: `(n,)` uint16; shard: `(n,)` int64.
        crop: `(n, 4)` int64, boxes in their sources; size: `(n, 2)` int64, the sources' heights and widths.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        columns = ["segment_id", "class_id", "crop_top", "crop_left", "crop_bottom", "crop_right"]
        table = reader.segment_columns(columns)
        self.segment_id, self.class_id = (table[name].to_numpy() for name in columns[:2])
        self.crop = np.stack([table[name].to_numpy().astype(np.int64) for name in columns[2:]], axis=1)
        sources = [shard.table("sources", ["height", "width", "split"]) for shard in reader.shards]
        of = [shard.footprints.source.astype(np.int64) for shard in reader.shards]
        self.shard = np.repeat(np.arange(len(of)), [len(rows) for rows in of])
        sizes = [np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1) for table in sources]
        self.size = _joined([size[rows] for size, rows in zip(sizes, of, strict=True)], np.zeros((0, 2))).astype(
            np.int64
        )
        may = [
            shard.live & np.array([split == "train" for split in table["split"].to_pylist()], bool)
            for shard, table in zip(reader.shard_sources, sources, strict=True)
        ]
        self._usable = _joined([each[rows] for each, rows in zip(may, of, strict=True)], np.zeros(0, bool))
        groups = [shard.groups[rows] for shard, rows in zip(reader.shard_sources, of, strict=True)]
        self._groups, self._group = np.unique(_joined(groups, np.zeros(0, "U1")), return_inverse=True)
        self._barred: dict[str, frozenset[int]] = {}
        self._order = np.argsort(self.segment_id, kind="stable")

    def row(self, segment_id: np.uint64) -> int:
        """The row of a segment; of one that left the bank and came back, any: they are the same.

        Raises:
            DamagedBankError: there is none.
        """
        at = int(np.searchsorted(self.segment_id, segment_id, sorter=self._order))
        if at == len(self._order) or self.segment_id[self._order[at]] != segment_id:
            raise DamagedBankError(sentence(self.reader.path, f"has no segment {int(segment_id):016x}"))
        return int(self._order[at])

    def one_of(self, class_id: int, group: str, random: np.random.Generator) -> int | None:
        """The row of a random segment of a class in `train`, of no group like this one; None where none is found."""
        rows, barred = self._by_class.get(class_id, ()), self._alike(group)
        for _ in range(TRIES if len(rows) else 0):
            row = int(rows[random.integers(len(rows))])
            if self._group[row] not in barred:
                return row
        return None

    def piece(self, row: int, mask: Mask, target: Target) -> Piece:
        """A segment to be placed on a component by its mask alone: it has no pixels."""
        (top, left, bottom, right), (height, width) = self.crop[row].tolist(), self.size[row].tolist()
        place = top / height, left / width, bottom / height, right / width
        named: SemanticClass = self.reader.classes[int(self.class_id[row])]
        pixels = np.zeros((0, 0, 3), np.uint8)
        return Piece(int(self.segment_id[row]), named.id, named.name, pixels, mask, place, target, Origin("", "", ""))

    def mask(self, row: int) -> Mask:
        """A segment's mask, `(h, w)` bool at its source's own resolution."""
        return self.reader.segment_mask(int(self.shard[row]), int(self.segment_id[row]))

    def pixels(self, row: int) -> npt.NDArray[np.uint8]:
        """A segment's own pixels, `(n, 3)` uint8 RGB, in raster order at its source's own resolution."""
        return self.reader.segment_pixels(int(self.shard[row]), int(self.segment_id[row]))[self.mask(row)]

    def can_leave_out(self) -> bool:
        """Whether any training source finds anything once its own group, and those like it, are left out."""
        for rows in self._by_class.values():
            groups = set(self._group[rows].tolist())
            if any(groups - self._alike(str(self._groups[group])) for group in groups):
                return True
        return False

    @cached_property
    def _by_class(self) -> dict[int, npt.NDArray[np.int64]]:
        return {int(id): np.flatnonzero(self._usable & (self.class_id == id)) for id in np.unique(self.class_id)}

    def _alike(self, group: str) -> frozenset[int]:
        """Numbers of the groups that a source of `group` must not see, its own included."""
        if group not in self._barred:
            self._barred[group] = self._found_alike(group)
        return self._barred[group]

    def _found_alike(self, group: str) -> frozenset[int]:
        dataset = group.partition("/")[0]
        neighbours = any(entry.name == dataset and entry.neighbours for entry in self.reader.manifest.datasets)
        return frozenset(np.flatnonzero(np.isin(self._groups, alike_groups(group, neighbours))).tolist())


def find_hits(sources: BankSources, k: int, progress: Progress = silent) -> list[npt.NDArray[np.uint64]]:
    """The k best segments for every stored segment of the sources, own groups and held-out sources barred.

    Args:
        sources: whose layouts are asked with; what was found is kept in their cache, if they have one.
        k: how many, at most.
        progress: told how many layouts were answered.

    Returns:
        By source, `(s, k)` uint64 segment ids, best first, `NONE` where there are no more.
    """
    counts = [len(sources.segments(number).rows) for number in range(len(sources))]
    path = None if sources.cache is None else sources.cache / f"{sources.key}-hits-{k}.npy"
    if path is not None and path.is_file():
        with suppress(*DAMAGES):
            kept = np.load(path, mmap_mode="r")
            if kept.shape == (sum(counts), k) and kept.dtype == np.uint64:
                return np.split(kept, np.cumsum(counts)[:-1])
    found = _retrieved(sources, k, progress)
    if path is not None:
        with suppress(OSError):  # which writing into it reports
            path.parent.mkdir(parents=True, exist_ok=True)
        write_outputs({path: _npy(_joined(found, np.zeros((0, k), np.uint64)))})
    return found


def check_leaving_out(reader: Reader) -> None:
    """Refuses a bank in which nothing can be retrieved once a training source's own group is left out.

    Raises:
        InputError: so it is.
    """
    if not SegmentPool(reader).can_leave_out():
        raise too_small(reader)


def too_small(reader: Reader) -> InputError:
    """What to say of such a bank."""
    return InputError(
        sentence(
            reader.path,
            expected="training sources of at least two groups that share a class",
            found="nothing to retrieve for any source once its own group is left out",
            fix="rebuild it from more photographs",
        )
    )


def _retrieved(sources: BankSources, k: int, progress: Progress) -> list[npt.NDArray[np.uint64]]:
    """Hits by source; its components of at least the minimum area are its stored segments, in the same order."""
    found = []
    answers = Retriever(sources.reader).retrieve_many(k=k, sources=sources.names, guard=True)
    for number, retrieval in enumerate(answers):
        assert isinstance(retrieval, Retrieval)
        ids = np.full((len(sources.segments(number).rows), k), NONE)
        for row, component in zip(ids, retrieval, strict=True):
            row[: len(component.hits)] = [hit.segment_id for hit in component.hits]
        found.append(ids)
        progress(number + 1, len(sources), "retrieving for training")
    return found


def _npy(array: npt.NDArray[Any]) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def _joined(parts: Sequence[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else empty
