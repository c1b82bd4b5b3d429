"""The compilers: each says whether it is here, makes a package of a network for fixed shapes, and loads it.

A package is bytes that hold native code and the weights. Inductor's is an AOTInductor archive; TensorRT's an exported
program with its engines inside. Neither compiler's caches in shared folders are used: both work in a private one.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .native import Native, library_of
from .parity import Call, Inputs

INDUCTOR = {"freezing": True, "cpp.dynamic_threads": True, "aot_inductor.precompile_headers": False}
"""Weights are constants, laid out once for the kernels that read them; as many threads as the process that runs has.

Headers compiled ahead would lie in a folder of /tmp that others can foresee, whatever the cache's folder is.
"""


class Backend(NamedTuple):
    """A compiler.

    Attributes:
        missing: why it cannot build for a device, empty if it can; what is built may load where this is said.
        build: a package for a network and inputs of fixed shape, both on their device and in their precision.
        load: what to call, from a package and the device that it was built for.
    """

    missing: Callable[[torch.device], str]
    build: Callable[[nn.Module, Inputs], bytes]
    load: Callable[[bytes, torch.device], Call]


def exported(network: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """The network's graph for inputs of these shapes, for inference."""
    with torch.no_grad():
        return torch.export.export(network, inputs)


def _inductor_missing(device: torch.device) -> str:
    if device.type == "cuda":
        return "" if find_spec("triton") else "triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    return "" if shutil.which(compiler) else f"there is no C++ compiler {compiler}"


def _inductor_build(network: nn.Module, inputs: Inputs) -> bytes:
    from torch._inductor import aoti_compile_and_package, config

    program = exported(network, inputs)
    with private_cache(), tempfile.TemporaryDirectory() as folder, torch.no_grad(), config.patch(INDUCTOR):
        return Path(aoti_compile_and_package(program, package_path=f"{folder}/network.pt2")).read_bytes()


def _inductor_load(package: bytes, device: torch.device) -> Call:
    from torch._inductor import aoti_load_package

    with tempfile.TemporaryDirectory() as folder:  # unpacked and opened while this runs
        path = Path(folder, "network.pt2")
        path.write_bytes(package)
        if device.type == "cpu" and (library := library_of(path)):
            return Native(path, library, runners=os.cpu_count() or 1)
        index = -1 if device.index is None else device.index
        with on(device):  # single: else it asks whether earlier runs are over, which no graph may record
            return aoti_load_package(str(path), run_single_threaded=device.type == "cuda", device_index=index)


def _tensorrt_missing(device: torch.device) -> str:
    if device.type != "cuda":
        return "it needs a CUDA device"
    return "" if find_spec("torch_tensorrt") else "torch-tensorrt is not installed"


def _tensorrt_build(network: nn.Module, inputs: Inputs) -> bytes:
    """The precision is that of network and inputs: `enabled_precisions` is ignored where types are explicit."""
    import torch_tensorrt

    program, device = exported(network, inputs), inputs[0].device
    with tempfile.TemporaryDirectory() as folder, on(device):
        module = torch_tensorrt.dynamo.compile(
            program,
            arg_inputs=list(inputs),
            device=device,
            cache_built_engines=False,
            reuse_cached_engines=False,
            engine_cache_dir=folder,
            timing_cache_path=f"{folder}/timing_cache.bin",
        )
        path = Path(folder, "network.ep")
        torch_tensorrt.save(module, str(path), output_format="exported_program", arg_inputs=list(inputs))
        return path.read_bytes()


def _tensorrt_load(package: bytes, device: torch.device) -> Call:
    import torch_tensorrt  # noqa: F401 - its operators must be known to the loader

    with on(device):
        module: Call = torch.export.load(io.BytesIO(package)).module()
    return module


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Within, it is the current device: libraries go by that one, whatever device their tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


BACKENDS = {
    "tensorrt": Backend(_tensorrt_missing, _tensorrt_build, _tensorrt_load),
    "inductor": Backend(_inductor_missing, _inductor_build, _inductor_load),
}
"""By name, the one to be tried first, first."""


def _same_stream(device: torch.device) -> AbstractContextManager[Any]:
    """A record that fails leaves its own stream as the current one; after this it is the one before."""
    return torch.cuda.stream(torch.cuda.current_stream(device))


_RECORDING = threading.Lock()
"""PyTorch records one graph of a process at a time."""


class Graphed:
    """A call on a GPU recorded once as a CUDA graph, and replayed: the CPU no longer launches kernel after kernel.

    Safe to call from several threads: the graph reads and writes the same buffers each time, so copy, replay and clone
    are queued as one. All threads must use one stream, as they do unless told otherwise: the device's default one. It
    runs what is queued in order, so that the next call's copy waits for this one's clone.

    Args:
        call: takes inputs of these shapes; inputs: an example, on the device.
    """

    def __init__(self, call: Call, inputs: Inputs) -> None:
        self._lock, device = threading.Lock(), inputs[0].device
        self._call = call  # a graph holds addresses: of weights and engines that must live as long
        # buffers of inference mode could not be written outside of it
        with _RECORDING, torch.inference_mode(False), torch.no_grad(), torch.cuda.device(device), _same_stream(device):
            self._given = tuple(each.clone() for each in inputs)
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(3):  # lets libraries choose their kernels and take their memory before the record
                    call(*self._given)
            torch.cuda.current_stream(device).wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # the stream that PyTorch would take is one for all devices; other threads may go on with their own work
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._made = call(*self._given)

    def __call__(self, *inputs: Tensor) -> Any:
        """The outputs, which later calls leave alone."""
        with self._lock, torch.no_grad():
            for own, each in zip(self._given, inputs, strict=True):
                own.copy_(each)
            self._graph.replay()
            return pytree.tree_map_only(Tensor, torch.clone, self._made)


@contextmanager
def private_cache() -> Iterator[None]:
    """Inductor's cache in a folder that nobody else can write, instead of one in /tmp with a name to be foreseen."""
    with patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": _scratch().name}):
        yield


@lru_cache(maxsize=1)
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """One for the whole process: Inductor remembers where its headers lie."""
    return tempfile.TemporaryDirectory(prefix="zeuxis-compile-")
