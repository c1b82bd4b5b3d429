"""What is told of a painted layout, however many variants of it are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zeuxis.pipelines.evaluation import samples
from zeuxis.pipelines.evaluation.samples import VARIANTS, painted
from zeuxis.pipelines.evaluation.systems import SYSTEMS, WHOLE


class Clocked:
    """A painter that takes three seconds, and for the work that variants share one more each."""

    def paint(self, layout: None, variants: int, seed: int, *, source: str, stages: Any) -> list[Any]:
        shared = {"retrieve": 1.0, "fit": float(variants), "network": 1.0}
        report = SimpleNamespace(seconds=shared, share=0.5, transforms={"box": 2})
        images = [np.full((4, 6, 3), 10 * number, np.uint8) for number in range(variants)]
        return [SimpleNamespace(image=image, retrieval=[], report=report) for image in images]


def test_seconds_are_those_of_a_picture_by_itself_whether_variants_are_shown_or_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples, "VARIED", 2)
    system = next(each for each in SYSTEMS if each.name == WHOLE)
    sources: Any = SimpleNamespace(names=["a", "b", "c"])
    painter: Any = Clocked()
    making: Any = lambda _, make: make()  # noqa: E731
    found = list(painted(painter, system, sources, 0, making, "models"))
    assert [len(each.variants) for each in found] == [VARIANTS, VARIANTS, 0]
    assert [each.seconds for each in found] == [3.0, 3.0, 3.0]
    for each in found[:2]:
        assert np.array_equal(each.image, each.variants[0])
        assert [variant.max() for variant in each.variants] == [0, 10, 20]
        assert each.transforms == {"box": 2}
