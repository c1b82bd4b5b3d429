"""A progress bar on the error stream, where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Report(Protocol):
    """Takes what is done, what there is to do (None: nobody knows), and a short note."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Takes one report."""


@contextmanager
def progress_bar(unit: str) -> Iterator[Report]:
    """A bar that shows what is done, the rate, the time left and the note."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f} {unit}/s" if speed else "")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, note="")

        def report(done: int, total: int | None, note: str = "") -> None:
            current = bar.tasks[0]
            if done < current.completed or total != current.total:
                bar.reset(task, total=total)
            bar.update(task, completed=done, note=note)

        yield report
