"""Cityscapes: street scenes of 50 cities with fine or coarse label maps, instance maps and stereo disparity.

Layout, file names, label ids and the conversion of disparity are those of the authors' scripts (`cityscapesScripts`:
README.md, helpers/labels.py, preparation/json2instanceImg.py; Cordts et al., CVPR 2016).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ...storage.classes import Colour, SemanticClass
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import (
    ENCODED_METRES_PER_UNIT,
    decode_depth,
    decode_labels,
    disparity_to_depth,
    encode_depth,
)
from .base import EncodedSource, Problem, SourceRef
from .encoding import png
from .files import stamp_of
from .named import SPARE, Files, NamedFiles, Part


class Label(NamedTuple):
    """One row of the official table; `train_id` 255 is ignored in evaluation and void here."""

    id: int
    name: str
    train_id: int
    colour: Colour
    has_instances: bool = False


LABELS = (
    Label(0, "unlabeled", 255, (0, 0, 0)),
    Label(1, "ego vehicle", 255, (0, 0, 0)),
    Label(2, "rectification border", 255, (0, 0, 0)),
    Label(3, "out of roi", 255, (0, 0, 0)),
    Label(4, "static", 255, (0, 0, 0)),
    Label(5, "dynamic", 255, (111, 74, 0)),
    Label(6, "ground", 255, (81, 0, 81)),
    Label(7, "road", 0, (128, 64, 128)),
    Label(8, "sidewalk", 1, (244, 35, 232)),
    Label(9, "parking", 255, (250, 170, 160)),
    Label(10, "rail track", 255, (230, 150, 140)),
    Label(11, "building", 2, (70, 70, 70)),
    Label(12, "wall", 3, (102, 102, 156)),
    Label(13, "fence", 4, (190, 153, 153)),
    Label(14, "guard rail", 255, (180, 165, 180)),
    Label(15, "bridge", 255, (150, 100, 100)),
    Label(16, "tunnel", 255, (150, 120, 90)),
    Label(17, "pole", 5, (153, 153, 153)),
    Label(18, "polegroup", 255, (153, 153, 153)),
    Label(19, "traffic light", 6, (250, 170, 30)),
    Label(20, "traffic sign", 7, (220, 220, 0)),
    Label(21, "vegetation", 8, (107, 142, 35)),
    Label(22, "terrain", 9, (152, 251, 152)),
    Label(23, "sky", 10, (70, 130, 180)),
    Label(24, "person", 11, (220, 20, 60), True),
    Label(25, "rider", 12, (255, 0, 0), True),
    Label(26, "car", 13, (0, 0, 142), True),
    Label(27, "truck", 14, (0, 0, 70), True),
    Label(28, "bus", 15, (0, 60, 100), True),
    Label(29, "caravan", 255, (0, 0, 90), True),
    Label(30, "trailer", 255, (0, 0, 110), True),
    Label(31, "train", 16, (0, 80, 100), True),
    Label(32, "motorcycle", 17, (0, 0, 230), True),
    Label(33, "bicycle", 18, (119, 11, 32), True),
)
"""The official table less the licence plate, whose id -1 no label map can hold."""

_THIN = {"pole", "traffic light", "traffic sign"}

CLASSES = tuple(
    SemanticClass(label.id, label.name, label.colour, label.has_instances or label.name in _THIN, label.name in _THIN)
    for label in LABELS
    if label.train_id != 255
)
"""The 19 classes of the benchmark by their official ids."""
VOID_IDS = frozenset(label.id for label in LABELS if label.train_id == 255)

_UNKNOWN = 255
"""What a train id that no label has becomes: no id of the table."""
_OF_TRAIN_ID = np.full(256, _UNKNOWN, np.uint8)
for _label in LABELS:
    _OF_TRAIN_ID[_label.train_id] = 0 if _label.train_id == 255 else _label.id

SPLITS = {"train": "train", "train_extra": "train", "val": "val"}
"""Folder to split; `test` has dummy label maps, its true ones are not public."""
_CHOICES = {"fine": ("gtFine",), "coarse": ("gtCoarse",), "best": ("gtFine", "gtCoarse")}
_SUFFIXES = {"labelIds": "", "labelTrainIds": ":train", "instanceIds": ":instances"}
_FILE = re.compile(r"(\w+)/(\w+)/([\w-]+)/([A-Za-z-]+_\d+_\d+)_(\w+)\.(png|json)", re.ASCII)


class Cityscapes(NamedFiles):
    """Cityscapes as its archives unpack into one folder.

    A source is `SPLIT/CITY/CITY_SEQUENCE_FRAME`, its group city and sequence. Label maps hold official ids; where only
    those with train ids exist (`_labelTrainIds.png`) they are mapped back. Disparity p (16 bit) is (p - 1) / 256
    pixels, unknown at 0; depth is baseline x focal length / disparity with the frame's own camera file, kept as
    `encode_depth` writes it. Without camera file there is no depth. An instance map numbers objects as
    id x 1000 + number; smaller values are whole classes or groups and count as none.
    """

    kind = "cityscapes"
    expects = (
        "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/ or gtCoarse/ with *_labelIds.png, if there is depth "
        "disparity/ and camera/"
    )
    licence = "Cityscapes licence: non-commercial (cityscapes-dataset.com/license)"
    neighbours = True  # a city's sequences are numbered as they were driven, and most are two seconds long
    knows: ClassVar[Mapping[str, str]] = {
        "labels": "fine, coarse, or best: fine where there are such, else coarse, which is the default"
    }

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        self._kinds = _CHOICES.get(options.get("labels", "best"), ())
        if not self._kinds:
            raise DatasetError(
                sentence(self.spec, expected=f"labels={'|'.join(_CHOICES)}", found=f"labels={options['labels']}")
            )

    @cached_property
    def decoding(self) -> Decoding:
        """The 19 classes by official ids; every other id of the table is void."""
        return Decoding(CLASSES, VOID_IDS, None, ENCODED_METRES_PER_UNIT, "disparity")

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source; train ids as official ids, disparity as depth, both written anew as PNG.

        Raises:
            SourceError: see `Dataset.read`; `unreadable-label`, `unknown-id`, `unreadable-depth`.
        """
        encoded = super().read(ref)
        if encoded.layout is not None and str(ref.layout).endswith("_labelTrainIds.png"):
            encoded = replace(encoded, layout=_official_ids(encoded.layout, self.root / str(ref.layout)))
        if encoded.depth is not None:
            disparity = decode_depth(encoded.depth, self.root / str(ref.depth))
            disparity[disparity > 0] -= 1
            depth = disparity_to_depth(disparity / 256, *self._camera(str(ref.depth)))
            encoded = replace(encoded, depth=encode_depth(depth))
        return encoded

    def stamp(self, ref: SourceRef) -> str:
        """See `Dataset.stamp`; with depth also the camera file's."""
        camera = [stamp_of(self.root / _camera_path(ref.depth))] if ref.depth else []
        return " ".join([super().stamp(ref), *camera])

    def _folders(self) -> Sequence[str]:
        self._missing("leftImg8bit")
        labels = [kind for kind in self._kinds if (self.root / kind).is_dir()]
        if not labels:
            self._missing(*self._kinds)
        extra = [folder for folder in ("disparity", "camera") if (self.root / folder).is_dir()]
        return ["leftImg8bit", *labels, *extra]

    def _part(self, path: str) -> Part | None:
        top = path.partition("/")[0]
        match = _FILE.fullmatch(path)
        if match is None:
            panoptic = top in ("gtFine", "gtCoarse") and re.search(r"panoptic\w*(\.json|\.png)$", path)
            return Part(SPARE, f"{top}/*panoptic*{panoptic[1]}") if panoptic else None
        source, tail, suffix = "/".join(match.group(2, 3, 4)), match[5], match[6]
        kind, _, what = tail.partition("_")
        if kind != top:
            return None
        if top == "leftImg8bit":
            return Part("image", source) if not what and suffix == "png" else None
        if top in ("disparity", "camera"):
            return Part(top, source) if not what and suffix == ("png" if top == "disparity" else "json") else None
        if what in _SUFFIXES and suffix == "png":
            return Part(top + _SUFFIXES[what], source)
        return Part(SPARE, f"{top}/*_{what}.{suffix}")

    def _chosen(self, files: Files) -> Files:
        chosen = {"image": files["image"]} if "image" in files else {}
        for kind in self._kinds:
            labels = files.get(kind) or files.get(f"{kind}:train")
            if labels:
                chosen["layout"] = labels
                chosen |= {"instances": files[f"{kind}:instances"]} if f"{kind}:instances" in files else {}
                break
        if "disparity" in files and "camera" in files:
            chosen |= {"depth": files["disparity"], "camera": files["camera"]}
        return chosen

    def _notes(self, found: Mapping[str, Files]) -> Iterable[Problem]:
        if blind := [
            files["disparity"].path for files in found.values() if {"disparity", "camera"} - set(files) == {"camera"}
        ]:
            said = f"disparity maps without camera file are left out ({len(blind):,}): their sources have no depth"
            yield Problem(blind[0], "no-camera", sentence(self.root / blind[0], said, fix="unpack the camera archive"))

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        having = {role: {_folder(n) for n, files in found.items() if role in files} for role in ("image", "layout")}
        why = {}
        for name in found:
            folder = _folder(name)
            if folder == "test":
                why[name] = "the label maps of test are dummies"
            elif folder not in having["layout"]:
                why[name] = f"{folder} has no label map"
            elif folder not in having["image"]:
                why[name] = f"{folder} has no image"
            elif folder not in SPLITS:
                why[name] = f"{folder} is none of the splits {', '.join(SPLITS)}"
        return why

    def _split_and_group(self, name: str) -> tuple[str, str]:
        folder, city, frame = name.split("/")
        return SPLITS[folder], f"{city}/{int(frame.rsplit('_', 2)[1])}"

    def _camera(self, disparity: str) -> tuple[float, float]:
        """Baseline in metres and focal length in pixels."""
        path = _camera_path(disparity)
        try:
            camera = json.loads(self._bytes(path))
            baseline, focal = float(camera["extrinsic"]["baseline"]), float(camera["intrinsic"]["fx"])
            if 0 < baseline < np.inf and 0 < focal < np.inf:
                return baseline, focal
            found = f"{baseline} and {focal}"
        except (ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__} {error}"
        said = sentence(
            self.root / path, expected="numbers above 0 in extrinsic.baseline and intrinsic.fx", found=found,
            fix="replace it, or remove it and do without depth",
        )  # fmt: skip
        raise SourceError("unreadable-depth", said)

    def _instance_map(self, ref: SourceRef, data: bytes) -> npt.NDArray[np.int32]:
        numbers = super()._instance_map(ref, data)
        return np.where(numbers >= 1000, numbers, 0)


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _camera_path(disparity: str) -> str:
    """The camera file of a disparity map: `camera/.../X_camera.json` of `disparity/.../X_disparity.png`."""
    return "camera" + disparity.removeprefix("disparity").removesuffix("_disparity.png") + "_camera.json"


def _official_ids(data: bytes, name: Path) -> bytes:
    """A label map of train ids as one of official ids, void as `unlabeled`."""
    trained = decode_labels(data, name)
    known = trained.ndim == 2 and trained.max(initial=0) <= 255 and trained.min(initial=0) >= 0
    if not known or (_OF_TRAIN_ID[trained] == _UNKNOWN).any():
        found = "colours" if trained.ndim != 2 else f"{int(trained[trained != 255].max())}"
        raise SourceError(
            "unknown-id", sentence(name, expected="train ids 0..18 or 255", found=found, fix="write the label map anew")
        )
    return png(_OF_TRAIN_ID[trained])
