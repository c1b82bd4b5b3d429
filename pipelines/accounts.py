"""What a rebuild did, or would do, in numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .forecast import Forecast
from .planning import Work


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did; `n_in = n_new + n_reused + n_rejected + n_forgotten`.

    Attributes:
        bank: where; generation: the current one now; published: whether this run made it.
        n_in: sources listed, of those the run was about; n_new, n_reused, n_rejected, n_forgotten: extracted now, kept
            as they were, not usable, removed for good and left out.
        n_vanished: sources that left the bank because their files are gone.
        segments: in the bank now; live segments only.
        reasons: reject reason to count, of all that are not usable now.
        rejects: up to 20 sentences.
        ignored: files that belong to no source.
        seconds: wall time; stages: of its parts.
        retired: generations that were removed.
        report: the HTML report, where one was written.
        forecast: what the rebuild would take, where only that was asked for.
    """

    bank: Path
    generation: int
    published: bool
    n_in: int
    n_new: int
    n_reused: int
    n_rejected: int
    n_forgotten: int
    n_vanished: int
    segments: int
    reasons: Mapping[str, int]
    rejects: Sequence[str]
    ignored: int
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    retired: Sequence[int] = ()
    report: Path | None = None
    forecast: Forecast | None = None


def planned(work: Work) -> dict[str, int]:
    """What the plan says, by what is to be done with the sources."""
    counts = {name: sum(len(getattr(plan, name)) for plan in work.plans) for name in _PLANNED}
    return {"listed": sum(plan.n_in for plan in work.plans), **counts}


_PLANNED = ("due", "rejects", "reused", "still_rejected", "forgotten", "vanished")


def planned_report(work: Work, forecast: Forecast | None, started: float) -> RebuildReport:
    """The report of a run that only planned; sources that are due count as new."""
    plan = planned(work)
    return RebuildReport(
        work.bank, work.current.generation if work.current else 0, False, plan["listed"], plan["due"], plan["reused"],
        plan["rejects"] + plan["still_rejected"], plan["forgotten"], plan["vanished"],
        sum(entry.rows["segments"] for entry in work.current.shards) if work.current else 0, {}, [], 0,
        time.monotonic() - started, forecast=forecast,
    )  # fmt: skip
