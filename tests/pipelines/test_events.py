"""A night can be watched: whole JSON lines in its log, valid metrics, failures told, and nothing written in vain."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zeuxis.pipelines import events as events_module
from zeuxis.pipelines.accounts import RebuildReport
from zeuxis.pipelines.events import Events, bank_bytes, exit_code_of, render_metrics
from zeuxis.storage.checks import FileEntry
from zeuxis.storage.errors import (
    BankBusyError,
    DamagedBankError,
    DatasetError,
    InputError,
    NoRoomError,
    UnfinishedError,
)

BANK = Path("/banks/street")


def outcome(**changed: Any) -> RebuildReport:
    counts = {"n_in": 12, "n_new": 3, "n_reused": 7, "n_rejected": 2, "n_forgotten": 0, "n_vanished": 1}
    reasons = {"all-void": 1, "unreadable-image": 1}
    report = RebuildReport(BANK, 7, True, **counts, segments=240, reasons=reasons, rejects=[], ignored=0, seconds=4.5)
    return replace(report, **changed)


def manifest(*sizes: int) -> Any:
    entry = SimpleNamespace(files={str(n): FileEntry(size, "") for n, size in enumerate(sizes)})
    return SimpleNamespace(shards=(entry,), index=())


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The text format, strictly: HELP then TYPE then all samples of each metric, names and labels valid, no twins."""
    assert text.endswith("\n")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    current, expected = "", "HELP"
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            assert expected in ("HELP", "sample or HELP")
            current = line.split(" ")[2]
            assert NAME.fullmatch(current)
            assert current not in found
            assert len(line.split(" ", 3)[3]) > 10
            expected = "TYPE"
        elif line.startswith("# TYPE "):
            assert expected == "TYPE"
            assert line == f"# TYPE {current} gauge"
            expected = "sample"
        else:
            assert expected in ("sample", "sample or HELP")
            match = SAMPLE.fullmatch(line)
            assert match
            assert match[1] == current
            labels = tuple(LABEL.findall(match[2]))
            assert "".join(f'{key}="{value}",' for key, value in labels) == match[2] + ","
            assert len(dict(labels)) == len(labels)
            assert labels not in found[current]
            found[current][labels] = float(match[3])
            expected = "sample or HELP"
    assert expected == "sample or HELP"
    return dict(found)


def value(path: Path, name: str, **labels: str) -> float:
    samples = parsed(path.read_text())[f"zeuxis_rebuild_{name}"]
    return samples[(("bank", str(BANK)), *labels.items())]


def test_every_event_is_one_line_with_time_event_and_run(tmp_path):
    log = tmp_path / "log.jsonl"
    with Events(log, bank=BANK) as events:
        events.tell("reject", source="nyu/a\nb\udcff", path=Path("x"), count=3)
    rows = lines_of(log)
    assert [row["event"] for row in rows] == ["started", "reject", "ended"]
    assert {row["run"] for row in rows} == {events.run}
    assert all(datetime.fromisoformat(row["time"]).utcoffset().total_seconds() == 0 for row in rows)
    assert rows[1]["source"] == "nyu/a\nb\udcff"
    assert rows[1]["path"] == "x"


def test_two_runs_have_two_names_and_append(tmp_path):
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        with Events(log, bank=BANK):
            pass
    assert len({row["run"] for row in lines_of(log)}) == 2


def test_lines_of_many_writers_never_mix(tmp_path):
    log = tmp_path / "log.jsonl"
    many = [Events(log, bank=BANK) for _ in range(4)]

    def write(events: Events) -> None:
        for number in range(200):
            events.tell("x", number=number, filler="y" * (number * 37 % 3000))

    threads = [threading.Thread(target=write, args=(events,)) for events in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines_of(log)) == 800  # outside of the context nothing else is told


def test_a_killed_run_cuts_no_line_but_its_last_and_says_that_it_was_running(tmp_path):
    log, metrics = tmp_path / "log.jsonl", tmp_path / "zeuxis.prom"
    code = f"""
from pathlib import Path
from zeuxis.pipelines.events import Events
with Events({str(log)!r}, {str(metrics)!r}, bank=Path({str(BANK)!r})) as events:
    print("running", flush=True)
    while True:
        events.tell("x", filler="y" * 9000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    assert value(metrics, "in_progress") == 1
    assert "zeuxis_rebuild_exit_code" not in parsed(metrics.read_text())
    *whole, last = log.read_text().split("\n")
    assert len(whole) > 1
    assert all(json.loads(line)["event"] for line in whole)
    with Events(log, bank=BANK):
        pass
    assert log.read_text().split("\n")[: len(whole)] == whole
    assert [row["event"] for row in map(json.loads, log.read_text().splitlines()[-2:])] == ["started", "ended"]
    assert not last or last in log.read_text().splitlines()


def test_a_line_that_a_full_disk_cut_short_does_not_garble_the_next(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"time": "2026-')
    with Events(log, bank=BANK) as events:
        events.tell("a")
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()[1:]] == ["started", "a", "ended"]


def test_a_log_that_fails_later_warns_once_and_ends_no_run(tmp_path, monkeypatch):
    with Events(tmp_path / "log.jsonl", bank=BANK) as events:
        real = os.write

        def full(file: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(events_module.os, "write", full)
        with pytest.warns(UserWarning, match="No space left on device"):
            events.tell("lost")
        events.tell("lost too")
        monkeypatch.setattr(events_module.os, "write", real)
        events.tell("back")
    assert [row["event"] for row in lines_of(tmp_path / "log.jsonl")] == ["started", "back", "ended"]


def test_standard_output_can_be_the_log(capfd):
    with Events("-", bank=BANK) as events:
        events.tell("a")
    assert [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()] == ["started", "a", "ended"]


@pytest.mark.parametrize("which", ["log", "metrics"])
@pytest.mark.parametrize("make", ["missing folder", "folder", "pipe"])
def test_what_cannot_be_written_is_refused_before_anything_is_done(tmp_path, which, make):
    path = tmp_path / "no" / "file" if make == "missing folder" else tmp_path / "it"
    if make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    other = tmp_path / "other"
    given = {"log": (path, other), "metrics": (other, path)}[which]
    with pytest.raises(InputError, match=re.escape(str(path))):
        Events(*given, bank=BANK)
    assert not (tmp_path / "no").exists()


def test_metrics_never_replace_somebody_elses_file(tmp_path):
    path = tmp_path / "other.prom"
    path.write_text("# HELP node_load1 1m load average.\nnode_load1 3\n")
    with pytest.raises(InputError, match="another file"):
        Events(None, path, bank=BANK)
    assert "node_load1 3" in path.read_text()


def test_the_metrics_of_a_night_are_valid_and_complete(tmp_path):
    path = tmp_path / "zeuxis.prom"
    before = time.time()
    with Events(None, path, bank=BANK) as events:
        assert value(path, "in_progress") == 1
        assert value(path, "start_timestamp_seconds") >= math.floor(before)
        with events.stage("listing"):
            time.sleep(0.02)
        assert 0.02 <= value(path, "stage_duration_seconds", stage="listing") < 1
        events.done(outcome(), manifest(100, 23))
    for name, number in {"listed": 12, "new": 3, "reused": 7, "rejected": 2, "vanished": 1, "forgotten": 0}.items():
        assert value(path, "sources", outcome=name) == number
    assert value(path, "rejected_sources", reason="all-void") == 1
    assert value(path, "segments") == 240
    assert value(path, "generation") == 7
    assert value(path, "bank_bytes") == 123
    assert value(path, "exit_code") == 3
    assert value(path, "in_progress") == 0
    assert value(path, "last_success_timestamp_seconds") >= before - 1
    assert [each.name for each in tmp_path.iterdir()] == ["zeuxis.prom"]
    assert path.stat().st_mode & 0o044 == 0o044 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_names_follow_the_conventions():
    for name, family in events_module.FAMILIES.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), "these are for counters and histograms"
        assert family.help.endswith(".")
        timed = "time" in family.help.lower() or family.help.startswith("When")
        assert not timed or name.endswith("_seconds")


def test_labels_are_escaped(tmp_path):
    text = render_metrics({"rejected_sources": {(("reason", 'a"b\\c\nd'),): 1}}, "caf\udce9")
    ((labels, number),) = parsed(text)["zeuxis_rebuild_rejected_sources"].items()
    assert number == 1
    assert dict(labels)["reason"] == 'a\\"b\\\\c\\nd'


def test_a_failure_is_told_and_the_last_success_is_not_forgotten(tmp_path):
    log, path = tmp_path / "log.jsonl", tmp_path / "zeuxis.prom"
    with Events(log, path, bank=BANK) as events:
        events.done(outcome(), manifest(100))
    success = value(path, "last_success_timestamp_seconds")
    with pytest.raises(DatasetError), Events(log, path, bank=BANK) as events, events.stage("listing"):
        raise DatasetError("nyu:/data: no such folder")
    assert value(path, "exit_code") == 2
    assert value(path, "in_progress") == 0
    assert value(path, "last_success_timestamp_seconds") == success
    assert value(path, "segments") == 240
    assert value(path, "sources", outcome="new") == 3
    last = lines_of(log)[-2:]
    assert (last[0]["stage"], last[0]["state"]) == ("listing", "failed")
    assert last[1]["event"] == "refused"
    assert last[1]["message"] == "nyu:/data: no such folder"
    assert last[1]["exit_code"] == 2


def test_another_bank_has_its_own_metrics(tmp_path):
    path = tmp_path / "zeuxis.prom"
    with Events(None, path, bank=Path("/other")) as events:
        events.done(outcome(), manifest(100))
    with Events(None, path, bank=BANK):
        assert "zeuxis_rebuild_segments" not in parsed(path.read_text())


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("x"), 2), (DatasetError("x"), 2), (BankBusyError("x"), 2), (NoRoomError("x"), 1),
     (UnfinishedError("x"), 1), (DamagedBankError("x"), 1), (OSError(28, "full"), 1),
     (RuntimeError("x"), 1), (KeyboardInterrupt(), 130),
     (SystemExit(143), 143)],
)  # fmt: skip
def test_exit_codes(error, code, tmp_path):
    assert exit_code_of(error) == code
    log = tmp_path / "log.jsonl"
    with pytest.raises(type(error)), Events(log, bank=BANK):
        raise error
    told = lines_of(log)[-1]
    assert told["exit_code"] == code
    assert told["event"] == ("interrupted" if code >= 130 else "refused" if code == 2 else "failed")
    assert ("run the same command again" in told["message"]) == (told["error"] == "KeyboardInterrupt")


def test_metrics_stay_fresh_while_progress_is_told(tmp_path, monkeypatch):
    path = tmp_path / "zeuxis.prom"
    seen = []
    with Events(None, path, bank=BANK) as events:
        report = events.following(lambda done, total, note="": seen.append((done, total, note)))
        report(1, 10)
        assert "zeuxis_rebuild_done_sources" not in parsed(path.read_text())
        monkeypatch.setattr(events_module, "FRESH_SECONDS", 0.0)
        report(4, 10, "note")
        assert value(path, "done_sources") == 4
        assert value(path, "planned_sources") == 10
        assert value(path, "heartbeat_timestamp_seconds") >= time.time() - 5
        events.done(outcome(), manifest(1))
    assert "zeuxis_rebuild_done_sources" not in parsed(path.read_text())
    assert seen == [(1, 10, ""), (4, 10, "note")]


def test_a_run_that_only_plans_ends_and_is_no_success(tmp_path):
    path = tmp_path / "zeuxis.prom"
    with Events(None, path, bank=BANK):
        pass
    assert value(path, "in_progress") == 0
    assert value(path, "exit_code") == 0
    assert "zeuxis_rebuild_last_success_timestamp_seconds" not in parsed(path.read_text())


def test_a_stage_entered_twice_adds_up(tmp_path):
    with Events(bank=BANK) as events:
        for _ in range(2):
            with events.stage("indexing"):
                time.sleep(0.01)
        with events.stage("publishing"):
            pass
    assert list(events.stages) == ["indexing", "publishing"]
    assert events.stages["indexing"] >= 0.02


def test_the_metrics_disk_may_fill_up_without_ending_the_run(tmp_path, monkeypatch):
    with Events(None, tmp_path / "zeuxis.prom", bank=BANK) as events:
        (tmp_path / "zeuxis.prom").unlink()
        monkeypatch.setattr(Path, "write_bytes", raise_full)
        with pytest.warns(UserWarning, match="the run goes on"), events.stage("a"):
            pass


def raise_full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_bytes_of_a_bank_come_from_its_manifest():
    assert bank_bytes(manifest(1, 2, 3)) == 6
