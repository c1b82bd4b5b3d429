"""Whether references are of the domain of a generator, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...storage.errors import sentence
from ...synth.features import Features
from ...synth.region_semantics.shared_features import is_shared
from ...synth.region_semantics.strangeness import strangeness, whole
from .references import Reference

STRANGE = 3.5
"""Deviations beyond which a reference is said to be of another domain."""


def how_strange(
    name: str, samples: Tensor, features: Features, references: Sequence[Reference], device: torch.device
) -> tuple[list[str], list[float | None]]:
    """Warnings of references that are cut, or of another domain than a generator's pictures; how strange each is.

    Features that two domains share are for references of the other one, which are then not warned of.

    Args:
        name: of the generator; samples: `(N, 3, R, R)` of its own pictures; those that are no numbers are left out.

    Returns:
        deviations of each reference, see `strangeness`; None where too few samples are left, which is a warning.
    """
    found = [strangeness(features, each.tensors(device)[0], samples) for each in references]
    warned = []
    if None in found:
        left = f"{len(whole(samples))} of {len(samples)} of its own pictures are numbers"
        warned.append(sentence(name, f"{left}, too few to tell whether a reference is of its domain"))
    for each, strange in zip(references, found, strict=True):
        if each.cut > 0:
            warned.append(sentence(each.name, f"{each.cut:.0%} of its region lie outside the square that is seen"))
        if strange is not None and strange > STRANGE and not is_shared(features):
            said = f"lies {strange:.1f} deviations from the generator's own pictures, beyond {STRANGE:g}"
            fix = "it may be of another domain: expect pictures that share little with it"
            warned.append(sentence(each.name, said, fix=fix))
    return warned, found
