"""What an evaluation shows: its table for terminals and documents, the spectra, and one page with all pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.metrics import Interval
from ..report_parts import Html, caption, figure, joined, tag
from ..report_pictures import data_uri
from ..report_style import PAGE, STYLE
from .results import Evaluation, Figures, Gap, Judged

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 12
"""Layouts on the page."""

SPECTRA = ("real", "collage, inpainted", "collage, coherent", "no canvas", "image-space loss", "SIMS")
"""Systems whose spectra are shown as pictures."""

Value = float | Interval | None
Column = tuple[str, str, Callable[[Figures], Value], str]
"""Head, meaning, figure, format."""

COLUMNS: tuple[Column, ...] = (
    ("accuracy", "share of the labelled pixels that the judge reads as the layout says", lambda f: f.accuracy, ".3f"),
    ("mIoU", "mean intersection over union of its reading, over classes", lambda f: f.mean_iou, ".3f"),
    ("KID", "kernel distance to real pictures, times 1,000, with 95 % interval", lambda f: f.kid, ".1f"),
    ("FID", "Fréchet distance; only where there are ten pictures a feature", lambda f: f.fid, ".1f"),
    (
        "spectrum",
        "distance of the log of the mean power spectrum to real, in decades",
        lambda f: f.spectrum,
        ".3f",
    ),
    ("SSIM", "likeness to the very photograph, on labelled pixels", lambda f: f.ssim, ".3f"),
    ("bank", "share of the pixels that stem from the bank", lambda f: f.bank_share, ".2f"),
    ("score", "mean score of the chosen segments", lambda f: f.score, ".3f"),
    ("diversity", "distance between variants of a layout, in features", lambda f: f.diversity, ".3f"),
    ("s/image", "seconds an image that is painted by itself, median", lambda f: f.seconds, ".2f"),
)
INCEPTION: tuple[Column, ...] = (
    ("KID (Inception)", "KID in features of the Inception network named above", lambda f: f.kid_inception, ".1f"),
    ("FID (Inception)", "FID in these, likewise for ten pictures a feature", lambda f: f.fid_inception, ".1f"),
)
"""After FID, where there are the weights of that network."""

GAPS: tuple[tuple[str, str, Callable[[Gap], Interval], str], ...] = (
    ("KID over SIMS", "KID less that of SIMS on the same layouts, with 95 % interval", lambda gap: gap.kid, "+.1f"),
    ("mIoU over SIMS", "mean IoU less that of SIMS, likewise", lambda gap: gap.mean_iou, "+.3f"),
)


def columns_of(found: Evaluation) -> list[Column]:
    """Those of its tables before the gaps."""
    after = 1 + [head for head, *_ in COLUMNS].index("FID")
    return [*COLUMNS[:after], *INCEPTION, *COLUMNS[after:]] if found.by_inception else [*COLUMNS]


def heads_of(found: Evaluation) -> list[str]:
    """Of its tables after that of the system."""
    return [head for head, *_ in (*columns_of(found), *GAPS)]


def cells_of(judged: Judged, columns: Sequence[Column]) -> list[str]:
    """A system's figures as they stand in every table; of several seeds, mean and range."""
    cells = [_cell(head, [value_of(each) for each in judged.figures], form) for head, _, value_of, form in columns]
    for _, _, interval_of, form in GAPS:
        gap = None if judged.gap is None else interval_of(judged.gap)
        cells.append("" if gap is None else f"{gap.value:{form}} ({gap.low:{form}} to {gap.high:{form}})")
    return cells


def _cell(head: str, values: Sequence[Value], form: str) -> str:
    """Mean of the seeds, and their range; of intervals that from the lowest to the highest end. Empty without any."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    middles, lows, highs = zip(*(v if isinstance(v, Interval) else (v, v, v) for v in there), strict=True)
    said = format(float(np.mean(middles)), form)
    ranges = isinstance(there[0], Interval) or (len(there) > 1 and head != "s/image")
    return f"{said} ({min(lows):{form}} to {max(highs):{form}})" if ranges else said


def table_of(found: Evaluation) -> str:
    """The figures as a Markdown table, with what they depend on."""
    heads, columns = ["system", *heads_of(found)], columns_of(found)
    rows = [[judged.name, *cells_of(judged, columns)] for judged in found.systems]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in (heads, *rows)]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:], "", said_of(found), *found.left_out]) + "\n"


def said_of(found: Evaluation) -> str:
    """One sentence on what was measured, and with which networks."""
    about = found.about
    rows, cols = about["size"]
    losses = ", ".join(sorted({each["features"] for each in about["networks"].values() if each["features"]}))
    return (
        f"{about['layouts']} layouts of the split {about['split']} of {about['bank']}, "
        f"generation {about['generation']}, at {rows}x{cols}; judge {about['judge']}; "
        + (f"Inception from {about['inception']}; " if found.by_inception else "")
        + f"losses on {losses or 'no features'}."
    )


def rendered(found: Evaluation) -> Table:
    """The table for a terminal."""
    from rich.table import Table

    table = Table("system", *heads_of(found), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for judged in found.systems:
        table.add_row(judged.name, *cells_of(judged, columns_of(found)))
    table.caption = said_of(found)
    return table


def spectra_figure(found: Evaluation) -> bytes:
    """A PNG: log mean power by frequency of every system, and the spectra as pictures (SIMS, figure 5)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        grid = figure.add_gridspec(2, 6)
        curve = figure.add_subplot(grid[:, :3])
        for judged in found.systems:
            style = {"color": "black", "linewidth": 2.5} if judged.name == "real" else {"linewidth": 1.2}
            curve.plot(*radial(judged.spectrum), label=judged.name, **style)
        curve.set_xlabel("cycles a pixel")
        curve.set_ylabel("log10 of the mean power")
        curve.legend(fontsize=7)
        shown = [each for each in found.systems if each.name in SPECTRA]
        low, high = np.percentile(found.systems[0].spectrum, [1, 99.9])
        for i, judged in enumerate(shown):
            axes = figure.add_subplot(grid[i // 3, 3 + i % 3])
            axes.imshow(judged.spectrum, vmin=low, vmax=high, cmap="magma")
            axes.set_title(judged.name, fontsize=8)
            axes.set_axis_off()
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def radial(spectrum: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[list[float], list[float]]:
    """Frequencies up to a half, and the mean of a centred `(H, W)` spectrum over directions at each."""
    rows, cols = spectrum.shape
    y, x = np.meshgrid(np.arange(rows) - rows // 2, np.arange(cols) - cols // 2, indexing="ij")
    radius = np.hypot(y / rows, x / cols)
    bins = np.clip((radius * min(rows, cols)).astype(int), 0, min(rows, cols) // 2)
    total = np.bincount(bins.ravel(), spectrum.ravel())
    mean = total / np.bincount(bins.ravel())
    return (np.arange(1, len(mean)) / min(rows, cols)).tolist(), mean[1:].tolist()


def build_report(found: Evaluation, reader: Reader, spectra: bytes) -> str:
    """The page as text: every picture inside, nothing fetched, no scripts; `spectra` is that of `spectra_figure`."""
    chosen = np.linspace(0, len(found.names) - 1, min(SHOWN, len(found.names))).round().astype(int).tolist()
    body = joined([
        tag("p", "zeuxis: synthesis, evaluated", cls="eyebrow"),
        tag("h1", f"{len(found.names)} held-out layouts, {len(found.systems) - 1} systems"),
        tag("p", said_of(found), cls="lead"),
        tag("div", _table(found), cls="card", style="overflow-x: auto"),
        tag("p", *(f"{head}: {said}. " for head, said, *_ in (*columns_of(found), *GAPS)), cls="note"),
        *(tag("p", said, cls="note") for said in found.left_out),
        tag("h2", "Spectra"),
        tag("div", tag("img", src=_png_uri(spectra), alt="log mean power spectra"), cls="card"),
        tag("h2", "Layout by layout"),
        *(_layout(found, reader, i) for i in chosen),
        tag("h2", "Networks"),
        _networks(found),
        tag("footer", "Made by zeuxis. Everything shown is inside this file; nothing is fetched."),
    ])  # fmt: skip
    title = html.escape(f"{found.about['bank']}: synthesis, evaluated")
    return PAGE.substitute(title=title, style=STYLE, body=body)


def _table(found: Evaluation) -> Html:
    head = tag("tr", tag("th", "system"), *(tag("th", each) for each in heads_of(found)))
    return tag("table", head, *(_row(judged, columns_of(found)) for judged in found.systems))


def _row(judged: Judged, columns: Sequence[Column]) -> Html:
    name = tag("td", tag("b", judged.name), tag("br"), tag("span", judged.said, cls="note"))
    return tag("tr", name, *map(_td, cells_of(judged, columns)))


def _td(said: str) -> Html:
    return tag("td", said, style="font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1rem")


def _layout(found: Evaluation, reader: Reader, number: int) -> Html:
    layout = reader.classes.painted(found.layouts[number])
    cells = [figure(data_uri(layout, exact=True), "layout")]
    cells += [figure(data_uri(_shown(judged.pictures[number])), judged.name) for judged in found.systems]
    head = tag("div", tag("h3", found.names[number]), cls="head")
    columns = "display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem"
    return tag("div", head, tag("div", *cells, style=columns), cls="card")


def _shown(picture: Photograph) -> Photograph:
    """Small pictures enlarged without smoothing, so that browsers do not blur what is compared."""
    times = max(1, 384 // picture.shape[1])
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _networks(found: Evaluation) -> Html:
    rows = []
    for name, card in found.about["networks"].items():
        said = (name, card["network"], f"{card['step']:,} steps", "x".join(map(str, card["size"])), card["features"])
        rows.append(tag("tr", *map(_td, said)))
    return tag("div", tag("table", *rows), caption("file, kind, training, size, features of the loss"), cls="card")


def _png_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
