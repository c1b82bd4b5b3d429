"""What variants of a layout share, and what each of them has drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..index.result import Retrieval
from ..storage.classes import Layout
from ..synth.canvas import Placement


@dataclass(frozen=True, eq=False)
class Asked:
    """A layout with its hits, by score and `together` by what goes together: what all of its variants share."""

    digest: bytes
    retrieval: Retrieval
    together: Retrieval
    layout: Layout
    strange: tuple[int, ...]
    leads: dict[tuple[int, int], float] = field(default_factory=dict)

    def hits(self, variant: int) -> Retrieval:
        """What that variant draws from."""
        return self.retrieval if variant else self.together


class Drawn:
    """A variant's placements, the numbers of their components, and the pairs whose order the canvas shows."""

    def __init__(
        self, variant: int, numbers: Sequence[int], placements: Sequence[Placement], pairs: Iterable[tuple[int, int]]
    ) -> None:
        self.variant, self.placements, self.pairs = variant, placements, list(pairs)
        self.numbered = [(numbers[a], numbers[b]) for a, b in self.pairs]
