"""Builds the page that a rebuild leaves: what came and went, what was rejected and why, what the bank holds now."""

from __future__ import annotations

import html
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage import files
from ..storage.reader import Reader
from .accounts import RebuildReport
from .events import bank_bytes
from .rebuild_pictures import (
    Changes,
    Thumbnails,
    changes,
    class_counts,
    depths_of,
    drawn_evidence,
    picture_shards,
    rejects_of,
    rows_of,
    sample_segments,
    segment_sizes,
)
from .report_parts import Html, caption, cell, joined, swatch, tag
from .report_pictures import data_uri
from .report_style import PAGE, REBUILD_STYLE, STYLE
from .units import duration, size

SHOWN_NAMES = 60  # of sources that are new, changed or gone
SHOWN_CLASSES = 60
SHOWN_REASONS = 12
SHOWN_REJECTS = 12  # a reason
SHOWN_SEGMENTS = 32
THUMBNAIL = 280  # pixels, longer side
BINS = 40


def rebuild_report(reader: Reader, before: Reader | None, outcome: RebuildReport, out: Path) -> Path:
    """Writes the page of the generation that was just published under a temporary name, and puts it in place.

    Args:
        reader: of that generation; before: of the one before, while its shards are still there.
        outcome: what the rebuild did.
        out: path of the page; its folder is made.

    Raises:
        OSError: it cannot be written. BankError: what is to be shown is damaged.
    """
    page = build_rebuild_report(reader, before, outcome).encode()
    files.make_folder(out.parent)
    temporary = out.parent / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}.html"
    try:
        files.write_bytes(temporary, page)
        files.rename(temporary, out)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return out


def build_rebuild_report(reader: Reader, before: Reader | None, outcome: RebuildReport) -> str:
    """The page as text: every picture inside, nothing fetched, no scripts. Equal but for times for equal rebuilds."""
    difference = changes(reader, before)
    chosen = picture_shards(reader, before)
    body = joined([
        _headline(reader, outcome),
        _numbers(reader, before, outcome),
        tag("h2", "What this run did"),
        _account(outcome, difference),
        _rejects(reader, before),
        _classes(reader, before),
        _histograms(reader, chosen),
        _segments(reader, chosen),
        _evidence(reader, chosen),
        tag("h2", "Time by stage"),
        _stages(outcome),
        tag("h2", "Data sets"),
        _datasets(reader),
        tag("footer", _made(reader)),
    ])  # fmt: skip
    page = PAGE.substitute(title=html.escape(shown(_title(reader))), style=STYLE + REBUILD_STYLE, body=body)
    return page.encode(errors="backslashreplace").decode()


def shown(text: object) -> str:
    """A name as it can be shown: line breaks, marks that turn the direction of writing and the like are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def _title(reader: Reader) -> str:
    return f"{reader.path.name}: generation {reader.manifest.generation}"


def _headline(reader: Reader, outcome: RebuildReport) -> Html:
    at = reader.manifest.made.get("time", "")
    with suppress(ValueError):
        at = f"{datetime.fromisoformat(at):%-d %B %Y, %H:%M UTC}"
    counts = {
        "new or changed": outcome.n_new, "as they were": outcome.n_reused, "not usable": outcome.n_rejected,
        "forgotten": outcome.n_forgotten,
    }  # fmt: skip
    found = [f"{count:,} {'is' if count == 1 else 'are'} {said}" for said, count in counts.items() if count]
    joined_up = " and ".join(filter(None, (", ".join(found[:-1]), *found[-1:]))) or "nothing is left"
    said = f"Of {_many(outcome.n_in, 'source')} listed, {joined_up}."
    if outcome.n_vanished:
        said += f" {outcome.n_vanished:,} {'has' if outcome.n_vanished == 1 else 'have'} vanished."
    return tag(
        "header",
        tag("div", shown(f"zeuxis rebuild · {reader.path.name}"), cls="eyebrow"),
        tag("h1", f"Generation {reader.manifest.generation}"),
        tag("p", f"{at}. {said}" if at else said, cls="lead"),
    )


def _numbers(reader: Reader, before: Reader | None, outcome: RebuildReport) -> Html:
    facts: list[tuple[str, str, object]] = []
    for name, table in _COUNTED.items():
        now = rows_of(reader, table)
        facts.append((name, f"{now:,}", _delta(now - rows_of(before, table) if before else None)))
    now, then = bank_bytes(reader.manifest), bank_bytes(before.manifest) if before else None
    facts += [
        ("rejects", f"{sum(outcome.reasons.values()):,}", ""),
        ("on disk", size(now), _delta(None if then is None else now - then, size)),
        ("frame", "{} × {}".format(*reader.geometry.frame), ""),
        ("time", duration(outcome.seconds), ""),
    ]
    cells = (tag("div", tag("dt", n), tag("dd", v, tag("small", d))) for n, v, d in facts)
    return tag("div", tag("dl", *cells, cls="numbers"), cls="card")


_COUNTED = {
    "photographs": "sources", "segments": "segments", "touching pairs": "orderings", "key patches": "patches",
}  # fmt: skip


def _delta(by: int | None, said: Callable[[int], str] = lambda value: f"{value:,}") -> Html:
    """A difference to the generation before, coloured by its sign."""
    if not by:
        return tag("span", "" if by is None else "no change")
    return tag("span", f"{'+' if by > 0 else '−'}{said(abs(by))}", cls="up" if by > 0 else "down")


def _account(outcome: RebuildReport, difference: Changes) -> Html:
    """A stacked bar of what was listed, and the names behind it."""
    kinds = {
        "new": ("new or changed", outcome.n_new), "reused": ("as they were", outcome.n_reused),
        "rejected": ("rejected", outcome.n_rejected), "forgotten": ("forgotten", outcome.n_forgotten),
    }  # fmt: skip
    parts = [
        tag("span", cls=name, style=f"flex: {n}", title=f"{said}: {n:,}") for name, (said, n) in kinds.items() if n
    ]
    kinds["vanished"] = "vanished", outcome.n_vanished
    legend = [tag("li", tag("i", cls=f"swatch {k}"), tag("b", f"{n:,}"), said) for k, (said, n) in kinds.items()]
    lists = [
        _names("new in the bank", difference.new),
        _names("taken in again with other content", difference.changed),
        _names("no longer in the bank", difference.gone),
    ]
    return tag("div", tag("div", *parts, cls="stack"), tag("ul", *legend, cls="legend"), *lists, cls="card")


def _names(said: str, names: Sequence[str]) -> Html:
    if not names:
        return Html()
    items = [tag("li", shown(name)) for name in names[:SHOWN_NAMES]]
    items += [tag("li", f"… and {len(names) - SHOWN_NAMES:,} more")] * (len(names) > SHOWN_NAMES)
    return tag("details", tag("summary", tag("b", f"{len(names):,}"), said), tag("ul", *items, cls="names"))


def _rejects(reader: Reader, before: Reader | None) -> Html:
    """A card a reason: thumbnails where the files can be shown, names, and what to do."""
    rows = rejects_of(reader)
    if not rows:
        return Html()
    known = {(row["source"], row["reason"]) for row in (rejects_of(before) if before else [])}
    counts = Counter(row["reason"] for row in rows)
    thumbnails = Thumbnails(reader)
    cards = []
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_REASONS]:
        those = [row for row in rows if row["reason"] == reason]
        those.sort(key=lambda row: (row["source"], row["reason"]) in known)  # what is new first
        fresh = sum((row["source"], row["reason"]) not in known for row in those)
        head = [tag("h3", shown(reason)), tag("span", f"{count:,}", cls="badge")]
        head += [tag("span", f"{fresh:,} new", cls="note")] * bool(before and fresh)
        head += [tag("span", f"{SHOWN_REJECTS} are shown", cls="note")] * (count > SHOWN_REJECTS)
        tiles = [_reject(row, thumbnails) for row in those[:SHOWN_REJECTS]]
        inside = tag("div", *head, cls="head"), tag("div", *tiles, cls="tiles")
        wide = min(len(tiles), 5)
        cards.append(tag("article", *inside, cls="card", style=f"flex: {wide} 1 {14 * wide}rem"))
    rest = len(counts) - SHOWN_REASONS
    note = "Inputs that are not in the bank. Each is tried again when its files change, or with --retry."
    more = [tag("p", f"… and {rest} more reasons", cls="note")] * (rest > 0)
    return joined([tag("h2", "Rejected"), tag("p", note, cls="note"), tag("div", *cards, cls="reasons"), *more])


def _reject(row: Mapping[str, Any], thumbnails: Thumbnails) -> Html:
    picture = thumbnails.of(row, THUMBNAIL)
    if picture is None:
        tile = tag("div", tag("span", shown(row["image"] or row["layout"] or "no file")), cls="tile plain")
    else:
        tile = tag("div", tag("img", src=data_uri(picture, THUMBNAIL), alt="", loading="lazy"), cls="tile")
    said = shown(row["message"])
    short = said.replace(f"{shown(thumbnails.root(row))}/", "")
    return tag("figure", tile, caption(tag("b", shown(row["source"])), tag("p", short, title=said)))


def _classes(reader: Reader, before: Reader | None) -> Html:
    """A bar a class, with a mark where it was in the generation before, and the difference."""
    now = class_counts(reader)
    then = class_counts(before) if before else Counter()
    entries = [entry for entry in reader.classes if now[entry.id] or then[entry.id]]
    if not entries:
        return Html()
    entries.sort(key=lambda entry: (-now[entry.id], entry.id))
    most = max(*now.values(), *then.values(), 1)
    lines = []
    for entry in entries[:SHOWN_CLASSES]:
        bars = [tag("i", style=f"width: {now[entry.id] / most:.2%}; background: rgb{entry.colour}")]
        said = [f"{now[entry.id]:,}"]
        if before:
            bars.append(tag("i", cls="then", style=f"width: {then[entry.id] / most:.2%}", title=f"{then[entry.id]:,}"))
            if now[entry.id] != then[entry.id]:
                said = [f"{now[entry.id]:,} ", _delta(now[entry.id] - then[entry.id])]
        lines.append((
            tag("span", swatch(entry.colour), " ", shown(entry.name), cls="name"),
            tag("div", *bars, cls="track"), tag("span", *said, cls="value"),
        ))  # fmt: skip
    half = -(-len(lines) // 2)
    columns = [
        tag("div", *(each for line in part for each in line), cls="bars") for part in (lines[:half], lines[half:])
    ]
    note = "Segments a class." + " The dark line marks the generation before." * bool(before)
    note += f" {len(entries) - SHOWN_CLASSES} rarer classes are not shown." * (len(entries) > SHOWN_CLASSES)
    return joined([
        tag("h2", "Classes"), tag("p", note, cls="note"),
        tag("div", tag("div", *columns, cls="columns"), cls="card"),
    ])  # fmt: skip


def _histograms(reader: Reader, chosen: Sequence[int]) -> Html:
    """Segment sizes over a logarithmic axis, and depths over a linear one."""
    sizes = segment_sizes(reader)
    depths = depths_of(reader, chosen) if chosen else np.zeros(0, np.float32)
    charts = []
    if sizes.size:
        low = max(float(np.floor(np.log10(sizes.min()))), -6.0)
        edges = np.logspace(low, 0, BINS + 1)
        ticks = [f"{100 * 10.0**power:g} %" for power in range(int(low), 1)]
        said = f"Sizes of {_many(sizes.size, 'segment')}, as shares of the frame; half of them are under "
        charts.append(
            _chart(sizes, edges, ticks, said + f"{100 * np.median(sizes):.2g} %.", lambda edge: f"{100 * edge:.2g} %")
        )
    if depths.size:
        far = float(np.ceil(np.percentile(depths, 99.5)))
        edges = np.linspace(0, far, BINS + 1)
        ticks = [f"{value:g} m" for value in np.linspace(0, far, 5)]
        said = f"Depth of pixels of some photographs; half of them are nearer than {np.median(depths):.1f} m."
        charts.append(_chart(depths, edges, ticks, said, lambda edge: f"{edge:.3g} m"))
    if not charts:
        return Html()
    return joined([tag("h2", "Sizes and depths"), tag("div", *charts, cls=f"card{' two' * (len(charts) > 1)}")])


def _chart(
    values: npt.NDArray[Any],
    edges: npt.NDArray[np.float64],
    ticks: Sequence[str],
    said: str,
    name: Callable[[float], str],
) -> Html:
    """A histogram: bars stretched to the width there is, labels beside them in the page's own type."""
    counts, _ = np.histogram(values, edges)
    shares = counts / max(values.size, 1)
    top = max(float(shares.max()), 1e-9)
    bars = [
        tag(
            "rect", tag("title", f"{name(first)} to {name(last)}: {100 * share:.1f} %"), x=f"{n + 0.06:.2f}",
            y=f"{100 - 100 * share / top:.2f}", width="0.88", height=f"{100 * share / top:.2f}",
        )
        for n, (first, last, share) in enumerate(zip(edges[:-1], edges[1:], shares, strict=True)) if share
    ]  # fmt: skip
    lines = [tag("line", x1=0, x2=len(shares), y1=y, y2=y) for y in (0, 50, 100)]
    drawing = tag("svg", *lines, *bars, viewBox=f"0 0 {len(shares)} 100", preserveAspectRatio="none", role="img")
    axis = tag("div", *(tag("span", tick) for tick in ticks), cls="axis")
    return tag("figure", tag("div", f"{100 * top:.1f} %", cls="peak"), drawing, axis, caption(said), cls="chart")


def _segments(reader: Reader, chosen: Sequence[int]) -> Html:
    cells = [
        tag("figure", cell(picture, 150), caption(tag("b", shown(row["class_name"])), " ", shown(row["source"])))
        for row, picture in sample_segments(reader, chosen, SHOWN_SEGMENTS)
    ]
    if not cells:
        return Html()
    return joined(
        [
            tag("h2", "Sample segments"),
            tag("p", "Of all classes in turn, from what is new where there is any.", cls="note"),
            tag("div", tag("div", *cells, cls="sheet"), cls="card"),
        ]
    )


def _evidence(reader: Reader, chosen: Sequence[int]) -> Html:
    drawn = drawn_evidence(reader, chosen)
    if not drawn:
        return Html()
    return joined([tag("h2", "Evidence beside the pixels"), tag("div", *drawn, cls="card two")])


def _stages(outcome: RebuildReport) -> Html:
    told = dict(outcome.stages)
    rest = outcome.seconds - sum(told.values())
    if rest > 0.005 * outcome.seconds:
        told["everything else"] = rest
    most = max(told.values(), default=0.0) or 1.0
    lines: list[Html] = []
    for name, seconds in told.items():
        bar = tag("i", cls="new", style=f"width: {seconds / most:.2%}")
        lines += [
            tag("span", name, cls="name"),
            tag("div", bar, cls="track"),
            tag("span", duration(seconds), cls="value"),
        ]
    return tag("div", tag("div", *lines, cls="bars"), cls="card")


def _datasets(reader: Reader) -> Html:
    items = [
        tag(
            "li", tag("b", shown(entry.name)), tag("span", shown(f"{entry.kind}:{entry.root}")),
            tag("span", shown(entry.licence or "says nothing about its licence")),
        )
        for entry in reader.manifest.datasets
    ]  # fmt: skip
    return tag("div", tag("ul", *items, cls="places"), cls="card")


def _made(reader: Reader) -> str:
    versions = ", ".join(f"{name} {said}" for name, said in sorted(reader.manifest.made.items()) if name != "time")
    content = f"Content {reader.manifest.content}."
    return shown(f"{content} Made with {versions}. Everything shown is inside this file; nothing is fetched.")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
