"""The command that makes whole pictures from a few patches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import BankOption


def assemble(
    out: Annotated[Path, typer.Option(help="Folder for the pictures; made where there is none.")],
    patch: Annotated[list[str] | None, typer.Argument(metavar="PATCH...", help="Pictures of parts.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of trained networks.")] = None,
    network: Annotated[str, typer.Option(metavar="NAME", help="Of the file there.")] = "key-patches",
    compiled: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compiled networks, as `zeuxis compile` made them.")
    ] = None,
    bank: BankOption = None,
    from_bank: Annotated[
        list[str] | None,
        typer.Option(metavar="class:NAME", help="Key patches of an object; repeated: parts of several in one picture."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Key patches of a photograph of the bank; repeatable.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|val|test", help="Whose objects; default test, else val, else train.")
    ] = None,
    patches: Annotated[
        int | None,
        typer.Option(help="Patches in all; default each PATCH, and of the bank as many as the network knows."),
    ] = None,
    alike: Annotated[
        bool, typer.Option("--alike", help="Each PATCH is of one photograph: they stay as large beside one another.")
    ] = False,
    noise: Annotated[float, typer.Option(metavar="LEVEL", help="Degrade the patches, levels of 0..255.")] = 0.0,
    variants: Annotated[int, typer.Option(help="Pictures.")] = 4,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal pictures.")] = 0,
) -> None:
    """Make whole pictures from a few key patches.

    Writes NAME-VARIANT.png and, beside each, the mask and a report with boxes; and a sheet of all.
    """
    from .calls import open
    from .pipelines.assemble import assemble
    from .pipelines.assembling.files import sheet_path

    reader = open(bank)._reader if bank or ((from_bank or source) and os.environ.get("ZEUXIS_BANK")) else None
    made = assemble(
        patch or [], variants, seed, models=models, network=network, reader=reader, from_bank=from_bank or (),
        sources=source or (), split=split, count=patches, noise=noise, alike=alike,
        compiled=compiled, out=out,
    )  # fmt: skip
    for warning in made[0].report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for each in made[0].report.patches:
        top, left, bottom, right = each.box
        typer.echo(f"{each.name}: at {top},{left},{bottom},{right} of {made[0].files[0].name}", err=True)
    for one in made:
        typer.echo(one.files[0])
    typer.echo(sheet_path(out, made[0].files[0].stem.rpartition("-")[0]))


COMMANDS = (assemble,)
"""In the order in which `zeuxis --help` lists them."""
