"""The Inception-v3 that published FID and KID are measured in, where the user has its weights; nothing is fetched.

It is the TensorFlow network of 2015-12-05 (Szegedy et al. 2016; Heusel et al. 2017 for FID) by the names that
pytorch-fid and torch-fidelity gave its weights. It departs from the paper's: averages leave the padding out, the last
block takes maxima where others average, and there are 1,008 classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from .checkpoint import SUFFIX
from .compiling.parity import full_float32
from .metrics import Features
from .pickles import read_pickle

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
"""Where the published file is had; it is never fetched from here."""
DIGEST = "6726825d"
"""The published file's SHA-256 begins with it, whatever the file is called."""
VARIABLE = "ZEUXIS_INCEPTION"
"""Of the environment: names the file of weights."""
WHAT = "weights of the Inception-v3 of FID"
FIX = f"fetch {URL} and name it by --inception or {VARIABLE}"

SIDE = 299
"""Pixels of the pictures that the network sees, both ways."""
SIZE = 2048
"""Features of a picture."""
CLASSES = 1008
"""Of the last layer, which no figure uses; a file without it is of another network."""
EPSILON = 1e-3
"""Of the normalisation."""
AT_ONCE = 16
"""Pictures of a batch."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors by their names."""


def load_inception(path: str | Path | None = None, device: torch.device | None = None) -> Inception | None:
    """The network, frozen, of a file or else of the one that `ZEUXIS_INCEPTION` names; None where neither is given.

    Args:
        path: the published pickle, known by its SHA-256; or weights of the same names and shapes as `.safetensors`,
            which are taken whatever they are, and called by their own.
        device: to put it on; default the CPU.

    Raises:
        InputError: there is no such file, or it does not hold this network.
    """
    named = path if path is not None else os.environ.get(VARIABLE)
    if not named:
        return None
    file, network = Path(named).expanduser(), Inception()
    tensors, network.name = _read(file, shapes_of(network))
    network.load_state_dict(tensors, strict=False)
    return network.requires_grad_(False).eval().to(device)


def features_of(network: nn.Module, images: Sequence[Photograph]) -> Features:
    """`(n, d)` features of pictures of any sizes, in batches, in float32 on the network's device.

    Args:
        network: an `Inception`, d is 2,048 then; images: at least one.
    """
    device, found = next(network.parameters()).device, []
    with torch.inference_mode(), full_float32():
        for start in range(0, len(images), AT_ONCE):
            seen = [seen_of(torch.from_numpy(image).to(device)) for image in images[start : start + AT_ONCE]]
            found.append(network(torch.stack(seen)).cpu().numpy())
    return np.concatenate(found)


def seen_of(image: Tensor) -> Tensor:
    """`(H, W, 3)` uint8 RGB to the `(3, 299, 299)` float32 in [-1, 1) that the network sees of it.

    It is resized as TensorFlow 1 does it within the published network, and torch-fidelity after it: linearly, without
    antialiasing, pixel i of the result at i H / 299 of the picture. Both other conventions, of which `align_corners`
    is one, and half a pixel as in PyTorch the other, give other figures.
    """
    x = image.movedim(-1, 0).float()
    return (_resized(_resized(x, 2), 1) - 128) / 128


def _resized(x: Tensor, axis: int) -> Tensor:
    """To 299 along an axis."""
    n = x.shape[axis]
    at = torch.arange(SIDE, dtype=torch.float32, device=x.device) * (n / SIDE)
    low = at.long().clamp(max=n - 1)
    high = (low + 1).clamp(max=n - 1)
    weights = (at - low).view(-1, *[1] * (x.dim() - 1 - axis))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weights)


class Inception(nn.Module):
    """What `seen_of` gives, `(N, 3, 299, 299)`, to `(N, 2048)`: the last block's cells, averaged. For inference alone.

    `name` says which file the weights are of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "untrained"
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        self.Mixed_5b = _A(192, 32)
        self.Mixed_5c = _A(256, 64)
        self.Mixed_5d = _A(288, 64)
        self.Mixed_6a = _B(288)
        self.Mixed_6b = _C(768, 128)
        self.Mixed_6c = _C(768, 160)
        self.Mixed_6d = _C(768, 160)
        self.Mixed_6e = _C(768, 192)
        self.Mixed_7a = _D(768)
        self.Mixed_7b = _E(1280, _averaged)
        self.Mixed_7c = _E(2048, _largest)
        self.fc = nn.Linear(SIZE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = functional.max_pool2d(x, 3, 2)  # to 73x73
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = functional.max_pool2d(x, 3, 2)  # to 35x35
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6a(x)  # to 17x17
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7a(x)  # to 8x8
        x = self.Mixed_7c(self.Mixed_7b(x))
        return x.mean((2, 3))


class _Convolution(nn.Module):
    """Convolution, normalisation and ReLU; strided ones have no padding."""

    def __init__(
        self, inputs: int, outputs: int, side: int | tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        rows, cols = (side, side) if isinstance(side, int) else side
        padding = (rows // 2, cols // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (rows, cols), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


def _averaged(x: Tensor) -> Tensor:
    """Means of 3x3 cells; the border's are of fewer, as in TensorFlow."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    """Maxima of 3x3 cells."""
    return functional.max_pool2d(x, 3, 1, 1)


class _A(nn.Module):
    """35x35: up to 5x5; `pooled` channels come of the averages."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(inputs, 64, 1)
        self.branch5x5_1 = _Convolution(inputs, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5)
        self.branch3x3dbl_1 = _Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3)
        self.branch_pool = _Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_averaged(x))], 1)


class _B(nn.Module):
    """35x35 to 17x17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, 2)], 1)


class _C(nn.Module):
    """17x17: 7x7 in two steps, with `between` channels between them."""

    def __init__(self, inputs: int, between: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(inputs, 192, 1)
        self.branch7x7_1 = _Convolution(inputs, between, 1)
        self.branch7x7_2 = _Convolution(between, between, (1, 7))
        self.branch7x7_3 = _Convolution(between, 192, (7, 1))
        self.branch7x7dbl_1 = _Convolution(inputs, between, 1)
        self.branch7x7dbl_2 = _Convolution(between, between, (7, 1))
        self.branch7x7dbl_3 = _Convolution(between, between, (1, 7))
        self.branch7x7dbl_4 = _Convolution(between, between, (7, 1))
        self.branch7x7dbl_5 = _Convolution(between, 192, (1, 7))
        self.branch_pool = _Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_averaged(x))], 1)


class _D(nn.Module):
    """17x17 to 8x8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(inputs, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(inputs, 192, 1)
        self.branch7x7x3_2 = _Convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = _Convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, functional.max_pool2d(x, 3, 2)], 1)


class _E(nn.Module):
    """8x8: rows and columns side by side; `pool` goes before the last branch."""

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Convolution(inputs, 320, 1)
        self.branch3x3_1 = _Convolution(inputs, 384, 1)
        self.branch3x3_2a = _Convolution(384, 384, (1, 3))
        self.branch3x3_2b = _Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = _Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3)
        self.branch3x3dbl_3a = _Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = _Convolution(384, 384, (3, 1))
        self.branch_pool = _Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three), self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double),
                self.branch_pool(self.pool(x)),
            ],
            1,
        )  # fmt: skip


def shapes_of(network: nn.Module) -> Shapes:
    """Of every tensor that a file of weights must hold; how many batches a normalisation saw counts for nothing."""
    state = network.state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def _read(path: Path, shapes: Shapes) -> tuple[dict[str, Tensor], str]:
    """Weights by their names, and what they are called: the file's name and hash, and whether it is another's."""
    if not path.is_file():
        found = "no plain file" if path.exists() else "no such file"
        raise InputError(sentence(path, expected=WHAT, found=found, fix=FIX))
    digest = _digest(path)
    name, published = f"{path.name}, SHA-256 {digest[:8]}", digest.startswith(DIGEST)
    if path.suffix == SUFFIX:
        tensors = _loaded(path, shapes)
    elif published:
        tensors = read_pickle(path, [*shapes], what=WHAT, fix=FIX)
        _check(path, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, shapes)
    else:
        expected, found = f"SHA-256 {DIGEST}... of the published {WHAT}", f"{digest[:8]}..."
        fix = f"fetch {URL} again, or give other weights of that network as {SUFFIX}"
        raise InputError(sentence(path, expected=expected, found=found, fix=fix))
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(sentence(path, expected="finite weights", found=f"others in {key}", fix=FIX))
    return tensors, name if published else f"{name}, not the published file"


def _loaded(path: Path, shapes: Shapes) -> dict[str, Tensor]:
    """Of a safetensors file, as float32; nothing is read before names and shapes are right."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            there = set(file.keys())
            _check(path, {key: tuple(file.get_slice(key).get_shape()) for key in shapes if key in there}, shapes)
            return {key: file.get_tensor(key).float() for key in shapes}
    except (OSError, SafetensorError) as error:
        raise InputError(sentence(path, f"cannot be read as {WHAT} ({error})", fix=FIX)) from error


def _check(path: Path, found: Shapes, expected: Shapes) -> None:
    """Refuses a file in which a tensor is missing or of another shape."""
    for key, shape in expected.items():
        if found.get(key) != shape:
            own = "x".join(map(str, found[key])) or "a single number" if key in found else "none"
            wanted = f"{WHAT}, in which {key} is {'x'.join(map(str, shape))}"
            raise InputError(sentence(path, expected=wanted, found=own, fix=FIX))


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(sentence(path, f"cannot be read ({error.strerror})", fix=FIX)) from error
