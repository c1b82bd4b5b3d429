"""What a training keeps: the best network, the state it goes on from, its logs; and how it takes them up again."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ...storage.errors import UnfinishedError, sentence
from ...storage.files import make_folder, writer_lock
from ...synth.checkpoint import Card, is_whole, save_checkpoint
from ...synth.layers import is_finite
from .devices import Devices, gpus
from .logs import Logs
from .options import TrainOptions
from .resume import Marks, load_state, restore, room, save_state, state_of
from .standing import Paths
from .task import Task


class Learner:
    """Modules, optimisers, and the running means of the weights.

    Attributes:
        modules, optimisers: as the task made them; placed, stepping: the same, set up on the devices.
        average: a copy of the network with the mean of its weights, in eval mode.
        along: the same of the modules that are kept along with it: what reads the mean network must be of its age.
    """

    def __init__(self, task: Task, modules: nn.ModuleDict, devices: Devices) -> None:
        self.modules = modules
        self.average = _resting_copy(modules["net"], devices)
        names = [name for name in getattr(task, "along", ()) if name in modules]
        self.along = nn.ModuleDict({name: _resting_copy(modules[name], devices) for name in names})
        self.optimisers = task.optimisers(modules)
        self.placed = devices.set_up(modules)
        self.stepping = devices.set_up_optimisers(self.optimisers)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """The running means take in the weights as they are now; buffers they take over."""
        for name, average in {"net": self.average, **self.along}.items():
            module = self.modules[name]
            for mean, now in zip(average.parameters(), module.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            for held, fresh in zip(average.buffers(), module.buffers(), strict=True):
                held.copy_(fresh)


class Keeper:
    """Writes what a training leaves; of several processes the first one does.

    Args:
        marks: how far it is; they are kept up to date here.

    Attributes:
        saved: when the state was last saved, by the monotonic clock.
    """

    def __init__(
        self, task: Task, paths: Paths, options: TrainOptions, devices: Devices, learner: Learner, marks: Marks
    ) -> None:
        self.task, self.paths, self.options, self.devices = task, paths, options, devices
        self.learner, self.marks = learner, marks
        self.logs: Logs | None = None
        self.saved = time.monotonic()

    def lock(self) -> ExitStack:
        """Keeps others from training the same network meanwhile; the first thing that is written."""
        held = ExitStack()

        def work() -> None:
            for folder in (self.paths.resume.parent, self.paths.logs):
                make_folder(folder)
            held.enter_context(writer_lock(self.paths.logs))

        self.devices.alone(work)
        return held

    def take_up(self) -> dict[str, Tensor]:
        """Puts back what was saved, and returns the states of the random numbers; a new training removes what was."""
        if not self.marks.step:
            self.devices.alone(self._forget)
            return {}
        self.marks, held = load_state(self.paths.resume)
        learner = self.learner
        restore(self.paths.resume, held, self.marks, learner.modules, learner.average, learner.optimisers)
        self._take_up_along(held)
        self.devices.fabric._precision.load_state_dict(self.marks.scaler)
        if not is_whole(self.paths.checkpoint):
            self.marks.best = None
        return {name.removeprefix("random."): each for name, each in held.items() if name.startswith("random.")}

    def _take_up_along(self, held: Mapping[str, Tensor]) -> None:
        """The means of what is kept along; a state of before there were any has the modules themselves."""
        for name, average in self.learner.along.items():
            own = {key.removeprefix(f"along.{name}."): held[key] for key in held if key.startswith(f"along.{name}.")}
            average.load_state_dict(own or self.learner.modules[name].state_dict())

    def _forget(self) -> None:
        self.paths.along.unlink(missing_ok=True)
        if self.paths.checkpoint.exists():  # which is forgotten from now on, but stays until a better one
            self._save({})
        else:
            self.paths.resume.unlink(missing_ok=True)

    def open_logs(self) -> ExitStack:
        """The log folder, cut where the training goes on."""
        held = ExitStack()

        def work() -> None:
            self.logs = Logs(self.paths.logs, self.marks.step)
            held.callback(self.logs.close)

        self.devices.alone(work)
        return held

    def log(self, rate: float, terms: Mapping[str, float]) -> None:
        """A row of the log: images a second, and mean terms."""

        def work() -> None:
            assert self.logs is not None
            with room(self.logs.folder, self.marks.step):
                self.logs.losses(self.marks.step, self.marks.seconds, rate, terms)

        self.devices.alone(work)

    def validate(self) -> None:
        """Figures and samples of the running mean; it becomes the checkpoint where it is the best so far."""
        self.devices.alone(self._validate)

    def _validate(self) -> None:
        task, marks, average = self.task, self.marks, self.learner.average
        if not all(is_finite(each) for each in average.state_dict().values()):  # what it paints may have figures
            raise self.diverged("a weight is no finite number")
        if along := self.learner.along:
            task.read_with(along)  # type: ignore[attr-defined]
        with torch.random.fork_rng(gpus(self.options)), torch.no_grad():
            figures, grid = task.validate(average), task.grid(average)
        figure, sign = figures[task.figure], -1 if task.smaller_is_better else 1
        if not math.isfinite(figure):
            raise self.diverged(f"the figure {task.figure} of validation is {figure}")
        if marks.best is None or sign * figure > sign * marks.best:
            self._keep_along()
            with room(self.paths.checkpoint, marks.step):
                save_checkpoint(self.paths.checkpoint, average.state_dict(), self._card(figures))
            marks.best = figure
        assert self.logs is not None
        with room(self.logs.folder, marks.step):
            self.logs.validation(marks.step, figures, grid)

    def _keep_along(self) -> None:
        """Means of the same steps as the network that becomes the checkpoint, where the task has such."""
        if along := self.learner.along:
            kept = {f"modules.{key}": each for key, each in along.state_dict().items()}
            save_state(self.paths.along, kept, self.marks)

    def _card(self, figures: Mapping[str, float]) -> Card:
        subject, task = self.task.subject, self.task
        training: dict[str, Any] = {
            **self.options.to_json(),
            **task.extra(self.learner.modules),
            **self.marks.settings,
            "figures": dict(figures),
            "best": figures[task.figure],
        }
        return Card(
            network=task.network,
            config=task.config(),
            classes=subject.classes,
            size=subject.size,
            bank=subject.bank,
            generation=subject.generation,
            features=task.features,
            step=self.marks.step,
            training=training,
        )

    def save(self) -> None:
        """The state to go on from; nothing is written where a weight has become no finite number."""
        states = {f"random.{name}": each for name, each in self.devices.random_states().items()}
        self.devices.alone(lambda: self._save(states))
        self.saved = time.monotonic()

    def _save(self, states: Mapping[str, Tensor]) -> None:
        learner, marks = self.learner, self.marks
        if not all(is_finite(each) for each in learner.modules.parameters()):
            raise self.diverged("a weight is no finite number")
        marks.rates = {name: [group["lr"] for group in each.param_groups] for name, each in learner.optimisers.items()}
        marks.scaler = self.devices.fabric._precision.state_dict()
        tensors = state_of(learner.modules, learner.average, learner.optimisers)
        tensors |= {f"along.{name}": each for name, each in learner.along.state_dict().items()}
        save_state(self.paths.resume, tensors | dict(states), marks)

    def diverged(self, said: str) -> UnfinishedError:
        """The error of a training that has run away."""
        fix = "what was saved before is intact; --restart with a smaller --lr, or --precision 32-true"
        return UnfinishedError(sentence(f"{self.task.name} at step {self.marks.step + 1}", said, fix=fix))


def _resting_copy(module: nn.Module, devices: Devices) -> nn.Module:
    """What a running mean begins as."""
    return copy.deepcopy(module).requires_grad_(False).eval().to(devices.fabric.device)
