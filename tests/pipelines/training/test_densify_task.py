"""The densification network's task: coarse layouts and the dense ones that they were."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from zeuxis.pipelines.training.densify import DensifyItems, DensifyTask, make_task
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.storage.reader import Reader
from zeuxis.synth.coarsening import Coarsening

OPTIONS = TrainOptions(preset="tiny", steps=2, batch=2, lr=3e-3, size=(32, 64))

CLASSES = "id,name\n0,sky\n1,ground\n2,car\n3,sign\n"


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", "c")
    (photos.root / "classes.csv").write_text(CLASSES)
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


@pytest.fixture
def task(reader, tmp_path):
    return make_task(reader, tmp_path / "models", OPTIONS)


class Filling(nn.Module):
    """Keeps what has a class and gives void the first one."""

    def forward(self, coarse):
        logits = coarse[:, :-1].clone()
        logits[:, 0] += coarse[:, -1]
        return logits


def test_an_item_is_a_coarse_layout_and_the_dense_one_that_it_was(task):
    items = task.dataset()
    layouts = [items.channel_of[task.sources[number].layout] for number in range(len(task.sources))]
    n = len(task.subject.classes)
    mirrored, emptier = 0, []
    for k in range(16):
        coarse, dense = items[k]["coarse"].numpy(), items[k]["dense"].numpy()
        assert any(np.array_equal(dense, each) or np.array_equal(dense[:, ::-1], each) for each in layouts)
        mirrored += not any(np.array_equal(dense, each) for each in layouts)
        emptier.append((coarse == n).mean() - (dense == n).mean())
        assert set(np.unique(coarse)) <= {*np.unique(dense), n}
        assert torch.equal(items[k]["coarse"], task.dataset()[k]["coarse"])
    assert 2 < mirrored < 14
    assert np.mean(emptier) > 0.03
    other = DensifyItems(task.sources, task.coarsening, seed=1)
    assert any(not torch.equal(items[k]["coarse"], other[k]["coarse"]) for k in range(3))


def test_validation_compares_with_the_nearest_class(task):
    found = task.validate(Filling())
    assert 0 < found["miou"] < found["miou_nearest"] < 1
    assert 0 < found["accuracy"] < found["accuracy_nearest"] < 1
    as_it_is = DensifyTask(task.sources.reader, OPTIONS, coarsening=Coarsening(0, 0, 0, 0, 0)).validate(Filling())
    assert as_it_is["miou"] == pytest.approx(1)


def test_a_layout_of_which_nothing_is_left_is_measured_too(task):
    task.coarsening = Coarsening(drop=1)
    assert 0 <= task.validate(Filling())["accuracy_nearest"] < 0.6


def test_training_lowers_the_loss_and_void_of_the_dense_layout_does_not_count(task):
    torch.manual_seed(0)
    modules = task.modules()
    optimiser = task.optimisers(modules)["net"]
    batch = default_collate([task.dataset()[k] for k in range(2)])
    losses = []
    for step in range(10):
        ((name, total, _),) = task.losses(modules, batch, step)
        assert name == "net"
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.6 * losses[0]
    void = {"coarse": batch["coarse"], "dense": torch.full_like(batch["dense"], len(task.subject.classes))}
    ((_, total, _),) = task.losses(modules, void, 0)
    assert total.item() == 0


def test_samples_are_shown_a_row_each(task):
    picture = task.grid(Filling())
    assert [len(each) for each in (task.sources, task.held_out)] == [2, 1]
    assert picture.shape == (32, 3 * 64, 3)
    colours = {tuple(entry.colour) for entry in task.subject.classes}
    assert {tuple(colour) for colour in picture[:32, -64:].reshape(-1, 3).tolist()} <= {*colours, (0, 0, 0)}
