"""`zeuxis train`: the networks of the painter, and the judge, trained on a bank; each goes on where it was."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..storage.errors import InputError, UnfinishedError, sentence
from ..storage.outputs import keep_banks
from ..storage.reader import Reader
from .progress import Progress, silent
from .training.loop import TrainReport
from .training.loop import train as run
from .training.memory import Foreseen, check_memory
from .training.options import NETWORKS, RIVALS, TrainOptions, check, is_emulated, resolved
from .training.own_options import FROM_PHOTOGRAPHS, ONLY, check_only
from .training.task import NothingToLearn, Task

Tell = Callable[[str], object]
"""Takes a line about what begins."""


def train(
    what: str,
    bank: str | Path | None,
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
        what: `features`, `transform`, `ordering`, `densify`, `synthesis`, `judge`; or `all` of these, which passes
            over those that the bank has nothing for; or `crn`, `roi`, `key-patches`, `generator` or `domains`.
        bank: its folder, None where the option `dataset` names photographs (`own_options.FROM_PHOTOGRAPHS`).
        models: the folder of networks, made where there is none.
        restart: forget what was trained before.
        progress: told steps; tell: given a line when a training goes on, its memory is predicted, its precision is
            slow here, or it is passed over; the latter is a warning otherwise.
        options: fields of `TrainOptions`, such as `preset="tiny"` or `steps=1000`; of each network with `all`.

    Raises:
        InputError, BankError: found before anything is written: an option that cannot be, no bank, one that keeps no
            sources or is too small, too little memory, other options than those of the training before.
        UnfinishedError: a loss is no finite number, or the disk refuses. KeyboardInterrupt: interrupted; all is saved.
    """
    return list(trainings(what, bank, models, TrainOptions(**options), restart=restart, progress=progress, tell=tell))


def trainings(
    what: str,
    bank: str | Path | None,
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
    reader = _reader(bank, options)
    if is_emulated(options) and tell is not None:
        tell(f"precision {options.precision}: this processor lacks it, 32-true is several times as fast")
    several = len(names) > 1
    if several and options.coarse is not None:  # before others are trained for hours
        with suppress(NothingToLearn):  # which is told when it is passed over
            _made("densify", reader, folder, options, silent)
    return _trained(names, reader, folder, options, restart, progress, tell, several)


def _trained(
    names: Sequence[str], reader: Reader | None, models: Path, options: TrainOptions, restart: bool, progress: Progress,
    tell: Tell | None, several: bool,
) -> Iterator[TrainReport]:  # fmt: skip
    for name in names:
        try:
            own, task = _made(name, reader, models, options, progress)
        except NothingToLearn as error:
            if not several:
                raise
            (tell or warnings.warn)(f"{name} is passed over: {error}")
            continue
        if isinstance(task, Foreseen):
            said = check_memory(task, own, models)
            if tell is not None:
                tell(said)
        try:
            yield run(task, models, own, restart=restart, progress=progress, tell=tell)
        except (KeyboardInterrupt, UnfinishedError):
            if os.environ.get("LOCAL_RANK", "0") != "0":
                raise SystemExit(0) from None  # of several processes the first one says it
            raise


def _made(
    name: str, reader: Reader | None, models: Path, options: TrainOptions, progress: Progress
) -> tuple[TrainOptions, Task]:  # fmt: skip
    """A network's resolved options and its task; writes nothing."""
    own = resolved(options_of(options, name), name, reader.geometry.frame if reader else (1, 1))
    module = import_module(f".training.{name.replace('-', '_')}", __package__)
    return own, module.make_task(reader, models, own, progress)


def options_of(options: TrainOptions, network: str) -> TrainOptions:
    """The options as one of several networks has them: those that `all` may be given for others are left out."""
    others: dict[str, Any] = {name: None for name, those in ONLY.items() if "all" in those and network not in those}
    return replace(options, **others)


def _networks(what: str, options: TrainOptions) -> list[str]:
    """What is to be trained, in order; features only where the losses are not given others."""
    if what not in (*NETWORKS, "all"):
        expected = ", ".join(NETWORKS) + " or all"
        raise InputError(sentence(f"network {what!r}", expected=expected, found="no such network"))
    check_only(options, what)
    if what != "all":
        return [what]
    own = options.features in (None, "bank")
    return [name for name in NETWORKS if name not in RIVALS and (own or name != "features")]


def _reader(bank: str | Path | None, options: TrainOptions) -> Reader | None:
    """Of the bank; None where a data set stands for it."""
    if options.dataset is not None:
        if bank is not None:
            raise InputError(sentence("--dataset", expected="no --bank beside it", found="both", fix="leave one out"))
        return None
    if bank is None:
        those = ", ".join(FROM_PHOTOGRAPHS)
        raise InputError(sentence("bank", "none was named", fix=f"name one, or photographs for {those} with --dataset"))
    reader = Reader(bank)
    if reader.manifest.settings.get("keep_sources") is False:
        raise InputError(sentence(reader.path, "keeps no sources", fix="rebuild it without --no-keep-sources"))
    return reader


def _models_folder(path: str | Path) -> Path:
    """The folder of networks; it need not be there yet."""
    folder = Path(os.path.expanduser(path)).absolute()
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise InputError(sentence(there, expected="a folder for networks", found="a file", fix="give another --models"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(sentence(there, "cannot be written", fix="give another --models"))
    keep_banks(folder)
    return folder
