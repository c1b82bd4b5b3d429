"""`zeuxis scenes`: writes a data set of procedural street scenes, to try everything without a download."""

from __future__ import annotations

from pathlib import Path

from ..ingest.scene_painter import write_scenes
from ..storage.errors import InputError, sentence
from ..storage.outputs import keep_banks
from .progress import Progress, silent

SIDES = (64, 4096)
"""Rows and columns: below a scene shows nothing, above it fills the memory."""


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
        size: `(rows, cols)`, 64 to 4096 each.
        progress: told how many are painted.

    Raises:
        InputError: a number makes no sense, the folder holds something else or cannot be written.
    """
    check_scenes(count, seed, size)
    keep_banks(Path(out))

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
    if len(size) != 2 or not all(SIDES[0] <= side <= SIDES[1] for side in size):
        allowed = f"rows x cols, each in {SIDES[0]}..{SIDES[1]}"
        raise InputError(sentence("size", expected=allowed, found=str(tuple(size))))
