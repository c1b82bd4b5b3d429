"""Networks in use: without gradients, and on a GPU by one thread at a time.

A GPU runs networks one after the other anyway; asked by as many threads as there are cores, it would need the memory
of all of them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_TURNS: dict[int, threading.RLock] = {}
"""By number of the GPU."""


@contextmanager
def in_turn(device: torch.device) -> Iterator[None]:
    """Within, networks run on a device, in inference mode; on a GPU no other thread is within meanwhile."""
    turn: threading.RLock | nullcontext[None] = nullcontext()
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        turn = _TURNS.setdefault(number, threading.RLock())
    with turn, torch.inference_mode():
        yield
