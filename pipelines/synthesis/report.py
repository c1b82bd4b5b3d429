"""What a run has made, on one page, and a sheet of examples: layouts beside what was painted for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...storage.classes import ClassTable
from ...storage.images import Photograph, decode_photograph
from ..report_parts import Html, figure, joined, swatch, tag
from ..report_pictures import data_uri
from ..report_style import PAGE, REBUILD_STYLE, STYLE
from ..units import duration
from .finish import records, replace_file
from .plan import Plan
from .samples import IMAGE, LABEL, bank_form, png
from .units import Units

if TYPE_CHECKING:
    from .synthesize import SynthesisReport

SHEET, PAGE_FILE = "contact.png", "report.html"
EXAMPLES = 24
COLUMNS = 6
CELL = 192  # pixels, longer side of an example on the sheet
GAP = 4  # pixels


class Example(NamedTuple):
    """An image with its label in the classes' colours, and what it is called."""

    said: str
    image: Photograph
    label: npt.NDArray[np.uint8]


def write_report(units: Units, classes: ClassTable, report: SynthesisReport) -> None:
    """Writes `contact.png`, which depends on the images alone, and `report.html`."""
    examples = list(_examples(units, classes))
    replace_file(units.out / SHEET, [sheet(examples)])
    style = STYLE + REBUILD_STYLE
    body = joined([_head(units, report), _rates(report), _shown(examples), _classes(units, classes), _rejects(report)])
    page = PAGE.substitute(title=f"zeuxis: {report.images:,} images", style=style, body=body)
    replace_file(units.out / PAGE_FILE, [page])


def sheet(examples: list[Example]) -> bytes:
    """A PNG of examples, each label over its image."""
    cells = [np.vstack([_fitted(each.label, Image.Resampling.NEAREST), _fitted(each.image)]) for each in examples]
    if not cells:
        return png(np.full((CELL, CELL, 3), 255, np.uint8), 6)
    height, width = cells[0].shape[0] + GAP, cells[0].shape[1] + GAP
    rows, columns = -(-len(cells) // COLUMNS), min(len(cells), COLUMNS)
    page = np.full((rows * height - GAP, columns * width - GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // COLUMNS * height, number % COLUMNS * width
        page[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return png(page, 6)


def _examples(units: Units, classes: ClassTable) -> Iterator[Example]:
    """Images spread evenly over those that there are."""
    total = sum(len(record["images"]) for record in records(units))
    wanted = {round((place + 0.5) * total / EXAMPLES - 0.5) for place in range(EXAMPLES)} if total else set()
    form, number = bank_form(classes), 0
    for record in records(units):
        unit = Plan.unit_name(record["unit"])
        for row in record["images"]:
            if number in wanted:
                parts = units.writer.read(units.out, unit, row["name"], (IMAGE, LABEL))
                label = classes.painted(form.read(parts[LABEL], row["name"]))
                said = f"{row['name']}: {row['layout']}, variant {row['variant']}"
                yield Example(said, decode_photograph(parts[IMAGE], row["name"]), label)
            number += 1


def _fitted(picture: npt.NDArray[np.uint8], how: Image.Resampling = Image.Resampling.LANCZOS) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(picture)
    scale = CELL / max(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), how))


def _head(units: Units, report: SynthesisReport) -> Html:
    settings = units.plan.settings
    real = len(units.plan.real)
    numbers = {
        "images": f"{report.images:,}", "of them photographs": f"{real:,}", "rejected": f"{report.rejected:,}",
        "left out by the judge": "-" if settings["agreement"] is None else f"{report.left_out:,}",
        "layouts": f"{len(set(units.plan.picks)):,}", "variants": f"{settings['variants']:,}",
        "seed": str(settings["seed"]), "made now": f"{report.made:,}",
        "images a second": f"{report.made / report.seconds:.1f}" if report.made else "-",
    }  # fmt: skip
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in numbers.items()]
    how = "recomposed layouts" if settings["recompose"] else "layouts"
    lead = (
        f"{report.images:,} labelled images of {units.plan.size[0]}x{units.plan.size[1]} pixels, painted for {how} "
        "from photographs that may be trained on."
    )
    return joined([tag("h1", "Synthesised images"), tag("p", lead, cls="lead"), tag("dl", *listed, cls="numbers")])


def _rates(report: SynthesisReport) -> Html:
    if not report.rates:
        return tag("p", "Nothing had to be made.", cls="note")
    rows = []
    for rate in report.rates:
        share = rate.share(report.seconds)
        track = tag("div", tag("i", style=f"width: {share:.1%}", cls="new"), cls="track")
        per = f"{rate.cpu / max(rate.images, 1) * 1e3:.1f} core ms an image"
        rows += [tag("span", rate.stage, cls="name"), track, tag("span", f"{share:.0%} busy, {per}", cls="value")]
    said = f"Made in {duration(report.seconds)}; the bottleneck: {report.bottleneck}."
    return joined([tag("h2", "Stages"), tag("p", said, cls="note"), tag("div", *rows, cls="bars card")])


def _shown(examples: list[Example]) -> Html:
    cells = [
        tag("div", figure(data_uri(each.label, exact=True), "layout"), figure(data_uri(each.image), each.said))
        for each in examples[:12]
    ]
    return joined([tag("h2", "Examples"), tag("div", *cells, cls="row card")]) if cells else Html("")


def _classes(units: Units, classes: ClassTable) -> Html:
    total: Counter[str] = Counter()
    for record in records(units):
        total.update(record["pixels"])
    whole = max(sum(total.values()), 1)
    rows = []
    for name, count in total.most_common():
        entry = classes.named(name)
        colour = entry.colour if entry else (0, 0, 0)
        track = tag("div", tag("i", style="width: {:.2%}; background: rgb({}, {}, {})".format(count / whole, *colour)),
                    cls="track")  # fmt: skip
        rows += [
            tag("span", swatch(colour), " ", name, cls="name"),
            track,
            tag("span", f"{count / whole:.2%}", cls="value"),
        ]
    return joined([tag("h2", "Classes"), tag("div", *rows, cls="bars card")])


def _rejects(report: SynthesisReport) -> Html:
    said = [tag("li", each) for each in (*report.warnings, *report.rejects)]
    return joined([tag("h2", "To know"), tag("ul", *said, cls="note")]) if said else Html("")
