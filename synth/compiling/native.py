"""An AOTInductor package on the CPU called so that other threads of Python go on meanwhile.

PyTorch's own loader holds the interpreter's lock while native code runs, and has one runner: of several threads that
call networks one would run. The package's library is called by its C interface instead (`aoti_runtime/interface.h`),
through ctypes, which lets go of the lock.
"""

from __future__ import annotations

import ctypes
import tempfile
import zipfile
from ctypes import byref, c_char_p, c_size_t, c_void_p
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

SUFFIX = ".wrapper.so"
"""Of the library in a package that makes and runs the model."""
NEEDS_MORE = "extern_kernel_nodes.json"
"""In packages with operators that the library alone cannot run."""


def library_of(package: Path) -> str | None:
    """Name of the library in a package that can be called so; None where there is none, or it needs more."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    found = [name for name in names if name.endswith(SUFFIX)]
    return found[0] if len(found) == 1 and not any(name.endswith(NEEDS_MORE) for name in names) else None


_pointer, _capsule = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
_pointer.restype, _pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]
_capsule.restype, _capsule.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
"""Between addresses of tensors and the capsules that PyTorch wraps them in."""


class Native:
    """What to call: takes tensors on the CPU, returns what the network returns; from as many threads as `runners`.

    Args:
        package: a file that nobody else can write; library: of it, as `library_of` names it.

    Attributes:
        released: frees the model as soon as nobody has this any more; alive until then. The library stays mapped, as
            it does with PyTorch's own loader: pages of a file, which the system takes back where it needs them.

    Raises:
        RuntimeError: the library refuses.
    """

    def __init__(self, package: Path, library: str, runners: int) -> None:
        with tempfile.TemporaryDirectory() as folder:  # mapped while this runs
            with zipfile.ZipFile(package) as archive:
                path = archive.extract(library, folder)
            self._library = ctypes.CDLL(path)
            self._handle = c_void_p()
            made = (byref(self._handle), c_size_t(runners), c_char_p(b"cpu"), c_char_p(folder.encode()))
            self._call("AOTInductorModelContainerCreateWithDevice", *made)
        self.released = finalize(self, self._library.AOTInductorModelContainerDelete, self._handle)
        self.released.atexit = False  # threads may still call while Python ends
        taken, given = c_char_p(), c_char_p()
        self._call("AOTInductorModelContainerGetCallSpec", self._handle, byref(taken), byref(given))
        self._form = pytree.treespec_loads((given.value or b"").decode())
        count = c_size_t()
        self._call("AOTInductorModelContainerGetNumOutputs", self._handle, byref(count))
        self._outputs = count.value
        if self._form.num_leaves != self._outputs:
            raise RuntimeError(f"the package returns {self._outputs} tensors instead of {self._form.num_leaves}")

    def __call__(self, *inputs: Tensor) -> Any:
        """The network's answer."""
        shims = torch._C._aoti
        handles = [_pointer(each, None) for each in shims.unsafe_alloc_void_ptrs_from_tensors(list(inputs))]
        given, made = (c_void_p * len(handles))(*handles), (c_void_p * self._outputs)()
        run = (self._handle, given, c_size_t(len(handles)), made, c_size_t(self._outputs), None, None)
        self._call("AOTInductorModelContainerRun", *run)
        answer = shims.alloc_tensors_by_stealing_from_void_ptrs([_capsule(each, None, None) for each in made])
        return pytree.tree_unflatten(answer, self._form)

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise RuntimeError(f"{name} failed with code {code}")
