"""Tasks run on any Dask cluster or without one, whatever dies meanwhile; what kills workers is found and given up."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zeuxis.pipelines.cluster import cluster, run_tasks, tell, terminable, worker_folder
from zeuxis.storage.errors import InputError, SourceError, UnfinishedError

BUDGET = 450 << 20
Numbers = tuple[int, ...]


def ignore(told: Mapping[str, int]) -> None:
    """Listens to nothing."""


def uncut(job: Any) -> Sequence[Any]:
    """No job can be cut."""
    return ()


def same(job: Any) -> Any:
    """A job is given up by running it again."""
    return job


def run(client: Any, task: Any, jobs: Any, report: Any = ignore, **options: Any) -> Iterator[Any]:
    """`run_tasks` of jobs that cannot be cut."""
    return run_tasks(client, task, jobs, report, **{"halves": uncut, "give_up": same} | options)


def halves(numbers: Numbers) -> list[Numbers]:
    """Jobs that are tuples of numbers, cut in the middle."""
    middle = len(numbers) // 2
    return [numbers[:middle], numbers[middle:]] if middle else []


def minus(numbers: Numbers) -> Numbers:
    """The job given up: every number negative."""
    return tuple(-number for number in numbers)


def batches(stop: int, size: int = 8) -> list[Numbers]:
    return [tuple(range(first, first + size)) for first in range(1, stop, size)]


def flat(results: Any) -> list[int]:
    return sorted((number for numbers in results for number in numbers), key=abs)


@pytest.fixture(scope="module")
def two() -> Iterator[Any]:
    """A cluster of two processes with little memory."""
    with cluster(workers=2, memory=BUDGET) as client:
        yield client


def squared(numbers: Numbers) -> Numbers:
    """The first batches end last."""
    time.sleep(0.05 if 1 in numbers else 0)
    tell(done=len(numbers))
    return tuple(number * number for number in numbers)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_any_number_of_workers_gives_the_same(workers: int, request: pytest.FixtureRequest) -> None:
    told: list[int] = []

    def report(counts: Mapping[str, int]) -> None:
        told.append(counts["done"])

    @contextmanager
    def clients() -> Iterator[Any]:
        if workers == 2:
            yield request.getfixturevalue("two")
        else:
            with cluster(workers=workers) as client:
                yield client

    with clients() as client:
        assert (client is None) == (workers == 0)
        assert flat(run(client, squared, batches(80), report)) == [number**2 for number in range(1, 81)]
    assert sum(told) == 80


def test_results_come_as_they_are_done_and_reports_in_the_callers_thread(dask_address: str) -> None:
    told, threads = [], set()

    def report(counts: Mapping[str, int]) -> None:
        told.append(counts["done"])
        threads.add(threading.get_ident())

    with cluster(dask_address) as client:
        results = list(run(client, squared, batches(80), report))
    assert flat(results) == [number**2 for number in range(1, 81)]
    assert threads == {threading.get_ident()}
    assert sum(told) == 80


def test_no_jobs_are_no_trouble(dask_address: str) -> None:
    with cluster(dask_address) as client:
        assert list(run(client, squared, [])) == []
    assert list(run(None, squared, [])) == []


def test_another_users_reports_are_not_passed_on(dask_address: str) -> None:
    told: list[Mapping[str, int]] = []

    def also_of_another(number: int) -> int:
        from distributed import get_worker

        get_worker().log_event("zeuxis", ("the-key-of-another-client", "tcp://other:1", {"done": 1000}))
        time.sleep(0.3)
        return number

    with cluster(dask_address) as client:
        assert sorted(run(client, also_of_another, [1, 2], told.append)) == [1, 2]
    assert told == []


RAN: list[int] = []
"""Jobs that have begun: the workers are threads, and a function of this module is not copied on its way to them."""


def noted(number: int) -> int:
    RAN.append(number)
    return number


GATE = threading.Event()


def fails_first(number: int) -> None:
    """Fails on the first job; the others wait at the gate."""
    RAN.append(number)
    if number == 0:
        raise SourceError("failed", "told to")
    GATE.wait(10)


def test_few_tasks_are_under_way_and_finished_ones_forgotten(dask_address: str) -> None:
    drawn = []

    def jobs() -> Iterator[int]:
        for number in range(60):
            drawn.append(number)
            yield number

    RAN.clear()
    most = 0
    with cluster(dask_address) as client:
        for done, _ in enumerate(run(client, noted, jobs(), ahead=2), 1):
            most = max(most, len(client.futures))
            assert len(drawn) <= done + 4, "jobs are taken as they are needed"
            if done == 10:
                time.sleep(0.3)
                assert len(RAN) <= 14, "what nobody takes holds up the rest"
        while client.futures:
            time.sleep(0.01)
    assert sorted(RAN) == list(range(60))
    assert most <= 4


def test_what_a_task_raises_reaches_the_caller_and_the_rest_is_cancelled(dask_address: str) -> None:
    RAN.clear()
    GATE.clear()
    with cluster(dask_address) as client:
        with pytest.raises(SourceError, match="told to") as caught:
            list(run(client, fails_first, range(100)))
        assert caught.value.reason == "failed"
        while any(client.processing().values()):
            time.sleep(0.01)
        GATE.set()
        time.sleep(0.2)
    assert 1 <= len(RAN) <= 12, "of a hundred, those that had been submitted by then"


def test_what_a_task_raises_without_workers_reaches_the_caller() -> None:
    RAN.clear()
    with pytest.raises(SourceError, match="told to"):
        list(run(None, fails_first, range(100)))
    assert RAN == [0]


@pytest.mark.parametrize("workers", [0, None])
def test_an_interrupt_from_the_report_stops_the_run(dask_address: str, workers: int | None) -> None:
    def interrupted(told: Mapping[str, int]) -> None:
        raise KeyboardInterrupt

    def tells(number: int) -> None:
        tell(done=1)
        time.sleep(0.05)

    with cluster(dask_address, workers) as client, pytest.raises(KeyboardInterrupt):
        list(run(client, tells, range(1000), interrupted))


def test_outside_a_task_there_is_nobody_to_tell_and_no_folder() -> None:
    tell(done=1)
    assert worker_folder() is None


def test_sigterm_is_an_interrupt_once_and_only_within() -> None:
    before = signal.getsignal(signal.SIGTERM)

    @terminable()
    def stopped_twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up

    with pytest.raises(KeyboardInterrupt):
        stopped_twice()
    assert signal.getsignal(signal.SIGTERM) is before


def killing(numbers: Numbers) -> Numbers:
    """Kills its worker on 13 and 30, from outside as the kernel does; takes a while, so that others run beside it."""
    tell(begun=len(numbers))
    time.sleep(0.02)
    if {13, 30} & set(numbers):
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def test_what_kills_workers_is_isolated_and_given_up_and_nothing_else(two: Any) -> None:
    expected = [-number if number in (13, 30) else number for number in range(1, 33)]
    told: Counter[str] = Counter()
    found = run_tasks(two, killing, batches(32, 4), told.update, halves=halves, give_up=minus, attempts=1)
    assert flat(found) == expected
    assert told == {"begun": 32}, "what a killed task told does not count"


def dies_once(where: tuple[str, int]) -> int:
    """Dies the first time it runs 0, and the first two times it runs 3."""
    folder, number = where
    with open(f"{folder}/{number}", "a") as file:
        file.write("x")
    if number % 3 == 0 and os.path.getsize(f"{folder}/{number}") <= 1 + number // 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_dies_by_chance_costs_no_job(two: Any, tmp_path: Path) -> None:
    given_up: list[Any] = []

    def give_up(job: Any) -> Any:
        given_up.append(job)
        return job

    jobs = [(str(tmp_path), number) for number in range(5)]
    assert sorted(run(two, dies_once, jobs, give_up=give_up)) == list(range(5))
    assert given_up == []
    assert len((tmp_path / "3").read_text()) == 3


def hungry(numbers: Numbers) -> Numbers:
    """Takes more memory than its worker may have, and holds it."""
    if 5 in numbers:
        held = bytearray(BUDGET)
        time.sleep(20)
        del held
    return numbers


def test_what_needs_more_memory_than_a_worker_has_is_given_up_alone(two: Any) -> None:
    expected = [1, 2, 3, 4, -5, *range(6, 9)]
    results = run_tasks(two, hungry, batches(8, 4), ignore, halves=halves, give_up=minus, attempts=1)
    assert flat(results) == expected


def pid_of(where: tuple[str, int]) -> tuple[int, int]:
    """Remembers each visit."""
    folder, number = where
    with open(f"{folder}/{number}", "a") as file:
        file.write("x")
    return number, os.getpid()


def test_a_finished_task_whose_worker_died_before_it_was_taken_runs_twice_and_counts_once(
    two: Any, tmp_path: Path
) -> None:
    results = run(two, pid_of, [(str(tmp_path), number) for number in range(12)])
    first = next(results)
    while any(two.processing().values()):  # the others under way are soon done, and wait
        time.sleep(0.01)
    for pid in two.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    assert sorted([first[0], *(number for number, _ in results)]) == list(range(12))
    assert any(len(path.read_text()) > 1 for path in tmp_path.iterdir())


def die(job: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_of_anything_are_said_to_be_at_fault(two: Any) -> None:
    with pytest.raises(UnfinishedError, match="memory"):
        list(run(two, die, [1], attempts=1))


def test_a_worker_that_could_not_even_start_is_refused() -> None:
    with pytest.raises(InputError, match="at least 256 MiB"), cluster(workers=1, memory=1 << 20):
        pass


def test_a_cluster_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with cluster(workers=1) as client:
        assert client.submit(os.environ.get, "OMP_NUM_THREADS").result() == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


@pytest.fixture
def empty() -> Iterator[Any]:
    """A scheduler in this process, without workers; they would be threads."""
    from distributed import LocalCluster

    options: dict[str, Any] = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=0, threads_per_worker=1, protocol="tcp", host="127.0.0.1", **options) as local:
        yield local


def test_workers_may_leave_and_join(empty: Any) -> None:
    def naps(number: int) -> int:
        time.sleep(0.02)
        return number

    empty.scale(1)
    done = []
    with cluster(empty.scheduler_address) as client:
        for result in run(client, naps, range(40)):
            done.append(result)
            if len(done) == 10:
                empty.scale(0)
                threading.Timer(0.3, empty.scale, [1]).start()
            if len(done) == 20:
                empty.scale(3)
    assert sorted(done) == list(range(40))


def test_a_scheduler_whose_workers_all_left_is_not_waited_for_for_ever(
    empty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeuxis.pipelines.cluster.PATIENCE_SECONDS", 0.5)
    empty.scale(1)
    endless = iter(lambda: (1,), None)
    with cluster(empty.scheduler_address) as client, pytest.raises(UnfinishedError, match="no worker"):
        [empty.scale(0) for _ in run(client, squared, endless)]


SCHEDULER = """
from distributed import LocalCluster
with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
                  dashboard_address='127.0.0.1:0') as local:
    print(local.scheduler_address, flush=True)
    input()
"""


def test_a_scheduler_that_goes_away_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.cluster.ANSWER_SECONDS", 2)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SCHEDULER], **pipes) as process:
        address = process.stdout.readline().strip()
        try:
            with cluster(address) as client, pytest.raises(UnfinishedError) as caught:
                [process.kill() for _ in run(client, abs, range(1000))]
        finally:
            process.kill()
    assert str(caught.value).startswith(f"scheduler {address}: cannot be reached any more")
    assert "run this again" in str(caught.value)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "127.0.0.1:notaport"])
def test_a_scheduler_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.cluster.ANSWER_SECONDS", 1)
    with pytest.raises(InputError) as caught, cluster(address):
        pass
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_workers_is_named(empty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.cluster.WORKERS_SECONDS", 0.2)
    with pytest.raises(InputError, match="no worker"), cluster(empty.scheduler_address):
        pass
