"""Miniatures of published data sets, written in exactly the layout and format of their archives."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

from zeuxis.ingest.datasets.cityscapes import LABELS

SIZE = (6, 8)
CAMERA = {
    "extrinsic": {"baseline": 0.209313, "pitch": 0.038, "roll": 0.0, "x": 1.7, "y": 0.1, "yaw": -0.0195, "z": 1.22},
    "intrinsic": {"fx": 2262.52, "fy": 2265.3017905988554, "u0": 1096.98, "v0": 513.137},
}
"""As in the published camera files."""

OBJECTS = {401: "car, auto, automobile, machine, motorcar", 2131: "road, route", 2420: "sky", 3055: "wheel"}
"""A few classes of the full release of ADE20K by their place in the index."""


def picture(path: Path, array: npt.NDArray[Any], palette: list[int] | None = None) -> None:
    """A picture file; with a palette a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def photograph(path: Path, size: tuple[int, int] = SIZE) -> None:
    """A photograph whose pixels depend on its name."""
    noise = np.random.default_rng(sum(path.name.encode()))
    picture(path, noise.integers(0, 256, (*size, 3), np.uint8))


def text(path: Path, content: str = "-") -> None:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def halves(left: int, right: int, dtype: type[np.unsignedinteger[Any]] = np.uint8) -> npt.NDArray[Any]:
    """A map whose left half holds one value and whose right half another."""
    values = np.full(SIZE, left, dtype)
    values[:, SIZE[1] // 2 :] = right
    return values


def cityscapes_labels(root: Path, kind: str, frame: str, labels: npt.NDArray[Any]) -> None:
    """The five files of a frame in `gtFine/` or `gtCoarse/`: void in the top row, two cars at the left."""
    labels = labels.copy()
    labels[0] = 4
    instances = labels.astype(np.uint16)
    instances[1:3, :2], instances[3:, :2] = 26000, 26001
    stem = root / kind / frame
    picture(stem.with_name(f"{stem.name}_{kind}_labelIds.png"), labels)
    picture(stem.with_name(f"{stem.name}_{kind}_instanceIds.png"), instances)
    picture(stem.with_name(f"{stem.name}_{kind}_color.png"), np.zeros((*SIZE, 4), np.uint8))
    text(stem.with_name(f"{stem.name}_{kind}_polygons.json"), '{"imgHeight": 6, "imgWidth": 8, "objects": []}')


def cityscapes(root: Path) -> None:
    """Frames of train, val, test and train_extra, fine and coarse label maps, disparity and camera of the first."""
    for frame in (
        "train/aachen/aachen_000000_000019",
        "train/aachen/aachen_000001_000019",
        "val/bad-honnef/bad-honnef_000003_000294",
        "test/berlin/berlin_000000_000019",
        "train_extra/erlangen/erlangen_000000_000000",
    ):
        photograph(root / f"leftImg8bit/{frame}_leftImg8bit.png")
        split = frame.split("/")[0]
        if split != "train_extra":
            cityscapes_labels(root, "gtFine", frame, halves(26, 7) if split != "test" else halves(1, 3))
        if split != "test":
            cityscapes_labels(root, "gtCoarse", frame, halves(26, 0))
    first = "train/aachen/aachen_000000_000019"
    picture(root / f"disparity/{first}_disparity.png", halves(0, 1 + 256 * 20, np.uint16))
    text(root / f"camera/{first}_camera.json", json.dumps(CAMERA))
    for file in ("license.txt", "README", "gtFine/.DS_Store", "gtFine/cityscapes_panoptic_train.json"):
        text(root / file)
    photograph(root / "gtFine/cityscapes_panoptic_train/aachen_000000_000019_gtFine_panoptic.png")


GTA5_PALETTE = [value for label in LABELS for value in label.colour] + [0, 0, 142]


def gta5(root: Path, splits: bool = True) -> None:
    """Five frames, the last with a label map of another size, and the contents of `read_mapping.zip`."""
    for number in (1, 2, 3, 26, 27):
        photograph(root / f"images/{number:05d}.png")
        picture(root / f"labels/{number:05d}.png", halves(7, 34), GTA5_PALETTE)
    picture(root / "labels/00027.png", halves(7, 34)[:, :-1], GTA5_PALETTE)
    text(root / "read_mapping/readImage.m")
    if splits:
        columns = {"trainIds": [1, 26], "valIds": [2], "testIds": [3]}
        savemat(
            root / "read_mapping/split.mat",
            {key: np.array(ids, np.float64).reshape(-1, 1) for key, ids in columns.items()},
        )


def ade20k(root: Path) -> None:
    """Three training photographs and one of validation and of testing, with instance masks of the first."""
    names = [f"training/ADE_train_0000000{number}" for number in (1, 2, 3)] + ["validation/ADE_val_00000001"]
    for name in names:
        photograph(root / f"images/{name}.jpg")
        picture(root / f"annotations/{name}.png", halves(0, 21))
    photograph(root / "images/testing/ADE_test_00000001.jpg")
    masks = np.zeros((*SIZE, 3), np.uint8)
    masks[2:4, 5:, 0], masks[2:4, 5:, 1] = 8, 3
    masks[4:, 5:, 0], masks[4:, 5:, 1] = 8, 4
    picture(root / "annotations_instance/training/ADE_train_00000001.png", masks)
    scenes = ("street", "bathroom", "cathedral_outdoor", "misc")
    text(
        root / "sceneCategories.txt",
        "".join(f"{name.split('/')[1]} {scene}\n" for name, scene in zip(names, scenes, strict=True)),
    )
    text(root / "images/training/.DS_Store")


def full_map(*columns: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The RGB coding of the full release: equal columns of (class, object); red is a multiple of ten."""
    coded = np.zeros((*SIZE, 3), np.uint8)
    for column, (id, number) in zip(np.array_split(np.arange(SIZE[1]), len(columns)), columns, strict=True):
        coded[:, column] = (id // 256 * 10, id % 256, number)
    return coded


def ade20k_full(root: Path, year: int = 2021) -> None:
    """A street and a bathroom for training, a cathedral for validation; the street's car has wheels."""
    top = "images/ADE" if year == 2021 else "images"
    street = f"{top}/training/{'urban' if year == 2021 else 's'}/street/ADE_train_00016900"
    others = (
        f"{top}/training/{'home_or_hotel' if year == 2021 else 'b'}/bathroom/ADE_train_00000007",
        f"{top}/validation/{'cultural' if year == 2021 else 'c'}/cathedral/outdoor/ADE_val_00000001",
    )
    for stem in (street, *others):
        photograph(root / f"{stem}.jpg")
        picture(root / f"{stem}_seg.png", full_map((0, 0), (401, 90), (401, 180), (2131, 255)))
        text(root / f"{stem}_atr.txt", '001 # 0 # 0 # car, auto, automobile, machine, motorcar # car # ""\n')
    picture(root / f"{street}_parts_1.png", full_map((0, 0), (3055, 40), (3055, 80), (0, 0)))
    picture(root / f"{street}_parts_2.png", full_map((0, 0), (0, 0)))
    text(root / "index_ade20k.pkl", "cos\nsystem\n(S'false'\ntR.")
    text(root / "objects.txt")
    photograph(root / "images/consistencyanalysis/original/ADE_val_00000005.jpg")
    picture(root / "images/consistencyanalysis/original/ADE_val_00000005_seg.png", full_map((401, 1)))
    if year == 2016:
        (root / "index_ade20k.mat").write_bytes(_index())
        return
    for stem in (street, *others):
        picture(root / stem / f"instance_000_{stem.rpartition('/')[2]}.png", halves(0, 255))
        objects = ",".join(
            f'{{"id":0,"name":{json.dumps(n)},"name_ndx":{id},"hypernym":[]}}' for id, n in OBJECTS.items()
        )
        (root / f"{stem}.json").write_bytes(b'{"annotation":{"filename":"\xff","object":[' + objects.encode() + b"]}}")


@cache
def _index() -> bytes:
    """`index_ade20k.mat` as MATLAB writes it, with as many names as the release of 2016 has."""
    names = np.array([OBJECTS.get(id, f"object {id}") for id in range(1, 3149)], object)
    buffer = io.BytesIO()
    savemat(buffer, {"index": {"filename": np.array(["a"], object), "objectnames": names}})
    return buffer.getvalue()
