"""Retrieval answers exactly by the score: golden answers, brute force, filters, ties, and what comes back."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

import zeuxis
from zeuxis.storage.errors import FilterError, InputError, LayoutError

sys.path.insert(0, str(Path(__file__).parent))
import oracle

pytestmark = pytest.mark.filterwarnings("ignore:.*aspect ratio")


@pytest.fixture(scope="module")
def bank(golden_bank):
    return golden_bank


@pytest.fixture(scope="module")
def candidates(golden, bank):
    """(class, mask, context, source name) of every segment, by the oracle."""
    answers, layouts = golden
    frame = tuple(answers["frame"])
    found = []
    for name, layout in layouts.items():
        if name.startswith("bank"):
            framed = oracle.sample(layout, frame).astype(np.int64)
            for class_id, mask in oracle.components(layout, frame, answers["min_area"]):
                found.append((class_id, mask, oracle.context(framed, mask), f"folder/{name}"))
    return found


def by_oracle(candidates, layout, frame, component, weights=(1.0, 1.0), keep=lambda source: True):
    """Scores of all candidates for one component of a layout, best first, with their sources."""
    mask = np.zeros(frame, bool)
    top, left, bottom, right = component.box
    mask[top:bottom, left:right] = component.mask
    context = oracle.context(oracle.sample(layout, frame).astype(np.int64), mask)
    scored = []
    for class_id, other, around, source in candidates:
        if class_id == component.class_id and keep(source):
            _, m, c = oracle.score(other, around, mask, context)
            scored.append((weights[0] * (m[0] / m[1]) + weights[1] * (c[0] / c[1] if c[1] else 0.0), source))
    return sorted(scored, reverse=True)


def test_golden_answers_are_met_exactly(golden, bank):
    answers, layouts = golden
    assert bank.segments().num_rows == answers["segments"]
    for number in range(12):
        result = bank.retrieve(layouts[f"query_{number:02}"], k=10)
        expected = [c for c in answers["components"] if c["query"] == number]
        assert len(result) == len(expected)
        found = {(c.class_id, *c.box, c.area): c for c in result}
        for want in expected:
            component = found[(want["class_id"], *want["box"], want["area"])]
            assert [hit.score for hit in component.hits] == [hit["score"] for hit in want["hits"]]
            last = want["hits"][-1]["score"] if len(want["hits"]) < want["of"] else -1.0
            key = {(h.score, h.source, h.box) for h in component.hits if h.score != last}
            assert key == {
                (h["score"], f"folder/bank_{h['source']:02}", tuple(h["box"]))
                for h in want["hits"]
                if h["score"] != last
            }
            for hit, wanted in zip(component.hits, want["hits"], strict=True):
                assert hit.mask_iou + hit.context_iou == wanted["score"]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_every_hit_equals_brute_force(golden, bank, candidates, weights):
    answers, layouts = golden
    frame = tuple(answers["frame"])
    for number in (0, 2, 9, 10, 11):
        layout = layouts[f"query_{number:02}"]
        for component in bank.retrieve(layout, k=7, weights=weights):
            want = by_oracle(candidates, layout, frame, component, weights)
            assert [hit.score for hit in component.hits] == [score for score, _ in want[:7]]


def test_random_layouts_equal_brute_force(golden, bank, candidates):
    frame = tuple(golden[0]["frame"])
    rng = np.random.default_rng(3)
    for _ in range(6):
        coarse = rng.integers(0, 7, (rng.integers(2, 9), rng.integers(2, 9)))
        layout = np.kron(coarse, np.ones((13, 17), int))
        layout[coarse.repeat(13, 0).repeat(17, 1) == 6] = zeuxis.VOID
        layout[rng.random(layout.shape) < 0.05] = zeuxis.VOID
        for component in bank.retrieve(layout, k=5):
            want = by_oracle(candidates, layout, frame, component)
            assert [hit.score for hit in component.hits] == [score for score, _ in want[:5]]


def test_equal_scores_are_ordered_by_segment_id(bank, golden):
    """`bank_07` repeats `bank_03`, so that each of their segments ties with its twin."""
    for component in bank.retrieve(golden[1]["bank_03"], k=300):
        keys = [(-hit.score, hit.segment_id) for hit in component.hits]
        assert keys == sorted(keys)
        assert component.hits[0].score == component.hits[1].score == 2.0


def test_a_large_k_returns_the_whole_class(bank, golden):
    counts = np.bincount(bank.segments(columns=["class_id"])["class_id"].to_numpy())
    for component in bank.retrieve(golden[1]["query_00"], k=10**9):
        assert len(component.hits) == counts[component.class_id]
        assert len({hit.segment_id for hit in component.hits}) == len(component.hits)


def test_pruned_search_scores_fewer_segments_than_there_are(bank, golden):
    result = bank.retrieve(golden[1]["query_00"], k=1)
    counts = np.bincount(bank.segments(columns=["class_id"])["class_id"].to_numpy())
    assert sum(c.scored for c in result) < sum(counts[c.class_id] for c in result)


def test_excluded_sources_and_groups_give_no_hits(bank, golden, candidates):
    layout, frame = golden[1]["query_03"], tuple(golden[0]["frame"])
    out = {"folder/bank_16", "folder/bank_37"}
    group = bank.sources({"source": "folder/bank_05"}, ["group"])["group"][0].as_py()
    for component in bank.retrieve(layout, k=300, exclude=[*out, group]):
        want = by_oracle(candidates, layout, frame, component, keep=lambda s: s not in out | {"folder/bank_05"})
        assert [hit.score for hit in component.hits] == [score for score, _ in want]
        assert not {hit.source for hit in component.hits} & (out | {"folder/bank_05"})


@pytest.mark.parametrize(
    "where",
    [
        {"source": ["folder/bank_01", "folder/bank_16"]},
        pc.field("source").isin(["folder/bank_01", "folder/bank_16"]),
        "source IN ('folder/bank_01', 'folder/bank_16')",
    ],
)
def test_where_keeps_only_what_it_says(bank, golden, candidates, where):
    layout, frame = golden[1]["query_04"], tuple(golden[0]["frame"])
    for component in bank.retrieve(layout, k=300, where=where):
        want = by_oracle(candidates, layout, frame, component, keep=lambda s: s in {"folder/bank_01", "folder/bank_16"})
        assert [hit.score for hit in component.hits] == [score for score, _ in want]


def test_where_that_leaves_nothing_gives_empty_lists(bank, golden):
    with pytest.warns(UserWarning, match="no segment is left"):
        result = bank.retrieve(golden[1]["query_04"], where={"split": "nowhere"})
    assert len(result)
    assert all(not component.hits for component in result)


def test_an_answer_says_what_was_asked_and_that_it_is_exact(bank, golden):
    result = bank.retrieve(golden[1]["query_04"], k=2, exclude="folder/bank_01")
    assert result.certified
    assert (result.options.k, result.options.exclude) == (2, ("folder/bank_01",))


def test_small_components_are_skipped_and_listed(bank):
    layout = np.zeros((96, 128), int)
    layout[10:13, 10:13] = 1  # 9 pixels: under the 12 of this bank
    layout[40:43, 40:44] = 1  # 12 pixels
    result = bank.retrieve(layout)
    assert [(c.class_id, c.area) for c in result.skipped] == [(1, 9)]
    assert sorted((c.class_id, c.area) for c in result) == [(0, 96 * 128 - 21), (1, 12)]


def test_components_carry_their_mask_and_box(bank, golden):
    result = bank.retrieve(golden[1]["query_09"])  # twice the frame's size
    for component in result:
        assert component.mask.sum() == component.area
        assert component.mask.any(0).all() or component.mask.any(1).any()
        box, mask = component.in_layout()
        window = result.layout[box[0] : box[2], box[1] : box[3]]
        assert (window[mask] == component.class_id).all()


def test_pixels_and_mask_of_a_hit_come_from_its_source(bank, golden):
    hit = bank.retrieve(golden[1]["query_00"])[0].hits[0]
    row = hit.record()
    photograph = bank.photograph(hit.source)
    crop = photograph[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]]
    assert (hit.pixels()[hit.mask()] == crop[hit.mask()]).all()
    assert not hit.pixels()[~hit.mask()].any()


def test_result_as_a_table(bank, golden):
    result = bank.retrieve(golden[1]["query_00"], k=3)
    table = result.to_frame()
    assert len(table) == sum(len(c.hits) for c in result)
    first = table.iloc[0]
    assert (first["segment"], first["score"]) == (f"{result[0].hits[0].segment_id:016x}", result[0].hits[0].score)


def test_layouts_as_path_palette_picture_and_native_ids(bank, golden, tmp_path):
    layout = golden[1]["query_02"]
    expected = bank.retrieve(layout).to_frame()
    labels = np.where(layout == zeuxis.VOID, 255, layout).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    palette = Image.fromarray(labels)
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    colours = bank.classes.painted(layout)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    for given in (tmp_path / "grey.png", str(tmp_path / "palette.png"), tmp_path / "colours.png", colours, labels):
        assert bank.retrieve(given).to_frame().equals(expected)
    assert bank.retrieve(labels, dataset="folder").to_frame().equals(expected)


def test_another_aspect_ratio_is_answered_with_a_warning(bank, golden):
    with pytest.warns(UserWarning, match="75x130.*aspect ratio"):
        assert len(bank.retrieve(golden[1]["query_10"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank.retrieve(golden[1]["query_09"])


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (np.full((8, 8), zeuxis.VOID), "nothing but void"),
        (np.full((8, 8), 255, np.uint8), "nothing but void"),
        (np.full((8, 8), -1), "class ids"),
        (np.full((8, 8), 300), "unknown ids 300 .64 pixels"),
        (np.full((8, 8), 70000), "class ids"),
        (np.zeros((8, 8)), "integer"),
        (np.zeros((0, 8), int), "shape"),
        (np.zeros((8, 8, 4), np.uint8), "shape"),
        (np.full((8, 8, 3), 7, np.uint8), "unknown colours"),
        ("no/such/file.png", "No such file"),
    ],
)
def test_bad_layouts_are_refused_in_one_sentence(bank, layout, said):
    with pytest.raises(LayoutError, match=said) as caught:
        bank.retrieve(layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ({"k": 0}, FilterError, "k: expected"),
        ({"k": 2.5}, FilterError, "k: expected"),
        ({"k": True}, FilterError, "k: expected"),
        ({"weights": (-1, 1)}, FilterError, "weights"),
        ({"weights": (0, 0)}, FilterError, "weights"),
        ({"weights": (float("nan"), 1)}, FilterError, "weights"),
        ({"exclude": "folder/nothing"}, FilterError, "folder/nothing"),
        ({"where": {"colour": 1}}, FilterError, "colour"),
        ({"where": {"area": "big"}}, FilterError, "area"),
        ({"where": "area >"}, FilterError, "where"),
        ({"where": pc.field("colour") == 1}, FilterError, "column 'colour': expected one of segment_id, "),
        ({"dataset": "nyu"}, InputError, "nyu"),
    ],
)
def test_bad_queries_are_refused_in_one_sentence(bank, golden, query, error, said):
    with pytest.raises(error, match=said) as caught:
        bank.retrieve(golden[1]["query_00"], **query)
    assert "\n" not in str(caught.value)
