"""The page a rebuild leaves stands alone, tells the truth, shows rejects safely, and is small and quick to make."""

import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from zeuxis.pipelines import rebuild_pictures
from zeuxis.pipelines.accounts import RebuildReport
from zeuxis.pipelines.rebuild_pictures import (
    Thumbnails,
    changes,
    class_counts,
    picture_shards,
    rejects_of,
    rows_of,
    segment_sizes,
    spread,
)
from zeuxis.pipelines.rebuild_report import build_rebuild_report, rebuild_report, shown
from zeuxis.storage.manifest import Manifest, manifest_path
from zeuxis.storage.reader import Reader

STAGES = {"listing": 0.5, "extracting": 3.0}
BAD = "<script>alert(1)<!--"
VOID_TAGS = {"img", "meta"}


def outcome(**changed: Any) -> RebuildReport:
    counts = {"n_in": 15, "n_new": 3, "n_reused": 7, "n_rejected": 4, "n_forgotten": 1, "n_vanished": 2}
    reasons = {"size-mismatch": 2, "unreadable-image": 2}
    report = RebuildReport(
        Path("bank"), 2, True, **counts, segments=50, reasons=reasons, rejects=[], ignored=0, seconds=4.5, stages=STAGES
    )
    return replace(report, **changed)


class Page(HTMLParser):
    """Checks that tags balance and that nothing is fetched or run, and collects what is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open
        assert not {"script", "iframe", "link", "object", "b1"} & set(self.tags)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attributes:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset"):
                assert (value or "").startswith("data:image/webp;base64,")
                self.pictures.append(value or "")
            if name == "style":
                assert "url(" not in (value or "")
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def generation(bank: Path, number: int) -> Reader:
    path = manifest_path(bank, number)
    return Reader(bank, Manifest.from_bytes(path.read_bytes(), path))


@dataclass(frozen=True)
class Nights:
    """A bank after two nights: three sources came, two vanished, one changed, four are rejected."""

    root: Path
    bank: Path

    @property
    def now(self) -> Reader:
        return generation(self.bank, 2)

    @property
    def before(self) -> Reader:
        return generation(self.bank, 1)

    def page(self) -> str:
        return build_rebuild_report(self.now, self.before, outcome())


_MADE: list[Nights] = []


@pytest.fixture
def nights(photos: Any, rebuild_bank: Any, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """Made once; not to be written to."""
    if not _MADE:
        folder = tmp_path_factory.mktemp("nights")
        made = type(photos)(folder / "photos")
        names = "id,name\n0,<b1>sky</b1>\n1,ground\n2,box\n3,car\n"
        depth = np.linspace(1000, 9000, 48 * 64).reshape(48, 64).astype(np.uint16)
        made.add("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", depth=depth)
        (made.root / "classes.csv").write_text(names)
        rebuild_bank(made.spec, folder / "bank", patches=True, shard_size=10, frame=(48, 64))
        made.add("new1", "new2", depth=depth)
        made.remove("a")
        made.write(made.image("b"), np.zeros((48, 64, 3), np.uint8))
        made.add("wrong", "wrong2", labels=np.zeros((20, 20), np.uint8))
        for name, grey in (("wrong", 200), ("wrong2", 190)):
            made.write(made.image(name), np.full((48, 64, 3), grey, np.uint8))
        made.add("cut")
        made.image("cut").write_bytes(made.image("cut").read_bytes()[:500])
        made.add(BAD)
        made.label(BAD).write_bytes(b"<script>alert(2)</script>")
        rebuild_bank(made.spec, folder / "bank", patches=True, shard_size=10, allow_shrink=True)
        _MADE.append(Nights(made.root, folder / "bank"))
    return _MADE[0]


def test_the_page_stands_alone_and_is_small(nights):
    text = nights.page()
    page = Page(text)
    assert "@import" not in text
    assert len(text) < 1_500_000
    assert len(page.pictures) > 10
    assert page.tags["svg"] >= 2


def test_names_of_files_and_classes_are_shown_and_never_run(nights):
    text = nights.page()
    assert "<script" not in text
    assert "<b1>" not in text
    page = Page(text)
    assert f"folder/{BAD}" in page.text
    assert "<b1>sky</b1>" in page.text


def test_what_cannot_be_printed_is_spelled_out():
    assert shown("a\nb\u202ec\udce9é 山") == "a\\nb\\u202ec\\udce9é 山"


def test_the_page_counts_what_came_and_went(nights):
    found = changes(nights.now, nights.before)
    assert found.new == ["folder/new1", "folder/new2"]
    assert found.changed == ["folder/b"]
    assert found.gone == ["folder/a"]
    page = Page(nights.page())
    for said in (
        "2 new in the bank",
        "1 taken in again with other content",
        "1 no longer in the bank",
        "3 new or changed",
        "7 as they were",
        "4 rejected",
        "2 vanished",
        "1 forgotten",
        "Of 15 sources listed, 3 are new or changed, 7 are as they were, 4 are not usable and 1 is forgotten.",
        "2 have vanished.",
    ):
        assert said in page.text  # fmt: skip


def stub(*shards: tuple[str, tuple[str, ...], dict[str, str]]) -> Any:
    """A reader of shards, each with its id, its masked sources, and the source id of each source."""
    return SimpleNamespace(shards=[
        SimpleNamespace(
            entry=SimpleNamespace(id=id, masked=masked),
            table=lambda _, __, ids=ids: pa.table({"source": [*ids], "source_id": [*ids.values()]}),
        )
        for id, masked, ids in shards
    ])  # fmt: skip


def test_shards_that_were_only_merged_change_nothing():
    before = stub(("one", (), {"a": "1"}), ("two", ("c",), {"b": "2", "c": "3"}), ("same", (), {"x": "9"}))
    now = stub(("both", (), {"a": "1", "b": "5", "d": "4"}), ("same", (), {"x": "9"}))
    found = changes(now, before)
    assert (found.new, found.changed, found.gone) == (["d"], ["b"], [])


def test_a_source_can_leave_and_come_back_by_its_mask_alone():
    without, whole = stub(("one", ("a",), {"a": "1", "b": "2"})), stub(("one", (), {"a": "1", "b": "2"}))
    assert changes(without, whole).gone == ["a"]
    assert changes(whole, without).new == ["a"]


def test_everything_is_new_in_a_first_generation(nights):
    found = changes(nights.before, None)
    assert len(found.new) == 10
    assert not found.gone
    page = Page(build_rebuild_report(nights.before, None, outcome(generation=1)))
    assert "generation before" not in page.text
    assert "no change" not in page.text


@pytest.mark.parametrize("table", ["sources", "segments", "orderings", "patches"])
def test_counts_leave_out_what_is_masked(nights, table):
    for reader in (nights.now, nights.before):
        assert rows_of(reader, table) == reader.table(table, columns=["source"]).num_rows
    assert any(shard.entry.masked for shard in nights.now.shards)


def test_segments_by_class_are_those_of_the_tables_with_their_difference(nights):
    now, then = (Counter(r.table("segments", columns=["class_id"])["class_id"].to_pylist()) for r in
                 (nights.now, nights.before))  # fmt: skip
    assert class_counts(nights.now) == now
    assert class_counts(nights.before) == then
    text = Page(nights.page()).text
    assert now[1] != then[1]
    assert f"ground {now[1]} {'+' if now[1] > then[1] else '−'}{abs(now[1] - then[1])}" in text


def test_sizes_are_shares_of_the_frame(nights):
    areas = nights.now.table("segments", columns=["area"])["area"].to_numpy()
    assert sorted(segment_sizes(nights.now)) == sorted(areas / (48 * 64))


def test_a_histogram_of_a_large_bank_reads_a_few_of_its_shards(nights, monkeypatch):
    reader = nights.now
    monkeypatch.setattr(rebuild_pictures, "MEASURED_SEGMENTS", 20)
    read = []
    for shard in reader.shards:
        real = shard.table
        monkeypatch.setattr(shard, "table", lambda *given, real=real: (read.append(given), real(*given))[1])
    assert 0 < len(segment_sizes(reader)) < rows_of(reader, "segments")
    assert len(read) < len([call for call in read if call[0] == "segments"]) + len(reader.shards)


def test_pictures_come_from_few_shards_and_new_ones_first(nights, monkeypatch):
    chosen = picture_shards(nights.now, nights.before)
    old = {entry.id for entry in nights.before.manifest.shards}
    fresh = [nights.now.shards[n].entry.id not in old for n in chosen]
    assert fresh[0]
    assert fresh == sorted(fresh, reverse=True)
    monkeypatch.setattr(rebuild_pictures, "PICTURE_BYTES", 1)
    assert len(picture_shards(nights.now, nights.before)) == 1


def test_rejects_stand_under_their_reasons_with_thumbnails(nights):
    rows = rejects_of(nights.now)
    assert {row["source"].removeprefix("folder/"): row["reason"] for row in rows} == {
        "wrong": "size-mismatch", "wrong2": "size-mismatch", "cut": "unreadable-image", BAD: "unreadable-label",
    }  # fmt: skip
    thumbnails = Thumbnails(nights.now)
    shown_of = {row["source"]: thumbnails.of(row, 32) for row in rows}
    wrong = shown_of["folder/wrong"]
    assert wrong is not None
    assert wrong.shape == (24, 32, 3)
    assert abs(int(wrong[5, 5, 0]) - 200) < 3
    assert shown_of["folder/cut"] is not None, "its label map is shown where the image cannot be"
    text = Page(nights.page()).text
    assert "size-mismatch 2 2 new" in text
    assert "images/wrong" not in text.split("Classes")[1]
    assert f"{nights.root}/labels/wrong.png" not in text, "paths are shown from the data set's root on"


def reject(**options: Any) -> dict[str, Any]:
    return {"source": "folder/x", "dataset": "folder", "image": "images/c.png", "layout": None, "reason": "r"} | options


def test_only_plain_files_below_the_root_are_opened(nights, tmp_path):
    outside = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    root = nights.root
    (root / "images" / "link.png").symlink_to(outside)
    os.mkfifo(root / "images" / "pipe.png")
    try:
        thumbnails = Thumbnails(nights.now)
        assert thumbnails.of(reject(), 16) is not None
        for name in ("images/link.png", "images/pipe.png", str(outside), f"../../{outside}", "images", "images/no.png",
                     "images/c.png\0", "x" * 5000):  # fmt: skip
            assert thumbnails.of(reject(image=name), 16) is None, name
    finally:
        (root / "images" / "link.png").unlink()
        (root / "images" / "pipe.png").unlink()


@pytest.mark.parametrize("reason", ["worker-died", "too-large", "crashed"])
def test_a_file_that_killed_a_worker_is_not_opened_again(nights, reason):
    assert Thumbnails(nights.now).of(reject(reason=reason), 16) is None


def test_no_more_pixels_of_rejects_are_decoded_than_allowed(nights, monkeypatch):
    monkeypatch.setattr(rebuild_pictures, "SHOWN_PIXELS", 2 * 48 * 64 + 1)
    thumbnails = Thumbnails(nights.now)
    assert [thumbnails.of(reject(), 16) is not None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "array", [np.full((20, 30), 60000, np.uint16), np.arange(600, dtype=np.int32).reshape(20, 30)], ids=["16", "32"]
)
def test_pictures_of_many_bits_are_shown(nights, array):
    path = nights.root / "images" / "deep.png"
    Image.fromarray(array).save(path, format="TIFF")
    try:
        found = Thumbnails(nights.now).of(reject(image="images/deep.png"), 16)
        assert found is not None
        assert found.dtype == np.uint8
        assert found.shape[2] == 3
        assert max(found.shape) <= 16
    finally:
        path.unlink()


def test_stages_add_up_to_the_whole(nights):
    text = Page(nights.page()).text
    assert "listing 0.5 s extracting 3.0 s everything else 1.0 s" in text


def test_equal_rebuilds_leave_equal_pages(nights):
    assert nights.page() == nights.page()


def test_evidence_is_drawn_on_photographs(nights):
    text = nights.page()
    assert "an arrow runs from what is in front" in text
    assert "<polygon" in text
    assert "m." in text.split("Depth of pixels of some photographs; half of them are nearer than ")[1][:8]


def test_a_bank_that_keeps_no_sources_has_a_page_without_photographs(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", depth=np.full((48, 64), 2000, np.uint16))
    rebuild_bank(photos.spec, keep_sources=False, patches=True)
    text = build_rebuild_report(Reader(tmp_path / "bank"), None, outcome(generation=1))
    Page(text)
    assert "Evidence" not in text
    assert "Depth of pixels" not in text
    assert "Sample segments" in text


def test_a_bank_without_segments_has_a_page(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    rebuild_bank(photos.spec, frame=(48, 64), min_area=48 * 64)
    reader = Reader(tmp_path / "bank")
    assert not rows_of(reader, "segments")
    page = Page(build_rebuild_report(reader, None, outcome(generation=1, n_rejected=0, reasons={}, stages={})))
    assert "photographs 2" in page.text
    assert "Sample segments" not in page.text
    assert "Rejected" not in page.text.replace("rejected", "")


def test_the_page_is_put_in_place_whole(nights, tmp_path, monkeypatch):
    bank = Path(shutil.copytree(nights.bank, tmp_path / "bank"))
    out = tmp_path / "reports" / "000002.html"
    made = rebuild_report(generation(bank, 2), generation(bank, 1), outcome(), out)
    assert made == out
    assert [each.name for each in out.parent.iterdir()] == ["000002.html"]
    Page(out.read_text())
    other = out.with_name("000003.html")
    monkeypatch.setattr("zeuxis.storage.files.rename", fail)
    with pytest.raises(OSError, match="full"):
        rebuild_report(generation(bank, 2), None, outcome(), other)
    assert [each.name for each in out.parent.iterdir()] == ["000002.html"]


def fail(*_: Any) -> None:
    raise OSError(28, "full")


def test_things_are_spread_evenly():
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread(range(10), 0) == []
    assert re.fullmatch(r"\[0.*9\]", str(spread(range(10), 2)))
