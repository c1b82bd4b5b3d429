"""`python -m benchmarks [NAME ...] [--data FOLDER] [--quick]`: every figure of docs/benchmarks.md, one table a name.

`python -m benchmarks reliability [NAME ...]` prints those of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

NAMES = (
    *("extraction", "rebuild", "nightly", "retrieval", "equality", "scale", "candidates", "device"),
    *("reads", "collages", "canvases", "coherence", "codecs", "key_patches", "driver", "learned", "painting"),
    *("compiled", "recomposition", "synthesize", "augmentation", "key_patch_training", "region_semantics"),
)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["reliability"]:
        sys.exit(import_module("benchmarks.reliability").main(words[1:]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; default all")
    parser.add_argument("--data", type=Path, help="the folder that holds nyu/ and camvid/")
    parser.add_argument("--quick", action="store_true", help="small generated data, a few seconds")
    given = parser.parse_args(arguments)
    if strange := set(given.names) - set(NAMES):
        parser.error(f"unknown benchmark {', '.join(sorted(strange))}; choose from {', '.join(NAMES)}")
    data = given.data or (DATA if DATA.is_dir() else None)
    if data and not (data / "nyu").is_dir():
        parser.error(f"{data}: expected a folder that holds nyu/ and camvid/")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    for name in given.names or NAMES:
        rows = import_module(f"benchmarks.{name}").run(given.quick, data)
        print(f"\n## {name}\n\n{as_table(rows)}", flush=True)


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
