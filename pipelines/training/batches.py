"""The batches of a training: numbered by its steps, so that it can begin anywhere."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .interrupts import SIGNALS
from .options import TrainOptions, devices_of


@dataclass(frozen=True)
class Place:
    """A process among those that train together.

    Attributes:
        rank: its number; world: how many there are.
    """

    rank: int = 0
    world: int = 1


class _Numbers(Sampler[list[int]]):
    """The items of each batch, from a step on, without end."""

    def __init__(self, first: int, options: TrainOptions, place: Place) -> None:
        self._first, self._options, self._place = first, options, place

    def __iter__(self) -> Iterator[list[int]]:
        batch = self._options.batch or 1
        for number in itertools.count(self._first * self._options.accumulate):
            start = (number * self._place.world + self._place.rank) * batch
            yield list(range(start, start + batch))


def batches(
    dataset: Dataset[dict[str, Tensor]], options: TrainOptions, first: int, place: Place
) -> Generator[list[dict[str, Tensor]], None, None]:
    """For each step from `first` on the batches that are accumulated, on the CPU; closing it ends the workers."""
    loader = DataLoader(
        dataset,
        batch_sampler=_Numbers(first, options, place),
        num_workers=options.workers,
        pin_memory=devices_of(options)[0] == "cuda",
        worker_init_fn=_start_worker,
    )
    held: Any = iter(loader)
    try:
        while True:
            yield [next(held) for _ in range(options.accumulate)]
    finally:
        if options.workers:  # they hear of nothing else, and an error would keep the iterator alive
            held._shutdown_workers()


def _start_worker(worker: int) -> None:
    """A worker ends when its batches are closed, or with the process it works for.

    Ctrl-C and SIGTERM of the whole group are not its own affair: that process still wants a step, and saves.
    """
    import cv2

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)  # its threads are not carried across a fork
