"""`--classes MAP.yaml`: which classes of a data set are called what in the bank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from ..storage.classes import VOID, ClassTable, SemanticClass
from ..storage.errors import InputError, sentence
from ..storage.plain_yaml import load_yaml

ClassMap = Mapping[str, Mapping[str, str | None]]
"""Data set (kind, or name in the bank) to its class names to the bank's; `None` for void."""


def load_class_map(path: str | Path) -> ClassMap:
    """Reads a class map: data set (kind or name in the bank) to its class names to the bank's.

        camvid:
          pedestrian: person
          fence: null        # void

    Raises:
        InputError: no such file, or not of that form.
    """
    try:
        found = load_yaml(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(sentence(path, f"cannot be read as YAML ({' '.join(str(error).split())})")) from error
    if not isinstance(found, dict) or not all(
        isinstance(names, dict) and all(isinstance(new, str | None) for new in names.values())
        for names in found.values()
    ):
        raise InputError(
            sentence(
                path, expected="data set -> {class name: name in the bank, or null for void}", found=repr(found)[:80]
            )
        )
    return {str(kind): {str(old): new for old, new in names.items()} for kind, names in found.items()}


def check_class_map(
    names: Mapping[str, str | None],
    native: Iterable[SemanticClass],
    mapping: Mapping[int, int],
    classes: ClassTable,
    dataset: str,
) -> None:
    """Refuses what a class map says of one data set where that names no class, or contradicts the bank.

    Args:
        names: class name to the bank's.
        native: the data set's classes.
        mapping: native id to the bank's, as far as the bank has taken them in.
        classes: the bank's.
        dataset: for the message.

    Raises:
        InputError.
    """
    ids = {entry.name: entry.id for entry in native}
    strange = sorted(set(names) - set(ids))
    if strange:
        raise InputError(
            sentence("--classes", expected=f"class names of {dataset}", found=", ".join(map(repr, strange)))
        )
    for name, new in names.items():
        has = mapping.get(ids[name])
        had = None if has is None or has == VOID else classes[has].name
        if has is not None and had != new:
            raise InputError(
                sentence(
                    f"--classes: {name} of {dataset}",
                    expected=f"{had or 'null'}, which the bank was made with",
                    found=new or "null",
                    fix="leave it out or make a new bank",
                )
            )
