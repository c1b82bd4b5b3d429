"""GTA5: frames of a computer game with label maps in the classes of Cityscapes.

Layout, palette and split are those of the authors' archives and scripts (Richter et al., "Playing for Data", ECCV
2016): label maps are palette pictures whose indices are Cityscapes ids, 34 the licence plate; `split.mat` holds
`trainIds`, `valIds` and `testIds`, the numbers of the frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from ...storage.classes import Colour
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import picture_size
from .base import EncodedSource, Problem, SourceRef
from .cityscapes import CLASSES, LABELS, VOID_IDS
from .encoding import png_of
from .listing import PairedFiles, Section, contents

LICENCE_PLATE = 34
_PALETTE: tuple[Colour, ...] = (*(label.colour for label in LABELS), (0, 0, 142))
"""The colours of the indices 0 to 34 in the published label maps."""

PALETTE: dict[Colour, int] = {label.colour: 0 for label in LABELS if label.train_id == 255} | {
    entry.colour: entry.id for entry in CLASSES
}
"""RGB to id, for copies that hold colours: a pole also has the colour of pole groups, a car that of licence plates."""

FRAMES_PER_GROUP = 25
_SPLIT_FILES = ("split.mat", "read_mapping/split.mat")


class Gta5(PairedFiles):
    """`images/NNNNN.png` and `labels/NNNNN.png`, with `split.mat` beside them or in `read_mapping/`.

    A label map with another palette than the published one, or with RGB colours, is read by its colours. Without
    `split.mat` every frame trains. Frames come in the order of the drives: 25 share a group. The archives hold some
    pairs of different sizes; they are rejects.
    """

    kind = "gta5"
    expects = "images/NNNNN.png and labels/NNNNN.png, and split.mat there or in read_mapping/"
    neighbours = True  # frames are numbered as they were driven; groups of 25 cut through drives

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        self.licence = self.licence or "for research and education (Playing for Data, download.visinf.tu-darmstadt.de)"

    @cached_property
    def decoding(self) -> Decoding:
        """The 19 classes of Cityscapes by index or colour."""
        return Decoding(CLASSES, VOID_IDS | {LICENCE_PLATE}, PALETTE)

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source; a label map with a palette of its own as RGB.

        Raises:
            SourceError: see `Dataset.read`; `unreadable-label`.
        """
        encoded = super().read(ref)
        assert encoded.layout is not None  # labelled, so `read` has refused its absence
        return replace(encoded, layout=_with_official_indices(encoded.layout, self.root / str(ref.layout)))

    def ignored(self) -> Sequence[Problem]:
        """Also frames that `split.mat` does not name, as one line, and its absence."""
        known = self._placing
        unplaced = [ref.name for ref in self.sources() if ref.name not in known]
        if not unplaced:
            return super().ignored()
        what = f"{len(unplaced):,} of the frames are in none of its lists" if known else "is not there"
        said = sentence(self.root / _SPLIT_FILES[0], f"{what}: they train", fix="unpack read_mapping.zip")
        return [*super().ignored(), Problem(_SPLIT_FILES[0], "no-split", said)]

    def _sections(self) -> Sequence[Section]:
        if missing := [folder for folder in ("images", "labels") if not (self.root / folder).is_dir()]:
            raise self._nothing(f"no {' and no '.join(f'{folder}/' for folder in missing)} in {contents(self.root)}")
        return [Section("images", "labels")]

    def _name_fault(self, name: str) -> str:
        if name.isascii() and name.isdigit():
            return ""
        return sentence(
            self.root / "images" / name, expected="a frame named by its number, such as 00001.png", found=repr(name),
            fix="rename it: its number gives it its group and split",
        )  # fmt: skip

    def _splits_and_groups(self, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        groups = {name: str(int(name) // FRAMES_PER_GROUP) if name.isdigit() else name for name in names}
        return {name: (self._placing.get(name, "train"), groups[name]) for name in names}

    @cached_property
    def _placing(self) -> Mapping[str, str]:
        """Name to split as `split.mat` says; empty without it."""
        path = next((self.root / file for file in _SPLIT_FILES if (self.root / file).is_file()), None)
        if path is None:
            return {}
        from scipy.io import loadmat

        try:
            data: Any = io.BytesIO(path.read_bytes())
            lists = loadmat(data, variable_names=[f"{part}Ids" for part in _PARTS])
            numbers = {part: [int(number) for number in lists[f"{part}Ids"].ravel()] for part in _PARTS}
        except Exception as error:  # the reader raises many kinds on what is no such file
            raise DatasetError(
                sentence(path, expected="trainIds, valIds and testIds", found=f"{type(error).__name__} {error}",
                         fix="unpack read_mapping.zip again")
            ) from error  # fmt: skip
        return {f"{number:05d}": part for part in _PARTS for number in numbers[part]}


_PARTS = ("train", "val", "test")


def _with_official_indices(data: bytes, name: Path) -> bytes:
    """The label map as it is where its indices are those of the published palette, or it has none; else as RGB."""
    picture_size(data, name, "unreadable-label")  # refuses bombs and what is no picture
    try:
        picture = Image.open(io.BytesIO(data))
        if picture.mode != "P":
            return data
        palette = picture.getpalette("RGB") or []
        published = [value for colour in _PALETTE for value in colour]
        shared = min(len(palette), len(published))
        return data if palette[:shared] == published[:shared] else png_of(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        said = sentence(name, f"cannot be decoded ({error})", fix="replace the file: it is cut short or damaged")
        raise SourceError("unreadable-label", said) from error
