"""Objects assembled from key patches in new layouts: only their pixels change, and nothing held out is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.pipelines.synthesis.conftest import tree
from tests.pipelines.tiny_key_patches import part_bank, save_assemblers
from tests.pipelines.tiny_models import save_models
from tests.zeuxis.command import called
from zeuxis.pipelines.collage import class_order
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.synthesis.assembling import Assembling, added_by, with_assembled
from zeuxis.pipelines.synthesis.guard import Guard, Used
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.pipelines.synthesis.synthesize import SynthesisReport, synthesize
from zeuxis.storage.errors import InputError, LeakError
from zeuxis.storage.reader import Reader
from zeuxis.synth.canvas import compose
from zeuxis.synth.elision import Elided
from zeuxis.synth.transform import Origin, Piece, Target

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["train/a", "train/b", "train/c", "train/d", "train/e", "test/u", "test/v"]
QUICK: dict[str, Any] = {"transform": "analytic", "order": "classes", "workers": 2, "shard": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("assembled objects")
    part_bank(home, NAMES)
    save_models(home / "models", home / "bank", "synthesis")
    save_assemblers(home / "models", home / "bank", "key-patches", objects="sign", judge=False)
    return home


def make(home: Path, out: Path, **settings: Any) -> SynthesisReport:
    given = {"recompose": True, "boost": {"sign": 4.0}, "variants": 2, "limit": 6} | QUICK | settings
    return synthesize(home / "bank", home / "models", out, **given)


def told(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in sorted((out / "units").glob("?????.json"))]
    return [image for record in records for image in record["images"]]


def test_a_network_that_learned_on_filled_canvases_sees_objects_in_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import shutil

    from zeuxis.pipelines import painting_steps

    models = save_models(tmp_path / "models", home / "bank", "synthesis", passing=True, filled=True)
    shutil.copy(home / "models" / "key-patches.safetensors", models)
    bare: list[float] = []

    def synthesised(_model: Any, _layouts: Any, canvases: Any, _batch: int) -> list[Any]:
        for image, valid in canvases:
            missing = image[~valid]
            bare.append(float((missing.min(1) == 255).mean() + (missing.max(1) == 0).mean()))
        return [each.image for each in canvases]

    monkeypatch.setattr(painting_steps, "synthesised", synthesised)
    settings = {"recompose": True, "boost": {"sign": 4.0}, "variants": 2, "limit": 6, "assemble": True} | QUICK
    synthesize(home / "bank", models, tmp_path / "out", **settings)
    assert any(edit.get("assembled") for image in told(tmp_path / "out") for edit in image["edits"])
    assert len(bare) >= 6
    assert max(bare) < 0.5


def test_new_objects_are_made_of_parts_and_labels_stay(home: Path, tmp_path: Path):
    plain, assembled = (make(home, tmp_path / str(on), assemble=on) for on in (False, True))
    assert plain.images == assembled.images == 6
    before, after = tree(tmp_path / "False"), tree(tmp_path / "True")
    labels = [name for name in before if name.startswith(("labels/", "instances/"))]
    assert labels
    assert all(before[name] == after[name] for name in labels)
    put = {image["name"]: each for image in told(tmp_path / "True") for edit in image["edits"]
           for each in edit.get("assembled", [])}  # fmt: skip
    assert put
    for name, data in before.items():
        if name.startswith("images/"):
            assert (data != after[name]) == (Path(name).stem in put)
    rows = [row for path in (tmp_path / "True" / "provenance").iterdir() for row in pq.read_table(path).to_pylist()]
    parts = [row for row in rows if row["use"] == "patch"]
    assert {row["name"] for row in parts} == set(put)
    assert all(row["split"] == "train" and row["class"] == "sign" and row["pixels"] > 0 for row in parts)


def test_it_is_the_same_again_wherever_it_was_stopped(home: Path, tmp_path: Path):
    make(home, tmp_path / "one", assemble=True)
    make(home, tmp_path / "two", assemble=True, workers=1)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    (tmp_path / "two" / "units" / "00001.json").unlink()
    make(home, tmp_path / "two", assemble=True)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    with pytest.raises(InputError, match="its option assemble differs"):
        make(home, tmp_path / "two")


def test_only_the_pixels_of_new_objects_change_and_nothing_of_the_layouts_group(home: Path):
    reader = Reader(home / "bank")
    options = SynthesisOptions(recompose=True, assemble=True)
    assembling = Assembling(reader, Models(home / "models", reader), options)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    round_ = np.ones((30, 40), bool)
    round_[:6, :6] = False
    pieces = []
    for number, (top, left) in enumerate([(10, 10), (50, 70)]):
        target = Target((top, left, top + 30, left + 40), np.ones((30, 40), bool))
        place = (top / 96, left / 128, (top + 30) / 96, (left + 40) / 128)
        origin = Origin("folder/train/a", "folder", "a.png", None)
        pieces.append(Piece(number, 3, "sign", pixels, round_, place, target, origin))
    canvas = compose(pieces, (96, 128), class_order(reader))
    instances = np.zeros((96, 128), np.uint16)
    instances[10:40, 10:50], instances[50:80, 70:110] = 1, 2
    elided = Elided(np.where(canvas.valid[..., None], canvas.image, 0).astype(np.uint8), canvas.valid)
    changed, seen, done = assembling.put(canvas, elided, instances, {2}, [0], (None, None))
    assert [(put.instances, put.pixels) for put in done] == [((2,), int((canvas.provenance == 2).sum()))]
    second = canvas.provenance == 2
    np.testing.assert_array_equal(changed.image[~second], canvas.image[~second])
    assert (changed.image[second] != canvas.image[second]).any(axis=1).mean() > 0.5
    np.testing.assert_array_equal(seen.image, changed.image)
    np.testing.assert_array_equal(changed.provenance, canvas.provenance)
    # the tone is that of the segment
    assert np.abs(changed.image[second].mean(0) - canvas.image[second].mean(0)).max() < 12
    groups = {put.source for seed in range(8) for put in
              assembling.put(canvas, elided, instances, {2}, [seed], (None, "folder/train/a"))[2]}  # fmt: skip
    assert groups <= {f"folder/train/{each}" for each in "bcde"}
    assert len(groups) > 1
    assert assembling.put(canvas, elided, instances, set(), [0], (None, None))[2] == []
    # one component of an old object and two new ones: both of these are told
    instances[50:65, 70:110], instances[65:80, 70:90], instances[65:80, 90:110] = 1, 2, 3
    instances[50:56, 70:110] = 3
    done = assembling.put(canvas, elided, instances, {2, 3}, [0], (None, None))[2]
    edits = [{"kind": "added", "instances": [number]} for number in (1, 2, 3, 4)]
    assert ["assembled" in each for each in with_assembled(edits, done)] == [False, True, True, False]
    assert all(objects for _, objects in assembling._sources.values())
    assembling._sources["folder/train/b"].objects.clear()  # as `where` leaves none of it
    assert assembling._pictures_of("folder/train/b") == []
    assert assembling._pictures_of("folder/train/c")


def test_parts_of_what_is_held_out_are_a_leak(home: Path):
    guard = Guard(Reader(home / "bank"))
    guard.check("x", [Used("patch", "folder/train/a")], None)
    with pytest.raises(LeakError, match="patch of folder/test/u, of test"):
        guard.check("x", [Used("patch", "folder/test/u")], None)
    with pytest.raises(LeakError, match="nothing of the layout's own source, found patch of folder/train/a"):
        guard.check("x", [Used("patch", "folder/train/a")], None, "folder/train/a")
    assert added_by([{"kind": "added", "instances": (1, 3)}, {"kind": "moved", "instances": (2,)}]) == {1, 3}


def test_a_refusal_is_one_sentence_and_nothing_is_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refused(models: Path, said: str, **settings: Any) -> None:
        with pytest.raises(InputError, match=said):
            synthesize(home / "bank", models, tmp_path / "out", assemble=True, **({"recompose": True} | settings))
        assert not (tmp_path / "out").exists()

    refused(
        home / "models", "--assemble: is for objects that are put into new layouts; give --recompose", recompose=False
    )
    save_models(tmp_path / "none", home / "bank", "synthesis")
    refused(tmp_path / "none", "--assemble: .* holds no key-patches.safetensors; train one")
    save_models(tmp_path / "whole", home / "bank", "synthesis")
    save_assemblers(tmp_path / "whole", home / "bank", "key-patches", objects=None, judge=False)
    refused(tmp_path / "whole", "expected objects of a class of the bank, found objects of no class")
    save_assemblers(tmp_path / "whole", home / "bank", "key-patches", objects="bus", judge=False)
    refused(tmp_path / "whole", "expected objects of a class of the bank, found objects of class bus")
    refused(home / "models", "expected a network that sees the canvas", network="crn")
    refused(home / "models", "--assemble: makes objects of class sign, which --erase takes out", erase=("sign",))
    code, _, errors = called(monkeypatch, capsys, "synthesize", "--bank", home / "bank", "--models", home / "models",
                             "--out", tmp_path / "out", "--assemble")  # fmt: skip
    assert code == 2
    assert errors[-1].startswith("zeuxis: --assemble: is for objects that are put into new layouts")
