"""What the commands take: the arguments that several share, and the options of a query, said once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

DatasetSpec = Annotated[
    str, typer.Argument(metavar="KIND:PATH", help="Such as folder:photos; `zeuxis datasets` lists the kinds.")
]
LayoutPath = Annotated[
    Path | None, typer.Argument(metavar="LAYOUT", help="Index or RGB-palette picture; none with --source.")
]
LayoutPaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="LAYOUT", help="Index or RGB-palette pictures, or folders of them; none with --source."),
]
BankPath = Annotated[Path, typer.Argument(metavar="BANK", help="The bank's folder.")]
BankOption = Annotated[Path | None, typer.Option(help="The bank's folder; default: $ZEUXIS_BANK.", show_default=False)]
NativeIds = Annotated[str | None, typer.Option("--dataset", help="The layout's ids are native to this data set.")]


def _query(
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE|SQL", help="Only segments of which this holds; may be repeated."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Leave out a source or a group.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="The bank's source that the layout belongs to; guards.")
    ] = None,
    guard: Annotated[
        bool | None,
        typer.Option("--guard/--no-guard", help="Leave out val, test and the source's group.", show_default=False),
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Only hits of at least this score.")] = None,
    sample: Annotated[
        tuple[int, int] | None, typer.Option(metavar="TOP SEED", help="Draw the hits from the best TOP.")
    ] = None,
    weights: Annotated[tuple[float, float], typer.Option(metavar="MASK CONTEXT", help="Weights of the two terms.")] = (
        1.0,
        1.0,
    ),
    mode: Annotated[str, typer.Option(metavar="exact|fast|gpu", help="How to search.")] = "exact",
    certify: Annotated[bool, typer.Option("--certify", help="Make sure that fast answers are exact.")] = False,
    coherent: Annotated[
        bool, typer.Option("--coherent", help="Choose hits whose light and colour agree with their neighbours'.")
    ] = False,
    coherence: Annotated[
        float | None, typer.Option(metavar="WEIGHT", help="Weight of that agreement; implies --coherent.")
    ] = None,
) -> dict[str, Any]:
    """The options of a query as `Bank.retrieve` takes them."""
    from .storage.filters import parse_where

    return {
        "where": parse_where(where) if where else None, "exclude": exclude or (), "source": source, "guard": guard,
        "min_score": min_score, "sample": sample, "weights": weights, "mode": mode, "certify": certify,
        "coherent": coherent if coherence is None else coherence,
    }  # fmt: skip


def queries(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `_query`, and hands it what they say as its argument `query`."""
    shared = inspect.signature(_query, eval_str=True).parameters
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "query"]

    def run(**given: Any) -> None:
        command(**{p.name: given.pop(p.name) for p in own}, query=_query(**given))

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *shared.values())]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
