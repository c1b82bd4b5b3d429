"""The ordering network's task: pairs with known depth, padded, beside what the classes alone say."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from zeuxis.pipelines.training import ordering
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.pipelines.training.ordering import OrderingItems, accuracy, asked, make_task, ordering_loss, set_apart
from zeuxis.pipelines.training.task import NothingToLearn
from zeuxis.storage.reader import Reader
from zeuxis.synth.ordering import ClassOrder

OPTIONS = TrainOptions(preset="tiny", steps=2, batch=2, lr=3e-3, size=(32, 64))
NAMES = [f"p{number:02}" for number in range(12)]

CLASSES = "id,name\n0,sky\n1,ground\n2,car\n3,sign\n"


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path):
    """A box of class 2 on a ground of 0, nearer but in every third picture; one of 3, always nearer, on one of 1."""
    for number, name in enumerate(NAMES):
        labels, depth = np.zeros((48, 64), np.uint8), np.full((48, 64), 3000, np.uint16)
        labels[24:], depth[24:] = 1, 2500
        labels[6:20, 4 + number : 24 + number] = 2
        depth[6:20, 4 + number : 24 + number] = 4000 if number % 3 == 0 else 2000
        labels[30:42, 30:50], depth[30:42, 30:50] = 3, 1500
        photos.add(name, labels=labels, depth=depth)
    (photos.root / "classes.csv").write_text(CLASSES)
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


@pytest.fixture
def task(reader, tmp_path):
    return make_task(reader, tmp_path / "models", OPTIONS)


class Blank(nn.Module):
    """Says nothing."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, pair, layout):
        return pair.new_zeros(pair.shape[:2])


def test_pairs_are_the_known_ones_of_sources_that_are_trained_on(task, reader):
    rows = reader.table("orderings").to_pylist()
    known = {(row["source"], row["front"]) for row in rows if row["front"] is not None}
    assert known
    counted = 0
    for pairs in (task.pairs, task._held_out):
        for number in pairs.numbers:
            found, segments = pairs.pairs(number), pairs.sources.segments(number)
            ids = segments.segment_ids[found.regions - 1]
            for front, behind in ids.tolist():
                (row,) = [r for r in rows if {r["segment_a"], r["segment_b"]} == {front, behind}]
                assert row["front"] == front
                counted += 1
    assert counted == sum(row["front"] is not None for row in rows)
    assert not set(task.pairs.numbers) & set(task._held_out.numbers)


def test_an_item_shows_both_segments_by_class_and_says_who_is_in_front(task):
    items = task.dataset()
    firsts = []
    for k in range(12):
        item = items[k]
        n = int(item["weights"].sum())
        assert 0 < n < ordering.PAIRS
        assert item["layout"].shape == (32, 64)
        for shown, channels in zip(item["pairs"][:n], item["channels"][:n], strict=True):
            assert set(shown.unique().tolist()) == {*channels.tolist(), items.n_classes}
            assert (shown == item["layout"])[shown < items.n_classes].all()
        assert (item["pairs"][n:] == items.n_classes).all()
        firsts += item["front"][:n].tolist()
    assert 0.2 < np.mean(firsts) < 0.8
    again, others = task.dataset(), OrderingItems(task.pairs, task.pairs.statistics, own=True, seed=1)
    assert all(torch.equal(items[5][name], again[5][name]) for name in item)
    assert any(not torch.equal(items[k]["pairs"], others[k]["pairs"]) for k in range(4))


def test_which_of_the_two_is_named_first_changes_the_sign_of_everything(task):
    items, number = task.dataset(), task.pairs.numbers[0]
    n = len(task.pairs.pairs(number).regions)
    one, other = (items._item(number, np.arange(n), np.full(n, first), n) for first in (True, False))
    assert torch.equal(one["channels"], other["channels"].flip(1))
    assert torch.equal(one["priors"], -other["priors"])
    assert one["front"].all()
    assert not other["front"].any()
    net = task.modules()["net"].eval()
    odds = [asked(net, default_collate([item]), items.n_classes) for item in (one, other)]
    assert torch.allclose(odds[0], -odds[1], atol=1e-5)


def test_places_without_a_pair_have_no_influence(task):
    batch = default_collate([task.dataset()[k] for k in range(3)])
    net = task.modules()["net"].eval()
    garbled = {name: each.clone() for name, each in batch.items()}
    empty = batch["weights"] == 0
    assert empty.any()
    garbled["pairs"][empty], garbled["channels"][empty] = 1, 2
    garbled["front"][empty], garbled["priors"][empty] = 1.0, 40.0
    losses = [ordering_loss(asked(net, each, task.net_config.n_classes), each) for each in (batch, garbled)]
    assert losses[0].item() == losses[1].item() > 0


def test_the_loss_is_the_mean_over_pairs_not_over_places():
    batch = {"front": torch.tensor([[1.0, 0.0, 0.0]]), "weights": torch.tensor([[1.0, 1.0, 0.0]])}
    loss = ordering_loss(torch.tensor([[0.0, 2.0, 9.0]]), batch)
    assert loss.item() == pytest.approx((np.log(2) + np.log1p(np.exp(2))) / 2)


def test_a_pair_is_not_told_its_own_answer_by_the_prior(task):
    number = task.pairs.numbers[0]
    known = task.pairs.pairs(number)
    statistics = ClassOrder.from_orderings(known.class_ids[:, 0], known.class_ids[:, 1])
    own, other = (OrderingItems(task.pairs, statistics, own=own).whole(number) for own in (True, False))
    assert not own["priors"].any()
    assert (other["priors"].abs() > 0).all()


def test_a_network_that_says_nothing_is_as_right_as_the_statistics(task):
    found = task.validate(Blank())
    assert found["accuracy"] == found["statistics"]
    items = OrderingItems(task.pairs, ClassOrder(), own=False)
    assert accuracy(Blank(), items) == {"accuracy": 0.5, "statistics": 0.5}


def test_training_learns_what_the_statistics_do_not_know(task):
    torch.manual_seed(0)
    modules = task.modules()
    net, optimiser = modules["net"], task.optimisers(modules)["net"]
    net.eval()  # without dropout: one batch shall be learned by heart
    batch = default_collate([task.dataset()[k] for k in range(2)])
    losses = []
    for step in range(24):
        ((name, total, _),) = task.losses(modules, batch, step)
        assert name == "net"
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.6 * losses[0], losses


def test_every_sixth_group_is_set_apart():
    groups = np.array([f"g{number // 3}" for number in range(36)])
    apart = set_apart(groups, ordering.APART)
    assert apart.sum() == 6
    assert not set(groups[apart]) & set(groups[~apart])
    assert set_apart(np.array(["one"] * 12), ordering.APART).sum() == 2


def test_samples_are_shown_a_row_each(task):
    picture = task.grid(Blank())
    assert picture.shape == (min(len(task._held_out), ordering.N_SHOWN) * 32, 3 * 64, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("known", [{5, 11}, {0, 3}])
def test_known_pairs_of_one_side_alone(photos, rebuild_bank, tmp_path, known):
    for number, name in enumerate(NAMES):
        labels, depth = np.zeros((48, 64), np.uint8), np.full((48, 64), 3000, np.uint16)
        if number in known:
            labels[6:20, 20:40], depth[6:20, 20:40] = 2, 2000
        photos.add(name, labels=labels, depth=depth)
    (photos.root / "classes.csv").write_text(CLASSES)
    rebuild_bank(photos.spec)
    reader, models = Reader(tmp_path / "bank"), tmp_path / "models"
    task = make_task(reader, models, OPTIONS)  # every sixth is set apart: 5 and 11
    assert task._held_out is task.pairs
    assert set(task.pairs.numbers) == known
    assert task.validate(Blank())["accuracy"] == 1


def test_a_bank_without_orderings_is_refused(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    rebuild_bank(photos.spec)
    with pytest.raises(NothingToLearn, match="depth"):
        make_task(Reader(tmp_path / "bank"), tmp_path / "models", OPTIONS)
