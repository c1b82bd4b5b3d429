"""What a data set holds, told in seconds: sources, classes, groups, sizes and whatever cannot be used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset, Problem, SourceRef
from ..storage.classes import VOID, SemanticClass
from ..storage.errors import SourceError
from .progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

BATCH = 16
"""Sources a thread takes at a time."""
SHOWN = 20
"""Rows of problems and sizes that `render` shows."""


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds.

    Attributes:
        dataset: `kind:path`, resolved.
        licence: the first line of its licence file.
        sources: how many there are, those that cannot be used included.
        usable: how many of them decode, as far as headers tell for photographs and depth maps.
        with_depth: how many of the usable ones have depth.
        classes: its class list, by id.
        class_pixels, class_sources: by class id, pixels of the class and sources that hold it, usable ones only.
        void_pixels: pixels without a class.
        splits, groups: sources by split and by group, all of them.
        sizes: `(height, width)` to the number of usable sources.
        problems: what cannot be used, then what lies among the sources and is left out.
    """

    dataset: str
    licence: str | None
    sources: int
    usable: int
    with_depth: int
    classes: tuple[SemanticClass, ...]
    class_pixels: dict[int, int]
    class_sources: dict[int, int]
    void_pixels: int
    splits: dict[str, int]
    groups: dict[str, int]
    sizes: dict[tuple[int, int], int]
    problems: tuple[Problem, ...]

    @property
    def pixels(self) -> int:
        """Pixels of all usable label maps, void included."""
        return sum(self.class_pixels.values()) + self.void_pixels

    @property
    def void_share(self) -> float:
        """The part of all pixels that is void, 0 to 1."""
        return self.void_pixels / max(self.pixels, 1)

    def to_frame(self) -> pd.DataFrame:
        """One row a class: id, name, colour, thing, thin, share (of all pixels, 0 to 1), sources."""
        total = max(self.pixels, 1)
        return pd.DataFrame(
            [
                {
                    "id": entry.id,
                    "name": entry.name,
                    "colour": entry.colour,
                    "thing": entry.thing,
                    "thin": entry.thin,
                    "share": self.class_pixels.get(entry.id, 0) / total,
                    "sources": self.class_sources.get(entry.id, 0),
                }
                for entry in self.classes
            ],
            columns=["id", "name", "colour", "thing", "thin", "share", "sources"],
        )

    def render(self) -> Group:
        """The report for a terminal, as a rich renderable."""
        from rich.console import Group
        from rich.text import Text

        parts: list[Text | Table] = [Text(line) for line in self._summary()]
        parts.append(_class_table(self.to_frame()))
        absent = len(self.classes) - len(self.class_sources)
        if absent:
            parts.append(Text(f"{absent} classes of the list occur nowhere"))
        if self.problems:
            parts.append(_problem_table(self.problems))
        return Group(*parts)

    def _summary(self) -> list[str]:
        sizes = Counter(self.sizes).most_common(SHOWN)
        rest = len(self.sizes) - len(sizes)
        reasons = Counter(problem.reason for problem in self.problems)
        return [
            self.dataset + (f" ({self.licence})" if self.licence else ""),
            f"sources: {self.sources:,} ({self.usable:,} usable, {self.with_depth:,} with depth)",
            f"splits: {_counts(self.splits)}",
            f"groups: {len(self.groups):,}",
            "sizes (height x width): "
            + ", ".join(f"{h}x{w} ({n:,})" for (h, w), n in sizes)
            + f" and {rest} more" * bool(rest),
            f"void: {self.void_share:.1%} of the pixels",
            f"problems: {_counts(reasons) if reasons else 'none'}",
        ]


def check(dataset: str, progress: Progress = silent) -> CheckReport:
    """What the data set `kind:path` holds, and what of it cannot be used.

    Label maps are decoded; of photographs and depth maps only the header is read, so that a photograph cut short in
    its middle is found by `rebuild` alone.

    Raises:
        DatasetError: the data set as a whole cannot be used.
    """
    opened = open_dataset(dataset)
    refs = opened.sources()
    batches = [refs[start : start + BATCH] for start in range(0, len(refs), BATCH)]
    total = _Tally()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for tally in pool.map(lambda batch: _survey(opened, batch), batches):
            total.add(tally)
            progress(total.seen, len(refs))
    return _report(opened, refs, total)


@dataclass
class _Tally:
    """Counts over some sources."""

    seen: int = 0
    with_depth: int = 0
    void_pixels: int = 0
    class_pixels: Counter[int] = field(default_factory=Counter)
    class_sources: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: _Tally) -> None:
        self.seen += other.seen
        self.with_depth += other.with_depth
        self.void_pixels += other.void_pixels
        self.class_pixels += other.class_pixels
        self.class_sources += other.class_sources
        self.sizes += other.sizes
        self.problems += other.problems

    def add_layout(self, layout: npt.NDArray[np.uint16]) -> None:
        counts = np.bincount(layout.ravel(), minlength=VOID + 1)
        self.void_pixels += int(counts[VOID])
        for id in np.flatnonzero(counts[:VOID]).tolist():
            self.class_pixels[id] += int(counts[id])
            self.class_sources[id] += 1
        self.sizes[layout.shape[0], layout.shape[1]] += 1


def _survey(dataset: Dataset, refs: Sequence[SourceRef]) -> _Tally:
    tally = _Tally(seen=len(refs))
    for ref in refs:
        try:
            tally.add_layout(dataset.survey(ref))
            tally.with_depth += ref.depth is not None
        except SourceError as error:
            tally.problems.append(Problem(ref.name, error.reason, str(error)))
    return tally


def _report(dataset: Dataset, refs: Sequence[SourceRef], total: _Tally) -> CheckReport:
    return CheckReport(
        dataset.spec,
        dataset.licence,
        len(refs),
        sum(total.sizes.values()),
        total.with_depth,
        dataset.decoding.classes,
        dict(sorted(total.class_pixels.items())),
        dict(sorted(total.class_sources.items())),
        total.void_pixels,
        dict(sorted(Counter(ref.split for ref in refs).items())),
        dict(sorted(Counter(ref.group for ref in refs).items())),
        dict(sorted(total.sizes.items())),
        (*total.problems, *dataset.ignored()),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _class_table(frame: pd.DataFrame) -> Table:
    """The classes that occur, commonest first."""
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "", "colour", "class", "kind", "share", "sources", box=None, pad_edge=False)
    rows = frame[frame["sources"] > 0].sort_values("share", ascending=False, kind="stable").to_dict("records")
    for row in rows:
        kind = ("thing" if row["thing"] else "stuff") + ", thin" * row["thin"]
        colour = "#{:02x}{:02x}{:02x}".format(*row["colour"])
        share, sources = f"{row['share']:.2%}", f"{row['sources']:,}"
        table.add_row(str(row["id"]), Text("██", style=colour), colour, Text(row["name"]), kind, share, sources)
    return table


def _problem_table(problems: Sequence[Problem]) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = problems[:SHOWN]
    rest = f", {len(problems) - SHOWN:,} more not shown" if len(problems) > SHOWN else ""
    table = Table("reason", "what", title=f"{len(problems):,} problems{rest}")
    for problem in shown:
        table.add_row(problem.reason, Text(problem.sentence))
    return table
