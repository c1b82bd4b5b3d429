"""Runs independent tasks on a Dask cluster: a local one by default, or one that is already there."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from queue import SimpleQueue
from typing import Any, TypeVar

from ..storage.errors import InputError, InstallationError, sentence

Job = TypeVar("Job")
Result = TypeVar("Result")

_TOPIC = "zeuxis"
_WINDOW_A_THREAD = 3  # tasks submitted ahead, so that the graph stays small however many there are
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": 32 << 20, "MALLOC_TRIM_THRESHOLD_": 256 << 20}  # bytes
REPORT_SECONDS = 0.2
"""How often what the tasks tell is passed on, at least."""
ANSWER_SECONDS = 10
"""How long a scheduler may take to answer."""
WORKERS_SECONDS = 30
"""How long a scheduler may be without any worker."""


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """A `distributed.Client`.

    Args:
        scheduler: address of a scheduler, `tcp://HOST:PORT`; by default a cluster of processes is started on
            127.0.0.1 and stopped again.
        workers: processes of the local cluster; default one a core that this process may use.

    Raises:
        InputError: nothing answers at that address, or no worker has joined it.
    """
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler:
        try:
            client = Client(scheduler, timeout=ANSWER_SECONDS)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                sentence(
                    f"scheduler {scheduler}", f"does not answer ({error})", fix="check the address, tcp://HOST:PORT"
                )
            ) from error
        with client:
            _expect_workers(client, scheduler)
            yield client
        return
    with (
        _start_local(
            LocalCluster,
            n_workers=workers or CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit="auto",
            silence_logs=logging.CRITICAL,
        ) as local,
        Client(local) as client,
    ):
        yield client


def _start_local(make: Callable[..., Any], **options: Any) -> Any:
    """A local cluster whose processes do not see Ctrl-C, which a terminal sends to a whole group; they are told.

    The signal mask is inherited; an interrupt meanwhile is delivered as soon as the cluster stands. The workers keep
    what they free of arrays: by Dask's default each large one would go back to the system and be faulted in anew.
    """
    from dask import config

    resource_tracker.ensure_running()  # it unblocks the signal in whoever starts it first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with config.set({"distributed.nanny.pre-spawn-environ": {**_MALLOC, "OMP_NUM_THREADS": 1}}):
            return make(**options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_tasks(
    client: Any,
    task: Callable[[Job], Result],
    jobs: Sequence[Job],
    report: Callable[[Mapping[str, int]], None],
) -> list[Result]:
    """Runs `task` on every job, a few a worker at a time; results in the order of the jobs.

    Args:
        client: of `cluster`.
        task: safe to run twice; it may call `tell` to report.
        jobs: small, since they travel.
        report: called with what the tasks tell, in the caller's thread.

    Raises:
        InstallationError: workers died again and again. Whatever a task raises. The other tasks are cancelled.
    """
    from distributed import KilledWorker, wait

    told: SimpleQueue[tuple[str, dict[str, int]]] = SimpleQueue()
    client.subscribe_topic(_TOPIC, lambda event: told.put(event[1]))
    waiting = iter(enumerate(jobs))
    results: dict[int, Result] = {}
    running: dict[Any, int] = {}
    keys: set[str] = set()
    try:
        while True:
            window = _WINDOW_A_THREAD * max(sum(client.nthreads().values()), 1)  # workers come and go
            for number, job in islice(waiting, max(window - len(running), 0)):
                running[future := client.submit(task, job, pure=False)] = number
                keys.add(future.key)
            if not running:
                return [results[number] for number in range(len(jobs))]
            with suppress(TimeoutError):
                wait(list(running), timeout=REPORT_SECONDS, return_when="FIRST_COMPLETED")
            _pass_on(told, keys, report)
            for future in [future for future in running if future.done()]:
                results[running.pop(future)] = future.result()
    except KilledWorker as error:
        said = sentence("workers", f"died again and again ({error})", fix="use fewer, so that each has more memory")
        raise InstallationError(said) from error
    finally:
        client.cancel(list(running), force=True)
        client.unsubscribe_topic(_TOPIC)


def _expect_workers(client: Any, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
    except TimeoutError as error:
        said = f"has had no worker for {WORKERS_SECONDS} seconds"
        raise InputError(sentence(f"scheduler {scheduler}", said, fix="start workers there")) from error


def tell(**counts: int) -> None:
    """Reports from inside a task; does nothing where no worker runs it."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    worker.log_event(_TOPIC, (worker.get_current_task(), counts))


def _pass_on(
    told: SimpleQueue[tuple[str, dict[str, int]]], keys: set[str], report: Callable[[Mapping[str, int]], None]
) -> None:
    """Hands over what has been told; others may use the same scheduler, so only by tasks of these keys."""
    while not told.empty():
        key, counts = told.get()
        if key in keys:
            report(counts)
