"""What a call of the painter asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..index.request import Options, asked_for
from ..storage.errors import InputError, sentence
from .painted_files import check_variants
from .painting_steps import Stages


@dataclass(frozen=True)
class Wish:
    """What is asked of every layout of a call; the fields are arguments of `Painter.paint_many`."""

    variants: int
    seed: int
    k: int
    dataset: str | None
    densify: bool
    stages: Stages
    options: Options


def wish_of(
    variants: int, seed: int, k: int, dataset: str | None, densify: bool, stages: Stages | None, options: Options
) -> Wish:
    """The settings of a call, checked.

    Raises:
        InputError: one that cannot be.
    """
    check_variants(variants)
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise InputError(sentence("seed", expected="a whole number of at least 0", found=repr(seed)))
    if options.get("sample") is not None:
        raise InputError(sentence("sample", "variants draw by themselves", fix="give variants, seed and k instead"))
    stages, rest = stages or Stages(), dict(options)
    coherent = rest.pop("coherent", None)
    if coherent is not None:
        stages = replace(stages, coherent=cast(float, coherent))
    asked_for(k, cast(Options, rest))
    return Wish(int(variants), int(seed), int(k), dataset, densify, stages, cast(Options, rest))
