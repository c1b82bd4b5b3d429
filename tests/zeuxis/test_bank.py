"""The Python face: an open bank, its tables, retrieval and collage, and the generation it stays on."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

import zeuxis
from zeuxis.storage.errors import (
    FilterError,
    InputError,
    LayoutError,
    NotABankError,
)

DEPTH = np.linspace(1000, 9000, 48 * 64).reshape(48, 64).astype(np.uint16)


@pytest.fixture
def path(photos: Any, rebuild_bank: Callable[..., Any], tmp_path: Path) -> Path:
    """A bank of three photographs, one of them with depth."""
    photos.add("a", "b")
    photos.add("c", depth=DEPTH)
    rebuild_bank(photos.spec, frame=(48, 64))
    return tmp_path / "bank"


@pytest.fixture
def bank(path: Path) -> zeuxis.Bank:
    return zeuxis.open(path)


@pytest.fixture
def layout(bank: zeuxis.Bank) -> np.ndarray:
    return bank.layout("folder/a")


def answers(result: zeuxis.Retrieval) -> list[list[tuple[int, float]]]:
    return [[(hit.segment_id, hit.score) for hit in component.hits] for component in result]


def test_an_open_bank_tells_what_and_where_it_is(bank: zeuxis.Bank, path: Path):
    assert repr(bank) == f"Bank({str(path)!r}, generation 1)"
    assert (bank.path, bank.generation, bank.frame) == (path, 1, (48, 64))
    assert bank.classes[2].name == "2"


def test_open_takes_a_path_a_text_or_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch):
    assert zeuxis.open(str(path)).path == path
    monkeypatch.setenv("ZEUXIS_BANK", str(path))
    assert zeuxis.open().path == path
    monkeypatch.delenv("ZEUXIS_BANK")
    with pytest.raises(InputError, match="ZEUXIS_BANK"):
        zeuxis.open()
    with pytest.raises(NotABankError, match="no such folder"):
        zeuxis.open(path / "none")


def test_a_retrieval_holds_components_with_hits(bank: zeuxis.Bank, photos: Any, layout: np.ndarray):
    result = bank.retrieve(layout, k=2)
    with Image.open(photos.image("a")) as picture:
        photograph = np.asarray(picture)
    assert len(result) == len(list(result)) > 3
    for component in result:
        top, left, bottom, right = component.box
        assert component.mask.shape == (bottom - top, right - left)
        assert component.mask.sum() == component.area
        assert (layout[top:bottom, left:right][component.mask] == component.class_id).all()
        assert 1 <= len(component.hits) <= 2
        best = component.hits[0]
        assert (best.source, best.mask_iou) == ("folder/a", 1)
        assert best.score == pytest.approx(best.mask_iou + best.context_iou)
        assert component.hits[-1].score <= best.score
        pixels, mask = best.pixels(), best.mask()
        assert pixels.shape == (*mask.shape, 3)
        assert (mask == component.mask).all()
        assert (pixels[mask] == photograph[top:bottom, left:right][mask]).all(), "not the photograph's own pixels"
        assert not pixels[~mask].any()


def test_components_under_the_minimum_area_are_told_apart(bank: zeuxis.Bank):
    layout = np.zeros((48, 64), np.uint8)
    layout[10:13, 10:13] = 2
    result = bank.retrieve(layout)
    assert [component.class_id for component in result] == [0]
    assert [(component.class_id, component.area) for component in result.skipped] == [(2, 9)]


def test_every_way_to_hand_over_a_layout_gives_one_answer(
    bank: zeuxis.Bank, photos: Any, layout: np.ndarray, tmp_path: Path
):
    expected = answers(bank.retrieve(layout, k=3))
    frozen = layout.copy()
    frozen.setflags(write=False)
    Image.fromarray(bank.classes.painted(layout)).save(tmp_path / "colours.png")
    for given in (
        *(photos.label("a"), str(photos.label("a")), tmp_path / "colours.png", bank.classes.painted(layout)),
        *(layout.astype(np.int64), layout.astype(np.uint64), layout.astype(">u2"), layout.tolist(), frozen),
        *(np.asfortranarray(layout), np.repeat(layout, 2, axis=1)[:, ::2], layout[::-1][::-1]),
    ):
        assert answers(bank.retrieve(given, k=3)) == expected
    assert answers(bank.retrieve(photos.label("a"), k=3, dataset="folder")) == expected


def bad(value: int, dtype: Any = np.int64) -> np.ndarray:
    layout = np.zeros((48, 64), dtype)
    layout[5, 5] = value
    return layout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((48, 64)), "float64"),
        (np.full((48, 64), np.nan), "float64"),
        (np.zeros((48, 64), bool), "bool"),
        (np.zeros((48, 64), object), "object"),
        (np.zeros((0, 64), np.uint8), r"\(0, 64\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros(5, np.uint8), r"\(5,\)"),
        ([[1], [1, 2]], "inhomogeneous"),
        (None, "neither"),
        (bad(-1), "-1"),
        (bad(-(2**31), np.int32), "-2147483648"),
        (bad(2**63, np.uint64), "9223372036854775808"),
        (bad(65536), "65536"),
        (bad(300), "unknown ids 300"),
        (np.full((48, 64), zeuxis.VOID, np.uint16), "nothing but void"),
        ("~nobody-of-that-name/x.png", "No such file"),
        ("a\0b.png", "cannot be read"),
    ],
)
def test_what_is_no_layout_is_refused(given: Any, words: str, bank: zeuxis.Bank):
    with pytest.raises(LayoutError, match=words):
        bank.retrieve(given)


@pytest.mark.parametrize("k", [0, -1, True, 2.0, "3", None])
def test_k_is_a_whole_number_of_at_least_one(k: Any, bank: zeuxis.Bank, layout: np.ndarray):
    with pytest.raises(FilterError, match="k: expected a whole number"):
        bank.retrieve(layout, k=k)


def test_a_huge_k_gives_what_there_is(bank: zeuxis.Bank, layout: np.ndarray):
    of_class = bank.segments(columns=["class_id"])["class_id"].to_pylist()
    for component in bank.retrieve(layout, k=10**20):
        assert len(component.hits) == of_class.count(component.class_id)


def test_where_and_exclude_leave_candidates_out(bank: zeuxis.Bank, layout: np.ndarray):
    def found(**query: Any) -> set[str]:
        return {hit.source for component in bank.retrieve(layout, k=9, **query) for hit in component.hits}

    assert found() == {"folder/a", "folder/b", "folder/c"}
    assert found(exclude="folder/a") == {"folder/b", "folder/c"}
    assert found(exclude=["folder/a", "folder/c"]) == {"folder/b"}
    assert found(where={"source": "folder/c"}) == {"folder/c"}
    assert found(where=pc.field("source") != "folder/c") == {"folder/a", "folder/b"}
    assert found(where={"class_name": "nothing"}) == set()
    with pytest.raises(FilterError, match="'folder/z'"):
        found(exclude="folder/z")
    with pytest.raises(FilterError, match="'nosuch'"):
        found(where={"nosuch": 1})


def test_weights_weigh_the_two_terms(bank: zeuxis.Bank, layout: np.ndarray):
    for component in bank.retrieve(layout, k=3, weights=(0.25, 2)):
        for hit in component.hits:
            assert hit.score == pytest.approx(0.25 * hit.mask_iou + 2 * hit.context_iou)


def test_a_retrieval_as_a_table_and_as_a_picture(bank: zeuxis.Bank, layout: np.ndarray):
    from matplotlib.figure import Figure

    result = bank.retrieve(layout, k=2)
    frame = result.to_frame()
    assert len(frame) == sum(len(component.hits) for component in result)
    assert frame["score"].tolist() == [hit.score for component in result for hit in component.hits]
    assert isinstance(result.figure(), Figure)
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_another_aspect_ratio_warns_and_answers(bank: zeuxis.Bank, layout: np.ndarray):
    with pytest.warns(UserWarning, match="another aspect ratio"):
        result = bank.retrieve(layout[:20], k=1)
    assert len(result) > 0


# ---- tables

COLUMNS = {
    "segments": {
        *("segment_id", "source", "dataset", "split", "group", "class_id", "class_name"),
        *("top", "left", "bottom", "right", "area"),
    },
    "sources": {"source", "dataset", "split", "group", "height", "width"},
    "orderings": {"source", "segment_a", "segment_b", "front"},
    "patches": {"source", "rank", "top", "left", "bottom", "right"},
    "rejects": {"source", "reason", "message"},
}


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_have_the_promised_columns(name: str, bank: zeuxis.Bank):
    table = getattr(bank, name)()
    assert isinstance(table, pa.Table)
    assert set(table.column_names) >= COLUMNS[name]


def test_tables_are_filtered_and_cut_to_columns(bank: zeuxis.Bank):
    rows = bank.segments().to_pylist()
    large = [row["segment_id"] for row in rows if row["class_name"] == "2" and row["area"] > 100]
    found = bank.segments((pc.field("class_name") == "2") & (pc.field("area") > 100), ["segment_id"])
    assert found.column_names == ["segment_id"]
    assert found["segment_id"].to_pylist() == large
    assert 0 < len(large) < len(rows)
    assert bank.segments({"class_id": [0, 1], "source": "folder/b"}, columns=["area"]).num_rows == 2
    assert bank.sources({"source": "folder/b"})["height"].to_pylist() == [48]
    assert bank.orderings({"source": "folder/c"}).num_rows > 0
    with pytest.raises(FilterError, match="no such column"):
        bank.sources(columns=["nosuch"])
    with pytest.raises(FilterError, match="int32"):
        bank.segments({"area": "large"})


def test_orderings_name_segments_of_the_bank(bank: zeuxis.Bank):
    known = set(bank.segments()["segment_id"].to_pylist())
    for row in bank.orderings().to_pylist():
        assert {row["segment_a"], row["segment_b"]} <= known
        assert row["front"] in (row["segment_a"], row["segment_b"], None)


def test_key_patches_lie_in_their_sources(photos: Any, rebuild_bank: Callable[..., Any], tmp_path: Path):
    photos.add("a", labels=np.zeros((96, 128), np.uint8))
    picture = np.full((96, 128, 3), 60, np.uint8)
    picture[30:66, 40:88] = 220
    photos.write(photos.image("a"), picture)
    rebuild_bank(photos.spec, patches=True)
    patches = zeuxis.open(tmp_path / "bank").patches({"source": "folder/a"}).to_pylist()
    assert patches
    for row in patches:
        assert 0 <= row["top"] < row["bottom"] <= 96
        assert 0 <= row["left"] < row["right"] <= 128


def test_sources_come_back_as_they_went_in(bank: zeuxis.Bank, photos: Any):
    with Image.open(photos.image("c")) as picture, Image.open(photos.label("c")) as labels:
        assert (bank.photograph("folder/c") == np.asarray(picture)).all()
        native = np.asarray(labels).astype(np.uint16)
    assert (bank.layout("folder/c") == np.where(native == 255, zeuxis.VOID, native)).all()
    depth = bank.depth("folder/c")
    assert depth is not None
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, DEPTH / 1000, rtol=1e-6)
    assert bank.depth("folder/a") is None
    for read in (bank.photograph, bank.layout, bank.depth):
        with pytest.raises(InputError, match="'folder/z'"):
            read("folder/z")


# ---- collage


def test_a_collage_of_a_stored_layout_is_its_photograph(bank: zeuxis.Bank, layout: np.ndarray, tmp_path: Path):
    made = bank.collage(layout, out=tmp_path / "made.png")
    photograph = bank.photograph("folder/a")
    valid = made.canvas.valid
    searched = np.zeros(layout.shape, bool)
    for component in made.retrieval:
        top, left, bottom, right = component.box
        searched[top:bottom, left:right] |= component.mask
    assert (valid == searched).all()
    assert (made.canvas.image[valid] == photograph[valid]).all()
    assert {path.name for path in made.files} == {"made.png", "made.valid.png", "made.provenance.png", "made.json"}
    with Image.open(tmp_path / "made.png") as picture:
        assert (np.asarray(picture) == made.canvas.image).all()


def test_equal_answers_are_equal_and_names_of_options_are_checked(bank: zeuxis.Bank, layout: np.ndarray):
    answer = bank.retrieve(layout)
    assert answer == bank.retrieve(layout)
    assert answer in [bank.retrieve(layout)]
    assert answer != bank.retrieve(layout, k=1)
    for ask, name in ((bank.retrieve, "split"), (bank.collage, "k")):
        with pytest.raises(
            FilterError, match=f"option '{name}': expected one of where, exclude, .*found no such option"
        ):
            ask(layout, **{name: 3})
    for threshold in ("x", -1, True):
        with pytest.raises(FilterError, match="threshold: expected a whole number of at least 1, found"):
            bank.duplicates(threshold)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="segment: expected a hit or the id"):
        bank.similar(True)


def test_functions_never_write_over_the_layout(bank: zeuxis.Bank, layout: np.ndarray, tmp_path: Path):
    own, where = tmp_path / "own.png", bank.path
    Image.fromarray(layout.astype(np.uint8)).save(own)
    Image.fromarray(layout.astype(np.uint8)).save(tmp_path / "made.valid.png")
    before = own.read_bytes()
    for call in (
        lambda: bank.collage(own, out=own),
        lambda: bank.collage(tmp_path / "made.valid.png", out=tmp_path / "made.png"),
        lambda: zeuxis.retrieve(own, bank=where, figure=own),
        lambda: zeuxis.explain(own, bank=where, out=str(own)),
    ):
        with pytest.raises(InputError, match="would be written over; choose another name or folder"):
            call()
    assert own.read_bytes() == before
    numbers = {"component": np.int64(0), "rank": np.int32(1), "k": np.int64(1)}
    assert zeuxis.explain(own, bank=where, **numbers).hit == bank.retrieve(own)[0].hits[1]


def test_hits_that_are_drawn_are_explained_with_the_k_they_were_drawn_with(bank: zeuxis.Bank, layout: np.ndarray):
    drawn = bank.retrieve(layout, 2, sample=(3, 5))[0].hits
    assert zeuxis.explain(layout, 0, 1, k=2, bank=bank.path, sample=(3, 5)).hit == drawn[1]
    with pytest.raises(InputError, match="rank 2: expected one of the 2 hits that are drawn"):
        zeuxis.explain(layout, 0, 2, k=2, bank=bank.path, sample=(3, 5))


def test_a_collage_leaves_out_what_is_excluded(bank: zeuxis.Bank, layout: np.ndarray, tmp_path: Path):
    made = bank.collage(layout, exclude="folder/a")
    assert made.files == ()
    assert {hit.source for component in made.retrieval for hit in component.hits} <= {"folder/b", "folder/c"}
    assert made.canvas.valid.any()
    with pytest.raises(InputError, match="there is no folder"):
        bank.collage(layout, out=tmp_path / "none/made.png")


# ---- module-level functions and generations


def test_the_functions_answer_like_the_bank(
    bank: zeuxis.Bank, path: Path, layout: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = answers(bank.retrieve(layout, k=4))
    assert answers(zeuxis.retrieve(layout, k=4, bank=path, figure=tmp_path / "figure.svg")) == expected
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    monkeypatch.setenv("ZEUXIS_BANK", str(path))
    assert answers(zeuxis.retrieve(layout, k=4)) == expected
    assert (zeuxis.collage(layout).canvas.image == bank.collage(layout).canvas.image).all()
    monkeypatch.delenv("ZEUXIS_BANK")
    with pytest.raises(InputError, match="ZEUXIS_BANK"):
        zeuxis.retrieve(layout)


def test_an_open_bank_stays_on_its_generation_and_the_functions_see_the_next(
    bank: zeuxis.Bank, path: Path, photos: Any, rebuild_bank: Callable[..., Any], layout: np.ndarray
):
    expected = answers(bank.retrieve(layout, k=99))
    assert answers(zeuxis.retrieve(layout, k=99, bank=path)) == expected
    tables = [getattr(bank, name)() for name in COLUMNS]
    photos.remove("b")
    photos.add("d", labels=np.roll(layout, 2, axis=1).astype(np.uint8))
    assert rebuild_bank(photos.spec, allow_shrink=True).published

    assert bank.generation == 1
    assert answers(bank.retrieve(layout, k=99)) == expected
    assert all(getattr(bank, name)().equals(table) for name, table in zip(COLUMNS, tables, strict=True))
    assert bank.photograph("folder/b").shape == (48, 64, 3)
    hits = [hit for component in bank.retrieve(layout, k=99) for hit in component.hits]
    assert {hit.source for hit in hits} == {"folder/a", "folder/b", "folder/c"}
    assert all(hit.pixels().any() for hit in hits)

    for result in (zeuxis.retrieve(layout, k=99, bank=path), zeuxis.open(path).retrieve(layout, k=99)):
        sources = {hit.source for component in result for hit in component.hits}
        assert sources == {"folder/a", "folder/c", "folder/d"}


def test_verify_and_info_are_functions_too(path: Path):
    assert zeuxis.verify(path, deep=True).damage == []
    found = zeuxis.info(path)
    assert (found.sources, found.generation, found.frame) == (3, 1, (48, 64))
    assert found.segments == zeuxis.open(path).segments().num_rows == found.to_frame()["segments"].sum()
    next(path.glob("shards/*/patches.parquet")).write_bytes(b"")
    assert len(zeuxis.verify(path).damage) == 1


def test_a_bank_that_is_made_anew_or_found_under_the_same_name_elsewhere_is_not_mistaken(
    rebuild_bank: Any, photos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have generation 1 and the name `bank`; only what they hold differs."""
    layouts = {}
    for name in ("one", "two"):
        photos.add(name)
        rebuild_bank(photos.spec, tmp_path / name / "bank")
        with Image.open(photos.label(name)) as picture:
            layouts[name] = np.array(picture)
        photos.remove(name)

    def sources(name: str) -> set[str]:
        return {hit.source for component in zeuxis.retrieve(layouts[name], bank="bank") for hit in component.hits}

    monkeypatch.chdir(tmp_path / "one")
    opened = zeuxis.open("bank")
    assert sources("one") == {"folder/one"}
    monkeypatch.chdir(tmp_path / "two")
    assert sources("two") == {"folder/two"}
    assert opened.photograph("folder/one").shape == (48, 64, 3), "an open bank followed the working folder"
    shutil.rmtree("bank")
    shutil.copytree(tmp_path / "one" / "bank", "bank")
    assert sources("one") == {"folder/one"}
