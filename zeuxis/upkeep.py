"""The commands that keep a bank: rebuild it, look after its generations, verify, repair, forget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import BankPath
from .progress import progress_bar
from .showing import parse_bytes, show, size_of
from .storage.errors import InputError, sentence

if TYPE_CHECKING:
    from .pipelines.accounts import RebuildReport

_Workers = Annotated[
    int | None, typer.Option(help="Processes of the local cluster; default one a core; 0 works without Dask.")
]
_Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler that is running.")]
_Memory = Annotated[str | None, typer.Option(metavar="BYTES", help="Memory of a worker, such as 4GiB.")]
_Collect = Annotated[bool, typer.Option("--collect", help="Workers send shards back: they share no folder with us.")]
_Log = Annotated[Path | None, typer.Option(help="Append one JSON line an event; - for the standard output.")]
_Metrics = Annotated[Path | None, typer.Option(help="Replace this file with Prometheus metrics.")]


def rebuild(
    dataset: Annotated[list[str], typer.Option(metavar="KIND:PATH", help="A data set; may be repeated.")],
    bank: Annotated[Path, typer.Option(help="The bank's folder; made where there is none.")],
    frame: Annotated[str | None, typer.Option(metavar="ROWSxCOLS", help="Working resolution.")] = None,
    min_area: Annotated[int | None, typer.Option(help="Smaller components, in frame pixels, are not stored.")] = None,
    join_thin: Annotated[bool | None, typer.Option(help="Poles and signs do not cut what is behind them.")] = None,
    patches: Annotated[bool | None, typer.Option(help="Find key patches.")] = None,
    edge_model: Annotated[Path | None, typer.Option(help="Structured-edge model for the key patches.")] = None,
    depth_rule: Annotated[
        str | None, typer.Option(metavar="none|ground", help="Orders segments without depth.")
    ] = None,
    depth_model: Annotated[
        Path | None, typer.Option(help="Depth network (.pt2, .onnx) for photographs without depth.")
    ] = None,
    keep_sources: Annotated[bool | None, typer.Option(help="Keep the sources' files in the bank.")] = None,
    classes: Annotated[Path | None, typer.Option(metavar="MAP.yaml", help="Renames classes.")] = None,
    split: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this split; may be repeated.")] = None,
    shard_size: Annotated[int, typer.Option(help="Sources a shard, at most.")] = 128,
    scheduler: _Scheduler = None,
    workers: _Workers = None,
    memory: _Memory = None,
    collect: _Collect = False,
    max_pixels: Annotated[int | None, typer.Option(help="Larger pictures are refused before decoding.")] = None,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read all files instead of trusting their times.")] = False,
    retry: Annotated[
        list[str] | None,
        typer.Option(metavar="failed|REASON", help="Only try rejects again: all, or those of a reason."),
    ] = None,
    allow_shrink: Annotated[bool, typer.Option("--allow-shrink", help="Accept that many sources vanished.")] = False,
    keep: Annotated[int, typer.Option(help="Generations that stay, the new one included.")] = 7,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it would take, from a sample.")] = False,
    report: Annotated[bool, typer.Option(help="Leave an HTML report in the bank.")] = True,
    log: _Log = None,
    metrics: _Metrics = None,
) -> None:
    """Bring a bank up to date with its data sets, or make it."""
    from .pipelines.rebuild import rebuild

    if depth_rule not in (None, "none", "ground"):
        raise InputError(sentence("--depth-rule", expected="none or ground", found=depth_rule))
    with progress_bar("sources") as progress:
        done = rebuild(
            dataset, bank, frame=size_of(frame, "--frame") if frame else None, min_area=min_area, join_thin=join_thin,
            patches=patches, edge_model=edge_model, depth_rule=depth_rule, depth_model=depth_model,
            keep_sources=keep_sources, classes=classes, split=split or (), shard_size=shard_size, scheduler=scheduler,
            workers=workers, memory=parse_bytes(memory, "--memory") if memory else None, collect=collect,
            max_pixels=max_pixels, rehash=rehash, retry=retry or (), allow_shrink=allow_shrink, keep=keep, plan=plan,
            report=report, log=log, metrics=metrics, progress=progress,
        )  # fmt: skip
    if plan:
        _show_forecast(done, log)
        return
    _show_rebuild(done, _sayer(log))
    if done.n_rejected:
        raise typer.Exit(3)


def datasets() -> None:
    """List the kinds of data sets and what each expects."""
    from rich.table import Table

    from .ingest.datasets import describe

    table = Table("kind", "expects", "options", box=None, pad_edge=False)
    for kind, expects, options in describe():
        table.add_row(kind, expects, options)
    show(table)


def orderings(
    bank: BankPath,
    agreement: Annotated[bool, typer.Option("--agreement", help="Compare two ways of ordering.")] = False,
    between: Annotated[
        str, typer.Option(metavar="A,B", help="Two of depth, disparity, network and ground.")
    ] = "depth,ground",
    depth_model: Annotated[Path | None, typer.Option(help="Depth network, for network.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the class pairs into this picture.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the class pairs as CSV.")] = None,
) -> None:
    """Count orderings by origin, or compare two origins."""
    from .index.figure import check_figure, save_figure
    from .ingest.depth import DepthModel
    from .pipelines.agreement import agreement as compare
    from .pipelines.agreement import origins
    from .storage.outputs import check_output, write_outputs

    if not agreement:
        if figure or table or depth_model:
            raise InputError(sentence("--figure, --table and --depth-model", expected="--agreement", found="none"))
        return show(origins(bank))
    a, comma, b = between.partition(",")
    if not comma:
        raise InputError(sentence("--between", expected="two ways, such as depth,ground", found=repr(between)))
    if figure:
        check_figure(figure)
    if table:
        check_output(table, (".csv",))
    with progress_bar("sources") as progress:
        report = compare(bank, a, b, model=DepthModel(depth_model) if depth_model else None, progress=progress)
    show(report.render())
    if figure:
        save_figure(report.draw(), figure)
    if table:
        write_outputs({table: report.to_frame().to_csv(index=False).encode()})


def info(bank: BankPath) -> None:
    """Tell what a bank holds."""
    from .pipelines.info import info

    show(info(bank).render())


def generations(bank: BankPath) -> None:
    """List the generations of a bank."""
    from .pipelines.generations import generations

    show(generations(bank).render())


def rollback(
    bank: BankPath,
    to: Annotated[int | None, typer.Option("--to", metavar="N", help="Generation; default the one before.")] = None,
) -> None:
    """Publish an older generation again, as a new one."""
    from .pipelines.generations import rollback

    done = rollback(bank, to)
    typer.echo(f"{done.bank}: generation {done.generation} published, equal to {done.target}")


def collect(bank: BankPath, keep: Annotated[int, typer.Option(help="Newest generations that stay.")] = 7) -> None:
    """Remove old generations that nobody reads."""
    from .pipelines.generations import collect

    done = collect(bank, keep)
    said = f"{len(done.removed)} generations removed, {done.freed / 1e6:,.1f} MB freed"
    held = f"; in use and kept: {', '.join(map(str, done.held))}" if done.held else ""
    typer.echo(f"{bank}: {said}{held}")


def verify(
    bank: BankPath,
    deep: Annotated[bool, typer.Option("--deep", help="Check every value inside the files as well.")] = False,
) -> None:
    """Check every file of a bank against its published hash."""
    from .pipelines.info import verify

    with progress_bar("files") as progress:
        report = verify(bank, deep=deep, progress=progress)
    for line in report.damage:
        typer.echo(line, err=True)
    state = f"{len(report.damage)} damaged" if report.damage else "all as published"
    typer.echo(f"{report.bank}: generation {report.generation}, {report.files} files, {state}")
    if report.damage:
        raise typer.Exit(1)


def repair(
    bank: BankPath,
    scheduler: _Scheduler = None,
    workers: _Workers = None,
    memory: _Memory = None,
    log: _Log = None,
    metrics: _Metrics = None,
) -> None:
    """Make what is damaged again, from its sources."""
    from .pipelines.repair import repair

    with progress_bar("sources") as progress:
        done = repair(
            bank, scheduler=scheduler, workers=workers, log=log, metrics=metrics, progress=progress,
            memory=parse_bytes(memory, "--memory") if memory else None,
        )  # fmt: skip
    say = _sayer(log)
    for line in done.damage:
        say(f"  {line}")
    if not done.damage:
        say(f"{done.bank}: generation {done.generation} is not damaged, nothing to do")
        return
    say(f"{done.bank}: generation {done.generation} published in {done.seconds:.1f} s")
    say(
        f"{done.shards} shards and {done.parts} index parts were damaged; {done.n_restored:,} sources extracted again, "
        f"{done.n_rejected:,} rejected, {len(done.lost):,} gone"
    )
    for name in done.lost:
        say(f"  {name} is no longer in its data set")
    if done.lost or done.n_rejected:
        raise typer.Exit(3)


def forget(
    source: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Names as in bank.sources(); @FILE lists them.")
    ],
    bank: Annotated[Path, typer.Option(help="The bank's folder.")],
) -> None:
    """Remove sources for good, and prove it."""
    from .pipelines.forget import forget

    with progress_bar("files") as progress:
        done = forget(source, bank, progress=progress)
    rows = ", ".join(f"{count:,} {table}" for table, count in done.rows.items() if count)
    state = (
        f"generation {done.generation} published" if done.published else "nothing was left in the current generation"
    )
    typer.echo(f"{done.bank}: {len(done.sources):,} sources forgotten, {state}")
    typer.echo(f"removed: {rows or 'no rows'}; {done.blobs:,} stored values; {done.bytes / 1e6:,.1f} MB")
    if done.generations:
        typer.echo(f"older generations removed: {', '.join(map(str, done.generations))}")
    left = "nothing is left" if done.proved else "not all of it is proved to be gone"
    typer.echo(f"searched {done.files:,} files, {done.searched / 1e6:,.1f} MB: {left}")
    for line in (*done.found, *done.left):
        typer.echo(f"  {line}", err=True)
    if done.pinned:
        held = ", ".join(map(str, done.pinned))
        typer.echo(f"generation {held} is being read; run this again when it is closed", err=True)
    if not done.proved:
        raise typer.Exit(1)


def _show_forecast(report: RebuildReport, log: Path | None) -> None:
    said = f"{report.n_new:,} to read, {report.n_reused:,} unchanged, {report.n_rejected:,} rejected"
    _sayer(log)(f"{report.bank}: {report.n_in:,} sources: {said}; {report.n_vanished:,} vanished")
    if report.forecast:
        show(report.forecast.render(), err=str(log) == "-")
        report.forecast.check()


def _sayer(log: Path | None) -> Callable[[str], None]:
    """What says how a run went: on the error stream, where the log has the other one to itself."""
    return partial(typer.echo, err=str(log) == "-")


def _show_rebuild(report: RebuildReport, say: Callable[[str], None]) -> None:
    done = f"generation {report.generation} published" if report.published else "nothing changed, nothing published"
    say(f"{report.bank}: {done} in {report.seconds:.1f} s")
    say(
        f"{report.n_in:,} sources = {report.n_new:,} new + {report.n_reused:,} unchanged"
        + f" + {report.n_rejected:,} rejected"
        + (f" + {report.n_forgotten:,} forgotten" if report.n_forgotten else "")
        + (f"; {report.n_vanished:,} vanished" if report.n_vanished else "")
        + f"; {report.segments:,} segments in the bank"
    )
    if report.ignored:
        say(f"{report.ignored:,} files belong to no source; `zeuxis check` names them")
    if report.reasons:
        say("rejects: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(report.reasons.items())))
    for line in report.rejects:
        say(f"  {line}")
    if len(report.rejects) < sum(report.reasons.values()):
        say("  … all of them: zeuxis.open(BANK).rejects()")
    if report.report:
        say(f"report: {report.report}")


COMMANDS = (rebuild, datasets, info, generations, rollback, collect, verify, repair, forget, orderings)
"""In the order in which `zeuxis --help` lists them."""
