"""The command that evaluates what is synthesised, filled in, made of patches, or made like a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .options import BankOption
from .progress import first_use, progress_bar
from .showing import show
from .storage.errors import InputError, sentence

WHAT = ("synthesis", "inpaint", "key-patches", "region-semantics")
LAYOUTS, PHOTOGRAPHS = 200, 72
"""That are measured at most: layouts, or photographs that are filled; and photographs of which a region is kept."""


def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="synthesis|inpaint|key-patches|region-semantics", help="What is evaluated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the table and the pictures.")],
    bank: BankOption = None,
    models: Annotated[
        list[Path] | None, typer.Option(help="Folder of networks; several that differ in their seed may be named.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="test|val", help="Whose layouts; default test, else val.")
    ] = None,
    layouts: Annotated[
        int | None, typer.Option(help="How many of them, or photographs, at most; default 200, of regions 72.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    system: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated.")] = None,
    study: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="NAME NAME", help="Also write a page of blinded pairs."),
    ] = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of key-patches: goals, key, random, ..., or all; may be repeated."),
    ] = None,
    answers: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Only read the answers to the study in --out.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(metavar="KIND|FILE", help="Of region-semantics: whose latents are sought; default the folder's."),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Of synthesis: weights of the Inception network, for KID and FID by it too."),
    ] = None,
) -> None:
    """Measure what networks make of held-out photographs.

    They stand beside real ones, rivals, and the same with each stage switched off.
    """
    if what not in WHAT:
        raise InputError(sentence("evaluate", expected=f"{', '.join(WHAT[:-1])} or {WHAT[-1]}", found=what))
    if experiment and what != "key-patches":
        raise InputError(sentence("--experiment", expected="with key-patches", found=f"with {what}"))
    if generator and what != "region-semantics":
        raise InputError(sentence("--generator", expected="with region-semantics", found=f"with {what}"))
    if inception and what != "synthesis":
        raise InputError(sentence("--inception", expected="with synthesis", found=f"with {what}"))
    most = layouts if layouts is not None else PHOTOGRAPHS if what == WHAT[-1] else LAYOUTS
    if what != "synthesis":
        if study or answers:
            raise InputError(sentence(f"evaluate {what}", "has no study", fix="leave --study and --answers out"))
        if len(models or ()) != 1:
            number = str(len(models or ()))
            raise InputError(sentence("--models", expected="one folder of trained networks", found=number))
        folder = (models or [])[0]
        if what == "key-patches":
            _key_patches(out, bank, folder, split, most, seed, system or (), experiment or ())
        elif what == "inpaint":
            _inpaint(out, bank, folder, split, most, seed, system or ())
        else:
            _region_semantics(out, bank, folder, split, most, seed, system or (), generator)
        return
    if answers:
        _show_answers(out, answers)
        return
    _synthesis(out, bank, models or [], split, most, seed, system or (), study, inception)


def _synthesis(
    out: Path,
    bank: Path | None,
    models: Sequence[Path],
    split: str | None,
    most: int,
    seed: int,
    system: Sequence[str],
    study: tuple[str, str] | None,
    inception: Path | None,
) -> None:
    from .calls import open
    from .pipelines.evaluation.evaluate import evaluate
    from .pipelines.evaluation.report import rendered
    from .pipelines.evaluation.study import check_pair, write_study

    if not models:
        raise InputError(sentence("--models", "none was named", fix="give a folder of trained networks"))
    if study:
        check_pair(*study)
    first_use()
    with progress_bar("pictures") as progress:
        found = evaluate(
            open(bank).path, models, out, split=split, layouts=most, seed=seed, systems=system,
            needed=study or (), inception=inception, progress=progress,
        )  # fmt: skip
    show(rendered(found))
    for said in found.left_out:
        typer.echo(said, err=True)
    for path in found.files:
        typer.echo(path)
    if study:
        pairs = [(name, found.system(name).pictures) for name in study]
        for path in write_study(out, pairs[0], pairs[1], found.system("real").pictures, found.names, seed):
            typer.echo(path)


def _inpaint(
    out: Path, bank: Path | None, models: Path, split: str | None, most: int, seed: int, system: Sequence[str]
) -> None:
    from .calls import open
    from .pipelines.evaluation.inpaint import evaluate_inpaint
    from .pipelines.evaluation.inpaint_report import networks, rendered

    with progress_bar("pictures") as progress:
        found = evaluate_inpaint(
            open(bank).path, models, out, split=split, photographs=most, seed=seed, systems=system, progress=progress
        )
    show(rendered(found))
    for said in networks(found):
        typer.echo(said)
    for said in found.left_out:
        typer.echo(said, err=True)
    for path in found.files:
        typer.echo(path)


def _key_patches(
    out: Path,
    bank: Path | None,
    models: Path,
    split: str | None,
    most: int,
    seed: int,
    system: Sequence[str],
    experiments: Sequence[str],
) -> None:
    from .calls import open
    from .pipelines.evaluation.key_patches import evaluate_key_patches
    from .pipelines.evaluation.key_patches_report import rendered

    with progress_bar("experiments") as progress:
        found = evaluate_key_patches(
            open(bank).path, models, out, experiments=experiments, split=split, pictures=most, seed=seed,
            systems=system, progress=progress,
        )  # fmt: skip
    for each in found.experiments:
        show(rendered(each))
    for said in found.left_out:
        typer.echo(said, err=True)
    for path in found.files:
        typer.echo(path)


def _region_semantics(
    out: Path,
    bank: Path | None,
    models: Path,
    split: str | None,
    most: int,
    seed: int,
    system: Sequence[str],
    generator: str | None,
) -> None:
    from .calls import open
    from .pipelines.evaluation.region_report import notes, rendered
    from .pipelines.evaluation.region_semantics import evaluate_region_semantics

    with progress_bar("regions") as progress:
        found = evaluate_region_semantics(
            open(bank).path, models, out, split=split, photographs=most, seed=seed, systems=system,
            generator=generator, progress=progress,
        )  # fmt: skip
    show(rendered(found))
    for said in notes(found)[1:]:
        typer.echo(said, err=said in found.left_out)
    for path in found.files:
        typer.echo(path)


def _show_answers(out: Path, answers: list[Path]) -> None:
    from .pipelines.evaluation.study import read_answers

    told = read_answers(out / "study.key.json", answers)
    typer.echo(
        f"{told.first} preferred to {told.second} in {told.preferred:,} of {told.answered:,} pairs "
        f"({told.preferred / told.answered:.1%}; 95 % interval {told.low:.1%} to {told.high:.1%}), {told.people} people"
        + (f", {told.left_out} left out for missed sentinels" if told.left_out else "")
    )


COMMANDS = (evaluate,)
"""In the order in which `zeuxis --help` lists them."""
