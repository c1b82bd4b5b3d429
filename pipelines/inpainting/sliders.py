"""What each slider does: a sheet to look at, and figures of what changes inside the region from end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...storage.images import Photograph
from ...storage.layouts import sample_to_frame
from ...synth.checkpoint import SUFFIX, load_checkpoint
from ...synth.encoding import to_tensor
from ...synth.inpainting.nearest import surroundings
from ...synth.roi_gan.regions import Region
from ..models import built, ready
from ..training.sources import resized_image
from .methods import Draw, FromNetwork

if TYPE_CHECKING:
    from rich.table import Table

STEPS = 7
"""Pictures a slider, from -1 to 1."""
CELL, MARGIN, HEAD = 96, 4, 18
"""Pixels: the longer side of a picture on the sheet at least, the space around it, the head of rows and columns."""

Reads = Callable[[Photograph], npt.NDArray[np.int64]]
"""A picture's classes, `(H, W)` channel numbers."""


class Effect(NamedTuple):
    """What changes inside a region when a slider goes from -1 to 1.

    Attributes:
        change: mean absolute difference of the pixels, levels of 0..255.
        colour: of the mean red, green and blue, levels; edges: of the mean gradient, levels a pixel.
        read: share of the pixels that the judge reads as another class, None without one.
        gained: by class, how much of the region it gained, -1..1; empty without a judge.
    """

    change: float
    colour: tuple[float, float, float]
    edges: float
    read: float | None
    gained: dict[int, float]


class Parser:
    """The judge of a folder of networks, reading pictures of any size at that of its training.

    Raises:
        InputError: there is none, or it cannot be used.
    """

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        path = Path(folder).expanduser() / f"judge{SUFFIX}"
        card, tensors = load_checkpoint(path, "judge")
        self.size, self.names = card.size, [entry.name for entry in card.classes]
        self._network, self._device = ready(built("judge", card, tensors, path), "judge", device), device

    def __call__(self, image: Photograph) -> npt.NDArray[np.int64]:
        """`(H, W)` channel numbers of a picture."""
        shown = to_tensor(resized_image(image, self.size))[None].to(self._device)
        with torch.inference_mode():
            indices = self._network(shown)[0].argmax(0).cpu().numpy()
        return np.asarray(sample_to_frame(indices, (image.shape[0], image.shape[1])), np.int64)


def sweep(
    filler: FromNetwork, image: Photograph, region: Region, draw: Draw, steps: int = STEPS
) -> list[list[Photograph]]:
    """Pictures by slider and step, from -1 to 1; the noise and the other sliders stay those of the draw."""
    rest = draw.sliders if draw.sliders is not None else ()
    rest = (*rest, *[0.0] * (filler.sliders - len(rest)))
    draws = [
        draw._replace(sliders=(*rest[:slider], float(value), *rest[slider + 1 :]))
        for slider in range(filler.sliders)
        for value in np.linspace(-1, 1, steps)
    ]
    made, _ = filler.variants(image, region, draws)
    return [made[start : start + steps] for start in range(0, len(made), steps)]


def effect_of(low: Photograph, high: Photograph, region: Region, reads: Reads | None = None) -> Effect:
    """What changes inside the region from one picture to the other."""
    inside = [each[region].astype(np.float64) for each in (low, high)]
    red, green, blue = (float(each) for each in inside[1].mean(0) - inside[0].mean(0))
    edges = [_gradient(each)[region].mean() for each in (low, high)]
    read, gained = None, dict[int, float]()
    if reads is not None:
        before, after = reads(low)[region], reads(high)[region]
        read = float((before != after).mean())
        gained = {
            int(each): float((after == each).mean() - (before == each).mean()) for each in np.union1d(before, after)
        }
    change = float(np.abs(inside[1] - inside[0]).mean())
    return Effect(change, (red, green, blue), float(edges[1] - edges[0]), read, gained)


def mean_effect(effects: Sequence[Effect]) -> Effect:
    """Of a slider on several pictures: means; colours and edges keep their signs, so that what is random cancels."""
    red, green, blue = np.mean([each.colour for each in effects], axis=0).tolist()
    reads = [each.read for each in effects if each.read is not None]
    classes = {index for each in effects for index in each.gained}
    gained = {index: float(np.mean([each.gained.get(index, 0.0) for each in effects])) for index in sorted(classes)}
    change, edges = (float(np.mean([getattr(each, name) for each in effects])) for name in ("change", "edges"))
    return Effect(change, (red, green, blue), edges, float(np.mean(reads)) if reads else None, gained)


def rows_of(effects: Sequence[Effect], names: Sequence[str]) -> list[list[str]]:
    """The cells of a table under `HEADS`, a row a slider; names of the judge's classes by channel."""
    rows = []
    for number, each in enumerate(effects):
        colour = " ".join(f"{value:+.1f}" for value in each.colour)
        most = max(each.gained, key=lambda index: each.gained[index], default=None)
        gained = "" if most is None or each.gained[most] <= 0 else f"{names[most]} {each.gained[most]:+.1%}"
        read = "" if each.read is None else f"{each.read:.1%}"
        rows.append([str(number), f"{each.change:.1f}", colour, f"{each.edges:+.2f}", read, gained])
    return rows


HEADS = ("slider", "change", "red green blue", "edges", "read otherwise", "gains most")
"""Levels of 0..255, levels a pixel, shares of the region; from -1 to 1."""


def rendered(effects: Sequence[Effect], names: Sequence[str]) -> Table:
    """The figures for a terminal."""
    from rich.table import Table

    table = Table(*HEADS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows_of(effects, names):
        table.add_row(*row)
    table.caption = "inside the region, from -1 to 1: levels of 0..255, levels a pixel, shares of its pixels"
    return table


def sheet(image: Photograph, region: Region, pictures: Sequence[Sequence[Photograph]]) -> Photograph:
    """One picture of `sweep`: a row a slider under the values; first the picture itself, its region outlined."""
    top, left, bottom, right = surroundings(region)
    outlined = image.copy()
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(outlined, contours, -1, (255, 255, 0), 1)
    rows, cols = bottom - top, right - left
    times = max(1, round(CELL / max(rows, cols)))
    down, across = rows * times + MARGIN, cols * times + MARGIN
    steps = len(pictures[0]) if pictures else 0
    page = np.full((HEAD + down * len(pictures), 2 * HEAD + across * (steps + 1), 3), 255, np.uint8)
    for column, value in enumerate(np.linspace(-1, 1, steps)):
        _write(page, f"{value:+.2f}", 2 * HEAD + across * (column + 1), HEAD - 5)
    for row, made in enumerate(pictures):
        _write(page, str(row), 4, HEAD + down * row + 14)
        for column, picture in enumerate([outlined, *made]):
            shown = picture[top:bottom, left:right].repeat(times, axis=0).repeat(times, axis=1)
            y, x = HEAD + down * row, 2 * HEAD + across * column
            page[y : y + rows * times, x : x + cols * times] = shown
    return page


def _write(page: Photograph, said: str, x: int, y: int) -> None:
    cv2.putText(page, said, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def _gradient(image: Photograph) -> npt.NDArray[np.float64]:
    """`(H, W)` lengths of the brightness's gradient, levels a pixel."""
    down, across = np.gradient(image.astype(np.float64).mean(axis=2))
    lengths: npt.NDArray[np.float64] = np.hypot(down, across)
    return lengths
