"""What commands write: refused before any work is done where it cannot be, and an evaluation's files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage.errors import InputError, sentence
from ..storage.outputs import check_output, keep_inputs, write_outputs

EVALUATION = ("evaluation.json", "table.md", "report.html")
"""Files of an evaluation: all figures, the table, and a page."""


def check_folder(out: str | Path) -> Path:
    """Refuses a folder that could not be made or written.

    Raises:
        InputError: it is a file, or cannot be written.
    """
    folder = Path(out)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(sentence(folder, expected="a folder", found="a file", fix="give another name"))
    check_output(folder / ".png" if folder.is_dir() else folder)
    return folder


def check_files(out: str | Path, names: Iterable[str], inputs: Sequence[Any] = ()) -> Path:
    """As `check_folder`; and refuses files there that could not be written, or that are read.

    Args:
        out: the folder; names: of the files; inputs: those of them that are paths must not be written over.

    Raises:
        InputError: see above.
    """
    folder = check_folder(out)
    if folder.is_dir():
        files = [folder / name for name in names]
        for path in files:
            check_output(path)
        keep_inputs(inputs, files)
    return folder


def write_evaluation(
    out: Path, told: Mapping[str, Any], table: str, page: str, pictures: Mapping[str, bytes] | None = None
) -> list[Path]:
    """Writes the files of an evaluation, all of them or none, in a folder that is made where there is none.

    Args:
        told, table, page: what `EVALUATION` holds; pictures: encoded, by name.

    Returns:
        all paths, pictures first.

    Raises:
        InputError: the disk refuses.
    """
    texts = json.dumps(told, indent=1) + "\n", table, page
    files = {out / name: data for name, data in (pictures or {}).items()}
    files |= {out / name: text.encode() for name, text in zip(EVALUATION, texts, strict=True)}
    out.mkdir(exist_ok=True)
    write_outputs(files)
    return [*files]
