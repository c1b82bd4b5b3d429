"""COCO-Stuff: COCO's photographs with 80 thing and 91 stuff classes, in each of the forms it is published in.

Class names, ids and folders are those of the authors' repositories (nightrome/cocostuff: README.md, labels.txt;
nightrome/cocostuff10k: README.md; Caesar, Uijlings, Ferrari: COCO-Stuff, CVPR 2018); instance maps those that SPADE's
`coco_generate_instance_map.py` writes (Park et al., CVPR 2019).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import MAX_PIXELS, decode_labels
from .base import EncodedSource, Source, SourceRef
from .coco_stuff_classes import CLASSES, STUFF_CLASSES
from .encoding import png
from .listing import PICTURES, contents
from .named import SPARE, Files, NamedFiles, Part

VOID_ID = 255
_THING_IDS = np.zeros(1 << 16, bool)
_THING_IDS[[entry.id for entry in CLASSES if entry.thing]] = True
_IDS = {entry.name: entry.id for entry in CLASSES}

_FORMS = {
    "stuffthingmaps": (
        "stuffthingmaps_trainval2017/{split}2017",
        "annotations/stuffthingmaps_trainval2017/{split}2017",
        "annotations/{split}2017",
        "stuffthingmaps/{split}2017",
        "{split}_label",
    ),
    "pixelmaps": ("annotations/stuff_{split}2017_pixelmaps", "stuff_{split}2017_pixelmaps"),
}
"""Where label maps lie; the third is what the authors' set-up instructions lead to."""
_SPLITS = ("train", "val")


class _Place(NamedTuple):
    """A folder of one role."""

    folder: str
    role: str
    split: str


class CocoStuff(NamedFiles):
    """COCO-Stuff of 2017: `images/train2017/` or `train2017/` beside `stuffthingmaps_trainval2017/train2017/`.

    `labels=pixelmaps` takes the maps of the stuff challenge, which know no things. The folders of SPADE (`train_img/`,
    `train_label/`, `train_inst/`, and those that end in `_portrait`) are taken as well, and `train_inst/` beside the
    published ones. An instance map counts objects on thing pixels from 0; what it holds on other pixels is no object.
    """

    kind = "coco-stuff"
    expects = (
        "images/train2017/ and images/val2017/ beside stuffthingmaps_trainval2017/, or annotations/*.mat with "
        "imageLists/ (10k), or train_img/ and train_label/"
    )
    licence = "annotations CC-BY-4.0 (COCO Consortium, COCO-Stuff authors); images under Flickr's terms of use"
    knows: ClassVar[Mapping[str, str]] = {"labels": "stuffthingmaps, which is the default, or pixelmaps: stuff alone"}

    def __init__(self, root: str | Path, **options: str) -> None:
        super().__init__(root, **options)
        self._form = options.get("labels", "stuffthingmaps")
        if self._form not in _FORMS:
            found = f"labels={self._form}"
            raise DatasetError(sentence(self.spec, expected="labels=stuffthingmaps or labels=pixelmaps", found=found))

    @cached_property
    def decoding(self) -> Decoding:
        """171 classes with ids 0..181 and void 255; of the pixel maps 92 classes with ids 92..183 and void 0."""
        if self._form == "pixelmaps":
            return Decoding(STUFF_CLASSES, frozenset({0}))
        return Decoding(CLASSES, frozenset({VOID_ID}))

    def decode(self, ref: SourceRef, encoded: EncodedSource) -> Source:
        """See `Dataset.decode`; objects are things alone."""
        source = super().decode(ref, encoded)
        if source.instances is None:
            return source
        return replace(source, instances=np.where(_THING_IDS[source.layout], source.instances, 0))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed or derived."""
        return {key: value for key, value in super().__getstate__().items() if key not in {"_places", "_by_folder"}}

    @cached_property
    def _places(self) -> list[_Place]:
        """The folders that are there."""
        found = []
        for split in _SPLITS:
            candidates = {
                "image": (f"images/{split}2017", f"{split}2017", f"{split}_img"),
                "layout": tuple(form.format(split=split) for form in _FORMS[self._form]),
                "instances": (f"{split}_inst",),
            }
            for role, folders in candidates.items():
                held = next((folder for folder in folders if (self.root / folder).is_dir()), None)
                if held:
                    portraits = [f"{held}_portrait"] if (self.root / f"{held}_portrait").is_dir() else []
                    found += [_Place(folder, role, split) for folder in (held, *portraits)]
        return found

    @cached_property
    def _by_folder(self) -> dict[str, _Place]:
        return {place.folder: place for place in self._places}

    def _folders(self) -> Sequence[str]:
        splits = {role: {place.split for place in self._places if place.role == role} for role in ("image", "layout")}
        if splits["image"] & splits["layout"]:
            return list(self._by_folder)
        wanted = _FORMS[self._form][0].format(split="train")
        missing = {"image": "images/train2017/ or train2017/", "layout": f"{wanted}/"}
        lost = [missing[role] for role in missing if not splits[role]] or ["split with both images and label maps"]
        raise self._refusal(f"no {' and no '.join(lost)} in {contents(self.root)}")

    def _part(self, path: str) -> Part | None:
        folder, _, file = path.rpartition("/")
        place = self._by_folder.get(folder)
        stem, dot, suffix = file.rpartition(".")
        if place is None or f".{suffix.lower()}" not in PICTURES or not dot:
            return None
        if stem.endswith(("_labelTrainIds", "_instanceTrainIds")):
            return Part(SPARE, f"{folder}/*_{stem.rpartition('_')[2]}.{suffix}")
        return Part(place.role, f"{place.split}/{stem}")

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        why = {}
        having = {role: {place.split for place in self._places if place.role == role} for role in ("image", "layout")}
        for name in found:
            split = name.partition("/")[0]
            for role, what in (("image", "images"), ("layout", "label maps")):
                if split not in having[role]:
                    why[name] = f"{split} has no folder of {what}"
        return why

    def _split_and_group(self, name: str) -> tuple[str, str]:
        return name.partition("/")[0], name

    def _instance_map(self, ref: SourceRef, data: bytes) -> npt.NDArray[np.int32]:
        """Objects from 1; the file counts from 0. Three channels are one number, R + 256 G + 65536 B."""
        numbers = decode_labels(data, self.root / str(ref.instances)).astype(np.int32)
        if numbers.ndim == 3:
            numbers = numbers @ np.array([1, 1 << 8, 1 << 16], np.int32)
        return np.asarray(numbers + 1, np.int32)


class CocoStuff10k(CocoStuff):
    """COCO-Stuff 10k: `images/COCO_train2014_*.jpg`, `annotations/COCO_train2014_*.mat`, `imageLists/train.txt`.

    A `.mat` file holds `S` `(H, W)`, indices into its own `names` from 1, which stands for unlabelled. It becomes a PNG
    with the ids of the 2017 maps, by name. Splits are those of `imageLists/`.
    """

    expects = (
        "images/COCO_train2014_*.jpg, annotations/COCO_train2014_*.mat, imageLists/train.txt and imageLists/test.txt"
    )
    knows: ClassVar[Mapping[str, str]] = {}

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source, its label map written anew as PNG.

        Raises:
            SourceError: see `Dataset.read`; `unreadable-label`, `unknown-id`.
        """
        encoded = super().read(ref)
        return replace(encoded, layout=png(label_map(encoded.layout or b"", self.root / str(ref.layout))))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed."""
        return {key: value for key, value in super().__getstate__().items() if key != "_lists"}

    @cached_property
    def _lists(self) -> dict[str, str]:
        """Name to split."""
        lists = {}
        for split in ("train", "test"):
            for line in (self.root / "imageLists" / f"{split}.txt").read_text("utf-8").split():
                lists[line] = split
        return lists

    def _folders(self) -> Sequence[str]:
        self._missing("images", "annotations")
        lost = [f"imageLists/{s}.txt" for s in ("train", "test") if not (self.root / f"imageLists/{s}.txt").is_file()]
        if lost:
            raise self._refusal(f"no {' and no '.join(lost)}")
        return ["images", "annotations"]

    def _part(self, path: str) -> Part | None:
        match = re.fullmatch(r"images/([^/]+)\.jpg|annotations/([^/]+)\.mat", path)
        return match and Part("image" if match[1] else "layout", match[1] or match[2])

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        return {name: "neither of imageLists/ names it" for name in found if name not in self._lists}

    def _split_and_group(self, name: str) -> tuple[str, str]:
        return self._lists[name], name


def open_coco_stuff(root: str | Path, **options: str) -> CocoStuff:
    """COCO-Stuff of 2017, or where there is a folder `imageLists/` the 10k release.

    Raises:
        DatasetError: there is no such path or option.
    """
    dataset = CocoStuff(root, **options)
    return CocoStuff10k(root, **options) if (dataset.root / "imageLists").is_dir() else dataset


def label_map(data: bytes, where: Path) -> npt.NDArray[np.uint8]:
    """`(H, W)` ids of the 2017 maps, `VOID_ID` where unlabelled, from a `.mat` file of the 10k release.

    Raises:
        SourceError: `unreadable-label` for what is no such file, `too-large`, `unknown-id`.
    """
    from scipy.io import loadmat, whosmat

    file: Any = io.BytesIO(data)
    try:
        shapes = {name: shape for name, shape, _ in whosmat(file)}
        if np.prod(shapes.get("S", (0,)), dtype=float) > MAX_PIXELS:
            found = "x".join(map(str, shapes["S"]))
            said = sentence(where, expected=f"at most {MAX_PIXELS:,} pixels", found=found, fix="make it smaller")
            raise SourceError("too-large", said)
        content = loadmat(file, variable_names=["S", "names"], squeeze_me=True)
        labels = np.asarray(content["S"])
        names = [str(name) for name in np.atleast_1d(content["names"])]
        if labels.ndim != 2 or labels.dtype.kind not in "uif":
            raise ValueError(f"S has shape {labels.shape}")
    except SourceError:
        raise
    except Exception as error:  # scipy's parser raises many kinds on damaged data
        said = sentence(where, expected="a .mat file with S and names", found=f"one that cannot be read ({error})")
        raise SourceError("unreadable-label", said) from error
    table = np.array([VOID_ID, *(VOID_ID if name == "unlabeled" else _IDS.get(name, 254) for name in names)], np.uint8)
    if labels.min(initial=1) < 1 or labels.max(initial=1) > len(names) or (table[labels.astype(int)] == 254).any():
        found = f"{int(labels.max(initial=0))} of {len(names)} names"
        said = sentence(
            where, expected="indices from 1 into the names of COCO-Stuff", found=found, fix="fetch it again"
        )
        raise SourceError("unknown-id", said)
    ids: npt.NDArray[np.uint8] = table[labels.astype(int)]
    return ids
