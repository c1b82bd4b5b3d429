"""Draws a retrieval: the layout, and for its largest components the hits as photographs with their scores."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..storage.classes import VOID
from ..storage.codec import Mask
from ..storage.images import Photograph
from ..storage.outputs import check_output, write_outputs
from .result import Component, Hit, Retrieval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
MOST_HITS = 10
"""Hits drawn a component, at most: more do not fit a page."""

# inches
CELL, GAP, MARGIN = 1.5, 0.14, 0.3
PICTURE, CAPTION = 1.15, 0.52
HEADER_WIDTH, TITLE = 4.4, 0.5
LEGEND_LINE, LEGEND_COLUMN = 0.21, 1.45
COMMON_WIDTH = 10.0  # rows of few hits stand side by side up to here
LEAST_WIDTH = 2 * MARGIN + HEADER_WIDTH + LEGEND_COLUMN + 0.3

DOTS_PER_INCH = 120
THUMBNAIL = 320  # pixels of the longer side of what is drawn small
INK, FAINT, NEUTRAL = "#1c1c1e", "#6b6b70", "#e9e9ec"

Picture = npt.NDArray[np.uint8]


def draw(result: Retrieval, most: int = 12) -> Figure:
    """The layout in class colours, a legend, and a row for each of the largest components: where it is, its hits.

    Args:
        result: of a retrieval.
        most: components drawn, at most; the others have their outline in the layout only.

    Returns:
        A figure of its own, of no window and no global state; numbers are those of `result[number]`.
    """
    from matplotlib.figure import Figure

    numbers = sorted(range(len(result)), key=lambda number: -result[number].area)[: max(most, 0)]
    columns = max((min(len(result[n].hits), MOST_HITS) for n in numbers), default=0)
    ratio = result.layout.shape[0] / result.layout.shape[1]
    header = min(max(HEADER_WIDTH * ratio, 1.2), 6.0)
    panel, line = (columns + 1) * (CELL + GAP), PICTURE + CAPTION + GAP
    abreast = min(max(int(COMMON_WIDTH / panel), 1), max(len(numbers), 1))
    width = max(2 * MARGIN + abreast * panel - GAP, LEAST_WIDTH)
    height = TITLE + header + 0.35 + line * -(-len(numbers) // abreast) + MARGIN
    sheet = _Sheet(Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white"))
    _draw_title(sheet, result, len(numbers))
    _draw_layout(sheet, result, numbers, (MARGIN, TITLE, HEADER_WIDTH, header))
    _draw_legend(sheet, result, (MARGIN + HEADER_WIDTH + 0.3, TITLE, width - 2 * MARGIN - HEADER_WIDTH - 0.3, header))
    for place, number in enumerate(numbers):
        left, top = MARGIN + place % abreast * panel, TITLE + header + 0.35 + place // abreast * line
        _draw_row(sheet, result, number, left, top)
    return sheet.figure


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    return _rendered(figure, "png")


def _rendered(figure: Figure, format: str) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks shows as boxes
        figure.savefig(data, format=format)
    return data.getvalue()


def check_figure(path: str | Path) -> None:
    """Refuses, before any work is done, a name under which `save_figure` could not write.

    Raises:
        InputError: see `check_output`.
    """
    check_output(path, SUFFIXES)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure, PNG, JPEG, PDF or SVG by its suffix, under a temporary name first.

    Raises:
        InputError: as `check_figure`, or the disk refuses.
    """
    path = Path(path)
    check_figure(path)
    write_outputs({path: _rendered(figure, path.suffix[1:].lower())})
    return path


class _Sheet:
    """A figure on which places are given in inches from the upper left corner: `(left, top, width, height)`."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.width, self.height = (float(side) for side in figure.get_size_inches())

    def axes(self, place: tuple[float, float, float, float], label: str) -> Axes:
        """Empty axes without frame and ticks."""
        left, top, width, height = place
        rect = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(rect, label=label)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, left: float, top: float, text: str, size: float = 7, colour: str = INK, **style: Any) -> None:
        """Text whose upper left corner is there; dollar signs are dollar signs."""
        self.figure.text(
            left / self.width, 1 - top / self.height, text, size=size, color=colour, va="top", parse_math=False, **style
        )


def _draw_title(sheet: _Sheet, result: Retrieval, drawn: int) -> None:
    height, width = result.layout.shape
    said = [f"{len(result)} component{'s' * (len(result) != 1)}"]
    said += [f"the {drawn} largest below"] if drawn < len(result) else []
    said += [f"{len(result.skipped)} too small to search"] if result.skipped else []
    sheet.text(MARGIN, 0.14, "Layout and what fits it", size=11, weight="bold")
    sheet.text(
        sheet.width - MARGIN, 0.19, f"{width} x {height} pixels, {', '.join(said)}", 7.5, FAINT, ha="right"
    )  # fmt: skip


def _draw_layout(
    sheet: _Sheet, result: Retrieval, numbers: Sequence[int], place: tuple[float, float, float, float]
) -> None:
    """The layout in class colours, components outlined, those that have a row numbered."""
    from matplotlib.patheffects import withStroke

    axes = sheet.axes(place, "layout")
    picture = result.painted()
    for component in result:
        (top, left, bottom, right), mask = component.in_layout()
        window = picture[top:bottom, left:right]
        edge = _outline(mask)
        window[edge] = window[edge] // 3 + 170
    _show(axes, picture, place[2] / place[3], margin=1.0)
    for number in numbers:
        y, x = _inside(result[number])
        stroke = [withStroke(linewidth=1.6, foreground="black")]
        axes.text(x, y, str(number), size=7, color="white", ha="center", va="center", path_effects=stroke)


def _draw_legend(sheet: _Sheet, result: Retrieval, place: tuple[float, float, float, float]) -> None:
    """The layout's classes with their share of it, the largest first; what does not fit is counted."""
    width, height = place[2:]
    ids, counts = np.unique(result.layout[result.layout != VOID], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    lines = max(int(height / LEGEND_LINE), 1)
    room = lines * max(int((width + 0.1) / LEGEND_COLUMN), 1)
    shown = order if len(order) <= room else order[: room - 1]
    axes = sheet.axes(place, "legend")
    axes.set(xlim=(0, width), ylim=(height, 0))
    classes = result._reader.classes
    for i, index in enumerate(shown):
        x, y = i // lines * LEGEND_COLUMN, i % lines * LEGEND_LINE
        colour = [channel / 255 for channel in classes[int(ids[index])].colour]
        axes.add_patch(_rectangle(x, y + 0.03, colour))
        share = counts[index] / result.layout.size
        text = f"{_short(classes[int(ids[index])].name, 16)}  {share:.1%}"
        axes.text(x + 0.2, y + 0.1, text, size=7, color=INK, va="center", parse_math=False)
    if len(shown) < len(order):
        x, y = (room - 1) // lines * LEGEND_COLUMN, (room - 1) % lines * LEGEND_LINE
        axes.text(x + 0.2, y + 0.1, f"and {len(order) - len(shown)} more", size=7, color=FAINT, va="center")


def _draw_row(sheet: _Sheet, result: Retrieval, number: int, left: float, top: float) -> None:
    component = result[number]
    axes = sheet.axes((left, top, CELL, PICTURE), f"component {number}")
    axes.set_facecolor(NEUTRAL)
    _show(axes, at_its_place(result, component), CELL / PICTURE, margin=1.0)
    below = top + PICTURE + 0.05
    share = component.area / (result.frame[0] * result.frame[1])
    sheet.text(left, below, f"{number}  {_short(component.class_name, 20)}", 8, weight="bold")
    sheet.text(left, below + 0.16, f"{share:.1%} of the frame", 6.5, FAINT)
    if not component.hits:
        text = f"the bank has no segment of class {component.class_name} to offer"
        sheet.text(left + CELL + GAP, top + PICTURE / 2 - 0.06, text, 7.5, FAINT, style="italic")
    for rank, hit in enumerate(component.hits[:MOST_HITS]):
        _draw_hit(sheet, hit, f"hit {number}.{rank}", left + (rank + 1) * (CELL + GAP), top)


def _draw_hit(sheet: _Sheet, hit: Hit, label: str, left: float, top: float) -> None:
    axes = sheet.axes((left, top, CELL, PICTURE), label)
    axes.set_facecolor(NEUTRAL)
    _show(axes, cut_out(hit.pixels(), hit.mask()), CELL / PICTURE)
    below = top + PICTURE + 0.05
    sheet.text(left, below, f"{hit.score:.3f}", 8, weight="bold")
    sheet.text(left + 0.42, below + 0.02, f"mask {hit.mask_iou:.2f}  context {hit.context_iou:.2f}", 6.2, INK)
    sheet.text(left, below + 0.16, _short(hit.source, 27), 6.2, FAINT)


def _show(axes: Axes, picture: Picture, ratio: float, margin: float = 1.08) -> None:
    """A picture in the middle of axes of `ratio` = width / height, as large as fits with a margin."""
    height, width = picture.shape[:2]
    axes.imshow(_small(picture), extent=(0, width, height, 0), aspect="auto")
    side = margin * max(height, width / ratio)
    axes.set(
        xlim=((width - side * ratio) / 2, (width + side * ratio) / 2), ylim=((height + side) / 2, (height - side) / 2)
    )


def cut_out(pixels: Photograph, mask: Mask) -> Picture:
    """A segment, or whatever a mask marks, as RGBA: clear and black outside the mask."""
    return np.concatenate([pixels * mask[..., None], mask[..., None].astype(np.uint8) * 255], axis=2)


def at_its_place(result: Retrieval, component: Component) -> Picture:
    """The layout faded, the component in its class's colour with a dark outline."""
    picture = (result.painted() // 6 + 200).astype(np.uint8)
    (top, left, bottom, right), mask = component.in_layout()
    window = picture[top:bottom, left:right]
    window[mask] = result._reader.classes[component.class_id].colour
    window[_outline(mask)] = (28, 28, 30)
    return picture


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of a mask that touch its outside, the border of the picture not counting."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _inside(component: Component) -> tuple[float, float]:
    """The point `(y, x)` of the layout that lies deepest inside a component."""
    from scipy.ndimage import distance_transform_edt

    (top, left, _, _), mask = component.in_layout()
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return top + float(y) + 0.5, left + float(x) + 0.5


def _small(picture: Picture) -> Picture:
    """A picture whose longer side is at most twice `THUMBNAIL`."""
    image = Image.fromarray(picture)
    image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    return np.asarray(image)


def _rectangle(x: float, y: float, colour: Sequence[float]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 0.14, 0.14, facecolor=tuple(colour), edgecolor="#00000040", linewidth=0.5)


def _short(text: str, most: int) -> str:
    """Text cut from the left, where names of files hold least."""
    return text if len(text) <= most else "…" + text[1 - most :]
