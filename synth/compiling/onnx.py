"""Networks as ONNX files, for other runtimes; checked against eager by onnxruntime on the CPU."""

from __future__ import annotations

import logging
import warnings
from copy import deepcopy
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ...storage.errors import InputError, sentence
from ...storage.outputs import check_output, write_outputs
from .parity import Call, Inputs, Parity, parity_of

OPSET = 18
"""Version of the operators: the first with everything that the networks use."""
SUFFIX = ".onnx"


class _Flat(nn.Module):
    """A network whose outputs are its tensors, in order, which is all that ONNX knows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return flat(self.network(*inputs))


def flat(outputs: object) -> tuple[Tensor, ...]:
    """The tensors of an output, in order, without what is None."""
    return tuple(each for each in pytree.tree_flatten(outputs)[0] if isinstance(each, Tensor))


def export_onnx(network: nn.Module, example: Inputs, path: str | Path) -> Parity:
    """Writes a network as an ONNX file for inputs of the example's shapes, once it has answered as the network does.

    Args:
        network: stays as and where it is, a copy is written in evaluation mode; example: real inputs; path: of the
            file, `.onnx`; weights lie inside.

    Returns:
        Drift of onnxruntime's answers from eager ones in float32.

    Raises:
        InputError: onnx is not installed, the path cannot be written, or the answers drift beyond the tolerance.
    """
    path = Path(path)
    check_output(path, (SUFFIX,))
    check_onnx()
    held = deepcopy(network).cpu().eval()
    inputs = tuple(each.cpu() for each in example)
    data = _exported(held, inputs)
    parity = parity_of(onnx_call(data), lambda *given: flat(held(*given)), inputs, "float32")
    if not parity.holds:
        found = f"{parity.worst:.2g} of the largest output"
        raise InputError(sentence(path, "drifts", expected=f"at most {parity.tolerance:g}", found=found))
    write_outputs({path: data})
    return parity


def check_onnx() -> None:
    """Refuses where a library is missing.

    Raises:
        InputError: one is.
    """
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        fix = "pip install zeuxis[onnx]"
        raise InputError(
            sentence("ONNX", expected="onnx, onnxscript and onnxruntime", found=f"no {missing[0]}", fix=fix)
        )


def onnx_call(data: bytes) -> Call:
    """A call that runs an ONNX file on the CPU, and returns its outputs as a tuple."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = {name: each.numpy() for name, each in zip(names, inputs, strict=False)}
        return tuple(torch.from_numpy(each) for each in session.run(None, given))

    return run


def _exported(network: nn.Module, inputs: Inputs) -> bytes:
    """The file; inputs are called as those of the network's `forward`, outputs `output`, or `output_0` and on."""
    taken = [*signature(network.forward).parameters][: len(inputs)]
    with torch.inference_mode():
        count = len(flat(network(*inputs)))
    made = ["output"] if count == 1 else [f"output_{number}" for number in range(count)]
    said = logging.getLogger("torch.onnx")
    before = said.level
    said.setLevel(logging.ERROR)  # it warns of libraries that nothing here needs
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Flat(network), inputs, dynamo=True, opset_version=OPSET, verbose=False, input_names=taken,
                output_names=made,
            )  # fmt: skip
    finally:
        said.setLevel(before)
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data
