"""The command line, called as the installed script does."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import pytest

from zeuxis import cli


class Ran(NamedTuple):
    """What a call left: exit code, lines of standard output, lines of errors."""

    code: int
    lines: list[str]
    errors: list[str]

    @property
    def out(self) -> str:
        """Standard output as it was."""
        return "".join(f"{line}\n" for line in self.lines)


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Calls `main`; whatever it does not map to an exit code fails the test."""
    monkeypatch.setattr(sys, "argv", ["zeuxis", *map(str, arguments)])
    capsys.readouterr()
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return Ran(code, out.splitlines(), err.splitlines())
