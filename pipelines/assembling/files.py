"""Assembled pictures on the disk: each picture, its mask and how it was made, and one sheet of all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...storage.images import Photograph
from ...storage.outputs import write_outputs
from ...synth.canvas import as_json, encoded
from ..written import check_files

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
    """See `written.check_files`.

    Args:
        out: the folder; stem: of the files; variants: how many; inputs: files among them must not be written over.
    """
    paths = [sheet_path(out, stem), *(path for number in range(variants) for path in _paths(Path(out), stem, number))]
    check_files(out, [path.name for path in paths], inputs)


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
