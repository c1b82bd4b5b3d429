"""A coherent choice: the solver beside brute force, the terms of its sum, and what retrieval makes of it."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

import zeuxis
from zeuxis.index.borders import find_borders
from zeuxis.index.coherence import UNLIKE, Choice, Side, _agreements, choice_of, choose
from zeuxis.index.lights import Lights, mean_colours
from zeuxis.index.request import COHERENCE, RetrievalOptions
from zeuxis.ingest.appearance import describe
from zeuxis.options import _query
from zeuxis.storage.errors import FilterError
from zeuxis.storage.layouts import border_reach


def problem(seed, components=6, hits=3, photographs=6):
    """A random choice, in which hits of one photograph have like colours."""
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.uniform(0.8, 1.6, (components, hits)), axis=1)
    scores[0, hits - 1] = -np.inf  # a component with fewer hits than the others
    pairs = [pair for pair in itertools.combinations(range(components), 2) if random.random() < 0.5] or [(0, 1)]
    pairs = np.array(pairs)
    lengths = random.integers(1, 100, len(pairs))
    whole = np.bincount(pairs.ravel(), lengths.repeat(2), components)
    of = random.integers(0, photographs, (components, hits))
    of[0, hits - 1] = -1
    colours = random.normal(0, 10, (photographs, 3))[of] + random.normal(0, 6, (components, hits, 3))
    a, b = pairs.T
    distance = np.linalg.norm(colours[a][:, :, None] - colours[b][:, None], axis=-1)
    agreements = 1 - np.minimum(distance / UNLIKE, 1)
    return Choice(scores, of, pairs, (lengths[:, None] / whole[pairs]).mean(axis=1), agreements, True)


@pytest.mark.parametrize(("weight", "share", "ratio"), [(0.5, 0.95, 0.97), (2.0, 0.85, 0.8)])
def test_the_choice_is_nearly_always_the_best_there_is_and_never_worse_than_each_alone(weight, share, ratio):
    met = []
    for seed in range(60):
        choice = problem(seed, components=2 + seed % 5)
        count, hits = choice.scores.shape
        all_of_them = [np.array(ranks) for ranks in itertools.product(range(hits), repeat=count)]
        best = max(choice.worth(ranks, weight) for ranks in all_of_them)
        chosen = choose(choice, weight)
        worth = choice.worth(chosen, weight)
        assert choice.worth(np.zeros(count, int), weight) <= worth <= best
        assert worth >= ratio * best
        assert (choose(choice, weight) == chosen).all()
        met.append(worth == best)
    assert np.mean(met) >= share


def test_no_weight_is_each_components_best():
    assert not choose(problem(1), 0.0).any()


def test_large_choices_gain_and_stay_within_what_each_component_has():
    for seed in range(3):
        choice = problem(seed, components=80, hits=10, photographs=40)
        chosen = choose(choice, 0.5)
        assert choice.worth(chosen, 0.5) > choice.worth(np.zeros(80, int), 0.5)
        assert np.isfinite(choice.scores[np.arange(80), chosen]).all()


def test_borders_join_what_lies_side_by_side_across_thin_gaps():
    labels = np.zeros((20, 30), np.uint32)
    labels[:, :10] = 1
    labels[:, 11:20] = 2  # behind a gap of one pixel
    labels[:10, 26:] = 3  # far off
    near, far = find_borders(labels, 3, 2), find_borders(labels, 3, 8)
    assert near.pairs.tolist() == [[0, 1]]
    assert near.lengths.tolist() == [20]  # one pixel pair a row
    assert far.pairs.tolist() == [[0, 1], [1, 2]]
    assert far.lengths.tolist() == [20 * 7, 10 * 2]
    assert find_borders(np.ones((9, 9), np.uint32), 1).pairs.shape == (0, 2)


@pytest.mark.parametrize("colour", [(200, 180, 150), (20, 40, 90), (128, 128, 128), (250, 250, 250)])
def test_mean_colours_are_read_as_descriptors_store_them(colour):
    pixels = np.full((12, 10, 3), colour, np.uint8)
    rows = np.stack([describe(pixels, np.ones((12, 10), bool)), np.zeros(64, np.uint8)])
    found = mean_colours(rows)
    lab = cv2.cvtColor(np.float32(pixels[:1, :1]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    assert np.abs(found[0] - lab).max() < 1
    assert np.isnan(found[1]).all()


def side(photographs, own, shown):
    """A component's hits on one border: their photographs, and lightness of themselves and of the other's class."""
    grey = [np.array(each, float)[None, :, None] * np.array([1, 0, 0]) for each in (own, shown)]
    return Side(np.array([photographs]), *grey)


def test_hits_agree_as_their_photographs_show_each_others_class():
    nan = np.nan
    one = side([0, 1], [50, 50], [nan, 54])  # photograph 0 shows nothing of the second's class
    other = side([0, 2], [30, 60], [50, 62])
    agreement, known = _agreements(one, other)
    one_way = 1 - 12 / UNLIKE
    other_way, both_ways = 1 - (24 + 0) / 2 / UNLIKE, 1 - (12 + 6) / 2 / UNLIKE
    assert known
    assert np.allclose(agreement[0], [[1, one_way], [other_way, both_ways]])


def test_what_cannot_be_compared_counts_as_the_rest_of_its_border():
    nan = np.nan
    one, other = side([0, 1], [50, 50], [nan, nan]), side([2, 3], [50, 50], [nan, 65])
    agreement, known = _agreements(one, other)
    assert known
    assert np.allclose(agreement, 1 - 15 / UNLIKE)
    agreement, known = _agreements(one, one._replace(photographs=np.array([[2, 3]])))
    assert not known
    assert not agreement.any()


def scene(random):
    """`(48, 64)` uint8: sky over ground, a house and a tree before both."""
    labels = np.zeros((48, 64), np.uint8)
    labels[random.integers(22, 27) :] = 1
    for label, col in ((2, 4), (3, 36)):
        top, left = random.integers(8, 14), col + random.integers(0, 6)
        labels[top : top + random.integers(18, 26), left : left + random.integers(14, 20)] = label
    return labels


@pytest.fixture(scope="module")
def bank(tmp_path_factory, dask_address):
    """Scenes by day and by night, every other one."""
    root = tmp_path_factory.mktemp("light")
    colours = np.array([(190, 210, 240), (140, 140, 140), (200, 160, 120), (90, 150, 70)])
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
    for number in range(18):
        random = np.random.default_rng(number)
        labels, light = scene(random), ("day", "night")[number % 2]
        picture = colours[labels] * (1.0 if light == "day" else 0.4) + random.normal(0, 6, (48, 64, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / f"data/images/{light}{number}.png")
        Image.fromarray(labels).save(root / f"data/labels/{light}{number}.png")
    zeuxis.rebuild(f"folder:{root / 'data'}", root / "bank", patches=False, min_area=16, scheduler=dask_address)
    return zeuxis.open(root / "bank")


LAYOUTS = [scene(np.random.default_rng(seed)) for seed in range(100, 106)]


def first(result):
    return [component.hits[0].segment_id for component in result]


def lights(result):
    return {component.hits[0].source.rpartition("/")[2][:3] for component in result}


def test_neighbours_come_from_one_light(bank):
    assert sum(len(lights(bank.retrieve(layout))) == 2 for layout in LAYOUTS) >= 4
    assert all(len(lights(bank.retrieve(layout, coherent=True))) == 1 for layout in LAYOUTS)


def test_the_chosen_stands_first_and_nothing_else_changes(bank):
    for layout in LAYOUTS:
        for plain, component in zip(bank.retrieve(layout, 12), bank.retrieve(layout, 12, coherent=1.0), strict=True):
            assert component.hits[0] in plain.hits[:10]
            assert component.hits[1:] == [hit for hit in plain.hits if hit != component.hits[0]]


def test_the_choice_does_not_depend_on_how_many_are_asked_for(bank):
    for k in (1, 3, 15):
        result = bank.retrieve(LAYOUTS[0], k, coherent=True)
        assert first(result) == first(bank.retrieve(LAYOUTS[0], 5, coherent=True))
        assert {len(component.hits) for component in result} == {k}


@pytest.mark.parametrize("coherent", [False, 0, 0.0])
def test_without_weight_the_answer_is_the_plain_one(bank, coherent):
    for layout in LAYOUTS:
        assert bank.retrieve(layout, coherent=coherent).to_frame().equals(bank.retrieve(layout).to_frame())


def test_weights_of_the_score_do_not_change_how_much_agreement_counts(bank):
    once, tenfold = (bank.retrieve(LAYOUTS[1], coherent=True, weights=(w, w)) for w in (1, 10))
    assert first(once) == first(tenfold)


def test_it_works_with_every_other_option(bank):
    layout = LAYOUTS[2]
    for options in ({"exclude": "folder/day4"}, {"where": "area > 200"}, {"min_score": 1.2}, {"mode": "fast"}):
        plain = {hit for component in bank.retrieve(layout, 10, **options) for hit in component.hits}
        found = bank.retrieve(layout, coherent=True, **options)
        assert {hit for component in found for hit in component.hits} <= plain
    guarded = bank.retrieve(source="folder/day4", coherent=5.0)
    assert "folder/day4" not in {hit.source for component in guarded for hit in component.hits}
    many = bank.retrieve_many(LAYOUTS, coherent=True, workers=3, progress=False)
    assert [first(result) for result in many] == [first(bank.retrieve(each, coherent=True)) for each in LAYOUTS]
    assert first(bank.collage(layout, coherent=True).retrieval) == first(bank.retrieve(layout, coherent=True))
    assert len(bank.retrieve_mask(layout == 2, 2, coherent=True)[0].hits) == 5


def test_with_sample_it_is_chosen_among_those_drawn(bank):
    differs = False
    for seed in range(6):
        drawn = bank.retrieve(LAYOUTS[3], 4, sample=(12, seed))
        chosen = bank.retrieve(LAYOUTS[3], 4, sample=(12, seed), coherent=2.0)
        for one, other in zip(drawn, chosen, strict=True):
            assert set(one.hits) == set(other.hits)
        differs |= first(drawn) != first(chosen)
    assert differs
    with pytest.warns(UserWarning, match="nothing to choose"):
        bank.retrieve(LAYOUTS[3], 1, sample=(12, 0), coherent=True)


def test_a_bank_without_descriptors_says_so_and_goes_by_photographs(bank, monkeypatch):
    monkeypatch.setattr("zeuxis.index.lights._FAMILY", "another")
    other = zeuxis.open(bank.path)
    with pytest.warns(UserWarning, match="what its segments look like"):
        chosen = other.retrieve(LAYOUTS[0], coherent=5.0)
    assert len({component.hits[0].source for component in chosen}) < len(
        {component.hits[0].source for component in other.retrieve(LAYOUTS[0])}
    )


def test_a_class_the_bank_lacks_is_left_out_of_the_choice(bank):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = bank.retrieve(LAYOUTS[0], where="class_name <> '2'", coherent=True)
        none = bank.retrieve(LAYOUTS[0], where={"split": "nowhere"}, coherent=True)
    assert sorted(bool(component.hits) for component in result).count(False) == 1
    assert not any(component.hits for component in none)


def test_class_colours_are_means_over_the_pixels_of_one_photograph(bank):
    reader = bank._reader
    columns, found = reader.shards[0].footprints, Lights(reader)
    source = int(columns.source[0])
    rows = np.flatnonzero((columns.source == source) & (columns.class_id == columns.class_id[0]))
    own = found.of_segments(np.zeros(len(rows), int), rows)
    seen = found.of_classes(np.array([0]), np.array([source]), np.array([int(columns.class_id[0]), 77]))
    assert np.allclose(seen[0, 0], np.average(own, axis=0, weights=columns.area[rows]), atol=1e-3)
    assert np.isnan(seen[0, 1]).all()


def test_colours_along_a_border_are_those_of_the_photograph(bank):
    reader = bank._reader
    columns, lights = reader.shards[0].footprints, Lights(reader)
    names, close = bank.sources(None, ["source"])["source"].to_pylist(), 0
    sky = [row for row in range(len(columns)) if bank.classes[int(columns.class_id[row])].name == "0"]
    ground = next(entry.id for entry in bank.classes if entry.name == "1")
    for row in sky[:6]:
        layout = bank.layout(source := names[int(columns.source[row])])
        colours = cv2.cvtColor(np.float32(bank.photograph(source)) / 255, cv2.COLOR_RGB2LAB)
        reach = border_reach(len(layout))
        over, under = slice(None, -reach), slice(reach, None)
        meet = (layout[over] == int(columns.class_id[row])) & (layout[under] == ground)
        own, beside = lights.of_borders(np.zeros(1, int), np.array([row]), np.array([ground]))[0]
        close += np.linalg.norm(own - colours[over][meet].mean(axis=0)) < 4
        close += np.linalg.norm(beside - colours[under][meet].mean(axis=0)) < 4
    assert close == 2 * len(sky[:6]) > 6
    assert np.isnan(lights.of_borders(np.zeros(1, int), np.array([sky[0]]), np.array([77]))).all()


def test_agreements_are_those_of_colours_along_borders_and_else_of_whole_segments(bank):
    result = bank.retrieve(LAYOUTS[0], 10)
    components, lights = [each for each in result if each.hits], Lights(bank._reader)
    choice = choice_of(components, lights, bank.frame)

    def seen(hit, other_class):
        """Its colour, and that of the other class in its photograph, along their border where they have one."""
        shard, row = np.array([hit._shard]), np.array([hit._row])
        source = bank._reader.shards[hit._shard].footprints.source[row].astype(np.int64)
        along = lights.of_borders(shard, row, np.array([other_class]))[0]
        whole = lights.of_segments(shard, row)[0], lights.of_classes(shard, source, np.array([other_class]))[0, 0]
        return [one if np.isnan(own).any() else own for own, one in zip(along, whole, strict=True)]

    compared = bordering = 0
    for (a, b), agreements in zip(choice.pairs.tolist(), choice.agreements, strict=True):
        for (i, one), (j, other) in itertools.product(enumerate(components[a].hits), enumerate(components[b].hits)):
            if one.source == other.source:
                assert agreements[i, j] == 1
                continue
            (own_a, shown_a), (own_b, shown_b) = seen(one, components[b].class_id), seen(other, components[a].class_id)
            distance = np.nanmean([np.linalg.norm(own_a - shown_b), np.linalg.norm(own_b - shown_a)])
            assert agreements[i, j] == pytest.approx(1 - min(distance / UNLIKE, 1))
            compared += 1
            whole = lights.of_segments(np.array([one._shard]), np.array([one._row]))[0]
            bordering += not np.allclose(own_a, whole, atol=0.1)
    assert compared > 100
    assert bordering > 50


def test_a_bank_of_before_goes_by_whole_segments(bank):
    reader = zeuxis.open(bank.path)._reader
    for shard in reader.shards:
        shard.__dict__["appearance"] = replace(shard.appearance, borders=None)
    result = bank.retrieve(LAYOUTS[0], 10)
    components = [each for each in result if each.hits]
    before, now = (choice_of(components, Lights(each), bank.frame) for each in (reader, bank._reader))
    assert np.isnan(Lights(reader).of_borders(np.array([0]), np.array([0]), np.array([1]))).all()
    assert before.known
    assert not np.allclose(before.agreements, now.agreements)
    assert (before.agreements[:, 0, 0] <= 1).all()


def test_the_option_is_a_weight_from_python_and_the_command_line():
    assert RetrievalOptions(coherent=True).coherent == COHERENCE
    assert RetrievalOptions(coherent=2).coherent == 2.0
    assert RetrievalOptions().coherent == 0.0
    assert (_query()["coherent"], _query(coherent=True)["coherent"], _query(coherence=0.2)["coherent"]) == (
        False,
        True,
        0.2,
    )


@pytest.mark.parametrize("coherent", [-1, float("nan"), float("inf"), "yes", None])
def test_other_weights_are_refused_in_one_sentence(bank, coherent):
    with pytest.raises(FilterError, match="coherent: expected True, False or a number from 0 to 1e100"):
        bank.retrieve(LAYOUTS[0], coherent=coherent)
