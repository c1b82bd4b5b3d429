"""Tasks run on any Dask cluster, their results come back in order, and what they tell reaches the caller."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from zeuxis.pipelines.cluster import cluster, run_tasks, tell
from zeuxis.storage.errors import InputError, InstallationError, SourceError


def ignore(told: Mapping[str, int]) -> None:
    """Listens to nothing."""


def slower_first(number: int) -> int:
    """The first tasks end last; each tells of itself."""
    time.sleep(0.05 if number < 2 else 0)
    tell(done=1, sum=number)
    return number * number


def test_results_come_in_the_order_of_the_jobs_and_reports_in_the_callers_thread(dask_address: str) -> None:
    told, threads = [], set()

    def report(counts: Mapping[str, int]) -> None:
        told.append(dict(counts))
        threads.add(threading.get_ident())

    with cluster(dask_address) as client:
        assert run_tasks(client, slower_first, range(20), report) == [n * n for n in range(20)]
    assert threads == {threading.get_ident()}
    assert {frozenset(counts.items()) for counts in told} <= {
        frozenset({"done": 1, "sum": n}.items()) for n in range(20)
    }
    assert len(told) >= 15, "late reports may be lost, but not many"


def test_no_jobs_are_no_trouble(dask_address: str) -> None:
    with cluster(dask_address) as client:
        assert run_tasks(client, slower_first, [], ignore) == []


def test_another_users_reports_are_not_passed_on(dask_address: str) -> None:
    told: list[Mapping[str, int]] = []

    def also_of_another(number: int) -> int:
        from distributed import get_worker

        get_worker().log_event("zeuxis", ("the-key-of-another-client", {"done": 1000}))
        time.sleep(0.3)
        return number

    with cluster(dask_address) as client:
        assert run_tasks(client, also_of_another, [1, 2], told.append) == [1, 2]
    assert told == []


RAN: list[int] = []
"""Jobs that have begun: the workers are threads, and a function of this module is not copied on its way to them."""
GATE = threading.Event()


def held_up(number: int) -> None:
    """Waits for the gate."""
    RAN.append(number)
    GATE.wait(10)


def fails_first(number: int) -> None:
    """Fails on the first job."""
    RAN.append(number)
    if number == 0:
        raise SourceError("failed", "told to")
    time.sleep(0.2)


def test_few_tasks_are_submitted_ahead(dask_address: str) -> None:
    RAN.clear()
    GATE.clear()
    with cluster(dask_address) as client:
        seen = []

        def look() -> None:
            time.sleep(0.5)
            seen.append(len(client.futures))
            GATE.set()

        watcher = threading.Thread(target=look)
        watcher.start()
        run_tasks(client, held_up, range(40), ignore)
        watcher.join()
    assert sorted(RAN) == list(range(40))
    assert seen == [6]


def test_what_a_task_raises_reaches_the_caller_and_the_rest_is_cancelled(dask_address: str) -> None:
    RAN.clear()
    with cluster(dask_address) as client:
        with pytest.raises(SourceError, match="told to") as caught:
            run_tasks(client, fails_first, range(100), ignore)
        assert caught.value.reason == "failed"
        time.sleep(0.8)
    assert 1 <= len(RAN) <= 4, "of six submitted, those that had begun"


def test_an_interrupt_from_the_report_stops_the_run(dask_address: str) -> None:
    def interrupted(told: Mapping[str, int]) -> None:
        raise KeyboardInterrupt

    def tells(number: int) -> None:
        tell(done=1)
        time.sleep(0.05)

    with cluster(dask_address) as client, pytest.raises(KeyboardInterrupt):
        run_tasks(client, tells, range(1000), interrupted)


def test_telling_outside_a_task_does_nothing() -> None:
    tell(done=1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "127.0.0.1:notaport"])
def test_a_scheduler_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.cluster.ANSWER_SECONDS", 1)
    with pytest.raises(InputError) as caught, cluster(address):
        pass
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("zeuxis.pipelines.cluster.WORKERS_SECONDS", 0.2)
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as empty,
        pytest.raises(InputError, match="no worker"),
        cluster(empty.scheduler_address),
    ):
        pass


def die(path: str) -> None:
    """Kills its worker, and remembers that it was here."""
    with open(path, "a") as file:
        file.write("x")
    os._exit(1)


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_given_up_in_one_sentence(tmp_path: Path) -> None:
    with cluster(workers=1) as client, pytest.raises(InstallationError) as caught:
        run_tasks(client, die, [str(tmp_path / "visits")], ignore)
    assert "memory" in str(caught.value)
    assert (tmp_path / "visits").read_text() == "xxxx"
