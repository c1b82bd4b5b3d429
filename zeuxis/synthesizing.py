"""The command that makes labelled images in bulk, for training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import BankOption
from .progress import first_use, progress_bar
from .showing import show
from .storage.errors import InputError, sentence


def synthesize(
    models: Annotated[Path, typer.Option(help="Folder of trained networks.")],
    out: Annotated[Path, typer.Option(help="Folder for the images; made where there is none.")],
    bank: BankOption = None,
    layouts: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of layouts; default: the bank's.")] = None,
    from_bank: Annotated[
        str | None, typer.Option(metavar="train|val|test", help="Layouts of the bank's sources; default train.")
    ] = None,
    generated: Annotated[
        int | None, typer.Option(metavar="N", help="So many layouts of nobody's, made from the bank's.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The layouts' ids are native to this data set; labels are saved so too.")
    ] = None,
    variants: Annotated[int, typer.Option(help="Images a layout.")] = 1,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal images.")] = 0,
    k: Annotated[int, typer.Option("-k", help="Hits a component that variants are drawn from.")] = 5,
    recompose: Annotated[bool, typer.Option("--recompose", help="Make a new layout for each image.")] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="As --recompose --apart nothing --no-elision: what helped training most.")
    ] = False,
    assemble: Annotated[
        bool, typer.Option("--assemble", help="New objects of its class are made by the network key-patches.")
    ] = False,
    boost: Annotated[list[str] | None, typer.Option(metavar="CLASS=FACTOR", help="More of it; repeatable.")] = None,
    erase: Annotated[
        list[str] | None, typer.Option(metavar="CLASS", help="None of it in any image or label; repeatable.")
    ] = None,
    keep_real: Annotated[float, typer.Option(metavar="FRACTION", help="Of real photographs in the output.")] = 0.0,
    limit: Annotated[int | None, typer.Option(help="Images, at most.")] = None,
    format: Annotated[str, typer.Option(metavar="folder|webdataset|parquet", help="Of the output.")] = "folder",
    coco: Annotated[bool, typer.Option("--coco", help="Also write COCO annotations.")] = False,
    shard: Annotated[int, typer.Option(help="Images a shard, which are published together.")] = 128,
    apart: Annotated[
        str | None,
        typer.Option(
            metavar="group|source|nothing", help="What of its layout an image has no segments of.", show_default="group"
        ),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE|SQL", help="Only segments of which this holds.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Leave out a source or a group.")] = None,
    mode: Annotated[str, typer.Option(metavar="exact|fast|gpu", help="How to search.")] = "exact",
    map_classes: Annotated[
        Path | None, typer.Option(metavar="MAP.yaml", help="Model class: class of the bank; for other classes.")
    ] = None,
    transform: Annotated[
        str, typer.Option(metavar="network|analytic|identity", help="How segments are fitted.")
    ] = "network",
    order: Annotated[str, typer.Option(metavar="network|classes", help="How segments are ordered.")] = "network",
    elision: Annotated[
        bool | None, typer.Option(help="Elide boundaries, as in training.", show_default="elision")
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="The network that paints; crn sees the layout alone.")
    ] = "synthesis",
    densify: Annotated[bool, typer.Option("--densify", help="--layouts are coarse: make them dense first.")] = False,
    agreement: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Leave out what the judge reads less alike than this.")
    ] = None,
    compiled: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compiled networks, as `zeuxis compile` made them.")
    ] = None,
    retry: Annotated[str | None, typer.Option(metavar="failed", help="Try again what was rejected.")] = None,
    device: Annotated[str | None, typer.Option(help="For the networks; default CUDA if there is one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads a stage; default one a core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of a Dask cluster, tcp://HOST:PORT.")
    ] = None,
) -> None:
    """Make labelled images for training, in bulk.

    The same command goes on where it was stopped. Nothing of val or test is ever in an image.
    """
    from .pipelines.synthesis.options import AUGMENTING, SynthesisOptions
    from .pipelines.synthesis.rates import rate_table
    from .pipelines.synthesis.synthesize import synthesize
    from .storage.filters import parse_where

    named = bank or os.environ.get("ZEUXIS_BANK")
    if not named:
        raise InputError(sentence("bank", "none was named", fix="give --bank or set ZEUXIS_BANK"))
    for name, value in {"--apart": apart, "--elision": elision, "--generated": generated}.items() if augment else ():
        if value is not None:
            raise InputError(sentence("--augment", f"excludes {name}", fix="leave one of them out"))
    options = SynthesisOptions(
        variants=variants, seed=seed, k=k, dataset=dataset, from_bank=from_bank, generated=generated,
        recompose=recompose, assemble=assemble, boost=boosts(boost or []), erase=tuple(erase or ()),
        keep_real=keep_real, limit=limit, format=format,  # type: ignore[arg-type]
        coco=coco, shard=shard, apart=apart or "group",  # type: ignore[arg-type]
        where=parse_where(where) if where else None, exclude=tuple(exclude or ()),
        mode=mode, map_classes=map_classes, transform=transform, order=order,  # type: ignore[arg-type]
        elision=elision is not False, network=network, densify=densify, agreement=agreement, compiled=compiled,
    )  # fmt: skip
    options = replace(options, **(AUGMENTING if augment else {}))
    first_use()
    with progress_bar("images") as progress:
        report = synthesize(
            named, models, out, layouts, options, retry=retry, device=device, workers=workers, scheduler=scheduler,
            progress=progress, tell=lambda said: typer.echo(f"warning: {said}", err=True),
        )  # fmt: skip
    if report.rates:
        show(rate_table(report.rates, report.seconds, report.cores, report.device))
    made = f"{report.made:,} made now" if report.rates else "all made before"
    typer.echo(f"{out}: {report.images:,} images, {made}; see {out / 'report.html'}")
    if report.left_out:
        found = f"the judge read less than {agreement:.0%} of them as painted: {out / 'left_out.csv'}"
        typer.echo(f"{report.left_out:,} images were left out, {found}")
    if report.rejected:
        for said in report.rejects:
            typer.echo(f"zeuxis: {said}", err=True)
        typer.echo(f"{report.rejected:,} images could not be made: {out / 'rejects.csv'}", err=True)
        raise typer.Exit(3)


def boosts(words: list[str]) -> dict[str, float]:
    """`CLASS=FACTOR`, class to factor.

    Raises:
        InputError: another form.
    """
    found = {}
    for word in words:
        name, _, factor = word.rpartition("=")
        try:
            found[name] = float(factor)
        except ValueError:
            name = ""
        if not name:
            raise InputError(sentence("--boost", expected="CLASS=FACTOR, such as pedestrian=3", found=repr(word)))
    return found


COMMANDS = (synthesize,)
"""In the order in which `zeuxis --help` lists them."""
