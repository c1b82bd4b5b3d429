"""Several images of one layout: which of a component's best hits each of them takes (SIMS, section "Diversity")."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np

from ..index.result import Component, Hit, Retrieval
from ..storage.classes import Layout

Choice = tuple[Component, Hit]
"""A component and the segment that shall cover it."""


class Draw(IntEnum):
    """What is drawn: each has random numbers of its own, so that one does not move the other."""

    HITS = 0
    ELISION = 1


def digest_of(layout: Layout) -> bytes:
    """16 bytes that stand for a layout: its size and its class ids."""
    told = hashlib.blake2b(np.asarray(layout.shape, "<u4").tobytes(), digest_size=16)
    told.update(np.ascontiguousarray(layout, "<u2").tobytes())
    return told.digest()


def random_of(seed: int, digest: bytes, variant: int, draw: Draw) -> np.random.Generator:
    """The random numbers of one draw for one variant of one layout; equal arguments, equal numbers."""
    return np.random.default_rng([seed, *np.frombuffer(digest, "<u4").tolist(), variant, int(draw)])


def chosen(retrieval: Retrieval, seed: int, digest: bytes, variant: int) -> list[Choice]:
    """One hit for every component that has any: the first for variant 0, a random one of them for the others.

    Hits are drawn by their rank in the score, so that a coherent order of them does not change which are drawn.
    """
    found = [component for component in retrieval if component.hits]
    if variant == 0:
        return [(component, component.hits[0]) for component in found]
    random = random_of(seed, digest, variant, Draw.HITS)
    return [(each, _by_score(each)[int(random.integers(len(each.hits)))]) for each in found]


def _by_score(component: Component) -> list[Hit]:
    return sorted(component.hits, key=lambda hit: (-hit.score, hit.segment_id))
