"""Filled pictures on the disk: the picture, and beside it the region and how it was filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...storage.outputs import write_outputs
from ...synth.canvas import as_json, encoded
from ..written import check_files

if TYPE_CHECKING:
    from ..inpaint import Inpainted


def check_places(out: str | Path, stem: str, variants: int, inputs: Sequence[Any] = ()) -> None:
    """See `written.check_files`.

    Args:
        out: the folder; stem: of the files; variants: how many; inputs: files among them must not be written over.
    """
    check_files(out, (path.name for variant in range(variants) for path in _paths(Path(out), stem, variant)), inputs)


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
