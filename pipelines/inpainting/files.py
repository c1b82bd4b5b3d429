"""Filled pictures on the disk: the picture, and beside it the region and how it was filled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...storage.errors import InputError, sentence
from ...storage.outputs import check_output, write_outputs
from ...synth.canvas import as_json, encoded

if TYPE_CHECKING:
    from ..inpaint import Inpainted


def check_folder(out: str | Path) -> Path:
    """Refuses, before any work is done, a folder that could not be made or written.

    Raises:
        InputError: it is a file, or cannot be written.
    """
    folder = Path(out)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(sentence(folder, expected="a folder", found="a file", fix="give another name"))
    check_output(folder / ".png" if folder.is_dir() else folder)
    return folder


def check_places(out: str | Path, stem: str, variants: int, inputs: Sequence[Any] = ()) -> None:
    """As `check_folder`; and refuses to write over what is read.

    Args:
        out: the folder; stem: of the files; variants: how many; inputs: files among them must not be written over.

    Raises:
        InputError: a file there could not be written, or is one of the inputs.
    """
    folder = check_folder(out)
    if not folder.is_dir():
        return
    own = [Path(each).resolve() for each in inputs if isinstance(each, str | Path)]
    for variant in range(variants):
        for path in _paths(folder, stem, variant):
            check_output(path)
            if path.resolve() in own:
                raise InputError(sentence(path, "would be written over", fix="give --out another folder"))


def save(made: Inpainted, out: str | Path, stem: str) -> list[Path]:
    """Writes a picture as `<stem>-<variant>.png`, its region as `.region.png`, and its report as `.json`.

    Returns:
        the files, the picture first.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    picture, region, report = paths = _paths(folder, stem, made.report.variant)
    write_outputs(
        {
            report: as_json(asdict(made.report)),
            region: encoded(made.region.astype(np.uint8) * 255, "PNG"),
            picture: encoded(made.image, "PNG"),
        }
    )
    return list(paths)


def _paths(folder: Path, stem: str, variant: int) -> tuple[Path, Path, Path]:
    picture = folder / f"{stem}-{variant}.png"
    return picture, picture.with_suffix(".region.png"), picture.with_suffix(".json")
