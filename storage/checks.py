"""Whether a published file is the one that was published: sizes at once, checksums before a library sees it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import crc32c

from .errors import DamagedBankError, sentence

_CHUNK = 1 << 18
RESTORE = "run `zeuxis repair` on the bank"


class FileEntry(NamedTuple):
    """What a manifest says of a file.

    Attributes:
        size: bytes.
        sha256: in hex: what `verify` and publishing compare.
        crc32c: in hex, eight times as fast: what is compared before a file is mapped; empty in older banks.
    """

    size: int
    sha256: str
    crc32c: str = ""


def file_entry(path: Path) -> FileEntry:
    """Size and hashes of a file.

    Raises:
        DamagedBankError: there is no such file.
    """
    sha, crc = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            for chunk in _chunks(file):
                sha.update(chunk)
                crc = crc32c.crc32c(chunk, crc)
            return FileEntry(os.fstat(file.fileno()).st_size, sha.hexdigest(), f"{crc:08x}")
    except OSError as error:
        raise _unreadable(path, error) from error


def check_size(path: Path, entry: FileEntry, fix: str = RESTORE) -> None:
    """Raises DamagedBankError where a file is missing or has another size."""
    found = path.stat().st_size if path.is_file() else None
    if found != entry.size:
        raise DamagedBankError(
            sentence(
                path, expected=f"{entry.size:,} bytes", found="no file" if found is None else f"{found:,} bytes",
                fix=fix,
            )
        )  # fmt: skip


def checked_file(path: Path, entry: FileEntry, fix: str = RESTORE) -> Path:
    """The path of a file whose checksum is the one that was published; `fix`: what to do where it is not.

    Raises:
        DamagedBankError: it is not.
    """
    check_size(path, entry, fix)
    expected, found = (entry.crc32c, _crc(path)) if entry.crc32c else (entry.sha256, file_entry(path).sha256)
    if found != expected:
        kind = "CRC32C" if entry.crc32c else "SHA-256"
        raise DamagedBankError(sentence(path, expected=f"{kind} {expected[:12]}", found=found[:12], fix=fix))
    return path


def damage_of(path: Path, entry: FileEntry) -> str | None:
    """What is wrong with a file by its size and SHA-256, in a sentence; None where nothing is."""
    try:
        if path.exists() and not path.is_file():  # a named pipe would be read for ever
            check_size(path, entry)
        found = file_entry(path)
    except DamagedBankError as error:
        return str(error)
    if found[:2] == entry[:2]:
        return None
    expected = f"{entry.size:,} bytes, SHA-256 {entry.sha256[:12]}…"
    return sentence(path, expected=expected, found=f"{found.size:,} bytes, {found.sha256[:12]}…")


def _crc(path: Path) -> str:
    crc = 0
    try:
        with open(path, "rb") as file:
            for chunk in _chunks(file):
                crc = crc32c.crc32c(chunk, crc)
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{crc:08x}"


def _chunks(file: BinaryIO) -> Iterator[memoryview]:
    """The bytes of a file, piece by piece in the same memory, small enough to stay in a cache."""
    room = memoryview(bytearray(_CHUNK))
    while count := file.readinto(room):  # type: ignore[attr-defined]
        yield room[:count]


def _unreadable(path: Path, error: OSError) -> DamagedBankError:
    return DamagedBankError(sentence(path, f"cannot be read ({error.strerror})", fix=RESTORE))
