"""The one small interface through which long work says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is done, what there is to do, and a short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Takes one report; it must return quickly."""


def silent(done: int, total: int, note: str = "") -> None:
    """Says nothing."""
