"""`zeuxis evaluate key-patches`: pictures made of patches of held-out photographs, measured, in tables and a page.

Every system sees the same patches. Figures compare features of the judge, which no loss looked at, where the folder of
networks has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...storage.errors import InputError, sentence
from ...storage.reader import Reader
from ...synth.canvas import encoded
from ..assembling.network import SYSTEMS
from ..progress import Progress, silent
from ..training.photographs import BankOrigin
from ..written import EVALUATION, check_files, write_evaluation
from .key_patches_bench import FEWEST, Bench
from .key_patches_experiments import EXPERIMENTS, chosen_experiments
from .key_patches_report import build_report, table_of
from .key_patches_results import Experiment, KeyPatchEvaluation
from .making import Making

PICTURES = 200
"""Held-out pictures, at most."""


def evaluate_key_patches(
    bank: str | Path,
    models: str | Path,
    out: str | Path,
    *,
    experiments: Sequence[str] = (),
    split: str | None = None,
    pictures: int = PICTURES,
    seed: int = 0,
    systems: Sequence[str] = (),
    progress: Progress = silent,
) -> KeyPatchEvaluation:
    """Measures the networks of key patches in a folder, and writes tables, figures and a page to look at.

    Args:
        bank: it must hold held-out sources, of split `test` or `val`; models: folder of networks.
        out: folder for `report.html`, `evaluation.json`, `table.md`, and a picture an experiment.
        experiments: some of `EXPERIMENTS`, or `all`; default `goals`.
        split: whose pictures; default `test`, else `val`. pictures: how many, at most.
        seed: of the choice of pictures and of noise; systems: names of those to measure, default all.
        progress: told of every experiment.

    Raises:
        InputError: no held-out pictures, no network, neither judge nor features, no such experiment or system, or `out`
            cannot be written; before anything is. Of several experiments those that cannot be made are left out.
    """
    reader, folder = Reader(bank), Path(models).expanduser()
    names = chosen_experiments(experiments)
    out = _checked(out, names, systems, pictures, seed)
    chosen = _split(reader, split)
    making = Making(out, reader, [folder], {"split": chosen, "pictures": pictures, "seed": seed})
    bench = Bench(reader, folder, chosen, pictures, seed, making, systems)
    _check_classes(bench)
    found: list[Experiment] = []
    for done, name in enumerate(names):
        progress(done, len(names), name)
        try:
            found.append(EXPERIMENTS[name](bench))
        except InputError as error:  # for want of networks or pictures
            if done + 1 == len(names) and not found:
                raise
            bench.left_out.append(f"{name}: left out, {error}")
    progress(len(names), len(names), "")
    result = KeyPatchEvaluation(found, _about(bench), bench.left_out)
    drawn = {f"{each.name}.png": encoded(each.picture, "PNG") for each in found}
    files = write_evaluation(out, result.to_json(), table_of(result), build_report(result), drawn)
    making.done()
    return replace(result, files=files)


def _checked(out: str | Path, names: Sequence[str], systems: Sequence[str], pictures: int, seed: int) -> Path:
    if strange := sorted(set(systems) - set(SYSTEMS)):
        expected = f"some of {', '.join(SYSTEMS)}"
        raise InputError(sentence("systems", expected=expected, found=", ".join(map(repr, strange))))
    if seed < 0:
        raise InputError(sentence("seed", expected="a whole number of at least 0", found=str(seed)))
    if pictures < FEWEST:
        raise InputError(sentence("pictures", expected=f"at least {FEWEST}", found=str(pictures)))
    return check_files(out, [*EVALUATION, *(f"{each}.png" for each in names)])


def _split(reader: Reader, split: str | None) -> str:
    origin = BankOrigin(reader)
    chosen = split or ("test" if origin.names("test") else "val")
    if chosen not in ("test", "val") or not origin.names(chosen):
        expected = "held-out sources (split test or val)"
        raise InputError(sentence(reader.path, expected=expected, found=f"none in {chosen}"))
    return chosen


def _check_classes(bench: Bench) -> None:
    """Refuses networks of a class that the bank lacks."""
    objects = bench.first.objects
    if objects is not None and bench.reader.classes.named(objects) is None:
        said, fix = f"makes objects of class {objects}", "evaluate on the bank that it was trained on"
        raise InputError(sentence(bench.first.name, said, expected="a class of the bank", found="none", fix=fix))


def _about(bench: Bench) -> dict[str, Any]:
    first, held = bench.first, bench.held()
    networks = {
        name: {"step": each.card.step, "size": list(each.card.size), "seed": each.card.training.get("seed"),
               "bank": each.card.bank}
        for name, each in bench.assemblers.items()
    }  # fmt: skip
    return {
        "bank": bench.reader.path.name, "generation": bench.reader.manifest.generation, "split": bench.split,
        "objects": first.objects, "pictures": len(held.pictures), "size": [first.resolution] * 2, "parts": first.parts,
        "seed": bench.seed, "measured with": bench.measure.name, "independent": bench.measure.independent,
        "networks": networks,
    }  # fmt: skip
