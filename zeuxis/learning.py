"""The command that trains networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import BankOption
from .progress import progress_bar
from .showing import size_of
from .storage.errors import InputError, sentence

if TYPE_CHECKING:
    from .pipelines.training.loop import TrainReport

_What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="features, transform, ordering, densify, synthesis, judge; all; crn; roi; key-patches; generator; "
        "domains.",
    ),
]


def train(
    what: _What,
    models: Annotated[Path, typer.Option(help="The folder of networks; made where there is none.")],
    bank: BankOption = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="tiny, small, paper-256, paper-512 or paper-1024: width and resolution.")
    ] = "small",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.", show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a step and device.", show_default=False)] = None,
    size: Annotated[
        str | None, typer.Option(metavar="ROWSxCOLS", help="Of the pictures.", show_default="by the preset")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, data and dropout.")] = 0,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default=False)] = None,
    precision: Annotated[
        str, typer.Option(metavar="32-true|bf16-mixed|16-mixed", help="Of the arithmetic.")
    ] = "32-true",
    devices: Annotated[str, typer.Option(metavar="N|cpu:N|cuda:N", help="How many, of the best kind or this one.")] = (
        "1"
    ),
    accumulate: Annotated[int, typer.Option(help="Batches that make a step.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches; 0: none but this one.")] = 0,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Decay of the weights' running mean; lower: short trainings.  [default: 0.999, key-patches 0.995]"
        ),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps between validations, grids and curves.", show_default=False)
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="PATH|vgg19|bank", help="Feature network of the perceptual loss.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="To compare with; of synthesis: no-canvas or image-space; of crn: image-space, encoder-decoder, "
            "full-resolution, gan or pix2pix; of roi: published or glcic; of key-patches: no-mask, plain-gan, "
            "auto-encoder or conditional-gan.",
        ),
    ] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="Weight of a discriminator in the loss of synthesis.", show_default=False)
    ] = None,
    canvas: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of synthesis: how canvases are simulated, what counts; repeatable."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(metavar="K", help="Pictures crn makes of a layout at once.", show_default=False)
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory for more time, with crn; the same numbers.")
    ] = False,
    vivid: Annotated[
        bool, typer.Option("--vivid", help="Of crn: learn photographs with stronger details and colours.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Of synthesis, crn: a coarser network to begin with.")
    ] = None,
    calibrate_after: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Before crn's loss finds its weights.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="KIND:PATH", help="Photographs for roi, key-patches, generator."),
    ] = None,
    sliders: Annotated[int | None, typer.Option(metavar="K", help="Of roi.", show_default="10")] = None,
    categories: Annotated[
        int | None, typer.Option(metavar="N", help="Sliders of roi with 10 choices each.", show_default="none")
    ] = None,
    regions: Annotated[
        str | None, typer.Option(metavar="rectangle|ellipse|level-set|mixed", help="What roi learns to fill.")
    ] = None,
    penalty: Annotated[
        str | None, typer.Option(metavar="inside|outside|r1", help="Gradient penalty of roi's discriminator.")
    ] = None,
    fourier: Annotated[bool, typer.Option("--fourier", help="A Fourier block in roi.")] = False,
    spectral: Annotated[bool, typer.Option("--spectral-norm", help="Of every layer of roi.")] = False,
    equalised: Annotated[bool, typer.Option("--equalised", help="An equalised learning rate of roi's layers.")] = False,
    blend: Annotated[
        float | None,
        typer.Option(metavar="SIDES", help="How far roi corrects its border inwards.", show_default="0.125"),
    ] = None,
    augment: Annotated[
        bool,
        typer.Option("--augment", help="Few photographs: change them to judge; roi, key-patches, generator."),
    ] = False,
    objects: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Key-patches or generator make its objects alone.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(metavar="N|FEWEST-MOST", help="Patches of a picture.", show_default="3")
    ] = None,
    patches: Annotated[str | None, typer.Option(metavar="mixed|key|random", help="Of key-patches.")] = None,
    norm: Annotated[str | None, typer.Option(metavar="group|batch", help="Of key-patches.")] = None,
    objective: Annotated[str | None, typer.Option(metavar="hinge|log", help="Of key-patches' discriminator.")] = None,
    ratio: Annotated[
        str | None, typer.Option(metavar="D:G", help="Steps of key-patches' two sides.", show_default="1:1")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of generator: began, wgan-gp, ladder-vae, pixel-vae or vae-gan.",
            show_default="wgan-gp",
        ),
    ] = None,
    critic_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Of wgan-gp, for one of the generator.", show_default=False)
    ] = None,
    second: Annotated[
        str | None, typer.Option("--second", metavar="BANK", help="The second domain of domains.")
    ] = None,
    coarse: Annotated[
        str | None,
        typer.Option("--coarse", metavar="BANK", help="Of densify: coarse layouts drawn of the same sources."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what was trained before.")] = False,
) -> None:
    """Train networks on a bank.

    The same command goes on after an interruption.
    """
    from .pipelines.train import trainings
    from .pipelines.training.options import TrainOptions

    options = TrainOptions(
        preset=preset, steps=steps, batch=batch, seed=seed, lr=lr, precision=precision, devices=devices,
        accumulate=accumulate, workers=workers, ema=ema, validate_every=validate_every, features=features,
        variant=variant, adversarial=adversarial, canvas=tuple(canvas) if canvas else None, images=images,
        checkpointing=checkpointing, vivid=vivid,
        start=start, calibrate_after=calibrate_after, dataset=dataset, sliders=sliders, categories=categories,
        regions=regions, penalty=penalty, fourier=fourier, spectral=spectral, equalised=equalised, blend=blend,
        augment=augment, objects=objects, parts=_whole("--parts", parts, "-"), patches=patches, norm=norm,
        objective=objective, ratio=_both("--ratio", ratio), kind=kind, critic_steps=critic_steps, second=second,
        coarse=coarse, size=size_of(size, "--size") if size else None,
    )  # fmt: skip
    named = bank or (None if dataset else os.environ.get("ZEUXIS_BANK"))
    if not named and not dataset:
        raise InputError(sentence("bank", "none was named", fix="give --bank or set ZEUXIS_BANK"))
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # further devices run the same command beside this one
    with progress_bar("steps") as progress:
        for report in trainings(
            what,
            named,
            models,
            options,
            restart=restart,
            progress=progress if first else _silent,
            tell=_tell if first else None,
        ):
            if first:
                typer.echo(_said(report))


def _whole(name: str, text: str | None, between: str) -> int | tuple[int, int] | None:
    """`3`, or with something between two numbers both."""
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    first, _, second = text.partition(between)
    if not (first.isdecimal() and second.isdecimal()):
        raise InputError(sentence(name, expected=f"numbers such as 3 or 1{between}5", found=repr(text)))
    return int(first), int(second)


def _both(name: str, text: str | None) -> tuple[int, int] | None:
    """`1:2` as numbers."""
    found = _whole(name, text, ":")
    return (found, 1) if isinstance(found, int) else found


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _silent(done: int, total: int, note: str = "") -> None:
    """Says nothing."""


def _said(report: TrainReport) -> str:
    best = f"best {report.figure} {report.best:.4g}"
    if report.first >= report.step:
        return f"{report.name}: done before, {report.step:,} steps, {best}: {report.checkpoint}"
    steps = f"steps {report.first + 1:,} to {report.step:,}" if report.first else f"{report.step:,} steps"
    return f"{report.name}: {steps} in {report.seconds:,.1f} s, {best}: {report.checkpoint}"


COMMANDS = (train,)
"""In the order in which `zeuxis --help` lists them."""
