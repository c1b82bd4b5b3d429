"""Data sets of files in parallel folders: images, label maps and depth maps that share their names."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ...storage.errors import DatasetError, sentence
from .base import Dataset, Problem, SourceRef
from .files import FileInfo, list_files

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
"""Suffixes taken for pictures, in lower case."""
ARRAYS = frozenset({".npy", ".pfm", ".h5", ".hdf5"})
"""Suffixes of depth maps that hold numbers with a unit of their own: metres."""
DEPTHS = PICTURES | ARRAYS
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Section:
    """Parallel folders of a data set, relative to its root; `prefix` stands before the names of their sources."""

    images: str
    labels: str
    depths: str | None = None
    prefix: str = ""


class PairedFiles(Dataset):
    """A data set whose images, label maps and depth maps are files of equal names in parallel folders.

    A source is named by its path below the images' folder, without suffix. Two files of one kind and name make
    the source a reject (`duplicate-name`), whichever would have been right; nothing is chosen silently.
    """

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        self.licence = _licence(self.root)

    def sources(self) -> Sequence[SourceRef]:
        """Every source by name; see `Dataset.sources`."""
        return self._listing[0]

    def ignored(self) -> Sequence[Problem]:
        """Hidden files, files that are no pictures, depth maps without a source."""
        return self._listing[1]

    @abstractmethod
    def _sections(self) -> Sequence[Section]:
        """The folders to list.

        Raises:
            DatasetError: the root does not hold them.
        """

    @abstractmethod
    def _splits_and_groups(self, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        """Split and group of every source, `names` sorted."""

    def _label_name(self, name: str) -> str:
        """The name of the source that a label map of this name belongs to."""
        return name

    def _name_fault(self, name: str) -> str:
        """What is wrong with a source's name; empty where nothing is."""
        return ""

    @cached_property
    def _listing(self) -> tuple[tuple[SourceRef, ...], tuple[Problem, ...]]:
        found: dict[str, _Files] = {}
        ignored: list[Problem] = []
        for section in self._sections():
            self._list(section, "image", section.images, found, ignored)
            self._list(section, "layout", section.labels, found, ignored)
            if section.depths and (self.root / section.depths).is_dir():
                self._list(section, "depth", section.depths, found, ignored)
        for name in [name for name, files in found.items() if not files.image and not files.layout]:
            ignored += [self._stray_depth(file.path) for file in found.pop(name).depth]
        if not found:
            raise self._nothing(f"no picture in {self._folders()}")
        placed = self._splits_and_groups(sorted(found))
        refs = tuple(self._ref(name, found[name], *placed[name]) for name in sorted(found))
        return refs, tuple(sorted(ignored, key=lambda problem: problem.file))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed or derived: a worker is sent a root and settings, not a million names."""
        derived = {"_listing", "_placing", "decoding"}
        return {key: value for key, value in self.__dict__.items() if key not in derived}

    def _list(self, section: Section, kind: str, folder: str, found: dict[str, _Files], ignored: list[Problem]) -> None:
        suffixes = DEPTHS if kind == "depth" else PICTURES
        start = len(folder) + 1
        for file in list_files(self.root, folder):
            dot = file.path.rfind(".", file.path.rfind("/") + 1)
            stem, suffix = (file.path[:dot], file.path[dot:]) if dot >= 0 else (file.path, "")
            if reason := _why_ignored(file, suffix, suffixes):
                said = sentence(self.root / file.path, f"is left out ({reason})", fix="remove it")
                ignored.append(Problem(file.path, reason, said))
                continue
            name = section.prefix + (self._label_name(stem[start:]) if kind == "layout" else stem[start:])
            files = found.get(name)
            if files is None:
                files = found[name] = _Files()
            setattr(files, kind, (*getattr(files, kind), file))

    def _ref(self, name: str, files: _Files, split: str, group: str) -> SourceRef:
        if (unreadable := unreadable_name(self.root, name)) is not None:
            return unreadable
        kinds = [next(iter(found), None) for found in (files.image, files.layout, files.depth)]
        image, layout, depth = (file and file.path for file in kinds)
        stamp = " ".join([file.stamp for file in kinds if file])
        return SourceRef(name, split, group, image, layout, depth, self._fault(name, files), None, stamp)

    def _fault(self, name: str, files: _Files) -> tuple[str, str] | None:
        for same in (files.image, files.layout, files.depth):
            if len(same) > 1:
                said = sentence(
                    self.root / same[0].path,
                    expected="one file of this name",
                    found=f"also {', '.join(PurePosixPath(file.path).name for file in same[1:])}",
                    fix="keep one of them or rename the others",
                )
                return "duplicate-name", said
        wrong = self._name_fault(name)
        return ("unexpected-name", wrong) if wrong else None

    def _stray_depth(self, path: str) -> Problem:
        said = sentence(self.root / path, "is a depth map without image and label map", fix="remove it or add them")
        return Problem(path, "depth-without-source", said)

    def _nothing(self, found: str) -> DatasetError:
        """The refusal of a root that does not hold what it should."""
        fix = "check the path" if "no picture" not in found else "put the photographs and label maps there"
        return DatasetError(sentence(f"{self.kind}:{self.root}", expected=self.expects, found=found, fix=fix))

    def _folders(self) -> str:
        return " or ".join(f"{folder}/" for s in self._sections() for folder in (s.images, s.labels))


class _Files:
    """The files that share one name."""

    __slots__ = ("depth", "image", "layout")

    def __init__(self) -> None:
        self.image: tuple[FileInfo, ...] = ()
        self.layout: tuple[FileInfo, ...] = ()
        self.depth: tuple[FileInfo, ...] = ()


def contents(folder: Path) -> str:
    """What a folder holds, for messages."""
    if not folder.is_dir():
        return "a file"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"a folder that holds {', '.join(names[:6])}{more}"


def _why_ignored(file: FileInfo, suffix: str, suffixes: frozenset[str]) -> str:
    if file.path.startswith(".", file.path.rfind("/") + 1):
        return "hidden-file"
    if suffix.lower() not in suffixes:
        return "not-a-picture"
    return "" if file.regular else "not-a-file"


def unreadable_name(root: Path, name: str) -> SourceRef | None:
    """The source that stands for one whose name cannot be printed, and is a reject for it; None where it can be."""
    shown = printable(name)
    if shown == name:
        return None
    said = sentence(
        root / shown, expected="a file name of printable UTF-8", found="other bytes in it", fix="rename the file"
    )
    return SourceRef(shown, "train", shown, None, None, None, ("unreadable-name", said))


def printable(name: str) -> str:
    """A file name as text; bytes that are no UTF-8 and characters that control a terminal are shown as escapes."""
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _licence(root: Path) -> str | None:
    """The first line of a licence file in the root."""
    for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md"):
        if (root / name).is_file():
            lines = (root / name).read_text("utf-8", errors="replace").splitlines()
            return next((line.strip(" #\t") for line in lines if line.strip(" #\t")), None)
    return None
