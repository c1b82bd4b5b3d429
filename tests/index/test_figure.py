"""A figure shows every hit it promises with its scores, stays on its page, and is saved whole or not at all."""

import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeuxis.index.figure import MOST_HITS, check_figure, draw, save_figure, to_png
from zeuxis.storage.errors import InputError


@pytest.fixture(scope="module")
def layout(golden):
    """The golden query with the most components."""
    _, layouts = golden
    return max((layouts[name] for name in layouts if not name.startswith("bank")), key=lambda one: len(np.unique(one)))


def hit_axes(figure):
    return [axes for axes in figure.axes if axes.get_label().startswith("hit ")]


def said(figure):
    return [text.get_text() for text in figure.texts]


def assert_on_page(figure):
    """Every picture and every text lies inside the figure, and no two pictures overlap."""
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for box in boxes + [text.get_window_extent() for text in figure.texts]:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width + 0.5
        assert box.y1 <= height + 0.5
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a.x1, b.x1) - max(a.x0, b.x0) < 0.5 or min(a.y1, b.y1) - max(a.y0, b.y0) < 0.5


@pytest.mark.parametrize(("k", "most"), [(1, 60), (5, 12), (10, 2), (12, 1), (3, 0)])
def test_a_row_a_component_and_a_picture_with_scores_a_hit(golden_bank, layout, k, most):
    result = golden_bank.retrieve(layout, k)
    figure = draw(result, most)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    largest = sorted(range(len(result)), key=lambda number: -result[number].area)[:most]
    hits = [hit for number in largest for hit in result[number].hits[:MOST_HITS]]
    assert len(result) > 5
    assert len(hit_axes(figure)) == len(hits)
    assert sum(axes.get_label().startswith("component ") for axes in figure.axes) == len(largest)
    texts = said(figure)
    for hit in hits:
        assert f"{hit.score:.3f}" in texts
        assert f"mask {hit.mask_iou:.2f}  context {hit.context_iou:.2f}" in texts
        assert hit.source in texts
    for number in largest:
        assert f"{number}  {result[number].class_name}" in texts
    assert_on_page(figure)


def test_a_hit_is_drawn_from_its_own_pixels_and_clear_outside_its_mask(golden_bank, layout):
    result = golden_bank.retrieve(layout, 1)
    figure = draw(result, 1)
    hit = max(result, key=lambda component: component.area).hits[0]
    picture = hit_axes(figure)[0].images[0].get_array()
    assert np.array_equal(picture[..., 3] == 255, hit.mask())
    assert np.array_equal(picture[..., :3], hit.pixels())


def test_components_without_hits_say_so(golden_bank, layout):
    result = golden_bank.retrieve(layout, 3, where={"class_id": [60000]})
    figure = draw(result, 4)
    assert not hit_axes(figure)
    assert sum("has no segment of class" in text for text in said(figure)) == 4
    Image.open(io.BytesIO(to_png(figure))).verify()


@pytest.mark.parametrize("shape", [(24, 240), (300, 40)])
def test_a_single_component_of_an_extreme_layout_is_drawn(golden_bank, layout, shape):
    with pytest.warns(UserWarning, match="aspect ratio"):
        result = golden_bank.retrieve(np.full(shape, layout[0, 0]), 2)
    figure = draw(result)
    picture = Image.open(io.BytesIO(to_png(figure)))
    picture.load()
    assert len(result) == 1
    assert len(hit_axes(figure)) == 2
    assert_on_page(figure)


def test_the_legend_names_every_class_with_its_share(golden_bank, layout):
    figure = draw(golden_bank.retrieve(layout, 1), 1)
    legend = next(axes for axes in figure.axes if axes.get_label() == "legend")
    ids, counts = np.unique(layout[layout != 65535], return_counts=True)
    expected = {f"{golden_bank.classes[int(i)].name}  {n / layout.size:.1%}" for i, n in zip(ids, counts, strict=True)}
    assert {text.get_text() for text in legend.texts} == expected


def test_names_are_never_read_as_formulas(golden_bank, layout):
    result = golden_bank.retrieve(layout, 1)
    hit = replace(result[0].hits[0], source=r"a$\frac$b")
    strange = replace(result, components=[replace(result[0], hits=[hit], class_name="$_")])
    figure = draw(strange)
    Image.open(io.BytesIO(to_png(figure))).verify()
    assert r"a$\frac$b" in said(figure)


def test_no_window_and_no_global_state_is_needed(golden_bank, layout, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    assert to_png(draw(golden_bank.retrieve(layout, 1), 1)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".JPG", b"\xff\xd8"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_a_figure_is_saved_in_the_format_of_its_suffix(golden_bank, layout, tmp_path, suffix, magic):
    path = save_figure(draw(golden_bank.retrieve(layout, 1), 1), tmp_path / f"figure{suffix}")
    assert path.read_bytes().startswith(magic)
    assert os.listdir(tmp_path) == [path.name]


def test_a_figure_that_cannot_be_written_leaves_the_old_one(golden_bank, layout, tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    figure = draw(golden_bank.retrieve(layout, 1), 1)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_bad_names_are_refused_in_one_sentence(tmp_path: Path, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("figure.bmp", r"expected a name in \.png, .*, found '\.bmp'; rename it"),
        ("figure", "found no suffix"),
        ("folder.png", "is a folder"),
        ("missing/figure.png", "there is no folder"),
    ):
        with pytest.raises(InputError, match=message):
            check_figure(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be written"):
        check_figure(tmp_path / "figure.png")
