"""Files that users ask for: checked before any work is done, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from .errors import InputError, sentence


def check_output(path: str | Path, suffixes: Collection[str] = ()) -> None:
    """Refuses, before any work is done, a name under which nothing could be written.

    Args:
        path: of the file to be; suffixes: those allowed, lower case with their dot; none for any.

    Raises:
        InputError: for an unknown suffix, a missing or read-only folder, a name that is a folder, or one in a bank.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        found = repr(path.suffix) if path.suffix else "no suffix"
        raise InputError(sentence(path, expected="a name in " + ", ".join(suffixes), found=found, fix="rename it"))
    if os.path.isdir(path):
        raise InputError(sentence(path, "is a folder", fix="give the file another name"))
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
        raise InputError(sentence(path, "is a link or a device, which would be replaced", fix="give another name"))
    if not os.path.isdir(path.parent):
        raise InputError(sentence(path, f"there is no folder {path.parent}", fix="make it first"))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(sentence(path, f"the folder {path.parent} cannot be written", fix="give a place that can be"))
    keep_banks(path)


def keep_banks(path: Path) -> None:
    """Refuses a file or folder to be that lies in a bank, or is one: nothing but its own files is written there.

    Raises:
        InputError: it does.
    """
    real = path.resolve() if os.path.isdir(path) else path.parent.resolve()
    if bank := next((folder for folder in (real, *real.parents) if _is_bank(folder)), None):
        raise InputError(sentence(path, f"lies in the bank {bank}", fix="choose another place"))


def keep_inputs(inputs: Iterable[object], outputs: Iterable[str | Path | None]) -> None:
    """Refuses to write over what is read.

    Args:
        inputs: files among whatever else is read, such as arrays; outputs: names of files to be, None for none.

    Raises:
        InputError: one is another.
    """
    named = (os.path.expanduser(each) for each in inputs if isinstance(each, str | Path))
    read = {_identity(each) for each in named} - {None}
    for out in outputs:
        if out is not None and _identity(out) in read:
            raise InputError(sentence(out, "would be written over", fix="choose another name or folder"))


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from all others; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_dev, found.st_ino)


def _is_bank(folder: Path) -> bool:
    """Whether it looks like a bank."""
    try:
        return os.path.isdir(folder / "shards") and any(folder.glob("MANIFEST-*.json"))
    except OSError:  # a folder that nobody may look into
        return False


def write_outputs(files: Mapping[Path, bytes]) -> None:
    """All files under temporary names, then each under its own, in the order given.

    Raises:
        InputError: the disk refuses; no temporary file is left behind.
    """
    mark = secrets.token_hex(4)
    temporary = {path: path.with_name(f".{path.name}.{mark}") for path in files}
    try:
        for path, data in files.items():
            temporary[path].write_bytes(data)
        for path in files:
            os.replace(temporary[path], path)
    except OSError as error:
        raise InputError(
            sentence([*files][-1], f"cannot be written ({error.strerror})", fix="choose another place")
        ) from error
    finally:
        for path in temporary.values():
            _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # what went wrong before is what the user should read
