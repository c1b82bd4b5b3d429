"""The class order that canvases are painted by: what the orderings of a bank say of its classes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from zeuxis.pipelines.collage import class_order

SKY, CAR = 4, 6
COLUMNS = ("segment_a", "class_a", "class_b", "front", "split")
CAR_FIRST, SKY_FIRST, UNKNOWN = (1, CAR, SKY, 1), (1, CAR, SKY, 2), (1, CAR, SKY, None)


class Orderings:
    """A bank of nothing but orderings, and the splits of its sources."""

    def __init__(self, *rows: tuple[Any, ...], splits: tuple[str, ...] = ()) -> None:
        self.rows = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        self.sources = pa.table({"source": [*splits], "split": pa.array(splits, pa.string())})

    def table(self, name: str, where: pc.Expression, columns: list[str]) -> pa.Table:
        held = {"orderings": self.rows, "sources": self.sources}[name]
        return held.filter(where).select(columns)


def counts(*rows: tuple[Any, ...], splits: tuple[str, ...] = ("val", "test")) -> tuple[int, int]:
    """How often a car stood in front of sky, and the other way round."""
    statistics = class_order(Orderings(*rows, splits=splits))  # type: ignore[arg-type]
    return statistics.count(CAR, SKY), statistics.count(SKY, CAR)


def test_who_is_in_front_is_counted_where_it_is_known():
    rows = [(*CAR_FIRST, "train")] * 3 + [(*SKY_FIRST, "train"), (*UNKNOWN, "train")]
    assert counts(*rows) == (3, 1)


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_sources_do_not_tell_their_own_order(split: str):
    assert counts((*CAR_FIRST, "train"), (*SKY_FIRST, split), (*SKY_FIRST, split)) == (1, 0)


def test_a_bank_of_held_out_sources_alone_goes_by_them():
    assert counts((*UNKNOWN, "train"), (*SKY_FIRST, "test"), (*SKY_FIRST, "val")) == (0, 2)


def test_sources_that_train_and_tell_no_order_are_not_told_it_by_others():
    rows = [(*UNKNOWN, "train"), (*SKY_FIRST, "test"), (*SKY_FIRST, "val")]
    assert counts(*rows, splits=("train", "val", "test")) == (0, 0)
