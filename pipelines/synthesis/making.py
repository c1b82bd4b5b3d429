"""Who makes the shards that are missing: this process, or the workers of a Dask cluster, a shard a task."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any, NamedTuple

from ...index.batch import in_order, usable_cores
from ...storage.errors import UnfinishedError, sentence
from ...storage.reader import Reader
from ..cluster import cluster, run_tasks
from ..models import Models
from ..progress import Progress
from .items import Rejected
from .line import WRITE, Clocks, Done, Rate, Unit, produce
from .options import SynthesisOptions
from .plan import Plan
from .rates import note_of
from .samples import Encoder
from .session import Session
from .units import Units
from .writers import writer_of

KILLED = "killed-worker"
"""Reason of images whose worker died again and again."""


@dataclass(frozen=True)
class Where:
    """What a worker opens: it sees the same files under the same names; `device` None for a GPU where it has one."""

    bank: str
    models: str
    paths: Sequence[Path] | None
    out: str
    options: SynthesisOptions
    plan: str
    device: str | None = None


@dataclass(frozen=True)
class Job:
    """A shard to be made by a worker.

    Attributes:
        where: the run; unit: number of the shard; given_up: only record that it could not be made.
        devices: address of a worker to the number of its GPU.
        threads: of a stage; None for its part of the cores, where so many tasks run `beside` each other on a machine.
    """

    where: Where
    unit: int
    devices: Mapping[str, int]
    threads: int | None
    beside: int = 1
    given_up: bool = False


class Made(NamedTuple):
    """What a worker did: images, the rates of its stages, what the user should read; and what it ran on.

    Attributes:
        device: whether its network ran on a GPU; machine, cores: name of its machine, and how many it may use there.
    """

    images: int
    rates: Sequence[Rate]
    said: Sequence[str]
    device: bool
    machine: str
    cores: int


@dataclass
class Making:
    """The making of what is missing.

    Attributes:
        units, session, encoder: of the run; progress: told of every image; workers: threads of a stage.
        clocks: what the stages took; ended: images that were made, rejected or left out; seconds: wall time.
        machines: name to cores, of those of a cluster that made some.
    """

    units: Units
    session: Session
    encoder: Encoder
    progress: Progress
    workers: int | None
    clocks: Clocks = field(default_factory=Clocks)
    ended: int = 0
    seconds: float = 0.0
    machines: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._missing = [number for number in range(self.units.plan.units) if self.units.record(number) is None]
        self._kept = self.units.plan.images - sum(len(self.units.plan.unit(number)) for number in self._missing)
        self._begun = time.perf_counter()

    @property
    def made(self) -> int:
        """Images that there are now and were not before."""
        return sum(len(record["images"]) for number in self._missing if (record := self.units.record(number)))

    @property
    def cores(self) -> int:
        """Of all machines that worked."""
        return sum(self.machines.values()) or usable_cores()

    def all(self, scheduler: str | None, where: Where) -> None:
        """Makes all here, or on the cluster of that address; raises what `on` raises."""
        if scheduler is None:
            self.here()
        else:
            self.on(scheduler, where)

    def here(self) -> None:
        """Makes all on this machine: units overlap, so that no stage waits at the end of one."""
        plan = self.units.plan
        jobs: Iterator[Unit] = ((number, plan.unit(number)) for number in self._missing)

        timed = self.clocks.timed(WRITE, partial(_publish, self.units, self.session), _size)
        self._tell(0)
        done = produce(self.session, self.encoder, jobs, self.clocks, self.workers, lambda: self._tell(1))
        with closing(done), closing(in_order(timed, done, 1)) as published:
            for _ in published:
                pass
        self._tell(0)

    def on(self, scheduler: str, where: Where) -> None:
        """Makes all on a cluster.

        Raises:
            InputError: no scheduler answers. UnfinishedError: it went away, or its workers did.
        """
        with cluster(scheduler) as client:
            devices, beside = _spread(client)
            jobs = (Job(where, number, devices, self.workers, beside) for number in self._missing)
            self._tell(0)
            results = run_tasks(client, make_unit, jobs, lambda counts: None, halves=_cannot_be_cut, give_up=_given_up)
            for made in results:
                for rate in made.rates:
                    self.clocks.add(rate.stage, rate.images, rate.busy, rate.cpu)
                    self.clocks.threads[rate.stage] = rate.threads * max(len(devices), 1)
                self.clocks.device |= made.device
                self.machines[made.machine] = made.cores
                for said in made.said:
                    self.session.tell(said)
                self._tell(made.images)

    def _tell(self, more: int) -> None:
        self.ended += more
        self.seconds = time.perf_counter() - self._begun
        note = note_of(self.clocks.rates(), self.seconds)
        self.progress(self._kept + self.ended, self.units.plan.images, note)


def _publish(units: Units, session: Session, done: Done) -> None:
    units.publish(*done, session.guard)


def _size(done: Done) -> int:
    return len(done[1])


_open: dict[tuple[str, int], tuple[Units, Session, Encoder]] = {}
_lock = threading.Lock()


def make_unit(job: Job) -> Made:
    """Makes and publishes one shard, on a worker; safe to run twice."""
    said: list[str] = []
    units, session, encoder = _opened(job)
    items, clocks, cores = units.plan.unit(job.unit), Clocks(), usable_cores()
    if job.given_up:
        lost = sentence(f"shard {units.plan.unit_name(job.unit)}", "its worker died again and again")
        units.publish(job.unit, [Rejected(item, KILLED, lost) for item in items], session.guard)
        return Made(len(items), [], [], clocks.device, gethostname(), cores)
    session.tell = said.append
    publish = clocks.timed(WRITE, partial(_publish, units, session), _size)
    threads = job.threads or max(1, cores // job.beside)
    with closing(produce(session, encoder, [(job.unit, items)], clocks, threads)) as done:
        for each in done:
            publish(each)
    return Made(len(items), clocks.rates(), said, clocks.device, gethostname(), cores)


def _opened(job: Job) -> tuple[Units, Session, Encoder]:
    """The run, opened once a worker."""
    number = _device_number(job.devices)
    key = (f"{job.where.out} {job.where.plan}", number)
    with _lock:
        if key not in _open:
            _open.clear()
            _open[key] = _open_anew(job.where, number)
        return _open[key]


def _open_anew(where: Where, number: int) -> tuple[Units, Session, Encoder]:
    out, options = Path(where.out), where.options
    plan, reader = Plan.load(out), Reader(where.bank)
    if plan is None or plan.hash != where.plan or plan.bank != reader.manifest.content:
        said = "a worker finds another plan there, or another bank"
        raise UnfinishedError(sentence(out, said, fix="let all workers see the same files"))
    networks = Models(where.models, reader, options.map_classes, _device(where.device, number), options.compiled)
    session = Session(reader, networks, options, plan, where.paths)
    entry = None if options.dataset is None else reader.dataset(options.dataset)
    units = Units(out, plan, writer_of(options.format, plan.split))
    return units, session, Encoder(plan, session.guard, reader.classes, entry, options.coco)


def _device(asked: str | None, number: int) -> str:
    """What a worker's networks run on: of the GPUs of its machine the one of its number, where none is named."""
    import torch

    count = torch.cuda.device_count()
    if asked is None:
        asked = "cuda" if count else "cpu"
    return f"cuda:{number % count}" if asked == "cuda" and count else asked


def _device_number(devices: Mapping[str, int]) -> int:
    from distributed import get_worker

    try:
        return devices.get(get_worker().address, 0)
    except ValueError:
        return 0


def _spread(client: Any) -> tuple[dict[str, int], int]:
    """Of each worker its number on its machine, which is that of its GPU; and how many tasks run beside each other.

    These are those of the machine that has most of them: they share its cores.
    """
    hosts: dict[str, list[str]] = {}
    tasks: dict[str, int] = {}
    for address, worker in sorted(client.scheduler_info(n_workers=-1)["workers"].items()):
        hosts.setdefault(worker["host"], []).append(address)
        tasks[worker["host"]] = tasks.get(worker["host"], 0) + int(worker["nthreads"])
    devices = {address: number for addresses in hosts.values() for number, address in enumerate(addresses)}
    return devices, max(tasks.values(), default=1)


def _cannot_be_cut(job: Job) -> Sequence[Job]:
    return ()


def _given_up(job: Job) -> Job:
    return replace(job, given_up=True)
