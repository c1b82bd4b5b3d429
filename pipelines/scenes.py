"""`zeuxis scenes`: writes a data set of procedural street scenes, to try everything without a download."""

from __future__ import annotations

from pathlib import Path

from ..ingest.scene_painter import write_scenes
from ..storage.errors import InputError, sentence
from .progress import Progress, silent

LEAST_SIDE = 64
"""Rows and columns below which a scene shows nothing, pixels."""


def scenes(
    out: str | Path,
    *,
    count: int = 60,
    seed: int = 7,
    size: tuple[int, int] = (384, 512),
    progress: Progress = silent,
) -> Path:
    """Writes `count` scenes into a folder that `rebuild` takes as `scenes:OUT`; equal arguments give equal scenes.

    Args:
        out: a new or empty folder, or one with scenes, which are replaced.
        count: of scenes; seed: of all their chances, at least 0.
        size: `(rows, cols)`, at least 64 each.
        progress: told how many are painted.

    Raises:
        InputError: a number makes no sense, the folder holds something else or cannot be written.
    """
    check_scenes(count, seed, size)

    def told(done: int, total: int) -> None:
        progress(done, total, "painting scenes")

    try:
        return write_scenes(out, count, seed, size, told)
    except OSError as error:
        raise InputError(sentence(out, f"cannot be written ({error.strerror})", fix="choose another folder")) from error


def check_scenes(count: int, seed: int, size: tuple[int, int]) -> None:
    """Refuses numbers of which `scenes` can make nothing.

    Raises:
        InputError: see `scenes`.
    """
    if count < 1:
        raise InputError(sentence("count", expected="at least 1 scene", found=str(count)))
    if seed < 0:
        raise InputError(sentence("seed", expected="a whole number of at least 0", found=str(seed)))
    if len(size) != 2 or min(size) < LEAST_SIDE:
        raise InputError(sentence("size", expected=f"rows x cols, each at least {LEAST_SIDE}", found=str(tuple(size))))
