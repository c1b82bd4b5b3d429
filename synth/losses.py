"""Losses: perceptual with weights that find themselves, and of collections (CRN, section 3); parsing; adversarial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from .features import LAYERS, Features
from .layers import averaged, recomputed

PIXEL = "pixel"
MEAN_SHARE = 0.001
"""Of the loss of a collection: what all of its pictures count for, the rest is for the best (CRN's code)."""


class FeatureLoss(nn.Module):
    """Absolute differences of pixels and of features, each weighted to count as much as the pixels.

    The papers hard-code divisors, which are the terms' means relative to that of the pixels. Here the weights follow
    the running means over `calibration_steps` steps in training mode, and stay as they are from then on. CRN waits a
    hundred epochs before it rescales (section 3.3): `wait` steps, during which all weights are 1.
    `weights`, `sums` and `steps` are buffers: a state dict resumes them. The features' own weights are not part of it.

    Args:
        features: frozen; `None` only with `image_space`.
        layers: names of those compared.
        calibration_steps: after which the weights are frozen, those of `wait` not counted.
        image_space: compare nothing but pixels (CRN's baseline).
        wait: steps before the first that is counted.
        accumulate: calls that make a step.

    Attributes:
        steps: how often it was called so far, to calibrate or to wait.
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
        wait: int = 0,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        if features is None and not image_space:
            raise ValueError("a perceptual loss needs features")
        self.features = None if image_space else features
        self.layers = () if image_space else tuple(layers)
        self.calibration_calls, self.wait = calibration_steps * accumulate, wait * accumulate
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
        return int(self.steps) >= self.wait + self.calibration_calls

    def _seen(self, image: Tensor) -> dict[str, Tensor]:
        """What is compared, in the order of `names`."""
        return {PIXEL: image} | ({} if self.features is None else self.features(image, self.layers))

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `forward` returned."""
        # a copy: calibration may go on before this is differentiated
        return (torch.stack([terms[name] for name in self.names]) * self.weights.clone()).sum()

    @torch.no_grad()
    def _calibrate(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([terms[name].double() for name in self.names])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(values)
        self.steps += 1
        if int(self.steps) <= self.wait:
            return
        self.sums += values
        ratios = self.sums[0] / self.sums
        self.weights.copy_(torch.where(torch.isfinite(ratios) & (ratios > 0), ratios, 1.0))


class PerceptualLoss(FeatureLoss):
    """Of a picture: mean absolute differences (CRN, equation 1)."""

    def forward(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms, unweighted; in training mode and before it is over, calibrates on them.

        Args:
            image: `(N, 3, H, W)` around [-1, 1]; target: `(N, 3, H, W)` in [-1, 1], takes no gradient.

        Returns:
            name to scalar: `pixel`, then each layer.
        """
        with torch.no_grad():
            wanted = self._seen(target)
        found = self._seen(image)
        terms = {name: functional.l1_loss(found[name], wanted[name]) for name in self.names}
        if self.training and not self.frozen:
            self._calibrate(terms)
        return terms


class DiversityLoss(FeatureLoss):
    """Of a collection of k pictures: for each class the one that paints it best (CRN, equation 3), in each sample.

        sum over p of 0.999 min over u of E(u, p) + 0.001 mean over u of E(u, p),
        E(u, p) = sum over layers l of lambda(l) mean over channels and pixels of mask(l, p) |difference(l, u)|

    The second term is that of the released code: without it a picture that is never the best learns nothing. Void is a
    class like others. Masks are the layout, shrunk by area to each layer; of one picture it is the perceptual loss.

    Attributes:
        recompute: whether the backward pass computes each picture's features once more instead of keeping them.
    """

    recompute = False

    def forward(self, images: Tensor, target: Tensor, layout: Tensor) -> dict[str, Tensor]:
        """What each layer contributes, unweighted; in training mode and before it is over, calibrates on that.

        The best pictures are those by the weights that `total` then uses.

        Args:
            images: `(N, k, 3, H, W)` around [-1, 1]; target: `(N, 3, H, W)` in [-1, 1], takes no gradient.
            layout: `(N, C + 1, H, W)` one-hot, void last.

        Returns:
            name to scalar: `pixel`, then each layer; their weighted sum, `total`, is the loss.
        """
        errors = self.errors(images, target, layout)
        terms = self._contributions(errors)
        if self.training and not self.frozen:
            self._calibrate(terms)
            terms = self._contributions(errors)
        return terms

    def errors(self, images: Tensor, target: Tensor, layout: Tensor) -> Tensor:
        """`(L, N, k, C + 1)` float32: for each term, sample, picture and class the mean masked difference."""
        with torch.no_grad():
            wanted = list(self._seen(target).values())
            masks = [averaged(layout, (each.shape[-2], each.shape[-1])) for each in wanted]

        def compared(image: Tensor) -> Tensor:
            apart = [
                (found.float() - real.float()).abs().mean(1, keepdim=True)
                for found, real in zip(self._seen(image).values(), wanted, strict=True)
            ]
            return torch.stack([(mask * each).mean((2, 3)) for mask, each in zip(masks, apart, strict=True)])

        return torch.stack([recomputed(compared, each, yes=self.recompute) for each in images.unbind(1)], 2)

    def _contributions(self, errors: Tensor) -> dict[str, Tensor]:
        best = (errors.detach() * self.weights[:, None, None, None]).sum(0).argmin(1)
        chosen = errors.gather(2, best[None, :, None].expand(len(errors), -1, 1, -1)).squeeze(2)
        each = (1 - MEAN_SHARE) * chosen + MEAN_SHARE * errors.mean(2)
        return dict(zip(self.names, each.sum(2).mean(1).unbind(), strict=True))


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


def gan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of the first GANs: cross-entropy of logits, photographs 1 and paintings 0."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def gan_generator(fake: Tensor) -> Tensor:
    """The generator's side of it, the one that does not saturate: cross-entropy of its paintings with 1."""
    return functional.softplus(-fake).mean()


def _without_features(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}features.")]:
        del state[name]


def _with_own_features(module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    assert isinstance(module, FeatureLoss)
    if module.features is not None:
        state.update({f"{prefix}features.{name}": held for name, held in module.features.state_dict().items()})
