"""The command that fills a region of a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import BankOption
from .showing import show
from .storage.errors import InputError, sentence


def inpaint(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture, or a source of the bank.")],
    region: Annotated[str, typer.Option(metavar="MASK.png|TOP,LEFT,BOTTOM,RIGHT|segment:ID", help="What is filled.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; made where there is none.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="roi, telea, patchmatch, bank, ...")] = "roi",
    models: Annotated[Path | None, typer.Option(help="Folder of trained networks.")] = None,
    compiled: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compiled networks, as `zeuxis compile` made them.")
    ] = None,
    bank: BankOption = None,
    variants: Annotated[int, typer.Option(help="Pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal pictures.")] = 0,
    sliders: Annotated[
        str | None,
        typer.Option(
            metavar="0.3,-1,...|random", help="In [-1, 1], the rest 0; default: 0, random of further variants."
        ),
    ] = None,
    erase: Annotated[bool, typer.Option("--erase", help="An object shall vanish: take its edges too.")] = False,
    layout: Annotated[Path | None, typer.Option(help="Of the picture, for the method bank.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The layout's ids are native to this data set.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also show each slider from -1 to 1.")] = False,
) -> None:
    """Fill a region of a picture; nothing outside it changes.

    Writes IMAGE-VARIANT.png and, beside each, the region and how it was filled.
    """
    from .calls import open
    from .pipelines.inpaint import inpaint
    from .pipelines.inpainting.sheets import check_sheet, slider_sheet

    given = _numbers(sliders)
    if sheet:
        check_sheet(out, method, models, image, region)
    retriever = open(bank)._retriever if bank or os.environ.get("ZEUXIS_BANK") else None
    made = inpaint(
        image, region, variants, seed, method=method, models=models, compiled=compiled, retriever=retriever,
        sliders=given, erase=erase, layout=layout, dataset=dataset, out=out,
    )  # fmt: skip
    typer.echo(f"{method}: {made[0].report.how}, {made[0].report.share:.1%} of the picture", err=True)
    for each in made:
        typer.echo(each.files[0])
    if sheet and models is not None:
        found = slider_sheet(
            image, region, models, out, method=method, seed=seed, sliders=given, erase=erase, retriever=retriever
        )
        show(found.render())
        typer.echo(found.path)


def _numbers(text: str | None) -> list[float] | Literal["random"] | None:
    """`0.3,-1` as numbers; `random` as it is.

    Raises:
        InputError: it is not of that form.
    """
    if text is None:
        return None
    if text == "random":
        return "random"
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(
            sentence("--sliders", expected="numbers such as 0.3,-1,0, or random", found=repr(text))
        ) from error


COMMANDS = (inpaint,)
"""In the order in which `zeuxis --help` lists them."""
