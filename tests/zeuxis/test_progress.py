"""Progress leaves a readable log where there is no terminal, and says how fast it goes and how long it takes."""

import io
import re
import sys

import pytest

from zeuxis.pipelines.units import duration, size
from zeuxis.progress import PlainProgress, progress_bar


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def plain(clock, lines) -> PlainProgress:
    return PlainProgress("sources", lines.append, clock)


def test_a_long_run_writes_a_line_every_tenth(plain, clock, lines):
    for done in range(1001):
        clock.now += 0.1
        plain(done, 1000)
    assert len(lines) == 10
    assert lines[2].startswith("300 of 1,000 sources (30%), 10.0 sources/s, 1 min 10 s left")
    assert lines[-1].startswith("1,000 of 1,000 sources (100%)")


def test_a_slow_run_writes_a_line_every_thirty_seconds(plain, clock, lines):
    for done in range(100):
        clock.now += 10
        plain(done, 100_000, "3 rejects")
    assert len(lines) == 33
    assert lines[0] == "3 of 100,000 sources (0%), 0.1 sources/s, 11 days 14 h left, 3 rejects"


def test_work_that_is_done_in_a_moment_leaves_no_line(plain, clock, lines):
    for done in range(1001):
        clock.now += 0.001
        plain(done, 1000)
    assert lines == []


def test_each_part_of_the_work_has_its_own_rate(plain, clock, lines):
    plain(0, 10)
    clock.now += 40
    plain(10, 10)
    plain(0, 100)
    clock.now += 60
    plain(60, 100)
    assert lines[-1] == "60 of 100 sources (60%), 1.0 sources/s, 40 s left"


def test_an_unknown_total_is_counted_without_a_share(plain, clock, lines):
    plain(0, None)
    clock.now += 60
    plain(30, None)
    assert lines == ["30 sources, 0.5 sources/s"]


def test_nothing_to_do_is_no_error(plain):
    plain(0, 0)
    plain(0, 0)


def test_without_a_terminal_the_lines_go_to_the_error_stream(monkeypatch, capsys):
    monkeypatch.setattr("zeuxis.progress.LEAST_SECONDS", 0.0)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress_bar("files") as report:
        report(0, 2, "[/]")
        report(2, 2, "[/]")
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"2 of 2 files \(100%\), [\d,.]+ files/s, \[/\]\n", said.err)
    assert "\x1b" not in said.err


def test_a_terminal_gets_a_bar_with_rate_and_note(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("sources") as report:
        for done in range(4):
            report(done, 3, "a [/red] name")
    assert "3/3" in terminal.getvalue()
    assert "sources/s" in terminal.getvalue()
    assert "a [/red] name" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.048, "48 ms"), (0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
     (200, "3 min 20 s"), (3599, "1 h"), (7800, "2 h 10 min"),
     (86_400, "1 day"), (273_600, "3 days 4 h")],
)  # fmt: skip
def test_durations_in_words(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999_600, "1.0 MB"),
        (2_340_000, "2.3 MB"),
        (1.2e12, "1.20 TB"),
        (1e15, "1,000.00 TB"),
    ],
)
def test_sizes_in_words(count, said):
    assert size(count) == said
