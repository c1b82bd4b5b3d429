"""The experiment on augmentation: who sees which photographs, what copy-paste does, intervals, jobs that are shared."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Photos

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)  # whose `benchmarks` no installed package has


def test_photographs_of_the_fold_are_apart_from_those_it_is_tested_on():
    from benchmarks.augmentation.sets import folded, spaced

    names = [f"{k:03d}" for k in range(275)]
    train, held = folded(names)
    assert len(train) == 165
    assert len(held) == 2 * (55 - 2 * 3)
    nearest = min(abs(int(a) - int(b)) for a in train for b in held)
    assert nearest == 4, "neighbours in a clip are in neither"
    assert spaced(train, 3) == [train[0], train[82], train[-1]]
    assert spaced(train, None) == spaced(train, 1000) == train


def test_larger_sets_are_learned_longer():
    from benchmarks.augmentation.sets import FULL

    assert [FULL.segmenter_steps(count) for count in (50, 100, 277)] == [1200, 2400, 2400]


def test_a_recipe_that_is_given_is_not_searched_for(photos: Photos, rebuild_bank, tmp_path: Path):
    from benchmarks.augmentation import RECIPES
    from benchmarks.augmentation.experiment import FOLD, Experiment
    from benchmarks.augmentation.sets import QUICK

    photos.add(*(f"train/{k}" for k in range(3)))
    rebuild_bank(photos.spec, tmp_path / "bank")
    given, searched = (
        Experiment(tmp_path, QUICK, {"2": 2}, {name: RECIPES[name] for name in names})
        for names in (["boosted"], ["boosted", "repainted"])
    )
    names = [job.name for job in given.jobs()]
    assert names[0] == "recipe"
    assert not [name for name in names if FOLD in name]
    assert {"fit fold boosted 0", "fit fold repainted 0", *names} < {job.name for job in searched.jobs()}
    given.results.complete(given.jobs()[:1], lambda said: None)
    assert given.results["recipe"]["best"] == "boosted"


def pair(value: int, objects: np.ndarray):
    from benchmarks.augmentation.segmenter import Pair

    labels = np.where(objects > 0, value + 1, value).astype(np.int64)
    return Pair(np.repeat((10 * labels[..., None]).astype(np.uint8), 3, axis=2), labels, objects)


def test_copy_paste_moves_pixels_and_labels_of_objects_together():
    from benchmarks.augmentation.segmenter import pasted

    objects = np.zeros((40, 60), np.int32)
    objects[10:20, 10:25], objects[25:38, 40:50] = 1, 2
    onto, of = pair(0, np.zeros_like(objects)), pair(5, objects)
    counts = []
    for seed in range(40):
        made = pasted(onto, of, np.random.default_rng(seed))
        changed = made.labels != onto.labels
        assert set(made.labels[changed]) <= {6}, "objects alone are pasted, not what is around them"
        assert (made.image[~changed] == onto.image[~changed]).all()
        assert abs(made.image[changed].mean() - 60) < 6 if changed.sum() > 50 else True
        counts.append(int(changed.sum()))
    assert min(counts) == 0
    assert max(counts) > 1.5 * 150, "larger than they were, sometimes"


def test_items_depend_on_seed_and_number_alone_and_are_mixed():
    from benchmarks.augmentation.segmenter import Items

    objects = np.zeros((32, 32), np.int32)
    real, made = [pair(0, objects)], [pair(3, objects)]
    items = Items(real, made, 0.25, "ordinary", 7, 400)
    assert (items[5]["image"] == Items(real, made, 0.25, "ordinary", 7, 400)[5]["image"]).all()
    share = np.mean([bool((items[k]["layout"] == 3).all()) for k in range(400)])
    assert share == pytest.approx(0.25, abs=0.07)


def confusions(right: float, seeds: int = 3, photographs: int = 60) -> np.ndarray:
    """Of two classes, each as often right."""
    random = np.random.default_rng(round(right * 1000))
    hits = random.binomial(1000, right, (seeds, photographs, 2))
    counts = np.zeros((seeds, photographs, 2, 2), np.int64)
    for k in (0, 1):
        counts[..., k, k], counts[..., k, 1 - k] = hits[..., k], 1000 - hits[..., k]
    return counts


def test_intervals_hold_the_truth_and_differences_are_paired():
    from benchmarks.augmentation.figures import bootstrap, gain, miou

    worse, better = confusions(0.80), confusions(0.84)
    own = bootstrap([worse], miou)
    assert own.low < 100 * 0.8 / 1.2 < own.high
    differs = bootstrap([better, worse], gain)
    assert 0 < differs.low < 100 * (0.84 / 1.16 - 0.8 / 1.2) < differs.high
    nothing = bootstrap([worse, worse], gain)
    assert nothing.low < 0 < nothing.high
    shifted = worse.copy()
    shifted[:, ::2] = confusions(0.4)[:, ::2]  # photographs that are hard for everybody
    paired = bootstrap([shifted, shifted], gain)
    assert paired.high - paired.low < 0.5 * np.ptp(bootstrap([shifted], miou)[1:])


def test_jobs_wait_for_what_they_need_and_nobody_does_one_twice(tmp_path: Path):
    from benchmarks.augmentation.jobs import Job, Results

    done: list[str] = []
    lock = threading.Lock()

    def make(name: str, *needs: str):
        def work() -> dict[str, str]:
            assert all(need in results for need in needs)
            with lock:
                done.append(name)
            time.sleep(0.02)
            return {"said": name}

        return Job(name, needs, work)

    results = Results(tmp_path)
    jobs = [make("last", "a 1", "b"), make("b", "a 1"), make("a 1"), *(make(f"alone {k}") for k in range(20))]
    threads = [threading.Thread(target=results.complete, args=(jobs, lambda said: None)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == sorted(job.name for job in jobs)
    assert results["last"] == {"said": "last"}
    results.complete(jobs, lambda said: pytest.fail("it was all there"))


@pytest.mark.slow
def test_all_of_it_on_a_few_scenes(capsys: pytest.CaptureFixture[str]):
    from benchmarks.__main__ import main
    from tests.test_benchmarks import cells_of

    main(["--quick", "augmentation"])
    rows = cells_of(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["ordinary", "copy-paste", "synthesised"]
    assert {row["photographs"] for row in rows} == {"3"}
