"""What the reports are put together from: escaped elements, captioned pictures, evidence drawn on photographs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..storage.images import Photograph
from ..storage.reader import Reader
from .report_pictures import Picture, data_uri, inner_point

SHOWN_ARROWS = 18
CROP = 200  # pixels, longer side of a cut-out
GROWN = 96  # pixels, cut-outs below this are enlarged to their cell
YELLOW = "#ffd23f"
BOX_COLOURS = (YELLOW, "#5ce1e6", "#ff7ab6", "#b6ff7a", "#ffffff")
WIDE = 640  # pixels, photographs above this get thicker strokes


class Html(str):
    """Text that is HTML already; any other text is escaped by `tag`."""


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element: children that are not `Html` and all attribute values are escaped; `cls` is the class."""
    said = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    if name in ("img", "meta"):
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Html:
    """Elements and texts one after the other."""
    return Html("".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children))


def caption(*said: object) -> Html:
    """What stands under a picture."""
    return tag("figcaption", *said)


def figure(uri: str, said: str, cls: str = "picture") -> Html:
    """A picture over its caption."""
    cls = cls if cls.startswith("picture") else f"picture {cls}"
    return tag("figure", tag("div", tag("img", src=uri, alt=said), cls=cls), caption(said))


def cell(picture: Picture, longest: int = CROP) -> Html:
    """A cut-out in a cell of its own; small ones are enlarged a little, never to the full cell."""
    grown = {"cls": "grown"} if max(picture.shape[:2]) < GROWN else {}
    return tag("div", tag("img", src=data_uri(picture, longest), alt="", loading="lazy", **grown), cls="cell")


def swatch(colour: Sequence[int]) -> Html:
    """A small square in a class's colour."""
    return tag("span", cls="swatch", style="background: rgb({}, {}, {})".format(*colour))


def draw_orderings(
    reader: Reader, shard: int, source: str, photograph: Photograph, pairs: Sequence[Mapping[str, Any]]
) -> Html:
    """Arrows from the segment in front to the one behind, on their photograph.

    Args:
        shard: number of the shard that holds the source.
        pairs: rows of `orderings` of this source, in each of which `front` is known.
    """
    rows = reader.shards[shard].table("segments").to_pylist()
    segments = {row["segment_id"]: row for row in rows if row["source"] == source}
    largest = sorted(
        pairs, key=lambda row: -min(segments[row["segment_a"]]["pixels"], segments[row["segment_b"]]["pixels"])
    )
    stroke = _stroke(photograph)
    lines = []
    for row in largest[:SHOWN_ARROWS]:
        behind = row["segment_a"] if row["front"] == row["segment_b"] else row["segment_b"]
        start, end = (_middle(reader, shard, segments[id]) for id in (row["front"], behind))
        lines.append(_arrow(start, end, stroke))
    said = (
        f"Orderings, {len(lines)} of {len(pairs)} in {source}: an arrow runs from what is in front to what is behind."
    )
    return _drawn(photograph, joined(lines), said)


def draw_patches(source: str, photograph: Photograph, patches: Sequence[Mapping[str, Any]]) -> Html:
    """The key patches of a photograph, rows of `patches`, as boxes with their objectness."""
    drawn = []
    stroke = _stroke(photograph)
    for row, colour in zip(patches, BOX_COLOURS * len(patches), strict=False):
        place = {"x": row["left"] + 1, "y": row["top"] + 1, "width": row["right"] - row["left"] - 2}
        place["height"] = row["bottom"] - row["top"] - 2
        drawn += [
            tag("rect", **place, fill="none", stroke="#000", stroke_opacity=0.5, stroke_width=4 * stroke),
            tag("rect", **place, fill="none", stroke=colour, stroke_width=2 * stroke),
            tag(
                "text", f"{row['score']:.3f}", x=row["left"] + 6 * stroke, y=row["top"] + 17 * stroke, fill=colour,
                font_size=14 * stroke, font_weight=650, stroke="#000", stroke_width=3 * stroke, stroke_opacity=0.6,
                paint_order="stroke",
            ),
        ]  # fmt: skip
    return _drawn(photograph, joined(drawn), f"Key patches with their objectness, in {source}.")


def _stroke(photograph: Photograph) -> float:
    """How many of its pixels one of the drawing's is."""
    return max(round(float(photograph.shape[1]) / WIDE, 2), 1)


def _middle(reader: Reader, shard: int, row: Mapping[str, Any]) -> tuple[float, float]:
    """A point `(y, x)` of the photograph well inside a segment."""
    y, x = inner_point(reader.segment_mask(shard, row["segment_id"]))
    return row["crop_top"] + y, row["crop_left"] + x


def _arrow(start: tuple[float, float], end: tuple[float, float], stroke: float) -> Html:
    tail, tip = np.array(start[::-1]), np.array(end[::-1])
    along = (tip - tail) / max(float(np.hypot(*(tip - tail))), 1e-6)
    head = min(9.0 * stroke, 0.45 * float(np.hypot(*(tip - tail))))
    base, across = tip - along * head, along[::-1] * (-0.42, 0.42) * head
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, base + across, base - across))
    line = dict(zip(("x1", "y1", "x2", "y2"), (f"{value:.1f}" for value in (*tail, *base)), strict=True))
    halo = {"stroke": "#000", "stroke_opacity": 0.55}
    dot = {"cx": f"{tail[0]:.1f}", "cy": f"{tail[1]:.1f}", "r": 4 * stroke}
    return joined([
        tag("line", **line, **halo, stroke_width=4 * stroke),
        tag("polygon", **halo, points=points, stroke_width=2.4 * stroke),
        tag("circle", **halo, **dot, fill=YELLOW, stroke_width=1.2 * stroke),
        tag("line", **line, stroke=YELLOW, stroke_width=1.8 * stroke), tag("polygon", points=points, fill=YELLOW),
    ])  # fmt: skip


def _drawn(photograph: Photograph, drawing: Html, said: str) -> Html:
    height, width = photograph.shape[:2]
    picture = tag("img", src=data_uri(photograph), alt="")
    over = tag("svg", drawing, viewBox=f"0 0 {width} {height}")
    return tag("figure", tag("div", picture, over, cls="picture"), caption(said))
