"""CamVid street scenes: index labels of 11 classes, or the original RGB palette of 32 merged to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from ...storage.classes import Colour, SemanticClass
from ...storage.decoding import Decoding
from .listing import SPLITS, PairedFiles, Section, contents

VOID_ID = 11

_COLOURS: dict[str, dict[str, Colour]] = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Building": (128, 0, 0),
        "Bridge": (0, 128, 64),
        "Wall": (64, 192, 0),
        "Tunnel": (64, 0, 64),
        "Archway": (192, 0, 128),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {
        "Road": (128, 64, 128),
        "LaneMkgsDriv": (128, 0, 192),
        "LaneMkgsNonDriv": (192, 0, 64),
    },
    "pavement": {
        "Sidewalk": (0, 0, 192),
        "ParkingBlock": (64, 192, 128),
        "RoadShoulder": (128, 128, 192),
    },
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {
        "SignSymbol": (192, 128, 128),
        "Misc_Text": (128, 128, 64),
        "TrafficLight": (0, 64, 64),
    },
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128),
        "SUVPickupTruck": (64, 128, 192),
        "Truck_Bus": (192, 128, 192),
        "Train": (192, 64, 128),
        "OtherMoving": (128, 64, 64),
    },
    "pedestrian": {
        "Pedestrian": (64, 64, 0),
        "Child": (192, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Animal": (64, 128, 64),
    },
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}
"""Our 11 classes in the order of their ids; each with the original classes it merges (Badrinarayanan et al., SegNet)
and their colours in the original label_colors.txt. The first gives the class its colour."""

_THINGS = {"car", "pedestrian", "bicyclist", "pole", "sign"}
_THIN = {"pole", "sign"}

CLASSES = tuple(
    SemanticClass(id, name, next(iter(merged.values())), name in _THINGS, name in _THIN)
    for id, (name, merged) in enumerate(_COLOURS.items())
)
PALETTE: dict[Colour, int] = {(0, 0, 0): VOID_ID} | {
    colour: id for id, merged in enumerate(_COLOURS.values()) for colour in merged.values()
}

TEST_GROUP = "0006R0"
_CLIP = re.compile(r"0016E5_0*(\d+)$")
"""The 15 Hz clip of seven seconds, SegNet's `val`: frames 7959 to 8159 of sequence 0016E5."""


class CamVid(PairedFiles):
    """CamVid: photographs and label maps, without depth.

    The path is a root with `train/` and `val/` (`test/` too, where there is one), one of these folders (its
    sources keep the names they have from the root), a folder with `images/` and `labels/`, or the original
    `701_StillsRaw_full/` and `LabeledApproved_full/`. The group is the video sequence. Splits:
    sequence 0006R0 tests; of the clip `val`, whose frames are near-duplicates, every tenth trains and the others
    validate; the rest trains.
    """

    kind = "camvid"
    expects = "train/ and val/, or images/ and labels/, or the original 701_StillsRaw_full/ and LabeledApproved_full/"

    @cached_property
    def decoding(self) -> Decoding:
        """11 classes; id 11 and the palette's black are void."""
        return Decoding(CLASSES, frozenset({VOID_ID}), PALETTE)

    def _sections(self) -> Sequence[Section]:
        prefix = f"{self.root.name}/" if self.root.name in SPLITS else ""
        candidates = [
            *(Section(f"{part}/images", f"{part}/labels", prefix=f"{part}/") for part in SPLITS),
            Section("images", "labels", prefix=prefix),
            Section("701_StillsRaw_full", "LabeledApproved_full"),
        ]
        held = [s for s in candidates if (self.root / s.images).is_dir() or (self.root / s.labels).is_dir()]
        broken = [folder for s in held for folder in (s.images, s.labels) if not (self.root / folder).is_dir()]
        if broken:
            raise self._nothing(f"no folder {broken[0]}/")
        if not held:
            raise self._nothing(contents(self.root))
        return held

    def _label_name(self, name: str) -> str:
        return name.removesuffix("_L")  # the original label maps are NAME_L.png

    def _splits_and_groups(self, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        clip = [name for name in names if _in_clip(name)]
        validation = set(clip) - set(clip[::10])
        placed = {}
        for name in names:
            group = name.rsplit("/", 1)[-1].split("_", 1)[0]
            if group == TEST_GROUP or name.startswith("test/"):
                split = "test"
            else:
                split = "val" if name in validation else "train"
            placed[name] = split, group
        return placed


def _in_clip(name: str) -> bool:
    """Whether a frame belongs to `val`: by its folder, or by its number where all lie in one folder."""
    if "/" in name:
        return name.startswith("val/")
    number = _CLIP.match(name)
    return number is not None and 7959 <= int(number[1]) <= 8159
