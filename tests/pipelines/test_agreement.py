"""Two ways to order segments are compared pair by pair, against counts made by hand and against the bank's own rows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from zeuxis.ingest.depth import DepthModel
from zeuxis.pipelines.agreement import AgreementReport, agreement
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.storage.errors import BankError, InputError
from zeuxis.storage.reader import Reader

FLOOR, BOX, PICTURE = 1, 2, 3
"""Classes of the toy rooms: 0 is the wall."""


QUICK = {"patches": False, "min_area": 16, "workers": 0, "report": False}


def room(near_picture: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A wall over a floor, on the floor a box that hides both, a picture on the wall; labels and depth in mm.

    By depth the box is nearer than what it touches, and the picture is as far as the wall, or nearer where asked for.
    By the ground rule the floor is in front of all, the box in front of the wall, the wall in front of the picture.
    """
    labels, depth = np.zeros((96, 128), np.uint8), np.full((96, 128), 4000, np.uint16)
    labels[60:], depth[60:] = FLOOR, 3000
    labels[40:80, 20:50], depth[40:80, 20:50] = BOX, 2000
    labels[10:30, 80:110], depth[10:30, 80:110] = PICTURE, 3500 if near_picture else 4000
    return labels, depth


@pytest.fixture
def bank(photos, tmp_path: Path) -> Path:
    """Four rooms: one with a near picture, one without depth."""
    for name in ("a", "b"):
        labels, depth = room()
        photos.add(name, labels=labels, depth=depth)
    labels, depth = room(near_picture=True)
    photos.add("near", labels=labels, depth=depth)
    photos.add("flat", labels=labels)
    rebuild(photos.spec, tmp_path / "bank", **QUICK, frame=(96, 128))
    return tmp_path / "bank"


def rows(report: AgreementReport) -> dict[tuple[int, int], tuple[int, int, float]]:
    frame = report.to_frame()
    return {(r.class_a, r.class_b): (r.pairs, r.known, r.agree) for r in frame.itertuples()}


def test_counts_are_those_made_by_hand(bank: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = agreement(bank, progress=lambda done, total, note="": seen.append((done, total)))
    assert (report.a, report.b, report.sources, report.skipped) == ("depth", "ground", 3, 1)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    found = rows(report)
    assert found[0, FLOOR] == (3, 3, 1.0)  # the floor is nearer and lower
    assert found[0, BOX] == (3, 3, 1.0)
    assert found[FLOOR, BOX] == (3, 3, 0.0)  # the box is nearer, the floor lower
    assert found[0, PICTURE] == (3, 1, 0.0)  # as far as the wall twice; nearer once, while the wall reaches lower
    assert set(found) == {(0, FLOOR), (0, BOX), (FLOOR, BOX), (0, PICTURE)}
    assert report.share == pytest.approx(6 / 10)
    first = report.to_frame().set_index(["class_a", "class_b"])
    assert (first.front_a[FLOOR, BOX], first.front_b[FLOOR, BOX]) == (0, 1)


def test_the_depth_side_equals_the_rows_that_the_bank_stores(bank: Path) -> None:
    report = agreement(bank)
    stored = Reader(bank).table("orderings", where={"origin": "depth"}).to_pandas()
    assert len(stored) == len(report.pairs)
    front = np.where(stored.front == stored.segment_a, stored.class_a, stored.class_b).astype(int)
    front = np.where(stored.front.isna(), -1, front)
    expected = sorted(zip(np.minimum(stored.class_a, stored.class_b), front, stored.margin.round(5), strict=True))
    pairs = report.pairs
    assert expected == sorted(zip(pairs.class_a, pairs.front_a, pairs.margin_a.round(5), strict=True))


def test_margins_fall_into_ten_equal_parts(bank: Path) -> None:
    report = agreement(bank)
    for side in ("a", "b"):
        deciles = report.by_margin(side)
        assert deciles.known.tolist() == [1] * 10
        assert (deciles.least.to_numpy() <= deciles.most.to_numpy()).all()
        assert (np.diff(deciles.least) >= 0).all()
        assert deciles.agree.mean() == pytest.approx(report.share)


def test_ways_may_be_swapped(bank: Path) -> None:
    forth, back = agreement(bank, "depth", "ground"), agreement(bank, "ground", "depth")
    assert rows(forth) == rows(back)
    assert np.array_equal(forth.pairs.front_a, back.pairs.front_b)


def test_a_network_that_sees_the_depth_agrees_with_it(bank: Path, tmp_path: Path, monkeypatch) -> None:
    """The network is replaced by the wall's and the box's true order: the photographs are noise."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"never loaded")
    path.with_suffix(".yaml").write_text("output: depth")
    monkeypatch.setattr(DepthModel, "__call__", lambda self, image, name: room()[1].astype(np.float32))
    report = agreement(bank, "depth", "network", model=DepthModel(path))
    assert report.share == 1
    assert report.sources == 3
    assert agreement(bank, "network", "ground", model=DepthModel(path)).sources == 4


def test_what_is_shown_names_classes_and_counts(bank: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(agreement(bank).render())
    text = console.file.getvalue()
    assert "3 photographs, 1 that one of the two cannot judge" in text
    assert "both 10, of which 60.0% agree" in text
    assert [line.split() for line in text.splitlines() if line.startswith("1") and " 2 " in line] == [
        ["1", "2", "3", "3", "0%", "0%", "100%"]
    ]


def test_the_picture_has_a_cell_for_every_pair_that_is_common_enough(bank: Path, monkeypatch) -> None:
    monkeypatch.setattr("zeuxis.pipelines.agreement.ENOUGH", 2)
    figure = agreement(bank).draw()
    cells = sorted(text.get_text() for text in figure.axes[0].texts)
    assert cells == sorted(["100\n3", "100\n3", "0\n3"] * 2)
    figure.savefig(io.BytesIO(), format="png")


def test_nothing_in_common_is_said_so(photos, tmp_path: Path) -> None:
    photos.add("flat")
    rebuild(photos.spec, tmp_path / "bank", **QUICK)
    report = agreement(tmp_path / "bank")
    assert (report.sources, report.skipped, len(report.pairs)) == (0, 1, 0)
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    assert "both none" in console.file.getvalue()
    report.draw()
    assert report.by_margin().empty


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        (("depth", "nearness"), "'nearness'"),
        (("depth", "depth"), "depth twice"),
        (("network", "ground"), "depth network"),
    ],
)
def test_ways_that_cannot_be_compared_are_refused(bank: Path, ways: tuple[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        agreement(bank, *ways)


def test_a_bank_without_sources_cannot_be_asked(photos, tmp_path: Path) -> None:
    labels, depth = room()
    photos.add("a", labels=labels, depth=depth)
    rebuild(photos.spec, tmp_path / "bank", **QUICK, keep_sources=False)
    with pytest.raises(BankError, match="keeps no sources"):
        agreement(tmp_path / "bank")
