"""Data of one's own: `images/`, `labels/` and, if there are any, `depths/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, sentence
from .base import Problem
from .classfile import find_class_file, read_depth_file, read_rows
from .files import list_files
from .listing import ARRAYS, DEPTHS, SPLITS, PairedFiles, Section, contents

MILLIMETRE = 0.001


class Folder(PairedFiles):
    """`images/`, `labels/` and optional `depths/`; partners have the same path below them, without suffix.

    Label maps hold indices, or RGB where the class file gives colours (see `classfile`); without a class file ids are
    their own names and 255 is void. `sources.csv` (name, split, group) says where sources belong; else the first folder
    below `images/` is the split where it is called train, val or test, else `train`; a source is its own group. Depth
    maps are pictures in millimetres or arrays (`.npy`, `.pfm`, `.h5`) in metres, unless `depth.yaml` or the class file
    gives `metres_per_unit`; `depth.yaml` may say that they are disparities (`read_depth_file`). The first line of a
    `LICENSE` is the licence.
    """

    kind = "folder"
    expects = "images/ and labels/ with files of the same names, and if there is depth depths/"

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        self._classes = find_class_file(self.root)
        metres, self._stereo = read_depth_file(self.root / "depth.yaml")
        self._metres = metres or self._classes.metres_per_unit

    @cached_property
    def decoding(self) -> Decoding:
        """What the class file says; the depth unit from `metres_per_unit`, else from the first depth map's suffix."""
        metres = self._metres
        if metres is None:
            first = next(self._depth_files(), None)
            metres = 1.0 if first is not None and first.suffix.lower() in ARRAYS else MILLIMETRE
        classes = self._classes
        return Decoding(classes.classes, classes.void, classes.palette, metres, stereo=self._stereo)

    def ignored(self) -> Sequence[Problem]:
        """Also the rows of `sources.csv` that name no source."""
        known = {ref.name for ref in self.sources()}
        path = self.root / "sources.csv"
        strays = [
            Problem(
                path.name,
                "unknown-source",
                sentence(path, expected="names of sources", found=repr(name), fix="correct or remove the row"),
            )
            for name in self._placing
            if name not in known
        ]
        return [*super().ignored(), *strays]

    def _depth_files(self) -> Iterator[PurePosixPath]:
        """Every depth map, one after the other: a worker looks at the first alone."""
        for file in list_files(self.root, "depths") if (self.root / "depths").is_dir() else ():
            path = PurePosixPath(file.path)
            if path.suffix.lower() in DEPTHS and not path.name.startswith("."):
                yield path

    def _sections(self) -> Sequence[Section]:
        missing = [folder for folder in ("images", "labels") if not (self.root / folder).is_dir()]
        if missing:
            raise self._nothing(contents(self.root))
        if self._metres is None and self._stereo is None:
            self._refuse_mixed_units()
        return [Section("images", "labels", "depths")]

    def _refuse_mixed_units(self) -> None:
        arrays = {path.suffix.lower() in ARRAYS for path in self._depth_files()}
        if len(arrays) > 1:
            raise DatasetError(
                sentence(
                    self.root / "depths",
                    expected="depth maps of one unit",
                    found="pictures (millimetres) and arrays (metres)",
                    fix="convert one of them, or write metres_per_unit into depth.yaml",
                )
            )

    def _splits_and_groups(self, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        placed = {}
        for name in names:
            first, below, _ = name.partition("/")
            split, group = self._placing.get(name, ("", ""))
            placed[name] = split or (first if below and first in SPLITS else "train"), group or name
        return placed

    @cached_property
    def _placing(self) -> Mapping[str, tuple[str, str]]:
        """Name to split and group as `sources.csv` gives them, empty where it leaves a cell empty."""
        path = self.root / "sources.csv"
        placing: dict[str, tuple[str, str]] = {}
        for row in read_rows(path) if path.is_file() else ():
            name, split = row.get("name", ""), row.get("split", "")
            if not name or name in placing or split not in ("", *SPLITS):
                raise DatasetError(
                    sentence(
                        path,
                        expected=f"every name once, and a split of {', '.join(SPLITS)} or none",
                        found=f"name {name!r} with split {split!r}" + " a second time" * (name in placing),
                        fix="correct the row",
                    )
                )
            placing[name] = split, row.get("group", "")
        return placing
