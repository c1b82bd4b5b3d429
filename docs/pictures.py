"""Draws the pictures of the documentation from procedural scenes: `python docs/pictures.py`, with zeuxis installed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

import zeuxis
from zeuxis.index.figure import FAINT, INK, at_its_place, cut_out, to_png
from zeuxis.pipelines.demo_models import MODELS
from zeuxis.pipelines.report_pictures import by_source, source_colours
from zeuxis.storage.classes import Layout
from zeuxis.storage.layouts import Box, areas_and_boxes, context_box, find_components

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = Path(__file__).parent / "images"
SCALE = Path(__file__).parent / "scale.md"
SEED, SCENES = 7, 60
OVERVIEW, SCORE, COLLAGE, COHERENCE = "scenes/0055", "scenes/0047", "scenes/0046", "scenes/0036"
SYNTHESIS, INPAINTING = "scenes/0055", "scenes/0046"
"""The scenes whose layouts are asked for; nothing of their groups may answer."""
PIXELS_PER_INCH = 100
STRIP_TOP = 0.5  # inches
TITLE, TEXT, SMALL = 14, 12, 10.5  # points

Picture = npt.NDArray[np.uint8]

COMMON, QUERY, SEGMENT, UNLIKE, NEITHER = "#2a9d6f", "#3f7fc4", "#f0a030", "#c2478f", "#eeeef1"
"""Colours of an overlap: in both, only in the query, only in the segment, in both with unlike classes, in none."""


class Sheet:
    """A white page measured in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, facecolor="white")
        self.page = self.axes(0, 0, width, height)
        self.page.set(xlim=(0, width), ylim=(height, 0))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Empty axes without ticks and frame."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place, label=str(len(self.figure.axes)), facecolor="none")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def picture(self, picture: Picture, left: float, top: float, width: float, height: float) -> Axes:
        """A picture as large as fits, in the middle."""
        axes = self.axes(left, top, width, height)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_anchor("C")
        return axes

    def text(self, left: float, top: float, text: str, size: float = TEXT, colour: str = INK, **style: Any) -> None:
        """Text from its upper left corner, unless the style says otherwise."""
        self.page.text(left, top, text, size=size, color=colour, **({"va": "top"} | style))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str = FAINT) -> None:
        """An arrow from one point to another."""
        size = {"mutation_scale": 13, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
        self.page.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", color=colour, **size))  # type: ignore[arg-type]

    def save(self, name: str) -> None:
        """Writes the page in at most 256 colours, which halves what a photograph takes."""
        page = Image.open(io.BytesIO(to_png(self.figure))).convert("RGB")
        page.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1).save(IMAGES / name, optimize=True)


def main() -> None:
    """Makes scenes and a bank in a temporary folder, and all pictures from them."""
    IMAGES.mkdir(exist_ok=True)
    draw_bank()
    draw_scale()
    with tempfile.TemporaryDirectory() as folder:
        scenes = zeuxis.scenes(Path(folder) / "scenes", count=SCENES, seed=SEED)
        zeuxis.rebuild(f"scenes:{scenes}", Path(folder) / "bank", patches=False, workers=2)
        bank = zeuxis.open(Path(folder) / "bank")
        draw_overview(bank)
        draw_score(bank)
        draw_collage(bank)
        draw_coherence(bank)
        draw_inpainting(bank)
        draw_synthesis(zeuxis.open(bank.path, models=MODELS))


def draw_overview(bank: zeuxis.Bank) -> None:
    """Layout, best segments of three of its components, collage, photograph."""
    layout, group = query(bank, OVERVIEW)
    result, made = bank.retrieve(layout, 3, exclude=group), bank.collage(layout, exclude=group)
    panels = {
        "a layout": result.painted(),
        "its best segments": None,
        "the collage": made.canvas.image,
        "the layout's photograph": bank.photograph(OVERVIEW),
    }
    note = "painted from photographs of other streets; the layout's own was left out"
    whole = 3.17
    sheet, lefts = strip(panels, whole, note)
    width, height = whole / 3, whole / 4
    for row, component in enumerate(largest_of(result, ("building", "car", "tree"))):
        for column, hit in enumerate(component.hits):
            left, top = lefts[1] + column * width + 0.05, STRIP_TOP + row * height + 0.05
            sheet.picture(cut_out(hit.pixels(), hit.mask()), left, top, width - 0.1, height - 0.1)
    for left in lefts[1:3]:
        sheet.arrow((left - 0.34, STRIP_TOP + 1.5 * height), (left - 0.03, STRIP_TOP + 1.5 * height))
    sheet.save("overview.png")


def draw_collage(bank: zeuxis.Bank) -> None:
    """Layout, collage, which segment painted what, photograph."""
    layout, group = query(bank, COLLAGE)
    made = bank.collage(layout, exclude=group)
    panels = {
        "layout": made.retrieval.painted(),
        "collage": made.canvas.image,
        "which segment painted what": by_source(made.canvas, source_colours(len(made.canvas.placements))),
        "photograph": bank.photograph(COLLAGE),
    }
    note = "black, and white in the third picture: void in the layout, or no segment reaches there"
    strip(panels, 3.35, note)[0].save("collage.png")


def draw_coherence(bank: zeuxis.Bank) -> None:
    """Layout, the best of each component alone, a joint choice, photograph."""
    layout, group = query(bank, COHERENCE)
    alone, jointly = (bank.collage(layout, exclude=group, coherent=coherent) for coherent in (False, True))
    panels = {
        "layout": alone.retrieval.painted(),
        "each component's best": alone.canvas.image,
        "chosen jointly": jointly.canvas.image,
        "photograph": bank.photograph(COHERENCE),
    }
    note = "both painted from photographs of other streets, in many kinds of light"
    strip(panels, 3.35, note)[0].save("coherence.png")


def draw_synthesis(bank: zeuxis.Bank) -> None:
    """Layout, canvas, what the network sees of it, what it makes of that, photograph."""
    layout, group = query(bank, SYNTHESIS)
    (made,) = bank.paint(layout, exclude=group)
    panels = {
        "layout": made.retrieval.painted(),
        "canvas": made.canvas.image,
        "as the network sees it": made.elided,
        "synthesised": made.image,
        "photograph": bank.photograph(SYNTHESIS),
    }
    note = "by the networks of the demo: 96x128 pixels, an eighth of the paper's width, 5,600 samples"
    strip(panels, 2.68, note)[0].save("synthesis.png")


def draw_inpainting(bank: zeuxis.Bank) -> None:
    """The largest car of a scene outlined, and erased in four ways."""
    photograph = bank.photograph(INPAINTING)
    cars = bank.segments({"source": INPAINTING, "class_name": "car"}, ["segment_id", "pixels"]).to_pylist()
    name = f"segment:{max(cars, key=lambda row: row['pixels'])['segment_id']:016x}"
    made = {
        method: bank.inpaint(INPAINTING, name, method=method, erase=True)[0]
        for method in ("telea", "navier-stokes", "patchmatch", "bank")
    }
    inside = made["telea"].region.astype(np.uint8)
    outlined = photograph.copy()
    outlined[cv2.dilate(inside, np.ones((5, 5), np.uint8)) > inside] = (255, 255, 0)
    panels = {"a car, outlined": outlined, **{method: each.image for method, each in made.items()}}
    strip(panels, 2.68, "zeuxis inpaint --erase: outside the outline nothing changes")[0].save("inpainting.png")


def strip(panels: Mapping[str, Picture | None], width: float, note: str) -> tuple[Sheet, list[float]]:
    """Titled pictures, 3:4, side by side and a note under them; the sheet, and where each panel begins."""
    sheet = Sheet(14, STRIP_TOP + 0.75 * width + 0.3)
    lefts = [0.1 + number * (13.8 - width) / (len(panels) - 1) for number in range(len(panels))]
    for left, (title, picture) in zip(lefts, panels.items(), strict=True):
        sheet.text(left + width / 2, 0.12, title, TITLE, ha="center", weight="bold")
        if picture is not None:
            sheet.picture(picture, left, STRIP_TOP, width, 0.75 * width)
    sheet.text(13.9, sheet.height - 0.06, note, SMALL, FAINT, ha="right", va="bottom")
    return sheet, lefts


def draw_score(bank: zeuxis.Bank) -> None:
    """One component, its best segments, and both terms of the score as overlaps."""
    layout, group = query(bank, SCORE)
    result = bank.retrieve(layout, 3, exclude=group)
    (component,) = largest_of(result, ("car",))
    sheet, width, height = Sheet(14, 8.75), 3.1, 2.325
    lefts, tops = [0.15 + i * (width + 0.43) for i in range(4)], (0.55, 3.3, 6.05)
    sheet.text(lefts[0], 0.13, f"a component: {component.class_name}", TITLE, weight="bold")
    whole = sheet.picture(at_its_place(result, component), lefts[0], tops[0], width, height)
    outline(whole, component.box, bank.frame, INK)
    explain(sheet, lefts[0], tops[1], "Mask IoU", "both footprints at their place\nin the frame, enlarged", MASKS)
    explain(sheet, lefts[0], tops[2], "Context IoU", "the classes inside the dashed\nbox of each, enlarged", CONTEXTS)
    for left, hit in zip(lefts[1:], component.hits, strict=True):
        stored = bank.layout(hit.source)
        rank = component.hits.index(hit) + 1
        sheet.text(left, 0.13, f"hit {rank}: score {hit.score:.3f}", TITLE, weight="bold")
        photograph = sheet.picture(bank.photograph(hit.source), left, tops[0], width, height)
        outline(photograph, hit.box, bank.frame, "white")
        masks = [
            footprint(each, box, hit.class_id) for each, box in ((result.layout, component.box), (stored, hit.box))
        ]
        contexts = [context(result.layout, component.box), context(stored, hit.box)]
        for top, term, value, (ours, theirs) in (
            (tops[1], "mask", hit.mask_iou, masks),
            (tops[2], "context", hit.context_iou, contexts),
        ):
            picture, iou = overlap(ours, theirs)
            if iou != value:
                raise AssertionError(f"the picture shows {iou}, the score says {value}")
            axes = sheet.picture(picture, left, top, width, height)
            zoom(axes, [component.box, *(each.box for each in component.hits)], bank.frame)
            sheet.text(left + width / 2, top + height + 0.06, f"{term} IoU {value:.3f}", TEXT, ha="center")
    sheet.save("score.png")


def draw_bank() -> None:
    """Generations, the shards and index parts they name, and what those hold."""
    sheet = Sheet(14, 8.1)
    for left, title in ((0.2, "generations"), (4.05, "shards"), (7.9, "what a shard holds")):
        sheet.text(left, 0.15, title, TITLE, weight="bold")
    tops, ids = (0.75, 2.0, 3.25, 4.5), ("2af6ed0607443d21", "91c04be7d2a8f350", "c7715e3b90d4a682", "e80b26f9ad137c54")
    names = {1: (0, 1), 2: (0, 1, 2), 3: (0, 2, 3)}
    for number, shards in names.items():
        top, current = 0.95 + (number - 1) * 1.5, number == max(names)
        box(sheet, 0.2, top, 2.75, 0.85, "#dbe8f6" if current else "#f2f2f4", QUERY if current else "#c4c4ca")
        sheet.text(0.4, top + 0.14, f"MANIFEST-{number:06d}.json", TEXT, family="monospace")
        sheet.text(0.4, top + 0.5, "the current one" if current else "readers may still be on it", SMALL, FAINT)
        for shard in shards:
            end = 4.0, tops[shard] + 0.3 + 0.1 * number
            sheet.arrow((2.98, top + 0.42), end, colour=QUERY if current else "#b4b4ba")
    for top, id in zip(tops, ids, strict=True):
        box(sheet, 4.05, top, 2.75, 0.95, "#fdf1dd", SEGMENT)
        sheet.text(4.25, top + 0.16, id, TEXT, family="monospace")
        sheet.text(4.25, top + 0.54, "immutable; up to 128 sources", SMALL, FAINT)
    sheet.text(4.05, 5.8, "index parts", TITLE, weight="bold")
    box(sheet, 3.85, 6.1, 7.65, 1.9, "white", QUERY)
    for left, covered in ((4.05, "over the first and third"), (7.9, "over the newest")):
        box(sheet, left, 6.25, 3.4, 1.6, "#dff1e8", COMMON)
        sheet.text(left + 0.2, 6.37, "leaves.safetensors", TEXT, family="monospace")
        sheet.text(left + 0.2, 6.67, "candidates.faiss", TEXT, family="monospace")
        sheet.text(left + 0.2, 6.97, "candidates.safetensors", TEXT, family="monospace")
        sheet.text(left + 0.2, 7.4, f"immutable; {covered}", SMALL, FAINT)
    sheet.arrow((1.9, 4.83), (3.8, 7.05), colour=QUERY)
    box(sheet, 7.9, 0.55, 5.9, 5.15, "#fdf1dd", SEGMENT)
    sheet.page.add_patch(
        Polygon([(6.83, 0.8), (7.86, 0.65), (7.86, 5.6), (6.83, 1.65)], facecolor="#fdf1dd", alpha=0.6)
    )
    for row, (name, what) in enumerate(CONTENTS.items()):
        top = 0.66 + row * 0.71
        box(sheet, 8.1, top, 5.5, 0.64, "white", "#e4cfa6")
        sheet.text(8.25, top + 0.08, name, TEXT, family="monospace")
        sheet.text(8.25, top + 0.36, what, SMALL, FAINT)
    sheet.save("bank.png")


def draw_scale() -> None:
    """Time against the size of the bank, from the table in scale.md."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in SCALE.read_text().splitlines()]
    rows = {line[0]: line[1:] for line in lines if len(line) > 2 and line[0] != "what" and "--" not in line[0]}
    found = {name: [float(value.replace(",", "")) for value in values] for name, values in rows.items()}
    figure = Figure(figsize=(8, 4.4), dpi=PIXELS_PER_INCH, facecolor="white", layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="segments in the bank", ylabel="one component, ms")
    series = {"brute force, median us": SEGMENT, "p99 us": UNLIKE, "median us": QUERY}
    names = {"brute force, median us": "brute force", "p99 us": "exact, p99", "median us": "exact, median"}
    for name, colour in series.items():
        milliseconds = [value / 1e3 for value in found[name]]
        axes.plot(found["segments"], milliseconds, "o-", color=colour, linewidth=2)
        axes.annotate(
            f"{names[name]}: {milliseconds[-1]:.2g} ms", (found["segments"][-1], milliseconds[-1]), (8, 0),
            textcoords="offset points", va="center", color=colour, fontsize=SMALL,
        )  # fmt: skip
    axes.set_xlim(found["segments"][0] * 0.7, found["segments"][-1] * 9)
    axes.grid(color="#e6e6ea")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    (IMAGES / "scale.png").write_bytes(to_png(figure))


MASKS = {COMMON: "in both", QUERY: "only the component", SEGMENT: "only the segment"}
CONTEXTS = {
    COMMON: "in both, of one class",
    UNLIKE: "in both, of two classes",
    QUERY: "labelled in the layout only",
    SEGMENT: "labelled in the photograph only",
}
CONTENTS = {
    "blobs/": "the sources as they came; each segment's crop with its mask",
    "sources.parquet, segments.parquet": "what they are: class, box, area, split, group, file",
    "orderings.parquet, patches.parquet": "which of two is in front; the key patches",
    "rejects.parquet": "what could not be used, and why",
    "footprints.safetensors": "what search scans, mapped into memory",
    "appearance.safetensors": "colours and texture of segments, colours along their borders",
    "shard.json": "sizes and hashes of all the others; written last",
}


def query(bank: zeuxis.Bank, source: str) -> tuple[Layout, str]:
    """A source's layout, and the name of its group."""
    return bank.layout(source), bank.sources({"source": source}, ["group"])["group"][0].as_py()


def largest_of(result: zeuxis.Retrieval, classes: Sequence[str]) -> list[zeuxis.Component]:
    """The largest component of each class."""
    by_area = sorted(result, key=lambda component: -component.area)
    return [next(component for component in by_area if component.class_name == name) for name in classes]


def footprint(layout: Layout, place: Box, class_id: int) -> Layout:
    """A layout in which only one component, that of a class with that box, is not void. The layout is in the frame."""
    components = find_components(layout)
    _, boxes = areas_and_boxes(components.labels, len(components))
    (number,) = np.flatnonzero((boxes == place).all(axis=1) & (components.class_ids == class_id))
    return np.where(components.labels == number + 1, layout, np.uint16(zeuxis.VOID))


def context(layout: Layout, place: Box) -> Layout:
    """A layout, void outside a context box. The layout is in the frame."""
    top, left, bottom, right = context_box(place, (layout.shape[0], layout.shape[1]))
    inside = np.full_like(layout, zeuxis.VOID)
    inside[top:bottom, left:right] = layout[top:bottom, left:right]
    return inside


def overlap(ours: Layout, theirs: Layout) -> tuple[Picture, float]:
    """A picture of how two layouts agree, and its IoU: pixels of one class in both over (pixel, class) of either."""
    a, b = ours != zeuxis.VOID, theirs != zeuxis.VOID
    same = a & b & (ours == theirs)
    picture = np.full((*ours.shape, 3), rgb(NEITHER), np.uint8)
    for pixels, colour in ((a & ~b, QUERY), (b & ~a, SEGMENT), (a & b & ~same, UNLIKE), (same, COMMON)):
        picture[pixels] = rgb(colour)
    common = np.count_nonzero(same)
    return picture, common / (np.count_nonzero(a) + np.count_nonzero(b) - common)


def outline(axes: Axes, place: Box, frame: tuple[int, int], colour: str) -> None:
    """Draws a box and, dashed, its context box."""
    for (top, left, bottom, right), style in ((place, "-"), (context_box(place, frame), (0, (4, 2.5)))):
        corner = left - 0.5, top - 0.5
        axes.add_patch(
            Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.6, linestyle=style)
        )


def zoom(axes: Axes, places: Sequence[Box], frame: tuple[int, int]) -> None:
    """Shows as much of a frame as the context boxes of some boxes need, in the frame's proportions."""
    around = np.array([context_box(place, frame) for place in places])
    (top, left), (bottom, right) = around[:, :2].min(axis=0) - 8, around[:, 2:].max(axis=0) + 8
    share = min(max((bottom - top) / frame[0], (right - left) / frame[1]), 1.0)
    half = share * frame[0] / 2, share * frame[1] / 2
    y = min(max((top + bottom) / 2, half[0]), frame[0] - half[0])
    x = min(max((left + right) / 2, half[1]), frame[1] - half[1])
    axes.set(xlim=(x - half[1] - 0.5, x + half[1] - 0.5), ylim=(y + half[0] - 0.5, y - half[0] - 0.5))


def explain(sheet: Sheet, left: float, top: float, title: str, text: str, colours: Mapping[str, str]) -> None:
    """A title, a sentence, and what the colours of the pictures beside them mean."""
    sheet.text(left, top, title, TITLE, weight="bold")
    sheet.text(left, top + 0.32, text, TEXT, linespacing=1.3)
    for row, (colour, meaning) in enumerate(colours.items()):
        y = top + 0.98 + row * 0.3
        sheet.page.add_patch(Rectangle((left, y), 0.2, 0.2, facecolor=colour))
        sheet.text(left + 0.32, y + 0.1, meaning, TEXT, va="center_baseline")


def box(sheet: Sheet, left: float, top: float, width: float, height: float, fill: str, edge: str) -> None:
    """A rectangle with round corners."""
    style = "round,pad=0,rounding_size=0.08"
    sheet.page.add_patch(
        FancyBboxPatch((left, top), width, height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.3)
    )


def rgb(colour: str) -> tuple[int, ...]:
    """`#rrggbb` as numbers."""
    return tuple(bytes.fromhex(colour[1:]))


if __name__ == "__main__":
    main()
