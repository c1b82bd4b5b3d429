"""The command that paints: layouts in, photographs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .layout_files import pictures
from .options import BankOption, LayoutPaths, NativeIds, queries
from .progress import first_use, progress_bar
from .storage.errors import InputError, ZeuxisError, sentence

if TYPE_CHECKING:
    from .pipelines.painted import Painted


@queries
def paint(
    models: Annotated[Path, typer.Option(help="Folder of trained networks.")],
    out: Annotated[Path, typer.Option(help="Folder for the images; made where there is none.")],
    layout: LayoutPaths = None,
    bank: BankOption = None,
    variants: Annotated[int, typer.Option(help="Images a layout.")] = 1,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal images.")] = 0,
    k: Annotated[int, typer.Option("-k", help="Hits a component that variants are drawn from.")] = 5,
    dataset: NativeIds = None,
    densify: Annotated[bool, typer.Option("--densify", help="The layouts are coarse: make them dense first.")] = False,
    map_classes: Annotated[
        Path | None, typer.Option(metavar="MAP.yaml", help="Model class: class of the bank; for other classes.")
    ] = None,
    transform: Annotated[
        str, typer.Option(metavar="network|analytic|identity", help="How segments are fitted.")
    ] = "network",
    order: Annotated[str, typer.Option(metavar="network|classes", help="How segments are ordered.")] = "network",
    elision: Annotated[bool, typer.Option(help="Elide boundaries, as in training.")] = True,
    synthesis: Annotated[bool, typer.Option(help="Make photographs of the canvases.")] = True,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="The network that paints; crn sees the layout alone.")
    ] = "synthesis",
    inpaint: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fill the canvas by this method of `zeuxis inpaint` first.")
    ] = None,
    compiled: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compiled networks, as `zeuxis compile` made them.")
    ] = None,
    *,
    query: dict[str, Any],
) -> None:
    """Paint photographs for layouts, with trained networks.

    Writes LAYOUT-VARIANT.png and, beside each, the canvas, its validity and the source of every pixel.
    """
    from .calls import open
    from .pipelines.painted_files import check_places, save, stem_of
    from .pipelines.painting_steps import Stages

    if not synthesis and network != "synthesis":
        raise InputError(sentence("--network", "excludes --no-synthesis", fix="leave one of them out"))
    stages = Stages(
        transform, order, elision=elision, synthesis=synthesis and network, inpaint=inpaint,  # type: ignore[arg-type]
    )  # fmt: skip
    layouts: Sequence[Path | None] = pictures(layout or []) or [None]
    stems = [stem_of(path, query["source"]) for path in layouts]
    check_places(out, stems, variants, layouts)
    painter = open(bank, models)._painter(None, compiled)
    first_use()
    results = painter.paint_many(
        layouts, variants, seed, k, dataset=dataset, densify=densify, map_classes=map_classes, stages=stages,
        errors="skip" if len(layouts) > 1 else "raise", **query,
    )  # fmt: skip
    said: set[str] = set()
    bad = 0
    with progress_bar("layouts") as progress:
        progress(0, len(layouts))
        for done, (path, stem, result) in enumerate(zip(layouts, stems, results, strict=True), start=1):
            if isinstance(result, ZeuxisError):
                bad += 1
                named = str(result) if str(result).startswith(f"{path}:") else f"{path}: {result}"
                typer.echo(f"zeuxis: {named}", err=True)
            else:
                _warn(result, said)
                for image in result:
                    typer.echo(save(image, out, stem).files[0])
            progress(done, len(layouts))
    if bad:
        typer.echo(f"{bad:,} of {len(layouts):,} layouts could not be used", err=True)
        raise typer.Exit(3)


def _warn(images: Sequence[Painted], said: set[str]) -> None:
    for warning in dict.fromkeys(warning for image in images for warning in image.report.warnings):
        if warning not in said:
            typer.echo(f"warning: {warning}", err=True)
            said.add(warning)


COMMANDS = (paint,)
"""In the order in which `zeuxis --help` lists them."""
