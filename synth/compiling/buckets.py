"""A network with compiled forms of itself for fixed shapes and batch sizes; whatever has none runs as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .parity import Call, Inputs, Parity

Shapes = tuple[tuple[int, ...], ...]
"""Of a network's inputs, each without its batch."""


@dataclass(frozen=True)
class Verdict:
    """What compiling a network for one batch size came to.

    Attributes:
        backend: `tensorrt`, `inductor` or `eager`; precision: of its arithmetic.
        batch: inputs at once; shapes: of the inputs, each without its batch; device: by its name.
        parity: with the eager network in float32; None where that is what runs.
        eager_ms, compiled_ms: medians of calls side by side; equal where nothing is compiled.
        why: this backend was taken, and others were not.
        example: what the real input was.
    """

    backend: str
    precision: str
    batch: int
    shapes: Shapes
    device: str
    parity: Parity | None
    eager_ms: float
    compiled_ms: float
    why: str
    example: str = ""

    @property
    def ratio(self) -> float:
        """How many times as fast as eager."""
        return self.eager_ms / self.compiled_ms if self.compiled_ms else 1.0

    def __str__(self) -> str:
        return self.backend if self.backend == "eager" else f"{self.backend} {self.precision}"


@dataclass(frozen=True, eq=False)
class Bucket:
    """A batch size: its verdict, what to call, None for the network itself, and the digest of its card, if any."""

    verdict: Verdict
    call: Call | None
    digest: str = ""

    @property
    def line(self) -> str:
        """What it is, for people and to be compared."""
        drift = self.verdict.parity.worst if self.verdict.parity else 0
        return f"{self.verdict}, batch {self.verdict.batch}, drift {drift:.0e}, {self.digest}"


def backend_of(network: nn.Module) -> str:
    """What runs a network, such as `inductor float32`."""
    return network.backend if isinstance(network, Compiled) else "eager"


def packages_of(network: nn.Module) -> tuple[str, ...]:
    """The compiled forms of a network, a line each; none where it runs as it is."""
    return network.packages if isinstance(network, Compiled) else ()


class Compiled(nn.Module):
    """Takes what the network takes, at any batch size, and returns what it returns.

    Where there are buckets for the inputs' shapes, a batch is cut into those that together take the least time by what
    was measured; the last one is padded with its first item, and cut again. Other shapes, types and devices, and
    batches for which no bucket is compiled, go to the network.

    Attributes:
        network: the eager one, in float32.
        buckets: by the inputs' shapes, then by batch size.
    """

    def __init__(self, network: nn.Module, buckets: Sequence[Bucket]) -> None:
        super().__init__()
        self.network = network
        self.buckets: dict[Shapes, dict[int, Bucket]] = {}
        for each in buckets:
            self.buckets.setdefault(each.verdict.shapes, {})[each.verdict.batch] = each
        own = next(iter((*network.parameters(), *network.buffers())), torch.empty(0))
        self._fits = own.device

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of all buckets."""
        return tuple(each.verdict for group in self.buckets.values() for each in group.values())

    @property
    def backend(self) -> str:
        """What runs, such as `inductor float32`."""
        return ", ".join(sorted({str(verdict) for verdict in self.verdicts})) or "eager"

    @property
    def packages(self) -> tuple[str, ...]:
        """A line for each bucket: what it is, how far it drifts, and the digest of its card, which names its bytes."""
        return tuple(each.line for group in self.buckets.values() for each in group.values())

    def __getattr__(self, name: str) -> Any:
        """What the network has besides `forward` is the network's own, and runs uncompiled."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)

    def forward(self, *inputs: Tensor) -> Any:
        """As the network's `forward`."""
        group = self.buckets.get(shapes_of(inputs), {})
        fits = all(each.dtype == torch.float32 and each.device == self._fits for each in inputs)
        if not fits or not any(each.call for each in group.values()):
            return self.network(*inputs)
        costs = tuple(sorted((batch, each.verdict.compiled_ms) for batch, each in group.items()))
        inputs = tuple(each.contiguous() for each in inputs)  # native code reads memory as that of its example lay
        parts, start = [], 0
        for batch in plan(len(inputs[0]), costs):
            some = tuple(each[start : start + batch] for each in inputs)
            parts.append(self._run(group[batch], some, batch))
            start += batch
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _run(self, bucket: Bucket, inputs: Inputs, batch: int) -> Any:
        n = len(inputs[0])
        if n == batch or bucket.call is None:
            return (bucket.call or self.network)(*inputs)
        padded = (torch.cat([each, each[:1].expand(batch - n, *each.shape[1:])]) for each in inputs)
        return pytree.tree_map_only(Tensor, lambda each: each[:n], bucket.call(*padded))


def shapes_of(inputs: Sequence[Tensor]) -> Shapes:
    """The shape of each without its batch."""
    return tuple(tuple(each.shape[1:]) for each in inputs)


@cache
def plan(n: int, costs: tuple[tuple[int, float], ...]) -> tuple[int, ...]:
    """Bucket sizes, the largest first, that hold n items in the least time.

    Args:
        n: at least 1; costs: `(size, time)` of each bucket.
    """
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for count in range(1, n + 1):
        each = ((best[max(0, count - size)], size, ms) for size, ms in costs)
        best.append(min((before + ms, (*sizes, size)) for (before, sizes), size, ms in each))
    return tuple(sorted(best[n][1], reverse=True))


def _joined(parts: Sequence[Any]) -> Any:
    leaves, forms = zip(*map(pytree.tree_flatten, parts), strict=True)
    whole = [torch.cat(each) if isinstance(each[0], Tensor) else each[0] for each in zip(*leaves, strict=True)]
    return pytree.tree_unflatten(whole, forms[0])
