"""Which networks a batch synthesis runs, and how: compiled ones, a judge that leaves images out, CRN, densification."""

from __future__ import annotations

import csv
import json
import pickle
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.pipelines.inpainting.tiny_roi import save_fillers
from tests.pipelines.synthesis.conftest import picture, tree, write_layouts
from tests.pipelines.tiny_key_patches import save_assemblers
from tests.pipelines.tiny_models import save_models
from tests.synth.test_compile import Fake
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.compile import compile
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.painting_steps import Stages, dense
from zeuxis.pipelines.synthesis import line
from zeuxis.pipelines.synthesis.items import LeftOut
from zeuxis.pipelines.synthesis.judging import agreement
from zeuxis.pipelines.synthesis.line import JUDGE
from zeuxis.pipelines.synthesis.making import Where, _open_anew
from zeuxis.pipelines.synthesis.memory import kept_memory
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.pipelines.synthesis.plan import Plan, packages_of
from zeuxis.pipelines.synthesis.synthesize import SynthesisReport, synthesize
from zeuxis.pipelines.synthesis.units import Units
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import InputError, UnfinishedError
from zeuxis.storage.reader import Reader
from zeuxis.synth import compile as compiling
from zeuxis.synth.compiling.backends import BACKENDS
from zeuxis.synth.encoding import resized
from zeuxis.synth.fitting import AT_ONCE

IMAGES = 2
"""Pictures that the CRN here makes of a layout."""
Run = Callable[..., SynthesisReport]


@pytest.fixture(scope="module")
def models(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("networks") / "models", home / "bank", images=IMAGES)


@pytest.fixture
def run(home: Path, models: Path, tmp_path: Path) -> Run:
    """`synthesize` of five layouts into `tmp_path/NAME` with all networks there are, in shards of 3."""

    def call(name: str = "out", folder: Path = models, **settings: Any) -> SynthesisReport:
        given = {"layouts": home / "layouts", "shard": 3, "workers": 2} | settings
        return synthesize(home / "bank", folder, tmp_path / name, given.pop("layouts"), **given)

    return call


# ---- compiled


@pytest.fixture(scope="module")
def compiled(models: Path) -> Iterator[tuple[Path, Fake]]:
    """Packages of all networks by a compiler that keeps them, twice as fast as eager, and tells the batches it sees."""
    with pytest.MonkeyPatch.context() as patch:
        fake = Fake()
        patch.setitem(BACKENDS, "inductor", fake.backend())
        patch.setattr(compiling, "side_by_side", lambda calls, given: [2.0, 1.0][: len(calls)])
        yield compile(models).folder, fake


def test_compiled_networks_run_and_stand_in_the_plan(run: Run, tmp_path: Path, compiled: tuple[Path, Fake]):
    folder, fake = compiled
    fake.seen.clear()
    report = run(compiled=folder, variants=2)
    assert (report.images, report.warnings) == (10, [])
    assert set(fake.seen) == {1, AT_ONCE["cpu"]}
    assert fake.seen.count(1) == 10  # the network that paints, an image at a time
    plan = Plan.load(tmp_path / "out")
    assert plan is not None
    packages = plan.settings["compiled"]
    assert set(packages) == {"synthesis", "transform", "ordering"}
    assert [len(lines) for lines in packages.values()] == [1, 2, 2]
    assert all(line.startswith("inductor float32, batch ") for lines in packages.values() for line in lines)
    run("again", compiled=folder, variants=2, workers=1)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_the_plan_names_compiled_networks_that_fill_and_assemble(home: Path, tmp_path: Path):
    folder = save_models(tmp_path / "models", home / "bank")
    save_fillers(folder, home / "bank", "roi")
    save_assemblers(folder, home / "bank", "key-patches", objects="car", judge=False)
    reader = Reader(home / "bank")
    options = SynthesisOptions(recompose=True, assemble=True, erase=("car",), keep_real=0.5, compiled=tmp_path / "c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "inductor", Fake().backend())
        patch.setattr(compiling, "side_by_side", lambda calls, given: [2.0, 1.0][: len(calls)])
        compile(folder, out=tmp_path / "c")
        found = packages_of(Models(folder, reader, compiled=tmp_path / "c"), options)
    assert found is not None
    for name in ("roi", "key-patches"):
        assert [line.startswith("inductor float32, batch 1") for line in found[name]] == [True]


def test_compiled_and_uncompiled_are_never_mixed(run: Run, tmp_path: Path, models: Path, compiled: tuple[Path, Fake]):
    folder, _ = compiled
    run("eager", limit=3)
    with pytest.raises(InputError, match="its option compiled differs"):
        run("eager", limit=3, compiled=folder)
    run("fast", limit=3, compiled=folder)
    with pytest.raises(InputError, match="its option compiled differs"):
        run("fast", limit=3)
    assert run("fast", limit=3, compiled=folder).made == 0
    other = compile(models, out=tmp_path / "others", backend="eager").folder  # as on another machine, or anew
    with pytest.raises(InputError, match="its option compiled differs"):
        run("fast", limit=3, compiled=other)


def test_a_worker_with_other_packages_makes_nothing(
    run: Run, home: Path, models: Path, tmp_path: Path, compiled: tuple[Path, Fake], monkeypatch: pytest.MonkeyPatch
):
    folder, _ = compiled
    run(limit=1, compiled=folder)
    plan = Plan.load(tmp_path / "out")
    assert plan is not None
    options = SynthesisOptions(shard=3, limit=1, compiled=folder)
    paths = sorted((home / "layouts").iterdir())
    where = pickle.loads(
        pickle.dumps(Where(str(home / "bank"), str(models), paths, str(tmp_path / "out"), options, plan.hash))
    )
    assert _open_anew(where, 0)[1].run.model.packages
    monkeypatch.setattr("zeuxis.synth.compiling.packages.device_name", lambda device: "another processor")
    with pytest.raises(UnfinishedError, match="other compiled networks for this machine than the plan names"):
        _open_anew(where, 0)


def test_networks_without_packages_run_uncompiled_and_say_so(
    run: Run, tmp_path: Path, models: Path, compiled: tuple[Path, Fake]
):
    (tmp_path / "none").mkdir(mode=0o700)
    report = run(limit=1, compiled=tmp_path / "none")
    assert len([said for said in report.warnings if "runs uncompiled" in said]) == 3
    with pytest.raises(InputError, match="compile them first"):
        run("never", compiled=tmp_path / "nowhere")
    assert not (tmp_path / "never").exists()


def test_threads_of_the_line_keep_to_one_core(run: Run, monkeypatch: pytest.MonkeyPatch):
    """A thread that has not asked for its number of threads takes all cores for its first convolutions."""
    asked: set[int] = set()
    working: list[tuple[int, int]] = []
    honest, prepare = torch.get_num_threads, line.Session.prepare

    def spied() -> int:
        asked.add(threading.get_ident())
        return honest()

    def prepared(self: Any, items: Any) -> Any:
        assert threading.get_ident() in asked
        working.append((threading.get_ident(), honest()))
        return prepare(self, items)

    monkeypatch.setattr(line.torch, "get_num_threads", spied)
    monkeypatch.setattr(line.Session, "prepare", prepared)
    run(limit=3, transform="analytic", order="classes")
    assert len(working) == 3
    assert {count for _, count in working} == {1}


# ---- a judge


def agreed(folder: Path) -> dict[str, float]:
    found = (json.loads(path.read_text()) for path in sorted((folder / "units").glob("?????.json")))
    return {row["name"]: row["agreement"] for each in found for row in each["images"]}


def test_what_the_judge_reads_otherwise_is_left_out_and_listed(
    run: Run, home: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    quick = {"transform": "analytic", "order": "classes", "variants": 2}
    whole = run("whole", agreement=0.0, **quick)
    assert (whole.images, whole.left_out, whole.rejected) == (10, 0, 0)
    found = agreed(tmp_path / "whole")
    judge = Models(models, Reader(home / "bank")).load("judge")
    for name, share in found.items():
        image, label = (
            picture(next((tmp_path / "whole" / each).rglob(f"{name}.png"))) for each in ("images", "labels")
        )
        assert share == pytest.approx(agreement(judge, image, label.astype(np.uint16)), abs=1e-6)
    least = sorted(found.values())[5]
    report = run("some", agreement=least, **quick)
    kept = {name for name, share in found.items() if share >= least}
    assert 0 < len(kept) < 10
    assert (report.images, report.left_out, report.made, report.rejected) == (len(kept), 10 - len(kept), len(kept), 0)
    assert {path.stem for path in (tmp_path / "some/images").rglob("*.png")} == kept
    rows = list(csv.DictReader((tmp_path / "some/left_out.csv").open()))
    assert {row["name"]: float(row["agreement"]) for row in rows} == {n: s for n, s in found.items() if n not in kept}
    assert {row["name"] for row in csv.DictReader((tmp_path / "some/rejects.csv").open())} == set()
    assert [rate.images for rate in report.rates if rate.stage == JUDGE] == [10]
    assert run("some", agreement=least, **quick).made == 0
    with pytest.raises(InputError, match="its option agreement differs"):
        run("some", agreement=0.0, **quick)
    run("again", agreement=least, workers=1, format="parquet", **quick)
    rows = [row for path in (tmp_path / "again").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["name"]: row["agreement"] for row in rows} == {n: s for n, s in found.items() if n in kept}


def test_the_share_is_of_known_pixels(home: Path, models: Path):
    judge = Models(models, Reader(home / "bank")).load("judge")
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (96, 128, 3), np.uint8)
    read = judge.class_of[judge.network(torch.from_numpy(image).movedim(-1, 0)[None] / 127.5 - 1)[0].argmax(0).numpy()]
    assert agreement(judge, image, read) == 1
    wrong = read.copy()
    wrong[:24] = (wrong[:24] + 1) % 4
    assert agreement(judge, image, wrong) == pytest.approx(0.75)
    wrong[:12] = VOID
    assert agreement(judge, image, wrong) == pytest.approx(72 / 84)
    assert agreement(judge, image, np.full_like(read, VOID)) == 1


def test_photographs_are_not_judged(run: Run, tmp_path: Path):
    report = run(agreement=1.0, keep_real=0.5, transform="analytic", order="classes")
    assert report.left_out == 5
    assert report.images == 5
    plan = Plan.load(tmp_path / "out")
    assert plan is not None
    assert {path.stem for path in (tmp_path / "out/images").rglob("*.png")} == set(map(plan.name, plan.places))


def test_a_filter_without_a_judge_is_refused(run: Run, home: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"--agreement: .* holds no judge network"):
        run(folder=home / "models", agreement=0.5)
    with pytest.raises(InputError, match="a share from 0 to 1"):
        run(agreement=1.5)
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_stays_so_where_a_shard_is_made_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []
    honest = Units.publish
    monkeypatch.setattr(
        Units, "publish", lambda self, n, done, guard: seen.extend(done) or honest(self, n, done, guard)
    )
    quick = {"agreement": 1.0, "transform": "analytic", "order": "classes"}
    assert run(**quick).images == 0
    assert all(isinstance(each, LeftOut) for each in seen)
    first = tree(tmp_path / "out")
    (tmp_path / "out/units/00001.json").unlink()
    assert [rate.images for rate in run(**quick).rates if rate.stage == JUDGE] == [2]
    assert tree(tmp_path / "out") == first


# ---- CRN


def test_crn_paints_from_the_layout_alone(run: Run, home: Path, models: Path, tmp_path: Path):
    report = run(network="crn", variants=IMAGES, coco=True)
    assert (report.images, report.rejected) == (10, 0)
    assert set(Plan.load(tmp_path / "out").networks) == {"crn.safetensors"}  # type: ignore[union-attr]
    reader = Reader(home / "bank")
    painter = Painter(reader, Retriever(reader), models)
    first = np.asarray(Image.open(home / "layouts/0.png")).astype(np.uint16)
    wanted = painter.paint(first, IMAGES, stages=Stages(synthesis="crn"))
    for variant, each in enumerate(wanted):
        assert np.array_equal(picture(tmp_path / f"out/images/00000/000000{variant}.png"), each.image)
    rows = [row for path in (tmp_path / "out/provenance").iterdir() for row in pq.read_table(path).to_pylist()]
    assert rows == []


def test_crn_makes_no_more_images_of_a_layout_than_it_can(run: Run, tmp_path: Path):
    with pytest.raises(InputError, match="at most 2"):
        run(network="crn", variants=IMAGES + 1)
    layouts = write_layouts(tmp_path / "layouts", 4)
    for path in sorted(layouts.iterdir())[1:]:  # so that the first is taken more than once
        layout = picture(path).copy()
        layout[layout == 2] = 0
        Image.fromarray(layout).save(path)
    with pytest.raises(InputError, match=r"at most 2 images a layout.*lower --variants or --boost"):
        run(network="crn", variants=IMAGES, boost={"car": 50}, layouts=layouts)
    assert not (tmp_path / "out").exists()


# ---- coarse layouts


def test_coarse_layouts_are_made_dense_first(run: Run, home: Path, models: Path, tmp_path: Path):
    report = run(densify=True, transform="analytic", order="classes", limit=2)
    assert report.images == 2
    model = Models(models, Reader(home / "bank")).load("densify")
    coarse = np.asarray(Image.open(home / "layouts/0.png")).astype(np.uint16)
    label = picture(tmp_path / "out/labels/00000/0000000.png")
    assert np.array_equal(label, resized(dense(coarse, model), label.shape))
    assert not np.array_equal(label, resized(coarse, label.shape))
    assert "densify.safetensors" in Plan.load(tmp_path / "out").networks  # type: ignore[union-attr]
    with pytest.raises(InputError, match="option densify differs"):
        run(transform="analytic", order="classes", limit=2)


def test_densify_is_refused_where_it_cannot_be(run: Run, home: Path, tmp_path: Path):
    with pytest.raises(InputError, match="name them with --layouts"):
        run(densify=True, layouts=None)
    with pytest.raises(InputError, match="holds no densify network"):
        run(folder=home / "models", densify=True)
    assert not (tmp_path / "out").exists()


# ---- memory


def test_memory_that_is_freed_is_kept_for_the_next_image():
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(10):
            torch.ones(4 << 20)  # 4,096 pages
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    with kept_memory():
        faults()
        assert faults() < 1000
