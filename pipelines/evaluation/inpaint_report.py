"""What an evaluation of filled regions shows: its table for terminals and documents, and one page with pictures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from ...storage.images import Photograph
from ...synth.metrics import Interval
from ...synth.roi_gan.regions import Kind
from ..inpainting.sliders import HEADS, rows_of
from ..report_parts import Html, caption, figure, joined, tag
from ..report_pictures import data_uri
from ..report_style import PAGE, STYLE
from .inpaint_results import Anatomy, FilledSystem, InpaintEvaluation

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 6
"""Photographs on the page, each with every kind of region in turn."""
COLUMNS = (
    ("KID", "kernel distance of what surrounds the regions, with them, to that of other photographs, times 1,000"),
    ("distance", "to the very photograph inside the region, in features; lower is nearer, not better for its own sake"),
    ("seam", "jump of brightness along the border, levels of 0..255; good is what photographs have"),
    ("diversity", "distance inside the region between variants of one photograph"),
    ("/s", "pictures a second, one after the other"),
)
"""Head and meaning; all but the last with 95 % intervals over photographs."""
GAP_HEADS = ("region", "system", "KID", "distance")
FORMS = (".1f", ".3f", ".1f", ".3f")


def cells_of(system: FilledSystem, kind: Kind) -> list[str]:
    """A system's figures on one kind of region as they stand in every table."""
    found = system.figures[kind]
    intervals = (found.kid, found.distance, found.seam, found.diversity)
    cells = ["" if each is None else _said(each, form) for each, form in zip(intervals, FORMS, strict=True)]
    return [*cells, "" if found.rate is None else f"{found.rate:.1f}"]


def rows(found: InpaintEvaluation) -> list[list[str]]:
    """Under `heads`: every system on every kind of region."""
    return [[kind, each.name, *cells_of(each, kind)] for kind in found.regions for each in found.systems]


def gap_rows(found: InpaintEvaluation) -> list[list[str]]:
    """Under `GAP_HEADS`: how much worse each system is than the first, on every kind of region."""
    systems = [each for each in found.systems if each.gaps]
    return [
        [kind, each.name, _said(each.gaps[kind].kid, ".1f"), _said(each.gaps[kind].distance, ".3f")]
        for kind in found.regions
        for each in systems
    ]


def gaps_said(found: InpaintEvaluation) -> str:
    """What the gaps are."""
    return (
        f"How much larger than those of {found.systems[1].name} KID and distance are on the same photographs, whatever "
        "is hard about them; it is better where the interval is above 0:"
    )


def heads() -> list[str]:
    """Of the table."""
    return ["region", "system", *(head for head, _ in COLUMNS)]


def networks(found: InpaintEvaluation) -> list[str]:
    """A sentence for each network: how many of its numbers are dead, how well its sliders can be read."""
    said = []
    for each in found.systems:
        if (anatomy := each.anatomy) is None:
            continue
        words = (
            f"{each.name}: {anatomy.parameters:,} parameters, {anatomy.dead:,} of them without a part in the picture"
        )
        if anatomy.correlations:
            mean = float(np.mean(anatomy.correlations))
            listed = ", ".join(f"{value:.2f}" for value in anatomy.correlations)
            words += f"; sliders read by its head with a mean correlation of {mean:.2f} ({listed}), all kinds pooled"
            if anatomy.steps and len(set(anatomy.steps)) > 1:
                network, head = anatomy.steps
                words += f", a network of step {network:,} by a head of step {head:,}, which was made for a later one"
        elif anatomy.effects:
            words += "; its head was not kept, so no correlation of the sliders"
        if anatomy.steered:
            listed = ", ".join(f"{kind} {value:.3f}" for kind, value in anatomy.steered.items())
            words += f"; distances with sliders that are drawn: {listed}"
        if anatomy.noise:
            listed = ", ".join(f"{kind} {value:.3f}" for kind, value in anatomy.noise.items())
            words += f"; diversity by noise alone, with all sliders at 0: {listed}"
        said.append(words + ".")
    return said


def said_of(found: InpaintEvaluation) -> str:
    """One sentence on what was measured."""
    about = found.about
    rows, cols = about["size"]
    return (
        f"{about['photographs']} photographs of the split {about['split']} of {about['bank']}, generation "
        f"{about['generation']}, at {rows}x{cols}; measured with {about['measured with']}."
    )


def table_of(found: InpaintEvaluation) -> str:
    """The figures as Markdown tables, with what they depend on."""
    parts = [markdown(heads(), rows(found)), said_of(found), *networks(found), *found.left_out]
    if gaps := gap_rows(found):
        parts.append(f"\n{gaps_said(found)}\n\n" + markdown(GAP_HEADS, gaps))
    for each in found.systems:
        if each.anatomy is not None and each.anatomy.effects:
            said = f"Sliders of {each.name}, from -1 to 1 inside the region, {_shown(found, each.anatomy)}:"
            parts.append(f"\n{said}\n\n" + markdown(HEADS, rows_of(each.anatomy.effects, found.classes)))
    return "\n".join(parts) + "\n"


def rendered(found: InpaintEvaluation) -> Table:
    """The table for a terminal."""
    from rich.table import Table

    table = Table(*heads(), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows(found):
        table.add_row(*row)
    table.caption = said_of(found)
    return table


def build_report(found: InpaintEvaluation) -> str:
    """The page as text: every picture inside, nothing fetched, no scripts."""
    chosen = np.linspace(0, len(found.names) - 1, min(SHOWN, len(found.names))).round().astype(int).tolist()
    kinds = list(found.regions)
    body = joined([
        tag("p", "zeuxis: filled regions, evaluated", cls="eyebrow"),
        tag("h1", f"{len(found.names)} held-out photographs, {len(found.systems) - 1} ways to fill a region"),
        tag("p", said_of(found), cls="lead"),
        *(tag("div", tag("h3", kind), _table(found, kind), cls="card", style="overflow-x: auto") for kind in kinds),
        tag("p", *(f"{head}: {said}. " for head, said in COLUMNS), cls="note"),
        *(tag("p", said, cls="note") for said in (*networks(found), *found.left_out)),
        *_gaps(found),
        tag("h2", "Picture by picture"),
        *(_photograph(found, kinds[i % len(kinds)], number) for i, number in enumerate(chosen)),
        *_sliders(found),
        tag("footer", "Made by zeuxis. Everything shown is inside this file; nothing is fetched."),
    ])  # fmt: skip
    title = html.escape(f"{found.about['bank']}: filled regions, evaluated")
    return PAGE.substitute(title=title, style=STYLE, body=body)


def _table(found: InpaintEvaluation, kind: Kind) -> Html:
    head = tag("tr", tag("th", "system"), *(tag("th", each) for each, _ in COLUMNS))
    return tag("table", head, *(_row(each, kind) for each in found.systems))


def _gaps(found: InpaintEvaluation) -> list[Html]:
    """A table of the gaps, where there are several systems."""
    if not (lines := gap_rows(found)):
        return []
    head = tag("tr", *(tag("th", word) for word in GAP_HEADS))
    table = tag("table", head, *(tag("tr", *map(_td, line)) for line in lines))
    return [tag("div", tag("p", gaps_said(found)), table, cls="card", style="overflow-x: auto")]


def _row(system: FilledSystem, kind: Kind) -> Html:
    name = tag("td", tag("b", system.name), tag("br"), tag("span", system.said, cls="note"))
    return tag("tr", name, *map(_td, cells_of(system, kind)))


def _td(said: str) -> Html:
    return tag("td", said, style="font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1rem")


def _photograph(found: InpaintEvaluation, kind: Kind, number: int) -> Html:
    first = number * (len(found.regions[kind]) // len(found.names))
    region = found.regions[kind][first]
    cells = []
    for each in found.systems:
        picture = each.pictures[kind][first]
        cells.append(figure(data_uri(_enlarged(picture), exact=True), each.name))
        if each is found.systems[0]:
            holed = np.where(region[..., None], np.uint8(255), picture)
            cells.append(figure(data_uri(_enlarged(holed), exact=True), "its region"))
    columns = "display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem"
    head = tag("div", tag("h3", f"{found.names[number]}: {kind}"), cls="head")
    return tag("div", head, tag("div", *cells, style=columns), cls="card")


def _sliders(found: InpaintEvaluation) -> list[Html]:
    """Of every network that has some, a table; of the first, the sheet."""
    parts: list[Html] = []
    for each in found.systems:
        if each.anatomy is not None and each.anatomy.effects:
            head = tag("tr", *(tag("th", word) for word in HEADS))
            lines = [tag("tr", *map(_td, row)) for row in rows_of(each.anatomy.effects, found.classes)]
            told = _shown(found, each.anatomy)
            said = f"from -1 to 1, inside the region, {told}: levels of 0..255, levels a pixel, shares of its pixels"
            table = tag("table", head, *lines)
            parts.append(tag("div", tag("h3", each.name), table, caption(said), cls="card", style="overflow-x: auto"))
    if found.sheet is not None:
        picture = tag("img", src=data_uri(found.sheet, max(found.sheet.shape), exact=True), alt="sliders")
        said = "each slider from -1 to 1, the others at 0; first the photograph, its region outlined"
        parts.append(tag("div", picture, caption(said), cls="card"))
    return [tag("h2", "Sliders"), *parts] if parts else []


def _shown(found: InpaintEvaluation, anatomy: Anatomy) -> str:
    """What the effects of sliders are means of."""
    return f"mean over {anatomy.shown} photographs, evenly spaced, with {' and '.join(found.regions)} regions"


def _enlarged(picture: Photograph) -> Photograph:
    """Without smoothing, so that browsers do not blur what is compared."""
    times = max(1, 256 // picture.shape[1])
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def markdown(heads: list[str] | tuple[str, ...], rows: list[list[str]]) -> str:
    """A Markdown table whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in (heads, *rows)]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:], ""])


def _said(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}} ({interval.low:{form}} to {interval.high:{form}})"
