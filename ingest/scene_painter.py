"""Writes a data set of procedural street scenes with exact labels and depth: one that needs no download."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..storage.errors import DatasetError, sentence
from .datasets.scenes import FORMAT, INDEX_FILE
from .scene_street import Scene, Street

VERSION = 1
"""Raised whenever the same seed would give other pictures."""

SCENES_PER_STREET = 4
VAL_SHARE, TEST_SHARE = 0.10, 0.15


def write_scenes(
    root: str | Path,
    count: int = 60,
    seed: int = 7,
    size: tuple[int, int] = (384, 512),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set of `count` scenes of `size` (rows, columns) that `Scenes` reads.

    A scene depends on seed, size, its street and its place in it, on nothing else, so that the same arguments give
    the same pixels everywhere (and the same files with the same Pillow). `progress(done, count)` is called after each.

    Raises:
        DatasetError: the folder holds something else, or a number makes no sense.
    """
    root = Path(os.path.expanduser(root))
    if count < 1 or min(size) < 64:
        raise DatasetError(
            sentence(root, expected="at least 1 scene of at least 64x64", found=f"{count} of {size[0]}x{size[1]}")
        )
    _clear(root)
    about: dict[str, object] = {"version": VERSION, "seed": seed, "size": list(size), "count": count}
    _write_index(root, about, [])  # what is cut short is known for what it is
    streets = -(-count // SCENES_PER_STREET)
    rows: list[dict[str, str]] = []
    for number in range(streets):
        street, split = Street(seed, number), split_of(number, streets)
        for index in range(min(SCENES_PER_STREET, count - len(rows))):
            name = f"{len(rows):04d}"
            _write_scene(root, name, street.paint(index, size))
            rows.append({"name": name, "street": f"street-{number:03d}", "split": split})
            if progress:
                progress(len(rows), count)
    _write_index(root, about, rows)
    return root


def split_of(street: int, streets: int) -> str:
    """The split of a whole street: the last are `test`, those before `val`, the others `train`."""
    if streets < 3:
        return "train"
    test = max(1, int(streets * TEST_SHARE + 0.5))
    val = max(1, int(streets * VAL_SHARE + 0.5))
    return "test" if street >= streets - test else "val" if street >= streets - test - val else "train"


def _clear(root: Path) -> None:
    """Make the folders, without the scenes of an earlier run.

    Raises:
        DatasetError: the folder holds something else.
    """
    if root.exists() and not _is_ours(root):
        raise DatasetError(
            sentence(
                root,
                expected="a new or empty folder, or one with scenes",
                found="other files",
                fix="choose another folder",
            )
        )
    for folder in ("images", "labels", "depths"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for file in (root / folder).glob("[0-9]*.png"):
            file.unlink()


def _is_ours(root: Path) -> bool:
    """Whether a folder is empty or holds scenes, whole or cut short."""
    if not root.is_dir():
        return False
    try:
        return bool(json.loads((root / INDEX_FILE).read_text(encoding="utf-8"))["format"] == FORMAT)
    except FileNotFoundError:
        return not any(root.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_index(root: Path, about: dict[str, object], rows: list[dict[str, str]]) -> None:
    text = json.dumps({"format": FORMAT, **about, "scenes": rows}, indent=1)
    (root / INDEX_FILE).write_text(text + "\n", encoding="utf-8")


def _write_scene(root: Path, name: str, scene: Scene) -> None:
    for folder, array in (("images", scene.image), ("labels", scene.labels), ("depths", scene.depth)):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG", compress_level=3)
        (root / folder / f"{name}.png").write_bytes(buffer.getvalue())
