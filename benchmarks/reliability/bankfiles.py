"""`files`: every kind of file of a bank is cut short or gets a flipped bit; whoever reads it lives and hears of it."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path

from zeuxis.storage.manifest import generations, load_current, manifest_path, verify

from . import Outcome
from .forks import DONE, RAISED, forked
from .judging import judge
from .trials import in_warm_process
from .world import thin_out

DAMAGES = 2_000
SECONDS = 60


def run(quick: bool) -> Outcome:
    """Each damage is done to a whole bank and undone again."""
    return Outcome(*in_warm_process(partial(damage_all, wanted=40 if quick else DAMAGES)))


def damage_all(world: Path, wanted: int) -> Outcome:
    """So many damages, one after the other, to the files in turn."""
    counts: dict[str, Counter[str]] = {}
    failures: list[str] = []
    bank = world / "grown"
    assert forked(lambda: thin_out(world, bank)).how == DONE
    paths = published(bank)
    for number in range(wanted):
        path = paths[number % len(paths)]
        what, reading, verifying = damaged(bank, path, random.Random(number))
        row = counts.setdefault(path.name if path.suffix != ".faiss" else "*.faiss", Counter())
        row["damages"] += 1
        row["seen on reading"] += reading == "found"
        row["seen by verify --deep"] += verifying == "found"
        row["deaths"] += not {reading, verifying} <= {"found", "missed"}
        if "found" not in (reading, verifying) or row["deaths"]:
            failures.append(f"{path.relative_to(bank)}, {what}: reading {reading}, verify {verifying}")
    return Outcome([{"file": name, **row} for name, row in sorted(counts.items())], failures)


def published(bank: Path) -> list[Path]:
    """The manifest, and every file that it names."""
    manifest = load_current(bank)
    inside = [path for files in manifest.pieces(bank).values() for path in files]
    return [manifest_path(bank, generations(bank)[-1]), *inside]


def damaged(bank: Path, path: Path, drawn: random.Random) -> tuple[str, str, str]:
    """What was done to a file, and whether reading everything and `verify --deep` found it."""
    whole = path.read_bytes()
    place = drawn.randrange(len(whole))
    if drawn.random() < 0.4:
        what, data = f"cut to {place:,} bytes", bytearray(whole[:place])
    else:
        bit = drawn.randrange(8)
        what, data = f"bit {bit} of byte {place:,}", bytearray(whole)
        data[place] ^= 1 << bit
    path.write_bytes(data)
    try:
        return what, _found(lambda: judge(bank, verified=False)[1]), _found(lambda: list(verify(bank, deep=True)))
    finally:
        path.write_bytes(whole)


def _found(look: object) -> str:
    end = forked(look, SECONDS)  # type: ignore[arg-type]
    if end.how == RAISED or (end.how == DONE and end.said):
        return "found"
    return "missed" if end.how == DONE else f"{end.how} ({end.said})"
