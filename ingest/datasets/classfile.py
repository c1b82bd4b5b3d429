"""The class file of a folder data set: `classes.yaml`, `.yml` or `.csv`."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ...storage.classes import VOID, Colour, SemanticClass, colour_of
from ...storage.decoding import Stereo
from ...storage.errors import DatasetError, sentence
from ...storage.plain_yaml import load_yaml

FILE_NAMES = ("classes.yaml", "classes.yml", "classes.csv")
DEFAULT_VOID = 255
KEYS = ("id", "name", "colour", "thing", "thin", "void")
_ALIASES = {"color": "colour"}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False, "none": False}


@dataclass(frozen=True)
class ClassFile:
    """What a class file says.

    Attributes:
        classes: every class that is not void, by id.
        void: native ids that mean void.
        palette: RGB to native id of every row with a colour; `None` where no row has one.
        metres_per_unit: metres one unit of a depth map is worth, where given.
    """

    classes: tuple[SemanticClass, ...]
    void: frozenset[int]
    palette: Mapping[Colour, int] | None = None
    metres_per_unit: float | None = None


WITHOUT_FILE = ClassFile(
    tuple(SemanticClass(id, str(id), colour_of(str(id))) for id in range(DEFAULT_VOID)), frozenset({DEFAULT_VOID})
)
"""Ids are their own names, 255 is void."""


def find_class_file(root: Path) -> ClassFile:
    """The class file in a data set's root, or `WITHOUT_FILE`.

    Raises:
        DatasetError: there are two, or it cannot be used.
    """
    paths = [root / name for name in FILE_NAMES if (root / name).is_file()]
    if len(paths) > 1:
        found = " and ".join(path.name for path in paths)
        raise DatasetError(sentence(root, expected="one class file", found=found, fix="remove all but one"))
    return read_class_file(paths[0]) if paths else WITHOUT_FILE


def read_class_file(path: Path) -> ClassFile:
    """A class file: one row a class with `id`, `name`, and if wanted `colour`, `thing`, `thin` and `void`.

    A colour is `r, g, b` or `#rrggbb`; a CSV file may give it as columns `r`, `g`, `b`. A YAML file is a list of
    rows, or a mapping with `classes` and, if wanted, `metres_per_unit`.
    Without a void row, 255 is void unless it is a class.

    Raises:
        DatasetError: the file cannot be read, or a row cannot be used; it is named.
    """
    rows, metres = _csv_rows(path) if path.suffix == ".csv" else _yaml_rows(path)
    entries = [_Row.read(row, f"{path}, class {number}") for number, row in enumerate(rows, 1)]
    for field in ("id", "colour", "name"):
        _refuse_twins(path, field, [getattr(entry, field) for entry in entries])
    classes = tuple(
        SemanticClass(e.id, e.name, e.colour or colour_of(e.name), e.thing, e.thin)
        for e in sorted(entries, key=lambda e: e.id)
        if not e.void
    )
    if not classes:
        raise DatasetError(sentence(path, expected="at least one class", found="none", fix="add a row a class"))
    void = frozenset(entry.id for entry in entries if entry.void)
    if not void and DEFAULT_VOID not in {entry.id for entry in classes}:
        void = frozenset({DEFAULT_VOID})
    palette = {entry.colour: entry.id for entry in entries if entry.colour}
    return ClassFile(classes, void, palette or None, metres)


def read_depth_file(path: Path) -> tuple[float | None, Stereo | None]:
    """`metres_per_unit` and `stereo` of a `depth.yaml`; nothing where there is no such file.

        metres_per_unit: 0.001

    or, for disparities (see `Stereo`):

        stereo: {baseline_m: 0.22, focal_px: 2262.5, pixels_per_unit: 0.00390625, offset: 1}

    Raises:
        DatasetError: the file holds neither, or what it holds makes no sense.
    """
    if not path.is_file():
        return None, None
    content = _yaml(path)
    found = content if isinstance(content, dict) else {}
    if set(found) not in ({"metres_per_unit"}, {"stereo"}):
        keys = ", ".join(map(str, found)) or "no key"
        raise DatasetError(
            sentence(path, expected="the key metres_per_unit or stereo", found=keys, fix="write metres_per_unit: 0.001")
        )
    if "metres_per_unit" in found:
        return _metres(path, found["metres_per_unit"]), None
    return None, _stereo(path, found["stereo"])


def _stereo(path: Path, row: Any) -> Stereo:
    names = [field.name for field in fields(Stereo)]
    numbers = isinstance(row, dict) and all(
        type(value) in (int, float) and math.isfinite(value) and (value > 0 or name == "offset")
        for name, value in row.items()
    )
    if not numbers or not {"baseline_m", "focal_px"} <= set(row) <= set(names):
        raise DatasetError(
            sentence(
                path, expected=f"stereo with positive numbers {', '.join(names)}", found=repr(row)[:80],
                fix="give at least baseline_m and focal_px",
            )
        )  # fmt: skip
    return Stereo(**row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its header, in lower case and stripped; empty lines are skipped.

    Raises:
        DatasetError: the file is no CSV text, or a row is longer than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            sentence(path, f"cannot be read as CSV ({error})", fix="save it as UTF-8 text with commas")
        ) from error
    if any(None in row for row in rows):
        raise DatasetError(
            sentence(path, expected="as many cells as the header names", found="a longer row", fix="quote the commas")
        )
    return [{key.strip().lower(): (value or "").strip() for key, value in row.items()} for row in rows]


@dataclass(frozen=True)
class _Row:
    id: int
    name: str
    colour: Colour | None
    thing: bool
    thin: bool
    void: bool

    @classmethod
    def read(cls, row: object, where: str) -> _Row:
        if not isinstance(row, Mapping):
            raise DatasetError(
                sentence(where, expected="a row with id and name", found=repr(row), fix="write {id: 0, name: sky}")
            )
        row = {_ALIASES.get(str(key).lower(), str(key).lower()): value for key, value in row.items()}
        strange = [key for key in row if key not in KEYS]
        if strange:
            raise DatasetError(
                sentence(where, expected=f"the keys {', '.join(KEYS)}", found=repr(strange[0]), fix="rename it")
            )
        flags = {key: _flag(row.get(key, False), key, where) for key in ("thing", "thin", "void")}
        id = _id(row.get("id"), where, VOID if flags["void"] else VOID - 1)
        name = row.get("name", f"void {id}" if flags["void"] else None)
        return cls(id, _name(name, where), _colour(row["colour"], where) if "colour" in row else None, **flags)


def _id(value: object, where: str, last: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and int(text) <= last):
        raise DatasetError(
            sentence(where, expected=f"an id in 0..{last}", found=repr(value), fix="give the class its id")
        )
    return int(text)


def _name(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DatasetError(
            sentence(where, expected="a name", found=repr(value), fix="write the name, in quotes if need be")
        )
    return str(value).strip()


def _flag(value: object, key: str, where: str) -> bool:
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise DatasetError(sentence(where, expected=f"true or false for {key}", found=repr(value), fix="correct it"))
    return flag


def _colour(value: object, where: str) -> Colour | None:
    if value == "":
        return None  # an empty cell of a CSV file
    text = ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    digits = re.fullmatch(r"#([0-9a-fA-F]{6})", text.strip())
    if digits:
        red, green, blue = bytes.fromhex(digits[1])
        return red, green, blue
    parts = [part for part in re.split(r"[\s,;()\[\]]+", text) if part]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        fix = "put '#rrggbb' in quotes: YAML takes a bare # for a comment" if value is None else "correct it"
        raise DatasetError(sentence(where, expected="a colour r, g, b or '#rrggbb'", found=repr(value), fix=fix))
    return int(parts[0]), int(parts[1]), int(parts[2])


def _refuse_twins(path: Path, field: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value is not None and value in seen:
            raise DatasetError(
                sentence(path, expected=f"every {field} once", found=f"{value!r} twice", fix="make them differ")
            )
        seen.add(value)


def _csv_rows(path: Path) -> tuple[Sequence[object], None]:
    rows: list[object] = []
    for row in read_rows(path):
        parts = [row.pop(short, row.pop(long, None)) for short, long in (("r", "red"), ("g", "green"), ("b", "blue"))]
        if None not in parts and "colour" not in row and "color" not in row:
            row["colour"] = ",".join(map(str, parts)).strip(",")
        rows.append(row)
    return rows, None


def _yaml_rows(path: Path) -> tuple[Sequence[object], float | None]:
    content = _yaml(path)
    metres = None
    if isinstance(content, dict):
        strange = [key for key in content if key not in ("classes", "metres_per_unit")]
        if strange:
            raise DatasetError(
                sentence(path, expected="the keys classes, metres_per_unit", found=repr(strange[0]), fix="rename it")
            )
        metres = None if content.get("metres_per_unit") is None else _metres(path, content["metres_per_unit"])
        content = content.get("classes")
    if not isinstance(content, list):
        raise DatasetError(
            sentence(path, expected="a list of classes", found=type(content).__name__, fix="write - {id: 0, name: sky}")
        )
    return content, metres


def _yaml(path: Path) -> object:
    try:
        return load_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DatasetError(sentence(path, f"cannot be read as YAML ({error})", fix="correct its syntax")) from error


def _metres(path: Path, value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and number > 0):
        raise DatasetError(
            sentence(path, expected="metres_per_unit above 0", found=repr(value), fix="0.001 stands for millimetres")
        )
    return float(number)
