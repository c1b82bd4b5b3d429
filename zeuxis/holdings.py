"""What a bank holds, as tables and as pixels: the part of `Bank` that neither searches nor paints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .storage.errors import InputError, sentence
from .storage.filters import Where
from .storage.reader import Reader

if TYPE_CHECKING:
    import pyarrow as pa

    from .storage.classes import Layout
    from .storage.images import Depth, Photograph


class Holdings:
    """The tables of one generation of a bank, and what it keeps of its sources."""

    _reader: Reader

    def segments(self, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The segments as an Arrow table (columns: `SegmentRecord`), filtered where they are read."""
        return self._reader.table("segments", where, columns)

    def sources(self, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The photographs as an Arrow table (columns: `SourceRecord`)."""
        return self._reader.table("sources", where, columns)

    def orderings(self, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Which of two touching segments is in front, as an Arrow table (columns: `OrderingRecord`)."""
        return self._reader.table("orderings", where, columns)

    def patches(self, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The key patches as an Arrow table (columns: `PatchRecord`)."""
        return self._reader.table("patches", where, columns)

    def patch_pixels(self, patches: pa.Table | Iterable[tuple[str, int]]) -> list[Photograph]:
        """The pixels of key patches, `(h, w, 3)` uint8 RGB each, at their sources' own resolution.

        Args:
            patches: rows of `patches()`, with `source` and `rank` at least; or pairs of these.

        Raises:
            InputError: the bank has no such patch. BankError: the bank keeps no sources.
        """
        rows = getattr(patches, "to_pylist", None)
        if rows is not None:
            missing = {"source", "rank"} - set(patches.column_names)  # type: ignore[union-attr]
            if missing:
                found = f"no {' and no '.join(sorted(missing))}"
                raise InputError(sentence("patches", expected="rows with source and rank", found=found))
            patches = [(row["source"], row["rank"]) for row in rows()]
        return [self._reader.patch_pixels(source, rank) for source, rank in patches]

    def rejects(self, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """What was not taken in, and why, as an Arrow table (columns: `RejectRecord`)."""
        return self._reader.table("rejects", where, columns)

    def photograph(self, source: str) -> Photograph:
        """A source's photograph, `(H, W, 3)` uint8 RGB."""
        return self._reader.photograph(source)

    def layout(self, source: str) -> Layout:
        """A source's layout, `(H, W)` uint16 in the bank's class ids."""
        return self._reader.layout(source)

    def depth(self, source: str) -> Depth | None:
        """A source's depth, `(H, W)` float32 metres, 0 where unknown; None where it has none."""
        return self._reader.depth(source)
