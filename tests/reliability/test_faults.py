"""A writer is killed at every write, fsync, rename, link and removal, or these fail: the old bank or the new one stays.

The operations of a clean run are counted first; then each is struck in turn, in a forked child (SQLite's method). The
bank must open, verify (every value), and answer as the last generation did, or as the next one does; the next run must
complete, and leave what a clean run leaves: rows, values, answers and files. A run in which no writer was killed alive
proves nothing, and fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.reliability.server import Trials, TrialServer

pytestmark = pytest.mark.timeout(600)
LEAST = {"rebuild": 80, "merge": 25, "forget": 25, "rollback": 5, "collect": 5}
"""Scenario to the operations that it has at least: with fewer, something does not go through the fault points."""
LEFT = {"rebuild": [1, 2, 3], "merge": [4], "forget": [4], "rollback": [1, 2, 3, 4], "collect": [3]}
"""Scenario to the generations that a clean run leaves."""
FAILURES = ("EIO", "ENOSPC", "short")
"""How an operation fails that does not kill its writer."""


@pytest.mark.parametrize(
    ("scenario", "sample"),
    [
        *(("rebuild", 15), ("merge", 8), ("forget", 8), ("rollback", None), ("collect", None)),
        *(pytest.param(scenario, None, marks=pytest.mark.slow) for scenario in ("rebuild", "merge", "forget")),
    ],
)
def test_killed_anywhere_the_bank_is_whole_and_the_next_run_completes(
    server: TrialServer, scenario: str, sample: int | None
) -> None:
    trials = server.ask(scenario, modes=["kill"], twice=8 if sample is None else 4, sample=sample)
    check(scenario, trials)
    struck = {row["number"] for row in trials.rows if not row["second"]}
    assert struck <= set(range(1, trials.operations + 1))
    assert len(struck) == (sample or trials.operations)
    if scenario != "collect":  # which publishes nothing
        assert {row["end"] for row in trials.rows} == {"old", "new"}, "all faults struck on one side of the publication"


@pytest.mark.parametrize(
    ("scenario", "modes", "sample"),
    [
        ("rebuild", FAILURES, 15),
        *((scenario, ["EIO"], 8) for scenario in LEAST if scenario != "rebuild"),
        *(pytest.param(scenario, ["EIO", "ENOSPC"], None, marks=pytest.mark.slow) for scenario in LEAST),
        pytest.param("rebuild", ["short"], None, marks=pytest.mark.slow),
    ],
)
def test_whatever_fails_the_bank_is_whole_and_the_next_run_completes(
    server: TrialServer, scenario: str, modes: Sequence[str], sample: int | None
) -> None:
    trials = server.ask(scenario, modes=modes, sample=sample)
    check(scenario, trials)
    for mode in modes:
        assert trials.ended("raised", mode) >= 1, f"no writer was stopped by {mode}"


def check(scenario: str, trials: Trials) -> None:
    assert trials.operations >= LEAST[scenario]
    assert trials.generations == LEFT[scenario]
    assert trials.wrong() == []
    assert trials.ended("signal 9") == sum(row["mode"] == "kill" for row in trials.rows)


def test_a_power_loss_at_any_moment_leaves_the_old_or_the_new_generation(server: TrialServer) -> None:
    """What was not synchronised is lost, kept or torn, in any order; what was acknowledged stays."""
    for scenario in ("rebuild", "merge", "forget"):
        trials = server.ask(scenario, modes=[], losses=8)
        assert trials.wrong() == []
        assert {row["end"] for row in trials.rows} == {"old", "new"}


@pytest.mark.parametrize(
    ("plant", "mode", "after"),
    [
        ("overwriting", "kill", "link_new"),
        ("careless", "short", None),
        ("untidy", "kill", None),
        ("forgetful", "kill", None),
        ("doubling", "EIO", None),
    ],
)
def test_the_checker_finds_a_planted_defect(server: TrialServer, plant: str, mode: str, after: str | None) -> None:
    """Seed the checker: each invariant has a defect that it must catch."""
    trials = server.ask("rebuild", plant=plant, modes=[mode], sample=6, after=after)
    assert trials.wrong(), f"nobody noticed a writer that is {plant}"


def test_a_power_loss_shows_names_that_were_never_made_durable(server: TrialServer) -> None:
    assert server.ask("rebuild", plant="not durable", modes=[], losses=15).wrong()
