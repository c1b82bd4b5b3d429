"""Ctrl-C and SIGTERM during a training: the step under way is finished, and what is saved is a state between two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether somebody asked to stop."""

    asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: the first is noted, a second one stops at once.

        Raises:
            KeyboardInterrupt: it is the second.
        """
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interrupts_noted() -> Iterator[Interrupt]:
    """Within the `with`, an interrupt is noted instead of raised; outside the main thread none arrives anyway."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
