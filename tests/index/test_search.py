"""Exact search answers as brute force does, whatever the bank, the filter, the weights and the floor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zeuxis.index.query import make_query
from zeuxis.index.search import ExactSearch
from zeuxis.storage.classes import VOID
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.reader import Reader

sys.path.insert(0, str(Path(__file__).parent))
import banks
import oracle

WEIGHTS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0), (1e200, 1e-200)]
THIN = np.zeros(VOID + 1, bool)
FIELDS = ("found", "score", "segment_id", "counts", "place")


@dataclass
class Case:
    """A bank, its layouts by source name, and how layouts like them are made."""

    reader: Reader
    layouts: dict[str, np.ndarray]
    new_layout: Callable[[np.random.Generator], np.ndarray]

    @cached_property
    def search(self):
        return ExactSearch(self.reader)

    @cached_property
    def candidates(self):
        """(class, mask, context, shard, row, id) of every segment: components in the order of their first pixels."""
        found = []
        for shard, sources in enumerate(self.reader.shard_sources):
            columns = self.reader.shards[shard].footprints
            for source, name in enumerate(sources.names):
                layout = self.layouts[name.removeprefix("made/")]
                components = oracle.components(layout, layout.shape, self.reader.geometry.min_area)
                components.sort(key=lambda each: np.flatnonzero(each[1])[0])
                for region, (class_id, mask) in enumerate(components, start=1):
                    (row,) = np.flatnonzero((columns.source == source) & (columns.region == region))
                    context = oracle.context(layout.astype(np.int64), mask)
                    found.append((class_id, mask, context, shard, int(row), int(columns.segment_id[row])))
        assert len(found) == sum(len(shard.footprints) for shard in self.reader.shards)
        return found

    def query(self, layout):
        return make_query(layout, self.reader.geometry, THIN)

    def allowed(self, rng, share):
        """A random share of all rows."""
        return [rng.random(len(shard.footprints)) < share for shard in self.reader.shards]


def make_case(folder, geometry, new_layout, *nights, twins=()):
    """A bank of random layouts; nights as lists of sources a shard; `twins`: sources that repeat an earlier layout."""
    rng = np.random.default_rng(len(twins))
    made = [[[new_layout(rng) for _ in range(n)] for n in night] for night in nights]
    shards = [shard for night in made for shard in night]
    for (shard, number), (of_shard, of_number) in twins:
        shards[shard][number] = shards[of_shard][of_number]
    layouts = {f"{seed}-{number}": layout for seed, shard in enumerate(shards) for number, layout in enumerate(shard)}
    return Case(banks.make_bank(folder, geometry, *made), layouts, new_layout)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A bank of two parts, with twins; one of many classes in one shard; one with a class of more than 1024 rows; one
    whose frame is hardly more than a tile."""

    def of(frame, classes, specks):
        return lambda rng: banks.random_layout(rng, frame, classes, specks)

    root = tmp_path_factory.mktemp("search")
    twins = (((1, 0), (0, 1)), ((2, 1), (0, 1)), ((3, 0), (0, 2)))
    return {
        "nights": make_case(
            root / "nights", Geometry((45, 75), 6), of((45, 75), 4, 0.01), (7, 8), (2,), (1,), twins=twins
        ),
        "classes": make_case(root / "classes", Geometry((37, 64), 1), of((37, 64), 13, 0.0), (5,)),
        "specks": make_case(root / "specks", Geometry((60, 70), 1), of((60, 70), 3, 0.12), (3, 3)),
        "tiny": make_case(root / "tiny", Geometry((9, 11), 1), of((9, 11), 3, 0.1), (3,), (3,)),
    }


@pytest.fixture(scope="module")
def nights(cases):
    return cases["nights"]


def by_oracle(case, query, q, weights=(1.0, 1.0), allowed=None, floor=0.0):
    """(score, id, counts, place) of all candidates of a component that reach the floor, best first."""
    mask = query.framed.labels == query.searched[q] + 1
    around = oracle.context(query.layout.astype(np.int64), mask)
    found = []
    for class_id, other, context, shard, row, segment_id in case.candidates:
        if class_id == query.class_ids[q] and (allowed is None or allowed[shard][row]):
            _, m, c = oracle.score(other, context, mask, around)
            score = weights[0] * (m[0] / m[1]) + weights[1] * (c[0] / c[1] if c[1] else 0.0)
            if score >= floor:
                found.append((score, segment_id, (*m, *c), (shard, row)))
    return sorted(found, key=lambda each: (-each[0], each[1]))


def answers(top, q):
    """The same of what a search found."""
    lists = (getattr(top, name)[q, : top.found[q]].tolist() for name in FIELDS[1:])
    return [(score, id, tuple(counts), tuple(place)) for score, id, counts, place in zip(*lists, strict=True)]


def all_answers(top):
    return [answers(top, q) for q in range(len(top.found))]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("k", [1, 5, 10**6])
@pytest.mark.parametrize("name", ["nights", "classes", "tiny"])
def test_answers_are_those_of_the_definition(cases, name, k, weights):
    case, rng = cases[name], np.random.default_rng(k)
    for _ in range(2):
        query = case.query(case.new_layout(rng))
        top = case.search.search(query, k, weights=weights)
        assert all_answers(top) == all_answers(case.search.brute_force(query, k, weights=weights))
        for q in rng.permutation(len(query.class_ids))[:6]:
            assert answers(top, q) == by_oracle(case, query, q, weights)[:k]


@given(
    name=st.sampled_from(["nights", "classes", "specks", "tiny"]),
    seed=st.integers(0, 10**6),
    k=st.sampled_from([1, 2, 5, 30, 10**6]),
    weights=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)) | st.sampled_from(WEIGHTS),
    share=st.sampled_from([None, 0.0, 0.02, 0.3, 0.95]),
    floor=st.sampled_from([0.0, 0.05, 0.5, 0.9, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_random_queries_are_answered_as_by_brute_force(cases, name, seed, k, weights, share, floor):
    assume(sum(weights) > 1e-6)
    case, rng = cases[name], np.random.default_rng(seed)
    stored = list(case.layouts.values())
    query = case.query(case.new_layout(rng) if seed % 3 else stored[seed % len(stored)])
    allowed = None if share is None else case.allowed(rng, share)
    least = floor * sum(weights)
    top = case.search.search(query, k, allowed, weights, floor=least)
    whole = case.search.brute_force(query, k, allowed, weights)
    for q in range(len(query.class_ids)):
        assert answers(top, q) == [each for each in answers(whole, q) if each[0] >= least]
    if name != "specks" and len(query.class_ids):
        q = int(rng.integers(len(query.class_ids)))
        assert answers(top, q) == by_oracle(case, query, q, weights, allowed, least)[:k]


def test_the_banks_have_what_the_tests_are_about(cases):
    reader = cases["nights"].reader
    assert [len(part.entry.shards) for part in reader.parts] == [2, 2]
    assert len(cases["tiny"].reader.parts) == 1
    assert max(cases["specks"].search.class_sizes.values()) > 1024
    assert len(cases["classes"].search.class_sizes) == 13


def test_little_of_a_large_class_is_scored(cases):
    case = cases["specks"]
    query = case.query(next(iter(case.layouts.values())))
    top, whole = case.search.search(query, 1), case.search.brute_force(query, 1)
    assert all_answers(top) == all_answers(whole)
    assert top.scored.sum() < 0.2 * whole.scored.sum()
    assert (top.scored <= whole.scored).all()


def test_a_large_k_brings_the_whole_class_each_segment_once(nights):
    query = nights.query(nights.layouts["0-0"])
    top = nights.search.search(query, 10**9)
    for q, id in enumerate(query.class_ids.tolist()):
        assert top.found[q] == nights.search.class_sizes[id]
        assert len({each[1] for each in answers(top, q)}) == top.found[q]


def test_equal_scores_come_by_ascending_id(nights):
    """Three sources share a layout, over three shards and both parts."""
    query = nights.query(nights.layouts["0-1"])
    ties = 0
    for k in (1, 2, 3, 4):
        top = nights.search.search(query, k)
        for q in range(len(query.class_ids)):
            twins = sorted(each[1] for each in by_oracle(nights, query, q) if each[0] == 2.0)
            assert [each[1] for each in answers(top, q) if each[0] == 2.0] == twins[:k]
            ties += len(twins) >= 3
    assert ties
    places = [each[3][0] for each in answers(top, 0)[:3]]
    assert sorted(places) == [0, 1, 2]


def test_where_nothing_is_allowed_nothing_is_found_or_scored(nights):
    query = nights.query(nights.layouts["0-0"])
    top = nights.search.search(query, 5, nights.allowed(np.random.default_rng(0), 0.0))
    assert not top.found.any()
    assert not top.scored.any()


def test_one_allowed_row_is_found_wherever_it_lies(nights):
    query = nights.query(nights.layouts["1-0"])
    for class_id, _, _, shard, row, segment_id in nights.candidates[::7]:
        allowed = nights.allowed(np.random.default_rng(0), 0.0)
        allowed[shard][row] = True
        top = nights.search.search(query, 5, allowed)
        assert top.scored.sum() <= len(query.class_ids)
        for q, id in enumerate(query.class_ids):
            assert [each[1:4:2] for each in answers(top, q)] == ([(segment_id, (shard, row))] if id == class_id else [])


def test_only_allowed_rows_are_scored(nights):
    allowed = nights.allowed(np.random.default_rng(4), 0.1)
    query = nights.query(nights.layouts["1-2"])
    top = nights.search.search(query, 10**6, allowed)
    whole = nights.search.brute_force(query, 10**6, allowed)
    np.testing.assert_array_equal(top.scored, whole.scored)
    assert 0 < top.scored.max() < max(nights.search.class_sizes.values())


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_floor_at_the_kth_score_changes_nothing_and_one_above_it_leaves_it_out(nights, weights):
    query = nights.query(nights.new_layout(np.random.default_rng(6)))
    k = 4
    top = nights.search.search(query, k, weights=weights)
    full = top.found == k
    assert full.any()
    floors = np.where(full, top.score[:, k - 1], 0.0)
    at = nights.search.search(query, k, weights=weights, floor=floors)
    assert all_answers(at) == all_answers(top)
    assert (at.scored <= top.scored).all()
    above = nights.search.search(query, k, weights=weights, floor=np.nextafter(floors, np.inf))
    for q in np.flatnonzero(full):
        assert answers(above, q) == [each for each in answers(top, q) if each[0] > floors[q]]


def test_a_floor_above_every_score_leaves_nothing(nights):
    query = nights.query(nights.layouts["0-0"])
    top = nights.search.search(query, 5, floor=np.nextafter(2.0, 3.0))
    assert not top.found.any()
    assert nights.search.search(query, 5, floor=2.0).found.all()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0)])
def test_threads_share_the_components_and_change_nothing(nights, weights):
    allowed = nights.allowed(np.random.default_rng(1), 0.5)
    query = nights.query(nights.new_layout(np.random.default_rng(2)))
    one = nights.search.search(query, 3, allowed, weights, floor=0.2)
    several = nights.search.search(query, 3, allowed, weights, floor=0.2, threads=3)
    for name in (*FIELDS, "scored"):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))


def test_a_component_alone_is_answered_as_in_its_layout(nights):
    query = nights.query(nights.new_layout(np.random.default_rng(3)))
    top = nights.search.search(query, 5)
    for q in range(len(query.class_ids)):
        assert all_answers(nights.search.search(query.only(q), 5)) == [answers(top, q)]


@pytest.mark.parametrize("kept", [0, 1])
def test_shards_that_no_part_covers_are_searched_alike(nights, kept):
    """As in a bank that was made before there were parts."""
    manifest = replace(nights.reader.manifest, index=nights.reader.manifest.index[:kept])
    bare = ExactSearch(Reader(nights.reader.path, manifest))
    assert len(bare.reader.parts) == kept
    query = nights.query(nights.layouts["2-0"])
    for allowed in (None, nights.allowed(np.random.default_rng(2), 0.4)):
        assert all_answers(bare.search(query, 5, allowed)) == all_answers(nights.search.search(query, 5, allowed))


def test_a_part_of_another_version_is_made_anew_in_memory(nights):
    index = tuple(replace(entry, version=entry.version + 1) for entry in nights.reader.manifest.index)
    other = ExactSearch(Reader(nights.reader.path, replace(nights.reader.manifest, index=index)))
    assert other.reader.parts == []
    query = nights.query(nights.layouts["2-0"])
    assert all_answers(other.search(query, 5)) == all_answers(nights.search.search(query, 5))


def test_one_night_or_several_give_the_same_answers(nights, tmp_path):
    layouts = nights.layouts
    shards = [[layouts[f"{shard}-{n}"] for n in range(count)] for shard, count in enumerate((7, 8, 2, 1))]
    at_once = ExactSearch(banks.make_bank(tmp_path / "bank", nights.reader.geometry, shards))
    assert len(at_once.reader.parts) == 1
    query = nights.query(nights.new_layout(np.random.default_rng(9)))
    assert all_answers(at_once.search(query, 7)) == all_answers(nights.search.search(query, 7))


@pytest.mark.parametrize("wide", [(0,), (1, 3), (0, 1, 2, 3)])
def test_shards_of_more_regions_than_16_bits_number_beside_others(nights, wide):
    reader = Reader(nights.reader.path, replace(nights.reader.manifest, index=()))
    for number in wide:
        reader.shards[number].footprints = banks.widened(nights.reader.shards[number].footprints)
    search = ExactSearch(reader)
    query = nights.query(nights.layouts["3-0"])
    expected = all_answers(nights.search.search(query, 6))
    assert all_answers(search.search(query, 6)) == all_answers(search.brute_force(query, 6)) == expected


def test_a_class_that_the_bank_lacks_and_a_layout_of_nothing_find_nothing(nights):
    layout = nights.layouts["0-0"].copy()
    layout[:20] = 300
    query = nights.query(layout)
    top = nights.search.search(query, 5)
    lacking = query.class_ids == 300
    assert lacking.any()
    assert not lacking.all()
    assert (top.found[lacking] == 0).all()
    assert (top.found[~lacking] > 0).all()
    nothing = nights.query(np.full_like(layout, VOID))
    assert len(nights.search.search(nothing, 5).found) == 0


@pytest.mark.parametrize("name", ["classes", "tiny"])
def test_one_pixel_and_the_whole_frame_are_components_like_others(cases, name):
    case = cases[name]
    frame = case.reader.geometry.frame
    whole, pixel, corner = (np.full(frame, id, np.uint16) for id in (1, VOID, 0))
    pixel[frame[0] // 2, frame[1] // 2] = 1
    corner[-1, -1] = 1
    for layout in (whole, pixel, corner):
        query = case.query(layout)
        top = case.search.search(query, 4)
        for q in range(len(query.class_ids)):
            assert answers(top, q) == by_oracle(case, query, q)[:4]


def test_a_bank_without_a_segment_finds_nothing(tmp_path, nights):
    geometry = nights.reader.geometry
    reader = banks.make_bank(tmp_path / "bank", geometry, [[np.full(geometry.frame, VOID, np.uint16)]])
    assert [part.entry.rows for part in reader.parts] == [0]
    query = nights.query(nights.layouts["0-0"])
    search = ExactSearch(reader)
    assert not search.search(query, 5).found.any()
    assert not search.search(query, 5, [np.zeros(0, bool)]).found.any()
