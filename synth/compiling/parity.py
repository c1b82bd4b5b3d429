"""How far a compiled network drifts from the same network, eager, in float32; and how long both take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Call = Callable[..., Any]
"""Takes a network's inputs, returns what its `forward` does."""
Inputs = tuple[Tensor, ...]

TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 6e-2}
"""The largest drift by precision, as a share of the largest output: of pictures in [-1, 1] an eighth of a grey level,
two and a half, and eight, at the worst pixel."""
LEAST_SCALE = 1e-3
"""Outputs that are all nearer to zero are compared as if this were the largest."""
SECONDS = 1.0
"""How long two calls are timed, about; `LEAST_TIMES` each at least, `MOST_TIMES` at most."""
LEAST_TIMES, MOST_TIMES = 5, 50


@dataclass(frozen=True)
class Parity:
    """Drift on random and on real input, and what it may be: largest difference over largest output, 0 is none."""

    random: float
    real: float
    tolerance: float

    @property
    def worst(self) -> float:
        """The larger of both."""
        return max(self.random, self.real)

    @property
    def holds(self) -> bool:
        """Whether neither is beyond the tolerance; what is no number is."""
        return self.worst <= self.tolerance


def random_like(inputs: Inputs, seed: int = 0) -> Inputs:
    """Uniform noise of the same shapes, in the range of each input."""
    generator = torch.Generator().manual_seed(seed)
    noise = (torch.rand(each.shape, generator=generator).to(each) for each in inputs)
    return tuple(some * (each.max() - each.min()) + each.min() for some, each in zip(noise, inputs, strict=True))


def drift(found: Any, wanted: Any) -> float:
    """The largest difference of two outputs as a share of the largest value wanted, of the worst of their tensors.

    Infinite where values are no numbers, or the outputs are not of one structure.
    """
    (left, left_form), (right, right_form) = pytree.tree_flatten(found), pytree.tree_flatten(wanted)
    pairs = [(a, b) for a, b in zip(left, right, strict=False) if isinstance(b, Tensor)]
    if left_form != right_form or any(not isinstance(a, Tensor) or a.shape != b.shape for a, b in pairs):
        return math.inf
    shares = [
        float((a.double() - b.double()).abs().amax() / b.double().abs().amax().clamp(min=LEAST_SCALE)) for a, b in pairs
    ]
    return max((share if math.isfinite(share) else math.inf for share in shares), default=0.0)


def parity_of(found: Call, wanted: Call, real: Inputs, precision: str) -> Parity:
    """The parity of two calls, `wanted` being the eager network in float32."""
    with torch.inference_mode(), full_float32():
        random, own = (drift(found(*each), wanted(*each)) for each in (random_like(real), real))
    return Parity(random, own, TOLERANCE[precision])


def side_by_side(calls: Sequence[Call], inputs: Inputs, seconds: float = SECONDS) -> list[float]:
    """Milliseconds a call takes, the median of many, of each; they take turns, so that all meet the same load."""
    times: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for call in calls:
            call(*inputs)  # warm
        begin = time.perf_counter()
        while len(times[0]) < LEAST_TIMES or (
            time.perf_counter() - begin < seconds * len(calls) and len(times[0]) < MOST_TIMES
        ):
            for call, own in zip(calls, times, strict=True):
                _wait(inputs)
                start = time.perf_counter()
                call(*inputs)
                _wait(inputs)
                own.append((time.perf_counter() - start) * 1e3)
    return [median(own) for own in times]


@contextmanager
def full_float32() -> Iterator[None]:
    """Without TF32, which rounds what convolutions of float32 are given on a GPU to ten bits."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        yield


def _wait(inputs: Inputs) -> None:
    if inputs[0].is_cuda:
        torch.cuda.synchronize(inputs[0].device)
