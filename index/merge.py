"""Answers of several processes or machines to one layout, made into one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ..storage.errors import FilterError, sentence
from .table import HIT_SCHEMA


def merge_hits(tables: pa.Table | Iterable[pa.Table], k: int) -> pa.Table:
    """The k best hits a component out of several answers to the same layout, or to the same layouts.

    Exact where each answer is, and every segment was a candidate of one of them: whether the bank was shared out by
    class, by source, or by bank. A segment that several have found counts once.

    Args:
        tables: of `Retrieval.to_arrow`, or of `zeuxis retrieve --out` for many layouts, whose first column `layout`
            names them; asked with the same `k` or a larger one.
        k: hits a component, at most.

    Raises:
        FilterError: there is no table, one has other columns, or they answer different layouts under one name.
    """
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise FilterError(sentence("k", expected="a whole number of at least 1", found=repr(k)))
    tables = [tables] if isinstance(tables, pa.Table) else list(tables)
    if not tables or not all(isinstance(table, pa.Table) for table in tables):
        raise FilterError(sentence("answers to merge", expected="tables of `to_arrow()`", found="none or others"))
    schema = pa.schema([("layout", pa.string()), *HIT_SCHEMA])
    if tables[0].schema.names == HIT_SCHEMA.names:
        schema = HIT_SCHEMA
    if any(table.schema.names != schema.names for table in tables):
        raise FilterError(sentence("answers to merge", expected="tables of `to_arrow()`", found="none or others"))
    hits = pa.concat_tables(table.cast(schema) for table in tables).to_pandas()
    of = schema.names[: schema.names.index("component") + 1]
    if hits[[*of, *_COMPONENT]].drop_duplicates()[of].duplicated().any():
        raise FilterError(sentence("answers to merge", expected="answers to one layout", found="several layouts"))
    hits = hits.drop_duplicates([*of, "segment"])
    order = [True] * len(of)
    hits = hits.sort_values([*of, "score", "segment"], ascending=[*order, False, True], kind="stable")
    hits["rank"] = hits.groupby(of).cumcount()
    return pa.Table.from_pandas(hits[hits["rank"] < k], schema=schema, preserve_index=False)


_COMPONENT = ("class_name", "area", "top", "left", "bottom", "right")
