"""A small version of each command of `python -m benchmarks reliability`: it meets its goals, and it can fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reliability
from benchmarks.reliability import COMMANDS, bankfiles, images, publishes, readers, tmpfs
from benchmarks.reliability.server import TrialServer
from zeuxis.storage import manifest

pytestmark = pytest.mark.timeout(300)


def test_writers_killed_at_any_time_lose_nothing(server: TrialServer) -> None:
    trials = server.ask("rebuild", modes=[], kills=8)
    assert trials.wrong() == []
    assert trials.ended("signal 9") == len(trials.rows) == 8, "a writer that was done counted as killed"


def test_one_of_several_publishers_wins_each_number() -> None:
    outcome = publishes.run(quick=True)
    assert outcome.failures == []
    assert [row["publishes"] for row in outcome.rows] == [3, 3, 6]
    assert outcome.rows[0]["lost races"] == 3 * 2, "of three that publish a number at once, two lose it"


def test_a_publisher_that_overwrites_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def link_new(source: Path, target: Path) -> bool:
        source.replace(target)
        return True

    monkeypatch.setattr(manifest.files, "link_new", link_new)
    noticed = [said for said in publishes.run(quick=True).failures if "was won 3 times" in said]
    assert len(noticed) >= 3, "each number that all three publish at once has three winners"


def test_a_publisher_that_dies_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(bank: Path, current: Any, word: str) -> int:
        os.kill(os.getpid(), signal.SIGKILL if word.startswith("0.") else 0)
        return whole(bank, current, word)

    whole = publishes._publish
    monkeypatch.setattr(publishes, "_publish", publish)
    monkeypatch.setattr(publishes, "SECONDS", 1)
    failures = publishes.run(quick=True).failures
    assert any("a process signal 9" in said for said in failures)
    assert any("a process crashed" in said and "BrokenBarrierError" in said for said in failures)


def test_readers_get_the_answers_of_the_generation_they_opened() -> None:
    outcome = readers.run(quick=True)
    assert outcome.failures == []
    (row,) = outcome.rows
    assert row["errors"] == row["mixed answers"] == 0
    assert row["generations removed"] >= row["swaps"] + 2 - row["older ones held at once, most"]
    assert row["generations answered from"] > 1, "readers saw no swap"


def test_mutated_pictures_are_decoded_or_rejected() -> None:
    outcome = images.run(quick=True)
    assert outcome.failures == []
    assert all(row["decoded"] and row["rejected"] for row in outcome.rows)


@pytest.mark.parametrize("end", [lambda: 1 / 0, lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: time.sleep(60)])
def test_a_decoder_that_dies_or_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch, end: Callable[[], object]) -> None:
    monkeypatch.setattr(images, "SECONDS", 1)
    monkeypatch.setattr(images, "BATCH", 3)
    monkeypatch.setattr(images, "QUICK", 3)
    monkeypatch.setitem(images.DECODERS, "depth map", lambda _: end())
    assert [said for said in images.run(quick=True).failures if "depth map" in said]


def test_damage_to_any_file_is_found_and_kills_nobody() -> None:
    outcome = bankfiles.run(quick=True)
    assert outcome.failures == []
    assert {row["file"] for row in outcome.rows} >= {"data.mdb", "segments.parquet", "footprints.safetensors"}
    assert all(row["seen by verify --deep"] == row["damages"] for row in outcome.rows)


def test_a_disk_that_is_too_small_costs_nothing_but_the_run() -> None:
    outcome = tmpfs.run(quick=True)
    assert outcome.failures == []
    if "what" in outcome.rows[0]:
        pytest.skip(outcome.rows[0]["what"])
    assert all(row["refused in a sentence"] for row in outcome.rows), "every disk was large enough"


def test_a_goal_that_is_not_met_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for failures in ([], ["lost"]):
        monkeypatch.setattr(images, "run", lambda quick, said=failures: reliability.Outcome([{"a": 1}], said))
        assert reliability.main(["images", "--quick"]) == len(failures)


def test_every_command_is_there() -> None:
    for name, place in COMMANDS.items():
        module, function = place.split(".")
        assert callable(getattr(__import__(f"benchmarks.reliability.{module}", fromlist=[function]), function)), name
