"""A bank shared out over processes answers as one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zeuxis
from zeuxis.index.merge import merge_hits
from zeuxis.storage.errors import FilterError

pytestmark = pytest.mark.filterwarnings("ignore:.*aspect ratio", "ignore:.*no segment")

ANSWER = """
import sys, warnings
import numpy as np, pyarrow.parquet as pq
import zeuxis
warnings.simplefilter("ignore")
bank, layout, where, out = sys.argv[1:]
pq.write_table(zeuxis.open(bank).retrieve(np.load(layout), k=4, where=where).to_arrow(), out)
"""


def shares(bank, column):
    """Two filters that leave every segment to one of them."""
    values = sorted(set(bank.segments(columns=[column])[column].to_pylist()))
    quoted = [repr(value) for value in values]
    return [f"{column} IN ({', '.join(quoted[start::2])})" for start in (0, 1)]


@pytest.mark.parametrize("column", ["class_id", "source"])
def test_two_processes_that_share_a_bank_answer_as_one(golden, golden_bank, tmp_path, column):
    _, layouts = golden
    np.save(tmp_path / "layout.npy", layouts["query_03"])
    running = []
    for number, where in enumerate(shares(golden_bank, column)):
        given = [str(golden_bank.path), str(tmp_path / "layout.npy"), where, str(tmp_path / f"{number}.parquet")]
        running.append(subprocess.Popen([sys.executable, "-c", ANSWER, *given]))
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    merged = merge_hits([pq.read_table(tmp_path / f"{number}.parquet") for number in range(2)], 4)
    assert merged.equals(golden_bank.retrieve(layouts["query_03"], k=4).to_arrow())


def test_what_both_have_found_counts_once(golden, golden_bank):
    _, layouts = golden
    hits = golden_bank.retrieve(layouts["query_01"], k=6).to_arrow()
    fewer = golden_bank.retrieve(layouts["query_01"], k=2).to_arrow()
    assert merge_hits([hits, hits], 2).equals(fewer)


def test_answers_to_several_layouts_are_merged_by_their_names(golden, golden_bank):
    _, layouts = golden
    asked = {name: layouts[name] for name in ("query_02", "query_01")}
    whole, halves = [], ([], [])
    for name, layout in asked.items():
        named = pa.array([name])
        for where, into in zip([None, *shares(golden_bank, "source")], (whole, *halves), strict=True):
            hits = golden_bank.retrieve(layout, k=3, where=where).to_arrow()
            into.append(hits.add_column(0, "layout", pa.array([name] * len(hits), named.type)))
    merged = merge_hits([pa.concat_tables(half) for half in halves], 3)
    assert merged.equals(pa.concat_tables(whole[::-1]))


def test_answers_to_different_layouts_are_not_mixed(golden, golden_bank):
    one, other = (golden_bank.retrieve(golden[1][name]).to_arrow() for name in ("query_01", "query_02"))
    with pytest.raises(FilterError, match="expected answers to one layout, found several layouts"):
        merge_hits([one, other], 5)


@pytest.mark.parametrize("k", [0, -1, None, 2.5, True, "5"])
def test_numbers_of_hits_that_cannot_be_are_refused(golden, golden_bank, k):
    with pytest.raises(FilterError, match="k: expected a whole number"):
        merge_hits([golden_bank.retrieve(golden[1]["query_01"]).to_arrow()], k)


def test_tables_of_something_else_are_refused(golden_bank):
    with pytest.raises(FilterError, match="to_arrow"):
        merge_hits([golden_bank.segments()], 3)
    with pytest.raises(FilterError, match="to_arrow"):
        merge_hits([], 3)


def test_the_merge_is_at_hand():
    assert zeuxis.merge_hits is merge_hits
