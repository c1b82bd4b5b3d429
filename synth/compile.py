"""A network compiled for one device and fixed shapes: by TensorRT, by Inductor, or left as it is where that is as fast.

Whatever is taken has been compared with the network, eager and in float32, on random and on real input, and has been
timed beside it: a compiled network never drifts beyond its tolerance, and is never slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from ..storage.errors import InputError, sentence
from .compiling.backends import BACKENDS
from .compiling.buckets import Bucket, Compiled, Verdict, shapes_of
from .compiling.casting import lowered
from .compiling.packages import Store, device_name, device_of, place_of, running
from .compiling.parity import Inputs, parity_of, side_by_side

BackendName = Literal["auto", "tensorrt", "inductor", "eager"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]

LEAST_RATIO = 1.03
"""A network that is less than this many times as fast as eager is left as it is: so little may be noise."""


def compile(
    network: nn.Module,
    example: Inputs,
    backend: BackendName = "auto",
    *,
    precision: Precision = "auto",
    batches: Sequence[int] = (),
    store: Store | None = None,
    name: str = "network",
    about: str = "given",
) -> Compiled:
    """A network with compiled forms of itself for the example's shapes.

    Args:
        network: in evaluation mode, in float32, on the device that it shall run on.
        example: what it is really given, `(N, ...)` float32 each, on the same device, N at least 1.
        backend: `auto` tries TensorRT, then Inductor, and takes the first that can be used, keeps to the tolerance and
            is faster than eager; a name tries that one alone.
        precision: `auto` is float16 on a GPU, float32 on a CPU.
        batches: sizes to compile for; default the example's.
        store: a folder to keep packages in, and to find those made before; None keeps none.
        name: of the network in that folder; about: what the example is, for the card.

    Returns:
        The network, to be called as before; `verdicts` says what was taken, and why.

    Raises:
        InputError: a backend that was named cannot be used, fails, or drifts beyond the tolerance; or an argument.
    """
    _check(network, example, backend, precision, batches)
    asked = (backend, precision)
    buckets = []
    for batch in sorted(set(batches)) or [len(example[0])]:
        inputs = tuple(_repeated(each, batch) for each in example)
        place = place_of(network, shapes_of(inputs), batch) if store else {}
        if store and (before := _kept(store, name, place, asked, device_of(network))):
            buckets.append(before)
            continue
        made = _best(network, inputs, backend, precision, about)
        if store:
            store.keep(name, place, asked, made.bucket.verdict, made.package)
        buckets.append(made.bucket)
    return Compiled(network, buckets)


def _kept(
    store: Store, name: str, place: dict[str, Any], asked: tuple[str, str], device: torch.device
) -> Bucket | None:
    """What was compiled before, if it can be loaded still."""
    card = store.find(name, place, asked)
    try:
        return None if card is None else Bucket(card.verdict, store.call(card, device))
    except InputError:  # it is compiled again
        return None


class _Made(NamedTuple):
    """`package` is None where the network runs as it is."""

    bucket: Bucket
    package: bytes | None


class _Refused(Exception):
    """A backend cannot be used, fails or drifts; says why."""


def _best(network: nn.Module, inputs: Inputs, backend: str, precision: str, about: str) -> _Made:
    """The first candidate that can be used and is faster than eager, else eager."""
    said: list[str] = []
    for name, held in _candidates(backend, precision, inputs[0].device):
        try:
            found = _made(network, inputs, name, held, about)
        except _Refused as refused:
            said.append(f"{name} {held}: {refused}")
            if backend != "auto":
                fix = "give another --backend or --precision"
                raise InputError(sentence(f"{name} {held}", str(refused), fix=fix)) from refused
            continue
        verdict = found.bucket.verdict
        if verdict.ratio >= LEAST_RATIO:
            return found._replace(bucket=_told(found.bucket, [*said, f"{verdict.ratio:.2f} times as fast as eager"]))
        said.append(f"{name} {held}: no faster than eager ({verdict.ratio:.2f} times)")
    (ms,) = side_by_side([network], inputs)
    asked = ["as asked"] if backend == "eager" else said
    return _Made(_told(Bucket(_verdict("eager", "float32", inputs, None, ms, ms, about), None), asked), None)


def _candidates(backend: str, precision: str, device: torch.device) -> Iterator[tuple[str, str]]:
    """Backends and precisions in the order in which they are tried."""
    if backend == "eager":
        return
    precisions = [precision]
    if precision == "auto":
        precisions = ["float16", "float32"] if device.type == "cuda" else ["float32"]
    for held in precisions:
        for name in BACKENDS if backend == "auto" else (backend,):
            yield name, held


def _made(network: nn.Module, inputs: Inputs, backend: str, precision: str, about: str) -> _Made:
    """One backend's package, compared and timed.

    Raises:
        _Refused: it cannot be used here, fails, or drifts.
    """
    device = inputs[0].device
    if why := BACKENDS[backend].missing(device):
        raise _Refused(why)
    verdict = _verdict(backend, precision, inputs, None, 1.0, 1.0, about)
    try:
        package = BACKENDS[backend].build(*lowered(network, inputs, precision))
        call = running(backend, package, device, verdict)
        parity = parity_of(call, network, inputs, precision)
    except Exception as error:  # compilers raise many kinds
        raise _Refused(f"failed ({' '.join(str(error).split())[:300]})") from error
    if not parity.holds:
        raise _Refused(f"drifts by {parity.worst:.2g} of the largest output, where {parity.tolerance:g} is allowed")
    eager_ms, compiled_ms = side_by_side([network, call], inputs)
    return _Made(Bucket(_verdict(backend, precision, inputs, parity, eager_ms, compiled_ms, about), call), package)


def _verdict(
    backend: str, precision: str, inputs: Inputs, parity: Any, eager_ms: float, compiled_ms: float, about: str
) -> Verdict:
    first = inputs[0]
    place = len(first), shapes_of(inputs), device_name(first.device)
    return Verdict(backend, precision, *place, parity, eager_ms, compiled_ms, "", about)


def _told(bucket: Bucket, said: Sequence[str]) -> Bucket:
    return replace(bucket, verdict=replace(bucket.verdict, why="; ".join(said)))


def _repeated(example: torch.Tensor, batch: int) -> torch.Tensor:
    """The first `batch` items, from the beginning again where there are fewer."""
    times = -(-batch // len(example))
    return torch.cat([example] * times)[:batch].contiguous()


def _check(network: nn.Module, example: Inputs, backend: str, precision: str, batches: Sequence[int]) -> None:
    for what, value, known in (("backend", backend, BackendName), ("precision", precision, Precision)):
        if value not in get_args(known):
            raise InputError(sentence(what, expected=f"one of {', '.join(get_args(known))}", found=repr(value)))
    if any(type(batch) is not int or batch < 1 for batch in batches):
        raise InputError(sentence("batch", expected="whole numbers of at least 1", found=repr(list(batches))))
    lengths = {len(each) if each.ndim else 0 for each in example}
    if len(lengths) != 1 or 0 in lengths or any(each.dtype != torch.float32 for each in example):
        found = ", ".join(f"{tuple(each.shape)} of {each.dtype}" for each in example) or "nothing"
        raise InputError(sentence("example", expected="float32 tensors of one batch size", found=found))
    if network.training:
        raise InputError(sentence("network", expected="one in evaluation mode", found="one in training"))
