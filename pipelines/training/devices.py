"""The devices of a training, a process each, through Lightning Fabric: what they do together, what only one does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from ...storage.errors import UnfinishedError, sentence
from .options import TrainOptions, devices_of

_LAUNCHERS: list[Any] = []
"""Fabric's, of this process, that have started others."""


class Devices:
    """This process among those that train together; the others run the same command.

    Attributes:
        fabric: Lightning Fabric, launched.
        rank: number of this process; world: how many there are; first: whether it is the one that writes.
    """

    def __init__(self, options: TrainOptions) -> None:
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        kind, count = devices_of(options)
        strategy = "ddp" if count > 1 else "auto"
        self.fabric: Any = Fabric(accelerator=kind, devices=count, precision=options.precision, strategy=strategy)
        self.fabric.launch()
        launcher = getattr(self.fabric.strategy, "launcher", None)
        if getattr(launcher, "procs", None):  # of the first training; the processes take up those that follow
            _LAUNCHERS.append(launcher)
        self.rank: int = self.fabric.global_rank
        self.world: int = self.fabric.world_size
        self.first: bool = self.fabric.is_global_zero
        self._learning: list[Any] = []

    def set_up(self, modules: nn.ModuleDict) -> nn.ModuleDict:
        """The modules on the device; those that learn are wrapped, so that gradients are exchanged.

        Their weights lie channels last, which convolutions on every kind of device are quicker with.
        """
        placed = {}
        for name, module in modules.items():
            if not _strides_points(module):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if any(parameter.requires_grad for parameter in module.parameters()):
                placed[name] = self.fabric.setup_module(module)
                self._learning.append(placed[name])
            else:
                placed[name] = self.fabric.to_device(module)
        return nn.ModuleDict(placed)

    def set_up_optimisers(self, optimisers: Mapping[str, Optimizer]) -> dict[str, Any]:
        """Optimisers that mind the precision."""
        return {name: self.fabric.setup_optimizers(each) for name, each in optimisers.items()}

    def unsynchronised(self, yes: bool) -> ExitStack:
        """Gradients that go on accumulating are not exchanged yet."""
        held = ExitStack()
        for module in self._learning if yes and self.world > 1 else ():
            held.enter_context(self.fabric.no_backward_sync(module))
        return held

    def anybody(self, flag: bool) -> bool:
        """Whether it holds in any of the processes; all must ask."""
        if self.world == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum") > 0)

    def alone(self, work: Callable[[], object]) -> None:
        """Does what only the first process does; where it fails, all of them stop."""
        error: Exception | None = None
        if self.first:
            try:
                work()
            except Exception as found:
                error = found
        if self.anybody(error is not None):
            raise error or UnfinishedError(sentence("training", "the first process has stopped"))

    def end_others(self) -> None:
        """Ends the processes that the first one has started: they would wait for it. They have nothing to save.

        They are taken from Fabric, which watches them and would kill this one as well.
        """
        for launcher in _LAUNCHERS:
            started = [*launcher.procs]
            launcher.procs.clear()
            for process in started:
                process.kill()
                process.wait()
        _LAUNCHERS.clear()

    def random_states(self) -> dict[str, Tensor]:
        """The states of torch's random numbers, `(world, n)` uint8 by kind of device, on the CPU; all must ask."""
        states = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        return {name: self._gathered(each) for name, each in states.items()}

    def _gathered(self, mine: Tensor) -> Tensor:
        """`(world, n)`, on the CPU, of `(n,)` of each process."""
        if self.world == 1:
            return mine[None]
        theirs = [torch.empty_like(mine, device=self.fabric.device) for _ in range(self.world)]
        distributed.all_gather(theirs, mine.to(self.fabric.device))
        return torch.stack(theirs).cpu()

    def seed(self, seed: int, states: Mapping[str, Tensor]) -> None:
        """Starts torch's random numbers, in each process others, or puts back what `random_states` found."""
        torch.manual_seed(seed + self.rank)
        if "cpu" in states:
            torch.set_rng_state(states["cpu"][self.rank].clone())  # which wants storage of its own
        if "cuda" in states and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"][self.rank].clone(), self.fabric.device)


def _strides_points(module: nn.Module) -> bool:
    """Whether it has 1x1 convolutions with a stride: with channels last, torch's own on a CPU overrun their memory."""
    found = (each for each in module.modules() if isinstance(each, nn.Conv2d))
    return any(max(each.kernel_size) == 1 < max(each.stride) for each in found)


def gpus(options: TrainOptions) -> list[int]:
    """Those whose random numbers a training draws."""
    return list(range(torch.cuda.device_count())) if devices_of(options)[0] == "cuda" else []
