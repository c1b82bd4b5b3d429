"""Power losses: a run is traced, and disks are made as they may be found when it was cut off at any moment.

The model is a hard one: whatever was not synchronised is lost, kept, or kept in part and in any order, each name and
each block of a file by itself. A file's bytes are safe after its fsync, a folder's names after the folder's.
"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

from zeuxis.storage import files

BLOCK = 512
"""Bytes that a disk writes at once."""


class Moment(NamedTuple):
    """The disk as the running system sees it.

    Attributes:
        folders: folder to its names, each with the file or folder it stands for; those are numbered.
        data: file to the hash of its bytes, which lie in the trace's folder.
        synced: the file or folder that an fsync has just ended on, or None.
    """

    folders: dict[str, dict[str, int]]
    data: dict[str, str]
    synced: int | None


class Recorder:
    """Takes down every moment of a run in this process, from when it is made.

    Args:
        bank: what is watched.
        store: where the contents of files are put, each under its hash.
    """

    def __init__(self, bank: Path, store: Path) -> None:
        self.moments: list[Moment] = []
        self._bank, self._store = bank, store
        self._numbers: dict[tuple[int, int], int] = {}
        self._held: list[int] = []
        store.mkdir(exist_ok=True)
        point, fsync = files.fault_point, os.fsync

        def noted(path: Path) -> bool:
            self._take(None)
            return point(path)

        def synced(fd: Any) -> None:
            fsync(fd)
            self._take(self._number(os.fstat(fd)))

        files.fault_point, os.fsync = noted, synced
        self._take(None)

    def end(self) -> list[Moment]:
        """All moments, the one after the last operation included."""
        self._take(None)
        return self.moments

    def _take(self, synced: int | None) -> None:
        folders: dict[str, dict[str, int]] = {}
        data: dict[str, str] = {}
        for folder, below, names in os.walk(self._bank):
            entries = {name: self._of(os.path.join(folder, name)) for name in (*below, *names)}
            folders[str(self._number(os.stat(folder)))] = entries
            for name in names:
                data[str(entries[name])] = self._kept(Path(folder) / name)
        self.moments.append(Moment(folders, data, synced))

    def _kept(self, path: Path) -> str:
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if not (self._store / name).exists():
            (self._store / name).write_bytes(content)
        return name

    def _of(self, path: str) -> int:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) not in self._numbers:
            self._held.append(os.open(path, os.O_RDONLY))  # no later file may get its inode
        return self._number(status)

    def _number(self, status: os.stat_result) -> int:
        return self._numbers.setdefault((status.st_dev, status.st_ino), len(self._numbers))


class Replay:
    """The disks that may be found after a trace was cut off; the root folder is the one seen first."""

    def __init__(self, moments: list[Moment], store: Path) -> None:
        self._moments, self._store = moments, store
        self._root = next(iter(moments[0].folders))

    def __len__(self) -> int:
        return len(self._moments)

    def write(self, moment: int, target: Path, drawn: random.Random) -> None:
        """One disk of those possible after `moment`, as a folder."""
        chance = drawn.choice((0.0, 0.5, 0.5, 0.9, 1.0))  # of each change that was not synchronised
        self._chosen: dict[int, bytes] = {}
        self._placed: set[int] = set()
        self._folder(self._root, moment, target, drawn, chance)

    def _folder(self, node: str, moment: int, target: Path, drawn: random.Random, chance: float) -> None:
        target.mkdir()
        states = self._states(moment, node, lambda each: each.folders.get(node))
        names = sorted({name for state in states for name in state})
        for name in names:
            found = _one([state.get(name) for state in states], drawn, chance)
            if found is None:
                continue
            if any(str(found) in each.folders for each in self._moments):
                if found not in self._placed:  # a folder never has two names
                    self._placed.add(found)
                    self._folder(str(found), moment, target / name, drawn, chance)
            else:
                if found not in self._chosen:
                    self._chosen[found] = self._content(str(found), moment, drawn, chance)
                (target / name).write_bytes(self._chosen[found])

    def _content(self, node: str, moment: int, drawn: random.Random, chance: float) -> bytes:
        """A file's bytes: block by block what was synchronised, or anything that was written since."""
        hashes = self._states(moment, node, lambda each: each.data.get(node))
        states = [(self._store / name).read_bytes() if name else b"" for name in hashes]
        size = len(_one(states, drawn, chance))
        padded = [state.ljust(size, b"\0") for state in states]
        blocks = (_one([state[start : start + BLOCK] for state in padded], drawn, chance)
                  for start in range(0, size, BLOCK))  # fmt: skip
        return b"".join(blocks)[:size]

    def _states(self, moment: int, node: str, of: Any) -> list[Any]:
        """What is durable of a file or folder at a moment, then every state it was in since, as far as they differ."""
        seen = self._moments[: moment + 1]
        synced = max((n for n, each in enumerate(seen) if str(each.synced) == node), default=None)
        known = of(seen[synced or 0])  # before the run began, all was durable
        states = [known if known is not None else type(of(self._first(node, of)))()]
        for each in seen[(synced or 0) + 1 :]:
            state = of(each)
            if state is not None and state != states[-1]:
                states.append(state)
        return states

    def _first(self, node: str, of: Any) -> Moment:
        return next(each for each in self._moments if of(each) is not None)


def _one(states: list[Any], drawn: random.Random, chance: float) -> Any:
    """The durable state, which comes first, or, with a chance, the latest or one between."""
    if len(states) == 1 or drawn.random() >= chance:
        return states[0]
    return states[-1] if drawn.random() < 0.5 else drawn.choice(states[1:])
