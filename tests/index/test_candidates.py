"""What is nominated: the nearest of the class and of what is allowed, from files that are written and mapped safely."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from zeuxis.index import candidates
from zeuxis.index.candidates import (
    INDEX_FILE,
    TABLE_FILE,
    Candidates,
    candidate_files,
    choose_codes,
    one_thread,
)
from zeuxis.index.embedding import count_components, count_segments, fit_projection, partition
from zeuxis.index.query import make_query
from zeuxis.storage.errors import BankError, InstallationError

sys.path.insert(0, str(Path(__file__).parent))
import oracle
import toyshards

PLENTY = 1 << 30


@pytest.fixture(scope="module")
def toys():
    return [toyshards.toy_shard(range(0, 30)), toyshards.toy_shard(range(30, 31)), toyshards.toy_shard(range(31, 60))]


@pytest.fixture(scope="module")
def query():
    return make_query(toyshards.layout_of(1000), toyshards.GEOMETRY, toyshards.THIN)


@pytest.fixture
def many_lists(monkeypatch):
    """Classes of more than 20 segments have lists and a projection of their own."""
    monkeypatch.setattr(candidates, "LARGE", 20)


def shards_of(toys):
    return [toy.footprints for toy in toys]


def opened(folder, toys, budget=PLENTY):
    for name, data in candidate_files(shards_of(toys), toyshards.FRAME, budget).items():
        (folder / name).write_bytes(data)
    return Candidates(folder)


def rows_of_class(toys, class_id):
    return [(s, int(r)) for s, toy in enumerate(toys) for r in np.flatnonzero(toy.footprints.class_id == class_id)]


def as_list(places):
    return [(int(shard), int(row)) for shard, row in places]


def test_a_class_that_is_asked_for_whole_is_nominated_whole(tmp_path, toys, query):
    found = opened(tmp_path, toys).nominate(query, 10_000)
    assert len(found) == len(query.class_ids) > 3
    for class_id, places in zip(query.class_ids, found, strict=True):
        assert as_list(places) == rows_of_class(toys, class_id)


def test_a_flat_scan_nominates_the_largest_inner_products(tmp_path, toys, query):
    found = opened(tmp_path, toys).nominate(query, 10)
    cells, known = partition(toyshards.FRAME), np.arange(4, dtype=np.uint16)
    counts = [count_segments(s, np.arange(len(s)), cells, known) for s in shards_of(toys)]
    projection = fit_projection(np.concatenate(counts), known, cells, candidates.DIM - 1)
    queries = projection.embed(count_components(query.arrays, np.arange(len(found)), cells, known))
    for vector, class_id, places in zip(queries, query.class_ids, found, strict=True):
        products = {
            (s, r): projection.embed(counts[s][r : r + 1])[0] @ vector for s, r in rows_of_class(toys, class_id)
        }
        best = sorted(products.values(), reverse=True)[:10]
        assert np.allclose([products[place] for place in as_list(places)], best, atol=1e-4)


@pytest.mark.parametrize("budget", [PLENTY, 0], ids=["flat", "sq8"])
def test_the_best_by_score_are_among_a_fifth_of_the_class(tmp_path, toys, query, many_lists, budget):
    share = 5
    index = opened(tmp_path, toys, budget)
    assert len(index._centroids) > 20
    sizes = [len(rows_of_class(toys, class_id)) for class_id in query.class_ids]
    found = index.nominate(query, min(sizes) // share, probed=0.5)
    hits = total = 0
    for number, class_id, places in zip(query.searched, query.class_ids, found, strict=True):
        mask = query.framed.labels == number + 1
        around = oracle.context(query.layout, mask)
        scores = {
            (s, r): oracle.score(mask, around, toys[s].masks[r], toys[s].contexts[r])[0]
            for s, r in rows_of_class(toys, class_id)
        }
        best = sorted(scores, key=lambda place: -scores[place])[:3]
        hits, total = hits + len(set(best) & set(as_list(places))), total + len(best)
    assert hits >= 0.95 * total


def test_only_what_is_allowed_is_nominated(tmp_path, toys, query, many_lists):
    index = opened(tmp_path, toys)
    rng = np.random.default_rng(0)
    for share in (0.5, 0.1, 0.0):
        allowed = [rng.random(len(shard)) < share for shard in shards_of(toys)]
        for class_id, places in zip(query.class_ids, index.nominate(query, 12, allowed), strict=True):
            rows = [(s, r) for s, r in rows_of_class(toys, class_id) if allowed[s][r]]
            assert set(as_list(places)) <= set(rows)
            assert len(places) == min(len(rows), 12) or len(rows) > 12  # lists that are not searched may hold the rest
            assert len(places) >= min(len(rows), 6)


def test_a_class_without_segments_gets_none(tmp_path, query):
    toy = toyshards.toy_shard(range(12), classes=2)
    index = opened(tmp_path, [toy])
    assert {len(places) for places, id in zip(index.nominate(query, 5), query.class_ids, strict=True) if id > 1} == {0}


def test_the_weights_decide_what_is_nominated(tmp_path, toys, query):
    index = opened(tmp_path, toys)
    found = [index.nominate(query, 8, weights=weights) for weights in [(1.0, 1.0), (1e200, 1e200), (1.0, 0.0)]]
    assert all(as_list(a) == as_list(b) for a, b in zip(found[0], found[1], strict=True))
    assert any(set(as_list(a)) != set(as_list(b)) for a, b in zip(found[0], found[2], strict=True))


def test_the_stored_form_follows_from_size_and_budget():
    assert choose_codes(1000, 1000 * (4 * candidates.DIM + 8)) == "flat"
    assert choose_codes(1000, 1000 * (4 * candidates.DIM + 8) - 1) == "sq8"
    assert choose_codes(20_000, 20_000 * (candidates.DIM + 8)) == "sq8"
    assert choose_codes(20_000, 20_000 * (candidates.DIM + 8) - 1) == "pq"
    assert choose_codes(20, 0) == "sq8"  # too few to learn product quantisation from


@pytest.mark.parametrize("codes", ["flat", "sq8", "pq"])
def test_every_stored_form_nominates_and_has_its_size(tmp_path, toys, query, monkeypatch, codes):
    monkeypatch.setattr(candidates, "choose_codes", lambda segments, budget: codes)
    index = opened(tmp_path, toys)
    assert index._index.code_size == candidates.CODES[codes]
    assert all(len(places) == 9 for places in index.nominate(query, 9))


def test_the_lists_are_memory_mapped(tmp_path, toys):
    index = opened(tmp_path, toys)  # kept: FAISS frees what belongs to it
    assert isinstance(faiss.downcast_InvertedLists(index._index.invlists), faiss.OnDiskInvertedLists)


def test_equal_seeds_make_equal_files(toys, many_lists):
    once, again = (candidate_files(shards_of(toys), toyshards.FRAME, PLENTY, seed=3) for _ in range(2))
    assert once == again
    assert set(once) == {INDEX_FILE, TABLE_FILE}
    assert candidate_files(shards_of(toys), toyshards.FRAME, PLENTY, seed=4) != once


def test_a_part_without_segments_has_no_files():
    empty = toyshards.toy_shard(range(0))
    assert candidate_files([empty.footprints], toyshards.FRAME, PLENTY) == {}


def test_a_segment_without_pixels_never_reaches_faiss(toys):
    shards = shards_of(toys)
    area = shards[2].area.copy()
    area[4] = 0
    broken = shards[2].__class__(**{**vars(shards[2]), "area": area})
    with pytest.raises(BankError, match="of shard 2: has no pixels in the frame, expected an area of at least 1"):
        candidate_files([*shards[:2], broken], toyshards.FRAME, PLENTY)


def test_files_of_two_parts_are_refused(tmp_path, toys):
    opened(tmp_path, toys)
    other = candidate_files(shards_of(toys)[:1], toyshards.FRAME, PLENTY)
    (tmp_path / TABLE_FILE).write_bytes(other[TABLE_FILE])
    with pytest.raises(BankError, match=r"candidates.faiss and candidates.safetensors belong to two parts"):
        Candidates(tmp_path)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss knows CUDA devices")
def test_a_device_that_is_not_there_is_said_so(tmp_path, toys):
    opened(tmp_path, toys)
    with pytest.raises(InstallationError, match="device 0: expected faiss-gpu and such a CUDA device"):
        Candidates(tmp_path, device=0)


def test_threads_get_the_answers_of_one(tmp_path, toys, many_lists):
    index = opened(tmp_path, toys, 0)
    queries = [make_query(toyshards.layout_of(seed), toyshards.GEOMETRY, toyshards.THIN) for seed in range(900, 908)]
    alone = [index.nominate(query, 7) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: index.nominate(query, 7), queries * 3))
    for number, found in enumerate(together):
        assert all(np.array_equal(a, b) for a, b in zip(alone[number % 8], found, strict=True))


@pytest.fixture
def two_threads():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


def test_faiss_gets_its_threads_back(two_threads):
    with pytest.raises(ZeroDivisionError):
        _fail_on_one_thread()
    assert faiss.omp_get_max_threads() == 2


def _fail_on_one_thread():
    with one_thread():
        assert faiss.omp_get_max_threads() == 1
        raise ZeroDivisionError
