"""The sheet of a network's sliders for one region of one picture, and the table of what each of them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...index.retriever import Retriever
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.outputs import write_outputs
from ...synth.canvas import encoded
from ..inpaint import ImageLike, Sliders, checked_sliders, image_of
from ..written import check_files
from .methods import NETWORKS, VARYING, Draw, FromNetwork
from .regions import RegionLike, region_of
from .sliders import Effect, Parser, effect_of, rendered, sheet, sweep

if TYPE_CHECKING:
    from rich.table import Table


SHEET = "-sliders.png"
"""What follows the picture's name."""


@dataclass(frozen=True, eq=False)
class SliderSheet:
    """A sheet as it was saved.

    Attributes:
        picture: a row a slider; path: of its file.
        effects: of each slider; names: of the judge's classes, empty without a judge.
    """

    picture: Photograph
    path: Path
    effects: Sequence[Effect]
    names: Sequence[str]

    def render(self) -> Table:
        """What each slider does, for a terminal."""
        return rendered(self.effects, self.names)


def check_sheet(
    out: str | Path, method: str, models: str | Path | None, image: ImageLike, region: RegionLike
) -> FromNetwork:
    """The network of a sheet; refuses one that cannot be made.

    Raises:
        InputError: the method or its network has no sliders, there are no networks, or `out` cannot be
            written, or only over what is read.
    """
    known = [name for name in NETWORKS if name in VARYING]
    if method not in known or models is None:
        found = method if method not in known else "no folder of trained networks"
        raise InputError(sentence("sheet", expected=f"a network with sliders, {' or '.join(known)}", found=found))
    name = "image" if isinstance(image, np.ndarray) else str(image)
    stems = {Path(name).stem, name.replace("/", "-")}  # of a file, and of a source
    check_files(out, [f"{stem}{SHEET}" for stem in stems], [image, region])
    filler = FromNetwork(models, method)
    if not filler.sliders:
        raise InputError(sentence("sheet", expected="a network with sliders", found=f"{method} with none"))
    return filler


def slider_sheet(
    image: ImageLike,
    region: RegionLike,
    models: str | Path,
    out: str | Path,
    *,
    method: str = "roi",
    seed: int = 0,
    sliders: Sliders = None,
    erase: bool = False,
    retriever: Retriever | None = None,
) -> SliderSheet:
    """Each slider from -1 to 1 in one picture, `<picture's name>-sliders.png`; the others stay as given, or 0.

    Args:
        all as in `inpaint`; where the folder of models has a judge, it says what classes the sliders change.

    Raises:
        InputError: one of the arguments cannot be used.
    """
    filler = check_sheet(out, method, models, image, region)
    reader = None if retriever is None else retriever.reader
    picture, stem, source = image_of(image, reader)
    inside = region_of(region, picture, source, reader, erase=erase)
    path = Path(out) / f"{stem}{SHEET}"
    judge = Parser(models, filler.device) if (Path(models) / "judge.safetensors").exists() else None
    rows = sweep(filler, picture, inside, Draw(seed, 0, checked_sliders(sliders, filler)))
    drawn = sheet(picture, inside, rows)
    path.parent.mkdir(exist_ok=True)
    write_outputs({path: encoded(drawn, "PNG")})
    effects = [effect_of(row[0], row[-1], inside, judge) for row in rows]
    return SliderSheet(drawn, path, effects, judge.names if judge else ())
