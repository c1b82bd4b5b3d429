"""Held-out layouts as a system paints them, each once whatever interrupts the evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...storage.images import Photograph
from ..paint import Painter
from ..training.sources import BankSources
from .making import Arrays, Making
from .systems import CRN, WHOLE, System

VARIANTS = 3
VARIED = 20
"""Layouts of which the whole pipeline paints `VARIANTS` variants, to see how they differ."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One layout painted by one system: its picture, and what the painter told of it; no score: nothing was asked of
    the bank. `seconds` are those of the picture painted by itself, whatever variants there are besides."""

    image: Photograph
    variants: Sequence[Photograph]
    share: float
    score: float | None
    seconds: float
    transforms: dict[str, int]

    def arrays(self) -> Arrays:
        """All of it, for `of`."""
        return {
            "images": np.stack([self.image, *self.variants]), "share": np.array(self.share),
            "score": np.array(np.nan if self.score is None else self.score), "seconds": np.array(self.seconds),
            "transforms": np.array(list(self.transforms), str), "counts": np.array(list(self.transforms.values()), int),
        }  # fmt: skip

    @classmethod
    def of(cls, arrays: Arrays) -> Sample:
        """What `arrays` has told."""
        first, *variants = arrays["images"]
        score = float(arrays["score"])
        counts = zip(arrays["transforms"].tolist(), arrays["counts"].tolist(), strict=True)
        return cls(
            first, variants, float(arrays["share"]), None if np.isnan(score) else score, float(arrays["seconds"]),
            dict(counts),
        )  # fmt: skip


def painted(
    painter: Painter, system: System, sources: BankSources, seed: int, making: Making, folder: str
) -> Iterator[Sample]:
    """A system's pictures of held-out layouts, each kept from what its own source's group, val and test hold."""
    for number, name in enumerate(sources.names):
        variants = _variants(painter, system) if number < VARIED else 1
        yield Sample.of(
            making([system.name, folder, name], partial(_one_painted, painter, system, name, variants, seed))
        )


def _one_painted(painter: Painter, system: System, name: str, several: int, seed: int) -> Arrays:
    """A `Sample` of a source's layout."""
    (first,) = painter.paint(None, 1, seed, source=name, stages=system.stages)
    # the time of one is that of a call of its own: in a call of several they share most of the work
    variants = painter.paint(None, several, seed, source=name, stages=system.stages) if several > 1 else []
    scores = [component.hits[0].score for component in first.retrieval if component.hits]
    score = float(np.mean(scores)) if scores else None
    return Sample(
        system.finish(first), [system.finish(each) for each in variants], system.share(first), score,
        sum(first.report.seconds.values()), dict(first.report.transforms),
    ).arrays()  # fmt: skip


def _variants(painter: Painter, system: System) -> int:
    """How many images of a layout a system shows, so that it is seen how they differ."""
    if system.name == WHOLE:
        return VARIANTS
    return min(VARIANTS, painter.images(system.stages)) if system.stages.kind == CRN else 1
