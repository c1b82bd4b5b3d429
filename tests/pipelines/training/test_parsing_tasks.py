"""The tasks of features and judge: their items, their losses, their figures and pictures, on a small bank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeuxis.pipelines.training import features, judge
from zeuxis.pipelines.training.options import TrainOptions, resolved
from zeuxis.pipelines.training.parsing import cropped, recoloured
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.classes import VOID
from zeuxis.storage.reader import Reader
from zeuxis.synth.features import load_features
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork

SIZE = (32, 64)


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", "c", "d")
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


def task_of(module, reader, tmp_path, **options):
    given = replace(TrainOptions(preset="tiny", size=SIZE, batch=2), **options)
    return module.make_task(reader, tmp_path / "models", resolved(given, module.__name__.rpartition(".")[2], (96, 128)))


@pytest.mark.parametrize("module", [features, judge])
def test_an_item_is_a_photograph_and_its_channels(module, reader, tmp_path):
    task = task_of(module, reader, tmp_path)
    item = task.dataset()[5]
    assert (item["image"].shape, item["image"].dtype) == ((3, *SIZE), torch.float32)
    assert (item["layout"].shape, item["layout"].dtype) == (SIZE, torch.int64)
    assert float(item["image"].abs().max()) <= 1
    assert set(item["layout"].unique().tolist()) <= {0, 1, 2, 3, task.n_classes}


def test_an_item_depends_on_seed_and_number_alone(reader, tmp_path):
    first = task_of(features, reader, tmp_path).dataset()
    _ = first[3]
    assert torch.equal(first[7]["image"], task_of(features, reader, tmp_path).dataset()[7]["image"])
    assert not torch.equal(first[7]["image"], first[8]["image"])
    assert not torch.equal(first[7]["image"], task_of(features, reader, tmp_path, seed=1).dataset()[7]["image"])


def test_the_judge_sees_other_items_than_the_features(reader, tmp_path):
    items = [task_of(module, reader, tmp_path).dataset()[7]["image"] for module in (features, judge)]
    assert not torch.equal(*items)


def test_a_crop_takes_photograph_and_layout_alike():
    layout = np.arange(32 * 64, dtype=np.uint16).reshape(32, 64) // 200
    image = np.repeat((layout * 20).astype(np.uint8)[..., None], 3, axis=2)
    for seed in range(20):
        larger, ids = cropped(image, layout, np.random.default_rng(seed))
        assert larger.shape == (32, 64, 3)
        assert ids.dtype == np.uint16
        assert np.mean(np.abs(larger[..., 0].astype(int) - ids * 20) < 20) > 0.95  # but where they are interpolated
        assert len(np.unique(ids)) >= 5


def test_colours_vary_around_those_of_the_photograph():
    image = np.full((8, 8, 3), (90, 120, 150), np.uint8)
    made = np.stack([recoloured(image, np.random.default_rng(seed)).reshape(-1, 3).mean(0) for seed in range(200)])
    assert made.std(0).min() > 10
    np.testing.assert_allclose(made.mean(0), (90, 120, 150), atol=8)


@pytest.mark.parametrize("module", [features, judge])
def test_void_does_not_count_in_the_loss(module, reader, tmp_path):
    task = task_of(module, reader, tmp_path)
    modules = task.modules()
    batch = {"image": torch.rand(1, 3, *SIZE) * 2 - 1, "layout": torch.zeros(1, *SIZE, dtype=torch.int64)}
    batch["layout"][:, :, 32:] = task.n_classes
    ((_, before, _),) = task.losses(modules, batch, 0)
    logits = modules["net"](batch["image"])
    expected = torch.nn.functional.cross_entropy(logits[..., :32], batch["layout"][..., :32])
    assert float(before.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("module", [features, judge])
def test_a_network_that_reads_the_layout_has_figures_of_one(module, reader, tmp_path):
    task = task_of(module, reader, tmp_path)
    truths = iter([task.channel_of[task.held_out[k].layout] for k in range(len(task.held_out))])

    class Knowing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            truth = next(truths) % task.n_classes
            return torch.nn.functional.one_hot(torch.from_numpy(truth), task.n_classes).movedim(-1, 0)[None].float()

    assert task.validate(Knowing()) == {"miou": 1.0, "accuracy": 1.0}


def test_samples_are_photograph_reading_and_layout_in_the_colours_of_the_classes(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", "c", "d")
    (photos.root / "sources.csv").write_text("name,split,group\nb,val,\nc,val,\nd,test,\n")
    rebuild_bank(photos.spec)
    reader = Reader(tmp_path / "bank")
    task = task_of(judge, reader, tmp_path)
    with torch.no_grad():
        grid = task.grid(task.modules()["net"].eval())
    rows, cols = SIZE
    assert (grid.shape, grid.dtype) == ((2 * rows, 3 * cols, 3), np.uint8)
    picture = task.held_out[1]
    np.testing.assert_array_equal(grid[rows : 2 * rows, :cols], picture.image)
    known = picture.layout != VOID
    painted = reader.classes.painted(picture.layout)
    np.testing.assert_array_equal(grid[rows : 2 * rows, 2 * cols :][known], painted[known])


def test_what_is_trained_is_what_losses_and_evaluation_load(reader, tmp_path):
    from zeuxis.pipelines.training.loop import train
    from zeuxis.synth.checkpoint import load_checkpoint

    for module in (features, judge):
        task = task_of(module, reader, tmp_path, steps=1)
        train(task, tmp_path / "models", task.options)
    assert load_features("bank", tmp_path / "models").name.startswith("bank:1/8 step 1 (")
    card, tensors = load_checkpoint(tmp_path / "models/judge.safetensors", "judge")
    JudgeNetwork(JudgeConfig(**card.config)).load_state_dict(tensors)


def test_a_batch_is_learned_by_heart(reader, tmp_path):
    torch.manual_seed(0)
    task = task_of(judge, reader, tmp_path, lr=3e-3)
    modules, data = task.modules(), task.dataset()
    optimiser = task.optimisers(modules)["net"]
    batch = torch.utils.data.default_collate([data[0], data[1]])
    seen = []
    for step in range(40):
        ((_, loss, _),) = task.losses(modules, batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < seen[0] / 2


def test_a_bank_without_labels_has_nothing_to_learn_from(reader, tmp_path, monkeypatch):
    monkeypatch.setattr("zeuxis.pipelines.training.sources._labelled", lambda *_: [])
    with pytest.raises(NothingToLearn, match="expected labelled sources in train, found none"):
        task_of(features, reader, tmp_path)
