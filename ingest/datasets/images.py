"""Photographs without label maps: any folder of them, CelebA, CompCars and Oxford's flowers; key patches only."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, sentence
from .base import Problem
from .listing import PICTURES, contents
from .named import Files, NamedFiles, Part
from .shards import split_word


class Images(NamedFiles):
    """Every picture below the root, in folders however deep; a source is its path without suffix.

    The first folder is the split where it is called train, val or test (or training, validation and so on), else
    `train`; a source is its own group, or with `group=folder` its folder is.
    """

    kind = "images"
    expects = "photographs, in subfolders if you like"
    labelled = False
    knows: ClassVar[Mapping[str, str]] = {"group": "folder, for pictures of one folder that look alike"}

    @cached_property
    def decoding(self) -> Decoding:
        """No classes: nothing is labelled."""
        return Decoding((), frozenset())

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed or derived."""
        derived = {"_below", "_placing"}
        return {key: value for key, value in super().__getstate__().items() if key not in derived}

    @cached_property
    def _below(self) -> str:
        """The folder of the photographs, relative to the root; empty for the root itself."""
        return ""

    def _folders(self) -> Sequence[str]:
        if not self.root.is_dir():
            raise self._refusal("a file")
        if self.options.get("group", "folder") != "folder":
            raise self._refusal(f"group={self.options['group']}")
        return [self._below]

    def _part(self, path: str) -> Part | None:
        name, suffix = os.path.splitext(path)
        inner = name[len(self._below) + 1 :] if self._below else name
        return Part("image", inner) if suffix.lower() in PICTURES else None

    def _split_and_group(self, name: str) -> tuple[str, str]:
        first, slash, _ = name.partition("/")
        folder = name.rpartition("/")[0]
        split = (split_word(first) if slash else None) or "train"
        return split, folder if folder and "group" in self.options else name


class PlacedImages(Images):
    """Photographs whose splits or groups a published file lists."""

    knows: ClassVar[Mapping[str, str]] = {}
    folders: ClassVar[tuple[str, ...]]
    """Where the photographs lie; the first that is there is taken."""

    @cached_property
    def _below(self) -> str:
        for folder in self.folders:
            if (self.root / folder).is_dir():
                return folder
        raise self._refusal(f"no {self.folders[0]}/ in {contents(self.root)}")

    @property
    @abstractmethod
    def _placing(self) -> Mapping[str, tuple[str, str]]:
        """Name of a source to split and group, empty where the files do not say."""

    def ignored(self) -> Sequence[Problem]:
        """Also how many sources the lists name that are not there."""
        listed = {name for name, (split, _) in self._placing.items() if split}
        absent = (listed or set(self._placing)) - {ref.name for ref in self.sources()}
        if not absent:
            return super().ignored()
        said = f"{len(absent):,} photographs that the lists name are not there"
        problem = Problem(min(absent), "unknown-source", sentence(self.root, said, found=f"the first is {min(absent)}"))
        return [*super().ignored(), problem]

    def _split_and_group(self, name: str) -> tuple[str, str]:
        split, group = self._placing.get(name, ("", ""))
        return split or "train", group or name

    def _text(self, *paths: str) -> str | None:
        """The first of these files that is there."""
        for path in paths:
            if (self.root / path).is_file():
                return (self.root / path).read_text("utf-8-sig", errors="replace")
        return None

    def _bad_line(self, file: str, line: object, expected: str) -> DatasetError:
        return DatasetError(sentence(self.root / file, expected=expected, found=repr(line), fix="fetch it again"))


class CelebA(PlacedImages):
    """CelebA: `img_align_celeba/000001.jpg`; splits and identities from its text files, in the root, `Eval/`, `Anno/`.

    `list_eval_partition.txt` has lines `000001.jpg 0` (0 train, 1 val, 2 test); what it does not list is left out.
    `identity_CelebA.txt` has lines `000001.jpg 2880`: one identity, one group. (The data set's README; Liu et al.,
    ICCV 2015.)
    """

    kind = "celeba"
    expects = "img_align_celeba/000001.jpg, and if there are any list_eval_partition.txt and identity_CelebA.txt"
    licence = "CelebA agreement: non-commercial research"
    folders = (
        "img_align_celeba", "Img/img_align_celeba", "img_align_celeba/img_align_celeba", "img_celeba", "Img/img_celeba",
    )  # fmt: skip
    _PARTITION, _IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"

    @cached_property
    def _placing(self) -> Mapping[str, tuple[str, str]]:
        splits = self._pairs(self._PARTITION, "Eval")
        groups = self._pairs(self._IDENTITY, "Anno")
        if strange := next((item for item in splits.items() if item[1] not in "012"), None):
            raise self._bad_line(self._PARTITION, " ".join(strange), "lines such as 000001.jpg 0, with 0, 1 or 2")
        words = {"0": "train", "1": "val", "2": "test", "": ""}
        return {name: (words[splits.get(name, "")], groups.get(name, "")) for name in {**splits, **groups}}

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        if not any(split for split, _ in self._placing.values()):
            return {}
        return {
            name: f"{self._PARTITION} does not list them" for name in found if not self._placing.get(name, ("", ""))[0]
        }

    def _pairs(self, file: str, folder: str) -> dict[str, str]:
        """Name without suffix to the word behind it."""
        pairs = {}
        for line in (self._text(file, f"{folder}/{file}") or "").splitlines():
            words = line.split()
            if len(words) not in (0, 2):
                raise self._bad_line(file, line, "two words a line, such as 000001.jpg 0")
            if words:
                pairs[os.path.splitext(words[0])[0]] = words[1]
        return pairs


class CompCars(PlacedImages):
    """CompCars: `image/MAKE/MODEL/YEAR/x.jpg`, in the root or in `data/`; a model is a group.

    Of the lists in `train_test_split/classification/`, `test.txt` makes the split `test`; all else is `train`. Lines
    are paths below `image/`. (The data set's README; Yang et al., CVPR 2015.)
    """

    kind = "compcars"
    expects = "image/MAKE/MODEL/YEAR/*.jpg, and if there are any train_test_split/classification/train.txt and test.txt"
    licence = "CompCars agreement: non-commercial research"
    folders = ("image", "data/image")

    @cached_property
    def _placing(self) -> Mapping[str, tuple[str, str]]:
        placing: dict[str, tuple[str, str]] = {}
        for split in ("train", "test"):
            file = f"train_test_split/classification/{split}.txt"
            for line in filter(None, map(str.strip, (self._text(file, f"data/{file}") or "").splitlines())):
                name = os.path.splitext(line)[0]
                if placing.setdefault(name, (split, _model(name)))[0] != split:
                    raise self._bad_line(file, line, "a photograph in one of the two lists")
        return placing

    def _split_and_group(self, name: str) -> tuple[str, str]:
        return self._placing.get(name, ("train", ""))[0], _model(name)


class Flowers(PlacedImages):
    """Oxford's 102 flowers: `jpg/image_00001.jpg`; splits from `setid.mat`, groups (species) from `imagelabels.mat`.

    `setid.mat` holds `trnid`, `valid` and `tstid`, numbers of photographs from 1; `imagelabels.mat` holds `labels`, one
    species a photograph from 1. What no split lists is left out. (The data set's page; Nilsback and Zisserman, 2008.)
    """

    kind = "flowers"
    expects = "jpg/image_00001.jpg, and if there are any setid.mat and imagelabels.mat"
    folders = ("jpg",)
    _SETS: ClassVar[Mapping[str, str]] = {"trnid": "train", "valid": "val", "tstid": "test"}

    @cached_property
    def _placing(self) -> Mapping[str, tuple[str, str]]:
        splits: dict[int, str] = {}
        for key, split in self._SETS.items():
            for number in self._numbers("setid.mat", key):
                if splits.setdefault(number, split) != split:
                    raise self._bad_line("setid.mat", number, "every photograph in one split")
        species = dict(enumerate(self._numbers("imagelabels.mat", "labels"), 1))
        numbers = {**splits, **species}
        return {
            f"image_{number:05d}": (
                splits.get(number, ""),
                f"species-{species[number]:03d}" if number in species else "",
            )
            for number in numbers
        }

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        if not any(split for split, _ in self._placing.values()):
            return {}
        return {name: "setid.mat does not list them" for name in found if not self._placing.get(name, ("", ""))[0]}

    def _numbers(self, file: str, key: str) -> list[int]:
        """The numbers of one array of a `.mat` file; none where there is no such file."""
        if not (self.root / file).is_file():
            return []
        from scipy.io import loadmat

        content: Any = io.BytesIO((self.root / file).read_bytes())
        try:
            return [int(number) for number in loadmat(content)[key].ravel()]
        except Exception as error:  # scipy's parser raises many kinds on damaged data
            raise self._bad_line(file, str(error), f"a .mat file with the array {key}") from error


def _model(name: str) -> str:
    """Make and model of a photograph of CompCars."""
    return "/".join(name.split("/")[:2])
