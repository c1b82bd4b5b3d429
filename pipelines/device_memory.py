"""A GPU that has not enough memory: what says so, and images that are made fewer at a time until they fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch

from ..storage.errors import UnfinishedError, sentence

T = TypeVar("T")

SAYINGS = ("out of memory", "ALLOC_FAILED")
"""Of errors of CUDA and its libraries that are none of PyTorch's own allocator."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is that a device has not enough memory, whoever asked it for some."""
    said = isinstance(error, RuntimeError) and any(each in str(error) for each in SAYINGS)
    return isinstance(error, torch.OutOfMemoryError) or said


@contextmanager
def enough_for_one() -> Iterator[None]:
    """Networks run on a device that has memory for an image.

    Raises:
        UnfinishedError: it has not.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        fix = "end what else runs on it, or give --models a smaller network"
        raise UnfinishedError(sentence("GPU", "has not enough memory for one image", fix=fix)) from error


class AtOnce:
    """How many images a network makes at once: halved where the device has not the memory, for all threads that ask.

    Args:
        most: images, at first; tell: takes a sentence for the user, the first time.
    """

    def __init__(self, most: int, tell: Callable[[str], None] = lambda said: None) -> None:
        self.most = self.now = most
        self._tell, self._lock = tell, threading.Lock()

    def made(self, work: Callable[[int], T]) -> T:
        """What `work` makes with as many at once as there is memory for.

        Raises:
            UnfinishedError: there is not enough for one.
        """
        while True:
            batch = self.now
            try:
                with enough_for_one() if batch == 1 else nullcontext():
                    return work(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._shrink(batch)  # out of the handler, which would hold what the failure has allocated

    def _shrink(self, batch: int) -> None:
        """Once for all threads that found it too large."""
        with self._lock:
            if self.now != batch:
                return
            if batch == self.most:
                said = f"has not enough memory for {batch} images at once: fewer are made together"
                self._tell(sentence("GPU", said))
            self.now = batch // 2
        torch.cuda.empty_cache()
