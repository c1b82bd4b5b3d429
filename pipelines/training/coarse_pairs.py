"""Coarse layouts that annotators drew of sources whose dense ones a bank holds: those of a second bank, by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...index.batch import in_order, usable_cores
from ...storage.classes import Layout, lookup_table
from ...storage.errors import InputError, sentence
from ...storage.layouts import sample_to_frame
from ...storage.reader import Reader, content_of
from ..progress import Progress, silent
from .caches import kept_or_made, made_whole
from .sources import BankSources

MOST_KEPT = 1 << 30
"""Bytes of layouts that are kept; those beyond are decoded whenever they are asked for."""
_FILE = "layouts.npy"


class CoarseBank:
    """A bank of coarse layouts beside the one of dense ones. Pickles to a process that opens it anew.

    Args:
        path: its folder; dense: the other bank.

    Attributes:
        reader: of it; source_ids: of its labelled sources, by name.
        classes: names of the classes that both banks have; to_dense: `(65536,)` uint16, class id to that of the dense
            bank, `VOID` for all others.

    Raises:
        BankError: it is no bank, or a damaged one.
        InputError: it keeps no sources, has no layouts, or no class of the dense bank.
    """

    def __init__(self, path: str | Path, dense: Reader) -> None:
        self.reader = Reader(path)
        folder = self.reader.path
        if self.reader.manifest.settings.get("keep_sources") is False:
            raise InputError(sentence(folder, "keeps no sources", fix="rebuild it without --no-keep-sources"))
        self.source_ids = labelled_ids(self.reader)
        if not self.source_ids:
            raise InputError(sentence(folder, expected="coarse layouts", found="no labelled sources"))
        ids = {entry.name: entry.id for entry in dense.classes}
        own = [entry for entry in self.reader.classes if entry.name in ids]
        if not own:
            expected, found = _examples(dense, list(ids), "classes", [each.name for each in self.reader.classes])
            raise InputError(sentence(folder, expected=expected, found=found))
        self.classes = [entry.name for entry in own]
        self.to_dense = lookup_table({entry.id: ids[entry.name] for entry in own})

    @cached_property
    def identity(self) -> str:
        """Name of its folder, and 32 hex digits over all that it holds and what its classes are called."""
        classes = json.dumps([(entry.id, entry.name) for entry in self.reader.classes])
        digest = hashlib.blake2b(f"{content_of(self.reader)} {classes}".encode(), digest_size=16).hexdigest()
        return f"{self.reader.path.name} {digest}"


class Partners:
    """The coarse layouts of some sources at their size, in the dense bank's ids. Pickles to another process.

    Args:
        bank: of coarse layouts; sources: of the dense ones; names: of those that have a partner there.
        cache: a folder; what is decoded is kept there, mapped into memory. None decodes whenever one is asked for.
        progress: told while the cache is filled.
    """

    def __init__(
        self,
        bank: CoarseBank,
        sources: BankSources,
        names: Collection[str],
        *,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        self.bank, self.size, self.cache, self._progress = bank, sources.size, cache, progress
        numbers = [number for number, name in enumerate(sources.names) if name in names]
        self.names = [sources.names[number] for number in numbers]
        self._place = {number: place for place, number in enumerate(numbers)}
        self._n_kept = min(len(numbers), MOST_KEPT // (2 * self.size[0] * self.size[1]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name != "_mapped"} | {"_progress": silent}

    def __len__(self) -> int:
        """How many sources have one."""
        return len(self.names)

    def layout(self, number: int) -> Layout | None:
        """What was drawn of a source, `(rows, cols)` uint16, an array of the caller's own; None where nothing was.

        Args:
            number: of the source in the dense ones.

        Raises:
            BankError: the bank is damaged.
        """
        place = self._place.get(number)
        if place is None:
            return None
        kept = self.cache is not None and place < self._n_kept
        found: Layout = self.bank.to_dense[self._mapped[place] if kept else self._decoded(place)]
        return found

    def prepare(self) -> None:
        """Fills the cache now, where there is one.

        Raises:
            BankError: the bank is damaged. InputError: the folder cannot be written.
        """
        if self.cache is not None and self._n_kept:
            _ = self._mapped

    @cached_property
    def _mapped(self) -> npt.NDArray[np.uint16]:
        """`(n, rows, cols)`, in the coarse bank's own ids."""
        assert self.cache is not None
        named = f"{self._stem}-{_digest(*self.names)}-{self.size[0]}x{self.size[1]}-{self._n_kept}"
        return kept_or_made(self.cache / named, _load, self._make)

    @property
    def _stem(self) -> str:
        """How the names of what is cached of the bank begin."""
        path, content = str(self.bank.reader.path), self.bank.identity
        return f"coarse-{_digest(path)}-{_digest(content)}"

    def _make(self, folder: Path) -> None:
        with made_whole(folder) as temporary, (temporary / _FILE).open("wb") as file:
            header = {"descr": "<u2", "fortran_order": False, "shape": (self._n_kept, *self.size)}
            np.lib.format.write_array_header_1_0(file, header)
            for done, layout in enumerate(in_order(self._decoded, range(self._n_kept), usable_cores()), 1):
                file.write(np.asarray(layout, "<u2").tobytes())
                self._progress(done, self._n_kept, "decoding coarse layouts")
        assert self.cache is not None
        bank = self._stem.rpartition("-")[0]
        for stale in self.cache.glob(f"{bank}-*"):  # as it was before it changed
            if not stale.name.startswith(f"{self._stem}-"):
                shutil.rmtree(stale, ignore_errors=True)

    def _decoded(self, place: int) -> Layout:
        return np.asarray(sample_to_frame(self.bank.reader.layout(self.names[place]), self.size), np.uint16)


def partners_of(
    bank: CoarseBank,
    several: Sequence[BankSources],
    *,
    cache: Path | None = None,
    progress: Progress = silent,
) -> list[Partners]:
    """Of several sets of sources of one bank, those that have a partner each.

    A source whose files are the same in both banks has none.

    Args:
        bank: of coarse layouts; several: of dense ones, at least one; else see `Partners`.

    Raises:
        InputError: none of all these sources has one.
    """
    dense = several[0].reader
    names = [name for sources in several for name in sources.names]
    common = [name for name in names if name in bank.source_ids]
    if not common:
        expected, found = _examples(dense, names, "sources", list(bank.source_ids))
        fix = "rebuild it from the same data set with its coarse labels"
        raise InputError(sentence(bank.reader.path, expected=expected, found=found, fix=fix))
    own = labelled_ids(dense)
    other = {name for name in common if bank.source_ids[name] != own[name]}
    if not other:
        expected = f"other layouts than those of {dense.path.name}"
        raise InputError(sentence(bank.reader.path, expected=expected, found="the same ones"))
    return [Partners(bank, sources, other, cache=cache, progress=progress) for sources in several]


def drawn(partners: Partners | None, number: int) -> Layout | None:
    """What was drawn of a source by its number, see `Partners.layout`; None where nothing was, or there is no bank."""
    return None if partners is None else partners.layout(number)


def labelled_ids(reader: Reader) -> Mapping[str, str]:
    """Name to source id of the sources that have a layout."""
    rows = reader.table("sources", None, ["source", "source_id", "layout"]).to_pylist()
    return {row["source"]: row["source_id"] for row in rows if row["layout"] is not None}


def _examples(dense: Reader, wanted: Sequence[str], what: str, there: Sequence[str]) -> tuple[str, str]:
    """What is expected and found where names have nothing in common, with one of each."""
    return f"{what} of {dense.path.name}, such as {min(wanted)!r}", f"only others, such as {min(there)!r}"


def _load(folder: Path) -> npt.NDArray[np.uint16]:
    layouts: npt.NDArray[np.uint16] = np.load(folder / _FILE, mmap_mode="r")
    return layouts


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()
