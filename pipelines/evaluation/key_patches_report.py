"""What an evaluation of assembled pictures shows: tables for terminals and documents, and one page with pictures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ...synth.metrics import Interval
from ..report_parts import Html, caption, joined, tag
from ..report_pictures import data_uri
from ..report_style import PAGE, STYLE
from .inpaint_report import markdown
from .key_patches_results import Column, Experiment, KeyPatchEvaluation, Row

if TYPE_CHECKING:
    from rich.table import Table


def heads(found: Experiment) -> list[str]:
    """Of a table."""
    return [found.name, *(column.head for column in found.columns)]


def rows(found: Experiment) -> list[list[str]]:
    """Under `heads`."""
    return [[row.name, *(_cell(row, column) for column in found.columns)] for row in found.rows]


def said_of(found: KeyPatchEvaluation) -> str:
    """One sentence on what was measured."""
    about = found.about
    what = f"objects of class {about['objects']}" if about["objects"] else "whole photographs"
    return (
        f"{about['pictures']} {what} of the split {about['split']} of {about['bank']}, generation "
        f"{about['generation']}, at {about['size'][0]}x{about['size'][1]}, {about['parts']} patches each; "
        f"measured with {about['measured with']}; 95 % intervals over "
        "photographs, each drawn with all its pictures and patches."
    )


def table_of(found: KeyPatchEvaluation) -> str:
    """The figures as Markdown tables, with what they depend on."""
    parts = [said_of(found), ""]
    for each in found.experiments:
        meanings = [f"- **{column.head}**: {column.said}." for column in each.columns]
        parts += [f"{each.said}\n", markdown(heads(each), rows(each)), *meanings, "", *each.notes, ""]
    return "\n".join([*parts, *found.left_out]).rstrip() + "\n"


def rendered(found: Experiment) -> Table:
    """A table for a terminal."""
    from rich.table import Table

    table = Table(*heads(found), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows(found):
        table.add_row(*row)
    table.caption = " ".join([found.said, *found.notes])
    return table


def build_report(found: KeyPatchEvaluation) -> str:
    """The page as text: every picture inside, nothing fetched, no scripts."""
    body = joined([
        tag("p", "zeuxis: pictures from key patches, evaluated", cls="eyebrow"),
        tag("h1", f"{len(found.experiments)} experiments" if len(found.experiments) > 1 else found.experiments[0].said),
        tag("p", said_of(found), cls="lead"),
        *(part for each in found.experiments for part in _experiment(each)),
        *(tag("p", said, cls="note") for said in found.left_out),
        tag("footer", "Made by zeuxis. Everything shown is inside this file; nothing is fetched."),
    ])  # fmt: skip
    title = html.escape(f"{found.about['bank']}: pictures from key patches, evaluated")
    return PAGE.substitute(title=title, style=STYLE, body=body)


def _experiment(found: Experiment) -> list[Html]:
    head = tag("tr", tag("th", found.name), *(tag("th", column.head) for column in found.columns))
    lines = [
        tag(
            "tr",
            tag("td", tag("b", row.name), tag("br"), tag("span", row.said, cls="note")),
            *(_td(_cell(row, column)) for column in found.columns),
        )
        for row in found.rows
    ]
    picture = tag("img", src=data_uri(found.picture, max(found.picture.shape)), alt=found.caption)
    meanings = tag("p", *(f"{column.head}: {column.said}. " for column in found.columns), cls="note")
    return [
        tag("h2", found.said),
        tag("div", tag("table", head, *lines), cls="card", style="overflow-x: auto"),
        meanings,
        *(tag("p", said, cls="note") for said in found.notes),
        tag("div", picture, caption(found.caption), cls="card"),
    ]


def _cell(row: Row, column: Column) -> str:
    found = row.figures.get(column.head)
    if found is None:
        return ""
    form = column.form
    if isinstance(found, Interval):
        return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"
    return f"{found:{form}}"


def _td(said: str) -> Html:
    return tag("td", said, style="font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1rem")
