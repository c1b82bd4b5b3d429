"""Memory that an image frees is kept for the next one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Of glibc's `mallopt`."""
ALWAYS, USUAL = 1 << 30, 128 << 10
"""Bytes: more than any tensor of a run, and glibc's own thresholds."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Lets the process keep what it frees, for all of its threads.

    Feature maps are so large that glibc gives each back to the system when it is freed, and has the next one page by
    page: 15,000 page faults an image of 192x256, a tenth of what its network takes, and threads wait for each other
    there. At the end what is free goes back. Other libraries of C than glibc are left as they are.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    for option, value in ((MMAP_THRESHOLD, ALWAYS), (TRIM_THRESHOLD, ALWAYS), (ARENA_MAX, 1)):
        libc.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in ((MMAP_THRESHOLD, USUAL), (TRIM_THRESHOLD, USUAL), (ARENA_MAX, 0)):
            libc.mallopt(option, value)
        libc.malloc_trim(0)
