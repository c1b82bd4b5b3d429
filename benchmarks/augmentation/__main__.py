"""`python -m benchmarks.augmentation FOLDER --data DATA`: the experiment, kept in a folder; see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.__main__ import DATA, as_table

from . import complete, experiment_in
from .figures import plot, search_rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds camvid/")
    given = parser.parse_args()
    if not (given.data / "camvid").is_dir():
        parser.error(f"{given.data}: expected a folder that holds camvid/")
    given.folder.mkdir(parents=True, exist_ok=True)
    spec = f"camvid:{given.data / 'camvid'}"
    rows = complete(given.folder, spec, False, lambda said: print(said, flush=True))
    experiment = experiment_in(given.folder, spec, False)
    plot(experiment, given.folder / "augmentation.png")
    print(f"\n{as_table(search_rows(experiment))}\n\n{as_table(rows)}\n\n{given.folder / 'augmentation.png'}")


if __name__ == "__main__":
    main()
