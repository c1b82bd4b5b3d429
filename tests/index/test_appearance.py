"""Search by appearance gives what brute force over the stored bytes gives, ties and all, and only what it may give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pytest

from zeuxis.index.appearance import AppearanceIndex, Neighbour
from zeuxis.index.appearance_figure import draw_similar
from zeuxis.index.figure import to_png
from zeuxis.ingest.appearance import describe
from zeuxis.storage.appearance import Appearance
from zeuxis.storage.errors import BankError, FilterError, InputError
from zeuxis.storage.reader import Reader, ShardSources

SIZES = [70, 1, 0, 130]
CLASSES = [2, 5, 9]


@dataclass
class Columns:
    """What search by appearance reads of a shard's footprints."""

    segment_id: np.ndarray
    class_id: np.ndarray
    source: np.ndarray

    def __len__(self):
        return len(self.segment_id)


def fake_shard(rng, n, levels):
    """Rows sorted by class, then id, as shards have them; few levels make many equal distances."""
    class_id = np.sort(rng.choice(CLASSES, n))
    ids = rng.integers(0, 1 << 60, n, dtype=np.uint64)
    order = np.lexsort((ids, class_id))
    columns = Columns(ids[order], class_id, rng.integers(0, 5, n).astype(np.uint32))
    rows = rng.integers(0, levels, (n, 8)).astype(np.uint8)
    starts = {int(c): (int((class_id < c).sum()), int((class_id <= c).sum())) for c in np.unique(class_id)}
    return SimpleNamespace(
        footprints=columns, appearance=Appearance("test", rows), entry=SimpleNamespace(classes=starts)
    )


def fake_reader(seed=0, levels=256):
    rng = np.random.default_rng(seed)
    shards = [fake_shard(rng, n, levels) for n in SIZES]
    names = np.array([f"s{i}" for i in range(5)])
    sources = [ShardSources(names, names, np.array([True, True, False, True, True])) for _ in shards]
    return SimpleNamespace(shards=shards, shard_sources=sources, path="BANK")


def brute(reader, shard, row, k, same_class, exclude_source, allowed):
    columns = reader.shards[shard].footprints
    query = reader.shards[shard].appearance.rows[row].astype(int)
    found = []
    for s, each in enumerate(reader.shards):
        for r in range(len(each.footprints)):
            other = each.footprints
            mine = s == shard and (r == row or (exclude_source and other.source[r] == columns.source[row]))
            strange = same_class and other.class_id[r] != columns.class_id[row]
            live = reader.shard_sources[s].live[other.source[r]] and each.appearance.rows[r].any()
            if not mine and not strange and live and (allowed is None or allowed[s][r]):
                distance = int(((each.appearance.rows[r].astype(int) - query) ** 2).sum())
                found.append((distance, int(other.segment_id[r]), s, r))
    return [(distance, s, r) for distance, _, s, r in sorted(found)[:k]]


@pytest.mark.parametrize("levels", [256, 3, 2])
def test_the_nearest_are_those_of_brute_force_ties_by_id(levels):
    reader = fake_reader(levels, levels)
    index = AppearanceIndex(reader)
    rng = np.random.default_rng(1)
    for _ in range(60):
        shard = int(rng.choice([0, 1, 3]))
        row = int(rng.integers(SIZES[shard]))
        if not reader.shards[shard].appearance.rows[row].any():
            continue
        k, same, exclude = int(rng.choice([1, 2, 5, 40, 1000])), bool(rng.integers(2)), bool(rng.integers(2))
        allowed = None if rng.integers(2) else [rng.random(n) < 0.5 for n in SIZES]
        found = index.similar(shard, row, k, same_class=same, exclude_source=exclude, allowed=allowed)
        assert [tuple(each) for each in found] == brute(reader, shard, row, k, same, exclude, allowed)


def test_nothing_allowed_gives_nothing():
    reader = fake_reader()
    assert AppearanceIndex(reader).similar(0, 0, 3, allowed=[np.zeros(n, bool) for n in SIZES]) == []


@pytest.mark.parametrize("across_sources", [True, False])
def test_duplicates_are_all_pairs_of_a_class_below_the_threshold(across_sources, monkeypatch):
    monkeypatch.setattr("zeuxis.index.appearance._BLOCK", 17)
    reader = fake_reader(7, 4)
    expected = set()
    for s, each in enumerate(reader.shards):
        for r in range(len(each.footprints)):
            if each.appearance.rows[r].any() and reader.shard_sources[s].live[each.footprints.source[r]]:
                for distance, t, q in brute(reader, s, r, 1000, True, across_sources, None):
                    if distance < 12:
                        expected.add((distance, frozenset([(s, r), (t, q)])))
    found = AppearanceIndex(reader).duplicates(12, across_sources=across_sources)
    assert {(a.distance, frozenset([a[1:], b[1:]])) for a, b in found} == expected
    assert len(found) == len(expected) > 20
    assert [a.distance for a, _ in found] == sorted(a.distance for a, _ in found)
    for a, b in found:
        assert a.distance == b.distance
        ids = [int(reader.shards[each.shard].footprints.segment_id[each.row]) for each in (a, b)]
        assert ids[0] < ids[1]


def test_segments_that_were_not_described_are_refused_as_queries_and_never_found():
    reader = fake_reader()
    reader.shards[0].appearance.rows[3] = 0
    reader.shards[1].appearance = None
    index = AppearanceIndex(reader)
    assert (0, 3) not in [each[1:] for each in index.similar(3, 0, 1000, same_class=False)]
    assert 1 not in [each.shard for each in index.similar(3, 0, 1000, same_class=False)]
    for shard, row in ((0, 3), (1, 0)):
        with pytest.raises(BankError, match="without a description of its appearance; make a new bank"):
            index.similar(shard, row)


def test_descriptors_of_two_kinds_are_not_compared():
    reader = fake_reader()
    reader.shards[3].appearance = replace(reader.shards[3].appearance, descriptor="another")
    index = AppearanceIndex(reader)
    assert {each.shard for each in index.similar(0, 0, 1000, same_class=False)} <= {0, 1}
    with pytest.raises(BankError, match="make a new bank"):
        index.similar(3, 0)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_that_is_no_count_is_refused(k):
    with pytest.raises(FilterError, match="k: expected a whole number of at least 1"):
        AppearanceIndex(fake_reader()).similar(0, 0, k)


def test_a_bank_tells_its_neighbours_by_their_stored_crops(golden_bank):
    """End to end: descriptors made anew from the crops in the bank give the same neighbours in the same order."""
    reader = Reader(golden_bank.path)
    index = AppearanceIndex(reader)
    places = [(s, r) for s, shard in enumerate(reader.shards) for r in range(len(shard.footprints))][::5]
    shard, row = places[3]
    columns = reader.shards[shard].footprints
    allowed = [np.zeros(len(each.footprints), bool) for each in reader.shards]
    expected = []
    query = anew(reader, shard, row)
    for s, r in places:
        allowed[s][r] = True
        if (s, r) != (shard, row) and reader.shards[s].footprints.class_id[r] == columns.class_id[row]:
            id = int(reader.shards[s].footprints.segment_id[r])
            expected.append((int(((anew(reader, s, r) - query) ** 2).sum()), id))
    found = index.describe(index.similar(shard, row, 7, allowed=allowed))
    assert [(each.distance, each.segment_id) for each in found] == sorted(expected)[:7]
    assert len(found) == 7
    best = found[0]
    record = best.record()
    assert (best.segment_id, best.class_name, best.source) == tuple(
        record[name] for name in ("segment_id", "class_name", "source")
    )
    assert best.box == tuple(record[side] for side in ("top", "left", "bottom", "right"))
    assert best.mask().sum() == record["pixels"]
    assert best.pixels().shape[:2] == best.mask().shape


def anew(reader, shard, row):
    id = int(reader.shards[shard].footprints.segment_id[row])
    [row] = reader.shards[shard].table("segments").filter(pc.field("segment_id") == id).to_pylist()
    corner = row["crop_top"], row["crop_left"]
    return describe(reader.segment_pixels(shard, id), reader.segment_mask(shard, id), corner).astype(int)


def test_the_figure_shows_the_segment_and_its_neighbours_with_their_distances(golden_bank):
    reader = Reader(golden_bank.path)
    index = AppearanceIndex(reader)
    queries = index.describe([Neighbour(0, 0, row) for row in (0, 9)])
    rows = [(queries[0], index.describe(index.similar(0, 0, 3))), (queries[1], [])]
    figure = draw_similar(rows)
    labels = [axes.get_label() for axes in figure.axes]
    assert labels == ["query 0", "neighbour 0.0", "neighbour 0.1", "neighbour 0.2", "query 1"]
    said = [text.get_text() for text in figure.texts]
    assert [f"{each.distance:,}" in said for each in rows[0][1]] == [True] * 3
    assert {queries[0].class_name, queries[1].class_name, "nothing to compare it with"} <= set(said)
    shown = figure.axes[1].images[0].get_array()
    assert (shown[..., 3] > 0).sum() == rows[0][1][0].mask().sum()
    assert to_png(draw_similar([])).startswith(b"\x89PNG")


def test_a_segment_is_found_by_a_hit_a_number_or_an_id_as_printed(golden_bank):
    reader = Reader(golden_bank.path)
    index = AppearanceIndex(reader)
    id = int(reader.shards[1].footprints.segment_id[2])
    (itself,) = index.describe([Neighbour(0, 1, 2)])
    assert [index.find(each) for each in (id, np.uint64(id), f"{id:016x}", itself)] == [(1, 2)] * 4
    for strange in ("xyz", 1.5, None, -1, 1 << 64, "f" * 17):
        with pytest.raises(InputError, match="segment: expected"):
            index.find(strange)
    with pytest.raises(InputError, match="is not in"):
        index.find(id ^ 1)
