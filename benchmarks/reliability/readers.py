"""`readers`: processes query a bank while a writer replaces its generation and removes the old one, again and again."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from zeuxis.storage.errors import ZeuxisError
from zeuxis.storage.reader import Reader

from . import Outcome
from .forks import DONE, SECONDS, End, together
from .judging import answers
from .trials import in_warm_process
from .world import add_picture
from .world import run as rebuild_world

READERS, SWAPS = 16, 500
ASKED_AGAIN = 3
"""A reader asks its generation so often, while it may be replaced, before it opens the bank anew."""


def run(quick: bool) -> Outcome:
    """Every answer must be the one of the generation that was opened, and of no other."""
    readers, swaps = (3, 6) if quick else (READERS, SWAPS)
    return Outcome(*in_warm_process(partial(swap_and_ask, readers=readers, swaps=swaps)))


def swap_and_ask(world: Path, readers: int, swaps: int) -> Outcome:
    """One writer and so many readers at the same time."""
    meeting = get_context("fork").Barrier(readers + 1, timeout=SECONDS)
    ends = together([partial(write, world, swaps, meeting), *([partial(read, world, meeting)] * readers)])
    return _table(ends, readers, swaps)


def write(world: Path, swaps: int, meeting: Barrier) -> dict[str, Any]:
    """Changes a photograph, rebuilds, keeps no older generation; what each generation answers, by its number.

    It begins when every reader has answers of the first generation.
    """
    bank = world / "grown"
    expected = {}
    held = retired = 0
    try:
        meeting.wait()
        for swap in range(swaps + 1):
            if swap:
                add_picture(world / "one", "b", f"swap {swap}")
                report = rebuild_world(world, bank, keep=1, report=False)
                retired += len(report.retired)
            reader = Reader(bank)
            expected[reader.manifest.generation] = told(reader)
            reader.release()
            held = max(held, len(list(bank.glob("MANIFEST-*"))) - 1)
    finally:
        (world / "done").touch()
    return {"expected": expected, "retired": retired, "held": held}


def read(world: Path, meeting: Barrier) -> dict[str, Any]:
    """Opens the bank, asks it a few times, opens it anew: from before the writer begins until after it is done."""
    seen: Counter[str] = Counter()
    errors: list[str] = []
    _ask(world / "grown", seen, errors)
    meeting.wait()
    done = False
    while not done:
        done = (world / "done").exists()
        _ask(world / "grown", seen, errors)
    return {"seen": seen, "errors": errors[:5], "failed": len(errors)}


def _ask(bank: Path, seen: Counter[str], errors: list[str]) -> None:
    try:
        reader = Reader(bank)
        for _ in range(ASKED_AGAIN):
            seen[f"{reader.manifest.generation} {told(reader)}"] += 1
            time.sleep(random.uniform(0, 0.05))
        reader.release()
    except (ZeuxisError, OSError, KeyError, ValueError) as error:
        errors.append(f"{type(error).__name__}: {error}"[:300])


def told(reader: Reader) -> str:
    """Digest of what a generation answers, and of the rows and one value a shard behind it."""
    rows = sorted(json.dumps(row, default=str) for row in reader.table("segments").to_pylist())
    values = [hashlib.sha256(next(iter(shard.blobs()), (b"", b""))[1]).hexdigest() for shard in reader.shards]
    return hashlib.sha256(repr((rows, values, answers(reader))).encode()).hexdigest()[:16]


def _table(ends: list[End], readers: int, swaps: int) -> Outcome:
    failures = [f"a process {end.how}: {end.said}" for end in ends if end.how != DONE]
    if failures:
        return Outcome([{"readers": readers, "swaps": swaps}], failures)
    writer, *asking = [end.said for end in ends]
    expected = writer["expected"]
    if len(set(expected.values())) < len(expected):
        failures.append("two generations answer alike: a mixture could not be told")
    answered = mixed = 0
    generations = set()
    for each in asking:
        failures += each["errors"]
        for key, count in each["seen"].items():
            number, digest = key.split()
            answered += count
            generations.add(number)
            mixed += count * (expected.get(number) != digest)
    if mixed:
        failures.append(f"{mixed} answers are not those of the generation that was opened")
    row = {
        "readers": readers, "swaps": swaps, "generations removed": writer["retired"], "answers": answered,
        "generations answered from": len(generations), "older ones held at once, most": writer["held"],
        "errors": sum(each["failed"] for each in asking), "mixed answers": mixed,
    }  # fmt: skip
    return Outcome([row], failures)
