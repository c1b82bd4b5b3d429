"""Labels of images that a network of other classes painted: nothing stands in them that the image does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipelines.synthesis.conftest import picture
from tests.pipelines.tiny_models import SIZE, save_models
from zeuxis.index.request import as_layout
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.synthesis.labels import Reading
from zeuxis.pipelines.synthesis.synthesize import synthesize
from zeuxis.storage.errors import UnfinishedError, ZeuxisError
from zeuxis.storage.reader import Reader
from zeuxis.synth.encoding import resized

CAR, SIGN, VOID = 2, 3, 255
Shown = tuple[list[np.ndarray], list[np.ndarray]]


@pytest.fixture(scope="module")
def reader(home: Path) -> Reader:
    return Reader(home / "bank")


@pytest.fixture(scope="module")
def models(home: Path, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that know no car."""
    classes = [entry for entry in reader.classes if entry.name != "car"]
    folder = tmp_path_factory.mktemp("strangers") / "models"
    return save_models(folder, home / "bank", "crn", "synthesis", classes=classes, images=1)


@pytest.fixture
def run(home: Path, models: Path, tmp_path: Path) -> Callable[..., Shown]:
    """Labels and instances of images of two layouts."""

    def call(**settings: Any) -> Shown:
        given = {"limit": 2, "workers": 1, "transform": "analytic", "order": "classes"} | settings
        synthesize(home / "bank", models, tmp_path / "out", home / "layouts", **given)
        kinds = (sorted((tmp_path / "out" / kind).rglob("*.png")) for kind in ("labels", "instances"))
        labels, instances = ([picture(path) for path in paths] for paths in kinds)
        return labels, instances

    return call


@pytest.fixture
def layouts(home: Path, reader: Reader) -> list[np.ndarray]:
    """Those that are painted, at the size of the images."""
    found = [resized(as_layout(home / f"layouts/{name}.png", reader), SIZE) for name in (0, 2)]
    assert all((layout == CAR).any() for layout in found)
    return [np.where(layout == 65535, VOID, layout) for layout in found]


def test_from_the_layout_alone_no_class_is_shown_that_the_network_does_not_know(run: Any, layouts: Any):
    for label, instances, layout in zip(*run(network="crn", map_classes={}, coco=True), layouts, strict=True):
        assert np.array_equal(label, np.where(layout == CAR, VOID, layout))
        assert np.array_equal(instances > 0, layout == SIGN)


def test_such_a_class_is_labelled_where_a_segment_of_it_is_seen(run: Any, layouts: Any):
    for label, instances, layout in zip(*run(map_classes={}, dataset="folder"), layouts, strict=True):
        assert 0 < (label == CAR).sum() < (layout == CAR).sum()  # not on its elided boundary, nor beside a segment
        assert np.array_equal(label, np.where((layout == CAR) & (label != CAR), VOID, layout))
        assert np.array_equal(instances > 0, np.isin(label, (CAR, SIGN)))


def test_classes_that_a_network_takes_as_one_stay_apart(run: Any, layouts: Any):
    labels, _ = run(network="crn", map_classes={"sign": ["sign", "car"]})
    assert all(map(np.array_equal, labels, layouts))


def test_a_label_that_names_more_than_was_painted_is_an_error(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reading, "label", lambda self, layout, canvas, seen: (layout, None))
    with pytest.raises(ZeuxisError, match="not the one that was painted"):
        run(network="crn", map_classes={})


def test_what_is_mapped_back_is_what_was_given(models: Path, reader: Reader):
    """Also where a class of the network has lost its first one to another."""
    wishes: dict[str, Any] = {"sign": ["car"], "sky": ["car", "sign"]}
    model = Models(models, reader, wishes).load("crn")
    reading, layout = Reading(model, reader.classes, blind=True), np.array([[0, 1, 2, 3, 65535]], np.uint16)
    assert np.array_equal(model.channel_of[reading.given(layout)], model.channel_of[layout])
    assert np.array_equal(model.channel_of[reading.alike[layout]], model.channel_of[layout])


def test_a_device_without_memory_for_the_judge_is_said(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    def full(*_: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("zeuxis.pipelines.synthesis.session.agreement", full)
    models = save_models(tmp_path / "models", home / "bank", "crn", "judge", images=1)
    with pytest.raises(UnfinishedError, match="memory for one image"):
        synthesize(home / "bank", models, tmp_path / "out", home / "layouts", limit=1, network="crn", agreement=0.5)
