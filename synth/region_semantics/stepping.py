"""Losses of latents and their gradients, as they are or compiled for a batch of one size."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from ..compiling.backends import private_cache

EAGER = "eager"


class Gradients:
    """`(N, Z)` latents to `(N,)` losses and the gradient of each by its own latent.

    Args:
        loss: of latents, each alone.
        compiled: by Inductor, on a GPU as a CUDA graph; a batch is padded to the one size. Where the first step fails
            so, all run as they are.

    Attributes:
        backend: what runs the steps; said: why it is not the compiler that was asked for; warming: seconds it took.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor], compiled: bool = False) -> None:
        self.losses = torch.no_grad()(loss)
        self._loss = loss
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self.backend, self.said, self.warming = EAGER, "", 0.0
        self._wanted = compiled

    def __call__(self, latents: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Args: latents: `(N, Z)`; size: of every batch, at least N, for compiled steps."""
        if self._wanted:
            self._compile(latents, size)
        if self._compiled is None:
            return _differentiated(self._loss, latents)
        n = len(latents)
        padded = torch.cat([latents, latents[:1].expand(size - n, -1)])
        losses, gradients = _differentiated(self._compiled, padded)
        return losses[:n].clone(), gradients[:n].clone()

    def _compile(self, latents: Tensor, size: int) -> None:
        began, self._wanted = perf_counter(), False
        device = latents.device.type
        compiled = torch.compile(
            self._loss, fullgraph=True, dynamic=False, mode="reduce-overhead" if device == "cuda" else "default"
        )
        try:
            with private_cache():
                for _ in range(3 if device == "cuda" else 1):  # a graph is recorded at the second call
                    _differentiated(compiled, latents[:1].expand(size, -1).contiguous())
        except Exception as error:  # compilers raise many kinds
            self.said = f"the steps run uncompiled: {' '.join(str(error).split())[:300]}"
        else:
            self._compiled, self.backend = compiled, f"inductor {device}"
        self.warming = perf_counter() - began


def _differentiated(loss: Callable[[Tensor], Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        z = latents.detach().requires_grad_()
        losses = loss(z)
        (gradients,) = torch.autograd.grad(losses.sum(), z)
    return losses.detach(), gradients
