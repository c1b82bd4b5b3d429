"""`zeuxis collage`: a layout in, a picture of retrieved segments out, with the provenance of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..index.request import LayoutLike, Options, check_names
from ..index.result import Component, Hit, Retrieval
from ..index.retriever import Retriever
from ..storage.outputs import keep_inputs
from ..storage.reader import Reader
from ..synth.canvas import Canvas, check_writable, compose, save, sidecars
from ..synth.ordering import ENOUGH, ClassOrder
from ..synth.transform import Origin, Piece, Target


@dataclass(frozen=True, eq=False, repr=False)
class Collage:
    """A painted layout.

    Attributes:
        canvas: picture, validity mask, provenance.
        retrieval: what was retrieved, with the layout.
        files: what was saved.
    """

    canvas: Canvas
    retrieval: Retrieval
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        rows, cols = self.canvas.valid.shape
        return f"Collage({rows}x{cols}, {len(self.canvas.placements)} pieces, {self.canvas.valid.mean():.1%} painted)"


def paint(
    retriever: Retriever,
    layout: LayoutLike | None = None,
    *,
    out: str | Path | None = None,
    dataset: str | None = None,
    **options: Unpack[Options],
) -> Collage:
    """Retrieves the best segment of each component, fits it, orders all, and composites them back to front.

    Args:
        retriever: of the bank; layout, dataset, options: as in `Retriever.retrieve`.
        out: where to save the picture, or None.

    Raises:
        as `Retriever.retrieve`; InputError: `out` cannot be written, found before anything is retrieved.
    """
    check_names(options)
    if out is not None:
        check_writable(out)
        keep_inputs([layout], [out, *sidecars(Path(out))])
    retrieval = retriever.retrieve(layout, 1, dataset=dataset, **options)
    reader = retriever.reader
    pieces = [piece_of(reader, component, component.hits[0]) for component in retrieval if component.hits]
    canvas = compose(pieces, retrieval.layout.shape, class_order(reader))
    return Collage(canvas, retrieval, tuple(save(canvas, out)) if out is not None else ())


def piece_of(reader: Reader, component: Component, hit: Hit, target: Target | None = None) -> Piece:
    """A hit with its pixels, ready to be placed on a component; `target` is that, by default as it is in the layout."""
    row, source = hit.record(), hit.source_record()
    entry = reader.dataset(source["dataset"])
    height, width = source["height"], source["width"]
    place = (row["crop_top"] / height, row["crop_left"] / width, row["crop_bottom"] / height, row["crop_right"] / width)
    return Piece(
        hit.segment_id,
        hit.class_id,
        hit.class_name,
        hit.pixels(),
        hit.mask(),
        place,
        target or Target(*component.in_layout()),
        Origin(hit.source, entry.name, source["image"], entry.licence, entry.root),
    )


@lru_cache(maxsize=8)
def class_order(reader: Reader) -> ClassOrder:
    """Which class stands in front of which, from the bank's orderings.

    Those of `val` and `test` do not count in a bank that has other sources, even where these say nothing: they are the
    answers for layouts that are held out.
    """
    import pyarrow.compute as pc

    known, held_out = ~pc.field("front").is_null(), pc.field("split").isin(["val", "test"])
    columns = ["segment_a", "class_a", "class_b", "front"]
    table = reader.table("orderings", known & ~held_out, columns)
    if not table.num_rows and not reader.table("sources", ~held_out, ["source"]).num_rows:
        table = reader.table("orderings", known, columns)
    a, b = table["class_a"].to_numpy(), table["class_b"].to_numpy()
    a_in_front = table["front"].to_numpy() == table["segment_a"].to_numpy()
    return ClassOrder.from_orderings(a * a_in_front + b * ~a_in_front, b * a_in_front + a * ~a_in_front)


def chances_ahead(reader: Reader, class_ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """`(C, C)`, how often the first of two classes was in front of the second, a half where there is too little."""
    order, ahead = class_order(reader), np.full((len(class_ids),) * 2, 0.5)
    for i, one in enumerate(class_ids):
        for j, other in enumerate(class_ids):
            if order.count(one, other) + order.count(other, one) >= ENOUGH:
                ahead[i, j] = order.front_probability(one, other)
    return ahead
