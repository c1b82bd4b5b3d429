"""Painted images on the disk: the picture, and beside it what it is made of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..index.request import LayoutLike
from ..storage.errors import InputError, sentence
from ..storage.outputs import check_output, keep_inputs, write_outputs
from ..synth.canvas import as_json, encoded, listing, sidecars
from .painted import Painted

MOST_VARIANTS = 10_000
"""Of one layout; all of them are held in memory."""


def check_variants(variants: int) -> None:
    """Refuses a number of variants that cannot be.

    Raises:
        InputError: it is none from 1 to `MOST_VARIANTS`.
    """
    whole = isinstance(variants, (int, np.integer)) and not isinstance(variants, bool)
    if not (whole and 1 <= variants <= MOST_VARIANTS):
        expected = f"a whole number of at least 1, at most {MOST_VARIANTS:,}"
        raise InputError(sentence("variants", expected=expected, found=repr(variants)))


def stem_of(layout: LayoutLike | None, source: str | None = None) -> str:
    """What the images of a layout are called: as its file, else as its source, else `layout`."""
    if isinstance(layout, (str, Path)):
        return Path(layout).stem
    return source.replace("/", "-") if isinstance(source, str) and layout is None else "layout"


def check_places(folder: str | Path, stems: Sequence[str], variants: int, inputs: Sequence[Any] = ()) -> None:
    """Refuses, before any work is done, a folder into which the images of some layouts could not be written.

    Args:
        inputs: what is read; files among it must not be written over.

    Raises:
        InputError: it is a file or cannot be written, two layouts have the same name, or a file there is no plain one,
            or one that is read.
    """
    check_variants(variants)
    folder = Path(folder)
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        said = f"two layouts are called {twice[0]}, and so would their images be"
        raise InputError(sentence(folder, said, fix="paint them into two folders"))
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(sentence(folder, expected="a folder", found="a file", fix="give another name"))
    if not folder.is_dir():
        check_output(folder)  # which can be made
        return
    paths = [path for stem in stems for variant in range(variants) for path in _paths(folder, stem, variant)]
    for path in paths:
        check_output(path)
    keep_inputs(inputs, paths)


def save(image: Painted, folder: str | Path, stem: str) -> Painted:
    """Writes one image as `<stem>-<variant>.png`, and beside it what it is made of.

    `.canvas.png` is the canvas as the synthesis network saw it; `.valid.png` is 255 where that stems from the bank;
    `.provenance.png` and `.json` say, as those of a collage do, which segment each pixel of the canvas came from, and
    how the image was made. All are written under temporary names first, and the picture takes its own last.

    Returns:
        The same, with its files.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    out, canvas, valid, indices, listed = _paths(folder, stem, image.report.variant)
    told = {name: value for name, value in asdict(image.report).items() if name != "seconds"}
    write_outputs(
        {
            listed: as_json({**listing(image.canvas, out.name), "painting": told}),
            indices: encoded(image.canvas.provenance, "PNG"),
            valid: encoded(image.valid.astype(np.uint8) * 255, "PNG"),
            canvas: encoded(image.elided, "PNG"),
            out: encoded(image.image, "PNG"),
        }
    )
    return replace(image, files=(out, canvas, valid, indices, listed))


def _paths(folder: Path, stem: str, variant: int) -> tuple[Path, Path, Path, Path, Path]:
    out = folder / f"{stem}-{variant}.png"
    return out, out.with_name(f"{out.stem}.canvas.png"), *sidecars(out)
