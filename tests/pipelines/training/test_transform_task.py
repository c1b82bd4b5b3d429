"""The transformation network's task: segments moved by a known warp, and what is left of it."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from zeuxis.pipelines.training import transform
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.pipelines.training.transform import (
    TransformItems,
    TransformLoss,
    TransformTask,
    corner_errors,
    make_task,
    warp_losses,
)
from zeuxis.storage.reader import Reader
from zeuxis.synth.misalignment import Misalignment
from zeuxis.synth.transformation import warped

OPTIONS = TrainOptions(preset="tiny", steps=2, batch=2, lr=3e-3, size=(32, 64))
IDENTITY = torch.tensor([[1.0, 0, 0], [0, 1, 0]])

CLASSES = "id,name\n0,sky\n1,ground\n2,car\n3,sign\n"


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", "c")
    (photos.root / "classes.csv").write_text(CLASSES)
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


@pytest.fixture
def task(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(transform, "N_VALIDATION", 12)
    return make_task(reader, tmp_path / "models", OPTIONS)


def batch_of(items, n):
    return default_collate([items[k] for k in range(n)])


def test_an_item_depends_on_seed_and_number_alone(task):
    items, others = task.dataset(), TransformItems(task.examples, task.misalignment, seed=1)
    again = pickle.loads(pickle.dumps(items))
    for k in (0, 7, 3, 1000):
        assert all(torch.equal(items[k][name], again[k][name]) for name in items[k])
    assert not torch.equal(items[0]["theta"], others[0]["theta"])
    assert not torch.equal(items[0]["theta"], items[1]["theta"])


def test_every_stored_segment_is_drawn_and_none_that_is_held_out(task, reader):
    ids = {task.examples[number].piece.segment_id for number in range(len(task.examples))}
    rows, trained = reader.table("segments", columns=["segment_id", "source"]).to_pylist(), task.examples.sources.names
    assert ids == {row["segment_id"] for row in rows if row["source"] in trained}
    assert {row["source"] for row in rows} == {*trained, *task.held_out.sources.names}
    assert not {*trained} & {*task.held_out.sources.names}


def test_the_true_warp_lays_a_segment_where_it_belongs(task):
    whole = TransformItems(task.examples, Misalignment(0.3, 0.3, 10, crop_share=0), seed=0)
    batch = batch_of(whole, 16)
    laid = warped(torch.cat([batch["segment"], batch["mask"]], 1), batch["theta"])
    for found, true, target in zip(laid[:, 3] > 0.5, batch["true"][:, 3] > 0, batch["target"][:, 0] > 0, strict=True):
        assert (found & true).sum() / (found | true).sum() > 0.8
        assert (target & true).sum() / (target | true).sum() > 0.7
    start, left = corner_errors(batch["theta"], batch)
    assert left.max() < 1e-3 < start.min()


def test_corner_errors_are_those_of_the_box_in_canvas_pixels(task, monkeypatch):
    monkeypatch.setattr(transform, "drawn", lambda box, settings, random: ((1.0, 0.0, 3.0), (0.0, 1.0, -4.0)))
    batch = batch_of(task.dataset(), 4)
    start, left = corner_errors(IDENTITY.expand(4, 2, 3), batch)
    assert start.tolist() == left.tolist() == pytest.approx([5.0] * 4, abs=1e-4)


def test_the_loss_is_least_at_the_true_warp_and_counts_what_it_is_told_to(task):
    batch = batch_of(task.dataset(), 16)
    right, wrong = (warp_losses(theta, batch) for theta in (batch["theta"], IDENTITY.expand(16, 2, 3)))
    assert right["colour"] < 0.7 * wrong["colour"]
    assert right["mask"] < 0.7 * wrong["mask"]
    assert right["corners"] == 0 < wrong["corners"]
    modules = task.modules()
    for loss in (TransformLoss(0, 0), TransformLoss(0.5, 2)):
        task.loss = loss
        ((name, total, parts),) = task.losses(modules, batch, 0)
        assert name == "net"
        expected = parts["colour"] + loss.mask * parts["mask"] + loss.corners * parts["corners"]
        assert total.item() == pytest.approx(expected.item())


def test_the_loss_of_a_small_segment_is_that_of_the_same_one_enlarged():
    found = []
    for side in (8, 16):
        here, there = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
        here[..., 24 : 24 + side, 24 : 24 + side], there[..., 24 : 24 + side, 24 + side // 2 : 24 + side * 3 // 2] = (
            1,
            1,
        )
        batch = {"mask": here, "segment": here.repeat(1, 3, 1, 1), "true": there.repeat(1, 4, 1, 1)}
        parts = warp_losses(IDENTITY[None], batch | {"theta": IDENTITY[None], "corners": torch.ones(1, 3, 4)})
        found.append((parts["mask"].item(), parts["colour"].item()))
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx((2 / 3, 2 / 3))


@pytest.mark.usefixtures("one_thread")
def test_a_new_network_leaves_all_of_the_error_and_training_lowers_it(task):
    torch.manual_seed(0)
    modules = task.modules()
    with torch.no_grad():
        assert task.validate(modules["net"].eval())["corner_error_left"] == pytest.approx(1)
    optimiser, batch = task.optimisers(modules)["net"], batch_of(task.dataset(), 2)
    totals = []
    for step in range(35):
        ((_, total, _),) = task.losses(modules, batch, step)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert min(totals[-5:]) < 0.95 * totals[0]


def test_samples_are_shown_a_row_each(task):
    with torch.no_grad():
        picture = task.grid(task.modules()["net"].eval())
    assert picture.shape == (transform.N_SHOWN * 32, 4 * 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 0


@pytest.mark.parametrize("empty", ["trained", "held out"])
def test_sources_of_which_no_segment_is_left(photos, rebuild_bank, tmp_path, monkeypatch, empty):
    monkeypatch.setattr(transform, "N_VALIDATION", 12)
    thin = np.full((48, 64), 255, np.uint8)
    thin[1] = 1  # too small to be stored
    for name, what in (("a", "trained"), ("b", "held out")):
        photos.add(name, labels=thin if what == empty else None)
    (photos.root / "sources.csv").write_text("name,split,group\nb,val,\n")
    (photos.root / "classes.csv").write_text(CLASSES)
    rebuild_bank(photos.spec, min_area=80)
    reader, models = Reader(tmp_path / "bank"), tmp_path / "models"
    if empty == "trained":
        with pytest.raises(NothingToLearn, match="stored segments to train on, of which enough is left at 32x64"):
            make_task(reader, models, OPTIONS)
    else:
        task = make_task(reader, models, OPTIONS)
        with torch.no_grad():
            assert task.validate(task.modules()["net"].eval())["corner_error_left"] == pytest.approx(1)
    assert empty == "held out" or not models.exists()


def test_a_bank_without_segments_is_refused(photos, rebuild_bank, tmp_path):
    photos.add("a")
    rebuild_bank(photos.spec, min_area=10**6)
    with pytest.raises(NothingToLearn, match="stored segments"):
        TransformTask(Reader(tmp_path / "bank"), OPTIONS)
