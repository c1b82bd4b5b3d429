"""What a training will take of memory, before it takes any: one step of it on tensors that have shapes but no numbers.

Every storage that the step makes is counted from when it is made until nothing holds it any more, forward, backward and
optimiser alike. On a CPU real peaks of 150 to 700 MB were within 2 % of it. What a GPU takes besides, for the
workspaces of its convolutions and in pieces too small to use, is what `MARGIN` stands for.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...storage.errors import InputError, sentence
from ..units import size
from .options import TrainOptions, devices_of
from .task import Batch, Losses

MARGIN = 0.15
"""What is there must be more than predicted by this share."""
MOMENTS = 2
"""Numbers that Adam keeps for each weight."""


@runtime_checkable
class Foreseen(Protocol):
    """A task whose memory is predicted before it runs."""

    @property
    def name(self) -> str: ...

    def sketch(self) -> tuple[nn.ModuleDict, Batch]:
        """Modules and a batch of the shapes that it trains with; no numbers are read, nothing is loaded or drawn."""

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]: ...

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses: ...


@dataclass(frozen=True)
class Memory:
    """Bytes that a training takes on each device.

    Attributes:
        held: all the time: weights and their running mean, gradients, what optimisers keep.
        peak: at the worst moment of a step, `held` included.
    """

    held: int
    peak: int


def check_memory(task: Foreseen, options: TrainOptions, models: Path) -> str:
    """Says what a training will take, or refuses one that would not fit.

    Args:
        options: resolved; models: the folder that it will write to.

    Raises:
        InputError: it takes more than there is; the sentence names what to change.
    """
    kind, processes = devices_of(options)
    needed, there = predicted(task, options).peak * (processes if kind == "cpu" else 1), _there(kind, models)
    if needed * (1 + MARGIN) > there:
        expected = f"about {size(needed)} of memory and {MARGIN:.0%} more"
        raise InputError(sentence(task.name, expected=expected, found=size(there), fix=_smaller(options)))
    return f"{task.name}: takes about {size(needed)} of memory, of {size(there)}"


def predicted(task: Foreseen, options: TrainOptions) -> Memory:
    """The memory of a step that is not the first one, as the training loop takes it, on each device."""
    kind, _ = devices_of(options)
    held: list[int] = []
    peak = peak_of(lambda now: _step(task, options, kind, lambda: held.append(now())), kind)
    return Memory(held[0], peak)


def peak_of(work: Callable[[Callable[[], int]], object], kind: str = "cpu") -> int:
    """Bytes of all tensors at the worst moment of some work, which is done with tensors that have no numbers.

    Args:
        work: is given what tells the bytes at the moment; kind: of device that tensors are made on by default.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), _Counted() as counted, torch.device(kind):
        work(lambda: counted.now)
    peak: int = counted.peak
    return peak


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators make while they are held."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) in self._held:
            return
        self._held[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._held.pop(key)


def _step(task: Foreseen, options: TrainOptions, kind: str, note: Callable[[], object]) -> None:
    """As `loop` and `keeping` do it: there are gradients of the step before until they are zeroed.

    `note` is called with all in place that is held all the time.
    """
    modules, batch = task.sketch()
    optimisers = task.optimisers(modules)
    learning = [each for each in modules.parameters() if each.requires_grad]
    kept = [torch.empty_like(each) for each in modules["net"].parameters()]
    kept += [torch.empty_like(each) for each in learning for _ in range(MOMENTS)]
    if devices_of(options)[1] > 1:
        kept += [torch.empty_like(each) for each in learning]  # gradients as they are exchanged
    for each in learning:
        each.grad = torch.empty_like(each)
    note()
    working = [torch.empty_like(each) for each in learning]  # an optimiser's, of all at once on a GPU
    del working
    losses = task.losses(modules, batch, 0)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(options.precision)

    def following() -> tuple[str, Tensor] | None:
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            found = next(losses, None)
        return found and found[:2]

    while (found := following()) is not None:
        optimisers[found[0]].zero_grad()
        (found[1] / options.accumulate).backward()  # type: ignore[no-untyped-call]
        del found


def _there(kind: str, models: Path) -> int:
    """Bytes that a training may take: of a GPU what is free, of the machine what it lets processes have."""
    if kind == "cuda":
        device = int(os.environ.get("LOCAL_RANK", 0))
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for whoever asks
        return int(torch.cuda.mem_get_info(device)[0]) + held
    from ..forecast import room_for

    return room_for(models).memory


def _smaller(options: TrainOptions) -> str:
    """What would make it fit, the cheapest first."""
    ways = []
    if not options.checkpointing:
        ways.append("--checkpointing")
    if options.precision == "32-true":
        ways.append("--precision bf16-mixed")
    if (options.batch or 1) > 1:
        ways.append("a smaller --batch, with --accumulate")
    if (options.images or 1) > 1:
        ways.append("fewer --images")
    return f"give {', '.join([*ways, 'a smaller --preset'])}"
