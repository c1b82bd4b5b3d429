"""What an evaluation of pictures that keep a region's meaning shows: its tables, and one page with pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...storage.images import Photograph
from ...synth.metrics import Interval
from ..liking.references import outlined
from ..liking.sheets import mean_of
from ..report_parts import Html, figure, joined, tag
from ..report_pictures import data_uri
from ..report_style import PAGE, STYLE
from .region_cases import KINDS
from .region_results import ALL, FIGURES, GROUPS, Kept, RegionEvaluation
from .region_systems import ALIKE, FAST, PLAIN, STILL

if TYPE_CHECKING:
    from rich.table import Table

SHOWN, EACH = 6, 5
"""Regions on the page, and pictures of each by every system."""
MEANINGS = {
    "semantics": "distance to the reference inside the region, in features that no search compared; less is nearer",
    "agreement": "share of the region that the judge reads as it reads the reference",
    "diversity": "mean distance between two pictures of a region, over the whole picture",
    "elsewhere": "the same outside the region alone",
    "pixels": "iGAN's loss: mean squared difference of the region's pixels, in [-1, 1]",
    "features": "equation 1 at the automatic depth: distance to the reference in the features that searches compare",
    "KID": "kernel distance to training photographs, times 1,000; pictures of one group of photographs do not meet",
    "over random": "the same less that of random pictures of the generator",
    "s": "seconds for 36 pictures of one region",
}
FORMS = {
    "semantics": ".3f",
    "agreement": ".1%",
    "diversity": ".3f",
    "elsewhere": ".3f",
    "pixels": ".3f",
    "features": ".4f",
}
HEADS = ("regions", "system", *MEANINGS)
GAP_HEADS = ("regions", "system", *FIGURES)


def rows(found: RegionEvaluation, groups: Sequence[str] = GROUPS) -> list[list[str]]:
    """Under `HEADS`: every system on every group of regions; KID and seconds are of all of them."""
    lines = []
    for group in groups:
        for each in found.systems:
            cells = [_said(each.figure(name, found.cases, group), FORMS[name]) for name in FIGURES]
            own = [_said(each.kid, ".1f"), _said(each.over, "+.1f"), f"{each.seconds:.1f}"]
            last = own if group == ALL else [""] * len(own)
            lines.append([group, each.name, *cells, *last])
    return lines


def gaps(found: RegionEvaluation, groups: Sequence[str] = GROUPS) -> list[list[str]]:
    """Under `GAP_HEADS`: every other system's figures less those of the first, region by region."""
    first = found.systems[0]
    return [
        [group, each.name, *(_said(each.gap(name, first, found.cases, group), _signed(name)) for name in FIGURES)]
        for group in groups
        for each in found.systems[1:]
    ]


def kids(found: RegionEvaluation) -> list[str]:
    """A sentence on what generators make by themselves."""
    said = [
        f"{name}: KID {_said(kid, '.1f')}, FID {'of too few pictures' if fid is None else format(fid, '.1f')}"
        for name, (kid, fid) in found.generators.items()
    ]
    return [f"Random pictures, {'; '.join(said)}. The held-out photographs themselves: KID {_said(found.real, '.1f')}."]


def parts(found: RegionEvaluation) -> list[str]:
    """What noise gives, and the part of the loss beside equation 1, and at what price; of what was measured."""
    by, said = {each.name: each for each in found.systems}, []
    for name, other, what in (
        (FAST, STILL, "Noise changes"),
        (FAST, PLAIN, "That being near to all pictures gains nothing changes"),
        (
            ALIKE,
            STILL,
            "Noise from one start, where without it all pictures are the same, instead of many starts changes",
        ),
    ):
        if name in by and other in by:
            diversity, semantics = (
                by[name].gap(figure, by[other], found.cases) for figure in ("diversity", "semantics")
            )
            said.append(
                f"{what} diversity by {_said(diversity, '+.4f')}, "
                f"and the distance to the region's meaning by {_said(semantics, '+.4f')}."
            )
    return said


def said_of(found: RegionEvaluation) -> str:
    """One sentence on what was measured."""
    about = found.about
    rows, cols = about["size"]
    return (
        f"A region each of {about['photographs']} photographs of the split {about['split']} of "
        f"{about['bank']}, generation {about['generation']}, at {rows}x{cols}, {about['pictures']} pictures each by "
        f"{about['generator']['name']}, searched with {about['features']}; measured with {about['measured with']}. "
        + (
            "Intervals are over photographs."
            if about["drawn"] == about["photographs"]
            else f"Intervals are over the {about['drawn']} groups that these are of."
        )
    )


def notes(found: RegionEvaluation) -> list[str]:
    """What stands under the tables."""
    return [said_of(found), *kids(found), *parts(found), *found.left_out]


def table_of(found: RegionEvaluation) -> str:
    """The figures as Markdown tables, with what they depend on."""
    lines = [_markdown(HEADS, rows(found)), *notes(found)]
    if len(found.systems) > 1:
        lines.append(f"\nLess {found.systems[0].name}, region by region:\n\n" + _markdown(GAP_HEADS, gaps(found)))
    return "\n".join(lines) + "\n"


def rendered(found: RegionEvaluation) -> Table:
    """The table of all regions for a terminal."""
    from rich.table import Table

    table = Table(*HEADS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows(found, (ALL, *KINDS)):
        table.add_row(*row)
    table.caption = said_of(found)
    return table


def build_report(found: RegionEvaluation) -> str:
    """The page as text: every picture inside, nothing fetched, no scripts."""
    chosen = np.linspace(0, len(found.cases) - 1, min(SHOWN, len(found.cases))).round().astype(int).tolist()
    first = found.systems[0].name
    less = [_card(f"Less {first}, region by region", GAP_HEADS, gaps(found))] if len(found.systems) > 1 else []
    body = joined([
        tag("p", "zeuxis: pictures that keep a region's meaning, evaluated", cls="eyebrow"),
        tag("h1", f"{len(found.cases)} regions of photographs, {len(found.systems)} ways to keep their meaning"),
        tag("p", said_of(found), cls="lead"),
        _card("What was measured", HEADS, rows(found)),
        *less,
        tag("p", *(f"{head}: {said}. " for head, said in MEANINGS.items()), cls="note"),
        *(tag("p", said, cls="note") for said in notes(found)[1:]),
        tag("h2", "Region by region"),
        *(_region(found, number) for number in chosen),
        tag("footer", "Made by zeuxis. Everything shown is inside this file; nothing is fetched."),
    ])  # fmt: skip
    title = html.escape(f"{found.about['bank']}: pictures that keep a region's meaning, evaluated")
    return PAGE.substitute(title=title, style=STYLE, body=body)


def _card(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Html:
    head = tag("tr", *(tag("th", each) for each in heads))
    return tag(
        "div", tag("h3", title), tag("table", head, *(tag("tr", *map(_td, line)) for line in lines)), cls="card",
        style="overflow-x: auto",
    )  # fmt: skip


def _td(said: str) -> Html:
    return tag("td", said, style="font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1rem")


def _region(found: RegionEvaluation, number: int) -> Html:
    """A row a system: the mean of its pictures, as in figure 10, and some of them."""
    case = found.cases[number]
    shown = outlined(case.reference.image, case.reference.region, _times(case.reference.image))
    rows = [tag("div", figure(data_uri(shown, exact=True), "reference"), style=_columns())]
    rows += [_row(each, number) for each in found.systems]
    head = tag("div", tag("h3", f"{case.reference.name}: {case.size}, {case.kind}"), cls="head")
    return tag("div", head, *rows, cls="card")


def _row(system: Kept, number: int) -> Html:
    pictures = system.pictures[number]
    cells = [figure(data_uri(_large(mean_of(pictures)), exact=True), f"{system.name}: mean")]
    cells += [figure(data_uri(_large(each), exact=True), str(place)) for place, each in enumerate(pictures[:EACH])]
    return tag("div", *cells, style=_columns())


def _columns() -> str:
    return f"display: grid; grid-template-columns: repeat({EACH + 1}, minmax(6rem, 1fr)); gap: 0.6rem"


def _times(picture: Photograph) -> int:
    return max(1, 128 // int(picture.shape[1]))


def _large(picture: Photograph) -> Photograph:
    """Without smoothing, so that browsers do not blur what is compared."""
    return picture.repeat(_times(picture), axis=0).repeat(_times(picture), axis=1)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in (heads, *rows)]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:], ""])


def _signed(name: str) -> str:
    return f"+{FORMS[name]}"


def _said(interval: Interval | None, form: str) -> str:
    if interval is None:
        return ""
    return f"{interval.value:{form}} ({interval.low:{form}} to {interval.high:{form}})"
