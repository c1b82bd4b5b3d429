"""The banks that the benchmarks build and read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zeuxis

QUICK_SCENES = 8


@contextmanager
def dataset_of(quick: bool, data: Path | None, kind: str = "nyu") -> Iterator[tuple[str, Path]]:
    """A data set `kind:path` and a scratch folder: NYU or CamVid, or a few scenes where they are not there."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if quick or data is None:
            size, count = ((96, 128), QUICK_SCENES) if quick else ((384, 512), 60)
            zeuxis.scenes(scratch / "scenes", count=count, size=size)
            yield f"scenes:{scratch / 'scenes'}", scratch
        else:
            yield f"{kind}:{data / kind}", scratch


def workers_of(quick: bool) -> int | None:
    """Processes to build a bank with; a few scenes are faster done in this one than another is started."""
    return 0 if quick else None
