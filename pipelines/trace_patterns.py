"""What gives a source away, and a search of a file's bytes for it."""

from __future__ import annotations

import html
import json
import mmap
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.records import hex_id
from ..storage.shard import blob_key

_WINDOW = 1 << 23  # bytes that are searched at a time
_KINDS = ("image", "layout", "depth")
_PREFIX = 4  # bytes by which a pattern is first looked up
SHOWN = 40
"""Hits of one kind in one file that are told apart."""


@dataclass(frozen=True)
class Traces:
    """By what sources are recognised: their names, the hashes of their bytes (hex), the ids of their segments."""

    names: frozenset[str]
    source_ids: frozenset[str] = frozenset()
    segment_ids: frozenset[int] = frozenset()

    @property
    def keys(self) -> list[bytes]:
        """Every key under which their values may lie in a shard's blobs."""
        found = [blob_key(kind, id) for id in sorted(self.source_ids) for kind in _KINDS]
        return found + [blob_key("segment", id) for id in sorted(self.segment_ids)]


class Patterns:
    """The byte strings that give a source away, looked up four bytes at a time.

    Args:
        traces: whose names (as they are, as JSON and as HTML write them), and ids, in binary form of either order and
            in hex.
        others: texts of the bank that hold one of these names or ids and mean something else, such as `a/1` in `a/10`.
    """

    def __init__(self, traces: Traces, others: Collection[str]) -> None:
        names = {form: name for name in traces.names for form in _forms(name)}
        ids = {form: f"segment {hex_id(id)}" for id in traces.segment_ids for form in _id_forms(id)}
        hashes = {form: f"source {id}" for id in traces.source_ids for form in (id.encode(), bytes.fromhex(id))}
        self._what = {**names, **ids, **hashes}
        self._short = [form for form in self._what if len(form) < _PREFIX]
        self._by_prefix: dict[int, list[bytes]] = {}
        for form in self._what:
            if len(form) >= _PREFIX:
                self._by_prefix.setdefault(int.from_bytes(form[:_PREFIX], "big"), []).append(form)
        self._prefixes = np.array(sorted(self._by_prefix), np.uint32)
        self._starts = np.zeros(1 << 16, np.bool_)
        self._starts[self._prefixes >> 16] = True
        self._longest = max(map(len, self._what), default=1)
        longer = {form for other in others for form in _forms(other)}
        self._excuses = {form: _places(form, longer) for form in self._what}

    def in_file(self, path: Path) -> list[str]:
        """What of it a file holds, each once."""
        data: Any
        if path.name.startswith("MANIFEST-"):
            data = _without_forgotten(path.read_bytes())
            return self._found(data)
        with open(path, "rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # an empty file cannot be mapped
                return []
            with data:
                return self._found(data)

    def _found(self, data: Any) -> list[str]:
        hits = {form for form, place in self._matches(data) if not self._is_excused(data, form, place)}
        return sorted({self._what[form] for form in hits})[:SHOWN]

    def _matches(self, data: Any) -> Iterator[tuple[bytes, int]]:
        """Every form with every place where it stands."""
        for first in range(0, len(data), _WINDOW):
            window = bytes(data[first : first + _WINDOW + self._longest - 1])
            for form in self._short:
                yield from ((form, first + at.start()) for at in re.finditer(re.escape(form), window))
            for at, prefix in self._candidates(window):
                for form in self._by_prefix[prefix]:
                    if window.startswith(form, at):
                        yield form, first + at

    def _candidates(self, window: bytes) -> Iterator[tuple[int, int]]:
        """Where one of the prefixes stands, and which."""
        codes = np.frombuffer(window, np.uint8)
        if len(codes) < _PREFIX or not len(self._prefixes):
            return
        pairs = _pairs(codes)
        at: npt.NDArray[np.int64] = np.flatnonzero(self._starts[pairs[:-2]])
        found = pairs[at].astype(np.uint32) << 16 | pairs[at + 2]
        right = np.isin(found, self._prefixes)
        yield from zip(at[right].tolist(), found[right].tolist(), strict=True)

    def _is_excused(self, data: Any, form: bytes, place: int) -> bool:
        return any(
            place >= before and data[place - before : place - before + len(other)] == other
            for other, before in self._excuses[form]
        )


def _pairs(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Each byte with the next one, as one number."""
    pairs = codes[:-1].astype(np.uint16)
    pairs <<= 8
    pairs |= codes[1:]
    return pairs


def _forms(text: str) -> set[bytes]:
    """How files may write a text: as it is, in JSON, in HTML."""
    written = {text, json.dumps(text)[1:-1], html.escape(text), html.escape(text, quote=False)}
    return {each.encode("utf-8", "surrogateescape") for each in written}


def _id_forms(id: int) -> tuple[bytes, bytes, bytes]:
    return id.to_bytes(8, "little"), id.to_bytes(8, "big"), hex_id(id).encode()


def _places(form: bytes, longer: Collection[bytes]) -> list[tuple[bytes, int]]:
    """Every other text in which a form stands, and where."""
    return [(other, at.start()) for other in longer for at in re.finditer(b"(?=" + re.escape(form) + b")", other)]


def _without_forgotten(data: bytes) -> bytes:
    """A manifest without its list of what was forgotten; as it is where it cannot be read."""
    try:
        row = json.loads(data)
        row.pop("forgotten", None)
        return json.dumps(row).encode()
    except (ValueError, AttributeError):
        return data
