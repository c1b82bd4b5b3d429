"""Ways to keep a region's meaning side by side: on which regions, what is measured, written and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Photos
from tests.pipelines.region_models import SIDE, save_region_models
from tests.pipelines.tiny_models import make_bank
from zeuxis.pipelines.evaluation import region_semantics, region_systems
from zeuxis.pipelines.evaluation.inpaint_measures import Measure
from zeuxis.pipelines.evaluation.region_cases import KINDS, SIZES, cases_of, region_in
from zeuxis.pipelines.evaluation.region_kid import grouped_kid, grouped_kid_gap
from zeuxis.pipelines.evaluation.region_report import HEADS, notes, rendered, rows, table_of
from zeuxis.pipelines.evaluation.region_results import ALL, FIGURES, GROUPS, Kept, RegionEvaluation
from zeuxis.pipelines.evaluation.region_semantics import evaluate_region_semantics
from zeuxis.pipelines.evaluation.region_systems import (
    ALIKE,
    CHOSEN,
    FAST,
    FREE,
    IGAN,
    PLAIN,
    RETRIEVED,
    STILL,
    systems_of,
)
from zeuxis.pipelines.generators import load_generator
from zeuxis.pipelines.like import solved
from zeuxis.pipelines.training.completion import middle
from zeuxis.pipelines.training.photographs import BankOrigin, trained_and_held_out
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.encoding import to_tensor
from zeuxis.synth.features import load_features
from zeuxis.synth.metrics import Interval
from zeuxis.synth.region_semantics.ladder_vae import LadderVae
from zeuxis.synth.region_semantics.objective import FeatureObjective, PixelObjective
from zeuxis.synth.region_semantics.solver import Descent, Solution

pytestmark = pytest.mark.usefixtures("one_thread")
SYSTEMS = [FAST, STILL, ALIKE, PLAIN, CHOSEN, RETRIEVED, IGAN, "ladder-vae", FREE]
NAMES = ["train/a", "train/b", *(f"test/{letter}" for letter in "klmnopqrstuv")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate regions")
    make_bank(Photos(folder / "photos"), folder / "bank", NAMES)
    save_region_models(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> RegionEvaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeuxis.pipelines.evaluation.region_semantics.TIMED", 2)
        patch.setattr("zeuxis.pipelines.evaluation.region_systems.CHOICE", 16)
        return evaluate_region_semantics(folder / "bank", folder / "models", folder / "out", pictures=2, steps=4)


def test_every_system_is_measured_on_every_region(found: RegionEvaluation):
    assert [each.name for each in found.systems] == SYSTEMS
    assert [said.split(":")[0] for said in found.left_out] == ["pixel-vae", "vae-gan"]
    assert list(found.generators) == ["generator-wgan-gp", "generator-began"], "the one that is searched first"
    assert {fid for _, fid in found.generators.values()} == {None}, "of so few pictures there is none"
    assert len(found.cases) == 12
    for system in found.systems:
        assert [len(each) for each in system.pictures] == [2] * 12
        assert system.seconds > 0
        for name in FIGURES:
            assert np.isfinite(system.values[name]).all()
            for group in GROUPS:
                interval = system.figure(name, found.cases, group)
                assert interval.low <= interval.value <= interval.high
    by = {each.name: each for each in found.systems}
    assert by[FAST].gap("features", by[FREE], found.cases).high < 0, "a search finds what chance does not"
    assert by[IGAN].gap("pixels", by[FREE], found.cases).high < 0
    assert by[PLAIN].gap("features", by[FREE], found.cases).high < 0
    assert by[CHOSEN].gap("features", by[FREE], found.cases).high < 0
    assert by[ALIKE].gap("diversity", by[FAST], found.cases).high < 0, "they begin at one place"
    assert by[FREE].over is None
    assert all(each.over.low <= each.over.value <= each.over.high for each in found.systems if each.name != FREE)
    assert by[PLAIN].gap("features", by[FAST], found.cases).value != 0


def test_figures_are_those_of_the_pictures(found: RegionEvaluation, folder: Path):
    """Written anew, for one region of one system."""
    number, system = 4, found.systems[0]
    by = {each.name: each for each in found.systems}
    case, made = found.cases[number], system.pictures[number]
    region, image = case.reference.region, case.reference.image
    measure = Measure(folder / "models", torch.device("cpu"))
    apart = measure.distances(made, [image, image], [region, region])
    assert system.values["semantics"][number] == pytest.approx(np.mean(apart), rel=1e-4)
    whole = [np.ones_like(region)]
    spread = measure.distances(made[:1], made[1:], whole)
    assert system.values["diversity"][number] == pytest.approx(spread[0], rel=1e-4)
    spread = measure.distances(made[:1], made[1:], [~region])
    assert system.values["elsewhere"][number] == pytest.approx(spread[0], rel=1e-4)
    groups = np.repeat([case.photograph for case in found.cases], 2)
    vectors = measure.vectors([each for those in system.pictures for each in those])
    origin = BankOrigin(Reader(folder / "bank"))
    photographs = [middle(origin.read(name), (SIDE, SIDE)) for name in origin.names("train")]
    assert system.kid == grouped_kid(measure.vectors(photographs), vectors, groups)
    references = measure.vectors([case.reference.image for case in found.cases])
    assert found.real == grouped_kid(measure.vectors(photographs), references, range(12))
    chance = measure.vectors([each for those in by[FREE].pictures for each in those])
    assert system.over == grouped_kid_gap(measure.vectors(photographs), vectors, chance, groups)
    assert by[RETRIEVED].pictures[number][0].tobytes() in {each.tobytes() for each in photographs}
    pixels = [float((to_tensor(each) - to_tensor(image)).square()[:, region].mean()) for each in made]
    assert system.values["pixels"][number] == pytest.approx(np.mean(pixels), rel=1e-4)
    gap = by[IGAN].gap("pixels", system, found.cases)
    assert gap.value == pytest.approx((by[IGAN].values["pixels"] - system.values["pixels"]).mean())


def test_regions_are_of_three_sizes_simple_and_complex(folder: Path):
    split, cases = cases_of(Reader(folder / "bank"), None, 24, SIDE, 0)
    assert split == "test"
    assert len({case.reference.name for case in cases}) == len(cases) == 12, "one of each photograph"
    assert [case.size for case in cases[:3]] == list(SIZES)
    assert [case.drawn for case in cases] == [*range(12)]
    assert {(case.size, case.kind) for case in cases} == {(size, kind) for size in SIZES for kind in KINDS}
    again = cases_of(Reader(folder / "bank"), None, 24, SIDE, 0)[1]
    assert all(np.array_equal(a.reference.region, b.reference.region) for a, b in zip(cases, again, strict=True))
    for case in cases:
        rows, cols = np.nonzero(case.reference.region)
        side = round(SIZES[case.size] * SIDE)
        assert max(np.ptp(rows), np.ptp(cols)) < side
        assert case.kind == "simple" or len(rows) == side**2


def test_intervals_draw_groups_of_photographs_and_what_train_sets_apart_is_val(tmp_path: Path):
    """Six groups of two; without any `val` those that trainings choose by are taken for it."""
    photos = Photos(tmp_path / "photos")
    names = [f"{split}/{number:02d}" for split, most in (("train", 40), ("test", 12)) for number in range(most)]
    rows = (f"{name},{name[:-3]},{name[:-2]}room{int(name[-2:]) // 2}" for name in names)
    photos.root.mkdir(parents=True, exist_ok=True)
    (photos.root / "sources.csv").write_text("\n".join(["name,split,group", *rows, ""]))
    make_bank(photos, tmp_path / "bank", names)
    reader = Reader(tmp_path / "bank")
    cases = cases_of(reader, None, 24, SIDE, 0)[1]
    assert [case.drawn for case in cases] == [number // 2 for number in range(12)]
    assert region_semantics._groups(cases, 2) == ([number // 4 for number in range(24)],) * 2
    few = [replace(case, group=case.group // 2, drawn=number) for number, case in enumerate(cases)]
    assert region_semantics._groups(few, 1) == ([number // 4 for number in range(12)], [*range(12)])
    one = [replace(case, group=0) for case in few]
    assert region_semantics._groups(one, 1) == ([*range(12)], [*range(12)]), "photographs, where all are of one group"
    values = np.repeat([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2)
    system = Kept("one", "", {"semantics": values}, Interval(0, 0, 0), None, 0.0, [])
    alone = [replace(case, drawn=number) for number, case in enumerate(cases)]
    together, apart = (system.figure("semantics", each) for each in (cases, alone))
    assert together.value == apart.value == 0.5
    assert together.high - together.low > 1.2 * (apart.high - apart.low), "photographs of a room tell less"
    split, cases = cases_of(reader, "val", 24, SIDE, 0)
    set_apart = trained_and_held_out(BankOrigin(reader))[1]
    assert (split, [case.reference.name for case in cases]) == ("val", set_apart)
    origin = BankOrigin(reader)
    others = [name for name in origin.names("train") if name not in set_apart]
    wanted = [middle(origin.read(name), (SIDE, SIDE)) for name in others]
    for image, own in zip(region_semantics._training(reader, SIDE, set_apart), wanted, strict=True):
        np.testing.assert_array_equal(image, own)


def test_a_simple_region_lies_in_one_component_and_a_complex_one_mixes_classes():
    layout = np.full((32, 32), 7, np.uint16)
    layout[:, 20:] = 3
    layout[28:, :4] = 3
    for seed in range(10):
        random = np.random.default_rng(seed)
        simple = region_in(layout, "simple", 10, random)
        assert len(np.unique(layout[simple])) == 1
        assert simple.sum() >= 50
        mixed = region_in(layout, "complex", 10, random)
        assert mixed.sum() == 100
        assert 0.2 < (layout[mixed] == 3).mean() < 0.8
    empty = region_in(np.full((32, 32), 65535, np.uint16), "complex", 10, np.random.default_rng(0))
    assert empty.sum() == 100


def test_what_is_written_agrees_and_is_the_same_again(found: RegionEvaluation, folder: Path, tmp_path: Path):
    told = json.loads((folder / "out" / "evaluation.json").read_text())
    assert list(told["systems"]) == SYSTEMS
    assert list(told[f"less {FAST}"]) == SYSTEMS[1:]
    assert (
        told["systems"][IGAN][ALL]["pixels"]["value"]
        == found.systems[SYSTEMS.index(IGAN)].figure("pixels", found.cases).value
    )
    page = (folder / "out" / "report.html").read_text()
    assert page.count("data:image/") == 6 * (1 + len(SYSTEMS) * 3)
    assert "://" not in page
    table = (folder / "out" / "table.md").read_text()
    assert table == table_of(found)
    assert "Noise changes diversity by" in table
    assert "gains nothing changes diversity by" in table
    assert all(len(row) == len(HEADS) for row in rows(found))
    assert rendered(found).row_count == 3 * len(SYSTEMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeuxis.pipelines.evaluation.region_semantics.TIMED", 1)
        again = evaluate_region_semantics(
            folder / "bank",
            folder / "models",
            tmp_path / "again",
            pictures=2,
            steps=4,
            systems=[IGAN, "ladder-vae", FREE],
        )
    other = json.loads(json.dumps(again.to_json()))["systems"]
    assert list(other) == [IGAN, "ladder-vae", FREE]
    assert all(other[name] == told["systems"][name] for name in other)
    assert len(notes(again)) == 2, "nothing on noise, and nothing that was wanted is left out"


def test_each_system_searches_or_keeps_as_its_name_says(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plan, cpu, told = Descent(steps=1, together=4), torch.device("cpu"), []
    generator, compared = load_generator(folder / "models"), load_features(None, folder / "models", "max")
    systems, _ = systems_of(folder / "models", generator, compared, plan, cpu, [], [])
    by = {each.name: each for each in systems}
    cases = {case.kind: case for case in cases_of(Reader(folder / "bank"), None, 6, SIDE, 0)[1]}

    def noted(_: object, objective: torch.nn.Module, count: int, descent: Descent, *more: object) -> Solution:
        told.append((type(objective), getattr(objective, "apart", None), descent))
        return solved(_, objective, count, descent, *more)

    monkeypatch.setattr(region_systems, "solved", noted)
    for name in (FAST, STILL, ALIKE, PLAIN, IGAN):
        by[name].make(cases["simple"], 2, 0)
    still = replace(plan, noise=0.0)
    assert told == [
        (FeatureObjective, 0.8, plan),
        (FeatureObjective, 0.8, still),
        (FeatureObjective, 0.8, replace(plan, alike=True)),
        (FeatureObjective, 0.0, plan),
        (PixelObjective, None, still),
    ]
    kept = []
    monkeypatch.setattr(LadderVae, "preserving", lambda self, *given: kept.append(given) or self.sample(2, given[3]))
    for kind, simple in (("simple", True), ("complex", False)):
        by["ladder-vae"].make(cases[kind], 2, 0)
        _, region, count, _, found = kept.pop()
        assert (count, found) == (2, simple)
        assert np.array_equal(region.numpy(), cases[kind].reference.region)


def test_without_a_judge_features_measure_and_nothing_agrees(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "models", tmp_path / "models")
    (tmp_path / "models" / "judge.safetensors").unlink()
    found = evaluate_region_semantics(
        folder / "bank", tmp_path / "models", tmp_path / "out", pictures=2, systems=[FREE], photographs=4
    )
    (system,) = found.systems
    assert system.figure("agreement", found.cases) is None
    assert system.figure("semantics", found.cases).value > 0
    assert found.about["measured with"].startswith("features bank:1/16")
    assert not found.about["independent"]


def test_an_interrupted_evaluation_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(done: int, *_: object) -> None:
        if done == 5:
            raise KeyboardInterrupt

    searched = []
    monkeypatch.setattr(region_semantics, "TIMED", 1)
    monkeypatch.setattr(region_systems, "solved", lambda *given: searched.append(given) or solved(*given))
    asked = {"pictures": 2, "steps": 4, "systems": [IGAN], "photographs": 6}
    with pytest.raises(KeyboardInterrupt):
        evaluate_region_semantics(folder / "bank", folder / "models", tmp_path / "out", **asked, progress=stop)
    again = evaluate_region_semantics(folder / "bank", folder / "models", tmp_path / "out", **asked)
    assert len(searched) == len(again.cases) + 1, "each once, and one that is timed"
    whole = evaluate_region_semantics(folder / "bank", folder / "models", tmp_path / "whole", **asked)
    for name in FIGURES:
        np.testing.assert_array_equal(again.systems[0].values[name], whole.systems[0].values[name])


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(folder: Path, tmp_path: Path):
    bank, models, out = folder / "bank", folder / "models", tmp_path / "out"
    with pytest.raises(InputError, match=r"systems: expected some of 'fast-rsper', .*found 'PIX'"):
        evaluate_region_semantics(bank, models, out, systems=["PIX"])
    with pytest.raises(InputError, match=r"photographs \(--layouts\): expected at least 4, found 3"):
        evaluate_region_semantics(bank, models, out, photographs=3)
    with pytest.raises(InputError, match="pictures: expected at least 2 of each region, found 1"):
        evaluate_region_semantics(bank, models, out, pictures=1)
    with pytest.raises(InputError, match=r"expected at least 4 labelled held-out sources .*, found 1 in val"):
        evaluate_region_semantics(bank, models, out, split="val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected generator-wgan-gp\.safetensors or generator-began"):
        evaluate_region_semantics(bank, tmp_path / "empty", out)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        evaluate_region_semantics(bank, models, tmp_path / "file")
    assert not out.exists()
