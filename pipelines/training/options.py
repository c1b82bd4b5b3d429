"""How a network is trained: what the user says, and what a preset means for each network."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...storage.errors import InputError, sentence
from ...synth.presets import MULTIPLE, Preset, preset
from .own_options import ADVERSARIAL_LR, ALL_VARIANTS, at_least, check_own

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LARGEST_SEED = 2**64 - 1
"""Torch takes no larger one."""
LARGEST_LR = 1e6
MOST_AT_ONCE = 65_536
"""Pictures of a batch, and batches of a step: far above what any memory holds."""
WORKERS_PER_CORE = 4
EMA = 0.999
"""Decay of the running mean of the weights, but where a network has another one of its own."""
ADVERSARIAL = 0.1
"""Weight of a discriminator in the loss of the synthesis network, but where pixels alone are compared."""


@dataclass(frozen=True)
class Share:
    """What one network gets of a preset.

    Attributes:
        steps, batch: times those of the preset; full_steps: at full width, where it differs.
        full_batch: pictures of a step at full width, where it is not that of the preset.
        lr: learning rate at the narrow widths; full_lr: at full width.
        ema: decay of the running mean of the weights at the narrow widths; at full width the usual one.
        narrow_rows: of the pictures at the narrow widths, at most, for networks that look at a piece at a time.
        sides: of square pictures, for networks that are built for these; the largest that the preset's rows hold.
    """

    steps: float = 1.0
    full_steps: float | None = None
    batch: float = 1.0
    full_batch: int | None = None
    lr: float = 5e-4
    full_lr: float = 1e-4
    ema: float = EMA
    narrow_rows: int | None = None
    sides: tuple[int, ...] = ()

    def size(self, named: Preset, frame: tuple[int, int]) -> tuple[int, int]:
        """`(rows, cols)` of the pictures by a preset, in the frame's shape or square."""
        if self.sides:
            side = max(each for each in self.sides if each <= named.rows)
            return side, side
        if named.width < 1 and self.narrow_rows is not None:
            named = replace(named, rows=min(named.rows, self.narrow_rows))
        return named.size(frame)

    def n_steps(self, named: Preset) -> int:
        """Optimiser steps by a preset."""
        share = self.steps if named.width < 1 or self.full_steps is None else self.full_steps
        return max(1, round(named.steps * share))

    def n_batch(self, named: Preset) -> int:
        """Pictures of a step by a preset."""
        if named.width >= 1 and self.full_batch is not None:
            return self.full_batch
        return max(1, round(named.batch * self.batch))


SIDES = (64, 128, 256)
"""Of the square pictures of networks that are built for one size."""
SHARES = {
    "features": Share(steps=1.0, full_steps=0.1, batch=1.0, full_batch=8, lr=2e-3, full_lr=3e-4),
    "transform": Share(2.7, full_steps=0.125, batch=1.0, full_batch=10, lr=1e-3, full_lr=1e-5, narrow_rows=64),
    "ordering": Share(1.0, full_steps=0.125, batch=0.25, full_batch=10, lr=2e-3, full_lr=1e-5, narrow_rows=64),
    "densify": Share(steps=1.0, full_steps=0.125, batch=1.0, lr=1e-3),
    "synthesis": Share(steps=1.0, batch=1.0, lr=1e-3),
    "judge": Share(steps=1.0, full_steps=0.1, batch=1.0, full_batch=8, lr=1e-3, full_lr=3e-4),
    "crn": Share(steps=1.0, full_steps=0.25, batch=1.0, lr=1e-3),
    "roi": Share(steps=2.0, full_steps=0.2, batch=2.0, lr=1e-3, sides=SIDES),
    "key-patches": Share(steps=2.0, full_steps=0.2, batch=2.0, lr=1e-3, full_lr=2e-4, ema=0.995, sides=SIDES),
    "generator": Share(steps=4.0, full_steps=0.2, batch=1.0, full_batch=16, lr=1e-3, full_lr=1e-4, sides=SIDES[:1]),
    "domains": Share(steps=1.0, full_steps=0.2, batch=2.0, lr=1e-3, full_lr=3e-4, sides=SIDES[:1]),
}
"""By network, in the order in which they are trained: features first, since losses need them."""
NETWORKS = tuple(SHARES)
RIVALS = ("crn", "roi", "key-patches", "generator", "domains")
"""Those that `all` leaves out: the painter does not need them."""


_PATHS = ("start", "second", "coarse")
"""Options that users may give as paths."""


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained; None stands for what the preset says (`resolved`).

    Attributes:
        preset: of `synth.presets`: width, resolution, batch and steps.
        steps: optimiser steps in all, those before an interruption included.
        batch: pictures a step, a device, and a part of an accumulated step.
        seed: of weights, data and dropout.
        lr: learning rate.
        precision: one of `PRECISIONS`.
        devices: how many, of the best kind there is; or `cpu`, `cpu:2`, `cuda`, `cuda:2`.
        accumulate: how many batches make a step.
        workers: processes that prepare batches; 0 prepares them in this one. The batches are the same.
        ema: decay of the running mean of the weights that is validated and kept; 0 keeps the weights themselves.
        size: `(rows, cols)` of the pictures, multiples of 32; default by the preset and the bank's frame.
        features: feature network of the losses: a path, or `vgg19`; default what is there.
        variant: one of `VARIANTS` of the network, or None.
        adversarial: weight of a discriminator of patches in the loss of the synthesis network; 0 leaves it out.
        images: pictures that CRN makes of a layout in one pass; None for one.
        checkpointing: less memory for more time: what the backward pass needs is computed once more; same numbers.
        vivid: CRN's targets are photographs with strengthened details and colours (`synth.vivid`).
        start: a checkpoint of CRN or of the synthesis network, coarser or of this size, whose weights a new training of
            that network begins with.
        calibrate_after: steps before CRN's loss weights are calibrated; None for none (the paper: 100 epochs).
        dataset: `kind:path` of photographs that RoI-GAN, key patches and generators are trained on, not a bank's.
        sliders: continuous ones of RoI-GAN, None for 10; categories: categorical ones of 10 choices, None for none.
        regions: what it draws, one of `roi_gan.regions.KINDS`; penalty: of the slope of its discriminator's scores.
        fourier, spectral, equalised: see `RoiConfig`; blend: as well, also of its rival, None for `membrane.BLEND`.
        augment: the discriminator of RoI-GAN, key patches or a generator sees changed pictures (DiffAugment).
        objects: of key patches and generators: name of a class whose segments' surroundings are the pictures; None
            for whole photographs.
        parts: of key patches: how many a picture has, None for 3, or `(fewest, most)`, drawn for each.
        patches: of key patches: `key` or `random` ones, or `mixed`: either, as likely; None for that.
        norm: of key patches: `group` or the paper's `batch`; objective: `hinge` or the paper's `log`; ratio: steps of
            discriminator and generator a batch, None for `(1, 1)` (the paper: `(1, 2)`).
        kind: of a generator; critic_steps: of WGAN-GP, for each of its generator.
        second: the bank of the second domain.
        coarse: of densify: a bank of coarse layouts that were drawn of the same sources; None simulates all.
        canvas: of the synthesis network: `NAME=VALUE` each, of `canvas_settings.CanvasSettings`; None for the defaults.
        validate_every: steps between two validations; log_every: between two rows of the log.
    """

    preset: str = "small"
    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    lr: float | None = None
    precision: str = "32-true"
    devices: int | str = 1
    accumulate: int = 1
    workers: int = 0
    ema: float | None = None
    size: tuple[int, int] | None = None
    features: str | None = None
    variant: str | None = None
    adversarial: float | None = None
    images: int | None = None
    checkpointing: bool = False
    vivid: bool = False
    start: str | None = None
    calibrate_after: int | None = None
    dataset: str | None = None
    sliders: int | None = None
    categories: int | None = None
    regions: str | None = None
    penalty: str | None = None
    fourier: bool = False
    spectral: bool = False
    equalised: bool = False
    blend: float | None = None
    augment: bool = False
    objects: str | None = None
    parts: int | tuple[int, int] | None = None
    patches: str | None = None
    norm: str | None = None
    objective: str | None = None
    ratio: tuple[int, int] | None = None
    kind: str | None = None
    critic_steps: int | None = None
    second: str | None = None
    coarse: str | None = None
    canvas: tuple[str, ...] | None = None
    validate_every: int | None = None
    log_every: int = 10

    @property
    def decay(self) -> float:
        """Of the running mean of the weights."""
        return EMA if self.ema is None else self.ema

    @property
    def width(self) -> float:
        """Multiplies the papers' channel counts."""
        return preset(self.preset).width

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the card."""
        paths = {name: None if (path := getattr(self, name)) is None else str(path) for name in _PATHS}
        return {**asdict(self), **paths, "size": list(self.size) if self.size else None}


def resolved(options: TrainOptions, network: str, frame: tuple[int, int]) -> TrainOptions:
    """Options of which none is None any more, but for those in `own_options.ONLY`.

    Args:
        network: one of `NETWORKS`; frame: of the bank.

    Raises:
        InputError: an option has a value that it cannot have.
    """
    check(options)
    named, share = preset(options.preset), SHARES[network]
    rate = share.full_lr if named.width >= 1 else share.lr
    return replace(
        options,
        steps=options.steps or share.n_steps(named),
        batch=options.batch or share.n_batch(named),
        lr=options.lr or (ADVERSARIAL_LR if options.variant in ("gan", "pix2pix") else rate),
        ema=options.ema if options.ema is not None else share.ema if named.width < 1 else EMA,
        size=options.size or share.size(named, frame),
        adversarial=_adversarial(options, network),
        validate_every=options.validate_every or (5000 if named.width >= 1 else 250),
    )


def check(options: TrainOptions) -> None:
    """Refuses values that cannot be, before anything is read or written.

    Raises:
        InputError: the sentence names the option.
    """
    preset(options.preset)
    for name in ("accumulate", "log_every"):
        at_least(name, getattr(options, name), 1)
    for name in ("steps", "batch", "validate_every"):
        if getattr(options, name) is not None:
            at_least(name, getattr(options, name), 1)
    for name in ("seed", "workers"):
        at_least(name, getattr(options, name), 0)
    cores = os.cpu_count() or 1
    for name, most in (
        ("seed", LARGEST_SEED),
        ("batch", MOST_AT_ONCE),
        ("accumulate", MOST_AT_ONCE),
        ("workers", WORKERS_PER_CORE * cores),
    ):
        if (getattr(options, name) or 0) > most:
            raise InputError(sentence(name, expected=f"at most {most:,}", found=f"{getattr(options, name):,}"))
    if options.lr is not None and not 0 < options.lr <= LARGEST_LR:
        expected = f"a number above 0, at most {LARGEST_LR:,.0f}"
        raise InputError(sentence("lr", expected=expected, found=repr(options.lr)))
    if options.ema is not None and not 0 <= options.ema < 1:
        raise InputError(sentence("ema", expected="a number from 0 to below 1", found=repr(options.ema)))
    if options.size is not None and any(side < MULTIPLE or side % MULTIPLE for side in options.size):
        found = "x".join(map(str, options.size))
        raise InputError(sentence("size", expected=f"ROWSxCOLS in multiples of {MULTIPLE}", found=found))
    if options.adversarial is not None and not 0 <= options.adversarial < math.inf:
        raise InputError(sentence("adversarial", expected="a number of at least 0", found=repr(options.adversarial)))
    for name, value, known in (
        ("precision", options.precision, PRECISIONS),
        ("variant", options.variant, (None, *ALL_VARIANTS)),
    ):
        if value not in known:
            expected = "one of " + ", ".join(each for each in known if each)
            raise InputError(sentence(f"{name} {value!r}", expected=expected, found="no such name"))
    check_own(options)
    kind, _ = devices_of(options)
    if options.precision == "16-mixed" and kind == "cpu":
        fix = "take bf16-mixed or 32-true"
        raise InputError(sentence("precision 16-mixed", expected="a GPU", found="none in use", fix=fix))


def _adversarial(options: TrainOptions, network: str) -> float:
    if options.adversarial is not None:
        return float(options.adversarial)
    return ADVERSARIAL if network == "synthesis" and options.variant != "image-space" else 0.0


def square_side(options: TrainOptions, sides: Sequence[int]) -> int:
    """The side of the pictures of a network that is built for square ones of some sizes.

    Raises:
        InputError: they are not square, or of another side.
    """
    assert options.size is not None
    if options.size[0] != options.size[1] or options.size[0] not in sides:
        expected = "one of " + ", ".join(f"{side}x{side}" for side in sides)
        raise InputError(sentence("size", expected=expected, found="x".join(map(str, options.size))))
    return options.size[0]


def devices_of(options: TrainOptions) -> tuple[str, int]:
    """`cpu` or `cuda`, and how many of them; of the CPU, processes.

    Raises:
        InputError: it is not of that form, or so many are not there.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, colon, count = str(options.devices).partition(":")
    if kind.isdecimal() and not colon:
        kind, colon, count = "cuda" if gpus else "cpu", ":", kind
    if kind not in ("cpu", "cuda") or (bool(colon) and not count.isdecimal()) or (colon and int(count) < 1):
        expected = "a number of devices from 1, or cpu, cuda, cpu:N, cuda:N"
        raise InputError(sentence("devices", expected=expected, found=repr(options.devices)))
    number = int(count) if colon else 1
    there = gpus if kind == "cuda" else os.cpu_count() or 1
    if number > there:
        noun = "GPUs" if kind == "cuda" else "CPU cores"
        raise InputError(sentence("devices", expected=f"at most the {there} {noun} that are here", found=str(number)))
    return kind, number


def is_emulated(options: TrainOptions) -> bool:
    """Whether the arithmetic of `precision` is one that this processor lacks, and so slower than single precision."""
    import torch

    if options.precision != "bf16-mixed" or devices_of(options)[0] != "cpu":
        return False
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
