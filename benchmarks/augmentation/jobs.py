"""Jobs that need each other's results, shared among processes: each result is a JSON file in one folder.

Several processes may run the same list at once, each takes what nobody else has; a killed one loses the job it was at.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class Job:
    """A result by name, what it needs, and how it is made: `make` returns what JSON can say."""

    name: str
    needs: Sequence[str]
    make: Callable[[], Any]


class Results:
    """The results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, name: str) -> bool:
        return self._path(name).exists()

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._path(name).read_text())

    def complete(self, jobs: Sequence[Job], tell: Callable[[str], None]) -> None:
        """Makes all that is not there, in order as far as needs allow; waits for what other processes make."""
        while left := [job for job in jobs if job.name not in self]:
            ready = (job for job in left if all(need in self for need in job.needs))
            if not any(self._made(job, tell) for job in ready):
                time.sleep(WAIT_SECONDS)

    def _made(self, job: Job, tell: Callable[[str], None]) -> bool:
        """Whether it was made, now and here."""
        with self._claimed(job.name) as mine:
            if not mine or job.name in self:
                return False
            begun = time.monotonic()
            found = job.make()
            part = self._path(job.name).with_suffix(".part")
            part.write_text(json.dumps(found) + "\n")
            part.replace(self._path(job.name))
        tell(f"{job.name}: {time.monotonic() - begun:.0f} s")
        return True

    @contextmanager
    def _claimed(self, name: str) -> Iterator[bool]:
        """Whether no other process is at it."""
        with self._path(name).with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.json"
