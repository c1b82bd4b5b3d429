"""Files of layouts as commands name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .storage.errors import InputError, sentence


def pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named, folders as the pictures in them by name."""
    found: list[Path] = []
    for path in paths:
        found += _inside(path) if path.is_dir() else [path]
    return found


def _inside(folder: Path) -> list[Path]:
    from .ingest.datasets.listing import PICTURES

    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in PICTURES and (path.is_file() or not path.exists())
    )
    if not found:
        raise InputError(sentence(folder, expected="pictures of layouts", found="none"))
    return found
