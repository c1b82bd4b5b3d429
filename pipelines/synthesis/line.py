"""The assembly line: canvases, networks, encoding and writing at once, each behind the other, none far ahead.

Every stage has threads of its own and takes a few jobs ahead of what is asked of it (`index.batch.in_order`): what
is slow holds up what is before it, and memory stays bounded. Kernels, networks and encoders release the interpreter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from typing import NamedTuple, TypeVar

import torch

from ...index.batch import in_order, usable_cores
from .items import Imagined, LeftOut, Ready, Rejected
from .memory import kept_memory
from .plan import Item
from .samples import Encoder, Sample
from .session import MOST_TOGETHER, Session

Job = TypeVar("Job")
Made = TypeVar("Made")
Unit = tuple[int, Sequence[Item]]
Ended = Sample | Rejected | LeftOut
Done = tuple[int, Sequence[Ended]]

PREPARE, NETWORK, JUDGE, ENCODE, WRITE = "canvases", "network", "judging", "encoding", "writing"


class Rate(NamedTuple):
    """How a stage was used.

    Attributes:
        stage, threads: its name, and how many work at it.
        images: that went through; busy: seconds that its threads worked together; cpu: of that, on a core.
    """

    stage: str
    threads: int
    images: int
    busy: float
    cpu: float

    def share(self, seconds: float) -> float:
        """The share of the time that its threads were busy, 0 to 1."""
        return self.busy / (self.threads * seconds) if seconds else 0.0


@dataclass
class Clocks:
    """What the stages took, added up over threads; `device`: the network runs on one of its own."""

    threads: dict[str, int] = field(default_factory=dict)
    device: bool = False
    _totals: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, stage: str, work: Callable[[Job], Made], count: Callable[[Job], int]) -> Callable[[Job], Made]:
        """The same work, timed; `count`: how many images a job is."""

        def run(job: Job) -> Made:
            start, busy = time.perf_counter(), time.thread_time()
            try:
                return work(job)
            finally:
                self.add(stage, count(job), time.perf_counter() - start, time.thread_time() - busy)

        return run

    def add(self, stage: str, images: int, busy: float, cpu: float) -> None:
        """Counts what a stage did."""
        with self._lock:
            totals = self._totals.setdefault(stage, [0, 0.0, 0.0])
            for place, value in enumerate((images, busy, cpu)):
                totals[place] += value

    def rates(self) -> list[Rate]:
        """What each stage did so far, in the order of the line."""
        with self._lock:
            return [
                Rate(stage, self.threads.get(stage, 1), int(self._totals[stage][0]), *self._totals[stage][1:])
                for stage in (PREPARE, NETWORK, JUDGE, ENCODE, WRITE)
                if stage in self._totals
            ]


def bottleneck(rates: Sequence[Rate], seconds: float, cores: int, device: bool) -> str:
    """What holds the run up: the device where the network keeps it busy longest, else the cores, or a stage alone."""
    if not rates or not seconds:
        return "nothing"
    cpu = sum(rate.cpu for rate in rates) / (cores * seconds)
    fullest = max(rates, key=lambda rate: rate.share(seconds))
    if device and fullest.stage == NETWORK:
        return "the network on the GPU"
    slowest = max(rates, key=lambda rate: rate.cpu)
    if cpu >= 0.7 or fullest.threads >= cores:
        return f"the cores, and of that mostly {slowest.stage}"
    return fullest.stage


def produce(
    session: Session,
    encoder: Encoder,
    units: Iterable[Unit],
    clocks: Clocks,
    workers: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Generator[Done]:
    """Samples, rejects and what is left out of whole units, in their order.

    Args:
        session, encoder: of the run; units: number and images of each, taken as they are needed.
        clocks: what the stages took is added there; workers: threads of a stage on the CPU; default one a core.
        tick: called when an image is done.
    """
    threads = workers or usable_cores()
    clocks.device = next(session.run.model.network.parameters()).device.type == "cuda"
    one = 1 if clocks.device else threads
    clocks.threads |= {PREPARE: threads, NETWORK: one, ENCODE: max(1, threads // 2)}
    sizes: dict[int, int] = {}
    prepare = clocks.timed(PREPARE, session.prepare, len)
    imagine = clocks.timed(NETWORK, session.imagine, len)
    judge = clocks.timed(JUDGE, session.judged, _one)
    encode = clocks.timed(ENCODE, partial(_encoded, encoder), _one)
    with ExitStack() as stack, _one_thread(), kept_memory():
        prepared = stack.enter_context(closing(in_order(_alone(prepare), _runs(units, sizes), threads)))
        batches = _batches((each for some in prepared for each in some), session)
        imagined = stack.enter_context(closing(in_order(_alone(imagine), batches, clocks.threads[NETWORK])))
        painted = (each for some in imagined for each in some)
        single: Iterator[Imagined | Rejected | LeftOut] = painted
        if session.judging:
            clocks.threads[JUDGE] = one
            single = stack.enter_context(closing(in_order(_alone(judge), painted, one)))
        encoded = stack.enter_context(closing(in_order(_alone(encode), single, clocks.threads[ENCODE])))
        yield from _units(encoded, sizes, tick)


def _encoded(encoder: Encoder, each: Imagined | Rejected | LeftOut) -> Ended:
    return encoder.encode(each) if isinstance(each, Imagined) else each


def _one(each: Imagined | Rejected | LeftOut) -> int:
    return 1


def _runs(units: Iterable[Unit], sizes: dict[int, int]) -> Iterator[list[Item]]:
    """The images of units, those of one layout together, a few at a time; `sizes` is told how many each unit has."""
    for number, items in units:
        sizes[number] = len(items)
        for _, run in groupby(items, lambda item: (item.layout, item.photograph)):
            some = list(run)
            yield from (some[start : start + MOST_TOGETHER] for start in range(0, len(some), MOST_TOGETHER))


def _batches(prepared: Iterator[Ready | Rejected], session: Session) -> Iterator[list[Ready | Rejected]]:
    """As many images as go through the network at once, by their numbers in a unit: none spans two."""
    shard = int(session.plan.settings["shard"])
    for _, unit in groupby(prepared, lambda each: each.item.index // shard):
        while batch := list(islice(unit, session.batch)):
            yield batch


def _units(encoded: Iterator[Ended], sizes: dict[int, int], tick: Callable[[], None]) -> Iterator[Done]:
    """Samples gathered by unit."""
    held: list[Ended] = []
    for each in encoded:
        held.append(each)
        tick()
        number = next(iter(sizes))
        if len(held) == sizes[number]:
            del sizes[number]
            yield number, held
            held = []


def _alone(work: Callable[[Job], Made]) -> Callable[[Job], Made]:
    """The same work in a thread that keeps to the number of threads which `_one_thread` has set.

    A new thread takes that number over when it is asked for it. Until then convolutions in it use all cores.
    """

    def run(job: Job) -> Made:
        torch.get_num_threads()
        return work(job)

    return run


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks use one core a thread of the line: the line has enough of them, and results do not depend on cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
