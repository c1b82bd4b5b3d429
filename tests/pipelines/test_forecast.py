"""A plan predicts what a rebuild takes from a sample, refuses what will not fit, and leaves nothing behind."""

import mmap
import time
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from zeuxis.pipelines import forecast as forecast_module
from zeuxis.pipelines.forecast import (
    Batch,
    Forecast,
    Room,
    Sample,
    check_room,
    choose_sample,
    forecast,
    free_bytes,
    next_bytes,
    room_for,
    take_sample,
)
from zeuxis.storage.checks import FileEntry
from zeuxis.storage.errors import InputError, NoRoomError
from zeuxis.storage.manifest import collect_garbage
from zeuxis.storage.shard import ShardEntry

MB = 1_000_000
ROOM = Room(disk=10**15, memory=10**15, cores=4)
SAMPLE = Sample(
    [Batch(10, 200, seconds, 10 * MB, 60 * MB) for seconds in (1.0, 1.2, 0.8, 1.0)],
    start=2.0,
    index=Batch(40, 800, 0.8, MB, 80 * MB),
    process=300 * MB,
)


def entry(sources: int, segments: int, size: int, masked: tuple[str, ...] = ()) -> ShardEntry:
    rows = {"sources": sources, "segments": segments}
    return ShardEntry("id", "settings", {"blobs": FileEntry(size, "")}, rows, {}, masked)


def predict(**options: Any) -> Forecast:
    given = {"total": 1000, "bank": Path("/bank"), "current": None, "workers": 2, "shard_size": 128, "room": ROOM}
    return forecast(SAMPLE, **given | options)


@pytest.mark.parametrize(("total", "size"), [(3, 3), (20, 20), (500, 20), (5_000, 50), (100_000, 200)])
def test_the_sample_is_a_hundredth_within_its_limits(total, size):
    chosen = choose_sample({"a": range(total)})
    assert sum(map(len, chosen.values())) == size


def test_the_sample_is_spread_evenly_and_drawn_by_its_seed():
    sources = {"a": [("a", n) for n in range(3000)], "b": [("b", n) for n in range(1000)], "c": []}
    chosen = choose_sample(sources, seed=5)
    assert {name: len(jobs) for name, jobs in chosen.items()} == {"a": 30, "b": 10}
    assert [n // 100 for _, n in chosen["a"]] == list(range(30))
    assert len(set(chosen["a"])) == 30
    assert chosen == choose_sample(sources, seed=5)
    assert chosen != choose_sample(sources, seed=6)


def test_the_sample_is_measured_beside_the_bank_and_removed(tmp_path):
    bank = tmp_path / "bank"
    calls, taken = [], []

    def extract(name: str, jobs: Sequence[int], folder: Path) -> ShardEntry:
        began = time.monotonic()
        calls.append((name, list(jobs)))
        assert folder.is_relative_to(tmp_path)
        folder.mkdir(exist_ok=True)
        (folder / f"{len(calls)}").write_bytes(b"x")
        assert collect_garbage(tmp_path) == {}, "who collects garbage meanwhile leaves it alone"
        with mmap.mmap(-1, 20 * MB) as held:  # its pages are surely new, and surely given back
            held.write(b"y" * len(held))
            time.sleep(0.01 * len(jobs))
        taken.append(time.monotonic() - began)
        return entry(len(jobs), 7 * len(jobs), 1000 * len(jobs))

    def index(folder: Path, entries: Sequence[ShardEntry]) -> list[Any]:
        assert sum(each.rows["sources"] for each in entries) == 24
        return [SimpleNamespace(files={"leaves": FileEntry(800, "")})]

    told = []
    began = time.monotonic()
    sample = take_sample(
        bank, {"a": range(2000), "b": range(400)}, extract, index, progress=lambda *said: told.append(said)
    )
    elapsed = time.monotonic() - began
    assert [batch.sources for batch in sample.batches] == [10, 10, 4]
    assert len(calls[0][1]) == 1, "loading of libraries is measured apart"
    assert sample.start >= taken[0]
    assert all(batch.seconds >= seconds for batch, seconds in zip(sample.batches, taken[1:], strict=True))
    assert sample.start + sum(batch.seconds for batch in sample.batches) <= elapsed
    assert [batch.bytes for batch in sample.batches] == [10_000, 10_000, 4_000]
    assert all(15 * MB < batch.memory < 200 * MB for batch in sample.batches)
    assert (sample.index.segments, sample.index.bytes) == (168, 800)
    assert list(tmp_path.iterdir()) == []
    assert told[-1][:2] == (24, 24)
    (tmp_path / ".tmp-plan-of-a-killed-run").mkdir()
    assert [*collect_garbage(tmp_path)] == [".tmp-plan-of-a-killed-run"]


def test_a_sample_that_fails_is_removed_as_well(tmp_path):
    def extract(name: str, jobs: Sequence[int], folder: Path) -> ShardEntry:
        folder.mkdir()
        raise InputError("edge model: cannot be read")

    with pytest.raises(InputError):
        take_sample(tmp_path, {"a": [1]}, extract, lambda *_: [])
    assert list(tmp_path.iterdir()) == []


def test_time_falls_with_workers_up_to_the_cores_there_are():
    found = predict(workers=8).seconds
    assert list(found) == [1, 4, 8]
    assert found[1].likely == pytest.approx(2 + 1000 * 0.1 + 0.8 + 20_000 * 2.5e-4)
    assert found[4].likely == pytest.approx(2 + 1000 * 0.1 / 4 + 0.8 + 20_000 * 2.5e-4)
    assert found[8].likely == found[4].likely


def test_the_spread_grows_with_that_of_the_batches():
    narrow = predict().seconds[1]
    uneven = replace(SAMPLE, batches=[replace(SAMPLE.batches[0], seconds=s) for s in (0.2, 2.0, 0.3, 1.5)])
    wide = forecast(uneven, 1000, bank=Path("/bank"), current=None, workers=2, shard_size=128, room=ROOM).seconds[1]
    assert wide.likely == narrow.likely
    assert wide.low < narrow.low < narrow.likely < narrow.high < wide.high


def test_disk_is_that_of_shards_and_index():
    found = predict()
    assert found.shards.likely == pytest.approx(1000 * MB)
    assert found.index.likely == pytest.approx(MB + 20_000 * 400)
    assert found.peak.likely == pytest.approx(1009 * MB)


def bank_of(segments: int, shards: Sequence[ShardEntry]) -> Any:
    part = SimpleNamespace(rows=segments, files={"leaves": FileEntry(1000 * segments, "")})
    return SimpleNamespace(shards=tuple(shards), index=(part,))


def test_a_small_night_leaves_the_old_index_as_it_is_and_a_large_one_merges_it():
    small = predict(current=bank_of(1_000_000, [entry(128, 1_000_000, 5000 * MB)]))
    assert small.index.likely == pytest.approx(MB + 20_000 * 400)
    assert small.now == 6000 * MB
    large = predict(current=bank_of(50_000, [entry(30, 10_000, 30 * MB), entry(128, 40_000, 128 * MB)]))
    assert large.index.likely == pytest.approx(MB + 70_000 * 400)
    assert large.peak.likely == pytest.approx((1000 + 1 + 28 + 30) * MB), "the small shard is written again"


def test_memory_is_that_of_the_process_of_a_picture_and_of_a_shard():
    found = predict()
    assert found.worker.likely == pytest.approx((300 + 50 + 128 * 1.25) * MB)
    assert predict(shard_size=16).worker.likely == pytest.approx((300 + 50 + 16 * 1.25) * MB)
    assert found.driver.likely == pytest.approx(380 * MB + 20_000 * 1024)


@pytest.mark.parametrize(
    ("room", "fault"),
    [
        (replace(ROOM, disk=900 * MB), "expected 1.2 GB of free disk space for 1,000 sources, found 900.0 MB"),
        (replace(ROOM, memory=1300 * MB), "ask for --workers 1"),
        (replace(ROOM, memory=100 * MB), "smaller --shard-size"),
    ],
)
def test_what_will_not_fit_is_refused_in_one_sentence(room, fault):
    found = predict(room=room)
    assert fault in found.refusal
    with pytest.raises(InputError, match="/bank: expected"):
        found.check()


def test_what_fits_is_not_refused():
    predict().check()
    assert predict().refusal == ""


@pytest.mark.parametrize("room", [ROOM, replace(ROOM, disk=MB)])
def test_the_forecast_is_shown_with_its_spread(room):
    text = StringIO()
    found = predict(room=room)
    Console(file=text, width=200, markup=False).print(found.render())
    shown = text.getvalue()
    assert "1,000 sources to extract; forecast from 40 of them" in shown
    assert "time, 2 workers" in shown
    assert "memory, a worker" in shown
    assert "1.0 GB" in shown
    assert (found.refusal or "this will fit; nothing was written") in shown


def test_room_is_looked_up_where_the_bank_will_be(tmp_path):
    assert room_for(tmp_path / "not" / "there").disk > 0
    assert room_for(tmp_path).memory > 100 * MB
    assert room_for(tmp_path).cores >= 1


def test_the_work_stops_before_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=500 * MB))
    assert free_bytes(tmp_path / "no" / "bank") == 500 * MB
    check_room(tmp_path, 400 * MB)
    with pytest.raises(NoRoomError, match=r"expected 501.0 MB .* found 500.0 MB; free some and run this again"):
        check_room(tmp_path, 500 * MB)


def test_what_is_running_is_counted_as_large_as_the_largest_so_far():
    assert next_bytes(9 * MB, 400, 4) == 36 * MB + 400 * 400
    assert next_bytes(0, 0, 4) == 0
