"""What an evaluation has made so far: kept beside its results until it is done, so that the same command goes on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...storage.errors import InputError, sentence
from ...storage.outputs import write_outputs
from ...storage.reader import Reader, content_of
from ...synth.checkpoint import SUFFIX

FOLDER = ".made"
"""In the folder of the results."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Making:
    """Arrays, pictures among them, that are made once, whatever interrupts the evaluation.

    Args:
        out: folder of the results; reader: of the bank; models: folders of networks.
        options: all else that what is made depends on. What was kept with others, of other networks, or by another
            version, is not taken up.
    """

    def __init__(self, out: Path, reader: Reader, models: Sequence[str | Path], options: Mapping[str, Any]) -> None:
        self.folder = out / FOLDER
        files = [path for folder in models for path in sorted(Path(folder).expanduser().glob(f"*{SUFFIX}"))]
        networks = [[str(path), (seen := path.stat()).st_size, seen.st_mtime_ns] for path in files]
        made_by = metadata.version("zeuxis"), torch.__version__, torch.cuda.is_available()
        told = {"bank": content_of(reader), "networks": networks, "made by": made_by, **options}
        self._key = json.dumps(told, default=str)

    def __call__(self, what: Sequence[str | int], make: Callable[[], Arrays]) -> Arrays:
        """The arrays of that name, made now or before.

        Raises:
            InputError: the disk refuses.
        """
        name = hashlib.blake2b(json.dumps([self._key, *what]).encode(), digest_size=16).hexdigest()
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # none, or a damaged one
            pass
        made = make()
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, **made)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot be made ({error.strerror})"
            raise InputError(sentence(self.folder, why, fix="choose another place")) from error
        write_outputs({path: data.getvalue()})
        return made

    def done(self) -> None:
        """Removes what was kept; the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
