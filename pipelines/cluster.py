"""Runs independent tasks on a Dask cluster: a local one by default, or one that is already there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..storage.errors import InputError, sentence

Job = TypeVar("Job")
Result = TypeVar("Result")

_TOPIC = "zeuxis"
_WINDOW_A_WORKER = 3  # tasks submitted ahead, so that the graph stays small however many there are


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """A `distributed.Client`.

    Args:
        scheduler: address of a scheduler, `tcp://HOST:PORT`; by default a cluster of processes is started on
            127.0.0.1 and stopped again.
        workers: processes of the local cluster; default one a core.

    Raises:
        InputError: nothing answers at that address.
    """
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                sentence(
                    f"scheduler {scheduler}", f"does not answer ({error})", fix="check the address, tcp://HOST:PORT"
                )
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="auto",
            silence_logs=logging.CRITICAL,
        ) as local,
        Client(local) as client,
    ):
        yield client


def run_tasks(
    client: Any,
    task: Callable[[Job], Result],
    jobs: Sequence[Job],
    report: Callable[[dict[str, int]], None],
) -> list[Result]:
    """Runs `task` on every job, a few a worker at a time; results in the order of the jobs.

    Args:
        client: of `cluster`.
        task: safe to run twice; it may call `tell` to report.
        jobs: small, since they travel.
        report: called with what the tasks tell, from another thread.
    """
    from distributed import as_completed

    client.subscribe_topic(_TOPIC, lambda event: report(event[1]))
    results: dict[int, Result] = {}
    waiting = iter(enumerate(jobs))
    window = _WINDOW_A_WORKER * max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
    numbers: dict[str, int] = {}

    def submit() -> Any | None:
        for number, job in waiting:
            future = client.submit(task, job, pure=False)
            numbers[future.key] = number
            return future
        return None

    running = as_completed([future for _ in range(window) if (future := submit()) is not None])
    try:
        for future in running:
            results[numbers.pop(future.key)] = future.result()
            if (following := submit()) is not None:
                running.add(following)
    except BaseException:
        client.cancel(list(running.futures), force=True)
        raise
    finally:
        client.unsubscribe_topic(_TOPIC)
    return [results[number] for number in range(len(jobs))]


def tell(**counts: int) -> None:
    """Reports from inside a task; does nothing where no worker runs it."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    worker.log_event(_TOPIC, counts)
