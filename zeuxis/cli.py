"""The command line: parses, calls the Python function of the same name, shows what it returns.

Exit codes: 0 done, or nothing to do; 1 failed, or damage found by `verify`; 2 refused, nothing written; 3 done, some
sources were rejected; 130 interrupted, by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import metadata
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import assembling, compiling, inpainting, judging, learning, liking, painting, synthesizing, upkeep
from .layout_files import pictures
from .options import BankOption, DatasetSpec, LayoutPath, LayoutPaths, NativeIds, queries
from .progress import progress_bar
from .showing import show, size_of
from .storage.errors import InputError, ZeuxisError, sentence
from .storage.installation import check_installation
from .storage.outputs import keep_inputs

if TYPE_CHECKING:
    from .bank import Bank
    from .tables import HitWriter

app = typer.Typer(
    name="zeuxis",
    help="A bank of image segments: retrieve by semantic layout, paint photographs from what was retrieved.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def check(dataset: DatasetSpec) -> None:
    """Tell what a data set holds, and what of it cannot be used."""
    from .pipelines.check import check

    with progress_bar("sources") as progress:
        report = check(dataset, progress=progress)
    show(report.render())
    if report.problems:
        raise typer.Exit(3)


command: Callable[..., None]
for command in upkeep.COMMANDS:
    app.command()(command)


@app.command()
@queries
def retrieve(
    layout: LayoutPaths = None,
    bank: BankOption = None,
    k: Annotated[int, typer.Option("-k", help="Hits a component.")] = 5,
    figure: Annotated[Path | None, typer.Option(help="Save a picture of the result.")] = None,
    dataset: NativeIds = None,
    out: Annotated[Path | None, typer.Option("--out", "--csv", help="Save one row a hit, as .parquet or .csv.")] = None,
    *,
    query: dict[str, Any],
) -> None:
    """Find the segments that fit each component of a layout best.

    Several layouts are searched on all cores, and their hits go into one table.
    """
    from .calls import open, retrieve
    from .tables import HitWriter

    layouts = pictures(layout or [])
    keep_inputs(layouts, [out, figure])
    writer = HitWriter(out) if out else None
    if len(layouts) > 1 or (layout and os.path.isdir(layout[0])):
        if figure:
            raise InputError(sentence("--figure", expected="one layout", found=str(len(layouts)), fix="leave it out"))
        return _retrieve_many(open(bank), layouts, k, dataset, query, writer)
    result = retrieve(layouts[0] if layouts else None, k, bank=bank, figure=figure, dataset=dataset, **query)
    if writer:
        with writer:
            writer.add(layouts[0] if layouts else query["source"], result.to_arrow())
    show(result.render())


def _retrieve_many(
    bank: Bank, layouts: Sequence[Path], k: int, dataset: str | None, query: dict[str, Any], writer: HitWriter | None
) -> None:
    """One row a hit into a table, else one line a layout; layouts that cannot be used are named and passed over."""
    results = bank.retrieve_many(layouts, k, dataset=dataset, errors="skip", progress=writer is not None, **query)
    warned: set[str] = set()
    bad = hits = 0
    with writer or nullcontext():
        for path, result in zip(layouts, results, strict=True):
            if isinstance(result, ZeuxisError):
                bad += 1
                typer.echo(f"zeuxis: {result}", err=True)
                continue
            for warning in result.warnings:
                if warning not in warned:
                    _show_warning(f"{path}: {warning}")
            warned.update(result.warnings)
            found = sum(len(component.hits) for component in result)
            hits += found
            if writer:
                writer.add(path, result.to_arrow())
            else:
                typer.echo(f"{path}: {len(result)} components, {found} hits")
    typer.echo(f"{len(layouts) - bad:,} layouts, {hits:,} hits" + (f"; {bad:,} could not be used" if bad else ""))
    if bad:
        raise typer.Exit(3)


@app.command()
@queries
def explain(
    layout: LayoutPath = None,
    component: Annotated[int, typer.Option(help="Which component, from 0.")] = 0,
    rank: Annotated[int, typer.Option(help="Which of its hits, from 0.")] = 0,
    k: Annotated[int, typer.Option("-k", help="Hits a component, as `retrieve` was asked.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Save a picture of the overlap.")] = None,
    bank: BankOption = None,
    dataset: NativeIds = None,
    *,
    query: dict[str, Any],
) -> None:
    """Tell why a segment fits as it does, and draw it."""
    from .calls import explain

    show(explain(layout, component, rank, k=k, bank=bank, out=out, dataset=dataset, **query).render())


@app.command()
def similar(
    segment: Annotated[str, typer.Argument(metavar="SEGMENT_ID", help="As `retrieve` and tables print it.")],
    bank: BankOption = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 5,
    figure: Annotated[Path | None, typer.Option(help="Save a picture of it and of those found.")] = None,
    any_class: Annotated[bool, typer.Option("--any-class", help="Of whatever class.")] = False,
    own_source: Annotated[bool, typer.Option("--own-source", help="Also from its own photograph.")] = False,
) -> None:
    """Find the segments that look most like one of the bank."""
    from .calls import similar
    from .index.appearance import as_table

    found = similar(segment, k, bank=bank, figure=figure, same_class=not any_class, exclude_source=not own_source)
    show(as_table(found))


@app.command()
@queries
def collage(
    out: Annotated[Path, typer.Option(help="The picture; provenance and validity are saved beside it.")],
    layout: LayoutPath = None,
    bank: BankOption = None,
    dataset: NativeIds = None,
    *,
    query: dict[str, Any],
) -> None:
    """Paint a layout from the segments that fit it best."""
    from .calls import collage

    for path in collage(layout, out=out, bank=bank, dataset=dataset, **query).files:
        typer.echo(path)


for part in (learning, compiling, painting, inpainting, assembling, liking, synthesizing, judging):
    for command in part.COMMANDS:
        app.command()(command)


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder, or one with scenes.")],
    count: Annotated[int, typer.Option(help="How many scenes.")] = 60,
    seed: Annotated[int, typer.Option(help="Equal seeds, equal scenes.")] = 7,
    size: Annotated[str, typer.Option(metavar="ROWSxCOLS", help="Of a scene, in pixels.")] = "384x512",
) -> None:
    """Make a data set of procedural street scenes."""
    from .pipelines.scenes import scenes

    with progress_bar("scenes") as progress:
        path = scenes(out, count=count, seed=seed, size=size_of(size, "--size"), progress=progress)
    typer.echo(f"scenes:{path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all of it.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Equal seeds, equal scenes.")] = 7,
) -> None:
    """Make scenes, a bank, retrievals, collages and a report."""
    from .pipelines.demo import demo

    with progress_bar("steps") as progress:
        report = demo(out, seed=seed, progress=progress)
    typer.echo(report)


GO_ON = ("rebuild", "forget", "train", "compile", "synthesize", "evaluate")
"""Commands that keep what they have done and take it up again."""


def _what_then(command: list[str]) -> str:
    """What a command that was interrupted does when it is given again."""
    if not command or command[0] not in GO_ON:
        return ", which starts over"
    return " without --restart to go on" if "--restart" in command else " to go on"


def main() -> None:
    """Entry point: every error the user can cause is one sentence and an exit code."""
    warnings.showwarning = _show_warning
    # what an interrupt leaves of a call that waits for a worker concerns nobody
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if isinstance(sys.stdout, TextIOWrapper):  # names of files may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_installation()
        if sys.argv[1:] == ["--version"]:
            typer.echo(f"zeuxis {metadata.version('zeuxis')}")
            return
        from .pipelines.cluster import terminable

        with terminable():
            _run(sys.argv[1:] or ["--help"])
        sys.stdout.flush()  # a closed pipe is met here, not when the interpreter ends
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except ZeuxisError as error:
        sys.exit(_refuse(str(error), _code_of(error)))
    except (KeyboardInterrupt, typer.Abort):
        typer.echo(f"interrupted; run the same command again{_what_then(sys.argv[1:])}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains as it ends
        sys.exit(141)
    except MemoryError as error:
        said = sentence("memory", f"there is not enough ({error})", fix="give smaller pictures or numbers")
        sys.exit(_refuse(said, 1))
    except OSError as error:  # a full disk, a folder that may not be read
        said = sentence(error.filename or "output", f"cannot be used ({error.strerror or error})")
        sys.exit(_refuse(said, _code_of(error)))
    except Exception as error:
        if "torch" in sys.modules and _is_of_a_device(error):  # which need not be loaded for this
            said = f"has not enough memory ({str(error).partition('. ')[0]})"
            sys.exit(_refuse(sentence("GPU", said, fix="end what else runs on it, or give smaller numbers"), 1))
        if not hasattr(error, "format_message"):  # not one of the parser's own
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "zeuxis")
        sys.exit(_refuse(f"{error.format_message().rstrip('.')}; see `{command} --help`"))


def _is_of_a_device(error: Exception) -> bool:
    from .pipelines.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def _run(arguments: list[str]) -> None:
    """Runs a command and lets everything it raises pass, where calling `app` returns exit codes and hides Ctrl-C."""
    _check_filled(arguments)
    command = typer.main.get_command(app)
    with command.make_context("zeuxis", arguments) as context:
        command.invoke(context)


def _check_filled(arguments: Sequence[str]) -> None:
    """Refuses empty words: as a path they would mean the folder that one is in.

    Raises:
        InputError: there is one; most often of a shell's variable that is not set.
    """
    for before, word in pairwise(["", *arguments]):
        if not word or (word.startswith("--") and word.endswith("=")):
            where = word.rstrip("=") or (before if before.startswith("-") else "an argument")
            raise InputError(sentence(where, expected="a value", found="nothing", fix="see whether a variable is set"))


def _code_of(error: Exception) -> int:
    from .pipelines.events import exit_code_of

    return exit_code_of(error)


def _refuse(said: str, code: int = 2) -> int:
    typer.echo(f"zeuxis: {said}", err=True)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {message}", err=True)
