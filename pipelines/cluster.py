"""Runs independent tasks on a Dask cluster: a local one by default, or one that is already there; or without Dask."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Generic, TypeVar

from ..storage.errors import InputError, UnfinishedError, sentence

Job = TypeVar("Job")
Result = TypeVar("Result")
Report = Callable[[Mapping[str, int]], None]

_TOPIC = "zeuxis"
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # bytes
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),  # bytes
    "OMP_NUM_THREADS": "1",
}
"""Of the workers. They keep what they free of arrays: by Dask's default each large one would be faulted in anew."""
_SHORT_LOGS = {"distributed.admin.low-level-log-length": 10}
"""Each connection keeps what it sent last, by default a thousand messages, and a message is a job."""
_SETTINGS = _SHORT_LOGS | {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
    "distributed.scheduler.allowed-failures": 0,  # a task that killed its worker is looked at by `run_tasks`
    "distributed.scheduler.worker-saturation": 1.0,  # tasks wait at the scheduler, not at a worker that may die
    "distributed.worker.memory.pause": False,  # one that paused with nothing to let go would wait for ever
}
_PRELOADED = ["distributed.nanny", "distributed.worker", "zeuxis.pipelines.extraction"]
REPORT_SECONDS = 0.2
"""How often what the tasks tell is passed on, at least."""
ANSWER_SECONDS = 10
"""How long a scheduler may take to answer."""
WORKERS_SECONDS = 30
"""How long a scheduler may be without any worker when a run begins."""
PATIENCE_SECONDS = 600
"""How long a scheduler may be without any worker during a run, or take to hand over a result."""
LEAST_MEMORY = 256 << 20
"""Bytes that a worker needs before it has done anything."""

_listener: ContextVar[Report | None] = ContextVar("listener", default=None)


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None, memory: int | None = None) -> Iterator[Any]:
    """A `distributed.Client`, or None where `workers` is 0: then tasks run in this process.

    Args:
        scheduler: address of a scheduler, `tcp://HOST:PORT`; by default a cluster of processes is started on
            127.0.0.1 and stopped again.
        workers: processes of the local cluster; default one a core that this process may use.
        memory: bytes that a process of the local cluster may use; one that takes more is killed, which costs the task
            that it runs. Default: its share of what the machine has.

    Raises:
        InputError: nothing answers at that address, no worker has joined it, or `memory` is too little to start with.
    """
    if workers == 0:
        yield None
    elif scheduler:
        with _join(scheduler) as client:
            yield client
    else:
        with _local(workers, memory) as client:
            yield client


@contextmanager
def _join(scheduler: str) -> Iterator[Any]:
    from dask import config
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with config.set(_SHORT_LOGS):
            client = Client(scheduler, timeout=ANSWER_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        said = f"does not answer ({error})"
        raise InputError(sentence(f"scheduler {scheduler}", said, fix="check the address, tcp://HOST:PORT")) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            said = f"has had no worker for {WORKERS_SECONDS} seconds"
            raise InputError(sentence(f"scheduler {scheduler}", said, fix="start workers there")) from error
        yield client


@contextmanager
def _local(workers: int | None, memory: int | None) -> Iterator[Any]:
    if memory is not None and memory < LEAST_MEMORY:
        raise InputError(
            sentence("memory of a worker", expected=f"at least {LEAST_MEMORY >> 20} MiB", found=f"{memory:,} bytes")
        )
    with _environment(_ENVIRONMENT), ExitStack() as settings:
        warm_up()
        from dask import config
        from distributed import Client

        with _interrupts_held():
            settings.enter_context(config.set(_SETTINGS))  # for as long as workers are started anew
            started = _start_local(workers, memory)
        with started as local, Client(local) as client:
            yield client


def warm_up() -> None:
    """Starts what local workers are forked from: it imports all they need while the caller goes on with other work."""
    resource_tracker.ensure_running()  # it unblocks the signal in whoever starts it first
    with _environment(_ENVIRONMENT), _interrupts_held():
        forkserver.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()


def _start_local(workers: int | None, memory: int | None) -> Any:
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return LocalCluster(
        n_workers=workers or CPU_COUNT,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=memory or "auto",
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that child processes inherit; afterwards this process has what it had."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """An interrupt meanwhile is delivered afterwards; processes started meanwhile never see one.

    A terminal sends Ctrl-C to a whole group; the workers are told by this process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM stops the process as Ctrl-C does, by KeyboardInterrupt; only the first one, so that it can clean up.

    Does nothing outside the main thread, which alone may handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell(**counts: int) -> None:
    """Reports from inside a task; does nothing where none runs."""
    if (listener := _listener.get()) is not None:
        listener(counts)
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    worker.log_event(_TOPIC, (worker.get_current_task(), str(worker.id), counts))


def worker_folder() -> str | None:
    """The folder of the worker that runs this, removed when the worker ends or dies; None where none runs it."""
    from distributed import get_worker

    try:
        return str(get_worker().local_directory)
    except ValueError:
        return None


def run_tasks(
    client: Any,
    task: Callable[[Job], Result],
    jobs: Iterable[Job],
    report: Report,
    *,
    halves: Callable[[Job], Sequence[Job]],
    give_up: Callable[[Job], Job],
    attempts: int = 2,
    ahead: int = 3,
) -> Iterator[Result]:
    """Runs `task` on every job, a few a worker at a time; yields each result when it comes and keeps none.

    A job whose worker died is run again in a calmer company, one job a worker, and cut in two where that costs another
    worker; what cannot be cut is run with nothing beside it, so that no job is given up for what another one did.

    Args:
        client: of `cluster`; None runs one after the other in this process, where nothing is cut or given up.
        task: safe to run twice; it may call `tell` to report.
        jobs: small, since they travel; taken as they are needed.
        report: called with what the tasks tell, in the caller's thread.
        halves: a job in two or more parts; empty where it cannot be cut.
        give_up: the job that only records that this one could not be done.
        attempts: how often a job that cannot be cut is run alone before it is given up.
        ahead: tasks a thread of the workers that may be under way, those included whose results wait to be taken.

    Raises:
        UnfinishedError: the scheduler went away or has no workers any more, or even a job given up kills its worker.
        Whatever a task raises; the other tasks are cancelled then.
    """
    if client is None:
        for job in jobs:
            yield _run_here(task, job, report)
        return
    with _Flight(client, task, report, ahead) as flight:
        waiting = iter(jobs)
        while True:
            killed: list[Job] = []
            yield from flight.run(_until_many(killed, waiting, flight.crowd), flight.crowd, killed)
            if not killed:
                return
            yield from _examine(flight, killed, halves, give_up, attempts)


def _until_many(killed: list[Job], jobs: Iterator[Job], many: Callable[[], int]) -> Iterator[Job]:
    """Jobs, until so many have been killed that they are to be looked at first: they are kept meanwhile."""
    while len(killed) < many():
        try:
            yield next(jobs)
        except StopIteration:
            return


def _examine(
    flight: _Flight[Job, Result],
    killed: list[Job],
    halves: Callable[[Job], Sequence[Job]],
    give_up: Callable[[Job], Job],
    attempts: int,
) -> Iterator[Result]:
    """Runs jobs whose workers died, cutting them until those that kill stand alone."""
    while killed:
        again: list[Job] = []
        yield from flight.run(iter(killed), flight.one_a_worker, again)
        parts = [list(halves(job)) for job in again]
        for job, cut in zip(again, parts, strict=True):
            if not cut:
                yield from _run_alone(flight, job, give_up, attempts)
        killed = [part for cut in parts for part in cut]


def _run_alone(
    flight: _Flight[Job, Result], job: Job, give_up: Callable[[Job], Job], attempts: int
) -> Iterator[Result]:
    for attempt in range(attempts + 1):
        killed: list[Job] = []
        yield from flight.run(iter([job if attempt < attempts else give_up(job)]), flight.one_a_worker, killed)
        if not killed:
            return
    said = "died again and again, even of a task that does next to nothing"
    raise UnfinishedError(sentence("workers", said, fix="give them more memory, or use fewer"))


def _run_here(task: Callable[[Job], Result], job: Job, report: Report) -> Result:
    token = _listener.set(report)
    try:
        return task(job)
    finally:
        _listener.reset(token)


class _Flight(Generic[Job, Result]):
    """The tasks of one run that are under way."""

    def __init__(self, client: Any, task: Callable[[Job], Result], report: Report, ahead: int) -> None:
        self._client, self._task, self._report, self._ahead = client, task, report, ahead
        self._name = f"{_TOPIC}-{uuid.uuid4().hex}-"  # others may use the same scheduler
        self._number = 0
        self._running: dict[Any, Job] = {}
        self._news: SimpleQueue[Any] = SimpleQueue()  # futures that are done, and what tasks told: key, worker, counts
        self._told: dict[str, tuple[str, Counter[str]]] = {}  # by key of a task: its worker, and what it has told
        self._threads: dict[str, int] = {}
        self._asked = self._populated = -float("inf")

    def __enter__(self) -> _Flight[Job, Result]:
        news = self._news  # not self: the client keeps this for as long as it lives
        self._client.subscribe_topic(_TOPIC, lambda event: news.put(event[1]))
        self._populated = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError, RuntimeError, ValueError):  # of a scheduler that went away
            self._client.cancel(list(self._running), force=True)
            self._client.unsubscribe_topic(_TOPIC)

    def crowd(self) -> int:
        """How many tasks may be under way."""
        return self._ahead * max(sum(self._threads.values()), 1)

    def one_a_worker(self) -> int:
        """How many tasks may be under way so that each has a worker to itself."""
        return max(len(self._threads), 1)

    def run(self, jobs: Iterator[Job], width: Callable[[], int], killed: list[Job]) -> Iterator[Result]:
        """Results as they come; jobs whose worker died are added to `killed`."""
        from distributed import KilledWorker

        while True:
            self._look_for_workers()
            for job in islice(jobs, max(width() - len(self._running), 0)):
                self._submit(job)
            if not self._running:
                return
            if (future := self._next()) is None:
                continue
            job = self._running.pop(future)
            try:
                outcome = [self._result(future)]
                self._told.pop(future.key, None)
            except KilledWorker:
                self._take_back(future.key)
                killed.append(job)
                continue
            finally:
                del future  # the scheduler forgets the task
            yield outcome.pop()  # nothing keeps it here

    def _submit(self, job: Job) -> None:
        future = self._client.submit(self._task, job, key=f"{self._name}{self._number}", pure=False)
        self._number += 1
        self._running[future] = job
        future.add_done_callback(self._news.put)

    def _next(self) -> Any:
        """A future that is done, if one is within a moment; what tasks told is passed on meanwhile."""
        try:
            while isinstance(news := self._news.get(timeout=REPORT_SECONDS), tuple | list):
                if str(news[0]).startswith(self._name):
                    self._pass_on(*news)
            return news
        except Empty:
            return None

    def _pass_on(self, key: str, worker: str, counts: Mapping[str, int]) -> None:
        if key in self._told and self._told[key][0] != worker:  # it begins once more elsewhere
            self._take_back(key)
        self._told.setdefault(key, (worker, Counter()))[1].update(counts)
        self._report(counts)

    def _take_back(self, key: str) -> None:
        """What a task told whose worker died is not done."""
        _, counts = self._told.pop(key, ("", Counter()))
        if counts:
            self._report({name: -count for name, count in counts.items()})

    def _result(self, future: Any) -> Result:
        """Raises what the task raised."""
        from concurrent.futures import CancelledError

        if future.status == "error":
            return future.result()  # type: ignore[no-any-return]
        try:
            return future.result(timeout=PATIENCE_SECONDS)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise self._lost(f"has had no worker, or none that answers, for {PATIENCE_SECONDS} seconds") from error
        except (CancelledError, OSError) as error:
            raise self._lost("cannot be reached any more") from error

    def _look_for_workers(self) -> None:
        """Workers come and go; asks now and then who is there."""
        now = time.monotonic()
        if now - self._asked < REPORT_SECONDS:
            return
        self._asked = now
        try:
            self._threads = self._client.nthreads()
        except (OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise self._lost("cannot be reached any more") from error
        if self._threads:
            self._populated = now
        elif now - self._populated > PATIENCE_SECONDS:
            raise self._lost(f"has had no worker, or none that answers, for {PATIENCE_SECONDS} seconds")

    def _lost(self, said: str) -> UnfinishedError:
        what = f"scheduler {getattr(self._client.scheduler, 'address', '')}".strip()
        return UnfinishedError(sentence(what, said, fix="run this again: what is finished is kept"))
