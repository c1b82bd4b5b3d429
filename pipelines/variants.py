"""Several images of one layout: which of a component's best hits each of them takes (SIMS, section "Diversity")."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..index.result import Component, Hit, Retrieval
from ..storage.classes import Layout

Key = tuple[int, int]
"""Of a piece among those of a layout: number of the component, id of the segment."""


class Choice(NamedTuple):
    """The component of that number and the segment that shall cover it."""

    number: int
    component: Component
    hit: Hit

    @property
    def key(self) -> Key:
        """Equal for what is one piece."""
        return self.number, self.hit.segment_id


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


def chosen(retrieval: Retrieval, k: int, seed: int, digest: bytes, variant: int) -> list[Choice]:
    """One hit for every component that has any: the first for variant 0, a random one of the first k for the others."""
    found = [(number, component) for number, component in enumerate(retrieval) if component.hits]
    if variant == 0:
        return [Choice(number, component, component.hits[0]) for number, component in found]
    random = random_of(seed, digest, variant, Draw.HITS)
    ranks = [int(random.integers(min(k, len(component.hits)))) for _, component in found]
    return [Choice(*each, each[1].hits[rank]) for each, rank in zip(found, ranks, strict=True)]
