"""Pictures like a reference on the disk: each of them, all in one, their mean, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...storage.images import Photograph
from ...storage.outputs import write_outputs
from ...synth.canvas import as_json, encoded
from ..written import check_files


class Places(NamedTuple):
    """Where everything of a call goes: `<name>-00.png` and on, the best first, and what stands beside them."""

    pictures: tuple[Path, ...]
    grid: Path
    mean: Path
    sheet: Path
    report: Path


def places(out: str | Path, name: str, count: int) -> Places:
    """Of the files of a call."""
    folder, digits = Path(out), max(2, len(str(count - 1)))
    pictures = tuple(folder / f"{name}-{number:0{digits}}.png" for number in range(count))
    return Places(pictures, *(folder / f"{name}-{what}" for what in ("grid.png", "mean.png", "sheet.png", "like.json")))


def check_places(out: str | Path, name: str, count: int, inputs: Sequence[Any]) -> None:
    """See `written.check_files`."""
    pictures, *rest = places(out, name, count)
    check_files(out, [path.name for path in (*pictures, *rest)], inputs)


def save(
    where: Places,
    pictures: Sequence[Photograph],
    grid: Photograph,
    mean: Photograph,
    report: Mapping[str, Any],
    more: Mapping[Path, bytes],
) -> list[Path]:
    """Writes all of it, the report last of all; nothing is left behind where the disk refuses.

    Returns:
        the files, in the order of `Places`, then `more`.
    """
    where.report.parent.mkdir(exist_ok=True)
    files = {path: encoded(picture, "PNG") for path, picture in zip(where.pictures, pictures, strict=False)}
    files |= {where.grid: encoded(grid, "PNG"), where.mean: encoded(mean, "PNG"), **more, where.report: as_json(report)}
    write_outputs(files)
    return list(files)
