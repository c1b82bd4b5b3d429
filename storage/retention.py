"""Which generations stay: the newest, and those that somebody reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import files
from .errors import BankError, InputError, sentence
from .manifest import collect_garbage, generations, load_generation, manifest_path

KEEP = 7
"""Generations that stay, where nobody says otherwise."""


@dataclass(frozen=True)
class Retired:
    """What retention did.

    Attributes:
        removed: generations that are gone.
        held: generations that would have gone, and are being read.
        freed: bytes on disk.
    """

    removed: tuple[int, ...]
    held: tuple[int, ...]
    freed: int


def retire(bank: Path, keep: int = KEEP) -> Retired:
    """Removes all but the newest generations and those that are being read, then whatever none of the rest names.

    Call as the writer. Manifests go first and for good before what they name does, so that every one that is there is
    whole at any moment. One that cannot be read does not count, stays, and keeps everything it may name.

    Args:
        bank: its folder.
        keep: how many stay, at least 1.

    Raises:
        InputError: keep. OSError: something cannot be removed.
    """
    if keep < 1:
        raise InputError(sentence("keep", expected="at least 1 generation", found=str(keep)))
    numbers = generations(bank)
    old = [number for number in numbers if _is_readable(bank, number)][:-keep] if len(numbers) > keep else []
    removed = {number: manifest_path(bank, number).stat().st_size for number in old}
    held = [number for number in old if not remove_generation(bank, number)]
    for number in held:
        del removed[number]
    return Retired(tuple(removed), tuple(held), sum(removed.values()) + sum(collect_garbage(bank).values()))


def remove_generation(bank: Path, generation: int) -> bool:
    """Removes a generation's manifest unless it is being read; whether it is gone.

    Call as the writer. What only it named is removed by `collect_garbage`.
    """
    return files.remove_unheld(manifest_path(bank, generation))


def _is_readable(bank: Path, generation: int) -> bool:
    try:
        load_generation(bank, generation)
    except BankError:
        return False
    return True
