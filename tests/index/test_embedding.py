"""The vectors: counts as plain NumPy counts them, and an inner product that is never below the score."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from zeuxis.index.embedding import (
    Projection,
    commonest_classes,
    count_components,
    count_segments,
    fit_projection,
    keep_classes,
    partition,
)
from zeuxis.index.query import make_query
from zeuxis.storage.classes import VOID

sys.path.insert(0, str(Path(__file__).parent))
import oracle
import toyshards

CLASSES = np.arange(4, dtype=np.uint16)
CELLS = partition(toyshards.FRAME)


@pytest.fixture(scope="module")
def toy():
    return toyshards.toy_shard(range(12))


@pytest.fixture(scope="module")
def counts(toy):
    return count_segments(toy.footprints, np.arange(len(toy.footprints)), CELLS, CLASSES)


@pytest.mark.parametrize("frame", [(8, 8), (44, 60), (360, 480), (2048, 1024), (1, 9999)])
def test_cells_are_whole_tiles_and_not_too_many(frame):
    cells = partition(frame)
    assert cells.mask.shape == (-(-frame[0] // 8), -(-frame[1] // 8))
    assert sorted(set(cells.mask.ravel())) == list(range(cells.mask_cells))
    assert sorted(set(cells.context.ravel())) == list(range(cells.context_cells))
    assert cells.mask_cells <= 24 * 32
    assert cells.context_cells <= 6 * 8


def test_counts_are_those_of_plain_numpy(toy, counts):
    at = [
        np.kron(each, np.ones((8, 8), int))[: CELLS.frame[0], : CELLS.frame[1]] for each in (CELLS.mask, CELLS.context)
    ]
    for row, (mask, context) in enumerate(zip(toy.masks, toy.contexts, strict=True)):
        expected = np.bincount(at[0][mask], minlength=CELLS.mask_cells) / mask.sum()
        around = [np.bincount(at[1][context == id], minlength=CELLS.context_cells) for id in CLASSES]
        expected = np.concatenate([expected, np.concatenate(around) / (context != VOID).sum()])
        assert np.allclose(counts[row] ** 2, expected, atol=1e-6)


def test_a_layout_is_counted_as_its_segments_are(toy):
    query = make_query(toyshards.layout_of(3), toyshards.GEOMETRY, toyshards.THIN)
    shard = toyshards.toy_shard(range(3, 4)).footprints
    wanted = np.array([2, 0, 9], np.uint16)  # 9 is nowhere
    bank = count_segments(shard, np.arange(len(shard)), CELLS, wanted)
    ours = count_components(query.arrays, np.arange(len(query.class_ids)), CELLS, wanted)
    boxes = {tuple(box): row for row, box in enumerate(shard.box.tolist())}
    rows = [boxes[tuple(box)] for box in query.arrays.box.tolist()]
    assert np.array_equal(ours, bank[rows])


@pytest.mark.parametrize("dim", [1, 7, 40, 500])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.0), (0.2, 3.0)])
def test_the_inner_product_is_never_below_the_score(toy, counts, dim, weights):
    chosen = commonest_classes(counts, 4, CELLS, 3)  # one class is left out
    projection = fit_projection(keep_classes(counts[::3], chosen, CELLS), CLASSES[chosen], CELLS, dim)
    kept = keep_classes(counts, chosen, CELLS)
    bound = projection.embed(kept[:40], weights) @ projection.embed(kept).T
    for i in range(40):
        for j in range(len(kept)):
            _, mask, around = oracle.score(toy.masks[i], toy.contexts[i], toy.masks[j], toy.contexts[j])
            score = weights[0] * mask[0] / mask[1] + weights[1] * around[0] / max(around[1], 1)
            assert bound[i, j] >= score - 1e-5


def test_a_projection_is_orthonormal_and_keeps_the_most(counts):
    few, more = (fit_projection(counts, CLASSES, CELLS, dim).matrix for dim in (5, 400))
    assert np.allclose(few.T @ few, np.eye(5), atol=1e-6)
    assert few.shape == (counts.shape[1], 5)
    assert np.allclose(np.abs((few * more[:, :5]).sum(axis=0)), 1, atol=1e-4)
    assert not more[:, counts.shape[1] :].any()  # spare columns
    kept = [np.square(counts @ direction).sum() for direction in more.T[:20]]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > np.square(counts @ np.full(counts.shape[1], counts.shape[1] ** -0.5)).sum()


def test_vectors_have_the_norm_of_the_weights(counts):
    projection = fit_projection(counts, CLASSES, CELLS, 6)
    for weights in [(1.0, 1.0), (3.0, 0.5)]:
        norms = np.square(projection.embed(counts, weights)).sum(axis=1)
        assert np.allclose(norms, weights[0] ** 2 + weights[1] ** 2, rtol=1e-4)


def test_weights_leave_the_counts_as_they_are(counts):
    before = counts.copy()
    Projection(CLASSES, np.eye(counts.shape[1], 3, dtype=np.float32), CELLS.mask_cells).embed(counts, (2.0, 0.0))
    assert np.array_equal(counts, before)


def test_the_commonest_classes_are_chosen(counts):
    share = np.square(counts[:, CELLS.mask_cells :]).reshape(len(counts), 4, -1).sum(axis=(0, 2))
    assert commonest_classes(counts, 4, CELLS, 2).tolist() == sorted(np.argsort(-share)[:2].tolist())
    assert commonest_classes(counts, 4, CELLS, 9).tolist() == [0, 1, 2, 3]
