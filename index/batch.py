"""Many jobs on several threads, answered lazily and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")

JOBS_AHEAD = 4
"""Jobs a worker that may be taken in before the first of them is handed out: what bounds the memory of a long batch."""


def in_order(work: Callable[[Job], Answer], jobs: Iterable[Job], workers: int) -> Generator[Answer]:
    """`work` of each job, in the order of the jobs.

    However it ends, by the last job, an error, Ctrl-C or a caller who wants no more, jobs that have not begun are
    dropped, and those that have are waited for.

    Args:
        work: must release the GIL where it takes long, or threads do not help.
        jobs: taken a few at a time; workers: threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="zeuxis")
    pending: deque[Future[Answer]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(work, job))
            while pending and (len(pending) >= JOBS_AHEAD * workers or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
