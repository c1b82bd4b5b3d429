"""Loads an exported PyTorch program (`.pt2`) without running anything but tensor operations.

`torch.export.load` of torch 2.13 trusts its file: sample inputs and constants may be pickles, symbolic sizes are
evaluated as Python, an operator may name any attribute of `torch`, and compiled libraries in the archive are opened.
So the archive is read here first, what is no plain tensor or tensor operation is refused, and torch is given a new
archive that holds nothing else: no pickle reaches it. A program can still compute nonsense or use much memory.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..storage.errors import InputError, sentence

_PLAIN = re.compile(r"archive_format|archive_version|byteorder|\.data/\w+|version|\.format_version|\.storage_alignment")
_JSON = re.compile(r"models/model\.json|data/(weights/model_weights|constants/model_constants)_config\.json")
_TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_SAMPLES = "data/sample_inputs/model.pt"
_EXTRA = re.compile(r"extra/.*")

_ARITHMETIC = "add|sub|mul|floordiv|truediv|mod|pow|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_"
_OPERATION = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+(\.\w+)?|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled)"
    rf"|torch\.sym_\w+|math\.\w+|_operator\.({_ARITHMETIC})"
)
_SYMBOLIC = re.compile(
    r"([\s+\-*/(),<>=!&|~.]|\b\d+\b|'[a-z]{1,4}\d+'|\b[a-z]{1,4}\d+\b|'[\d.]+'|\b(Symbol|Integer|Rational|Float|Mul|Add|Pow"
    r"|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|Where|FloatTrueDiv|IntTrueDiv|FloorToInt|CeilToInt"
    r"|TruncToInt|RoundToInt|ToFloat|Eq|Equality|Ne|Unequality|Lt|Le|Gt|Ge|StrictLessThan|LessThan|StrictGreaterThan"
    r"|GreaterThan|And|Or|Not|positive|nonnegative|integer|precision|True|False|true|false)\b(?!\s*\.))*"
)
"""A size as torch writes it, such as `Mul(Integer(2), Symbol('s53', positive=True, integer=True))`; no attributes."""


def load_program(data: bytes, path: Path) -> Any:
    """The program of a `.pt2` file as a module that can be called.

    Args:
        data: the file, as `torch.export.save` writes it.
        path: its name, for messages.

    Raises:
        InputError: it is no such file, or holds more than tensors and tensor operations.
    """
    import torch

    try:
        archive = _tensors_alone(data)
        program = torch.export.load(archive)
        return program.module()
    except Exception as error:  # zipfile, json and torch raise many kinds on what is no such file
        said = sentence(
            path,
            expected="a program of tensor operations as torch.export.save writes it",
            found=f"one that cannot be loaded ({error})",
            fix="export it again with the torch that is installed, or to ONNX",
        )
        raise InputError(said) from error


def _tensors_alone(data: bytes) -> io.BytesIO:
    """A new archive with what has been looked at, and without sample inputs, which are a pickle."""
    clean = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as new:
        names = old.namelist()
        if len(set(names)) < len(names):
            raise ValueError("two members of one name")
        for name in names:
            _, _, member = name.partition("/")  # below one folder, whatever it is called
            if member == _SAMPLES:
                new.writestr(name, b"")
            elif _PLAIN.fullmatch(member) or _TENSOR.fullmatch(member):
                new.writestr(name, old.read(name))
            elif _JSON.fullmatch(member):
                new.writestr(name, _checked(old.read(name), member))
            elif not _EXTRA.fullmatch(member):
                raise ValueError(f"{member}, which may hold code")
    return io.BytesIO(clean.getvalue())


def _checked(text: bytes, member: str) -> bytes:
    for key, value in _entries(json.loads(text)):
        if key == "use_pickle" and value:
            raise ValueError(f"{member} names a pickle")
        if key == "target" and isinstance(value, str) and not _OPERATION.fullmatch(value):
            raise ValueError(f"the operation {value}, which is none on tensors")
        if key == "expr_str" and not _SYMBOLIC.fullmatch(str(value)):
            raise ValueError(f"the size {value}, which is none")
    return text


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested JSON, at any depth."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield from value.items()
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
