"""`--classes MAP.yaml`: which classes of a data set are called what in the bank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from ..storage.errors import InputError, sentence


def load_class_map(path: str | Path) -> Mapping[str, Mapping[str, str | None]]:
    """Reads a class map: data set (kind or name in the bank) to its class names to the bank's.

        camvid:
          pedestrian: person
          fence: null        # void

    Raises:
        InputError: no such file, or not of that form.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
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
