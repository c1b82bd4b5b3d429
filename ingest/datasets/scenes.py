"""Procedural street scenes as a data set: reads the folder that `write_scenes` made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ...storage.classes import SemanticClass
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, sentence
from .base import Dataset, SourceRef

SKY, BUILDING, TREE, ROAD, PAVEMENT, GRASS, CAR, PERSON, POLE, SIGN, LIGHT, BUS = range(12)
VOID_ID = 255
"""Label of the bonnet of the car that carries the camera."""

CLASSES = (
    SemanticClass(SKY, "sky", (70, 130, 180)),
    SemanticClass(BUILDING, "building", (70, 70, 70)),
    SemanticClass(TREE, "tree", (107, 142, 35)),
    SemanticClass(ROAD, "road", (128, 64, 128)),
    SemanticClass(PAVEMENT, "pavement", (244, 35, 232)),
    SemanticClass(GRASS, "grass", (152, 251, 152)),
    SemanticClass(CAR, "car", (0, 0, 142), thing=True),
    SemanticClass(PERSON, "person", (220, 20, 60), thing=True),
    SemanticClass(POLE, "pole", (153, 153, 153), thing=True, thin=True),
    SemanticClass(SIGN, "sign", (220, 220, 0), thing=True, thin=True),
    SemanticClass(LIGHT, "light", (250, 170, 30), thing=True, thin=True),
    SemanticClass(BUS, "bus", (0, 60, 100), thing=True),
)
METRES_PER_UNIT = 0.01
"""Depth maps are 16-bit PNGs in centimetres; the sky is 65535."""

INDEX_FILE = "scenes.json"
FORMAT = "zeuxis-scenes"


class Scenes(Dataset):
    """`images/`, `labels/` and `depths/` with one PNG a scene in each, and `scenes.json`, which lists them."""

    kind = "scenes"
    expects = "a folder with scenes.json, images/, labels/ and depths/, as `write_scenes` makes it"
    licence = "CC0-1.0"

    @property
    def decoding(self) -> Decoding:
        """Ids 0..11, 255 void, depth in centimetres."""
        return Decoding(CLASSES, frozenset({VOID_ID}), metres_per_unit=METRES_PER_UNIT)

    def sources(self) -> Sequence[SourceRef]:
        """Every scene that scenes.json lists; a street is a group and lies in one split.

        Raises:
            DatasetError: the root does not hold what `expects` says, or holds no source at all.
        """
        for name in ("images", "labels"):
            if not (self.root / name).is_dir():
                raise self._error(f"no folder {name}")
        rows = self._index["scenes"]
        if not rows:
            raise self._error("no scene in it")
        files = {
            folder: {path.name for path in (self.root / folder).glob("*.png")}
            for folder in ("images", "labels", "depths")
        }

        def path(folder: str, name: str) -> str | None:
            return f"{folder}/{name}.png" if f"{name}.png" in files[folder] else None

        refs = (
            SourceRef(name, split, group, path("images", name), path("labels", name), path("depths", name))
            for name, split, group in ((row["name"], row["split"], row["street"]) for row in rows)
        )
        return sorted(refs, key=lambda ref: ref.name)

    @cached_property
    def _index(self) -> dict[str, Any]:
        file = self.root / INDEX_FILE
        try:
            index = json.loads(file.read_text(encoding="utf-8"))
            if index["format"] == FORMAT and all({"name", "split", "street"} <= row.keys() for row in index["scenes"]):
                return dict(index)
        except FileNotFoundError:
            raise self._error(f"no {INDEX_FILE}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        raise self._error(f"a {INDEX_FILE} that is not one of its own")

    def _error(self, found: str) -> DatasetError:
        return DatasetError(
            sentence(
                self.spec, expected=self.expects, found=found, fix=f"check {Path(self.root).name} or write it again"
            )
        )
