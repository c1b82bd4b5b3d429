"""Assembled pictures on the disk: each picture, its mask and how it was made, and one sheet of all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.outputs import check_output, write_outputs
from ...synth.canvas import as_json, encoded
from ..inpainting.files import check_folder

if TYPE_CHECKING:
    from ..assemble import Assembled


LONGEST = 180
"""Bytes of a stem, at most: file systems take names of 255, with a number, a suffix, and a mark while it is written."""


def stem_of(names: Sequence[str]) -> str:
    """What the files of a picture made of several others are called, whatever these are called."""
    stem = "+".join(dict.fromkeys(names)).replace("/", "-")
    data = os.fsencode(stem)
    if len(data) <= LONGEST:
        return stem
    mark = hashlib.blake2b(data, digest_size=4).hexdigest()
    return f"{data[: LONGEST - len(mark) - 1].decode(errors='ignore')}-{mark}"


def check_places(out: str | Path, stem: str, variants: int, inputs: Sequence[Any] = ()) -> None:
    """Refuses, before any work is done, a folder that could not be written, and to write over what is read.

    Args:
        out: the folder; stem: of the files; variants: how many; inputs: files among them must not be written over.

    Raises:
        InputError: a file there could not be written, or is one of the inputs.
    """
    folder = check_folder(out)
    if not folder.is_dir():
        return
    own = [Path(each).expanduser().resolve() for each in inputs if isinstance(each, str | Path)]
    for path in [sheet_path(folder, stem), *(path for n in range(variants) for path in _paths(folder, stem, n))]:
        check_output(path)
        if path.resolve() in own:
            raise InputError(sentence(path, "would be written over", fix="give --out another folder"))


def save(made: Sequence[Assembled], drawn: Photograph, out: str | Path, stem: str) -> list[tuple[Path, ...]]:
    """Writes `<stem>-<variant>.png`, its mask as `.mask.png`, its report as `.json`, and `<stem>-sheet.png`.

    Returns:
        the files of each variant, the picture first.

    Raises:
        InputError: the disk refuses; nothing is left behind of a variant that is not whole.
    """
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    found: list[tuple[Path, ...]] = []
    for each in made:
        picture, mask, report = paths = _paths(folder, stem, each.report.variant)
        write_outputs(
            {
                report: as_json(asdict(each.report)),
                mask: encoded(np.rint(each.mask * 255).astype(np.uint8), "PNG"),
                picture: encoded(each.image, "PNG"),
            }
        )
        found.append(paths)
    write_outputs({sheet_path(folder, stem): encoded(drawn, "PNG")})
    return found


def sheet_path(folder: str | Path, stem: str) -> Path:
    """Where the sheet lies."""
    return Path(folder) / f"{stem}-sheet.png"


def _paths(folder: Path, stem: str, variant: int) -> tuple[Path, Path, Path]:
    picture = folder / f"{stem}-{variant}.png"
    return picture, picture.with_suffix(".mask.png"), picture.with_suffix(".json")
