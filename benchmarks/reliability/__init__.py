"""`python -m benchmarks reliability [NAME ...] [--quick]`: what a bank survives, counted. Exit code 1: a goal missed.

The figures of docs/reliability.md, one table a name.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

COMMANDS = {
    "faults": "struck.faults", "calls": "struck.calls", "losses": "struck.losses", "kills": "struck.kills",
    "publishes": "publishes.run", "readers": "readers.run", "images": "images.run", "files": "bankfiles.run",
    "tmpfs": "tmpfs.run",
}  # fmt: skip
"""Name to module and function."""


class Outcome(NamedTuple):
    """What a command found.

    Attributes:
        rows: of its table.
        failures: a sentence for each goal that was not met.
    """

    rows: list[dict[str, Any]]
    failures: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is named, by default all; 1 where a goal is not met."""
    from benchmarks.__main__ import as_table

    parser = argparse.ArgumentParser(prog="python -m benchmarks reliability", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(COMMANDS)}; default all")
    parser.add_argument("--quick", action="store_true", help="a few of each, some seconds")
    given = parser.parse_args(arguments)
    if strange := set(given.names) - set(COMMANDS):
        parser.error(f"unknown {', '.join(sorted(strange))}; choose from {', '.join(COMMANDS)}")
    failed = 0
    for name in given.names or COMMANDS:
        start = time.monotonic()
        module, function = COMMANDS[name].split(".")
        outcome: Outcome = getattr(import_module(f"benchmarks.reliability.{module}"), function)(given.quick)
        print(f"\n## {name} ({time.monotonic() - start:.0f} s)\n\n{as_table(outcome.rows)}", flush=True)
        for said in outcome.failures[:20]:
            print(f"FAILED: {said}", flush=True)
        failed += len(outcome.failures)
    return int(failed > 0)
