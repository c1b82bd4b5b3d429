"""Builds `report.html`: one self-contained page that shows layouts, what was retrieved, collages, and the bank."""

from __future__ import annotations

import html
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..index.figure import at_its_place, cut_out
from ..index.result import Component, Hit, Retrieval
from ..storage.classes import VOID, SemanticClass
from ..storage.images import Photograph
from ..storage.outputs import write_outputs
from ..storage.reader import Reader
from .collage import Collage
from .painted import Painted
from .report_parts import CROP, Html, caption, cell, draw_orderings, draw_patches, figure, joined, swatch, tag
from .report_pictures import by_source, data_uri, source_colours, with_gaps
from .report_style import PAGE, STYLE

SHOWN_COMPONENTS = 6
SHOWN_SEGMENTS = 8  # a class


@dataclass(frozen=True, eq=False)
class Example:
    """One layout of the report.

    Attributes:
        name, group: of the source the layout belongs to.
        retrieval: the k best hits a component.
        collage: painted from the best.
        photograph: `(H, W, 3)` uint8, the ground truth.
        painted: what the networks made of the layout; None without networks.
    """

    name: str
    group: str
    retrieval: Retrieval
    collage: Collage
    photograph: Photograph
    painted: Painted | None = None


def write_report(reader: Reader, examples: Sequence[Example], path: str | Path, title: str = "zeuxis demo") -> Path:
    """Writes the page under a temporary name and puts it in place.

    Args:
        reader: of the bank that was searched.
        examples: the layouts, in the order shown.
        path: of the page; title: of its tab.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(path)
    write_outputs({path: build_report(reader, examples, title).encode()})
    return path


def build_report(reader: Reader, examples: Sequence[Example], title: str = "zeuxis demo") -> str:
    """The page as text: every picture inside, nothing fetched, no scripts."""
    body = joined([
        _headline(reader, examples),
        tag("h2", "Contact sheet"),
        tag("p", "Hatched: no segment covers these pixels. Scores are mask IoU + context IoU, 2 at most.", cls="note"),
        *(_contact_row(example) for example in examples),
        *_synthesised(examples),
        tag("h2", "Layout by layout"),
        tag("p", "Which photograph painted what, and the best hits of the largest regions.", cls="note"),
        *(_details(example) for example in examples),
        tag("h2", "The bank"),
        _numbers(reader),
        _classes(reader),
        tag("h2", "Evidence beside the pixels"),
        tag("div", _orderings(reader), _patches(reader), cls="card two"),
        tag("footer", "Made by zeuxis. Everything shown is inside this file; nothing is fetched."),
    ])  # fmt: skip
    return PAGE.substitute(title=html.escape(title), style=STYLE, body=body)


def _headline(reader: Reader, examples: Sequence[Example]) -> Html:
    sources = reader.table("sources", columns=["source"]).num_rows
    made = "photograph" if any(example.painted for example in examples) else "collage"
    return tag(
        "header",
        tag("div", "zeuxis", cls="eyebrow"),
        tag("h1", f"Layout in, {made} out"),
        tag(
            "p",
            f"For every region of {len(examples)} layouts that the bank has never seen, the segment of {sources:,} "
            "photographs that fits it best in shape and surroundings is found exactly, scaled into place, and painted "
            "in order of depth. The last column is the photograph each layout really belongs to, which was never used.",
            cls="lead",
        ),
    )


def _contact_row(example: Example) -> Html:
    result, canvas = example.retrieval, example.collage.canvas
    best = [component.hits[0] for component in _largest(result) if component.hits]
    tops = [tag("figure", _cut(hit), caption(tag("b", f"{hit.score:.3f}"), " ", hit.class_name)) for hit in best]
    return tag(
        "article",
        tag("div", tag("h3", example.name), tag("span", _facts(example), cls="note"), cls="head"),
        tag(
            "div",
            figure(data_uri(result.painted(), exact=True), "Layout"),
            tag("figure", tag("div", *tops, cls="tops"), caption("Best hits of the largest regions")),
            figure(data_uri(with_gaps(canvas)), "Collage", "picture missing"),
            figure(data_uri(example.photograph), "Ground truth"),
            cls="row",
        ),
        cls="card",
    )


def _synthesised(examples: Sequence[Example]) -> list[Html]:
    """What the networks made of each layout, step by step; nothing without networks."""
    shown = [(example, example.painted) for example in examples if example.painted is not None]
    if not shown:
        return []
    network = shown[0][1].report.networks["synthesis"]
    rows, cols = network["size"]
    said = (
        f"Segments are aligned, ordered and composited at the size of the synthesis network, {rows} × {cols}; "
        "boundaries are elided, and what is missing has the colours of its class; "
        f"the network, trained for {network['step']:,} steps, makes one picture of all."
    )
    return [tag("h2", "Synthesised"), tag("p", said, cls="note"), *(_painted_row(*each) for each in shown)]


def _painted_row(example: Example, painted: Painted) -> Html:
    placed = ", ".join(f"{count} by {name}" for name, count in sorted(painted.report.transforms.items()))
    facts = f"{len(painted.canvas.placements)} segments placed ({placed}) · {painted.report.share:.1%} from the bank"
    pictures = (
        (with_gaps(painted.canvas), "Canvas", "picture missing"),
        (painted.elided, "As the network sees it", "picture"),
        (painted.image, "Synthesised", "picture"),
        (example.photograph, "Ground truth", "picture"),
    )
    row = tag("div", *(figure(data_uri(picture), said, cls) for picture, said, cls in pictures), cls="row")
    return tag(
        "article", tag("div", tag("h3", example.name), tag("span", facts, cls="note"), cls="head"), row, cls="card"
    )


def _facts(example: Example) -> str:
    result, canvas = example.retrieval, example.collage.canvas
    shown = np.array([VOID, *(placed.piece.class_id for placed in canvas.placements)], np.uint16)[canvas.provenance]
    asked = result.layout != VOID
    right = float((shown[asked] == result.layout[asked]).mean())
    sources = {placed.piece.origin.source for placed in canvas.placements}
    return (
        f"{example.group} · {len(result)} regions, {len(result.skipped)} too small to search · "
        f"{canvas.valid.mean():.1%} painted, {right:.1%} of the right class · {len(sources)} photographs"
    )


def _details(example: Example) -> Html:
    canvas = example.collage.canvas
    pixels: Counter[str] = Counter()
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for placed, visible in zip(canvas.placements, canvas.visible.tolist(), strict=True):
        pixels[placed.piece.origin.source] += visible
        classes[placed.piece.origin.source][placed.piece.class_name] += 1
    ranked = [source for source, _ in pixels.most_common()]
    colours = dict(zip(ranked, source_colours(len(ranked)), strict=True))
    picture = by_source(canvas, [colours[placed.piece.origin.source] for placed in canvas.placements])
    items = [
        tag(
            "li", swatch(colours[source]), tag("b", f"{pixels[source] / canvas.valid.size:.1%}"), tag("span", source),
            tag("span", ", ".join(name + f" ×{n}" * (n > 1) for name, n in classes[source].most_common())),
        )
        for source in ranked
    ]  # fmt: skip
    left = figure(
        data_uri(picture), "Provenance: one colour a photograph, dark lines between segments", "picture missing"
    )
    return tag(
        "article",
        tag(
            "div",
            tag("h3", example.name),
            tag("span", f"painted from {len(ranked)} photographs", cls="note"),
            cls="head",
        ),
        tag("div", tag("div", left, tag("ol", *items, cls="sources")), _hits(example.retrieval), cls="split"),
        cls="card",
    )


def _hits(result: Retrieval) -> Html:
    """A grid: a line a component, where it is, then its hits with their scores."""
    largest = _largest(result)
    columns = 1 + max((len(component.hits) for component in largest), default=0)
    cells = []
    for component in largest:
        place = tag("img", src=data_uri(at_its_place(result, component), CROP, exact=True), alt="", loading="lazy")
        share = f"{component.area / (result.frame[0] * result.frame[1]):.1%} of the frame"
        cells.append(
            tag(
                "figure",
                tag("div", place, cls="cell whole"),
                caption(tag("b", component.class_name), " " + share),
                cls="first",
            )
        )
        cells += [tag("figure", _cut(hit), _scores(hit)) for hit in component.hits]
        cells += [tag("figure", caption("" if component.hits else "no candidate"))] * (
            columns - 1 - len(component.hits)
        )
    return tag("div", *cells, cls="hits", style=f"grid-template-columns: repeat({columns}, minmax(0, 1fr))")


def _scores(hit: Hit) -> Html:
    parts = f" = {hit.mask_iou:.2f} + {hit.context_iou:.2f}"
    return caption(tag("b", f"{hit.score:.3f}"), parts, Html("<br>"), hit.source)


def _numbers(reader: Reader) -> Html:
    rows = {
        name: reader.table(name, columns=["source"]).num_rows for name in ("sources", "segments", "patches", "rejects")
    }
    front = reader.table("orderings", columns=["front"])["front"]
    size = sum(path.stat().st_size for path in reader.path.rglob("*") if path.is_file())
    facts = [
        ("photographs", f"{rows['sources']:,}"),
        ("segments", f"{rows['segments']:,}"),
        ("known orderings", f"{len(front) - front.null_count:,}"),
        ("key patches", f"{rows['patches']:,}"),
        ("rejects", f"{rows['rejects']:,}"),
        ("frame", "{} × {}".format(*reader.geometry.frame)),
        ("on disk", f"{size / 1e6:,.1f} MB"),
        ("generation", f"{reader.manifest.generation}"),
    ]
    return tag("div", tag("dl", *(tag("div", tag("dt", n), tag("dd", v)) for n, v in facts), cls="numbers"), cls="card")


def _classes(reader: Reader) -> Html:
    """A line a class: how many segments, and some of them."""
    table = reader.table("segments", columns=["segment_id", "source", "class_id", "pixels"]).to_pandas()
    counts = table["class_id"].value_counts()
    lines = []
    for entry in sorted(reader.classes, key=lambda entry: (-counts.get(entry.id, 0), entry.id)):
        if count := int(counts.get(entry.id, 0)):
            lines.append(
                _class_line(reader, entry, count, count / int(counts.max()), table[table["class_id"] == entry.id])
            )
    return tag("div", *lines, cls="card")


def _class_line(reader: Reader, entry: SemanticClass, count: int, share: float, rows: Any) -> Html:
    """Segments from the larger half, each of another photograph, from the largest down in even steps."""
    larger = rows.sort_values(["pixels", "segment_id"], ascending=False)
    larger = larger.iloc[: max(len(larger) // 2, SHOWN_SEGMENTS)].drop_duplicates("source")
    steps = np.unique(np.linspace(0, len(larger) - 1, min(SHOWN_SEGMENTS, len(larger))).astype(int))
    crops = []
    for id in larger["segment_id"].iloc[steps].tolist():
        shard, _ = reader.find_segment(int(id))
        crops.append(cell(cut_out(reader.segment_pixels(shard, int(id)), reader.segment_mask(shard, int(id)))))
    colour = "rgb({}, {}, {})".format(*entry.colour)
    kind = " · thing" * entry.thing + " · thin" * entry.thin
    bar = tag("div", cls="bar", style=f"width: {share:.1%}; background: {colour}")
    return tag(
        "div",
        tag("div", swatch(entry.colour), " ", tag("b", entry.name)),
        tag("div", bar, tag("div", f"{count:,} segments{kind}", cls="count")),
        tag("div", *crops, cls="strip"),
        cls="class",
    )


def _orderings(reader: Reader) -> Html:
    """Arrows from the segment in front to the one behind, on the photograph with the most known orderings."""
    import pyarrow.compute as pc

    table = reader.table("orderings", ~pc.field("front").is_null())
    if not table.num_rows or reader.manifest.settings.get("keep_sources") is False:
        return tag("figure", caption("The bank knows no orderings to draw on a photograph."))
    source = str(table["source"].value_counts().to_pandas().map(lambda row: (row["counts"], row["values"])).max()[1])
    pairs = [row for row in table.to_pylist() if row["source"] == source]
    shard, _ = reader.find_segment(pairs[0]["front"])
    return draw_orderings(reader, shard, source, reader.photograph(source), pairs)


def _patches(reader: Reader) -> Html:
    """The key patches of the photograph whose best one scores highest, as boxes."""
    rows = reader.table("patches").to_pylist()
    if not rows or reader.manifest.settings.get("keep_sources") is False:
        return tag("figure", caption("The bank has no key patches to draw on a photograph."))
    source = max(rows, key=lambda row: (row["score"], row["source"]))["source"]
    return draw_patches(source, reader.photograph(source), [row for row in rows if row["source"] == source])


def _largest(result: Retrieval) -> list[Component]:
    return sorted(result, key=lambda component: -component.area)[:SHOWN_COMPONENTS]


def _cut(hit: Hit) -> Html:
    return cell(cut_out(hit.pixels(), hit.mask()))
