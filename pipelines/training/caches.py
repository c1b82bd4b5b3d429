"""Folders of what was decoded, kept for later trainings beside the networks."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...storage.errors import InputError, sentence


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which gets its name when the block ends; another process may be faster.

    Raises:
        InputError: it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, folder)
    except OSError as error:
        if not folder.is_dir():  # or another process was faster
            said = f"cannot be written ({error.strerror})"
            raise InputError(sentence(folder.parent, said, fix="choose another folder for the models")) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
