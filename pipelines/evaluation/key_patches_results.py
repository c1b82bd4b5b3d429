"""What an evaluation of assembled pictures finds: a table and a picture for each experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...storage.images import Photograph
from ...synth.metrics import Interval


class Column(NamedTuple):
    """A figure: its head, what it means, and how it is written."""

    head: str
    said: str
    form: str = ".3f"


@dataclass(frozen=True)
class Row:
    """A system, or a condition: `figures` by head of their columns, none where it has none."""

    name: str
    said: str
    figures: Mapping[str, Interval | float]


@dataclass(frozen=True, eq=False)
class Experiment:
    """One experiment.

    Attributes:
        name, said: what is asked, in a word and in a sentence.
        columns, rows: its table.
        picture: samples; caption: what they show.
        notes: sentences on what else is to be known.
    """

    name: str
    said: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    picture: Photograph
    caption: str
    notes: Sequence[str] = ()

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True, eq=False)
class KeyPatchEvaluation:
    """All of it.

    Attributes:
        experiments: in the order in which they were asked for.
        about: what the figures depend on; left_out: a sentence for each system or experiment that is not there.
        files: what was written.
    """

    experiments: Sequence[Experiment]
    about: Mapping[str, Any]
    left_out: Sequence[str]
    files: Sequence[Path] = ()

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name."""
        return next(each for each in self.experiments if each.name == name)

    def to_json(self) -> dict[str, Any]:
        """Every figure and what it depends on; an interval is value, low and high."""
        told = {each.name: {row.name: _told(row.figures) for row in each.rows} for each in self.experiments}
        notes = {each.name: list(each.notes) for each in self.experiments if each.notes}
        return {"about": dict(self.about), "experiments": told, "notes": notes, "left_out": list(self.left_out)}


def _told(figures: Mapping[str, Interval | float]) -> dict[str, Any]:
    return {head: list(each) if isinstance(each, Interval) else each for head, each in figures.items()}
