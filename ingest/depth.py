"""Depth from a network that the user gives, for photographs that came with none: an exported program or an ONNX file.

A network is a program: it computes whatever its maker wanted. `.pt2` files are cut down to tensor operations before
they are loaded (see `exported_program`), ONNX files hold nothing else; still, take one only from whom you trust.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from ..storage.errors import InputError, InstallationError, SourceError, sentence
from ..storage.images import Depth, Photograph
from ..storage.plain_yaml import load_yaml

REASON = "no-network-depth"
"""Of a source for which the network gave no usable map."""

FARTHEST = 1000
"""A network's inverse depth is taken to reach from its largest value down to this part of it; less is that far too."""

Output = Literal["depth", "disparity"]
Batch = npt.NDArray[np.float32]
Network = Callable[[Batch], list[npt.NDArray[Any]]]

_PROBE = (96, 128)
_EXTERNAL = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)  # ONNX's key of tensors kept outside, then a length


@dataclass(frozen=True)
class DepthSettings:
    """What a depth network takes and gives, read from the YAML file beside it.

    Attributes:
        output: `depth` (larger is farther) or `disparity` (inverse depth, larger is nearer), absolute or relative. It
            must be said: the wrong one turns every ordering round.
        scale: metres that one unit of an output of depth is worth; leaves orderings as they are.
        mean, std: of each channel, of RGB in 0..1: the network takes `(rgb - mean) / std`.
        size: `(rows, cols)` that the network takes; else the photograph's own.
        longest: photographs are made smaller until their longer side has at most this many pixels.
        multiple: sides are rounded to multiples of this.
    """

    output: Output
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None
    longest: int = 1024
    multiple: int = 1

    def input_size(self, rows: int, cols: int) -> tuple[int, int]:
        """`(rows, cols)` at which the network sees a photograph of this size."""
        if self.size:
            return self.size
        shrink = min(1.0, self.longest / max(rows, cols))
        rows, cols = (max(1, round(side * shrink / self.multiple)) * self.multiple for side in (rows, cols))
        return rows, cols


@dataclass(frozen=True)
class DepthModel:
    """A depth network: `model.pt2` or `model.onnx`, and `model.yaml` beside it with its `DepthSettings`.

    It takes `(1, 3, H, W)` float32 and gives one map an image: `(H', W')`, `(1, H', W')` or `(1, 1, H', W')`. It is
    loaded when first used, on a GPU where there is one, and not sent to other processes.

    Raises:
        InputError: there is no such file, or its settings cannot be used.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).expanduser().absolute())
        if self.path.suffix not in (".pt2", ".onnx") or not self.path.is_file():
            found = "no such file" if not self.path.is_file() else f"the suffix {self.path.suffix!r}"
            raise InputError(
                sentence(self.path, expected="a depth network, a .pt2 or .onnx file", found=found, fix="check the path")
            )
        self.settings  # noqa: B018  refused now, not in a worker

    @cached_property
    def settings(self) -> DepthSettings:
        """What the YAML file beside the network says."""
        return read_settings(self.path.with_suffix(".yaml"))

    @cached_property
    def sha256(self) -> str:
        """Of the network's files, its settings included: whatever changes its depths changes this."""
        digest = hashlib.sha256()
        for path in (self.path, self._external, self.path.with_suffix(".yaml")):
            data = path.read_bytes() if path.is_file() else b""
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def check(self) -> None:
        """Loads the network and shows it a picture of noise.

        Raises:
            InputError: it cannot be loaded or run, or gives no map.
            InstallationError: an ONNX file without onnxruntime.
        """
        noise = np.random.default_rng(0).integers(0, 256, (*_PROBE, 3), np.uint8)
        try:
            self(noise, "a picture of noise")
        except SourceError as error:
            raise InputError(sentence(self.path, f"cannot be used: {error}")) from error

    def __call__(self, image: Photograph, name: str | Path) -> Depth:
        """The depth of a photograph.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            name: of it, for messages.

        Returns:
            `(H, W)` float32, larger is farther, 0 where unknown; metres where the network gives metres.

        Raises:
            SourceError: `no-network-depth`: the network failed, or gave no finite map of positive numbers.
        """
        rows, cols = image.shape[:2]
        try:
            outputs = self._network(self._batch(image))
        except RuntimeError as error:
            raise _no_depth(name, f"an error of the network ({str(error).strip()[:300]})") from error
        depth = self._as_depth(_only_map(outputs, name), name)
        return (
            depth
            if depth.shape == (rows, cols)
            else cv2.resize(depth, (cols, rows), interpolation=cv2.INTER_NEAREST_EXACT)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def _batch(self, image: Photograph) -> Batch:
        rows, cols = self.settings.input_size(image.shape[0], image.shape[1])
        smaller = rows < image.shape[0]
        resized = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        scaled = resized.astype(np.float32) / 255
        normal = (scaled - np.array(self.settings.mean, np.float32)) / np.array(self.settings.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)

    def _as_depth(self, values: npt.NDArray[np.float32], name: str | Path) -> Depth:
        most = float(values.max(initial=0))
        if most <= 0 or not np.isfinite(values).all():
            raise _no_depth(name, "a map that is not finite, or nowhere positive")
        if self.settings.output == "depth":
            return np.maximum(values, 0) * np.float32(self.settings.scale)
        return (most / np.maximum(values, most / FARTHEST)).astype(np.float32)

    @cached_property
    def _network(self) -> Network:
        if self.path.suffix == ".onnx":
            return _load_onnx(self.path, self._external)
        return _load_pt2(self.path)

    @property
    def _external(self) -> Path:
        """Where an ONNX exporter puts large tensors."""
        return self.path.with_name(self.path.name + ".data")


@lru_cache(maxsize=2)
def depth_model(path: str | Path) -> DepthModel:
    """The depth network of a file, loaded once in a process."""
    return DepthModel(Path(path))


def read_settings(path: Path) -> DepthSettings:
    """The settings of a depth network from its YAML file.

    Raises:
        InputError: no such file, no YAML, or a value that cannot be used; named.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else f"one that cannot be read ({error})"
        raise _wrong(path, found) from error
    if not isinstance(content, Mapping):
        raise _wrong(path, repr(content)[:80])
    unknown = sorted(map(str, content.keys() - {field.name for field in fields(DepthSettings)}))
    if unknown:
        raise _wrong(path, f"the unknown key {unknown[0]!r}")
    bad = [key for key, value in content.items() if not _CHECKS[key](value)]
    if bad or "output" not in content:
        raise _wrong(path, f"{bad[0]}: {content[bad[0]]!r}" if bad else "no output")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return DepthSettings(**given)


def _numbers(value: Any, count: int, least: float, kind: Any = (int, float)) -> bool:
    row = value if isinstance(value, list) else [value]
    return len(row) == count and all(
        isinstance(n, kind) and not isinstance(n, bool) and math.isfinite(n) and n > least for n in row
    )


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "output": lambda value: value in get_args(Output),
    "scale": lambda value: _numbers(value, 1, 0) and not isinstance(value, list),
    "mean": lambda value: _numbers(value, 3, -math.inf),
    "std": lambda value: _numbers(value, 3, 0),
    "size": lambda value: _numbers(value, 2, 0, int),
    "longest": lambda value: _numbers(value, 1, 0, int) and not isinstance(value, list),
    "multiple": lambda value: _numbers(value, 1, 0, int) and not isinstance(value, list),
}


def _only_map(outputs: list[npt.NDArray[Any]], name: str | Path) -> npt.NDArray[np.float32]:
    if len(outputs) != 1 or outputs[0].ndim not in (2, 3, 4) or math.prod(outputs[0].shape[:-2]) != 1:
        shapes = ", ".join(str(output.shape) for output in outputs) or "none"
        raise _no_depth(name, f"outputs of shapes {shapes}")
    values: npt.NDArray[np.float32] = outputs[0].reshape(outputs[0].shape[-2:]).astype(np.float32)
    return values


def _load_pt2(path: Path) -> Network:
    import torch

    from .exported_program import load_program

    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = load_program(path.read_bytes(), path).to(device)

    def run(batch: Batch) -> list[npt.NDArray[Any]]:
        with torch.inference_mode():
            given = module(torch.from_numpy(batch).to(device))
        flat = given.values() if isinstance(given, Mapping) else [given] if isinstance(given, torch.Tensor) else given
        return [output.float().cpu().numpy() for output in flat]

    return run


def _load_onnx(path: Path, external: Path) -> Network:
    try:
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        said = sentence(path, expected="onnxruntime", found="none installed", fix="pip install onnxruntime")
        raise InstallationError(said) from error
    data = path.read_bytes()
    for found in _EXTERNAL.finditer(data):
        place = data[found.end() : found.end() + found[1][0]]
        if place != external.name.encode():
            text = f"tensors in {place[:80].decode(errors='replace')!r}"
            raise InputError(
                sentence(path, expected=f"all tensors in it or {external.name}", found=text, fix="save it anew")
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a worker has one core
    options.log_severity_level = 4
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [provider for provider in wanted if provider in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        (given,) = session.get_inputs()
    except Exception as error:  # a family of its own, without a public base
        raise InputError(
            sentence(path, f"cannot be loaded ({error})", expected="an ONNX network of one input")
        ) from error

    def run(batch: Batch) -> list[npt.NDArray[Any]]:
        try:
            return list(session.run(None, {given.name: batch}))
        except Exception as error:
            raise RuntimeError(str(error)) from error

    return run


def _no_depth(name: str | Path, found: str) -> SourceError:
    fix = "check the network and its settings, or leave the photograph out"
    return SourceError(REASON, sentence(name, expected="one finite depth map from the network", found=found, fix=fix))


def _wrong(path: Path, found: str) -> InputError:
    expected = "the settings of a depth network, at least output: depth or output: disparity"
    return InputError(sentence(path, expected=expected, found=found, fix="write them into this file"))
