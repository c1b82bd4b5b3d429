"""The command that makes pictures like a region of another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import BankOption
from .progress import progress_bar
from .storage.errors import InputError, sentence


def like(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture, or a source of the bank.")],
    region: Annotated[
        str, typer.Option(metavar="MASK.png|TOP,LEFT,BOTTOM,RIGHT|segment:ID", help="Whose meaning is kept.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; made where there is none.")],
    models: Annotated[Path | None, typer.Option(help="Folder of trained networks: generator, features, judge.")] = None,
    generator: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Generator, .safetensors or .pt2, or its name in --models.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--and", metavar="IMAGE@REGION", help="Another reference; may be repeated."),
    ] = None,
    count: Annotated[int, typer.Option(help="Pictures.")] = 36,
    depth: Annotated[
        str, typer.Option(metavar="auto|LAYER|FIRST..LAST", help="Layers that say what the region means.")
    ] = "auto",
    noise: Annotated[
        float | None, typer.Option(help="Beside gradients of about 1: more is more diverse; default 3.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of the search, at most; default 60.")] = None,
    apart: Annotated[
        float | None,
        typer.Option(help="Weight of being far from other pictures, below 1; 0 is the paper's loss; default 0.8."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal pictures.")] = 0,
    features: Annotated[str | None, typer.Option(metavar="bank|vgg19|FILE", help="Network that compares.")] = None,
    bank: BankOption = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compile the steps first.")] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Tie batch normalisation of an exported program to its moments.")
    ] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also show depths beside levels of noise.")] = False,
    look_up: Annotated[bool, typer.Option("--look-up", help="Also retrieve what each one shows.")] = False,
) -> None:
    """Make pictures that mean the same as a region of another one.

    Writes IMAGE-00.png and on, the best first, all of them in one picture, their mean, and a report.
    """
    from .bank import Bank
    from .generators import Generator
    from .pipelines.like import checked, checked_apart
    from .synth.region_semantics.solver import Descent

    if models is None and generator is None:
        raise InputError(sentence("--models", "none was named", fix="give a folder of networks, or --generator"))
    checked(count, seed, noise, steps, Descent())
    checked_apart(apart)
    others = [_pair(each) for each in also or []]
    named = generator is not None and models is not None and not Path(generator).exists()
    path = models if named or generator is None else Path(generator)
    where = bank or os.environ.get("ZEUXIS_BANK")
    assert path is not None
    opened = Generator(
        path, generator if named else None, models=models, features=features, bank=Bank(where) if where else None,
        freeze=freeze,
    )  # fmt: skip
    with progress_bar("steps") as progress:
        found = opened.like(
            image, region, count, seed, others=others, look_up=look_up, depth=depth, noise=noise, steps=steps,
            apart=apart, compiled=compiled, with_sheet=sheet, out=out, progress=progress,
        )  # fmt: skip
    report = found.report
    first, last = report.layers[0], report.layers[-1]
    typer.echo(
        f"{first if first == last else f'{first} to {last}'} of {report.features}, {report.tried} latents, "
        f"{report.seconds:.1f} s, losses {found.losses[0]:.4f} to {found.losses[-1]:.4f}",
        err=True,
    )
    for path in found.files:
        typer.echo(path)


def _pair(text: str) -> tuple[str, str]:
    """`IMAGE@REGION` as both.

    Raises:
        InputError: it is not of that form.
    """
    image, mark, region = text.rpartition("@")
    if not (mark and image and region):
        expected = "IMAGE@REGION, such as photo.png@10,10,40,60"
        raise InputError(sentence("--and", expected=expected, found=repr(text)))
    return image, region


COMMANDS = (like,)
"""In the order in which `zeuxis --help` lists them."""
