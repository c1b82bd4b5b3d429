"""Where the files of a data set lie, on disk or wherever fsspec reaches: roots, listings and stamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ...storage.errors import DatasetError, sentence
from .remote import URL, check_url


class FileInfo(NamedTuple):
    """One file as it was listed.

    Attributes:
        path: relative to the root, with `/`.
        stamp: its size and modification time (or version, where a store has those); equal stamps, unchanged files.
        regular: it can be read as a file; a broken link or a hidden folder cannot.
    """

    path: str
    stamp: str
    regular: bool


def open_root(root: str | Path) -> Path:
    """The root of a data set: an absolute path, or for an fsspec URL a `upath.UPath`, which has the same methods.

    Raises:
        DatasetError: the URL's protocol is unknown, refused (`pipe:` runs programs) or needs a package that is missing.
    """
    match = URL.match(str(root))
    check_url(str(root))
    if match is None or isinstance(root, Path):
        return Path(os.path.expanduser(root)).resolve()
    if match[1].lower() in ("file", "local"):
        return Path(str(root)[match.end() :]).resolve()
    try:
        path: Any = import_module("upath").UPath(str(root))
        path.fs  # noqa: B018  (made when first asked for)
    except (ImportError, ValueError) as error:
        said = sentence(f"{match[1]}://", f"cannot be read ({error})", fix="install the fsspec package for it")
        raise DatasetError(said) from error
    return path  # type: ignore[no-any-return]


def is_remote(path: Path) -> bool:
    """Whether a root is reached through fsspec."""
    return not isinstance(path, Path) or (hasattr(path, "fs") and type(path).__module__.startswith("upath"))


def stamp_of(path: Path) -> str:
    """The stamp of one file as it is now; `-` where there is none."""
    try:
        if is_remote(path):
            return _remote_stamp(path.fs.info(path.path))  # type: ignore[attr-defined]
        return _local_stamp(path.stat())
    except OSError:
        return "-"


def list_files(root: Path, folder: str = "") -> Iterator[FileInfo]:
    """Every file below a folder of a root, sorted within each folder; links are followed, but never in a circle.

    A hidden folder is yielded as itself and not entered.

    Raises:
        DatasetError: a folder cannot be listed.
    """
    if is_remote(root):
        yield from _list_remote(root, folder)
    else:
        yield from _list_local(str(root / folder), f"{folder}/" * bool(folder), ())


def _list_local(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[FileInfo]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _unlistable(folder, error) from error
    for entry in entries:
        path = prefix + entry.name
        try:  # a link in a circle cannot even be asked whether it is a folder
            folder_below = entry.is_dir()
            info = None if folder_below else FileInfo(path, _local_stamp(entry.stat()), entry.is_file())
        except OSError:
            folder_below, info = False, None
        if folder_below and not entry.name.startswith("."):
            yield from _list_local(entry.path, f"{path}/", (*above, real))
        else:
            yield info or FileInfo(path, "-", False)


def _list_remote(root: Any, folder: str) -> Iterator[FileInfo]:
    top = str((root / folder if folder else root).path).rstrip("/")
    start = len(str(root.path).rstrip("/")) + 1
    try:
        found = root.fs.find(top, detail=True)
    except OSError as error:
        raise _unlistable(f"{root}/{folder}", error) from error
    for path in sorted(found):
        yield FileInfo(path[start:], _remote_stamp(found[path]), True)


def _local_stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}"


def _remote_stamp(info: dict[str, Any]) -> str:
    """Size and whatever the store has to tell one version of a file from the next."""
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    version = version.timestamp() if isinstance(version, datetime) else version
    return f"{info.get('size')}:{str(version).replace(' ', '')}"


_VERSIONS = (
    "ETag", "etag", "version_id", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created",
    "Content-MD5", "Last-Modified",
)  # fmt: skip


def _unlistable(folder: str, error: OSError) -> DatasetError:
    return DatasetError(sentence(folder, f"cannot be listed ({error.strerror or error})", fix="check its permissions"))
