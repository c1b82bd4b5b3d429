"""What commands print: tables as wide as they need be, sizes as they are typed."""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

import typer

from .storage.errors import InputError, sentence


def show(renderable: Any, *, err: bool = False) -> None:
    """Prints a rich renderable, to the error stream if asked; in a file or a pipe nothing is cut or folded."""
    from rich.console import Console

    terminal, text = (sys.stderr if err else sys.stdout).isatty(), StringIO()
    wide = None if terminal else 10_000
    Console(file=text, force_terminal=terminal, width=wide, soft_wrap=not terminal, markup=False, emoji=False).print(
        renderable
    )
    typer.echo(text.getvalue(), nl=False, err=err)


def size_of(text: str, option: str) -> tuple[int, int]:
    """`ROWSxCOLS` as two numbers.

    Raises:
        InputError: it is not of that form.
    """
    rows, _, cols = text.lower().partition("x")
    if not all(side.isascii() and side.isdecimal() and len(side) < 10 for side in (rows, cols)):
        raise InputError(sentence(option, expected="ROWSxCOLS, such as 384x512", found=repr(text)))
    return int(rows), int(cols)


def parse_bytes(text: str, option: str) -> int:
    """`4GiB`, `500MB`, `1e9` as bytes.

    Raises:
        InputError: it is not of that form.
    """
    from dask.utils import parse_bytes as parsed

    try:
        return int(parsed(text))
    except ValueError as error:
        raise InputError(sentence(option, expected="bytes, such as 4GiB", found=repr(text))) from error
