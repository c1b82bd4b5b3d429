"""How far long work is, on the error stream: a bar on a terminal, now and then a plain line in a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from .pipelines.units import duration

EVERY_SECONDS = 30.0
"""A plain line is written at least this often, as long as something is reported."""
EVERY_SHARE = 0.1
"""And whenever this share of the work is done,"""
LEAST_SECONDS = 5.0
"""but never closer together than this: work that is done in a moment leaves no line."""


class Report(Protocol):
    """Takes what is done, what there is to do (None: nobody knows), and a short note."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Takes one report."""


@contextmanager
def progress_bar(unit: str) -> Iterator[Report]:
    """Shows what is done, the rate, the time left and the note; `unit` is a plural, such as `sources`."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress(unit)
        return
    with _rich_bar(unit, console) as report:
        yield report


@contextmanager
def _rich_bar(unit: str, console: Any) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f} {unit}/s" if speed else "")

    note = TextColumn("{task.fields[note]}", markup=False)  # a note may hold a file name
    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), note)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, note="")

        def report(done: int, total: int | None, note: str = "") -> None:
            current = bar.tasks[0]
            if done < current.completed or total != current.total:
                bar.reset(task, total=total)
            bar.update(task, completed=done, note=note)

        yield report


def first_use() -> None:
    """Says why the first search of an installation is slow, before it begins; nothing at any later one."""
    from .index.search import is_compiled

    if not is_compiled():
        _to_stderr("compiling the search for this machine, once: about 20 s")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class PlainProgress:
    """Writes a line now and then, so that the log of a night stays short.

    Attributes:
        unit: what is counted, a plural.
        write: takes a line; clock: seconds that only grow.
    """

    unit: str
    write: Callable[[str], None] = _to_stderr
    clock: Callable[[], float] = time.monotonic
    _total: int | None = field(default=None, init=False)
    _done: int = field(default=-1, init=False)
    _first: int = field(default=0, init=False)
    _began: float = field(default=0.0, init=False)
    _written: float = field(default=0.0, init=False)
    _step: int = field(default=0, init=False)
    _lines: int = field(default=0, init=False)

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Takes one report, and writes a line where one is due."""
        now = self.clock()
        if self._done < 0 or done < self._done or total != self._total:  # another part of the work begins
            self._total, self._first, self._began, self._written = total, done, now, now
            self._step, self._lines = self._steps(done), 0
        self._done = done
        silence = now - self._written
        stepped = self._steps(done) > self._step and silence >= LEAST_SECONDS
        ended = done == total and self._lines > 0 and self._steps(done) > self._step
        if silence >= EVERY_SECONDS or stepped or ended:
            self._written, self._step = now, self._steps(done)
            self._lines += 1
            self.write(self._line(now, note))

    def _steps(self, done: int) -> int:
        return int(done / self._total / EVERY_SHARE + 1e-9) if self._total else 0

    def _line(self, now: float, note: str) -> str:
        said = f"{self._done:,}" + (f" of {self._total:,}" if self._total is not None else "") + f" {self.unit}"
        if self._total:
            said += f" ({self._done / self._total:.0%})"
        rate = (self._done - self._first) / (now - self._began) if now > self._began else 0.0
        if rate > 0:
            said += f", {rate:,.1f} {self.unit}/s"
            if self._total is not None and self._done < self._total:
                said += f", {duration((self._total - self._done) / rate)} left"
        return said + (f", {note}" if note else "")
