"""The command line's queries: conditions, guard, draws, many layouts into one table, explanations."""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zeuxis
from zeuxis import cli
from zeuxis.storage.classes import VOID

sys.path.append(str(Path(__file__).resolve().parents[1] / "storage"))
from toybank import make_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return zeuxis.open(make_bank(tmp_path_factory.mktemp("queries") / "bank", range(4), range(4, 6)))


@pytest.fixture
def layouts(bank, tmp_path):
    """A folder of three layouts."""
    (tmp_path / "layouts").mkdir()
    for name in ("a", "b", "c"):
        layout = bank.layout(f"toy/00{'abc'.index(name)}")
        Image.fromarray(np.where(layout == VOID, 255, layout).astype(np.uint8)).save(tmp_path / f"layouts/{name}.png")
    return tmp_path / "layouts"


@pytest.fixture
def run(bank, monkeypatch, capsys):
    """Calls the command line on the bank: exit code, output, error lines."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("ZEUXIS_BANK", str(bank.path))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["zeuxis", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


def expected(bank, layouts, **options):
    """(layout, segment, score) of every hit, by the Python API."""
    return [
        (str(path), f"{hit.segment_id:016x}", hit.score)
        for path in layouts
        for component in bank.retrieve(path, **options)
        for hit in component.hits
    ]


def test_a_folder_of_layouts_becomes_one_table(bank, layouts, tmp_path, run):
    paths, out = sorted(layouts.iterdir()), tmp_path / "hits.parquet"
    (layouts / "notes.txt").write_text("no layout")
    code, said, errors = run("retrieve", layouts, "-k", 2, "--out", out)
    assert (code, errors) == (0, [])
    rows = pq.read_table(out).to_pylist()
    assert [(r["layout"], r["segment"], r["score"]) for r in rows] == expected(bank, paths, k=2)
    assert said == f"3 layouts, {len(rows)} hits\n"
    code, said, _ = run("retrieve", *paths, "-k", 2, "--out", tmp_path / "hits.csv")
    again = list(csv.DictReader((tmp_path / "hits.csv").read_text().splitlines()))
    assert [row["segment"] for row in again] == [row["segment"] for row in rows]
    assert [float(row["score"]) for row in again] == [row["score"] for row in rows]
    assert {path.name for path in tmp_path.iterdir()} == {"layouts", "hits.parquet", "hits.csv"}


def test_without_a_table_each_layout_has_a_line(bank, layouts, run):
    paths = sorted(layouts.iterdir())
    code, said, _ = run("retrieve", layouts, "-k", 1)
    assert code == 0
    for path, line in zip(paths, said.splitlines(), strict=False):
        result = bank.retrieve(path, 1)
        assert line == f"{path}: {len(result)} components, {sum(len(c.hits) for c in result)} hits"


def test_layouts_that_cannot_be_used_are_named_and_the_others_answered(bank, layouts, tmp_path, run):
    good = sorted(layouts.iterdir())
    (layouts / "aa.png").write_bytes(b"no picture")
    code, said, errors = run("retrieve", layouts, "-k", 1, "--out", tmp_path / "hits.parquet")
    assert code == 3
    assert said.endswith("; 1 could not be used\n")
    assert len(errors) == 1
    assert errors[0].startswith(f"zeuxis: layout 1: {layouts / 'aa.png'}: ")
    rows = pq.read_table(tmp_path / "hits.parquet").to_pylist()
    assert [(r["layout"], r["segment"], r["score"]) for r in rows] == expected(bank, good, k=1)


def test_an_interrupt_leaves_no_table_behind(layouts, tmp_path, run, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("zeuxis.tables.HitWriter.add", interrupt)
    code, _, errors = run("retrieve", layouts, "--out", tmp_path / "hits.parquet")
    assert (code, len(errors)) == (130, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["layouts"]


def test_many_layouts_have_no_figure_and_an_unwritable_table_is_refused_first(layouts, tmp_path, run):
    code, _, errors = run("retrieve", layouts, "--figure", tmp_path / "x.png")
    assert (code, len(errors)) == (2, 1)
    assert "--figure: expected one layout" in errors[0]
    code, _, errors = run("retrieve", layouts, "--out", tmp_path / "none/x.csv")
    assert (code, len(errors)) == (2, 1)
    assert "there is no folder" in errors[0]


def test_options_reach_the_search(bank, layouts, tmp_path, run):
    path, out = layouts / "a.png", tmp_path / "hits.parquet"
    for arguments, options in (
        (("--where", "area > 60 AND class_name <> 'sky'"), {"where": "area > 60 AND class_name <> 'sky'"}),
        (("--where", "area > 60", "--where", "split=val"), {"where": "area > 60 AND split = 'val'"}),
        (("--source", "toy/000"), {"source": "toy/000"}),
        (("--source", "toy/000", "--no-guard"), {}),
        (("--guard",), {"guard": True}),
        (("--min-score", 0.5), {"min_score": 0.5}),
        (("--sample", 9, 4), {"sample": (9, 4)}),
        (("--weights", 1, 0), {"weights": (1, 0)}),
        (("--mode", "exact", "--certify"), {}),
    ):
        code, _, _ = run("retrieve", path, "--out", out, *arguments)
        assert code == 0, arguments
        rows = pq.read_table(out).to_pylist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = expected(bank, [path], **options)
        assert [(r["layout"], r["segment"], r["score"]) for r in rows] == wanted, arguments


def test_a_source_is_a_layout_of_its_own(bank, tmp_path, run):
    code, said, _ = run("retrieve", "--source", "toy/004", "-k", 1, "--out", tmp_path / "x.parquet")
    assert code == 0
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert {row["layout"] for row in rows} == {"toy/004"}
    assert not {row["source"] for row in rows} & {"toy/004", "toy/005", "toy/002"}
    assert all(row["segment"] in said for row in rows)
    assert run("collage", "--source", "toy/004", "--out", tmp_path / "x.png")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a layout, or the name of a source"),
        (("--source", "toy/nothing"), "'toy/nothing'"),
        (("--source", "toy/004", "--mode", "magic"), "mode: expected one of exact, fast, gpu"),
        (("--source", "toy/004", "--where", "area >"), "cannot be understood"),
        (("--source", "toy/004", "--where", "area % 2 = 1"), "% 2"),
        (("--source", "toy/004", "--sample", "2", "1"), "top at least k = 5"),
    ],
)
def test_queries_that_cannot_be_are_one_sentence_and_2(arguments, said, run):
    code, out, errors = run("retrieve", *arguments)
    assert (code, out, len(errors)) == (2, "", 1)
    assert said in errors[0]


def test_explain_says_and_shows_why(bank, layouts, tmp_path, run):
    code, said, errors = run("explain", layouts / "a.png", "--component", 2, "--rank", 1, "--out", tmp_path / "why.png")
    assert (code, errors) == (0, [])
    hit = bank.retrieve(layouts / "a.png")[2].hits[1]
    found = hit.explain()
    assert f"{found.mask.common:,}" in said
    assert f"{found.context.iou:.4f}" in said
    assert f"{hit.segment_id:016x}" in said
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"
    code, _, errors = run("explain", layouts / "a.png", "--component", 999)
    assert (code, len(errors)) == (2, 1)
