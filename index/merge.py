"""Answers of several processes or machines to one layout, made into one."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ..storage.errors import FilterError, sentence
from .table import HIT_SCHEMA


def merge_hits(tables: Sequence[pa.Table], k: int) -> pa.Table:
    """The k best hits a component out of several answers to the same layout.

    Exact where each answer is, and every segment was a candidate of one of them: whether the bank was shared out by
    class, by source, or by bank. A segment that several have found counts once.

    Args:
        tables: of `Retrieval.to_arrow`, with the same `k` or a larger one.
        k: hits a component, at most.

    Raises:
        FilterError: there is no table, or one has other columns.
    """
    if not tables or any(table.schema.names != HIT_SCHEMA.names for table in tables):
        raise FilterError(sentence("answers to merge", expected="tables of `to_arrow()`", found="none or others"))
    hits = pa.concat_tables(table.cast(HIT_SCHEMA) for table in tables).to_pandas()
    hits = hits.drop_duplicates(["component", "segment"])
    hits = hits.sort_values(["component", "score", "segment"], ascending=[True, False, True], kind="stable")
    hits["rank"] = hits.groupby("component").cumcount()
    return pa.Table.from_pandas(hits[hits["rank"] < k], schema=HIT_SCHEMA, preserve_index=False)
