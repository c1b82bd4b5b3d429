"""The command that compiles networks ahead of time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import BankOption
from .progress import progress_bar
from .showing import show, size_of


def compile(
    models: Annotated[Path, typer.Argument(metavar="MODELS", help="The folder of trained networks.")],
    shape: Annotated[
        str | None, typer.Option(metavar="ROWSxCOLS", help="Of the pictures; default: each network's own size.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Pictures at once; may be repeated; default as painting does.")
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="auto|tensorrt|inductor|eager|onnx", help="auto: the best that is here.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|float32|float16|bfloat16", help="auto: half on a GPU, else float32.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the packages; default MODELS/compiled.", show_default=False)
    ] = None,
    bank: BankOption = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Default: a GPU where there is one.")] = None,
) -> None:
    """Compile networks ahead of time, and compare.

    Painting takes them with --compiled. With a bank, real inputs are compared as well. The same command goes on.
    """
    from .pipelines.compile import compile

    with progress_bar("packages") as progress:
        found = compile(
            models, None if shape is None else size_of(shape, "--shape"), batch or (), backend=backend,  # type: ignore[arg-type]
            precision=precision, out=out, bank=bank or os.environ.get("ZEUXIS_BANK"), device=device,  # type: ignore[arg-type]
            progress=progress,
        )  # fmt: skip
    show(found.render())
    for said in found.left_out:
        typer.echo(said, err=True)
    typer.echo(found.folder)


COMMANDS = (compile,)
"""In the order in which `zeuxis --help` lists them."""
