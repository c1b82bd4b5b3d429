"""Between pictures and tensors: photographs to [-1, 1], layouts to one channel a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.classes import VOID, Layout, SemanticClass
from ..storage.images import Photograph


def class_indices(classes: Sequence[SemanticClass]) -> npt.NDArray[np.int64]:
    """`(65536,)`: bank class id to channel; ids that are none of the classes, and `VOID`, to the last one."""
    table = np.full(VOID + 1, len(classes), np.int64)
    table[[entry.id for entry in classes]] = np.arange(len(classes))
    return table


def one_hot(indices: Tensor, n_classes: int) -> Tensor:
    """`(N, H, W)` int64 channel numbers, void is `n_classes`, to `(N, n_classes + 1, H, W)` float32 of 0 and 1."""
    n, rows, cols = indices.shape
    # a fifth of the time of `functional.one_hot`, which makes whole numbers, channels last
    return indices.new_zeros((n, n_classes + 1, rows, cols), dtype=torch.float32).scatter_(1, indices[:, None], 1.0)


def to_tensor(image: Photograph) -> Tensor:
    """`(H, W, 3)` uint8 RGB to `(3, H, W)` float32 in [-1, 1]."""
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).movedim(-1, 0).float() / 127.5 - 1


def to_image(tensor: Tensor) -> Photograph:
    """`(3, H, W)` in [-1, 1], values beyond clipped, to `(H, W, 3)` uint8 RGB."""
    scaled = ((tensor.detach().float() + 1) * 127.5).round().clamp(0, 255).byte()
    image: Photograph = scaled.movedim(0, -1).contiguous().cpu().numpy()
    return image


def resized(layout: Layout, size: tuple[int, int]) -> Layout:
    """A layout at `(rows, cols)` by nearest neighbour, each axis on its own, as layouts are sampled to the frame."""
    from ..storage.layouts import sample_to_frame

    return np.asarray(sample_to_frame(layout, size), np.uint16)
