"""Simulated canvases of a bank: stencils as painting places them, nothing of the own group, equal in every process."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.collage import piece_of
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.pipelines.training.canvases import CanvasSamples, _Recent
from zeuxis.pipelines.training.hits import NONE, SegmentPool, check_leaving_out
from zeuxis.pipelines.training.sources import BankSources
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.elision import NO_ELISION, Elided
from zeuxis.synth.encoding import to_image
from zeuxis.synth.filling import filled
from zeuxis.synth.simulation import Simulation
from zeuxis.synth.transform import fit, warp

SIZE = (64, 96)
PLAIN = Simulation(colour_share=0, elision=NO_ELISION)
SPLITS = "name,split,group\na,train,one\nb,train,one\nc,train,two\nd,train,two\ne,val,three\nf,test,four\n"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A bank of six noisy photographs with layouts of blocks; `a` is of one grey."""
    folder = tmp_path_factory.mktemp("canvases")
    for kind in ("images", "labels"):
        (folder / "photos" / kind).mkdir(parents=True)
    (folder / "photos" / "sources.csv").write_text(SPLITS)
    for seed, name in enumerate("abcdef"):
        random = np.random.default_rng(seed)
        image = random.integers(0, 256, (48, 64, 3), np.uint8) if name != "a" else np.full((48, 64, 3), 50, np.uint8)
        labels = np.zeros((48, 64), np.uint8)
        labels[random.integers(20, 28) :] = 1
        for label, row, col in ((2, 1, 2), (3, 1, 36), (2, 28, 36), (255, 28, 2)):
            top, left = row + random.integers(0, 5), col + random.integers(0, 7)
            labels[top : top + random.integers(8, 14), left : left + random.integers(8, 20)] = label
        Image.fromarray(image).save(folder / "photos" / "images" / f"{name}.png")
        Image.fromarray(labels).save(folder / "photos" / "labels" / f"{name}.png")
    rebuild(f"folder:{folder / 'photos'}", folder / "bank", workers=0, patches=False, min_area=16)
    return Reader(folder / "bank")


def samples_of(reader, split="train", cache=None, size=SIZE, **options):
    return CanvasSamples(BankSources(reader, size, split, cache=cache), **options)


@pytest.mark.parametrize("split", ["train", "test"])
def test_hits_are_never_of_the_own_group_or_held_out(reader, split):
    samples = samples_of(reader, split, k=9)
    allowed = {"a": "cd", "b": "cd", "c": "ab", "d": "ab", "f": "abcd"}
    seen = 0
    for number, name in enumerate(samples.sources.names):
        for id in samples.hits[number][samples.hits[number] != NONE]:
            shard, row = reader.find_segment(int(id))
            source = reader.row("segments", shard, row)["source"]
            assert source[-1] in allowed[name[-1]]
            seen += 1
    assert seen > 5


def test_what_canvases_do_not_show_is_filled_where_asked(reader):
    plain, full = (samples_of(reader, fill=fill) for fill in (False, True))
    for number in range(len(plain.sources)):
        bare, made = (each.simulated(number, np.random.default_rng(7)) for each in (plain, full))
        expected = filled(Elided(bare.canvas, bare.valid), bare.layout)
        assert np.array_equal(made.canvas, expected.image)
        assert np.array_equal(made.valid, bare.valid)
        assert not np.array_equal(made.canvas, bare.canvas)


def test_tones_are_of_other_training_groups_too(reader):
    pool, random = SegmentPool(reader), np.random.default_rng(0)
    group = str(BankSources(reader, SIZE).groups[0])
    rows = [pool.one_of(class_id, group, random) for class_id in (0, 1) for _ in range(40)]
    sources = {reader.row("segments", *reader.find_segment(int(pool.segment_id[row])))["source"][-1] for row in rows}
    assert sources == {"c", "d"}


def test_stencils_are_what_painting_would_place(reader):
    """Against the pieces of painting itself: retrieved anew, fitted and warped with their pixels."""
    size = 48, 64  # their own, at which they find now what they found when they were cut from their layouts
    samples = samples_of(reader, settings=PLAIN, k=1, size=size)
    retriever = Retriever(reader)
    for number, name in enumerate(samples.sources.names):
        picture = samples.sources[number]
        made = samples.simulated(number, np.random.default_rng(0))
        expected = np.zeros(size, bool)
        for component in retriever.retrieve(picture.layout, 1, source=name):
            piece = piece_of(reader, component, component.hits[0])
            (top, left, bottom, right), _, mask = warp(piece, fit(piece, size), size)
            covered = np.zeros(size, bool)
            covered[top:bottom, left:right] = mask
            top, left, bottom, right = piece.target.box
            own = np.zeros(size, bool)
            own[top:bottom, left:right] = piece.target.mask
            expected |= covered & own
        assert np.array_equal(made.valid, expected)
        assert 0.2 < made.valid.mean() < 1


def test_no_pixel_of_another_source_enters(reader):
    samples = samples_of(reader)
    for k in range(8):
        number = samples.source_of(k)
        made = samples.simulated(number, np.random.default_rng(k))
        regions = samples.sources[number].regions
        invalid = made.canvas[~made.valid]
        assert (invalid.min(axis=1) == invalid.max(axis=1)).all()
        assert set(np.unique(invalid)) <= {0, 255}
        assert (regions[made.valid] > 0).all()
    plain = samples_of(reader, settings=PLAIN)
    for k in range(8):
        made = plain.simulated(plain.source_of(k), np.random.default_rng(k))
        assert made.valid.any()
        assert np.array_equal(made.canvas[made.valid], made.image[made.valid])
        assert (made.canvas[~made.valid] == 0).all()


def test_one_of_the_k_best_is_drawn_each_time(reader):
    samples = samples_of(reader, settings=PLAIN, k=4)
    masks = {samples.simulated(2, np.random.default_rng(seed)).valid.tobytes() for seed in range(12)}
    assert len(masks) > 2
    alone = samples_of(reader, settings=PLAIN, k=1)
    assert len({alone.simulated(2, np.random.default_rng(seed)).valid.tobytes() for seed in range(6)}) == 1


def test_colours_change_in_the_stated_share(reader):
    samples = samples_of(reader, settings=Simulation(colour_share=1, elision=NO_ELISION))
    number = [name[-1] for name in samples.sources.names].index("a")  # of one grey
    made = samples.simulated(number, np.random.default_rng(0))
    assert np.abs(made.canvas[made.valid].astype(int) - 50).mean() > 20
    never = samples_of(reader, settings=PLAIN).simulated(number, np.random.default_rng(0))
    assert (never.canvas[never.valid] == 50).all()


def test_items_are_equal_whichever_process_makes_them(reader, tmp_path):
    samples = samples_of(reader, cache=tmp_path / "cache", seed=3, flip=True)
    samples.prepare()
    numbers = [5, 0, 9, 41]
    here = [samples[k] for k in numbers]
    sent = pickle.loads(pickle.dumps(samples))  # as to a process that opens the bank anew
    there = [*DataLoader(samples, batch_size=None, sampler=numbers, num_workers=2), *(sent[k] for k in numbers)]
    for mine, other in zip(here * 2, there, strict=True):
        assert {name: tensor.shape for name, tensor in mine.items()} == {
            "layout": SIZE, "canvas": (3, *SIZE), "valid": (1, *SIZE), "image": (3, *SIZE)
        }  # fmt: skip
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_an_item_depends_on_seed_and_number_alone(reader):
    one, two, other = samples_of(reader), samples_of(reader), samples_of(reader, seed=1)
    _ = [one[k] for k in (3, 8, 1)]
    assert torch.equal(one[6]["canvas"], two[6]["canvas"])
    assert not torch.equal(one[6]["canvas"], other[6]["canvas"])


def test_every_item_is_drawn_anew(reader):
    samples = samples_of(reader)
    assert len({samples[k]["canvas"].numpy().tobytes() for k in range(32)}) == 32


def test_an_epoch_shows_every_source_once_in_its_own_order(reader):
    samples = samples_of(reader)
    orders = [[samples.source_of(4 * epoch + i) for i in range(4)] for epoch in range(12)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 3


def test_tensors_are_those_of_the_networks(reader):
    item = samples_of(reader)[0]
    assert item["layout"].dtype == torch.int64
    assert int(item["layout"].max()) <= len(reader.classes)
    assert -1 <= float(item["image"].min()) < float(item["image"].max()) <= 1
    missing = item["valid"][0] == 0
    assert set(item["canvas"][:, missing].unique().tolist()) == {-1.0, 1.0}
    assert to_image(item["image"]).shape == (*SIZE, 3)


def test_flipped_items_are_mirrored_as_a_whole(reader):
    plain, flipped = samples_of(reader), samples_of(reader, flip=True)
    mirrored = 0
    for k in range(12):
        one, two = plain[k], flipped[k]
        turned = any(not torch.equal(one[name], two[name]) for name in one)
        mirrored += turned
        for name in one:
            assert torch.equal(one[name].flip(-1) if turned else one[name], two[name])
    assert 0 < mirrored < 12


def test_hits_are_found_once(reader, tmp_path, monkeypatch):
    first = samples_of(reader, cache=tmp_path / "cache")
    first.prepare()
    monkeypatch.setattr(Retriever, "retrieve_many", None)
    again = samples_of(reader, cache=tmp_path / "cache")
    assert all(np.array_equal(a, b) for a, b in zip(first.hits, again.hits, strict=True))
    assert torch.equal(first[2]["canvas"], again[2]["canvas"])


def test_a_bank_of_one_group_is_refused_before_anything_is_written(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    (photos.root / "sources.csv").write_text("name,split,group\na,train,one\nb,train,one\n")
    rebuild_bank(photos.spec)
    reader = Reader(tmp_path / "bank")
    with pytest.raises(InputError, match="own group is left out"):
        check_leaving_out(reader)
    with pytest.raises(InputError, match="own group is left out"):
        samples_of(reader, cache=tmp_path / "cache").prepare()
    assert not (tmp_path / "cache").exists()


def test_what_is_kept_stays_within_its_budget():
    kept = _Recent(100)
    made = []
    for key in (1, 2, 3, 1, 2, 3, 3):
        kept.get(key, lambda key=key: made.append(key) or np.zeros(40, np.uint8))
    assert made == [1, 2, 3, 1, 2, 3]
