"""Starts the fork server and asks it for trials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .world import scratch_folder

ROOT = Path(__file__).absolute().parents[2]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_THREAD_LIMIT")


class Trials(NamedTuple):
    """What the trials of a scenario showed.

    Attributes:
        operations: how many a clean run has; generations: what it leaves.
        rows: one a trial: `number` of the operation struck, `mode`, `second` fault, `what` it was, `ends` (how
            the struck runs ended), `end` (`old` or `new`, as the bank was found), `wrong` (sentences).
    """

    operations: int
    generations: list[int]
    rows: list[dict[str, Any]]

    def wrong(self) -> list[dict[str, Any]]:
        """The trials that found something wrong."""
        return [row for row in self.rows if row["wrong"]]

    def ended(self, how: str, mode: str | None = None) -> int:
        """How many struck runs ended so: `done`, `raised OSError`, `signal 9`."""
        return sum(row["ends"][0].startswith(how) and mode in (None, row["mode"]) for row in self.rows)


class TrialServer:
    """A process that runs trials; use as a context manager.

    Args:
        preload: a library that interposes on the C library's calls; then `layer="calls"` can be asked for.
    """

    def __init__(self, preload: Path | None = None) -> None:
        env = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        if preload:
            env["LD_PRELOAD"] = str(preload)
        self._scratch = scratch_folder()
        env["TMPDIR"] = self._scratch.name
        command = [sys.executable, "-m", "benchmarks.reliability.trials"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> TrialServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not kind:
                self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            pass  # amid the trials of a request that nobody waits for any more
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._scratch.cleanup()

    def ask(self, scenario: str, **request: Any) -> Trials:
        """Runs the trials of a scenario; `request` as in `trials.answer`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"scenario": scenario, **request}) + "\n")
        self._process.stdin.flush()
        lines = []
        while (line := self._process.stdout.readline()) not in ("\n", ""):
            lines.append(json.loads(line))
        if not line or not lines:
            raise RuntimeError(f"the trial server stopped amid {scenario!r}; its error stream says why")
        head, *rows = lines
        if len(rows) != head["trials"]:
            raise RuntimeError(f"{head['trials']} trials of {scenario!r} were begun, {len(rows)} were heard of")
        return Trials(head["operations"], head["generations"], rows)
