"""Trials of the fork server as tables: `faults`, `calls`, `losses` and `kills`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import Outcome
from .server import ROOT, Trials, TrialServer

SHIM = ROOT / "tests" / "reliability" / "fault_shim.c"
QUICK = 4


def faults(quick: bool) -> Outcome:
    """Every operation of every writer, in every mode; and runs whose successor is struck too."""
    few: dict[str, Any] = {"sample": QUICK, "twice": 1} if quick else {"twice": 25}
    with TrialServer() as server:
        asked = ("rebuild", "merge", "forget", "rollback", "collect")
        return table((name, server.ask(name, **few)) for name in asked)


def losses(quick: bool) -> Outcome:
    """Power losses at random moments."""
    with TrialServer() as server:
        counts = {"rebuild": 300, "merge": 100, "forget": 60, "rollback": 20, "collect": 20}
        return table((name, server.ask(name, modes=[], losses=QUICK if quick else n)) for name, n in counts.items())


def kills(quick: bool) -> Outcome:
    """`kill -9` of live writers at random times."""
    with TrialServer() as server:
        counts = {"rebuild": 300, "merge": 120, "forget": 80}
        return table((name, server.ask(name, modes=[], kills=QUICK if quick else n)) for name, n in counts.items())


def calls(quick: bool) -> Outcome:
    """Every call into the C library of every writer, LMDB's included."""
    with shim() as library:
        if library is None:
            return Outcome([{"what": "skipped: there is no C compiler"}], [])
        with TrialServer(library) as server:
            few: dict[str, Any] = {"sample": QUICK} if quick else {}
            return table((name, server.ask(name, layer="calls", **few)) for name in ("rebuild", "merge", "forget"))


@contextmanager
def shim() -> Iterator[Path | None]:
    """The fault shim, compiled; None where there is no compiler."""
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fault_shim.so"
        if compiler:
            command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"]
            subprocess.run(command, check=True)
        yield library if compiler else None


def table(asked: Iterator[tuple[str, Trials]]) -> Outcome:
    """A row a scenario, and a sentence for every trial that went wrong."""
    rows, failures = [], []
    for name, trials in asked:
        modes = Counter(row["mode"] for row in trials.rows if not row["second"])
        found = Counter(row["end"] for row in trials.rows)
        stopped = sum(row["ends"][0] != "done" for row in trials.rows)
        rows.append(
            {
                "writer": name, "operations": trials.operations, "trials": len(trials.rows),
                "by mode": ", ".join(f"{mode} {count}" for mode, count in modes.items()),
                "struck twice": sum(bool(row["second"]) for row in trials.rows),
                "stopped": stopped, "old found": found["old"], "new found": found["new"], "wrong": len(trials.wrong()),
            }
        )  # fmt: skip
        failures += [f"{name}, {row['what']}, {row['mode']} {row['second']}: {row['wrong']}" for row in trials.wrong()]
        if not stopped:
            failures.append(f"{name}: no writer was stopped, which proves nothing")
    return Outcome(rows, failures)
