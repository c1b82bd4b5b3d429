"""Where the members of a tar file lie: reads headers alone, seeks over payloads, extracts nothing.

Written against POSIX.1-2001 (ustar and pax), the GNU manual's "Basic Tar Format", and the old V7 form. The standard
library's `tarfile` stops without a word at a damaged header behind the first, and reads a pax header of any size.
"""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

BLOCK = 512
MAX_EXTENDED = 1 << 20
"""Bytes of a pax header or a GNU long name; longer ones are taken for damage."""

_FILES = {b"0", b"\0", b"7"}
_EXTENDED = {b"x": "pax", b"g": "global", b"L": "name", b"K": "link"}
_OTHERS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"M": "the rest of a file in another volume",
}
_WITHOUT_PAYLOAD = {b"1", b"2", b"3", b"4", b"5", b"6"}
_UNSAFE = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)")


class Member(NamedTuple):
    """One member of a tar file.

    Attributes:
        name: a key, never a path; what is no printable UTF-8 is shown as escapes.
        offset, size: where its payload lies, bytes.
        fault: `(reason, what it is)` where it cannot be used: `unsafe-name`, `unsafe-member` or `unreadable-name`.
    """

    name: str
    offset: int
    size: int
    fault: tuple[str, str] | None = None


class Damage(NamedTuple):
    """Where a tar file stops being one: nothing behind `offset` was read."""

    offset: int
    what: str


def index_tar(file: BinaryIO, size: int) -> tuple[list[Member], Damage | None]:
    """Every whole member of a tar file, directories left out, and what is wrong with the rest.

    Args:
        file: seekable, opened for reading.
        size: of the file, bytes.
    """
    members: list[Member] = []
    offset, extended = 0, _Extended()
    while True:
        file.seek(offset)
        block = file.read(BLOCK)
        if not block and not extended.known:
            return members, Damage(offset, "it lacks the empty blocks that end one" if offset else "it is empty")
        if len(block) < BLOCK:
            return members, Damage(offset, "it is cut short")
        if not block.strip(b"\0"):
            return members, _behind_the_end(file, offset)
        try:
            kind, name, length = _header(block)
            if kind in _EXTENDED:
                offset = extended.read(file, _EXTENDED[kind], offset, length, size)
                continue
            name, length = extended.name or name, extended.size if extended.size is not None else length
        except _Damaged as error:
            return members, Damage(offset, str(error))
        payload = offset + BLOCK
        if kind in _WITHOUT_PAYLOAD:
            length = 0
        if payload + length > size:
            return members, Damage(offset, f"it is cut short within {_printable(name)[0]}")
        if not (kind == b"5" or (kind in _FILES and name.endswith(b"/"))):
            what = "a sparse file" if extended.sparse else _OTHERS.get(kind, "" if kind in _FILES else "no plain file")
            members.append(_member(name, payload, length, what))
        offset = payload + _padded(length)
        if extended.known:
            extended = _Extended()


class _Damaged(Exception):
    """A header that is none."""


class _Extended:
    """What the headers in front of a member say of it: a long name, a size of more than 8 GiB."""

    def __init__(self) -> None:
        self.known, self.sparse = False, False
        self.name: bytes = b""
        self.size: int | None = None

    def read(self, file: BinaryIO, what: str, offset: int, length: int, size: int) -> int:
        """Takes in one such header and gives the offset behind it."""
        if length > MAX_EXTENDED or offset + BLOCK + length > size:
            raise _Damaged("it is cut short" if length <= MAX_EXTENDED else f"a header of {length:,} bytes")
        data = file.read(length)
        self.known = self.known or what != "global"
        if what == "name":
            self.name = data.rstrip(b"\0")
        elif what != "link":
            self._records(data, what == "global")
        return offset + BLOCK + _padded(length)

    def _records(self, data: bytes, everywhere: bool) -> None:
        while data.strip(b"\0"):
            length, space, _ = data.partition(b" ")
            end = int(length) if space and length.isdigit() and len(length) < 8 else 0
            key, equals, value = data[len(length) + 1 : end - 1].partition(b"=")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                raise _Damaged("a pax header that cannot be read")
            if everywhere and key in (b"path", b"size"):
                raise _Damaged("a pax header that names every member alike")
            if key == b"path":
                self.name = value
            elif key == b"size":
                self.size = _digits(value, 10)
            elif key.startswith(b"GNU.sparse"):
                self.sparse = True
            data = data[end:]


def _header(block: bytes) -> tuple[bytes, bytes, int]:
    """Type flag, name and payload length of one header block; its checksum must hold."""
    if sum(block) - sum(block[148:156]) + 8 * 32 != _digits(block[148:156].strip(b" \0"), 8):
        raise _Damaged("a header whose checksum does not hold")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345] != 0:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    field = block[124:136]
    if field[0] == 0x80:  # base 256, for 8 GiB and more
        return block[156:157], name, int.from_bytes(field[1:], "big")
    return block[156:157], name, _digits(field.strip(b" \0") or b"0", 8)


def _digits(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise _Damaged("a header with a field that is no number")
    return number


def _member(raw: bytes, offset: int, size: int, what: str) -> Member:
    while raw.startswith(b"./"):
        raw = raw[2:]
    name, readable = _printable(raw)
    fault = None
    if _UNSAFE.search(raw.decode("utf-8", "replace")):  # what stands for a byte that is no UTF-8 begins like a path
        fault = "unsafe-name", "a name that leads out of the archive"
    elif what:
        fault = "unsafe-member", what
    elif not readable or not name:
        fault = "unreadable-name", "a name that is no printable UTF-8"
    return Member(name, offset, size, fault)


def _printable(raw: bytes) -> tuple[str, bool]:
    """A name as text, and whether it came as that."""
    text = raw.decode("utf-8", "backslashreplace")
    shown = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown, shown.encode() == raw


def _behind_the_end(file: BinaryIO, offset: int) -> Damage | None:
    """Archives written one behind the other: the first one's end hides the others."""
    if file.read(1 << 16).strip(b"\0"):
        return Damage(offset, "more data behind its end mark")
    return None


def _padded(length: int) -> int:
    return (length + BLOCK - 1) // BLOCK * BLOCK
