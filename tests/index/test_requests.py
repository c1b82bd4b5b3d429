"""Every way to ask: own layouts and the guard, masks and boxes, draws, many layouts at once, tables of the answers."""

from __future__ import annotations

import itertools
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import zeuxis
from zeuxis.index.batch import JOBS_AHEAD, in_order
from zeuxis.index.retriever import Retriever
from zeuxis.storage.classes import ClassTable, SemanticClass
from zeuxis.storage.errors import FilterError, InputError, LayoutError
from zeuxis.storage.manifest import load_current
from zeuxis.storage.reader import Reader

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "storage"))
import oracle
from toybank import CLASSES, FRAME, SIZE, make_bank

pytestmark = pytest.mark.filterwarnings("ignore:.*aspect ratio")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Sources 0 to 9, two a room; 2, 5 and 8 are `val`."""
    return make_bank(tmp_path_factory.mktemp("requests") / "bank", range(4), range(4, 10))


@pytest.fixture(scope="module")
def bank(path):
    return zeuxis.open(path)


@pytest.fixture(scope="module")
def segments(bank):
    """(class, mask, source) of every segment, by the oracle."""
    found = []
    for name in bank.sources(columns=["source"])["source"].to_pylist():
        for class_id, mask in oracle.components(bank.layout(name), FRAME, 6):
            found.append((class_id, mask, name))
    return found


def answers(result):
    return [[(hit.segment_id, hit.score) for hit in component.hits] for component in result]


def sources_of(result):
    return {hit.source for component in result for hit in component.hits}


# ---- sources and the guard


def test_a_source_is_searched_by_its_own_layout_without_its_group_and_held_out_splits(bank):
    result = bank.retrieve(source="toy/004", k=999)
    assert (result.layout == bank.layout("toy/004")).all()
    assert sources_of(result) == {f"toy/00{n}" for n in (0, 1, 3, 6, 7, 9)}
    assert sources_of(bank.retrieve(source="toy/004", guard=False, k=999)) == {f"toy/00{n}" for n in range(10)}


def test_a_layout_may_be_said_to_belong_to_a_source(bank):
    layout = bank.layout("toy/003")
    assert answers(bank.retrieve(layout, source="toy/004")) == answers(
        bank.retrieve(layout, guard=True, exclude="toy/room2")
    )
    assert answers(bank.retrieve(source="toy/004")) == answers(bank.retrieve(bank.layout("toy/004"), source="toy/004"))
    assert answers(bank.retrieve(layout))[0][0][1] == 2.0


def test_a_collage_is_guarded_too(bank):
    made = bank.collage(source="toy/004")
    assert sources_of(made.retrieval) <= {f"toy/00{n}" for n in (0, 1, 3, 6, 7, 9)}
    assert made.canvas.valid.any()


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ({}, LayoutError, "a layout, or the name of a source"),
        ({"source": "toy/nothing"}, InputError, "'toy/nothing'"),
        ({"source": 3}, FilterError, "source"),
        ({"source": "toy/004", "dataset": "toy"}, InputError, "dataset"),
        ({"source": "toy/004", "guard": 1}, FilterError, "guard"),
        ({"source": "toy/004", "mode": "magic"}, FilterError, "mode.*exact, fast, gpu.*'magic'"),
        ({"source": "toy/004", "certify": "yes"}, FilterError, "certify"),
        ({"source": "toy/004", "min_score": "high"}, FilterError, "min_score"),
        ({"source": "toy/004", "min_score": float("nan")}, FilterError, "min_score"),
        ({"source": "toy/004", "min_score": 10**400}, FilterError, "min_score"),
        ({"source": "toy/004", "weights": (5e-324, 0)}, FilterError, "their sum in 1e-100..1e100"),
        ({"source": "toy/004", "weights": {"mask": 1, "context": 1}}, FilterError, "weights"),
        ({"source": "toy/004", "weights": np.ones((2, 2))}, FilterError, "weights"),
        ({"source": "toy/004", "where": "source = '\ud800'"}, FilterError, "lone surrogate"),
        ({"source": "toy/004", "where": {"class_name": "\ud800"}}, FilterError, "class_name"),
        ({"source": "toy/004", "where": pc.field(5) > 10}, FilterError, "name columns"),
        ({"source": "toy/004", "sample": 3}, FilterError, "sample"),
        ({"source": "toy/004", "sample": (4, 0)}, FilterError, "top at least k = 5"),
        ({"source": "toy/004", "sample": (9, -1)}, FilterError, "seed"),
        ({"source": "toy/004", "sample": (9.0, 1)}, FilterError, "sample"),
        ({"source": "toy/004", "exclude": 3}, FilterError, "exclude"),
        ({"source": "toy/004", "exclude": [["toy/000"]]}, FilterError, "exclude"),
        ({"source": "toy/004", "where": "area >"}, FilterError, "cannot be understood"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(bank, query, error, said):
    with pytest.raises(error, match=said) as caught:
        bank.retrieve(**query)
    assert "\n" not in str(caught.value)


# ---- what is left of the best


def test_min_score_cuts_the_lists(bank):
    whole = answers(bank.retrieve(source="toy/004", k=999))
    least = sorted(score for hits in whole for _, score in hits)[-20]
    cut = answers(bank.retrieve(source="toy/004", k=999, min_score=least))
    assert cut == [[hit for hit in hits if hit[1] >= least] for hits in whole]
    assert sum(map(len, cut)) >= 20
    result = bank.retrieve(source="toy/004", min_score=2.5)
    assert not any(result[n].hits for n in range(len(result)))
    assert not result.warnings, "there are candidates; they are not good enough"


def test_a_sample_is_drawn_from_the_top_and_repeats(bank):
    top = answers(bank.retrieve(source="toy/004", k=12))
    drawn = answers(bank.retrieve(source="toy/004", k=3, sample=(12, 5)))
    assert drawn == answers(bank.retrieve(source="toy/004", k=3, sample=(12, 5)))
    for hits, best in zip(drawn, top, strict=True):
        assert len(hits) == len(set(hits)) == min(3, len(best))
        assert set(hits) <= set(best)
        assert hits == sorted(hits, key=best.index)
    assert drawn != [hits[:3] for hits in top]
    assert drawn != answers(bank.retrieve(source="toy/004", k=3, sample=(12, 6)))


def test_samples_reach_all_of_the_top_and_nothing_else(bank):
    best = answers(bank.retrieve(source="toy/004", k=4))[0]
    seen = {answers(bank.retrieve(source="toy/004", k=1, sample=(4, seed)))[0][0] for seed in range(40)}
    assert seen == set(best)


def test_components_are_drawn_apart(bank):
    result = bank.retrieve(source="toy/004", k=1, sample=(6, 1))
    top = answers(bank.retrieve(source="toy/004", k=6))
    assert len({hits.index(drawn[0]) for hits, drawn in zip(top, answers(result), strict=True)}) > 2


def test_a_sample_respects_min_score_and_short_lists(bank):
    whole = answers(bank.retrieve(source="toy/004", k=999))
    assert answers(bank.retrieve(source="toy/004", k=999, sample=(10**12, 3))) == whole
    least = whole[0][3][1]
    for seed in range(10):
        result = bank.retrieve(source="toy/004", k=2, sample=(50, seed), min_score=least)
        assert all(hit.score >= least for component in result for hit in component.hits)


# ---- masks and boxes


def by_mask_iou(segments, class_id, mask):
    """Mask IoUs of a class, best first."""
    found = [(a & mask).sum() / (a | mask).sum() for other, a, _ in segments if other == class_id]
    return sorted((float(iou) for iou in found), reverse=True)


@pytest.mark.parametrize("class_", ["road", 1])
def test_a_mask_is_compared_by_its_overlap_alone(bank, segments, class_):
    mask = np.zeros(FRAME, np.uint8)
    cv2.ellipse(mask, (30, 25), (20, 12), 30, 0, 360, 1, -1)
    result = bank.retrieve_mask(mask.astype(bool), class_, k=8)
    assert len(result) == 1
    assert (result[0].mask == mask[mask.any(1)][:, mask.any(0)]).all()
    assert [hit.score for hit in result[0].hits] == by_mask_iou(segments, 1, mask > 0)[:8]
    assert [hit.score for hit in result[0].hits] == [hit.mask_iou for hit in result[0].hits]
    assert answers(bank.retrieve_mask(mask * 7, class_, k=8)) == answers(result)


def test_a_mask_in_several_pieces_is_one_component(bank, segments):
    mask = np.zeros(FRAME, bool)
    mask[2:12, 3:20] = mask[30:40, 50:70] = mask[20, 30] = True
    result = bank.retrieve_mask(mask, "tree", k=8)
    assert [(c.class_id, c.area, c.box) for c in result] == [(7, 371, (2, 3, 40, 70))]
    assert [hit.score for hit in result[0].hits] == by_mask_iou(segments, 7, mask)[:8]
    assert (result[0].in_layout()[1] == mask[2:40, 3:70]).all()


def test_a_mask_of_another_size_is_sampled_like_a_layout(bank, segments):
    mask = np.zeros(SIZE, bool)
    mask[10:50, 20:90] = True
    framed = oracle.sample(mask, FRAME) > 0
    result = bank.retrieve_mask(mask, "sky", k=3)
    assert [hit.score for hit in result[0].hits] == by_mask_iou(segments, 0, framed)[:3]
    box = bank.retrieve_box((10, 20, 50, 90), "sky", k=3, size=SIZE)
    assert answers(box) == answers(result)


def test_a_box_is_in_the_frame_unless_a_size_is_named(bank, segments):
    mask = np.zeros(FRAME, bool)
    mask[5:25, 30:75] = True
    result = bank.retrieve_box((5, 30, 25, 75), 0, k=3)
    assert [hit.score for hit in result[0].hits] == by_mask_iou(segments, 0, mask)[:3]


def test_masks_take_the_options_of_layouts(bank):
    box = (5, 30, 25, 75)
    guarded = bank.retrieve_box(box, "sky", k=999, source="toy/004")
    assert sources_of(guarded) <= {f"toy/00{n}" for n in (0, 1, 3, 6, 7, 9)}
    both = bank.retrieve_box(box, "sky", k=3, weights=(1, 1))
    for hit in both[0].hits:
        assert hit.score == hit.mask_iou + hit.context_iou
    assert any(hit.context_iou for hit in both[0].hits)


@pytest.mark.parametrize(
    ("mask", "class_", "error", "said"),
    [
        (np.zeros(FRAME, bool), "sky", LayoutError, "at least one pixel"),
        (np.zeros((0, 4), bool), "sky", LayoutError, "shape"),
        (np.ones((4, 4, 3), bool), "sky", LayoutError, "shape"),
        (np.ones((4, 4)), "sky", LayoutError, "float64"),
        ([[1], [1, 2]], "sky", LayoutError, "an array"),
        (np.ones(FRAME, bool), "whale", InputError, "class of the bank, sky .0., road .1."),
        (np.ones(FRAME, bool), -1, InputError, "class of the bank"),
        (np.ones(FRAME, bool), 9, InputError, "class of the bank"),
        (np.ones(FRAME, bool), True, InputError, "class of the bank"),
        (np.ones(FRAME, bool), None, InputError, "class of the bank"),
    ],
)
def test_masks_that_cannot_be_searched(bank, mask, class_, error, said):
    with pytest.raises(error, match=said) as caught:
        bank.retrieve_mask(mask, class_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (5, 0, 4, 9), (0, 0, 46, 9), (-1, 0, 4, 9), (0, 0, 4), 7, (0, 0, 4.5, 9)]
)
def test_boxes_that_cannot_be(bank, box):
    with pytest.raises(LayoutError, match="box: expected"):
        bank.retrieve_box(box, "sky")


@pytest.mark.parametrize("size", [(0, 5), (5,), (70000, 3), "ab"])
def test_sizes_that_cannot_be(bank, size):
    with pytest.raises(LayoutError, match="size: expected"):
        bank.retrieve_box((0, 0, 1, 1), "sky", size=size)


# ---- components at the edge of what can be searched


def test_a_one_pixel_component_is_skipped(bank):
    layout = np.zeros(FRAME, int)
    layout[7, 7] = 3
    result = bank.retrieve(layout)
    assert [(c.class_id, c.area, len(c.hits)) for c in result.skipped] == [(3, 1, 0)]
    mask = bank.retrieve_mask(layout == 3, "car")
    assert (len(mask), [(c.class_id, c.area) for c in mask.skipped]) == (0, [(3, 1)])
    assert mask.to_arrow().num_rows == 0


def test_a_component_that_vanishes_in_the_frame_is_skipped(bank):
    layout = np.zeros((450, 750), int)
    layout[3, 3] = 3  # between the pixels that the frame takes
    result = bank.retrieve(layout)
    assert [(c.class_id, c.area) for c in result.skipped] == [(3, 0)]
    assert [(c.class_id, c.area) for c in bank.retrieve_mask(layout == 3, "car").skipped] == [(3, 0)]


def test_a_component_that_fills_the_frame(bank, segments):
    for layout in (np.ones(FRAME, int), np.ones((1, 1), int), np.ones((900, 1500), int)):
        result = bank.retrieve(layout, k=4, weights=(1, 0))
        assert [(c.box, c.area) for c in result] == [((0, 0, *FRAME), FRAME[0] * FRAME[1])]
        assert [hit.score for hit in result[0].hits] == by_mask_iou(segments, 1, np.ones(FRAME, bool))[:4]


@pytest.fixture
def with_boats(path):
    """The bank with a class more, of which it has no segment."""
    classes = ClassTable([*CLASSES, SemanticClass(9, "boat", (9, 9, 9))])
    return Retriever(Reader(path, replace(load_current(path), classes=classes)))


def test_a_class_the_bank_lacks_gives_empty_lists_and_one_warning(with_boats):
    layout = np.zeros(FRAME, int)
    layout[5:20, 5:20] = layout[5:20, 40:60] = 9
    result = with_boats.retrieve(layout)
    assert [(c.class_id, len(c.hits)) for c in result] == [(0, 5), (9, 0), (9, 0)]
    assert result.warnings == ["bank: there is no segment of class 'boat'"]
    assert [len(c.hits) for c in with_boats.retrieve_mask(layout == 9, "boat")] == [0]


def test_a_class_that_filters_leave_nothing_of_is_told_apart_from_a_filter_that_leaves_nothing(bank):
    layout = bank.layout("toy/004")
    with pytest.warns(UserWarning, match="no segment is left of class 'sky'") as caught:
        result = bank.retrieve(layout, where="class_name <> 'sky'")
    assert len(caught) == 1
    assert all(bool(c.hits) == (c.class_name != "sky") for c in result)
    with pytest.warns(UserWarning, match=": no segment is left$") as caught:
        result = bank.retrieve(layout, where="class_name = 'whale'")
    assert len(caught) == 1
    assert not sources_of(result)


# ---- many layouts


@pytest.fixture(scope="module")
def layouts(bank):
    """More than the threads take in ahead."""
    return [np.roll(bank.layout(f"toy/00{n % 10}"), n, axis=1) for n in range(40)]


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_many_layouts_are_answered_in_order_like_each_alone(bank, layouts, workers):
    options = {"k": 3, "where": "area > 20", "exclude": "toy/000", "sample": (9, 1)}
    found = list(bank.retrieve_many(iter(layouts), workers=workers, **options))
    assert [answers(result) for result in found] == [answers(bank.retrieve(layout, **options)) for layout in layouts]


def test_many_sources_are_each_guarded(bank, layouts):
    names = [f"toy/00{n}" for n in range(10)]
    for name, result in zip(names, bank.retrieve_many(sources=names, k=4), strict=True):
        assert answers(result) == answers(bank.retrieve(source=name, k=4))
    own = layouts[:10]
    for name, layout, result in zip(names, own, bank.retrieve_many(own, 4, sources=names), strict=True):
        assert answers(result) == answers(bank.retrieve(layout, 4, source=name))
    assert sources_of(next(bank.retrieve_many(sources=names, k=999, guard=False))) == set(names)


def test_layouts_are_taken_as_they_are_needed(bank, layouts):
    taken = itertools.count()
    results = bank.retrieve_many((layout for layout in itertools.cycle(layouts) if next(taken) >= 0), 1, workers=2)
    for _ in range(5):
        next(results)
    assert next(taken) <= 5 + 2 * JOBS_AHEAD + 1
    results.close()


def test_a_bad_layout_is_named_by_its_number_or_passed_over(bank, layouts):
    given = [layouts[0], "no/such/file.png", np.full(FRAME, 300), layouts[1]]
    results = bank.retrieve_many(given, 2)
    assert answers(next(results)) == answers(bank.retrieve(layouts[0], 2))
    with pytest.raises(LayoutError, match=r"layout 1: no/such/file\.png: .*No such file"):
        next(results)
    first, second, third, last = bank.retrieve_many(given, 2, errors="skip")
    assert isinstance(second, LayoutError)
    assert isinstance(third, LayoutError)
    assert str(third).startswith("layout 2: layout: ")
    assert [answers(result) for result in (first, last)] == [answers(bank.retrieve(x, 2)) for x in layouts[:2]]


def test_a_class_that_lacks_is_no_error_in_a_batch(with_boats, layouts):
    boats = np.full(FRAME, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = with_boats.retrieve_many([boats, layouts[0]])
    assert first.warnings == ["bank: there is no segment of class 'boat'"]
    assert sources_of(second)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"layouts": []}, None, ""),
        ({}, InputError, "layouts: expected layouts, or the names of sources"),
        ({"layouts": "a.png"}, InputError, "layouts: expected several, found 'a.png'"),
        ({"layouts": 3}, InputError, "layouts: expected several"),
        ({"sources": "toy/001"}, InputError, "sources: expected several"),
        ({"sources": ["toy/001"], "source": "toy/002"}, InputError, "exclude each other"),
        ({"layouts": [], "workers": 0}, InputError, "workers"),
        ({"layouts": [], "workers": 1.5}, InputError, "workers"),
        ({"layouts": [], "errors": "ignore"}, InputError, "errors"),
        ({"layouts": [], "k": 0}, FilterError, "k: "),
        ({"layouts": [], "where": "colour = 1"}, FilterError, "'colour'"),
        ({"layouts": [], "exclude": "toy/none", "errors": "skip"}, FilterError, "'toy/none'"),
        ({"layouts": [], "dataset": "nyu", "errors": "skip"}, InputError, "'nyu'"),
        ({"layouts": [], "source": "toy/none", "errors": "skip"}, InputError, "'toy/none'"),
    ],
)
def test_what_no_layout_could_be_searched_with_is_refused_at_once(bank, given, error, said):
    if error is None:
        assert list(bank.retrieve_many(**given)) == []
        return
    with pytest.raises(error, match=said):
        bank.retrieve_many(**given)


def test_as_many_sources_as_layouts(bank, layouts):
    with pytest.raises(InputError, match="only 1 sources"):
        list(bank.retrieve_many(layouts[:2], sources=["toy/001"]))
    with pytest.raises(InputError, match="only 1 layouts"):
        list(bank.retrieve_many(layouts[:1], sources=["toy/001", "toy/002"]))


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("zeuxis")}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_interrupt_ends_all_threads_and_drops_what_has_not_begun(stop):
    before, begun = threads(), []

    def jobs():
        yield from range(5)
        raise stop

    def work(job):
        begun.append(job)
        return job

    with pytest.raises(stop):
        list(in_order(work, jobs(), 2))
    assert threads() == before
    assert set(begun) <= set(range(5))


def test_a_caller_who_wants_no_more_ends_all_threads():
    before, gate, begun = threads(), threading.Event(), []

    def work(job):
        begun.append(job)
        if job > 1:
            gate.wait(5)
        return job

    results = in_order(work, range(100), 2)
    assert next(results) == 0
    gate.set()
    results.close()
    assert threads() == before
    assert len(begun) < 100


# ---- tables


def test_a_table_leads_back_to_file_and_box(bank):
    result = bank.retrieve(source="toy/004", k=3)
    table = result.to_arrow()
    assert isinstance(table, pa.Table)
    rows = table.to_pylist()
    hits = [(n, rank, hit) for n, c in enumerate(result) for rank, hit in enumerate(c.hits)]
    assert len(rows) == len(hits) > 10
    for row, (number, rank, hit) in zip(rows, hits, strict=True):
        record, source = hit.record(), hit.source_record()
        assert (row["component"], row["rank"], row["score"]) == (number, rank, hit.score)
        assert row["segment"] == f"{hit.segment_id:016x}"
        assert (row["source"], row["image"], row["root"]) == (hit.source, source["image"], "/nowhere/toy")
        assert (row["dataset"], row["split"], row["group"]) == ("toy", source["split"], source["group"])
        assert row["licence"] == "CC0"
        assert {side: row[side] for side in row if side.startswith("crop_")} == {
            side: record[side] for side in record if side.startswith("crop_")
        }
        window = np.s_[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]]
        crop = bank.photograph(row["source"])[window]
        assert (crop[hit.mask()] == hit.pixels()[hit.mask()]).all()
    assert result.to_frame().to_dict("records")[7]["segment"] == rows[7]["segment"]
    assert list(result.to_frame().columns) == table.column_names


def test_each_shards_rows_are_read_once_a_table(path, monkeypatch):
    retriever = Retriever(Reader(path))
    result = retriever.retrieve(source="toy/004", k=99, guard=False)
    calls = []
    rows = retriever.reader.rows
    monkeypatch.setattr(retriever.reader, "rows", lambda *given: calls.append(given[:2]) or rows(*given))
    assert result.to_arrow().num_rows > 50
    assert sorted(calls) == [("segments", 0), ("segments", 1), ("sources", 0), ("sources", 1)]


def test_a_bank_can_be_handed_to_another_process(bank):
    """As the workers of a data loader get it."""
    import pickle

    result = bank.retrieve(source="toy/004")
    again = pickle.loads(pickle.dumps(bank))
    assert again.generation == bank.generation
    assert answers(again.retrieve(source="toy/004")) == answers(result)
    assert answers(pickle.loads(pickle.dumps(result))) == answers(result)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_narrow_numbers_count_as_what_they_are(golden_bank, golden, mode):
    layout = golden[1]["query_01"]
    asked = golden_bank.retrieve(layout, np.int8(100), mode=mode, weights=(np.int8(100), np.int8(100)))
    assert answers(asked) == answers(golden_bank.retrieve(layout, 100, mode=mode, weights=(100.0, 100.0)))


def test_layouts_draw_apart_and_the_same_layout_alike(bank):
    """Else an epoch would see the same ranks for component 0 of every layout."""
    drawn = []
    for source in ("toy/000", "toy/003", "toy/006"):
        whole, some = (bank.retrieve(source=source, k=k, **more) for k, more in ((12, {}), (3, {"sample": (12, 7)})))
        drawn.append(
            [[every.index(hit) for hit in hits] for hits, every in zip(answers(some), answers(whole), strict=True)]
        )
        assert answers(some) == answers(bank.retrieve(source=source, k=3, sample=(12, 7)))
    assert len({str(ranks[:1]) for ranks in drawn}) > 1


@pytest.mark.parametrize("size", [(65535, 65535), (), 0, False])
def test_sizes_that_cannot_be_are_refused(bank, size):
    with pytest.raises(LayoutError, match="size"):
        bank.retrieve_box((0, 0, 1, 1), 1, size=size)
