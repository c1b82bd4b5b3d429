"""NYU Depth v2: the 40-class folder of photographs, and the official labelled `.mat` file with its 894 classes."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...storage.classes import Colour, Layout, SemanticClass, colour_of
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from .base import Dataset, EncodedSource, SourceRef
from .files import is_remote, open_root
from .listing import PairedFiles, Section, contents

VOID_ID = 39
METRES_PER_UNIT = 1 / 25.5
"""One unit of the folder's 8-bit depth maps: 255 stands for 10 m."""
MAT_NAME = "nyu_depth_v2_labeled.mat"

_COLOURS: dict[str, Colour] = {
    "wall": (174, 199, 232),
    "floor": (152, 223, 138),
    "cabinet": (31, 119, 180),
    "bed": (255, 187, 120),
    "chair": (188, 189, 34),
    "sofa": (140, 86, 75),
    "table": (255, 152, 150),
    "door": (214, 39, 40),
    "window": (197, 176, 213),
    "bookshelf": (148, 103, 189),
    "picture": (196, 156, 148),
    "counter": (23, 190, 207),
    "blinds": (178, 76, 76),
    "desk": (247, 182, 210),
    "shelves": (66, 188, 102),
    "curtain": (219, 219, 141),
    "dresser": (140, 57, 197),
    "pillow": (202, 185, 52),
    "mirror": (51, 176, 203),
    "floor mat": (200, 54, 131),
    "clothes": (92, 193, 61),
    "ceiling": (78, 71, 183),
    "books": (172, 114, 82),
    "refrigerator": (255, 127, 14),
    "television": (91, 163, 138),
    "paper": (153, 98, 156),
    "towel": (140, 153, 101),
    "shower curtain": (158, 218, 229),
    "box": (100, 125, 154),
    "whiteboard": (178, 127, 135),
    "person": (120, 185, 128),
    "night stand": (146, 111, 194),
    "toilet": (44, 160, 44),
    "sink": (112, 128, 144),
    "lamp": (96, 207, 209),
    "bathtub": (227, 119, 194),
    "bag": (213, 92, 176),
    "other structure": (94, 106, 211),
    "other furniture": (82, 84, 163),
}
"""The 40 classes less the void one, in the order of their ids, in the colours ScanNet made common for them."""

_STUFF = {
    *("wall", "floor", "ceiling", "window", "counter", "blinds", "curtain", "shower curtain", "floor mat"),
    *("clothes", "books", "paper", "other structure"),
}
"""What has no shape or number of its own; all others are things."""
_THIN = {"lamp"}


def _semantic_class(id: int, name: str) -> SemanticClass:
    return SemanticClass(id, name, _COLOURS.get(name) or colour_of(name), name not in _STUFF, name in _THIN)


CLASSES = tuple(_semantic_class(id, name) for id, name in enumerate(_COLOURS))


def open_nyu(root: str | Path, **options: str) -> Dataset:
    """NYU from a folder with `images/` and `labels/`, from the official file, or from a folder that holds that file.

    Raises:
        DatasetError: there is no such path.
    """
    path = open_root(root)
    if path.is_file():
        return NyuMat(path, **options)
    if (path / MAT_NAME).is_file() and not (path / "images").is_dir():
        return NyuMat(path / MAT_NAME, **options)
    return NyuFolder(path, **options)


def split_and_group(number: int) -> tuple[str, str]:
    """Split and group of a photograph by its number: blocks of 25 share a group, every sixth block tests."""
    group = number // 25
    return "train" if group % 6 else "test", str(group)


class NyuFolder(PairedFiles):
    """`images/NNNN.jpg`, `labels/NNNN.png` (40 classes, 39 is void), `depths/NNNN.png` (8 bit, 25.5 a metre)."""

    kind = "nyu"
    neighbours = True  # blocks of 25 photographs cut through rooms
    expects = f"images/NNNN.jpg, labels/NNNN.png and depths/NNNN.png, or {MAT_NAME}"

    @cached_property
    def decoding(self) -> Decoding:
        """The 39 classes; "other prop / unlabelled" is void."""
        return Decoding(CLASSES, frozenset({VOID_ID}), None, METRES_PER_UNIT)

    def _sections(self) -> Sequence[Section]:
        for folder in ("images", "labels"):
            if not (self.root / folder).is_dir():
                raise self._nothing(contents(self.root))
        return [Section("images", "labels", "depths")]

    def _name_fault(self, name: str) -> str:
        if _is_number(name):
            return ""
        return sentence(
            self.root / "images" / name,
            expected="a file named by its number, such as 0012.jpg",
            found=repr(name),
            fix="rename it: its number gives it its group and split",
        )

    def _splits_and_groups(self, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        return {name: split_and_group(int(name)) if _is_number(name) else ("train", name) for name in names}


class NyuMat(Dataset):
    """The official `nyu_depth_v2_labeled.mat`: HDF5 as MATLAB writes it, so every axis order is reversed.

    `images` (N, 3, W, H) uint8, `labels` (N, W, H) uint16 (0 is unlabelled), `depths` (N, W, H) float32 metres,
    `names` (1, 894) references to the class names of labels 1 to 894. A class shares the id of one of the 40 in a bank
    where the names are equal. Sources are encoded as they are read: a PNG photograph, a 16-bit PNG label map, a
    `.npy` depth map; equal versions of Pillow and NumPy give equal bytes, and so equal ids.
    """

    kind = "nyu"
    neighbours = True  # blocks of 25 photographs cut through rooms
    expects = f"the labelled part of NYU Depth v2, {MAT_NAME}, an HDF5 file with images, labels and names"

    @cached_property
    def decoding(self) -> Decoding:
        """The file's own classes by their own ids; label 0 is void."""
        with _HDF5, self._file() as file:
            names = [
                bytes(file[ref][()].ravel().astype("<u2")).decode("utf-16-le") for ref in file["names"][()].ravel()
            ]
        classes = tuple(_semantic_class(id, name) for id, name in enumerate(names, 1))
        return Decoding(classes, frozenset({0}))

    def sources(self) -> Sequence[SourceRef]:
        """One source an image; paths are `images/NNNN` and so on within the file."""
        return self._refs

    def read(self, ref: SourceRef) -> EncodedSource:
        """Photograph, label map and depth map of one source, encoded.

        Raises:
            SourceError: `unreadable-file` where the file is damaged.
        """
        image = self._array("images", ref).transpose(2, 1, 0)
        labels = self._array("labels", ref).T
        depth = None if ref.depth is None else self._array("depths", ref).T
        return EncodedSource(_png(image), _png(labels), None if depth is None else _npy(depth))

    def survey(self, ref: SourceRef) -> Layout:
        """The layout of one source; the file's three arrays are known to have the same size."""
        labels = self._array("labels", ref).T
        return self._checked_layout(ref, labels, (labels.shape[0], labels.shape[1]))

    @cached_property
    def _refs(self) -> tuple[SourceRef, ...]:
        with _HDF5, self._file() as file:
            shapes = {key: file[key].shape for key in ("images", "labels", "depths") if key in file}
        n, planes, *size = (*shapes["images"], 0, 0)[:4]
        wrong = [key for key in shapes if key != "images" and shapes[key] != (n, *size)]
        if planes != 3 or wrong or not n:
            raise self._error(f"arrays of shapes {shapes}")
        names = [f"{number:04d}" for number in range(n)]
        return tuple(
            SourceRef(
                name,
                *split_and_group(number),
                f"images/{name}",
                f"labels/{name}",
                f"depths/{name}" if "depths" in shapes else None,
            )
            for number, name in enumerate(names)
        )

    def __getstate__(self) -> dict[str, Any]:
        """The path alone; a worker reads names and shapes itself."""
        return {key: value for key, value in self.__dict__.items() if key not in {"_refs", "decoding"}}

    def _array(self, key: str, ref: SourceRef) -> npt.NDArray[Any]:
        try:
            with _HDF5, self._file() as file:
                array: npt.NDArray[Any] = file[key][int(ref.name)]
                return array
        except OSError as error:
            said = sentence(self.root / f"{key}/{ref.name}", f"cannot be read ({error})", fix="fetch the file again")
            raise SourceError("unreadable-file", said) from error

    def _file(self) -> Any:
        """The open file, with everything in it that is read here."""
        import h5py

        try:
            file = h5py.File(self.root.open("rb") if is_remote(self.root) else self.root, "r")
        except OSError as error:
            raise self._error(f"a file that is no readable HDF5 ({error})") from error
        missing = [key for key in ("images", "labels", "names") if key not in file]
        if missing:
            found = f"only {', '.join(key for key in file if not key.startswith('#')) or 'nothing'}"
            file.close()
            raise self._error(found)
        return file

    def _error(self, found: str) -> DatasetError:
        what = f"{self.kind}:{self.root}"
        return DatasetError(sentence(what, expected=self.expects, found=found, fix="fetch the file again"))


_HDF5 = threading.Lock()
"""Held while a file is open: the HDF5 library is not reentrant, and closing one handle disturbs another thread's."""


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _png(array: npt.NDArray[Any]) -> bytes:
    """A lossless picture of `(H, W, 3)` uint8 or `(H, W)` uint16."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()
