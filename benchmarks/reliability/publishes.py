"""`publishes`: processes race to publish generations; one wins each number, and no update is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from zeuxis.storage import files
from zeuxis.storage.errors import BankBusyError
from zeuxis.storage.manifest import generations, load_current, load_generation, publish

from . import Outcome
from .forks import DONE, SECONDS, End, forked, together
from .world import make_world, scratch_folder

PROCESSES, PUBLISHES = 8, 200


def run(quick: bool) -> Outcome:
    """Half of the generations are raced for without the writer lock, and half of those by all at once; half with it."""
    processes, wanted = (3, 12) if quick else (PROCESSES, PUBLISHES)
    rows, failures = [], []
    with scratch_folder() as folder:
        world = Path(folder)
        assert forked(lambda: make_world(world)).how == DONE
        bank = world / "grown"
        for locked, at_once, share in ((False, True, 4), (False, False, 4), (True, False, 2)):
            before = generations(bank)[-1]
            last = before + wanted // share
            meeting = get_context("fork").Barrier(processes, timeout=SECONDS) if at_once else None
            ends = together([partial(race, bank, who, last, locked, meeting) for who in range(processes)])
            row, said = _checked(bank, before, last, ends)
            how = {"writer lock": "held" if locked else "not asked for", "all at once": "yes" if at_once else "no"}
            rows.append(how | {"processes": processes} | row)
            failures += said
    return Outcome(rows, failures)


def race(bank: Path, who: int, last: int, locked: bool, meeting: Barrier | None = None) -> dict[str, Any]:
    """Publishes one generation after the other until `last` is there; each adds a word of its own to all before.

    Where they meet, none publishes before all have read the same generation: one wins, the others must lose. They wait
    for one that has died for a minute at most, and are noticed to have crashed.
    """
    won: list[list[Any]] = []
    lost = busy = 0
    while (current := load_current(bank)).generation < last:
        word = f"{who}.{len(won)}.{lost}"
        if meeting:
            meeting.wait()
        try:
            if locked:
                with files.writer_lock(bank):
                    current = load_current(bank)
                    if current.generation < last:
                        won.append([_publish(bank, current, word), word])
            else:
                won.append([_publish(bank, current, word), word])
        except BankBusyError as error:
            lost += "published by someone else" in str(error)
            busy += "is being written" in str(error)
    return {"won": won, "lost": lost, "busy": busy}


def _publish(bank: Path, current: Any, word: str) -> int:
    said = f"{current.made.get('words', '')} {word}"
    publish(bank, replace(current, generation=current.generation + 1, made={**current.made, "words": said}))
    return int(current.generation) + 1


def _checked(bank: Path, before: int, last: int, ends: list[End]) -> tuple[dict[str, Any], list[str]]:
    """Counts, and whatever breaks the rule: each number won once, each generation says all its predecessors said."""
    failures = [f"a process {end.how}: {end.said}" for end in ends if end.how != DONE]
    said = [end.said for end in ends if end.how == DONE]
    winners = Counter(number for each in said for number, _ in each["won"])
    words = {number: word for each in said for number, word in each["won"]}
    several = [number for number in range(before + 1, last + 1) if winners[number] != 1]
    lost = []
    for number in range(before + 1, min(last, generations(bank)[-1]) + 1):
        told = load_generation(bank, number).made["words"]
        if told != f"{load_generation(bank, number - 1).made.get('words', '')} {words.get(number)}":
            lost.append(number)
    failures += [f"generation {number} was won {winners[number]} times" for number in several]
    failures += [f"generation {number} lost an update" for number in lost]
    if left := [path.name for path in bank.glob(".tmp-*")]:
        failures.append(f"left behind: {left}")
    row = {
        "publishes": sum(winners.values()), "numbers with one winner": last - before - len(several),
        "lost races": sum(each["lost"] for each in said), "turned away by the lock": sum(each["busy"] for each in said),
        "lost updates": len(lost),
    }  # fmt: skip
    return row, failures
