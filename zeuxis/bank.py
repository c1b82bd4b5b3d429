"""What `zeuxis.open` returns: one generation of a bank, its tables, its retriever and its painter."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .storage.errors import InputError, sentence
from .storage.installation import check_installation
from .storage.reader import Reader, Where

if TYPE_CHECKING:
    import pyarrow as pa

    from .index.request import LayoutLike
    from .index.result import Retrieval
    from .index.retriever import Retriever
    from .pipelines.collage import Collage
    from .storage.classes import ClassTable, Layout
    from .storage.images import Depth, Photograph


class Bank:
    """One generation of a bank, read-only; later rebuilds do not change it.

    Args:
        path: the bank's folder.

    Raises:
        NotABankError, SchemaError, DamagedBankError: the bank cannot be used; the sentence names the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._reader = Reader(path)

    def __repr__(self) -> str:
        return f"Bank({str(self.path)!r}, generation {self.generation})"

    @property
    def path(self) -> Path:
        """The bank's folder."""
        return self._reader.path

    @property
    def generation(self) -> int:
        """The generation that is read."""
        return self._reader.manifest.generation

    @property
    def frame(self) -> tuple[int, int]:
        """`(rows, cols)`, the resolution at which footprints and contexts are compared."""
        return self._reader.geometry.frame

    @property
    def classes(self) -> ClassTable:
        """The class table: iterate it, or index it by id."""
        return self._reader.classes

    def retrieve(
        self,
        layout: LayoutLike,
        k: int = 5,
        *,
        dataset: str | None = None,
        where: Where = None,
        exclude: str | Iterable[str] = (),
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> Retrieval:
        """The k best segments for every component of a layout, exactly by mask IoU plus context IoU.

        Args:
            layout: `(H, W)` array of class ids, a path, or an RGB-palette image; of any size.
            k: hits a component, at most.
            dataset: the layout's ids and colours are the native ones of this data set, such as `"nyu"`.
            where: a filter on the columns of `segments()`: an Arrow expression, or `{"split": "train"}`.
            exclude: names of sources or groups to leave out.
            weights: of mask IoU and context IoU.

        Raises:
            LayoutError, FilterError, InputError: one of the arguments cannot be used.
        """
        result = self._retriever.retrieve(layout, k, dataset=dataset, where=where, exclude=exclude, weights=weights)
        for warning in result.warnings:
            warnings.warn(warning, stacklevel=2)
        return result

    def collage(
        self,
        layout: LayoutLike,
        *,
        out: str | Path | None = None,
        dataset: str | None = None,
        where: Where = None,
        exclude: str | Iterable[str] = (),
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> Collage:
        """Paints a layout from the best hit of each component.

        Args:
            layout, dataset, where, exclude, weights: as in `retrieve`.
            out: where to save the picture; its validity mask, provenance map and list of sources stand beside it.

        Raises:
            as `retrieve`; InputError: `out` cannot be written.
        """
        from .pipelines.collage import paint

        return paint(self._retriever, layout, out=out, dataset=dataset, where=where, exclude=exclude, weights=weights)

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

    @cached_property
    def _retriever(self) -> Retriever:
        from .index.retriever import Retriever

        return Retriever(self._reader)


def open(path: str | Path | None = None) -> Bank:
    """Opens the current generation of a bank.

    Args:
        path: the bank's folder; default: the environment variable ZEUXIS_BANK.
    """
    check_installation()
    path = path or os.environ.get("ZEUXIS_BANK")
    if not path:
        raise InputError(sentence("bank", "none was named", fix="give its path or set ZEUXIS_BANK"))
    return Bank(path)


def retrieve(
    layout: LayoutLike, k: int = 5, *, bank: str | Path | None = None, figure: str | Path | None = None, **query: Any
) -> Retrieval:
    """`Bank.retrieve` on the bank at `bank`, or the one named by ZEUXIS_BANK.

    Args:
        layout, k, query: as in `Bank.retrieve`.
        bank: the bank's folder.
        figure: where to save a picture of the result.
    """
    if figure is None:
        return _opened(bank).retrieve(layout, k, **query)
    from .index.figure import check_figure, save_figure

    check_figure(figure)
    result = _opened(bank).retrieve(layout, k, **query)
    save_figure(result.figure(), figure)
    return result


def collage(
    layout: LayoutLike, *, out: str | Path | None = None, bank: str | Path | None = None, **query: Any
) -> Collage:
    """`Bank.collage` on the bank at `bank`, or the one named by ZEUXIS_BANK."""
    return _opened(bank).collage(layout, out=out, **query)


_banks: dict[Path, tuple[tuple[int, int, int], Bank]] = {}


def _opened(path: str | Path | None) -> Bank:
    """An open bank, kept as long as the manifest it was opened by is the current one."""
    from .storage.manifest import generations, manifest_path

    folder = Path(os.path.expanduser(path or os.environ.get("ZEUXIS_BANK", ""))).resolve()
    numbers = generations(folder)
    if not numbers:
        return open(path)  # which says what is wrong
    status = manifest_path(folder, numbers[-1]).stat()
    stamp = (numbers[-1], status.st_ino, status.st_mtime_ns)
    if folder not in _banks or _banks[folder][0] != stamp:
        _banks[folder] = (stamp, open(path))
    return _banks[folder][1]
