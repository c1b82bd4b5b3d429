"""Losses: perceptual with weights that find themselves (CRN, section 3.3), parsing, and hinge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from .features import LAYERS, Features

PIXEL = "pixel"


class PerceptualLoss(nn.Module):
    """Mean absolute differences of pixels and of features, each weighted to count as much as the pixels.

    The papers hard-code divisors, which are the terms' means relative to that of the pixels. Here the weights follow
    the running means over the first `calibration_steps` calls in training mode, and stay as they are from then on.
    `weights`, `sums` and `steps` are buffers: a state dict resumes them. The features' own weights are not part of it.

    Args:
        features: frozen; `None` only with `image_space`.
        layers: names of those compared.
        calibration_steps: calls after which the weights are frozen.
        image_space: compare nothing but pixels (CRN's baseline).
    """

    weights: Tensor
    sums: Tensor
    steps: Tensor

    def __init__(
        self,
        features: Features | None,
        layers: Sequence[str] = LAYERS,
        calibration_steps: int = 100,
        *,
        image_space: bool = False,
    ) -> None:
        super().__init__()
        if features is None and not image_space:
            raise ValueError("a perceptual loss needs features")
        self.features = None if image_space else features
        self.layers = () if image_space else tuple(layers)
        self.calibration_steps = calibration_steps
        terms = 1 + len(self.layers)
        self.register_buffer("weights", torch.ones(terms))
        self.register_buffer("sums", torch.zeros(terms, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_state_dict_post_hook(_without_features)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_own_features)  # type: ignore[no-untyped-call]

    @property
    def names(self) -> tuple[str, ...]:
        """The terms, in the order of `weights`."""
        return PIXEL, *self.layers

    @property
    def frozen(self) -> bool:
        """Whether calibration is over."""
        return int(self.steps) >= self.calibration_steps

    def forward(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms, unweighted; in training mode and before it is over, calibrates on them.

        Args:
            image: `(N, 3, H, W)` around [-1, 1]; target: `(N, 3, H, W)` in [-1, 1], takes no gradient.

        Returns:
            name to scalar: `pixel`, then each layer.
        """
        terms = {PIXEL: functional.l1_loss(image, target)}
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(target, self.layers)
            found = self.features(image, self.layers)
            terms |= {name: functional.l1_loss(found[name], wanted[name]) for name in self.layers}
        if self.training and not self.frozen:
            self._calibrate(terms)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `forward` returned."""
        # a copy: calibration may go on before this is differentiated
        return (torch.stack([terms[name] for name in self.names]) * self.weights.clone()).sum()

    @torch.no_grad()
    def _calibrate(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([terms[name].double() for name in self.names])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(values)
        self.sums += values
        self.steps += 1
        ratios = self.sums[0] / self.sums
        self.weights.copy_(torch.where(torch.isfinite(ratios) & (ratios > 0), ratios, 1.0))


def parsing_loss(logits: Tensor, indices: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that have a class; 0 where none has.

    Args:
        logits: `(N, C, H, W)`; indices: `(N, H, W)` int64, void is `C`.
    """
    void = logits.shape[1]
    total = functional.cross_entropy(logits, indices, ignore_index=void, reduction="sum")
    return total / (indices != void).sum().clamp(min=1)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss: scores of photographs above 1, of paintings below -1."""
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """The generator's side of it: the mean score of its paintings, negated."""
    return -fake.mean()


def _without_features(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}features.")]:
        del state[name]


def _with_own_features(module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    assert isinstance(module, PerceptualLoss)
    if module.features is not None:
        state.update({f"{prefix}features.{name}": held for name, held in module.features.state_dict().items()})
