"""The demo leaves a page that stands alone and tells the truth; a second run reuses what is there."""

import base64
import io
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeuxis.index.retriever import Retriever
from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.datasets.base import SourceRef
from zeuxis.pipelines import report as report_module
from zeuxis.pipelines.collage import paint
from zeuxis.pipelines.demo import demo, held_out
from zeuxis.pipelines.report import Example, build_report, tag
from zeuxis.pipelines.report_pictures import by_source, data_uri, inner_point, source_colours, with_gaps
from zeuxis.pipelines.scenes import scenes
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader

SMALL = {"count": 12, "size": (96, 128), "layouts": 3, "k": 2}
VOID_TAGS = {"img", "meta", "br"}


class Page(HTMLParser):
    """Checks that tags balance and collects what a browser would fetch or show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.sources += [value or "" for name, value in attributes if name in ("src", "href", "srcset")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, dask_address: str) -> Path:
    """The demo in miniature."""
    out = tmp_path_factory.mktemp("demo") / "out"
    assert demo(out, scheduler=dask_address, **SMALL) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def example(made: Path) -> tuple[Reader, Example]:
    """One layout of it, retrieved and painted again."""
    reader = Reader(made / "bank")
    ref = held_out(open_dataset(f"scenes:{made / 'scenes'}").sources(), 1)[0]
    layout, retriever = made / "scenes" / str(ref.layout), Retriever(reader)
    photograph = np.asarray(Image.open(made / "scenes" / str(ref.image)).convert("RGB"))
    retrieval = retriever.retrieve(layout, 2, dataset="scenes")
    return reader, Example(ref.name, ref.group, retrieval, paint(retriever, layout, dataset="scenes"), photograph)


def test_the_page_is_well_formed_and_fetches_nothing(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags["img"] > 20
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not re.search(r"https?://|url\(|@import|<script|<link|<iframe", text)
    assert len(text) < 8_000_000


def test_the_page_holds_every_layout_with_its_scores_and_sources(made: Path) -> None:
    text = "".join(Page((made / "report.html").read_text(encoding="utf-8")).text)
    retriever = Retriever(Reader(made / "bank"))
    chosen = held_out(open_dataset(f"scenes:{made / 'scenes'}").sources(), 3)
    assert len(chosen) == 3
    for ref in chosen:
        result = retriever.retrieve(made / "scenes" / str(ref.layout), 2, dataset="scenes")
        largest = sorted(result, key=lambda component: -component.area)[: report_module.SHOWN_COMPONENTS]
        hits = [hit for component in largest for hit in component.hits]
        assert hits
        assert ref.name in text
        for hit in hits:
            assert f"{hit.score:.3f} = {hit.mask_iou:.2f} + {hit.context_iou:.2f}{hit.source}" in text


def test_every_layout_becomes_a_photograph(made: Path) -> None:
    chosen = held_out(open_dataset(f"scenes:{made / 'scenes'}").sources(), 3)
    for ref in chosen:
        image, seen, valid = (
            np.asarray(Image.open(made / "painted" / f"{ref.name}-0{suffix}")).astype(float)
            for suffix in (".png", ".canvas.png", ".valid.png")
        )
        kept = valid > 0
        assert 0.1 < kept.mean() < 0.9
        assert np.abs(image - seen)[kept].mean() < 25, "what the bank gave is there again"
        bare = (seen[~kept] == 255).all(axis=1) | (seen[~kept] == 0).all(axis=1)
        assert bare.mean() < 0.05, "what was elided is filled"
        assert np.abs(image - seen)[~kept].mean() > 5, "and painted"
    text = "".join(Page((made / "report.html").read_text(encoding="utf-8")).text)
    assert text.count("As the network sees it") == len(chosen)


def test_no_layout_shown_is_in_the_bank(made: Path) -> None:
    dataset = open_dataset(f"scenes:{made / 'scenes'}")
    inside = set(Reader(made / "bank").table("sources", columns=["group"])["group"].to_pylist())
    shown = held_out(dataset.sources(), 3)
    assert inside == {f"scenes/{ref.group}" for ref in dataset.sources() if ref.split == "train"}
    assert not inside & {f"scenes/{ref.group}" for ref in shown}
    assert {path.name for path in (made / "collages").glob("*.json")} == {f"{ref.name}.json" for ref in shown}


def test_a_second_run_reuses_scenes_and_bank(made: Path, dask_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*args: object, **options: object) -> None:
        raise AssertionError("painted again")

    before = Reader(made / "bank").manifest
    monkeypatch.setattr("zeuxis.pipelines.demo.scenes", unexpected)
    page = demo(made, scheduler=dask_address, **SMALL)
    assert Reader(made / "bank").manifest == before
    Page(page.read_text(encoding="utf-8"))


def test_other_scenes_make_another_bank(tmp_path: Path, dask_address: str) -> None:
    small = {**SMALL, "layouts": 1, "scheduler": dask_address}
    with pytest.warns(UserWarning, match="ends in collages.*trained at 96x128"):
        demo(tmp_path, **{**small, "count": 16, "size": (64, 96)})
    assert not list((tmp_path / "painted").iterdir())
    before = set(Reader(tmp_path / "bank").table("sources")["source_id"].to_pylist())
    notes = []
    demo(tmp_path, **{**small, "count": 9, "seed": 8}, progress=lambda done, total, note="": notes.append(note))
    reader = Reader(tmp_path / "bank")
    after = set(reader.table("sources")["source_id"].to_pylist())
    assert reader.geometry.frame == (384, 512)
    assert len(after) == 4
    assert not before & after
    assert {"painting scenes", "listing the data sets", "painting"} <= set(notes)


def test_a_bank_of_something_else_is_never_removed(
    tmp_path: Path, photos: Any, rebuild_bank: Any, dask_address: str
) -> None:
    photos.add("one")
    rebuild_bank(photos.spec, tmp_path / "bank")
    with pytest.raises(InputError, match="holds more than the scenes of a demo"):
        demo(tmp_path, scheduler=dask_address, **SMALL)  # type: ignore[arg-type]
    assert Reader(tmp_path / "bank").table("sources").num_rows == 1
    assert not (tmp_path / "scenes").exists()


def test_an_interrupted_report_leaves_the_old_one(
    example: tuple[Reader, Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        report_module.write_report(example[0], [example[1]], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_names_are_escaped_wherever_they_stand(example: tuple[Reader, Example]) -> None:
    reader, good = example
    nasty = '<b onload="x">&\'"$title'
    components = [
        replace(c, class_name=nasty, hits=[replace(hit, source=nasty, class_name=nasty) for hit in c.hits])
        for c in good.retrieval
    ]
    canvas = good.collage.canvas
    placements = [
        replace(p, piece=replace(p.piece, class_name=nasty, origin=replace(p.piece.origin, source=nasty)))
        for p in canvas.placements
    ]
    bad = Example(
        nasty,
        nasty,
        replace(good.retrieval, components=components),
        replace(good.collage, canvas=replace(canvas, placements=placements)),
        good.photograph,
    )
    text = build_report(reader, [bad], title=nasty)
    page = Page(text)
    assert nasty not in text
    assert "".join(page.text).count(nasty) > 20


def test_text_is_escaped_and_elements_are_not() -> None:
    assert tag("p", "<", tag("b", "&"), 3, cls='"', data_x=1) == '<p class="&quot;" data-x="1">&lt;<b>&amp;</b>3</p>'


def test_a_collage_is_clear_exactly_where_it_is_missing(example: tuple[Reader, Example]) -> None:
    canvas = example[1].collage.canvas
    uri = data_uri(with_gaps(canvas))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))
    assert not canvas.valid.all()
    assert np.array_equal(shown[..., 3] == 255, canvas.valid)


def test_provenance_has_one_colour_a_source(example: tuple[Reader, Example]) -> None:
    canvas = example[1].collage.canvas
    colours = source_colours(len(canvas.placements))
    assert len(set(colours)) == len(colours)
    picture = by_source(canvas, colours)
    for i in np.unique(canvas.provenance[canvas.provenance > 0]):
        y, x = np.argwhere(canvas.provenance == i)[0]
        seen, colour = picture[y, x, :3].astype(float), np.array(colours[i - 1], float)
        assert np.allclose(seen / seen.max(), colour / colour.max(), atol=0.06)


def test_the_inner_point_lies_deepest_in_the_mask() -> None:
    mask = np.zeros((9, 12), bool)
    mask[:, 2] = True
    mask[2:7, 5:10] = True
    mask[4, 2:5] = True
    assert inner_point(mask) == (4.5, 7.5)
    assert inner_point(np.ones((5, 7), bool))[0] == 2.5


def test_held_out_sources_are_spread_over_groups_and_within_them() -> None:
    refs = [SourceRef(f"{g}{i}", "test", g, None, None) for g in "ab" for i in range(4)]
    refs.append(SourceRef("c0", "train", "c", None, None))
    assert [ref.name for ref in held_out(refs, 4)] == ["a0", "b0", "a2", "b2"]
    assert [ref.name for ref in held_out(refs, 3)] == ["a0", "b0", "a2"]
    assert sorted(ref.name for ref in held_out(refs, 99)) == sorted(ref.name for ref in refs[:8])


@pytest.mark.parametrize("wrong", [{"count": 8}, {"layouts": 0}, {"k": 0}, {"size": (32, 128)}, {"seed": -1}])
def test_bad_numbers_are_refused_and_nothing_is_written(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected"):
        demo(tmp_path / "out", **{**SMALL, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_or_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(InputError, match="cannot be made"):
        demo(tmp_path / "file", **SMALL)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found other files"):
        scenes(tmp_path, count=1)


def test_scenes_are_written_as_asked_and_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = scenes(
        tmp_path / "s", count=2, size=(64, 80), progress=lambda done, total, note="": told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]
    assert {Image.open(file).size for file in (path / "images").iterdir()} == {(80, 64)}
    for wrong in ({"count": 0}, {"size": (63, 80)}, {"seed": -1}):
        with pytest.raises(InputError, match="expected"):
            scenes(tmp_path / "t", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "t").exists()
