"""Shards of workers that see nothing of the bank arrive whole, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.extract import Extraction, ExtractionSettings
from zeuxis.ingest.plan import DueSource
from zeuxis.pipelines.cluster import cluster, run_tasks
from zeuxis.pipelines.collecting import collect_shard, pack, receive
from zeuxis.pipelines.extraction import ShardJob, ShardResult, extract_shard
from zeuxis.storage import files
from zeuxis.storage.classes import ClassTable
from zeuxis.storage.errors import BankError
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import DatasetEntry, shard_folder
from zeuxis.storage.records import RejectRecord
from zeuxis.storage.shard import Shard, ShardEntry, finished_shard


def job_of(spec: str, bank: Path) -> ShardJob:
    """A shard of all sources of a folder data set, and a reject."""
    dataset = open_dataset(spec)
    classes, mapping = ClassTable().merged(dataset.decoding.classes, {})
    entry = DatasetEntry("folder", "folder", str(dataset.root), None, dataset.decoding, mapping)
    extraction = Extraction(ExtractionSettings(Geometry((48, 64), min_area=16)), classes, entry)
    lost = RejectRecord("folder:lost", "folder", "images/lost.png", None, "missing", "no label map", None, "")
    sources = [DueSource(ref, ref.stamp) for ref in dataset.sources()]
    return ShardJob(bank, spec, extraction, sources, [lost])


@pytest.fixture
def job(photos: Any, tmp_path: Path) -> ShardJob:
    photos.add("a", "b", "c")
    return job_of(photos.spec, tmp_path / "bank")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.collecting.PIECE", 1000)


def content(bank: Path, entry: ShardEntry) -> tuple[Any, ...]:
    """All rows and values of a shard."""
    shard = Shard(shard_folder(bank) / entry.id, entry)
    return *(shard.table(name).to_pylist() for name in entry.rows), dict(shard.blobs())


def leftovers(bank: Path) -> list[str]:
    folder = shard_folder(bank)
    return [path.name for path in folder.iterdir() if path.name.startswith(".tmp")] if folder.exists() else []


def test_a_collected_shard_is_the_one_that_was_extracted(job: ShardJob, tmp_path: Path, small_pieces: None) -> None:
    row = collect_shard(job)
    assert not job.bank.exists(), "nothing is written where the bank would be"
    entry = receive(job.bank, row["packed"])
    assert entry == ShardResult.from_json(row).entry == finished_shard(shard_folder(job.bank) / entry.id)
    assert entry.rows["sources"] == 3
    assert entry.rows["rejects"] == 1
    assert max(map(len, row["packed"][1:])) == 1000
    direct = ShardResult.from_json(extract_shard(replace(job, bank=tmp_path / "direct"))).entry
    assert direct is not None
    assert content(job.bank, entry) == content(tmp_path / "direct", direct)
    assert leftovers(job.bank) == []


def test_a_job_without_a_shard_sends_none(job: ShardJob) -> None:
    assert collect_shard(replace(job, sources=[], rejects=[])) == ShardResult(None).to_json() | {"packed": []}


def test_packing_is_deterministic(job: ShardJob) -> None:
    entry = ShardResult.from_json(extract_shard(job)).entry
    assert entry is not None
    path = shard_folder(job.bank) / entry.id
    assert pack(path, entry) == pack(path, entry)
    assert sum(map(len, pack(path, entry)[1:])) == sum(size for size, *_ in entry.files.values())


def test_a_shard_that_is_there_stays_and_a_damaged_one_is_replaced(job: ShardJob) -> None:
    packed = collect_shard(job)["packed"]
    entry = receive(job.bank, packed)
    data = shard_folder(job.bank) / entry.id / "blobs/data.mdb"
    before = data.stat().st_mtime_ns, data.stat().st_ino
    assert receive(job.bank, packed) == entry
    assert (data.stat().st_mtime_ns, data.stat().st_ino) == before
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert receive(job.bank, packed) == entry
    assert data.read_bytes() == whole
    assert leftovers(job.bank) == []


def cut(packed: list[bytes]) -> list[bytes]:
    return packed[:-1]


def flipped(packed: list[bytes]) -> list[bytes]:
    return [*packed[:5], bytes([packed[5][0] ^ 1]) + packed[5][1:], *packed[6:]]


def swapped(packed: list[bytes]) -> list[bytes]:
    return [*packed[:3], packed[4], packed[3], *packed[5:]]


def renamed(packed: list[bytes]) -> list[bytes]:
    return [packed[0].replace(b'"sources.parquet"', b'"../../sources"'), *packed[1:]]


def unmarked(packed: list[bytes]) -> list[bytes]:
    return [packed[0].replace(b'"shard.json"', b'"other.json"'), *packed[1:]]


def garbled(packed: list[bytes]) -> list[bytes]:
    return [b"{}", *packed[1:]]


@pytest.mark.parametrize("damage", [cut, flipped, swapped, renamed, unmarked, garbled])
def test_what_was_altered_on_the_way_is_refused(damage: Any, job: ShardJob, small_pieces: None) -> None:
    packed = damage(collect_shard(job)["packed"])
    with pytest.raises(BankError, match="from a worker"):
        receive(job.bank, packed)
    assert leftovers(job.bank) == []
    assert not (job.bank / "sources").exists()


@pytest.mark.parametrize("mode", ["EIO", "ENOSPC", "short"])
def test_a_fault_at_any_write_leaves_nothing_or_all(
    mode: str, job: ShardJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = collect_shard(job)["packed"]
    begun = files.operations
    entry = receive(tmp_path / "counted", packed)
    count = files.operations - begun
    failed = 0
    for number in range(1, count + 1):
        bank = tmp_path / f"{number}"
        monkeypatch.setenv("ZEUXIS_FAULT", f"{files.operations + number}:{mode}")
        try:
            receive(bank, packed)
        except OSError:
            failed += 1
        monkeypatch.delenv("ZEUXIS_FAULT")
        assert receive(bank, packed) == entry
        assert finished_shard(shard_folder(bank) / entry.id) == entry
    assert failed == (len(entry.files) if mode == "short" else count), "a file is cut short once, all else can fail"


def test_shards_are_collected_from_a_cluster(job: ShardJob, dask_address: str) -> None:
    assert collected_from(dask_address, job) == 3
    assert leftovers(job.bank) == []


def collected_from(address: str, job: ShardJob) -> int:
    """Runs one source a task on this cluster, puts the shards in place, and returns how many sources they hold."""
    jobs = [replace(job, sources=[source], rejects=()) for source in job.sources]
    options: dict[str, Any] = {"halves": ShardJob.halves, "give_up": ShardJob.given_up, "ahead": 1}
    with cluster(address) as client:
        rows = run_tasks(client, collect_shard, jobs, lambda told: None, **options)
        entries = [receive(job.bank, row["packed"]) for row in rows]
    assert all(finished_shard(shard_folder(job.bank) / entry.id) == entry for entry in entries)
    return sum(entry.rows["sources"] for entry in entries)


@pytest.mark.slow
def test_workers_in_namespaces_of_their_own_that_see_no_bank(job: ShardJob, photos: Any) -> None:
    """Scheduler and driver in one network namespace, two workers in others, with an empty disk over the bank."""
    apart = ["unshare", "--map-root-user", "--net", "--mount"]
    if not shutil.which("unshare") or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("no unshare, nsenter or ip here")
    link = "ip link add name z0 type veth peer name z1 && mount -t tmpfs none /mnt"
    tried = subprocess.run([*apart, "sh", "-c", link], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"network namespaces are not permitted here: {tried.stderr.strip()}")
    job.bank.mkdir()
    command = [*apart, sys.executable, __file__, photos.spec, str(job.bank)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["3", "10.91.1.2", "10.91.2.2"]
    assert leftovers(job.bank) == []


@contextmanager
def worker_apart(number: int, address: str, bank: str) -> Iterator[None]:
    """A worker in network and mount namespaces of its own, which reaches the scheduler over a pair of devices."""
    own, peer, hidden = f"10.91.{number}.1", f"10.91.{number}.2", ["mount", "-t", "tmpfs", "none", bank]
    worker = [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--nthreads", "1", "--host", peer]
    ready = "read line; ip link set lo up; ip addr add $1/24 dev z1; ip link set z1 up; ip route add default via $2"
    script = f'{ready}; shift 2; {" ".join(hidden)} && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", peer, own, *worker]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin
        try:
            while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                pass
            for line in (
                f"ip link add name w{number} type veth peer name z1 netns {process.pid}",
                f"ip addr add {own}/24 dev w{number}",
                f"ip link set w{number} up",
            ):
                subprocess.run(line.split(), check=True)
            process.stdin.write("go\n")
            process.stdin.close()
            yield
        finally:
            process.terminate()


def main(spec: str, bank: str) -> None:
    """The driver of the test above, in a namespace of its own: prints sources collected and hosts of the workers."""
    from distributed import Client, LocalCluster

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", "10.91.0.1/32", "dev", "lo"], check=True)
    options: dict[str, Any] = {"processes": False, "dashboard_address": "10.91.0.1:0", "silence_logs": 50}
    with ExitStack() as stack:
        local = stack.enter_context(LocalCluster(n_workers=0, protocol="tcp", host="10.91.0.1", **options))
        address = local.scheduler_address
        for number in (1, 2):
            stack.enter_context(worker_apart(number, address, bank))
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
            hosts = sorted(worker.split("//")[1].split(":")[0] for worker in client.nthreads())
        print(collected_from(address, job_of(spec, Path(bank))), *hosts)


if __name__ == "__main__":
    main(*sys.argv[1:])
