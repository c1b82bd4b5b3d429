"""The one small interface through which long work says how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Called with what is done, what there is to do, and a short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Takes one report; it must return quickly."""


def silent(done: int, total: int, note: str = "") -> None:
    """Says nothing."""


@dataclass
class Steps:
    """Tells one step more of so many at each call, with a note."""

    progress: Progress
    total: int
    done: int = 0

    def __call__(self, note: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, note)
