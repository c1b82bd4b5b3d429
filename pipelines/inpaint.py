"""`zeuxis inpaint`: a picture and a region of it in, the same picture with other content there out.

Outside the region every pixel stays as it is, to the byte. The same picture, region, method, seed and variant give the
same bytes on the same machine.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..index.request import LayoutLike
from ..index.retriever import Retriever
from ..storage.errors import InputError, SourceError, sentence
from ..storage.files import plain_bytes
from ..storage.images import Photograph, decode_photograph
from ..storage.reader import Reader
from ..synth.compiling.packages import Store
from ..synth.inpainting.fills import FILLS
from ..synth.roi_gan.regions import Region
from .inpainting.files import check_places, save
from .inpainting.methods import (
    BANK,
    METHODS,
    NETWORKS,
    VARYING,
    Draw,
    FromBank,
    FromNetwork,
    FromPicture,
    Method,
    filled_by,
)
from .inpainting.regions import SAME, RegionLike, closed, distance, region_of
from .painted_files import check_variants

ImageLike = str | Path | npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8 RGB, a file, or the name of a source of the bank."""


Sliders = Sequence[float] | Literal["random"] | None
"""Numbers in [-1, 1], of which those not given are 0; `random` draws all of them for each variant; None does so for all
variants but the first, of which all are 0."""


@dataclass(frozen=True)
class InpaintReport:
    """How a region was filled.

    Attributes:
        method: one of `METHODS`; how: its windows, or where its pixels come from, in words.
        seed, variant: which draws; sliders: as they were given, the rest is 0; None where they were drawn.
        share: of the picture's pixels that were filled, 0..1.
        network: file, steps of training, size, bank, what ran it; empty without one.
    """

    method: str
    how: str
    seed: int
    variant: int
    sliders: tuple[float, ...] | None
    share: float
    network: Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Inpainted:
    """A picture with a region filled.

    Attributes:
        image: `(H, W, 3)` uint8 RGB; region: `(H, W)` bool, what was filled.
        report: how; files: what was saved, the picture first.
    """

    image: Photograph
    region: Region
    report: InpaintReport
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        rows, cols = self.region.shape
        told = f"{self.report.share:.1%} by {self.report.method}, {self.report.how}"
        return f"Inpainted({rows}x{cols}, variant {self.report.variant}, {told})"


def inpaint(
    image: ImageLike,
    region: RegionLike,
    variants: int = 1,
    seed: int = 0,
    *,
    method: str = "roi",
    models: str | Path | None = None,
    compiled: str | Path | None = None,
    retriever: Retriever | None = None,
    sliders: Sliders = None,
    erase: bool = False,
    layout: LayoutLike | None = None,
    dataset: str | None = None,
    out: str | Path | None = None,
) -> list[Inpainted]:
    """Fills a region of a picture, once a variant.

    Args:
        image: see `ImageLike`; region: see `RegionLike`.
        variants: how many; seed: of all draws.
        method: one of `METHODS`.
        models: folder of trained networks, for the methods that are one.
        compiled: folder of compiled forms of them, which are used where they fit.
        retriever: of the bank, for `bank`, for segments, and for sources as images.
        sliders: see `Sliders`: with all at 0 a region becomes what its surroundings suggest.
        erase: the region is an object that shall vanish: it is enlarged a little.
        layout: of the picture, for `bank`, and dataset: whose ids it is in. Default that of the source, if it is one,
            closed over what is erased; else the region's surroundings are looked for.
        out: a folder, made where there is none, for `<picture's name>-<variant>.png` and what stands beside it.

    Raises:
        InputError: one of the arguments cannot be used, found before anything is written.
    """
    reader = None if retriever is None else retriever.reader
    check_draws(variants, seed)
    if models is not None and not Path(models).expanduser().is_dir():
        raise InputError(sentence(models, expected="a folder of trained networks", found="no such folder"))
    picture, stem, source = image_of(image, reader)
    inside = region_of(region, picture, source, reader, erase=erase)
    if out is not None:
        check_places(out, stem, variants, [image, region, layout])
    if source is None and reader is not None and method == BANK:
        source = _source_alike(picture, stem, reader)
    if layout is None and method == BANK:
        layout = _own_layout(source, reader, inside if erase else None)
    store = None if compiled is None else Store(compiled)
    filler = method_of(method, models, retriever, source, layout, dataset, compiled=store)
    for warning in filler.warnings:
        warnings.warn(warning, stacklevel=2)
    given = checked_sliders(sliders, filler)
    if variants > 1 and not filler.varies:
        fix = f"ask for one, or use {_listed(VARYING)}"
        raise InputError(sentence("variants", f"{method} makes one picture alone", found=str(variants), fix=fix))
    draws = [Draw(seed, number, None if number and sliders is None else given) for number in range(variants)]
    share = float(inside.mean())
    made = [
        Inpainted(each, inside, InpaintReport(method, how, seed, draw.variant, draw.sliders, share, filler.identity))
        for (each, how), draw in zip(filled_by(filler, picture, inside, draws), draws, strict=True)
    ]
    return made if out is None else [replace(each, files=tuple(save(each, out, stem))) for each in made]


def image_of(given: ImageLike, reader: Reader | None) -> tuple[Photograph, str, str | None]:
    """A picture, the name of its files, and the source of the bank that it is, if it is one.

    Raises:
        InputError: it is none of `ImageLike`.
    """
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or not given.size:
            found = f"{given.shape} of {given.dtype}"
            raise InputError(sentence("image", expected="(H, W, 3) of uint8", found=found))
        return given, "image", None
    try:
        path = Path(os.path.expanduser(given))
    except TypeError as error:
        expected = "a file, (H, W, 3) of uint8, or a source of the bank"
        raise InputError(sentence("image", expected=expected, found=type(given).__name__)) from error
    if not path.exists() and reader is not None and _is_source(str(given), reader):
        return reader.photograph(str(given)), str(given).replace("/", "-"), str(given)
    try:
        return decode_photograph(plain_bytes(path), path), path.stem, None
    except OSError as error:
        said = "a picture, or a source of the bank" if reader else "a picture"
        raise InputError(sentence(f"image {path}", f"cannot be read ({error.strerror})", expected=said)) from error
    except SourceError as error:
        raise InputError(str(error)) from error


def method_of(
    name: str,
    models: str | Path | None,
    retriever: Retriever | None,
    source: str | None = None,
    layout: LayoutLike | None = None,
    dataset: str | None = None,
    *,
    device: str | torch.device | None = None,
    compiled: Store | None = None,
) -> Method:
    """A method by its name, ready for use; `device` and `compiled` are for networks.

    Raises:
        InputError: there is none of that name, or what it needs is missing.
    """
    if name not in METHODS:
        raise InputError(sentence("method", expected=f"one of {_listed(METHODS)}", found=repr(name)))
    if name != BANK and (layout is not None or dataset is not None):
        what = "layout" if layout is not None else "dataset"
        raise InputError(sentence(what, f"is for the method {BANK}", fix="leave it out"))
    if name in FILLS:
        return FromPicture(name)
    if name in NETWORKS:
        if models is None:
            fix = f"give --models, or a method that needs none: {_listed([*FILLS])}"
            raise InputError(sentence(f"method {name}", "no folder of trained networks was named", fix=fix))
        return FromNetwork(models, name, device, compiled)
    if retriever is None:
        fix = f"give --bank, or a method that needs none: {_listed([*FILLS])}"
        raise InputError(sentence(f"method {name}", "no bank was named", fix=fix))
    return FromBank(retriever, source, layout, dataset)


def check_draws(variants: int, seed: int) -> None:
    """Refuses numbers of variants and seeds that cannot be.

    Raises:
        InputError: they are no whole numbers, or too small or too large.
    """
    check_variants(variants)
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise InputError(sentence("seed", expected="a whole number of at least 0", found=repr(seed)))


def checked_sliders(given: Any, method: Method) -> tuple[float, ...] | None:
    """`Sliders` of the first variant as numbers; None where they are to be drawn.

    Raises:
        InputError: there are more than the method has, or one is beyond [-1, 1].
    """
    if given is None:
        return ()
    if isinstance(given, str) and given == "random":
        return None
    if isinstance(given, str) or np.ndim(given) != 1:
        raise InputError(sentence("sliders", expected="a list of numbers, or random", found=repr(given)))
    if len(given) > method.sliders:
        expected = f"at most {method.sliders}, as many as {method.name} has"
        raise InputError(sentence("sliders", expected=expected, found=str(len(given))))
    for number, value in enumerate(given):
        if not (isinstance(value, int | float | np.number) and math.isfinite(value) and -1 <= value <= 1):
            raise InputError(sentence(f"slider {number}", expected="a number from -1 to 1", found=repr(value)))
    return tuple(float(value) for value in given)


def _source_alike(picture: Photograph, stem: str, reader: Reader) -> str | None:
    """The source of the bank that a file is a copy of, by its name and what it shows."""
    rows = reader.table("sources", None, ["source", "height", "width"]).to_pylist()
    named = [row for row in rows if row["source"].rpartition("/")[2] == stem]
    same = [row["source"] for row in named if (row["height"], row["width"]) == picture.shape[:2]]
    apart = {name: distance(picture, reader.photograph(name)) for name in same}
    nearest = min(same, key=lambda name: apart[name], default=None)
    return nearest if nearest is not None and apart[nearest] <= SAME else None


def _own_layout(source: str | None, reader: Reader | None, erased: Region | None) -> LayoutLike | None:
    """That of a source, where it has one; what is erased is not put there again."""
    if source is None or reader is None:
        return None
    (row,) = reader.table("sources", {"source": source}, ["layout"]).to_pylist()
    if row["layout"] is None:
        return None
    own = reader.layout(source)
    return own if erased is None else closed(own, erased, reader.classes)


def _is_source(name: str, reader: Reader) -> bool:
    return any(((each.names == name) & each.live).any() for each in reader.shard_sources)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
