"""Every benchmark runs, and what it says about small generated data is sane."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def table(monkeypatch, capsys):
    """What a benchmark prints, run in this process, which has the libraries and kernels."""
    monkeypatch.syspath_prepend(ROOT)  # whose `benchmarks` no installed package has
    from benchmarks.__main__ import main

    def run(name):
        main(["--quick", name])
        return cells_of(capsys.readouterr().out)

    return run


def cells_of(printed):
    lines = [line for line in printed.splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def test_rebuild(table):
    rows = {row["what"]: float(row["value"]) for row in table("rebuild")}
    assert rows["rebuild, nothing changed"] < rows["rebuild without key patches"]
    assert rows["rebuild without key patches, peak memory of a worker"] > 1
    assert rows["segments"] > 50


def test_extraction_is_measured_beside_its_floor(table):
    rows = {row["what"]: float(row["value"]) for row in table("extraction")}
    floor = ("reading", "decoding", "encoding crops", "writing")
    assert 0 < sum(rows[f"{part}, an image"] for part in floor) < rows["extraction, an image"]
    assert 1 < rows["extraction over its floor, processor time"] < 10


@pytest.mark.slow
def test_nights_end_where_a_full_rebuild_does(table):
    rows = {row["what"]: float(row["value"]) for row in table("nightly")}
    assert rows["nothing changed: sources"] == 200
    assert rows["nothing changed: the command"] > 0
    assert rows["1 % new: the same content as the full rebuild"] == 1
    assert 0 < rows["1 % new: share"] < 1
    assert rows["1 % new, grown: segments"] > 3000


def test_retrieval_is_measured_beside_its_rivals(table):
    rows = {row["what"]: row for row in table("retrieval")}
    assert float(rows["exact"]["median us"]) > 0
    assert float(rows["faiss: flat Jaccard, mask term only"]["times exact"]) > 1


def test_numpy_brute_force_agrees(table):
    assert all(int(row["different"]) == 0 < int(row["components answered"]) for row in table("equality"))


@pytest.mark.slow
def test_growth_is_measured(table):
    rows = {row.pop("what"): [float(value) for value in row.values()] for row in table("scale")}
    assert all(400 < value < 1600 for value in rows["search structures, bytes a segment"])
    assert all(value < 5 for value in rows["open s"])


def test_device_search_runs(table):
    rows = {row["what"]: row for row in table("device")}
    assert float(rows["device search"]["components a second"]) > 0


def test_reads(table):
    assert all(float(row["ms a segment"]) > 0 for row in table("reads"))


def test_collages_show_mostly_the_right_class(table):
    (row,) = table("collages")
    assert float(row["right"]) > 0.5 > float(row["wrong"])


def test_coherent_choices_cost_little_and_share_photographs(table):
    rows = {float(row["weight"]): row for row in table("coherence")}
    assert float(rows[0.0]["score lost"]) == 0 < float(rows[0.5]["score lost"]) < 0.1
    assert float(rows[0.5]["one source"]) > float(rows[0.0]["one source"])
    assert all(0 < float(row["border CIELAB"]) < 40 and float(row["ms a layout"]) > 0 for row in rows.values())


def test_canvases_are_simulated(table):
    (row,) = table("canvases")
    rates = ("first, a second", "again, a second", "consumed, a second")
    assert all(float(row[name]) > 0 for name in rates)
    assert 0 < float(row["ms"]) < 1000


def test_layouts_are_recomposed(table):
    (row,) = table("recomposition")
    assert min(float(row["a second"]), float(row["boosted, a second"])) > 5
    assert float(row["boosted"]) > 1.3
    assert float(row["standing"]) > 0.9


def test_codecs_are_smaller_than_raw(table):
    rows = {row["codec"]: row for row in table("codecs")}
    assert float(rows["the bank's: mask and pixels, sealed"]["share"]) < 0.5


def test_key_patches_agree_with_themselves(table):
    rows = table("key_patches")
    assert float(rows[0]["mean IoU"]) == 1.0


def test_painting_is_timed_by_step(table):
    rows = {row["what"]: float(row["ms"]) for row in table("painting")}
    assert {"retrieve", "coherent", "pieces", "fit", "order", "compose", "elide", "network", "an image"} < set(rows)
    assert max(rows["fit"], rows["network"]) < rows["an image"]


def test_batch_synthesis_is_measured_beside_its_own_stages(table):
    rows = {row["what"]: float(row["eager"]) for row in table("synthesize")}
    assert rows["images a second"] > 0
    assert 0 < rows["share of the bound"] < 1.5
    stages = ("canvases", "network", "encoding", "writing")
    parts = [rows[f"{stage} alone, core ms an image"] for stage in stages]
    assert abs(sum(parts) - rows["all stages alone, core ms an image"]) < 1e-3 * sum(parts) + 1
    assert rows["memory after 8 images, MB"] > 100


def test_training_on_key_patches_is_timed_with_all_networks(table):
    rows = table("key_patch_training")
    assert [row["batch"] for row in rows] == ["2", "2"]
    assert all(float(row["images a second of the core"]) > 0 for row in rows)


def test_pictures_like_a_region_are_timed(table):
    rows = {row["what"]: float(row["seconds"]) for row in table("region_semantics")}
    assert rows["wgan-gp: 2 pictures, 3 steps, 3 latents"] > 0
    assert rows["wgan-gp: features and loss, processor time"] > 0
    assert rows["wgan-gp: generator, processor time"] < 3 * rows["wgan-gp: a step, processor time"]


def test_an_unknown_name_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown benchmark nothing" in done.stderr


def test_small_networks_are_measured_beside_what_they_replace(table):
    rows = {row["what"]: float(row["value"]) for row in table("learned")}
    overlaps = {key: rows[f"fit of hits: mask IoU, {key}"] for key in ("identity", "analytic", "network", "chosen")}
    assert 0 < overlaps["identity"] <= overlaps["chosen"] < 1
    assert overlaps["identity"] < overlaps["analytic"] < 1
    shares = [rows[f"fit of hits: share that the {name} places"] for name in ("network", "box", "identity")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert rows["order: pairs"] > 0
    assert 0 < rows["dense layouts: mean IoU, network"] < rows["dense layouts: mean IoU, nearest class"] <= 1


@pytest.mark.slow
def test_compiled_networks_are_timed_beside_eager_ones(table):
    *rows, mean = table("compiled")
    assert [row["network"] for row in rows] == ["transform"]
    assert rows[0]["backend"] in ("inductor float32", "eager")
    assert float(mean["times eager"]) == pytest.approx(float(rows[0]["times eager"]), rel=1e-3)
