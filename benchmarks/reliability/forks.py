"""Pieces of work in forked processes: how each ends, and what it says, whatever becomes of it."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from zeuxis.storage.errors import ZeuxisError

SECONDS = 60
"""A trial that takes longer hangs."""
DONE, RAISED, CRASHED = "done", "raised", "crashed"
_ENDS = (DONE, RAISED, CRASHED)
KILLED = f"signal {int(signal.SIGKILL)}"


class End(NamedTuple):
    """How a forked piece of work ended: `done`, `raised`, `crashed` or `signal N`; what it said, after how long."""

    how: str
    said: Any
    seconds: float = 0


def forked(work: Callable[[], Any], seconds: int = SECONDS, kill_after: float | None = None) -> End:
    """Runs `work` in a child of its own, not longer than `seconds`, or kills it.

    What it returns comes back as JSON, or the error as `[type, sentence]`.
    """
    started = _Started(work, seconds)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(started.child, signal.SIGKILL)  # nobody has waited for it: its number is still its own
    return started.end()


def together(works: Sequence[Callable[[], Any]]) -> list[End]:
    """How pieces of work end that run at the same time, each in a child of its own, for as long as they take."""
    return [started.end() for started in [_Started(work, 0) for work in works]]


class _Started:
    """A child that does a piece of work; at most `seconds`, where they are not 0."""

    def __init__(self, work: Callable[[], Any], seconds: int) -> None:
        self._reading, writing = os.pipe()
        sys.stdout.flush()
        self._begun = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            code = len(_ENDS)
            try:
                os.close(self._reading)
                code = _child(work, writing, seconds)
            finally:
                os._exit(code)  # whatever happens, a child never goes on as its parent
        os.close(writing)

    def end(self) -> End:
        """Waits for it."""
        with os.fdopen(self._reading) as told:
            said = told.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        how = f"signal {-code}" if code < 0 else (*_ENDS, CRASHED)[code]
        return End(how, json.loads(said) if code >= 0 and said else None, time.monotonic() - self._begun)


def _child(work: Callable[[], Any], writing: int, seconds: int) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        code, said = 0, work()
    except (ZeuxisError, OSError) as error:  # what a run may end with
        code, said = 1, [type(error).__name__, str(error)]
    except BaseException:
        code, said = 2, traceback.format_exc()[-250:]
    signal.alarm(0)
    with os.fdopen(writing, "w") as told:
        json.dump(said, told)
    return code


def spread(tasks: Sequence[Callable[[], Any]], processes: int) -> Iterator[str]:
    """What tasks return, as lines of JSON, worked off by forked processes."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    children = []
    for first in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                code = _work_off(tasks[first::processes], writing)
            finally:
                os._exit(code)
        children.append(child)
    os.close(writing)
    with os.fdopen(reading) as lines:
        yield from lines
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise RuntimeError(f"processes that run trials died: {codes}")


def _work_off(tasks: Sequence[Callable[[], Any]], writing: int) -> int:
    try:
        for task in tasks:
            line = (json.dumps(task()) + "\n").encode()
            assert len(line) <= select.PIPE_BUF, "lines of two processes would mix"
            os.write(writing, line)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
