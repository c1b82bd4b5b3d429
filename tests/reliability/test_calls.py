"""The calls that LMDB and Arrow make by themselves fail as well: a preloaded shim strikes inside the C library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.reliability.server import TrialServer
from benchmarks.reliability.struck import shim

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def striking() -> Iterator[TrialServer]:
    """A server under the shim; skips where there is no C compiler."""
    with shim() as library:
        if library is None:
            pytest.skip("there is no C compiler")
        with TrialServer(library) as server:
            yield server


@pytest.mark.parametrize(
    ("scenario", "sample"),
    [
        *(("rebuild", 8), ("merge", 6), ("forget", 6)),
        *(pytest.param(scenario, 80, marks=pytest.mark.slow) for scenario in ("rebuild", "merge", "forget")),
    ],
)
def test_whatever_call_fails_the_bank_is_whole(striking: TrialServer, scenario: str, sample: int) -> None:
    trials = striking.ask(scenario, layer="calls", sample=sample)
    assert trials.wrong() == []
    assert trials.ended("signal 9") == sum(row["mode"] == "kill" for row in trials.rows) > 0


@pytest.mark.parametrize("sample", [10, pytest.param(None, marks=pytest.mark.slow)])
def test_the_calls_of_lmdb_are_among_them(striking: TrialServer, sample: int | None) -> None:
    """Those that go to the file of values, in every mode: the writes of its pages, and of its head."""
    trials = striking.ask("rebuild", layer="calls", only="data.mdb", sample=sample)
    assert trials.wrong() == []
    struck = {row["what"].split()[0] for row in trials.rows}
    assert struck & {"pwrite", "writev", "pwritev"}, struck
    assert trials.ended("raised UnfinishedError") > 0, "LMDB's own failures end in a sentence"
