"""What a long run tells those who watch it: one JSON line an event, and a Prometheus text file.

Metrics follow the conventions for names, units and the text format of the Prometheus documentation; the file is meant
for the text-file collector of the node exporter.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..storage.errors import BankError, DamagedBankError, InputError, InstallationError, UnfinishedError, sentence
from ..storage.manifest import Manifest
from ..storage.outputs import check_output, keep_banks, write_outputs
from .progress import Progress, silent

if TYPE_CHECKING:
    from .accounts import RebuildReport

DONE, FAILED, REFUSED, DONE_WITH_REJECTS, INTERRUPTED = 0, 1, 2, 3, 130
INTERRUPTION = "interrupted; run the same command again to go on"
"""What is said of a run that was stopped from outside."""
FRESH_SECONDS = 15.0
"""The metrics are written at least this often while progress is told."""
STDOUT = Path("-")
"""As a log: the standard output."""


class Events:
    """Tells a log and a metrics file what a run does; a run that nobody watches has neither.

    Use it as a context: an exception that leaves it is told as `failed`, and its exit code lands in the metrics.

    Args:
        log: a file that lines are appended to, or `-` for the standard output.
        metrics: a file that is replaced as a whole, best named `*.prom`.
        bank: the run's bank, which the metrics name.

    Attributes:
        run: 16 hex digits, in every line of this run.
        stages: seconds by stage, in the order they ended.

    Raises:
        InputError: at once, where one of the two could not be written.
    """

    def __init__(self, log: str | Path | None = None, metrics: str | Path | None = None, *, bank: Path) -> None:
        self.run = secrets.token_hex(8)
        self.stages: dict[str, float] = {}
        self._log = _Log(Path(os.path.expanduser(log))) if log is not None else None
        self._metrics = _Metrics(Path(os.path.expanduser(metrics)), bank) if metrics is not None else None
        self._bank = bank
        self._finished = False
        self._began = time.monotonic()

    def __enter__(self) -> Events:
        self.tell("started", bank=str(self._bank), process=os.getpid())
        self._measure({"in_progress": 1, "start_timestamp_seconds": time.time()})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is not None:
                self.failed(error)
            elif not self._finished:  # such as one that only planned: no success that an alarm should trust
                self.tell("ended", exit_code=DONE)
                self._measure(self._ended(DONE))
        finally:
            if self._log:
                self._log.close()

    def tell(self, event: str, **fields: Any) -> None:
        """Appends one line: UTC time, event, run, and the fields as JSON."""
        if self._log:
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            row = {"time": at, "event": event, "run": self.run, **fields}
            self._log.append(json.dumps(row, default=str))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a part of the run; a stage that is entered again adds up."""
        self.tell("stage", stage=name, state="begin")
        began = time.monotonic()
        state = "failed"
        try:
            yield
            state = "end"
        finally:
            seconds = time.monotonic() - began
            self.stages[name] = self.stages.get(name, 0.0) + seconds
            self.tell("stage", stage=name, state=state, seconds=round(seconds, 3))
            self._measure({"stage_duration_seconds": {(("stage", k),): v for k, v in self.stages.items()}})

    def following(self, progress: Progress = silent) -> Progress:
        """A progress that passes on what it is told, and keeps the metrics fresh."""

        def report(done: int, total: int, note: str = "") -> None:
            progress(done, total, note)
            if self._metrics and self._metrics.age >= FRESH_SECONDS:
                self._measure({"done_sources": done, "planned_sources": total})

        return report

    def done(self, report: RebuildReport, manifest: Manifest) -> None:
        """Tells how a run ended that went well, with rejects or without."""
        code = DONE_WITH_REJECTS if report.n_rejected else DONE
        counts = {"listed": report.n_in} | {
            name: getattr(report, f"n_{name}") for name in ("new", "reused", "rejected", "vanished", "forgotten")
        }
        self.tell(
            "done", exit_code=code, published=report.published, generation=report.generation, sources=counts,
            rejects=dict(report.reasons), segments=report.segments, bank_bytes=bank_bytes(manifest),
            seconds=round(report.seconds, 3),
        )  # fmt: skip
        self._measure({
            "sources": {(("outcome", name),): value for name, value in counts.items()},
            "rejected_sources": {(("reason", name),): value for name, value in report.reasons.items()},
            "segments": report.segments, "generation": report.generation, "bank_bytes": bank_bytes(manifest),
            "last_success_timestamp_seconds": time.time(), **self._ended(code),
        })  # fmt: skip

    def failed(self, error: BaseException, code: int | None = None) -> None:
        """Tells why a run ended that did not go well; `code` defaults to `exit_code_of`."""
        if self._finished:
            return
        code = exit_code_of(error) if code is None else code
        said = str(error) or (INTERRUPTION if code >= INTERRUPTED else type(error).__name__)
        event = "refused" if code == REFUSED else "interrupted" if code >= INTERRUPTED else "failed"
        self.tell(event, exit_code=code, error=type(error).__name__, message=said)
        self._measure(self._ended(code))

    def _ended(self, code: int) -> dict[str, Any]:
        self._finished = True
        seconds = time.monotonic() - self._began
        return {
            "in_progress": 0, "exit_code": code, "duration_seconds": seconds, "done_sources": {}, "planned_sources": {},
        }  # fmt: skip

    def _measure(self, values: Mapping[str, Any]) -> None:
        if self._metrics:
            self._metrics.update(values)


_DISK = frozenset({None, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


def exit_code_of(error: BaseException) -> int:
    """The exit code of a run that an error ended: 2 refused, 1 failed, 130 interrupted.

    Refused is what the user asked for and cannot have, and is found before anything is done; the same run fails again.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, (InputError, InstallationError)):
        return REFUSED
    if isinstance(error, OSError):  # a path that cannot be used, unless it is the disk that fails
        return FAILED if error.errno in _DISK else REFUSED
    if isinstance(error, BankError) and not isinstance(error, DamagedBankError):
        return FAILED if isinstance(error, UnfinishedError) else REFUSED
    return FAILED


def bank_bytes(manifest: Manifest) -> int:
    """Bytes of the files that a generation names; nothing is read."""
    found = [entry.files for entry in manifest.shards] + [entry.files for entry in manifest.index]
    return sum(file.size for files in found for file in files.values())


class _Log:
    """Whole lines, each appended by one write.

    SIGKILL can cut a write short where it crosses a page of the file: the last line of a killed run may be half a line,
    which the next run ends, so that no other line suffers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path == STDOUT:
                self._file = os.dup(1)
            else:
                keep_banks(path)
                # not blocking: a named pipe that nobody reads would hold the run up for ever
                flags = os.O_RDWR if path.is_file() else os.O_WRONLY
                flags |= os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
                self._file = os.open(path, flags, 0o644)
                os.set_blocking(self._file, True)
        except OSError as error:
            raise InputError(
                sentence(f"log {path}", f"cannot be written ({error.strerror})", fix="choose another file")
            ) from error
        self._torn = path.is_file() and not _ends_a_line(self._file)
        self._warned = False
        if (
            path.is_file()
            and os.fstat(self._file).st_size
            and not _FIRST.startswith(os.pread(self._file, len(_FIRST), 0))
        ):
            os.close(self._file)
            raise InputError(
                sentence(
                    f"log {path}", expected="no file, or a log of zeuxis", found="another file", fix="choose another"
                )
            )

    def append(self, line: str) -> None:
        """One line; a log that can no longer be written ends no run."""
        data = (("\n" if self._torn else "") + line + "\n").encode()
        try:
            written = os.write(self._file, data)
            self._torn = 0 < written < len(data)
            if written < len(data):
                raise OSError(0, f"only {written} of {len(data)} bytes went in")
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    sentence(f"log {self.path}", f"cannot be written ({error.strerror})", fix="the run goes on"),
                    stacklevel=2,
                )
            self._warned = True

    def close(self) -> None:
        os.close(self._file)


_FIRST = b'{"time": "'
"""How a log begins; what begins otherwise is something else, such as a manifest or a photograph, and stays as it is."""


def _ends_a_line(file: int) -> bool:
    """Whether a log is empty or ends as it should; what a full disk cut short must not garble the next line."""
    length = os.fstat(file).st_size
    return not length or os.pread(file, 1, length - 1) == b"\n"


class Family(NamedTuple):
    """One metric: what it says, and whether the value of the run before stands until this run has one."""

    help: str
    kept: bool = True


FAMILIES = {
    "in_progress": Family("Whether a rebuild is running (1) or not (0)."),
    "heartbeat_timestamp_seconds": Family("When these metrics were last written, in seconds since the epoch."),
    "start_timestamp_seconds": Family("When the last rebuild began, in seconds since the epoch."),
    "last_success_timestamp_seconds": Family("When a rebuild last went well, in seconds since the epoch."),
    "exit_code": Family("Exit code of the last rebuild that ended: 0 done, 1 failed, 2 refused, 3 done with rejects."),
    "duration_seconds": Family("Wall time of the last rebuild that ended."),
    "stage_duration_seconds": Family("Wall time of each stage of the last rebuild that got there.", False),
    "done_sources": Family("Sources looked at or extracted so far, by the stage that is running.", False),
    "planned_sources": Family("Sources that the stage which is running has to look at or extract.", False),
    "sources": Family("Sources by what the last successful rebuild made of them."),
    "rejected_sources": Family("Sources that the last successful rebuild could not use, by reason."),
    "segments": Family("Segments in the current generation of the bank."),
    "generation": Family("Number of the current generation of the bank."),
    "bank_bytes": Family("Bytes on disk of the current generation of the bank."),
}
"""Name without prefix to what is said of it; all are gauges."""
PREFIX = "zeuxis_rebuild_"

Labels = tuple[tuple[str, str], ...]
_SAMPLE = re.compile(rf'{PREFIX}(?P<name>\w+)\{{(?P<labels>(?:\w+="(?:[^"\\]|\\.)*",?)*)\}} (?P<value>\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _Metrics:
    """The gauges of one bank, and the file they stand in."""

    def __init__(self, path: Path, bank: Path) -> None:
        check_output(path)
        self.path = path
        self._bank = str(bank)
        self._values: dict[str, dict[Labels, float]] = _kept(path, self._bank)
        self._written = -FRESH_SECONDS
        self._lock = threading.Lock()
        self._warned = False

    @property
    def age(self) -> float:
        """Seconds since the file was written."""
        return time.monotonic() - self._written

    def update(self, values: Mapping[str, Any]) -> None:
        """Takes a number, or one a label, for each name, and puts the file in place."""
        with self._lock:
            self._written = time.monotonic()
            for name, value in {**values, "heartbeat_timestamp_seconds": time.time()}.items():
                self._values[name] = dict(value) if isinstance(value, Mapping) else {(): value}
            try:
                write_outputs({self.path: render_metrics(self._values, self._bank).encode()})
            except InputError as error:
                if not self._warned:
                    warnings.warn(f"{error}; the run goes on", stacklevel=2)
                self._warned = True


def render_metrics(values: Mapping[str, Mapping[Labels, float]], bank: str) -> str:
    """Gauges in the Prometheus text format, every one with the label `bank`.

    Args:
        values: name without prefix to one number for each set of further labels.
    """
    lines = []
    for name, family in FAMILIES.items():
        if samples := values.get(name):
            lines += [f"# HELP {PREFIX}{name} {family.help}", f"# TYPE {PREFIX}{name} gauge"]
            for labels, value in sorted(samples.items()):
                said = ",".join(f'{key}="{_escaped(text)}"' for key, text in (("bank", bank), *labels))
                lines.append(f"{PREFIX}{name}{{{said}}} {_number(value)}")
    return "".join(line + "\n" for line in lines)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.3f}"


def _escaped(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _kept(path: Path, bank: str) -> dict[str, dict[Labels, float]]:
    """What the run before left in the file, so that a failure does not make the last success forgotten.

    Raises:
        InputError: the file holds something else, which would be lost.
    """
    try:
        text = path.read_text(errors="replace") if path.exists() else ""
    except OSError as error:
        raise InputError(
            sentence(f"metrics {path}", f"cannot be read ({error.strerror})", fix="choose another file")
        ) from error
    if text.strip() and not text.startswith(f"# HELP {PREFIX}"):
        raise InputError(
            sentence(
                f"metrics {path}", expected=f"no file, or one with {PREFIX}* metrics", found="another file",
                fix="choose another file",
            )
        )  # fmt: skip
    found: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        family = FAMILIES.get(match["name"]) if match else None
        if match is None or family is None or not family.kept:
            continue
        own, *labels = _LABEL.findall(match["labels"])
        if own == ("bank", _escaped(bank)):
            with suppress(ValueError):
                value = float(match["value"])
                found.setdefault(match["name"], {})[tuple((key, _plain(text)) for key, text in labels)] = value
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)
