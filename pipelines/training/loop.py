"""The training loop of every network: steps, running mean of the weights, validation, logs, and going on where it was.

An interrupted training that is taken up again takes the same steps as one that was not interrupted: items are numbered
by the step, and what else decides a step is in the resume state. On a CPU the losses are equal to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...synth.checkpoint import is_whole
from ..progress import Progress, silent
from .batches import Place, batches
from .devices import Devices, gpus
from .interrupts import interrupts_noted
from .keeping import Keeper, Learner
from .logs import TOTAL
from .options import TrainOptions
from .resume import Marks, fingerprint
from .standing import Paths, settings_of, standing
from .task import Batch, Losses, Task

SAVE_SECONDS = 300.0
"""The resume state is saved at each validation, and at least this often."""


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes:
        name: of the network's files; checkpoint: the network, as it was where `best` was found; logs: a folder.
        step: optimiser steps in all; first: those that were done before this run.
        seconds: of the steps of this run.
        figure: which figure of validation decides; best: the best of it.
    """

    name: str
    checkpoint: Path
    logs: Path
    step: int
    first: int
    seconds: float
    figure: str
    best: float


def train(
    task: Task,
    models: Path,
    options: TrainOptions,
    *,
    restart: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], object] | None = None,
) -> TrainReport:
    """Trains a network, or goes on with it: `models/NAME.safetensors`, a resume state and logs in folders beside it.

    Args:
        task: what is trained; models: the folder of networks; options: resolved.
        restart: forget what was trained before.
        progress: told steps; tell: given a line where it goes on.

    Raises:
        InputError: it was trained under other settings before; nothing was written. BankBusyError: another process
            trains it. UnfinishedError: a loss is no finite number, or the disk refuses; the state before is intact.
        KeyboardInterrupt: interrupted; all is saved.
    """
    paths, steps = Paths(models, task.name), options.steps or 0
    with torch.random.fork_rng(gpus(options)):  # the caller's random numbers stay as they are
        torch.manual_seed(options.seed)
        modules = task.modules()
        marks = Marks(settings_of(task, options) | {"frozen weights": fingerprint(modules)})
        if not restart and (before := standing(paths, marks.settings, steps)) is not None:
            marks = before
            if marks.step >= steps and marks.best is not None and is_whole(paths.checkpoint):
                return _report(task, paths, marks, marks.step, marks.seconds)
            if marks.step and tell is not None:
                tell(f"{task.name}: goes on from step {marks.step:,}")
        devices = Devices(options)
        try:
            keeper = Keeper(task, paths, options, devices, Learner(task, modules, devices), marks)
            with keeper.lock():
                return _Loop(task, options, devices, keeper).run(paths, progress)
        except BaseException:
            devices.end_others()
            raise


class _Loop:
    """Takes the steps of a training."""

    def __init__(self, task: Task, options: TrainOptions, devices: Devices, keeper: Keeper) -> None:
        self.task, self.options, self.devices, self.keeper = task, options, devices, keeper
        self.clock = 0.0

    def run(self, paths: Paths, progress: Progress) -> TrainReport:
        """All steps that are left; raises what `train` raises."""
        states = self.keeper.take_up()
        marks, last = self.keeper.marks, self.options.steps or 0
        first, before = marks.step, marks.seconds
        progress(first, last, f"{self.task.name}: preparing")
        place = Place(self.devices.rank, self.devices.world)
        with closing(batches(self.task.dataset(), self.options, first, place)) as loaded:
            ready = next(loaded) if first < last else []  # may take long, and be interrupted
            self.devices.seed(self.options.seed, states)
            with self.keeper.open_logs(), interrupts_noted() as interrupt:
                self.clock = time.monotonic()
                while marks.step < last:
                    loss = self._step(ready)
                    progress(marks.step, last, f"{self.task.name}: loss {loss:.3g}")
                    self._keep(stop=self.devices.anybody(interrupt.asked))
                    ready = next(loaded) if marks.step < last else []
                if self.devices.anybody(
                    self.devices.first and marks.best is None
                ):  # it had more steps already, and no validation
                    self._validate_and_save()
                if self.devices.anybody(interrupt.asked):  # while it validated for the last time
                    raise KeyboardInterrupt
        return _report(self.task, paths, marks, first, before)

    def _keep(self, stop: bool) -> None:
        """Validates and saves where it is time to.

        Raises:
            KeyboardInterrupt: `stop`, once all is saved.
        """
        step, last = self.keeper.marks.step, self.options.steps or 0
        if step % (self.options.validate_every or last) == 0 or step == last:
            self._validate_and_save()
        elif stop or self.devices.anybody(time.monotonic() - self.keeper.saved > SAVE_SECONDS):
            self.keeper.save()
            self.clock = time.monotonic()
        if stop:
            raise KeyboardInterrupt

    def _validate_and_save(self) -> None:
        self.keeper.validate()
        self.keeper.save()
        self.clock = time.monotonic()  # of the steps alone

    def _step(self, ready: Sequence[Batch]) -> float:
        """One step of each optimiser on batches that are accumulated; returns the first loss."""
        marks, share = self.keeper.marks, 1 / len(ready)
        losses = [
            self.task.losses(self.keeper.learner.placed, self.devices.fabric.to_device(batch), marks.step)
            for batch in ready
        ]
        sums: dict[str, float] = {}
        while (found := self._next(losses[0], last=len(losses) == 1)) is not None:
            optimiser = self.keeper.learner.stepping[found[0]]
            optimiser.zero_grad()
            for number, each in enumerate(losses):
                last = number == len(losses) - 1
                name, total, parts = found if number == 0 else self._next(each, last) or found
                for term, value in self._finite({TOTAL + name: total, **parts}).items():
                    sums[term] = sums.get(term, 0.0) + value * share
                with self.devices.unsynchronised(not last):
                    self.devices.fabric.backward(total * share)
            optimiser.step()
        self.keeper.learner.follow(min(self.options.decay, (1 + marks.step) / (10 + marks.step)))  # sooner at the start
        marks.step += 1
        self._log(sums)
        return next(iter(sums.values()), 0.0)

    def _next(self, losses: Losses, last: bool) -> tuple[str, Tensor, Mapping[str, Tensor]] | None:
        """The next loss of a batch; gradients are exchanged after the `last` batch of a step."""
        with self.devices.fabric.autocast(), self.devices.unsynchronised(not last):
            return next(losses, None)

    def _finite(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The terms as numbers, all of them finite, in all processes."""
        numbers = torch.stack([value.detach().float() for value in terms.values()]).tolist()
        found: dict[str, float] = dict(zip(terms, numbers, strict=True))
        bad = [f"{name} is {value}" for name, value in found.items() if not math.isfinite(value)]
        if self.devices.anybody(bool(bad)):
            raise self.keeper.diverged("the loss " + (", ".join(bad) or "of another process is no finite number"))
        return found

    def _log(self, terms: Mapping[str, float]) -> None:
        marks, now = self.keeper.marks, time.monotonic()
        marks.seconds, self.clock = marks.seconds + now - self.clock, now
        marks.pending = {
            name: marks.pending.get(name, 0.0) + terms.get(name, 0.0) for name in {**marks.pending, **terms}
        }
        marks.n_pending += 1
        if marks.step % self.options.log_every:
            return
        images = marks.n_pending * (self.options.batch or 1) * self.options.accumulate * self.devices.world
        means = {name: value / marks.n_pending for name, value in marks.pending.items()}
        self.keeper.log(images / max(marks.seconds - marks.logged, 1e-9), means)
        marks.pending, marks.n_pending, marks.logged = {}, 0, marks.seconds


def _report(task: Task, paths: Paths, marks: Marks, first: int, before: float) -> TrainReport:
    seconds, best = marks.seconds - before, float("nan") if marks.best is None else marks.best
    return TrainReport(task.name, paths.checkpoint, paths.logs, marks.step, first, seconds, task.figure, best)
