"""Folders of what was decoded, kept for later trainings beside the networks."""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ...storage.errors import InputError, sentence
from ...storage.files import fsync_file

DAMAGES = (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What reading files of arrays raises where they are damaged or incomplete."""


_Held = TypeVar("_Held")


def kept_or_made(folder: Path, load: Callable[[Path], _Held], make: Callable[[Path], None]) -> _Held:
    """What a folder holds; it is made where there is none, and anew where it is damaged.

    Raises:
        InputError: it cannot be written, see `made_whole`.
    """
    if folder.is_dir():
        try:
            return load(folder)
        except DAMAGES:
            _put_aside(folder)
    make(folder)
    return load(folder)


def _put_aside(folder: Path) -> None:
    """Removes a damaged folder."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        os.replace(folder, aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        said = f"is damaged and cannot be removed ({error.strerror})"
        raise InputError(sentence(folder, said, fix="remove it")) from error
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which gets its name when the block ends; another process may be faster.

    Raises:
        InputError: it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield temporary
        for path in temporary.iterdir():
            fsync_file(path)
        os.replace(temporary, folder)
    except OSError as error:
        if not folder.is_dir():  # or another process was faster
            raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> InputError:
    said, fix = f"cannot be written ({error.strerror})", "choose another folder for the models"
    return InputError(sentence(folder.parent, said, fix=fix))
