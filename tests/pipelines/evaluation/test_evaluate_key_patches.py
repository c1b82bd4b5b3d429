"""Networks of key patches side by side: who is measured, on what, what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipelines.tiny_key_patches import PARTS, SIDE, part_bank, save_assemblers
from tests.zeuxis.command import called
from zeuxis.pipelines.assembling.network import KIND, SYSTEMS, Made
from zeuxis.pipelines.evaluation import key_patches_experiments, key_patches_probe
from zeuxis.pipelines.evaluation.key_patches import evaluate_key_patches
from zeuxis.pipelines.evaluation.key_patches_bench import (
    Bench,
    best_cut,
    hits,
    order_difference,
    overlap,
    placed,
    samples,
)
from zeuxis.pipelines.evaluation.key_patches_experiments import ANOTHER, CHANCE, EXPERIMENTS, LEVELS, NUMBERS, REAL
from zeuxis.pipelines.evaluation.key_patches_held import HeldOut, gap_of, halves_of, kid_of, mates_of, put_inside
from zeuxis.pipelines.evaluation.key_patches_intervals import kid_over
from zeuxis.pipelines.evaluation.key_patches_report import rendered, table_of
from zeuxis.pipelines.evaluation.key_patches_results import KeyPatchEvaluation
from zeuxis.pipelines.evaluation.making import Making
from zeuxis.pipelines.training.patch_pictures import mask_of
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_checkpoint, save_checkpoint
from zeuxis.synth.metrics import Interval

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = [*(f"train/{each}" for each in "abcdefgh"), *(f"test/{each}" for each in "stuvw")]
PICTURES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate key patches")
    part_bank(folder, NAMES)
    save_assemblers(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> KeyPatchEvaluation:
    return evaluate_key_patches(folder / "bank", folder / "models", folder / "out", experiments=["all"])


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    reader, models = Reader(folder / "bank"), folder / "models"
    return Bench(reader, models, "test", 200, 0, Making(folder / "bench", reader, [models], {}), [KIND])


def test_every_system_is_measured_beside_photographs_and_chance(found: KeyPatchEvaluation):
    assert [each.name for each in found.experiments] == [*EXPERIMENTS]
    goals = found.experiment("goals")
    assert [row.name for row in goals.rows] == [REAL, CHANCE, ANOTHER, *SYSTEMS]
    for row in goals.rows[3:]:
        assert {"appearance", "KID", "placed", "order"} <= set(row.figures)
        assert ("gap" in row.figures) == (row.name != KIND)
        has_mask = row.name in (KIND, f"{KIND}-key", f"{KIND}-random", f"{KIND}-plain-gan")
        assert ("mask IoU" in row.figures) == has_mask
        assert row.figures["order"] < 0.05
    assert goals.row(REAL).figures["placed"].value > 0.7
    assert goals.row(CHANCE).figures["mask IoU"].value > 0.2
    assert set(goals.row(CHANCE).figures) == {"mask IoU", "appearance", "placed"}
    assert set(goals.row(ANOTHER).figures) == {"appearance"}
    assert found.about["pictures"] == PICTURES
    assert found.about["independent"]


def test_the_experiments_are_those_of_the_paper(found: KeyPatchEvaluation):
    assert [row.name for row in found.experiment("number").rows] == [*map(str, NUMBERS)]
    degraded = found.experiment("degraded")
    assert [row.name for row in degraded.rows] == [*map(str, LEVELS)]
    first = found.experiment("goals").row(KIND).figures
    assert degraded.rows[0].figures["KID"] == first["KID"]
    assert degraded.rows[-1].figures["KID"] != first["KID"]
    assert {row.name for row in found.experiment("structure").rows} == {
        REAL, CHANCE, ANOTHER, KIND, f"{KIND}-no-mask", f"{KIND}-auto-encoder", f"{KIND}-conditional-gan"
    }  # fmt: skip
    assert found.experiment("objective").rows[-1].name == f"{KIND}-plain-gan"
    random, key = (found.experiment(name).row(KIND).figures for name in ("random", "key"))
    assert key == first
    assert random["appearance"] != key["appearance"]
    both = found.experiment("combination")
    assert both.row("of the one").figures["to the other"] != both.row("of both").figures["to the other"]


def test_classes_are_told_from_parts(found: KeyPatchEvaluation):
    told = found.experiment("features")
    assert [row.name for row in told.rows] == [*SYSTEMS, "untrained", "pixels", "chance"]
    assert told.row("chance").figures["accuracy"] == 0.5
    assert all(0 <= row.figures["accuracy"].low <= row.figures["accuracy"].high <= 1 for row in told.rows[:-1])
    assert "car 8 and 5" in told.notes[0]
    assert "sign 8 and 5" in told.notes[0]


def test_what_is_written_says_it_all(found: KeyPatchEvaluation, folder: Path):
    out = folder / "out"
    listed = {path.name for path in out.iterdir()}
    assert listed == {"report.html", "evaluation.json", "table.md", *(f"{name}.png" for name in EXPERIMENTS)}
    told = json.loads((out / "evaluation.json").read_text())
    assert told["experiments"]["goals"][KIND]["KID"] == list(found.experiment("goals").row(KIND).figures["KID"])
    page = (out / "report.html").read_text()
    assert page.count("<table") == len(EXPERIMENTS)
    assert 'src="http' not in page
    table = (out / "table.md").read_text()
    assert table == table_of(found)
    assert "5 objects of class car of the split test" in table
    assert rendered(found.experiment("goals")).row_count == 3 + len(SYSTEMS)
    assert np.asarray(Image.open(out / "goals.png")).shape == found.experiment("goals").picture.shape


def test_it_is_the_same_again_and_systems_may_be_left_out(found: KeyPatchEvaluation, folder: Path, tmp_path: Path):
    models = tmp_path / "models"
    shutil.copytree(folder / "models", models)
    (models / f"{KIND}-plain-gan.safetensors").unlink()
    again = evaluate_key_patches(folder / "bank", models, tmp_path / "out", systems=[KIND, f"{KIND}-plain-gan"])
    assert again.experiment("goals").row(KIND).figures == found.experiment("goals").row(KIND).figures
    assert again.left_out == [f"{KIND}-plain-gan: left out, there is no {KIND}-plain-gan.safetensors in {models}"]
    card, tensors = load_checkpoint(models / f"{KIND}-random.safetensors", KIND)
    save_checkpoint(models / f"{KIND}-random.safetensors", tensors, replace(card, training={"objects": "sign"}))
    other = evaluate_key_patches(folder / "bank", models, tmp_path / "two", systems=[KIND, f"{KIND}-random"])
    assert other.left_out == [f"{KIND}-random: left out, it was trained at 64x64 on sign, unlike {KIND}"]


def test_the_order_of_patches_is_measured_over_all_orders(bench: Bench):
    patches = bench.held().sets[0]
    network = bench.first
    assert len([*permutations(patches)]) in (1, 2, 6)
    assert order_difference(network, [patches], 0) < 0.05

    class Swayed:
        """Looks at the first patch alone."""

        noise = staticmethod(network.noise)

        @staticmethod
        def raw(sets, noise):
            images, masks = network.raw([each[:1] for each in sets], noise)
            return images, masks

    assert order_difference(Swayed, [patches], 0) > 1


def test_overlaps_and_hits(bench: Bench):
    one, other = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    assert overlap(one, other) == 1
    one[:4], other[2:6] = True, True
    assert overlap(one, other) == pytest.approx(2 / 6)
    assert hits(np.array([[0, 0, 4, 4], [0, 0, 4, 4]]), np.array([[0, 0, 4, 5], [0, 2, 4, 6]])) == [1.0, 0.0]
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[10:32, 12:34] = 1
    patch = picture[10:32, 12:34].repeat(3, 0).repeat(3, 1)
    assert hits(np.array(placed(bench.first, Made(picture, mask), [patch])), np.array([[10, 12, 32, 34]])) == [1.0]


def test_the_mean_mask_is_the_cut_that_fits_training_pictures_best(bench: Bench):
    masks = [each.mask() for each in bench.gathered("train", 200, "car")]
    assert len(masks) == 8
    best = np.mean([overlap(bench.mean_mask("key", PARTS), each) for each in masks])
    mean = np.mean(masks, axis=0)
    assert all(best >= np.mean([overlap(mean >= level, each) for each in masks]) for level in (0.1, 0.3, 0.5, 0.9))
    assert all(len(each.patches) <= PARTS for each in bench.held().pictures)


def test_the_chance_of_random_patches_is_the_mean_mask_of_random_ones(bench: Bench):
    held = bench.held("random")
    assert (held.patches, held.n) == ("random", PARTS)
    mean = best_cut([each.mask() for each in bench.gathered("train", 200, "car", patches="random")], SIDE)
    assert not np.array_equal(mean, bench.mean_mask("key", PARTS))
    wanted = np.mean([overlap(mean, mask) for mask in held.masks])
    chance = key_patches_experiments.random(bench).row(CHANCE).figures["mask IoU"].value
    assert chance == pytest.approx(wanted)
    # no boxes are drawn twice: neither for pictures of other photographs nor of other splits
    trained, unseen = (bench.gathered(split, 200, None, patches="random") for split in ("train", "test"))
    drawn = [each.boxes.tobytes() for each in (*trained, *unseen)]
    assert len(drawn) == len(NAMES)
    assert len(set(drawn)) > 8, "photographs are looked into by eight"


def test_others_are_of_other_photographs_and_halves_share_none(bench: Bench):
    sources = ["a", "a", "a", "b", "c", "c", "d", "a"]
    assert mates_of(sources) == [3, 3, 3, 4, 6, 6, 7, 3]
    assert mates_of(["a", "a", "a"]) == [1, 2, 0]
    one, other = halves_of(sources)
    assert (one, other) == ([0, 1, 2, 4, 5, 7], [3, 6])
    assert halves_of(["a", "a", "a", "b"]) == ([0, 2], [1, 3]), "one of b alone is no half"
    windows = [replace(bench.held().pictures[0], source=source) for source in sources]
    held = HeldOut(windows, np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32), "key", PARTS)
    assert not {sources[k] for k in held.halves[0]} & {sources[k] for k in held.halves[1]}
    assert all(sources[mate] != own for mate, own in zip(held.mates, sources, strict=True))
    other_made = held.truth.copy()
    other_made[one] += 1  # of the half that gives the photographs
    assert kid_of(held, other_made) == kid_of(held, held.truth)
    changed = replace(held, truth=other_made)
    assert kid_of(changed, held.truth) != kid_of(held, held.truth)


def test_partners_are_of_other_photographs_of_their_own_half(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    sources = ["a", "b", "b", "c", "d", "d", "a", "c"]
    windows = [replace(bench.held().pictures[0], source=source) for source in sources]
    held = HeldOut(windows, np.zeros((8, 4), np.float32), "key", PARTS)
    assert held.partners == [3, 4, 4, 6, 1, 1, 7, 0]
    for half in held.halves:
        assert {held.partners[k] for k in half} <= set(half)
    lone = HeldOut([replace(windows[0], source=source) for source in "aabb"], np.zeros((4, 4)), "key", PARTS)
    assert lone.partners == [1, 0, 3, 2], "no other photograph in a half"
    # what is made of two pictures, and compared with one half, shows nothing of that half
    asked = []
    made = bench.made
    monkeypatch.setattr(bench, "made", lambda network, sets: asked.append(sets) or made(network, sets))
    key_patches_experiments.combination(bench)
    held, (mixed, *_) = bench.held(), asked
    one, other = held.halves
    of_one = {patch.tobytes() for k in one for patch in held.sets[k]}
    assert all(patch.tobytes() not in of_one for k in other for patch in mixed[k])


def test_no_picture_meets_another_window_of_its_photograph(bench: Bench):
    random = np.random.default_rng(0)
    windows = [replace(bench.held().pictures[0], source=f"{k // 2}") for k in range(40)]
    held = HeldOut(windows, random.normal(size=(40, 4)).astype(np.float32), "key", PARTS)
    other = random.normal(size=(40, 4)).astype(np.float32)
    copied = held.truth[[k ^ 1 for k in range(40)]]
    alone = HeldOut([replace(each, source=f"{k}") for k, each in enumerate(windows)], held.truth, "key", PARTS)
    assert gap_of(held, copied, other).value > gap_of(alone, copied, other).value
    windows_of_four = HeldOut([replace(each, source=f"{k // 4}") for k, each in enumerate(windows)], *rest(held))
    one, apart = windows_of_four.halves
    assert kid_of(windows_of_four, other) == kid_over(
        held.truth[one], other[apart], *([windows_of_four.sources[k] for k in half] for half in (one, apart))
    )
    values = [float(k // 4) for k in range(40)]
    wide, narrow = windows_of_four.mean(values), alone.mean(values)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def rest(held: HeldOut) -> tuple:
    return held.truth, held.patches, held.n


def test_the_probe_keeps_the_windows_of_a_photograph_together(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def fitted(rows, labels, unseen, groups):
        asked["own"] = list(groups)
        return np.zeros(len(unseen), np.int64)

    def told(right, labels, groups):
        asked["held"] = list(groups)
        return Interval(0, 0, 0)

    monkeypatch.setattr(key_patches_probe, "ridge_probe", fitted)
    monkeypatch.setattr(key_patches_probe, "balanced_interval", told)
    key_patches_probe.features(bench)
    for key, split in (("own", "train"), ("held", "test")):
        wanted = [each.source for name in ("car", "sign") for each in bench.gathered(split, 100, name)]
        assert sorted(asked[key]) == sorted(wanted)


def test_exact_pixels_inside_the_mask_have_no_distance_whatever_is_outside(bench: Bench):
    held = bench.held()
    noise = np.random.default_rng(0).integers(0, 256, (len(held.pictures), SIDE, SIDE, 3), np.uint8)
    exact = put_inside(held.images, list(noise), held.masks)
    assert all((made != image).any() for made, image in zip(exact, held.images, strict=True))
    assert bench.apart(exact, held, held.masks) == [0] * len(held.pictures)
    assert min(bench.apart(list(noise), held, held.masks)) > 0.05

    class Copying:
        """Makes the photograph inside the mask, and noise outside."""

        name, has_mask, cut = "copying", True, 0.5
        places = bench.first.places

    made = [Made(image, mask.astype(np.float32)) for image, mask in zip(exact, held.masks, strict=True)]
    bench.made, real = lambda network, sets: made, bench.made
    try:
        found = bench.figures(Copying, held)
    finally:
        bench.made = real
    assert list(found.appearance) == [0] * len(held.pictures)
    assert list(found.iou) == [1] * len(held.pictures)


def test_chance_knows_the_mean_training_picture(bench: Bench):
    held = bench.held()
    mean = np.mean([each.image for each in bench.gathered("train", 200, "car")], axis=0)
    np.testing.assert_array_equal(bench.mean_picture("key", PARTS), np.rint(mean))
    wanted = bench.apart([np.rint(mean).astype(np.uint8)] * len(held.pictures), held, held.masks)
    goals = key_patches_experiments.goals(bench)
    assert goals.row(CHANCE).figures["appearance"].value == pytest.approx(np.mean(wanted))
    others = [held.images[mate] for mate in held.mates]
    another = goals.row(ANOTHER).figures["appearance"].value
    assert another == pytest.approx(np.mean(bench.apart(others, held, held.masks)))
    assert another != goals.row(CHANCE).figures["appearance"].value


def test_each_number_of_patches_stands_beside_its_own_mean_mask(bench: Bench):
    rows = key_patches_experiments.number(bench)
    assert [column.head for column in rows.columns][:2] == ["mask IoU", "mean mask"]
    held, most = bench.held(n=max(NUMBERS)), max(NUMBERS)
    trained = bench.gathered("train", 200, "car", n=most)
    for count, row in zip(NUMBERS, rows.rows, strict=True):
        cut = best_cut([mask_of(each.boxes[:count], SIDE) for each in trained], SIDE)
        reached = [overlap(cut, mask_of(each.boxes[:count], SIDE)) for each in held.pictures]
        assert row.figures["mean mask"].value == pytest.approx(np.mean(reached))
    assert len({row.figures["mean mask"].value for row in rows.rows}) > 1


def test_masks_are_cut_where_the_network_says(folder: Path, tmp_path: Path):
    reader, models = Reader(folder / "bank"), tmp_path / "models"
    save_assemblers(models, folder / "bank", KIND)
    path = models / f"{KIND}.safetensors"
    card, tensors = load_checkpoint(path, KIND)
    found = {}
    for cut in (None, 0.2, 0.9):
        training = {**card.training, **({} if cut is None else {"mask_cut": cut})}
        save_checkpoint(path, tensors, replace(card, training=training))
        bench = Bench(reader, models, "test", 200, 0, Making(tmp_path / f"{cut}", reader, [models], {}), [KIND])
        held, figures = bench.held(), bench.figures(bench.first, bench.held())
        level = 0.5 if cut is None else cut
        assert (bench.first.cut, figures.cut) == (level, level)
        wanted = [overlap(each.mask > level, mask) for each, mask in zip(figures.made, held.masks, strict=True)]
        assert list(figures.iou) == wanted
        found[cut] = str(wanted), samples(held, [figures]).tobytes()
    for each in zip(*found.values(), strict=True):
        assert len(set(each)) == 3, "outlines are those of the cut as well"


def test_networks_that_see_patches_otherwise_are_left_out(folder: Path, tmp_path: Path):
    reader, models = Reader(folder / "bank"), tmp_path / "models"
    save_assemblers(models, folder / "bank", KIND, f"{KIND}-no-mask")
    card, tensors = load_checkpoint(models / f"{KIND}.safetensors", KIND)
    training = {**card.training, "views": True}
    kept = replace(card, config={**card.config, "aspect": "kept"}, training=training)
    save_checkpoint(models / f"{KIND}.safetensors", tensors, kept)
    bench = Bench(reader, models, "test", 200, 0, Making(tmp_path / "out", reader, [models], {}))
    assert [*bench.assemblers] == [KIND]
    said = f"{KIND}-no-mask: left out, patches are stretched for it, and kept for {KIND}"
    assert said in bench.left_out
    held = bench.held()
    for each in held.pictures:
        assert [patch.shape[:2] for patch in each.patches] == [
            (2 * (bottom - top), 2 * (right - left)) for top, left, bottom, right in each.boxes.tolist()
        ]
    made, again = (bench.made(bench.first, held.sets) for _ in range(2))  # the second as it was kept
    for one, other, patches in zip(made, again, held.sets, strict=True):
        assert one.alone.shape == (len(patches), SIDE, SIDE)
        np.testing.assert_array_equal(one.alone, other.alone)
        wanted = [place.box for place in bench.first.places(one, patches)]
        assert placed(bench.first, other, patches) == wanted
    assert samples(held, [bench.figures(bench.first, held)]).dtype == np.uint8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"experiments": ["pix"]}, "--experiment: expected some of goals, key, random"),
        ({"systems": ["roi"]}, "systems: expected some of key-patches, key-patches-key, key-patches-random"),
        ({"split": "val"}, "expected held-out sources (split test or val), found none in val"),
        ({"split": "train"}, "expected held-out sources (split test or val), found none in train"),
        ({"pictures": 3}, "pictures: expected at least 4, found 3"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
        ({"experiments": ["objective"], "systems": [f"{KIND}-random"]}, "for objective, found none"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(folder: Path, tmp_path: Path, given: dict, said: str):
    with pytest.raises(InputError) as refused:
        evaluate_key_patches(folder / "bank", folder / "models", tmp_path / "out", **given)
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_said(folder: Path, tmp_path: Path):
    save_assemblers(tmp_path / "models", folder / "bank", KIND, judge=False)
    with pytest.raises(InputError, match=r"expected judge.safetensors or features.safetensors, found neither"):
        evaluate_key_patches(folder / "bank", tmp_path / "models", tmp_path / "out")
    save_assemblers(tmp_path / "other", folder / "bank", KIND, objects="bus")
    with pytest.raises(InputError, match="makes objects of class bus"):
        evaluate_key_patches(folder / "bank", tmp_path / "other", tmp_path / "out")
    shutil.copy(folder / "models" / "judge.safetensors", tmp_path)
    with pytest.raises(InputError, match="found no such network"):
        evaluate_key_patches(folder / "bank", tmp_path, tmp_path / "out")
    save_assemblers(tmp_path / "sky", folder / "bank", KIND, objects="sky")
    with pytest.raises(InputError, match="expected at least 4 pictures of sky in test, found 0"):
        evaluate_key_patches(folder / "bank", tmp_path / "sky", tmp_path / "out")


def test_of_several_experiments_one_that_cannot_be_made_is_left_out(folder: Path, tmp_path: Path):
    some = {"systems": [f"{KIND}-random"], "experiments": ["key", "objective"]}
    found = evaluate_key_patches(folder / "bank", folder / "models", tmp_path / "out", **some)
    assert [each.name for each in found.experiments] == ["key"]
    assert found.left_out[-1].startswith("objective: left out, ")
    assert "for objective, found none" in (tmp_path / "out" / "table.md").read_text()


def test_the_evaluation_is_a_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(*words: object) -> tuple:
        out = ("--bank", folder / "bank", "--models", folder / "models", "--out", tmp_path / "made")
        return called(monkeypatch, capsys, "evaluate", *words, *out)

    code, lines, _ = run("key-patches", "--system", KIND, "--experiment", "goals", "--experiment", "combination")
    assert code == 0
    assert [Path(line).name for line in lines[-5:]] == ["goals.png", "combination.png", "evaluation.json", "table.md",
                                                        "report.html"]  # fmt: skip
    assert any(line.startswith("chance ") for line in lines)
    code, _, errors = run("inpaint", "--experiment", "goals")
    assert (code, errors) == (2, ["zeuxis: --experiment: expected with key-patches, found with inpaint"])
    code, _, errors = run("key-patches", "--study", "a", "b")
    assert (code, errors) == (2, ["zeuxis: evaluate key-patches: has no study; leave --study and --answers out"])
