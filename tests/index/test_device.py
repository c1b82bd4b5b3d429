"""The device search answers exactly as brute force does: on the CPU here, on a GPU where there is one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zeuxis.index import device, device_bank
from zeuxis.index import device_kernels as kernels
from zeuxis.index.device import DeviceSearch
from zeuxis.index.device_bank import DeviceBank, DeviceLimits
from zeuxis.index.query import make_query
from zeuxis.index.search import ExactSearch
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import InstallationError
from zeuxis.storage.reader import Reader

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))
import oracle
import toybank

SHARDS = ((0, 1, 2), (3,), (4, 5))
TINY = DeviceLimits(1, 1, 1)
"""Every source a block, every layout a batch, every pair and every tile by itself."""
WEIGHTS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0), (1e200, 1e-200)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(toybank.make_bank(tmp_path_factory.mktemp("device") / "bank", *SHARDS))


@pytest.fixture(scope="module")
def search(reader):
    return DeviceSearch(reader, "cpu")


@pytest.fixture(scope="module")
def queries(reader):
    return [query_of(reader, layout_of(seed)) for seed in (6, 7)]


@pytest.fixture(scope="module")
def candidates(reader):
    """(class, mask, context, shard, row, id) of every segment, drawn from the sources by the oracle."""
    found = []
    for shard, seeds in enumerate(SHARDS):
        columns = reader.shards[shard].footprints
        names = reader.shard_sources[shard].names.tolist()
        for seed in seeds:
            source, layout = names.index(f"toy/{seed:03d}"), layout_of(seed)
            framed = oracle.sample(layout, toybank.FRAME).astype(np.int64)
            for class_id, mask in oracle.components(layout, toybank.FRAME, 6):
                same = (columns.source == source) & (columns.class_id == class_id) & (columns.area == mask.sum())
                (row,) = np.flatnonzero(same & (columns.box == oracle.box_of(mask)).all(1))
                found.append((class_id, mask, oracle.context(framed, mask), shard, row, columns.segment_id[row]))
    assert len(found) == sum(len(shard.footprints) for shard in reader.shards)
    return found


def layout_of(seed):
    return toybank.DATASET.to_bank(toybank.toy_source(seed)[2].layout)


def query_of(reader, layout):
    return make_query(layout, reader.geometry, reader.classes.flags("thin"))


def by_oracle(query, q, candidates, weights, keep):
    """(score, id, counts, place) of all candidates of a component, best first."""
    mask = query.framed.labels == query.searched[q] + 1
    around = oracle.context(oracle.sample(query.layout, toybank.FRAME).astype(np.int64), mask)
    found = []
    for class_id, other, context, shard, row, segment_id in candidates:
        if class_id == query.class_ids[q] and (keep is None or keep[shard][row]):
            _, m, c = oracle.score(other, context, mask, around)
            score = weights[0] * (m[0] / m[1]) + weights[1] * (c[0] / c[1] if c[1] else 0.0)
            found.append((score, int(segment_id), (*m, *c), (shard, int(row))))
    return sorted(found, key=lambda each: (-each[0], each[1]))


def assert_by_oracle(query, top, k, candidates, weights=(1.0, 1.0), keep=None):
    for q in range(len(query.class_ids)):
        want = by_oracle(query, q, candidates, weights, keep)[:k]
        n = int(top.found[q])
        places = [tuple(place) for place in top.place[q, :n].tolist()]
        counts = [tuple(each) for each in top.counts[q, :n].tolist()]
        assert list(zip(top.score[q, :n], top.segment_id[q, :n].tolist(), counts, places, strict=True)) == want


def assert_same(one, other):
    for got, want in zip(one, other, strict=True):
        for name in ("found", "score", "segment_id", "counts", "place"):
            assert np.array_equal(getattr(got, name), getattr(want, name)), name


@pytest.mark.parametrize("weights", WEIGHTS)
def test_answers_equal_brute_force(search, queries, candidates, weights):
    for query, top in zip(queries, search.search(queries, 4, weights=weights), strict=True):
        assert_by_oracle(query, top, 4, candidates, weights)


@pytest.mark.parametrize("limits", [TINY, DeviceLimits(100_000, 1 << 20, 20_000)])
def test_little_memory_changes_no_answer(reader, queries, candidates, limits):
    search = DeviceSearch(reader, "cpu", limits)
    for query, top in zip(queries, search.search(queries, 3), strict=True):
        assert_by_oracle(query, top, 3, candidates)
    assert len(list(search._bank.blocks())) > 1


def test_what_the_first_rounds_leave_is_searched(search, queries, candidates, monkeypatch):
    monkeypatch.setattr(device, "HEAD", 1)
    monkeypatch.setattr(device, "ROUNDS", (1,))
    for query, top in zip(queries, search.search(queries, 2), strict=True):
        assert_by_oracle(query, top, 2, candidates)


def test_half_precision_bounds_change_no_answer(reader, search, queries):
    assert_same(DeviceSearch(reader, "cpu", dtype=torch.float16).search(queries, 5), search.search(queries, 5))


def test_wide_types_change_no_answer(reader, search, queries, monkeypatch):
    """More than 254 classes or 32767 regions a source need wider numbers."""
    monkeypatch.setattr(DeviceBank, "_types", (torch.int32, torch.int32))
    assert_same(DeviceSearch(reader, "cpu").search(queries, 5), search.search(queries, 5))


@pytest.mark.parametrize("limits", [None, TINY])
def test_a_filter_keeps_only_what_it_says(reader, queries, candidates, limits):
    rng = np.random.default_rng(0)
    keep = [rng.random(len(shard.footprints)) < 0.4 for shard in reader.shards]
    (top,) = DeviceSearch(reader, "cpu", limits).search(queries[:1], 5, keep)
    assert_by_oracle(queries[0], top, 5, candidates, keep=keep)


def test_a_filter_that_leaves_nothing_gives_empty_answers(reader, search, queries):
    nothing = [np.zeros(len(shard.footprints), bool) for shard in reader.shards]
    (top,) = search.search(queries[:1], 5, nothing)
    assert not any(getattr(top, name).any() for name in top._fields)


def test_k_beyond_the_class_returns_all_of_it(search, queries, candidates):
    for query, top in zip(queries, search.search(queries, 10**9), strict=True):
        assert_by_oracle(query, top, 10**9, candidates)


def test_a_class_that_the_bank_lacks_has_no_hits_and_matches_nothing(reader, search, candidates):
    layout = layout_of(6)
    layout[layout == 3] = 9
    layout[:, 50:] = 9
    query = query_of(reader, layout)
    (top,) = search.search([query], 5)
    assert 9 in query.class_ids
    assert not top.found[query.class_ids == 9].any()
    assert_by_oracle(query, top, 5, candidates)


def test_layouts_without_components_have_empty_answers(reader, search, queries):
    void = query_of(reader, np.full((60, 101), VOID, np.uint16))
    assert search.search([], 5) == []
    first, second = search.search([void, queries[0]], 5)
    assert first.score.shape == (0, 1)
    assert_same([second], search.search(queries[:1], 5))


def test_the_bound_saves_scoring(search, queries):
    """A segment of the bank finds itself, and most others are not scored."""
    query = queries[0]
    few, all_ = search.search([query], 1)[0].scored.sum(), search.search([query], 10**9)[0].scored.sum()
    assert few < all_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("groups", [1, 2, 16])
def test_bounds_are_never_below_the_score(reader, queries, candidates, monkeypatch, dtype, groups):
    monkeypatch.setattr(device_bank, "GROUPS", groups)
    bank = DeviceBank(reader, torch.device("cpu"), DeviceLimits(), dtype)
    (block,) = bank.blocks()
    components = bank.components(queries)
    s, c = torch.arange(len(block.segment_id)), torch.arange(sum(len(query.class_ids) for query in queries))
    bound, context = (each.double() for each in kernels.bounds(block.side, s, components, c, bank.grid, (1.0, 0.5)))
    column = {int(id): n for n, id in enumerate(block.segment_id)}
    number = -1
    for query in queries:
        for q in range(len(query.class_ids)):
            number += 1
            for score, id, (_, _, same, union), _ in by_oracle(query, q, candidates, (1.0, 0.5), None):
                assert bound[number, column[id]] >= score * kernels.FLOAT_SLACK
                assert context[number, column[id]] >= 0.5 * (same / max(union, 1)) * kernels.FLOAT_SLACK


def test_a_device_that_torch_cannot_use_is_refused(reader):
    with pytest.raises(InstallationError, match="device 'cuda:99'"):
        DeviceSearch(reader, "cuda:99")


def test_golden_bank_answers_equal_the_exact_search_ties_included(golden, golden_bank):
    """`bank_07` repeats `bank_03`: each segment ties with its twin."""
    reader = Reader(golden_bank.path)
    queries = [query_of(reader, golden[1][name]) for name in ("bank_03", "query_00", "query_05", "query_11")]
    assert_as_exact(DeviceSearch(reader, "cpu"), reader, queries)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_answers(golden, golden_bank):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    reader = Reader(golden_bank.path)
    queries = [query_of(reader, golden[1][name]) for name in ("bank_03", "query_00", "query_05", "query_11")]
    for dtype in (torch.float16, torch.float32):
        assert_as_exact(DeviceSearch(reader, "cuda", dtype=dtype), reader, queries)
    assert_as_exact(DeviceSearch(reader, "cuda", DeviceLimits(1 << 20, 1 << 20, 1 << 20)), reader, queries)


def assert_as_exact(search, reader, queries):
    exact = ExactSearch(reader)
    for weights in WEIGHTS:
        assert_same(
            search.search(queries, 6, weights=weights), [exact.search(query, 6, None, weights) for query in queries]
        )
