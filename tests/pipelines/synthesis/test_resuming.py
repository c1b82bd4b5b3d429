"""A run that is stopped, killed, starved or handed to a cluster ends with the same files as one that is not."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipelines.synthesis.conftest import tree
from zeuxis.pipelines.synthesis import line, making, units
from zeuxis.pipelines.synthesis.making import Job, make_unit
from zeuxis.pipelines.synthesis.units import folder_lock
from zeuxis.storage.errors import InputError, NoRoomError, UnfinishedError

Make = Callable[..., Any]
SETTINGS: dict[str, Any] = {"variants": 2, "keep_real": 0.2, "coco": True}
QUICK: dict[str, Any] = {"transform": "analytic", "order": "classes"}


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What an undisturbed run of a format leaves."""
    from zeuxis.pipelines.synthesis.synthesize import synthesize

    made: dict[str, dict[str, bytes]] = {}

    def of(format: str) -> dict[str, bytes]:
        if format not in made:
            out = tmp_path_factory.mktemp("whole") / "out"
            given = {"shard": 3, "workers": 1, "format": format, **SETTINGS, **QUICK}
            synthesize(home / "bank", home / "models", out, home / "layouts", **given)
            made[format] = tree(out)
        return made[format]

    return of


@pytest.mark.parametrize("format", ["folder", "webdataset", "parquet"])
def test_a_run_that_is_stopped_goes_on(make: Make, tmp_path: Path, whole: Any, format: str):
    class Stopped(BaseException):
        pass

    def stop(done: int, total: int, note: str = "") -> None:
        assert total == 12
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        make(format=format, progress=stop, **SETTINGS)
    left = list((tmp_path / "out/units").glob("?????.json"))
    report = make(format=format, **SETTINGS)
    assert report.made == 12 - 3 * len(left)
    assert tree(tmp_path / "out") == whole(format)
    assert make(format=format, **SETTINGS).made == 0
    assert tree(tmp_path / "out") == whole(format)


def test_a_run_that_is_killed_goes_on(home: Path, tmp_path: Path, make: Make, whole: Any):
    """Killed twice at operations of the disk, in the middle of a shard."""
    script = (
        "from zeuxis.pipelines.synthesis.synthesize import synthesize; import sys\n"
        "home, out = sys.argv[1:]\n"
        "synthesize(home + '/bank', home + '/models', out, home + '/layouts', shard=3, workers=2, variants=2,"
        " keep_real=0.2, coco=True, transform='analytic', order='classes')\n"
    )
    out, kills = tmp_path / "out", 0
    for operation in (90, 45):
        environment = os.environ | {"ZEUXIS_FAULT": f"{operation}:kill", "OMP_NUM_THREADS": "1"}
        run = subprocess.run([sys.executable, "-c", script, str(home), str(out)], env=environment, check=False)
        kills += run.returncode == -9
    assert kills == 2
    assert 0 < len(list((out / "units").glob("?????.json"))) < 4
    assert list(out.glob(".unit-*"))
    report = make(**SETTINGS)
    assert report.images == 12
    assert tree(out) == whole("folder")


@pytest.mark.parametrize("operation", [1, 2, 8, 11, 20])
def test_a_run_that_the_disk_fails_goes_on(
    make: Make, tmp_path: Path, whole: Any, operation: int, monkeypatch: pytest.MonkeyPatch
):
    """The nth rename, link or folder fails, wherever that is."""
    left = operation

    def failing(honest: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))
            return honest(*arguments)

        return run

    for name in ("make_folder", "rename", "link_new"):
        monkeypatch.setattr(units, name, failing(getattr(units, name)))
    with pytest.raises(UnfinishedError, match="what is published stays"):
        make(format="webdataset", **SETTINGS)
    monkeypatch.undo()
    make(format="webdataset", **SETTINGS)
    assert tree(tmp_path / "out") == whole("webdataset")


def test_a_full_disk_is_said_and_costs_nothing_that_is_there(
    make: Make, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
):
    from zeuxis.pipelines.synthesis import writers

    honest, room = writers.write_bytes, 2

    def full(path: Path, data: bytes) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        honest(path, data)

    monkeypatch.setattr(writers, "write_bytes", full)
    with pytest.raises(NoRoomError, match=r"disk is full.*make room"):
        make(format="webdataset", **SETTINGS)
    assert len(list((tmp_path / "out/units").glob("?????.json"))) == 2
    assert not list((tmp_path / "out").glob(".unit-*"))
    monkeypatch.undo()
    assert make(format="webdataset", **SETTINGS).made == 6
    assert tree(tmp_path / "out") == whole("webdataset")


def test_a_shard_that_was_lost_is_made_again(make: Make, tmp_path: Path, whole: Any):
    make(**SETTINGS)
    shutil.rmtree(tmp_path / "out/labels/00001")
    report = make(**SETTINGS)
    assert report.made == 3
    assert tree(tmp_path / "out") == whole("folder")
    (tmp_path / "out/units/00001.json").unlink()  # as when it was being taken back, to be made anew otherwise
    (tmp_path / "out/labels/00001/0000003.png").write_bytes(b"of before")
    assert make(**SETTINGS).made == 3
    assert tree(tmp_path / "out") == whole("folder")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 1}, "option seed differs"),
        ({"variants": 3}, "option variants differs"),
        ({"format": "parquet"}, "option format differs"),
        ({"transform": "identity"}, "option transform differs"),
    ],
    ids=str,
)
def test_a_folder_of_another_run_is_refused(make: Make, tmp_path: Path, settings: dict[str, Any], said: str):
    make(**SETTINGS)
    before = tree(tmp_path / "out")
    with pytest.raises(InputError, match=said):
        make(**SETTINGS | settings)
    assert tree(tmp_path / "out") == before


def test_networks_that_were_trained_on_are_another_run(make: Make, home: Path, tmp_path: Path):
    from tests.pipelines.tiny_models import save_models
    from zeuxis.pipelines.synthesis.synthesize import synthesize

    make(limit=1)
    others = save_models(tmp_path / "others", home / "bank", "synthesis", "transform", "ordering", seed=5)
    with pytest.raises(InputError, match="set of networks differs"):
        synthesize(home / "bank", others, tmp_path / "out", home / "layouts", shard=3, limit=1, **QUICK)


def test_a_place_that_cannot_be_the_output_is_refused(make: Make, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/plan.json").write_text(json.dumps({"version": 1}))
    for name, said in (("file", "a file"), ("mine", r"thesis\.txt"), ("odd", "no plan of a synthesis")):
        with pytest.raises(InputError, match=said):
            make(name)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_two_at_once_are_refused(make: Make, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with folder_lock(tmp_path / "out"), pytest.raises(InputError, match="another process"):
        make()


# ---- on a cluster


def test_a_cluster_makes_the_same_files(make: Make, tmp_path: Path, whole: Any, dask_address: str):
    seen: list[int] = []
    report = make(scheduler=dask_address, progress=lambda done, total, note="": seen.append(done), **SETTINGS)
    assert report.made == 12
    assert seen[-1] == 12
    assert [rate.images for rate in report.rates] == [12] * 4
    assert tree(tmp_path / "out") == whole("folder")


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(make: Make, tmp_path: Path):
    """A real one, by a signal, in the middle of a shard; the run ends with the files of one that nothing disturbed."""
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": 50, "host": "127.0.0.1"}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as cluster,
        Client(cluster) as client,
    ):
        killed: list[int] = []

        def kill(done: int, total: int, note: str = "") -> None:
            if done and done < total and not killed:
                busy = next(worker for worker, keys in client.processing().items() if keys)
                killed.append(client.run(os.getpid, workers=[busy])[busy])
                os.kill(killed[0], signal.SIGKILL)

        report = make(scheduler=cluster.scheduler_address, shard=1, progress=kill, **SETTINGS)
        assert len(killed) == 1
        assert killed[0] not in client.run(os.getpid).values()
    assert (report.images, report.rejected) == (12, 0)
    make("undisturbed", shard=1, **SETTINGS)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_a_shard_that_is_made_twice_is_there_once(
    make: Make, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
):
    """As a scheduler may have it: who comes second finds the shard half published, or published."""
    honest = making._publish

    def twice(units: Any, session: Any, done: Any) -> None:
        honest(units, session, done)
        units.record_path(done[0]).unlink()
        honest(units, session, done)
        honest(units, session, done)

    monkeypatch.setattr(making, "_publish", twice)
    make(**SETTINGS)
    assert tree(tmp_path / "out") == whole("folder")


def test_a_shard_whose_worker_dies_is_rejected_and_may_be_retried(
    make: Make, tmp_path: Path, whole: Any, dask_address: str, monkeypatch: pytest.MonkeyPatch
):
    honest = making.make_unit

    def given_up(job: Job) -> Any:
        return make_unit(making._given_up(job) if job.unit == 1 else job)

    monkeypatch.setattr(making, "make_unit", given_up)
    report = make(scheduler=dask_address, **SETTINGS)
    assert report.reasons == {"killed-worker": 3}
    assert report.images == 9
    monkeypatch.setattr(making, "make_unit", honest)
    report = make(retry="failed", **SETTINGS)
    assert (report.made, report.rejected) == (3, 0)
    assert tree(tmp_path / "out") == whole("folder")


def test_gpus_and_cores_are_shared_by_the_workers_of_a_machine(monkeypatch: pytest.MonkeyPatch):
    class Client:
        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            hosts = {"tcp://a:1": "a", "tcp://b:1": "b", "tcp://a:2": "a"}
            return {"workers": {address: {"host": host, "nthreads": 1} for address, host in hosts.items()}}

    devices, beside = making._spread(Client())
    assert devices == {"tcp://a:1": 0, "tcp://a:2": 1, "tcp://b:1": 0}
    assert beside == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [making._device(None, number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [making._device(asked, 3) for asked in ("cpu", "cuda", "cuda:0")] == ["cpu", "cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [making._device(asked, 3) for asked in (None, "cuda")] == ["cpu", "cuda"]


def test_a_cluster_tells_what_it_ran_on(make: Make, dask_address: str, monkeypatch: pytest.MonkeyPatch):
    """Two machines of another size than this one, with GPUs; the device that was asked for is theirs."""
    opened, threads, machines = making.Models, list[int](), itertools.cycle(["node 0", "node 1"])

    def models(*given: Any) -> Any:
        assert given[3] == "cpu"
        return opened(*given)

    def produced(session: Any, encoder: Any, jobs: Any, clocks: Any, workers: int) -> Any:
        threads.append(workers)
        yield from line.produce(session, encoder, jobs, clocks, workers)
        clocks.device = True

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(making, "usable_cores", lambda: 16)
    monkeypatch.setattr(making, "gethostname", lambda: next(machines))
    monkeypatch.setattr(making, "Models", models)
    monkeypatch.setattr(making, "produce", produced)
    report = make(scheduler=dask_address, device="cpu", workers=None)
    assert (report.cores, report.device) == (32, True)
    assert threads == [8, 8]  # two workers share a machine's cores


def test_a_scheduler_that_does_not_answer_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zeuxis.pipelines.cluster.ANSWER_SECONDS", 0.2)
    with pytest.raises(InputError, match="does not answer"):
        make(scheduler="tcp://127.0.0.1:1")
