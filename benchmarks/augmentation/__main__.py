"""`python -m benchmarks.augmentation FOLDER --data DATA`: the experiment, kept in a folder; see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.__main__ import DATA, as_table

from . import SETS, complete, experiment_in
from .experiment import RECIPES
from .figures import plot, search_rows
from .jobs import Results
from .sets import FULL


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds camvid/")
    parser.add_argument("--photographs", action="append", choices=SETS, help="one of the sets, instead of all; again")
    parser.add_argument("--recipe", choices=RECIPES, help="train with this one instead of searching for the best")
    parser.add_argument("--seeds", type=int, default=FULL.seeds, help="of the tested network (default %(default)s)")
    given = parser.parse_args()
    if not (given.data / "camvid").is_dir():
        parser.error(f"{given.data}: expected a folder that holds camvid/")
    given.folder.mkdir(parents=True, exist_ok=True)
    spec = f"camvid:{given.data / 'camvid'}"
    results = Results(given.folder / "results")
    if "recipe" in results:
        best, searched = results["recipe"]["best"], results["recipe"]["found"]
        if best != given.recipe and (given.recipe or not searched):
            parser.error(f"{given.folder}: expected another folder, found one of --recipe {best!r}")
    sets = given.photographs or tuple(SETS)
    experiment = experiment_in(given.folder, spec, False, sets, given.recipe, given.seeds)
    rows = complete(experiment, lambda said: print(said, flush=True))
    plot(experiment, given.folder / "augmentation.png")
    tables = [as_table(each) for each in (search_rows(experiment), rows) if each]
    print("", *tables, given.folder / "augmentation.png", sep="\n\n")


if __name__ == "__main__":
    main()
