"""Half precision by casting: the network and what it is given, so that nothing depends on a compiler's own settings."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .parity import Call, Inputs

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""By the name of the precision."""


def lowered(network: nn.Module, inputs: Inputs, precision: str) -> tuple[nn.Module, Inputs]:
    """A network and its inputs in a precision; the network itself for float32, else a copy."""
    dtype = DTYPES[precision]
    if dtype == torch.float32:
        return network, inputs
    return deepcopy(network).to(dtype), tuple(each.to(dtype) for each in inputs)


def cast(call: Call, precision: str) -> Call:
    """A call of that precision as one that takes and returns float32.

    What comes out in another precision means that the compiler has not kept to it: AssertionError.
    """
    dtype = DTYPES[precision]
    if dtype == torch.float32:
        return call

    def widened(made: Tensor) -> Tensor:
        assert made.dtype == dtype, f"computed in {made.dtype} instead of {dtype}"
        return made.float()

    def run(*inputs: Tensor) -> Any:
        return pytree.tree_map_only(Tensor, widened, call(*(each.to(dtype) for each in inputs)))

    return run
