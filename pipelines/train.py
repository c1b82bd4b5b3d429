"""`zeuxis train`: the networks of the painter, and the judge, trained on a bank; each goes on where it was."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..storage.errors import InputError, UnfinishedError, sentence
from ..storage.reader import Reader
from .progress import Progress, silent
from .training.loop import TrainReport
from .training.loop import train as run
from .training.options import NETWORKS, TrainOptions, check, resolved
from .training.task import NothingToLearn, Task

Tell = Callable[[str], object]
"""Takes a line about what begins."""


def train(
    what: str,
    bank: str | Path,
    models: str | Path,
    *,
    restart: bool = False,
    progress: Progress = silent,
    tell: Tell | None = None,
    **options: Any,
) -> list[TrainReport]:
    """Trains a network on a bank, or all in order, into `models/NAME.safetensors`; what is done is left as it is.

    A run with the same options goes on where the one before was interrupted, and a run with more steps goes further.

    Args:
        what: `features`, `transform`, `ordering`, `densify`, `synthesis`, `judge`; or `all`, which passes over those
            that the bank has nothing for.
        bank: its folder; models: the folder of networks, made where there is none.
        restart: forget what was trained before.
        progress: told steps; tell: given a line when a training goes on, or is passed over; the latter is
            a warning otherwise.
        options: fields of `TrainOptions`, such as `preset="tiny"` or `steps=1000`; of each network with `all`.

    Raises:
        InputError, BankError: found before anything is written: an option that cannot be, no bank, one that keeps no
            sources or is too small, other options than those of the training before. UnfinishedError: a loss is no
            finite number, or the disk refuses. KeyboardInterrupt: interrupted; all is saved.
    """
    return list(trainings(what, bank, models, TrainOptions(**options), restart=restart, progress=progress, tell=tell))


def trainings(
    what: str,
    bank: str | Path,
    models: str | Path,
    options: TrainOptions,
    *,
    restart: bool = False,
    progress: Progress = silent,
    tell: Tell | None = None,
) -> Iterator[TrainReport]:
    """As `train`, a report as soon as each network is done; arguments are checked at once."""
    names = _networks(what, options)
    check(options)
    folder = _models_folder(models)
    reader = Reader(bank)
    if reader.manifest.settings.get("keep_sources") is False:
        raise InputError(sentence(reader.path, "keeps no sources", fix="rebuild it without --no-keep-sources"))
    several = len(names) > 1
    return _trained(names, reader, folder, options, restart, progress, tell, several)


def _trained(
    names: Sequence[str], reader: Reader, models: Path, options: TrainOptions, restart: bool, progress: Progress,
    tell: Tell | None, several: bool,
) -> Iterator[TrainReport]:  # fmt: skip
    for name in names:
        own = resolved(options_of(options, name), name, reader.geometry.frame)
        try:
            task: Task = import_module(f".training.{name}", __package__).make_task(reader, models, own, progress)
        except NothingToLearn as error:
            if not several:
                raise
            (tell or warnings.warn)(f"{name} is passed over: {error}")
            continue
        try:
            yield run(task, models, own, restart=restart, progress=progress, tell=tell)
        except (KeyboardInterrupt, UnfinishedError):
            if os.environ.get("LOCAL_RANK", "0") != "0":
                raise SystemExit(0) from None  # of several processes the first one says it
            raise


def options_of(options: TrainOptions, network: str) -> TrainOptions:
    """The options as one of several networks has them: those of the synthesis network alone are left out of others."""
    return options if network == "synthesis" else replace(options, features=None, variant=None, adversarial=None)


def _networks(what: str, options: TrainOptions) -> list[str]:
    """What is to be trained, in order; features only where the losses are not given others."""
    if what not in (*NETWORKS, "all"):
        expected = ", ".join(NETWORKS) + " or all"
        raise InputError(sentence(f"network {what!r}", expected=expected, found="no such network"))
    if options.variant is not None and what != "synthesis":
        raise InputError(sentence("--variant", expected="with synthesis", found=f"with {what}"))
    if options.features is not None and what not in ("synthesis", "all"):
        raise InputError(sentence("--features", expected="with synthesis or all", found=f"with {what}"))
    if options.adversarial is not None and what not in ("synthesis", "all"):
        raise InputError(sentence("--adversarial", expected="with synthesis or all", found=f"with {what}"))
    if what != "all":
        return [what]
    return [name for name in NETWORKS if name != "features" or options.features in (None, "bank")]


def _models_folder(path: str | Path) -> Path:
    """The folder of networks; it need not be there yet."""
    folder = Path(os.path.expanduser(path)).absolute()
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise InputError(sentence(there, expected="a folder for networks", found="a file", fix="give another --models"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(sentence(there, "cannot be written", fix="give another --models"))
    return folder
