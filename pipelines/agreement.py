"""`zeuxis orderings --agreement`: do two ways of telling who is in front say the same of a bank's photographs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from ..ingest.depth import DepthModel
from ..ingest.ordering import Ordering, orderings
from ..storage.errors import BankError, InputError, SourceError, sentence
from ..storage.images import Depth, decode_photograph
from ..storage.layouts import FramedLayout, frame_layout
from ..storage.manifest import DatasetEntry
from ..storage.reader import Reader
from ..storage.shard import Shard
from .progress import Progress, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group
    from rich.table import Table

Way = Literal["depth", "disparity", "network", "ground"]
"""The data set's metres, its disparities, a depth network, the ground rule."""

COMMONEST = 30  # class pairs that are shown
ENOUGH = 20  # pairs that both know, for a share worth showing
MATRIX_CLASSES = 24
FAINT = "#6b6b70"


@dataclass(frozen=True, repr=False)
class AgreementReport:
    """Two sources of orderings beside each other.

    Attributes:
        bank, generation: what was read.
        a, b: the two ways, of `Way`.
        sources: photographs that both can judge; skipped: those that one of them cannot.
        names: class id to name.
        pairs: a row a pair of touching segments: `class_a`, `class_b` (bank ids, the smaller first), `front_a`,
            `front_b` (class id in front as a and as b say, -1 unknown), `margin_a`, `margin_b` (NaN unknown).
    """

    bank: Path
    generation: int
    a: str
    b: str
    sources: int
    skipped: int
    names: dict[int, str]
    pairs: pd.DataFrame

    def __repr__(self) -> str:
        return f"AgreementReport({self.a} and {self.b}, {len(self.pairs)} pairs, {self.share:.1%} agree)"

    @property
    def known(self) -> pd.DataFrame:
        """The pairs of which both know who is in front, with a column `agree`."""
        known = self.pairs[(self.pairs.front_a >= 0) & (self.pairs.front_b >= 0)]
        return known.assign(agree=known.front_a == known.front_b)

    @property
    def share(self) -> float:
        """The share of the known pairs on which both agree, 0..1; NaN where there are none."""
        return float(self.known.agree.mean()) if len(self.known) else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """By class pair, the commonest first.

        `pairs`; `known`, by both; `agree`, their share; `front_a` and `front_b`, the share of the known ones in which
        the first class is in front, as a and as b say.
        """
        known = self.known
        keys = ["class_a", "class_b"]
        first = known.assign(first_a=known.front_a == known.class_a, first_b=known.front_b == known.class_a)
        by_pair = first.groupby(keys)
        frame = pd.DataFrame(
            {
                "pairs": self.pairs.groupby(keys).size(),
                "known": by_pair.size(),
                "agree": by_pair.agree.mean(),
                "front_a": by_pair.first_a.mean(),
                "front_b": by_pair.first_b.mean(),
            }
        ).reset_index()
        frame["known"] = frame.known.fillna(0).astype(int)
        frame.insert(0, "first", frame.class_a.map(self.names))
        frame.insert(1, "second", frame.class_b.map(self.names))
        return frame.sort_values(["pairs", "class_a", "class_b"], ascending=[False, True, True]).reset_index(drop=True)

    def by_margin(self, of: Literal["a", "b"] = "a") -> pd.DataFrame:
        """The known pairs in ten equal parts by the margin of a or b: `least` and `most` of it, `known`, `agree`."""
        known, column = self.known, f"margin_{of}"
        if known.empty:
            return pd.DataFrame({"least": [], "most": [], "known": [], "agree": []})
        decile = (known[column].rank(method="first").astype(int) - 1) * 10 // len(known)
        parts = known.groupby(decile)
        margins = parts[column]
        frame = pd.DataFrame(
            {"least": margins.min(), "most": margins.max(), "known": parts.size(), "agree": parts.agree.mean()}
        )
        return frame.reset_index(drop=True)

    def worst(self, most: int = 10) -> pd.DataFrame:
        """The rows of `to_frame` with the least agreement, of the class pairs with at least `ENOUGH` known pairs."""
        frame = self.to_frame()
        return frame[frame.known >= ENOUGH].sort_values(["agree", "known"], ascending=[True, False]).head(most)

    def render(self) -> Group:
        """The figures for a terminal, as a rich renderable."""
        from rich.console import Group
        from rich.text import Text

        head = (
            f"{self.bank}: orderings by {self.a} (a) and by {self.b} (b), generation {self.generation}; "
            f"{self.sources:,} photographs, {self.skipped:,} that one of the two cannot judge"
        )
        unknown = f"a knows {(self.pairs.front_a >= 0).sum():,}, b knows {(self.pairs.front_b >= 0).sum():,}"
        both = f"both {len(self.known):,}, of which {self.share:.1%} agree" if len(self.known) else "both none"
        counts = f"{len(self.pairs):,} touching pairs: {unknown}, {both}"
        return Group(
            Text(head),
            Text(counts),
            _class_table("the commonest class pairs", self.to_frame().head(COMMONEST)),
            _class_table(f"least agreement, of those known {ENOUGH} times", self.worst()),
            _margin_table(f"by the margin of {self.a}", self.by_margin("a")),
            _margin_table(f"by the margin of {self.b}", self.by_margin("b")),
        )

    def draw(self) -> Figure:
        """A matrix of the classes with the most pairs: how often both agree, and of how many pairs."""
        from matplotlib.figure import Figure

        frame = self.to_frame()
        weight = frame.groupby("class_a").known.sum().add(frame.groupby("class_b").known.sum(), fill_value=0)
        shown = weight.sort_values(ascending=False).index[:MATRIX_CLASSES].tolist()
        side = max(5.0, 0.44 * len(shown) + 2.4)
        figure = Figure(figsize=(side + 1, side), dpi=150, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        labels = [self.names[id] for id in shown]
        axes.set_xticks(range(len(shown)), labels, rotation=90, fontsize=7)
        axes.set_yticks(range(len(shown)), labels, fontsize=7)
        if shown:
            picture = axes.imshow(_matrix(frame, shown), cmap="RdYlBu", vmin=0, vmax=1)
            figure.colorbar(picture, ax=axes, shrink=0.5, label="share that agrees (0.5: chance)")
            _write_cells(axes, frame, shown)
        title = f"Who is in front: {self.a} and {self.b} agree on {self.share:.1%} of {len(self.known):,} pairs"
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel(f"agreement in %, below it the pairs; blank under {ENOUGH} pairs", fontsize=7, color=FAINT)
        return figure


def origins(bank: str | Path) -> Table:
    """How many orderings a bank has by origin, and of how many it is known who is in front; for a terminal."""
    from rich.table import Table

    orderings = Reader(bank).table("orderings", columns=["origin", "front"])
    frame = pd.DataFrame(
        {"origin": orderings["origin"].to_pylist(), "known": orderings["front"].is_valid().to_pylist()}
    )
    table = Table("origin", "orderings", "known", box=None, pad_edge=False)
    for origin, each in frame.groupby("origin")["known"]:
        table.add_row(str(origin), f"{len(each):,}", f"{int(each.sum()):,}")
    return table


def agreement(
    bank: str | Path,
    a: str = "depth",
    b: str = "ground",
    *,
    model: DepthModel | None = None,
    progress: Progress = silent,
) -> AgreementReport:
    """Orders every pair of touching segments of a bank anew in two ways, and compares them.

    Args:
        bank: its folder; it must hold its sources' files.
        a, b: two of `Way`; of sources that one of them cannot judge nothing is compared.
        model: the depth network, where one of the two is `network`.
        progress: called with sources done and all sources.

    Raises:
        InputError: no such way, or `network` without a model.
        BankError: the bank cannot be read, or keeps no sources.
    """
    for way in (a, b):
        if way not in get_args(Way):
            raise InputError(sentence("agreement", expected=f"two of {', '.join(get_args(Way))}", found=repr(way)))
    if "network" in (a, b) and model is None:
        raise InputError(sentence("agreement", "network needs a depth network", fix="give --depth-model"))
    if a == b:
        raise InputError(sentence("agreement", expected="two different ways", found=f"{a} twice"))
    reader = Reader(bank)
    tally, judged, done = _Tally(), 0, 0
    total = sum(int(sources.live.sum()) for sources in reader.shard_sources)
    for shard, row in _sources(reader):
        both = _both(reader, shard, row, (a, b), model)
        judged += both is not None
        if both is not None:
            tally.add(*both)
        done += 1
        progress(done, total)
    names = {entry.id: entry.name for entry in reader.classes}
    return AgreementReport(
        reader.path,
        reader.manifest.generation,
        a,
        b,
        judged,
        done - judged,
        names,
        tally.frame(),
    )


class _Tally:
    """Columns that grow a source at a time; 18 bytes a pair."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []

    def add(self, class_ids: Any, first: list[Ordering], second: list[Ordering]) -> None:
        """Takes the same pairs, ordered in two ways, of one source with the class ids of its components."""
        ids = class_ids.astype(np.int32)
        pairs = np.array([(pair.a, pair.b) for pair in first], np.int64).reshape(-1, 2)
        classes = np.sort(ids[pairs], axis=1)
        part: dict[str, Any] = {"class_a": classes[:, 0], "class_b": classes[:, 1]}
        for side, ordered in (("a", first), ("b", second)):
            fronts = np.array([-1 if pair.front is None else ids[pair.front] for pair in ordered], np.int32)
            margins = [np.nan if pair.margin is None else pair.margin for pair in ordered]
            part |= {f"front_{side}": fronts, f"margin_{side}": np.array(margins, np.float32)}
        self._parts.append(part)

    def frame(self) -> pd.DataFrame:
        """All that was added."""
        empty = [np.empty(0, np.int64)]
        names = ("class_a", "class_b", "front_a", "front_b", "margin_a", "margin_b")
        return pd.DataFrame({n: np.concatenate([part[n] for part in self._parts] or empty) for n in names})


def _sources(reader: Reader) -> Iterator[tuple[Shard, dict[str, Any]]]:
    """Every live source with its shard, shard by shard."""
    for shard, sources in zip(reader.shards, reader.shard_sources, strict=True):
        rows = shard.table("sources", ["source", "dataset", "source_id", "layout", "depth"]).to_pylist()
        yield from ((shard, row) for row, live in zip(rows, sources.live.tolist(), strict=True) if live)


def _both(
    reader: Reader, shard: Shard, row: dict[str, Any], ways: tuple[str, str], model: DepthModel | None
) -> tuple[Any, list[Ordering], list[Ordering]] | None:
    """Class ids of a source's components and its orderings in both ways; None where one of them is not to be had."""
    entry = reader.dataset(row["dataset"])
    if row["layout"] is None or (not row["depth"] and not {"depth", "disparity"}.isdisjoint(ways)):
        return None
    try:
        depths = [_depth(shard, row, way, entry, model) for way in ways if way != "ground"]
        if any(depth is None for depth in depths):
            return None
        layout = entry.to_bank(entry.decoding.layout(shard.raw("layout", row["source_id"]), row["source"]))
    except SourceError:
        return None
    except KeyError:
        raise BankError(sentence(reader.path, "keeps no sources", fix="rebuild it without --no-keep-sources")) from None
    framed = frame_layout(layout, reader.geometry, reader.classes.flags("thin"))
    given = iter(depths)
    first, second = (_ordered(reader, framed, way, None if way == "ground" else next(given)) for way in ways)
    return framed.components.class_ids, first, second


def _depth(shard: Shard, row: dict[str, Any], way: str, entry: DatasetEntry, model: DepthModel | None) -> Depth | None:
    if way == "network":
        assert model is not None
        return model(decode_photograph(shard.raw("image", row["source_id"]), row["source"]), row["source"])
    if way != entry.decoding.depth_origin:
        return None
    return entry.decoding.depth(shard.raw("depth", row["source_id"]), row["source"])


def _ordered(reader: Reader, framed: FramedLayout, way: str, depth: Depth | None) -> list[Ordering]:
    ids = framed.components.class_ids
    regions = framed.runs, reader.geometry.frame, framed.boxes, ids, framed.stored
    if depth is None:
        sky = np.array([reader.classes[int(id)].name == "sky" for id in ids], bool)
        return list(orderings(*regions, None, "ground", sky))
    return list(orderings(*regions, depth, measured=way))  # type: ignore[arg-type]


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    return iter(frame.itertuples())


def _class_table(title: str, frame: pd.DataFrame) -> Any:
    from rich.table import Table

    table = Table("first", "second", title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("pairs", "known", "agree", "first in front: a", "b"):
        table.add_column(name, justify="right")
    for row in _rows(frame):
        shares = [f"{share:.0%}" if row.known else "-" for share in (row.agree, row.front_a, row.front_b)]
        table.add_row(row.first, row.second, f"{row.pairs:,}", f"{row.known:,}", *shares)
    return table


def _margin_table(title: str, frame: pd.DataFrame) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("margin", "known", "agree"):
        table.add_column(name, justify="right")
    for row in _rows(frame):
        table.add_row(f"{row.least:.3f} to {row.most:.3f}", f"{row.known:,}", f"{row.agree:.0%}")
    return table


def _matrix(frame: pd.DataFrame, shown: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`(n, n)` share of agreement of the classes shown, NaN where too few pairs are known."""
    place = {id: number for number, id in enumerate(shown)}
    matrix = np.full((len(shown), len(shown)), np.nan)
    for row in _rows(frame[frame.known >= ENOUGH]):
        if row.class_a in place and row.class_b in place:
            one, other = place[row.class_a], place[row.class_b]
            matrix[one, other] = matrix[other, one] = row.agree
    return matrix


def _write_cells(axes: Any, frame: pd.DataFrame, shown: list[int]) -> None:
    place = {id: number for number, id in enumerate(shown)}
    for row in _rows(frame[frame.known >= ENOUGH]):
        if row.class_a in place and row.class_b in place:
            dark = abs(row.agree - 0.5) > 0.38
            for x, y in {(place[row.class_a], place[row.class_b]), (place[row.class_b], place[row.class_a])}:
                text = f"{100 * row.agree:.0f}\n{row.known:,}"
                axes.text(x, y, text, size=5.2, ha="center", va="center", color="white" if dark else "black")
