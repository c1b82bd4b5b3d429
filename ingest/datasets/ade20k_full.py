"""ADE20K, the full release: some three thousand classes of objects and of their parts.

Layout and coding are those of `ADE20K_2016_07_26` and `ADE20K_2021_17_01` (Zhou et al., IJCV 2019; CSAILVision/ADE20K,
README.md and utils/utils_ade20k.py): in `_seg.png` and `_parts_1.png` the class is red / 10 x 256 + green, counted from
1 in the index's `objectnames`, and blue numbers the objects; `.json` gives each object's `name` and `name_ndx`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...storage.classes import colour_of
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import decode_labels
from .ade20k import LICENCE, SCENES_OPTION, SPLITS, scene_filter
from .ade20k_classes import semantic_class
from .ade20k_scenes import scene_key
from .base import EncodedSource, SourceRef
from .encoding import png
from .files import list_files
from .named import SPARE, Files, NamedFiles, Part

INDEX_FILE = "index_ade20k.mat"
_FILE = re.compile(r"images/([ -~]*ADE_[a-z]+_\d+)(|_seg|_parts_\d+|_atr)\.(jpg|png|txt|json)", re.ASCII)
_OBJECT = re.compile(rb'"name": *("(?:[^"\\]|\\.)*") *, *"name_ndx": *(\d+)')


class Ade20kFull(NamedFiles):
    """The full release by folder of scenes: `images/training/s/street/`, or `images/ADE/training/urban/street/`.

    A source is the path of its photograph below `images/`, a group of its own. The layout is `_seg.png`, or with
    `?parts=1` the first level of parts, `_parts_1.png`; both are read into a 16-bit map of class ids and one that
    numbers the objects. Classes go by all their synonyms, as published: from `index_ade20k.mat`, which both releases
    hold, else from every `.json`. Its pickled twin is never read. Deeper parts, attributes and the amodal masks of
    single objects are not needed; the photographs labelled twice (`consistencyanalysis`) are left out.
    """

    kind = "ade20k_full"
    expects = (
        "images/ with ADE_*.jpg and ADE_*_seg.png by scene, and index_ade20k.mat or a .json beside each photograph"
    )
    licence = LICENCE
    knows: ClassVar[Mapping[str, str]] = {
        "scenes": SCENES_OPTION,
        "parts": "1 takes the parts of objects as layout instead of the objects",
    }

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        if options.get("parts", "0") not in ("0", "1"):
            raise DatasetError(sentence(self.spec, expected="parts=1 or parts=0", found=f"parts={options['parts']}"))
        self._names: dict[int, str] = {}

    @cached_property
    def decoding(self) -> Decoding:
        """Every class by its place in the index; 0 is void.

        Raises:
            DatasetError: nothing names the classes, or what should cannot be read.
        """
        self._names = self._names or self._read_index() or self._read_objects()
        if not self._names:
            raise self._refusal(f"neither {INDEX_FILE} nor a .json that names an object")
        classes = tuple(semantic_class(id, name, colour_of(name), name) for id, name in _unique(self._names).items())
        return Decoding(classes, frozenset({0}))

    def read(self, ref: SourceRef) -> EncodedSource:
        """Photograph, 16-bit label map and 16-bit map of objects.

        Raises:
            SourceError: see `Dataset.read`; `unreadable-label`.
        """
        encoded = super().read(ref)
        assert encoded.layout is not None  # labelled, so `read` has refused its absence
        classes, objects = _decoded(encoded.layout, self.root / str(ref.layout))
        return replace(encoded, layout=png(classes), instances=png(objects))

    def __getstate__(self) -> dict[str, Any]:
        """As `NamedFiles`, with the names of the classes: no worker reads the index again."""
        self.decoding  # noqa: B018  (reads them)
        return super().__getstate__()

    @property
    def _layout_kind(self) -> str:
        return "_parts_1" if self.options.get("parts") == "1" else "_seg"

    def _folders(self) -> Sequence[str]:
        self._missing("images")
        return ["images"]

    def _part(self, path: str) -> Part | None:
        match = _FILE.fullmatch(path)
        if match is None:
            return None
        name, kind, suffix = match.groups()
        if kind + suffix == "jpg":
            return Part("image", name)
        if (kind, suffix) == (self._layout_kind, "png"):
            return Part("layout", name)
        return Part(SPARE, f"images/*{kind}.{suffix}" if kind + suffix != "png" else "images/*/ADE_*/*.png")

    def _split_and_group(self, name: str) -> tuple[str, str]:
        return SPLITS[_place(name)[0]], name

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        wanted = scene_filter(self.root, self.options.get("scenes"), self.spec)
        why = {}
        for name, files in found.items():
            split, scene = _place(name)
            if split not in SPLITS:
                why[name] = "they belong neither to training nor to validation"
            elif wanted is not None and not wanted(scene):
                why[name] = "their scene is not among the chosen ones"
            elif self._layout_kind != "_seg" and "layout" not in files:
                why[name] = "they have no parts"
        return why

    def _read_index(self) -> dict[int, str]:
        path = self.root / INDEX_FILE
        if not path.is_file():
            return {}
        from scipy.io import loadmat

        try:
            data: Any = io.BytesIO(path.read_bytes())
            index = loadmat(data, variable_names=["index"], squeeze_me=True)["index"]
            return {id: str(name) for id, name in enumerate(index["objectnames"].item(), 1) if str(name).strip()}
        except Exception as error:  # the reader raises many kinds on what is no such file
            found = f"{type(error).__name__} {error}"
            raise DatasetError(
                sentence(path, expected="index.objectnames", found=found, fix="fetch the file again, or remove it")
            ) from error

    def _read_objects(self) -> dict[int, str]:
        """Names from every `.json`, found by their bytes: some of the published files are not valid as a whole."""
        names: dict[int, str] = {}
        for file in list_files(self.root, "images") if (self.root / "images").is_dir() else ():
            if file.regular and file.path.endswith(".json"):
                for name, id in _OBJECT.findall((self.root / file.path).read_bytes()):
                    names.setdefault(int(id), json.loads(name.decode("utf-8", "replace")))
        return dict(sorted(names.items()))


def _place(name: str) -> tuple[str, str]:
    """Split folder and scene of a source: below it come a letter or a kind of scene, then the scene's own folders."""
    folders = name.split("/")[:-1]
    below = folders[1:] if folders[:1] == ["ADE"] else folders
    return below[0] if below else "", scene_key("/".join(below[2:]))


def _unique(names: Mapping[int, str]) -> dict[int, str]:
    """The names, a second class of a name with its id."""
    taken: set[str] = set()
    unique = {}
    for id, name in sorted(names.items()):
        unique[id] = f"{name} ({id})" if name in taken else name
        taken.add(name)
    return unique


def _decoded(data: bytes, name: Path) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Class ids, and the objects numbered from 1, 0 where there is no class; both `(H, W)` uint16."""
    colours = decode_labels(data, name)
    if colours.ndim != 3:
        raise SourceError(
            "unreadable-label",
            sentence(name, expected="RGB: class in red and green, object in blue", found="one channel",
                     fix="fetch the file again"),
        )  # fmt: skip
    classes = colours[..., 0].astype(np.uint16) // 10 * 256 + colours[..., 1]
    keys = np.where(classes > 0, classes.astype(np.int32) * 256 + colours[..., 2], 0)
    found, objects = np.unique(keys, return_inverse=True)
    numbered = objects.reshape(keys.shape) + (found[0] != 0)
    return classes, numbered.astype(np.uint16)
