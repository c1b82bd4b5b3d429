"""ADE20K, the scene parsing benchmark: 150 classes in scenes of every kind.

Layout and formats are those of `ADEChallengeData2016` (Zhou et al., CVPR 2017; CSAILVision/sceneparsing) and, for
instance masks, of the Places Challenge 2017 (CSAILVision/placeschallenge, instancesegmentation/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...storage.classes import SemanticClass
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import decode_labels
from .ade20k_classes import CLASSES, short_name
from .ade20k_scenes import is_outdoor, scene_key
from .base import SourceRef
from .named import Files, NamedFiles, Part

LICENCE = (
    "ADE20K terms of use: non-commercial research and education (groups.csail.mit.edu/vision/datasets/ADE20K/terms)"
)
SPLITS = {"training": "train", "validation": "val"}
SCENES_OPTION = "outdoor, or a text file with one scene name a line: sources of other scenes are left out"

_FILE = re.compile(r"(images|annotations|annotations_instance)/(\w+)/(ADE_\w+)\.(jpg|png)", re.ASCII)
_ROLES = {"images": "image", "annotations": "layout", "annotations_instance": "instances"}


class Ade20k(NamedFiles):
    """`ADEChallengeData2016`: `images/` and `annotations/`, both with `training/` and `validation/`.

    A source is `training/ADE_train_NNNNNNNN`, a group of its own. Label maps hold ids 1 to 150, 0 is void. Names are
    built in and replaced by those of `objectInfo150.txt` where it lies in the root; a class goes by the first of its
    synonyms. `annotations_instance/` is taken where it is: red is the class, green numbers the objects of a photograph.
    `?scenes=` chooses by `sceneCategories.txt`. `images/testing/` has no label maps and is left out.
    """

    kind = "ade20k"
    expects = "images/ and annotations/, both with training/ and validation/: ADEChallengeData2016 as it unpacks"
    licence = LICENCE
    knows: ClassVar[Mapping[str, str]] = {"scenes": SCENES_OPTION}

    @cached_property
    def decoding(self) -> Decoding:
        """The 150 classes; 0 is void.

        Raises:
            DatasetError: `objectInfo150.txt` does not name classes 1 to 150.
        """
        path = self.root / "objectInfo150.txt"
        return Decoding(_named_by(path) if path.is_file() else CLASSES, frozenset({0}))

    def _folders(self) -> Sequence[str]:
        self._missing("images", "annotations")
        instances = ["annotations_instance"] if (self.root / "annotations_instance").is_dir() else []
        return ["images", "annotations", *instances]

    def _part(self, path: str) -> Part | None:
        match = _FILE.fullmatch(path)
        return Part(_ROLES[match[1]], f"{match[2]}/{match[3]}") if match else None

    def _split_and_group(self, name: str) -> tuple[str, str]:
        return SPLITS[name.partition("/")[0]], name

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        why = {name: "only training and validation are labelled" for name in found if name.split("/")[0] not in SPLITS}
        if (wanted := scene_filter(self.root, self.options.get("scenes"), self.spec)) is not None:
            for name in found:
                scene = self._scenes.get(name.rpartition("/")[2], "")
                if name not in why and not wanted(scene):
                    why[name] = "their scene is not among the chosen ones" if scene else "no scene is known of them"
        return why

    @property
    def _scenes(self) -> Mapping[str, str]:
        """Scene by the name of the photograph."""
        path = self.root / "sceneCategories.txt"
        if not path.is_file():
            raise self._refusal(f"no sceneCategories.txt, which scenes={self.options['scenes']} asks for")
        rows = (line.split(maxsplit=1) for line in path.read_text("utf-8", errors="replace").splitlines())
        return {row[0]: scene_key(row[1]) for row in rows if len(row) == 2}

    def _instance_map(self, ref: SourceRef, data: bytes) -> npt.NDArray[np.int32]:
        colours = decode_labels(data, self.root / str(ref.instances))
        if colours.ndim != 3:
            said = sentence(
                self.root / str(ref.instances), expected="RGB: class in red, object in green", found="one channel",
                fix="replace it or remove it",
            )  # fmt: skip
            raise SourceError("unreadable-instances", said)
        classes, objects = colours[..., 0].astype(np.int32), colours[..., 1].astype(np.int32)
        return np.where(objects > 0, classes * 256 + objects, 0)


def scene_filter(root: Path, choice: str | None, spec: str) -> Callable[[str], bool] | None:
    """Whether a scene, by its key, is wanted: `outdoor`, or those that a file names; `None` without a choice.

    Raises:
        DatasetError: the choice is neither, or the file names nothing.
    """
    if choice is None:
        return None
    if choice == "outdoor":
        return is_outdoor
    path = next((path for path in (Path(choice).expanduser(), root / choice) if path.is_file()), None)
    names = {scene_key(line) for line in path.read_text("utf-8").splitlines() if line.strip()} if path else set()
    if not names:
        found = "an empty file" if path else f"no file {choice!r}"
        raise DatasetError(sentence(spec, expected="scenes=outdoor or scenes=FILE with a name a line", found=found))
    return names.__contains__


def _named_by(path: Path) -> tuple[SemanticClass, ...]:
    """The classes with the names of a table with the columns `Idx` and `Name`, separated by tabs."""
    header, *rows = [[cell.strip() for cell in line.split("\t")] for line in path.read_text("utf-8").splitlines()] or [
        []
    ]
    try:
        columns = header.index("Idx"), header.index("Name")
        names = {int(row[columns[0]]): short_name(row[columns[1]]) for row in rows if any(row)}
    except (ValueError, IndexError):
        names = {}
    if set(names) != {entry.id for entry in CLASSES} or len(set(names.values())) != len(names):
        raise DatasetError(
            sentence(path, expected="columns Idx and Name with one name each for classes 1 to 150",
                     found=f"{len(set(names.values())):,} names", fix="restore the file or remove it")
        )  # fmt: skip
    return tuple(replace(entry, name=names[entry.id]) for entry in CLASSES)
