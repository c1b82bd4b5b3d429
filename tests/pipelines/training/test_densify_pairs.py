"""Coarse layouts that were drawn: which sources learn from one, what it becomes, and banks that cannot be used."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import zeuxis
from tests.ingest.datasets import published
from tests.zeuxis.command import called
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.pipelines.training import coarse_pairs, logs
from zeuxis.pipelines.training.coarse_pairs import Partners
from zeuxis.pipelines.training.densify import VALIDATION_SEED, make_task
from zeuxis.pipelines.training.options import TrainOptions
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import InputError
from zeuxis.storage.layouts import sample_to_frame
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_card
from zeuxis.synth.coarsening import coarsen

SIZE = (32, 64)
QUICK = {"preset": "tiny", "steps": 2, "batch": 2, "size": SIZE, "devices": "cpu"}
CLASSES = "id,name\n0,sky\n1,ground\n2,car\n3,sign\n"
DRAWN = "id,name\n1,car\n3,sky\n4,blimp\n7,ground\n"
"""The classes of the coarse bank: other ids, one class more and one fewer."""
TO_DENSE = {1: 2, 3: 0, 4: VOID, 7: 1, 255: VOID}
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")


def bank_of(photos, path, classes=CLASSES, **options) -> Path:
    (photos.root / "classes.csv").write_text(classes)
    given = {"frame": (48, 64), "min_area": 16, "patches": False, "workers": 0, "report": False}
    rebuild(photos.spec, path, **(given | options))
    return path


def outlines(seed: int) -> np.ndarray:
    """`(60, 100)` uint8, of another size than the dense ones: boxes of all classes of the coarse bank on void."""
    random = np.random.default_rng(seed)
    labels = np.full((60, 100), 255, np.uint8)
    for col, label in enumerate((3, 7, 1, 4)):
        top, left = random.integers(2, 20), 24 * col + random.integers(2, 8)
        labels[top : top + 25, left : left + 15] = label
    return labels


LABELS = {name: outlines(seed) for seed, name in enumerate(("a", "b", "e", "x"))}


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[Path, Path]:
    """Dense layouts of a to e, of which e is held out; coarse ones of a, b, e and x, of c the very same files."""
    from tests.conftest import Photos

    folder = tmp_path_factory.mktemp("pairs")
    dense, coarse = Photos(folder / "dense"), Photos(folder / "coarse")
    dense.add("a", "b", "c", "d", "e")
    for name, labels in LABELS.items():
        coarse.add(name, labels=labels)
    for file in (coarse.image("c"), coarse.label("c")):
        shutil.copy(folder / "dense" / file.relative_to(coarse.root), file)
    lone = f"{DRAWN}0,water\n2,boat\n"  # so that the ids of c are known here
    return bank_of(dense, folder / "fine"), bank_of(coarse, folder / "drawn", lone)


def task_of(banks, models, *, coarse=True, **options):
    given = {"lr": 3e-3, "coarse": banks[1] if coarse else None}  # a `Path`
    return make_task(Reader(banks[0]), models, TrainOptions(**QUICK | given | options))


def partner(task, name) -> np.ndarray:
    """What was drawn of a source, as channels."""
    drawn = np.vectorize(TO_DENSE.get)(sample_to_frame(LABELS[name], SIZE))
    return task._channel_of[drawn]


def number_of(task, k) -> int:
    """The source that item k is of."""
    return int(np.random.default_rng((task.options.seed, k)).integers(len(task.sources)))


def names(sources) -> list[str]:
    return [name.removeprefix("folder/") for name in sources.names]


@pytest.mark.parametrize("kept", [1 << 30, 2 * 32 * 64, 0])
def test_a_source_with_a_partner_learns_from_it_mirrored_alike(banks, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(coarse_pairs, "MOST_KEPT", kept)
    task = task_of(banks, tmp_path)
    items, mirrored, seen = task.dataset(), [], set()
    assert names(task.sources) == ["a", "b", "c", "d"]
    assert len(task.partners) == 2
    for k in range(24):
        number = number_of(task, k)
        name = names(task.sources)[number]
        if name not in ("a", "b"):
            continue
        drawn, dense = partner(task, name), task._channel_of[task.sources[number].layout]
        item = {key: each.numpy() for key, each in items[k].items()}
        mirrored.append(not np.array_equal(item["dense"], dense))
        side = -1 if mirrored[-1] else 1
        assert np.array_equal(item["dense"], dense[:, ::side])
        assert np.array_equal(item["coarse"], drawn[:, ::side])
        assert set(np.unique(drawn)) == {0, 1, 2, len(task.subject.classes)}, "a class that is lacking is void"
        seen.add(name)
    assert seen == {"a", "b"}
    assert 0 < sum(mirrored) < len(mirrored)


def test_sources_without_one_or_of_the_same_files_are_simulated_as_without_the_option(banks, tmp_path):
    task = task_of(banks, tmp_path)
    items, plain, n = task.dataset(), task_of(banks, tmp_path, coarse=False).dataset(), 0
    for k in range(24):
        if names(task.sources)[number_of(task, k)] in ("c", "d"):
            assert all(torch.equal(items[k][key], plain[k][key]) for key in ("coarse", "dense"))
            n += 1
    assert n > 5


def test_without_the_option_items_figures_and_settings_are_what_they_were(banks, tmp_path):
    task = task_of(banks, tmp_path, coarse=False)
    items = task.dataset()
    for k in range(8):
        random = np.random.default_rng((task.options.seed, k))
        layout = task.sources[int(random.integers(len(task.sources)))].layout
        if random.random() < 0.5:
            layout = layout[:, ::-1].copy()
        coarse = coarsen(layout, task.coarsening, random)
        assert np.array_equal(items[k]["dense"].numpy(), task._channel_of[layout])
        assert np.array_equal(items[k]["coarse"].numpy(), task._channel_of[coarse])
    (coarse, layout), *_ = task._validation()
    again = coarsen(layout, task.coarsening, np.random.default_rng((VALIDATION_SEED, 0)))
    assert np.array_equal(coarse, again)
    assert set(task.extra(task.modules())) == {"coarsening"}
    assert "pairs" not in task.validate(task.modules()["net"].eval())


def test_held_out_sources_have_partners_too(banks, tmp_path):
    task = task_of(banks, tmp_path)
    ((coarse, layout),) = task._validation()
    assert names(task.held_out) == ["e"]
    assert np.array_equal(task._channel_of[coarse], partner(task, "e"))
    assert np.array_equal(layout, task.held_out[0].layout)
    assert task.validate(task.modules()["net"].eval())["pairs"] == 1
    task.grid(task.modules()["net"].eval())


def test_items_are_the_same_once_sent_to_a_process_and_from_the_cache(banks, tmp_path, monkeypatch):
    items = task_of(banks, tmp_path).dataset()
    sent = pickle.loads(pickle.dumps(items))
    assert "_mapped" not in items.partners.__getstate__()
    monkeypatch.setattr(Partners, "_decoded", lambda *_: pytest.fail("decoded a second time"))
    again = task_of(banks, tmp_path).dataset()
    for k in range(8):
        for other in (sent, again):
            assert all(torch.equal(items[k][key], other[k][key]) for key in ("coarse", "dense"))
    (folder,) = (tmp_path / "cache").glob("coarse-*-32x64-2")
    assert np.load(folder / "layouts.npy").shape == (2, *SIZE)


def test_what_was_cached_before_the_bank_changed_is_removed(banks, tmp_path):
    task = task_of(banks, tmp_path)
    path, _, rest = task.partners._stem.rpartition("-")
    cache = tmp_path / "cache"
    for name in (f"{path}-{'0' * len(rest)}-11111111-32x64-2", "coarse-22222222-00000000-11111111-32x64-2"):
        (cache / name).mkdir(parents=True)
    task.dataset()
    kept = sorted(each.name.split("-")[1] for each in cache.glob("coarse-*"))
    assert kept == sorted([path.split("-")[1], "22222222"])


def test_a_training_goes_on_with_the_same_coarse_bank_alone(banks, tmp_path):
    models = tmp_path / "models"
    given = QUICK | {"coarse": str(banks[1])}
    zeuxis.train("densify", banks[0], models, **given)
    other = bank_of_others(tmp_path)
    report, *_ = zeuxis.train("densify", banks[0], models, **given | {"steps": 3})
    assert (report.first, report.step) == (2, 3)
    for coarse in (str(other), None):
        with pytest.raises(InputError, match=r"was trained otherwise, expected coarse bank drawn [0-9a-f]{32}, found"):
            zeuxis.train("densify", banks[0], models, **QUICK | {"steps": 4, "coarse": coarse})
    (models / "resume/densify.safetensors").unlink()
    with pytest.raises(InputError, match="expected coarse bank drawn"):
        zeuxis.train("densify", banks[0], models, **QUICK | {"steps": 3, "coarse": str(other)})
    plain = tmp_path / "plain"
    zeuxis.train("densify", banks[0], plain, **QUICK)
    with pytest.raises(InputError, match="expected coarse bank null, found coarse bank drawn"):
        zeuxis.train("densify", banks[0], plain, **given)


def bank_of_others(folder) -> Path:
    """A bank of the same name of which one layout is another."""
    from tests.conftest import Photos

    photos = Photos(folder / "others")
    for name, labels in LABELS.items():
        photos.add(name, labels=labels if name != "b" else labels[::-1].copy())
    return bank_of(photos, folder / "others" / "drawn", DRAWN)


def test_what_the_classes_are_called_makes_another_bank(banks, tmp_path):
    from tests.conftest import Photos

    found = set()
    for number, classes in enumerate((DRAWN, DRAWN.replace("blimp", "sign"))):
        photos = Photos(tmp_path / str(number))
        photos.add("a", labels=LABELS["a"])
        path = bank_of(photos, tmp_path / str(number) / "drawn", classes)
        found.add(coarse_pairs.CoarseBank(path, Reader(banks[0])).identity)
    assert len(found) == 2


def test_banks_that_cannot_be_used_are_one_sentence_before_anything_is_written(banks, tmp_path):
    from tests.conftest import Photos

    photos = {name: Photos(tmp_path / name) for name in ("bare", "strange", "alien")}
    photos["bare"].add("a")
    photos["strange"].add("y", labels=LABELS["x"])
    photos["alien"].add("a")
    bare = bank_of(photos["bare"], tmp_path / "bare/bank", keep_sources=False)
    strange = bank_of(photos["strange"], tmp_path / "strange/bank", DRAWN)
    alien = bank_of(photos["alien"], tmp_path / "alien/bank", "id,name\n0,water\n1,boat\n2,oar\n3,pier\n")
    unlabelled = tmp_path / "unlabelled"
    rebuild(f"images:{tmp_path / 'bare/images'}", unlabelled, patches=False, workers=0, report=False)
    for coarse, said in (
        (tmp_path / "none", "none: expected a bank"),
        (bare, "bare/bank: keeps no sources; rebuild it without --no-keep-sources"),
        (unlabelled, "unlabelled: expected coarse layouts, found no labelled sources"),
        (
            strange,
            "strange/bank: expected sources of fine, such as 'folder/a', found only others, such as 'folder/y'; ",
        ),
        (alien, "alien/bank: expected classes of fine, such as 'car', found only others, such as 'boat'"),
        (banks[0], "fine: expected other layouts than those of fine, found the same ones"),
    ):
        for what in ("densify", "all"):
            with pytest.raises(zeuxis.ZeuxisError, match=said) as caught:
                zeuxis.train(what, banks[0], tmp_path / "models", **QUICK, coarse=coarse)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()


def test_on_the_command_line_with_both_labels_of_cityscapes(tmp_path, monkeypatch, capsys):
    root, models = tmp_path / "cityscapes", tmp_path / "models"
    published.cityscapes(root)
    for labels in ("fine", "coarse"):
        given = {"frame": (48, 64), "min_area": 1, "patches": False, "workers": 0, "report": False}
        rebuild(f"cityscapes:{root}?labels={labels}", tmp_path / labels, **given)
    named = ["--bank", tmp_path / "fine", "--coarse", tmp_path / "coarse", "--models", models]
    told = ["--preset", "tiny", "--steps", "2", "--batch", "2", "--size", "32x64", "--devices", "cpu"]
    found = called(monkeypatch, capsys, "train", "densify", *named, *told, "--workers", "1")
    assert found.code == 0, found.errors
    card = load_card(models / "densify.safetensors")
    assert card.bank == "fine"
    assert card.training["coarse"] == str(tmp_path / "coarse")
    assert card.training["coarse bank"].startswith("coarse ")
    pairs = card.training["pairs"]
    assert {key: pairs[key] for key in ("bank", "generation", "trained", "held out")} == {
        "bank": "coarse",
        "generation": 1,
        "trained": [1, 1],
        "held out": [1, 1],
    }
    assert len(pairs["classes"]) == 19
    assert card.training["figures"]["pairs"] == 1
    refused = called(monkeypatch, capsys, "train", "judge", *named, *told)
    assert (refused.code, refused.errors) == (2, ["zeuxis: --coarse: expected with densify or all, found with judge"])
