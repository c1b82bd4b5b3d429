"""`tmpfs`: a rebuild on a disk of every size that is too small, in steps; then there is room, and it completes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from . import Outcome
from .forks import DONE, RAISED, forked
from .judging import State, judge, names_in
from .trials import in_warm_process
from .world import copy_bank, merge
from .world import run as rebuild_world

STEPS = 100
ROOM = "size=1g"


def run(quick: bool) -> Outcome:
    """Starts itself in a mount namespace, as root or as whom the system lets be root there."""
    command = [sys.executable, "-m", "benchmarks.reliability.tmpfs", *["--quick"] * quick]
    unshare = shutil.which("unshare")
    private = [unshare or "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if (
        not unshare
        or subprocess.run([*private, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
    ):
        return Outcome([{"what": "skipped: this system lets nobody mount a tmpfs here"}], [])
    done = subprocess.run([*private, *command], stdout=subprocess.PIPE, text=True, check=True)
    return Outcome(*json.loads(done.stdout.splitlines()[-1]))


def inside(quick: bool) -> Outcome:
    """Every size, for a bank from nothing and for one that is there already."""
    return Outcome(*in_warm_process(partial(_rebuilds, steps=4 if quick else STEPS)))


def _rebuilds(world: Path, steps: int) -> Outcome:
    rows, failures = [], []
    for name, base in (("the first", None), ("the next", "base"), ("one that merges", "grown")):
        row, said = _sizes(world, base, steps)
        rows.append({"rebuild": name} | row)
        failures += [f"{name}: {each}" for each in said]
    return Outcome(rows, failures)


def _sizes(world: Path, base: str | None, steps: int) -> tuple[dict[str, Any], list[str]]:
    """Counts of ends over disks from the size of what is there to one that is large enough."""
    place = world / "disk"
    place.mkdir(exist_ok=True)
    work = merge if base == "grown" else rebuild_world
    low, high, whole = _mounted(place, lambda: _with_room(world, base, place, work))
    ends: Counter[str] = Counter()
    failures: list[str] = []
    for step in range(steps):
        pages = low + (high - low) * step // steps
        ends += _mounted(place, lambda pages=pages: _one(world, base, place, work, pages, whole, failures))
    row = {"sizes": steps, "kB from": low * 4, "kB to": high * 4}
    return row | {how: ends[how] for how in ("refused in a sentence", "done", "died", "old generation lost")}, failures


def _mounted(place: Path, work: Any) -> Any:
    _mount(place, "-t", "tmpfs", "-o", ROOM, "none")
    try:
        return work()
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _mount(place: Path, *how: str) -> None:
    subprocess.run(["mount", *how, str(place)], check=True)


def _used(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_blocks - status.f_bfree


def _with_room(world: Path, base: str | None, place: Path, work: Any) -> tuple[int, int, State]:
    """Pages of the disk before and after a run that had enough, which may need more in between; what it left."""
    bank = _placed(world, base, place)
    before = _used(place)
    assert forked(lambda: bool(work(world, bank)) or True).how == DONE
    found = _state(bank)
    assert found is not None
    return max(before, 2), max(before, _used(place)) + before // 2, found


def _placed(world: Path, base: str | None, place: Path) -> Path:
    return copy_bank(world / base, place / "bank") if base else place / "bank"


def _one(
    world: Path, base: str | None, place: Path, work: Any, pages: int, whole: State, failures: list[str]
) -> Counter[str]:
    """A run on a disk of so many pages; then one with room."""
    bank = _placed(world, base, place)
    old = _state(bank) if base else None
    _mount(place, "-o", f"remount,size={max(pages, _used(place) + 1) << 12}")
    end = forked(lambda: bool(work(world, bank)) or True)
    ends = Counter(["done" if end.how == DONE else "refused in a sentence" if end.how == RAISED else "died"])
    if end.how not in (DONE, RAISED):
        failures.append(f"{pages} pages: the run {end.how}: {end.said}")
    if old and (found := _state(bank)) not in (old, whole):
        ends["old generation lost"] += 1
        failures.append(f"{pages} pages: after {end.said} the bank is {found}, not {old}")
    _mount(place, "-o", f"remount,{ROOM}")
    again = forked(lambda: bool(work(world, bank)) or True)
    if again.how != DONE or _state(bank) != whole:
        failures.append(f"{pages} pages: with room, the next run {again.how}: {again.said}, {_state(bank)}")
    if left := [name for name in names_in(bank) if ".tmp-" in name]:
        failures.append(f"{pages} pages: left behind {left[:3]}")
    return ends


def _state(bank: Path) -> State | None:
    end = forked(lambda: judge(bank))
    if end.how != DONE or end.said[1] or end.said[0] is None:
        return None
    return State(*end.said[0])


if __name__ == "__main__":
    print(json.dumps(inside("--quick" in sys.argv)))
