"""An explanation recounts what the kernels counted, from the layouts alone, and draws it."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis
from zeuxis.index import explain
from zeuxis.storage.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "storage"))
import oracle
from toybank import FRAME, make_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return zeuxis.open(make_bank(tmp_path_factory.mktemp("explain") / "bank", range(3), range(3, 6)))


@pytest.fixture(scope="module")
def result(bank):
    return bank.retrieve(source="toy/003", k=4, guard=False)


def test_counts_and_boxes_are_those_of_the_score(bank, result):
    own = oracle.sample(bank.layout("toy/003"), FRAME).astype(np.int64)
    for component in result:
        query = np.zeros(FRAME, bool)
        top, left, bottom, right = component.box
        query[top:bottom, left:right] = component.mask
        for hit in component.hits:
            found = hit.explain()
            other = oracle.sample(bank.layout(hit.source), FRAME).astype(np.int64)
            around = oracle.context(own, query), oracle.context(other, found.segment_mask)
            score, mask, context = oracle.score(query, around[0], found.segment_mask, around[1])
            assert score == hit.score
            assert (found.mask.common, found.mask.union) == mask
            assert (found.context.common, found.context.union) == context
            assert (found.mask.iou, found.context.iou) == (hit.mask_iou, hit.context_iou)
            assert (found.mask.query, found.mask.segment) == (component.area, hit.record()["area"])
            assert found.context.segment == hit.record()["context_area"]
            assert (found.query_mask == query).all()
            assert (found.query_context == around[0]).all()
            assert (found.segment_context == around[1]).all()
            assert (found.query_box, found.segment_box) == (component.box, hit.box)
            for box, context_box, context in (
                (found.query_box, found.query_context_box, around[0]),
                (found.segment_box, found.segment_context_box, around[1]),
            ):
                assert all(a <= b for a, b in zip(context_box[:2], box[:2], strict=True))
                outside = np.ones(FRAME, bool)
                outside[context_box[0] : context_box[2], context_box[1] : context_box[3]] = False
                assert (context[outside] == oracle.VOID).all()


def test_the_region_map_of_a_source_is_its_layout(bank):
    reader = bank._reader
    for number, shard in enumerate(reader.shards):
        for row, name in enumerate(reader.shard_sources[number].names):
            regions = explain.source_regions(shard.footprints, row, FRAME)
            start = int(shard.footprints.region_start[row])
            classes = shard.footprints.region_class[start:][regions]
            assert (classes == oracle.sample(bank.layout(str(name)), FRAME)).all()


def test_the_pictures_show_what_was_counted(result):
    found = result[2].hits[1].explain()

    def pixels(picture, colour):
        return int((picture == np.array(colour, np.uint8)).all(axis=2).sum())

    overlap, agreement = found.overlap(), found.agreement()
    assert overlap.shape == agreement.shape == (*FRAME, 3)
    assert pixels(overlap, explain.BOTH) == found.mask.common > 0
    assert pixels(overlap, explain.QUERY) == found.mask.query - found.mask.common
    assert pixels(overlap, explain.SEGMENT) == found.mask.segment - found.mask.common > 0
    assert pixels(agreement, explain.BOTH) == found.context.common > 0
    different = pixels(agreement, explain.DIFFERENT)
    assert pixels(agreement, explain.QUERY) + different == found.context.query - found.context.common
    assert pixels(agreement, explain.SEGMENT) + different == found.context.segment - found.context.common


def test_an_explanation_is_a_picture_a_table_and_a_line(result, tmp_path):
    found = result.explain(result[2].hits[1])
    assert f"{result[2].hits[1].score:.4f} = 1 x {found.mask.common}/{found.mask.union}" in repr(found)
    with Image.open(io.BytesIO(found._repr_png_())) as picture:
        assert (picture.format, picture.width > 800) == ("PNG", True)
    assert found.save(tmp_path / "why.pdf").read_bytes().startswith(b"%PDF")
    assert [next(iter(column.cells)) for column in found.render().columns][:2] == ["mask", "1"]
    with pytest.raises(InputError, match="there is no folder"):
        found.save(tmp_path / "none/why.png")


def test_weights_and_masks_are_explained_as_they_were_searched(bank):
    hit = bank.retrieve(source="toy/003", weights=(0.5, 2))[0].hits[0]
    found = hit.explain()
    assert found.weights == (0.5, 2)
    assert hit.score == 0.5 * found.mask.iou + 2 * found.context.iou
    mask = np.zeros(FRAME, bool)
    mask[2:9, 3:20] = mask[30:40, 50:70] = True
    hit = bank.retrieve_mask(mask, "tree")[0].hits[0]
    assert (hit.explain().query_mask == mask).all()
    assert hit.explain().mask.iou == hit.score


def test_a_hit_that_answers_no_layout_says_so(result):
    with pytest.raises(InputError, match="answers no component"):
        replace(result[0].hits[0], _asked=None).explain()


def test_the_function_explains_one_hit_of_one_component(bank, tmp_path):
    layout = bank.layout("toy/003")
    found = zeuxis.explain(layout, 2, 1, bank=bank.path, out=tmp_path / "why.png")
    assert found.hit == bank.retrieve(layout)[2].hits[1]
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"
    for number, rank, said in (
        (99, 0, "component 99"),
        (-1, 0, "component: expected a whole number"),
        (0, 999, "rank 999"),
        (0, -1, "rank"),
    ):
        with pytest.raises(InputError, match=said):
            zeuxis.explain(layout, number, rank, bank=bank.path)
    with pytest.raises(InputError, match="there is no folder"):
        zeuxis.explain(layout, 2, 1, bank=bank.path, out=tmp_path / "none/why.png")
