"""Systems side by side: who is measured, on what, what is written, and what is refused before anything is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Photos
from tests.pipelines.small_inception import SmallInception, stands_in
from tests.pipelines.tiny_models import SIZE, make_bank, save_models
from zeuxis.pipelines.evaluation.evaluate import Judge, Truth, _by_inception, _real, evaluate
from zeuxis.pipelines.evaluation.making import FOLDER
from zeuxis.pipelines.evaluation.report import radial, rendered, table_of
from zeuxis.pipelines.evaluation.results import Evaluation
from zeuxis.pipelines.evaluation.systems import SYSTEMS, WHOLE, available
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.training.sources import BankSources
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth import metrics
from zeuxis.synth.inception import features_of, load_inception
from zeuxis.synth.metrics import kid

TRAIN = [f"train/{name}" for name in "abcdef"]
TEST = [f"test/{name}" for name in "uvwx"]


pytestmark = pytest.mark.usefixtures("one_thread", "no_inception")


@pytest.fixture(scope="module")
def no_inception() -> Iterator[None]:
    """No weights of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZEUXIS_INCEPTION", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def bank(folder: Path) -> Path:
    return make_bank(Photos(folder / "photos"), folder / "bank", [*TRAIN, *TEST])


@pytest.fixture(scope="module")
def models(folder: Path, bank: Path) -> Path:
    made = save_models(folder / "models", bank)
    save_models(made, bank, "roi", size=(64, 64))
    (made / "synthesis-no-canvas.safetensors").write_bytes((made / "synthesis.safetensors").read_bytes())
    return made


@pytest.fixture(scope="module")
def found(no_inception: None, folder: Path, bank: Path, models: Path) -> Evaluation:
    return evaluate(bank, models, folder / "out")


def test_every_system_paints_every_held_out_layout_once(found: Evaluation):
    assert found.names == [f"folder/{name}" for name in TEST]
    measured = [each.name for each in found.systems]
    there = {name for system in SYSTEMS for name in system.needs} - {"synthesis-image-space"}
    there = {name for name in there if not name.startswith("crn-")}
    assert measured == ["real", "real, blurred", *(system.name for system in SYSTEMS if set(system.needs) <= there)]
    assert "CRN" in measured
    assert found.left_out
    assert "image-space" in found.left_out[0]
    for each in found.systems:
        assert [picture.shape for picture in each.pictures] == [(*SIZE, 3)] * len(TEST)
        assert each.figures[0].kid.low <= each.figures[0].kid.high
        assert each.figures[0].fid is None, "four pictures say nothing of a covariance"
    assert found.system(WHOLE).figures[0].diversity is not None


def test_switches_switch(found: Evaluation):
    pictures = {each.name: np.stack(each.pictures) for each in found.systems}
    assert (pictures["collage, inpainted"] > 0).any(axis=3).mean() > (pictures["collage"] > 0).any(axis=3).mean()
    assert not np.array_equal(pictures["SIMS, no elision"], pictures[WHOLE])
    shown, share = (pictures["collage"] > 0).any(axis=3).mean(), found.system("collage").figures[0].bank_share
    assert share == pytest.approx(shown, abs=1e-3), "all that it shows is the bank's, what was elided elsewhere too"
    assert np.array_equal(pictures["no canvas"], pictures[WHOLE]), "here a copy of the whole network"
    for name in ("SIMS, analytic fit", "collage"):
        assert set(found.system(name).figures[0].transforms) <= {"box", "identity"}


def test_real_pictures_are_as_near_as_can_be(found: Evaluation):
    real = found.system("real").figures[0]
    assert (real.spectrum, real.ssim) == (0, 1)
    blurred = found.system("real, blurred").figures[0]
    assert blurred.spectrum > 0.1
    assert 0.5 < blurred.ssim < 1
    assert blurred.kid.value > real.kid.value
    for each in found.systems[1:]:
        assert each.figures[0].spectrum > 0
        assert each.figures[0].ssim < 1


def test_the_kid_of_photographs_is_that_of_some_groups_to_others(found: Evaluation, bank: Path, models: Path):
    reader = Reader(bank)
    judge = Judge(Models(models, reader).load("judge"))
    truth = Truth.of(BankSources(reader, SIZE, "test"), judge)
    assert truth.groups.tolist() == found.names, "each is its own group"
    assert found.system("real").figures[0].kid == kid(truth.features[:2], truth.features[2:])
    assert found.system("real").said.endswith("KID of some groups of them to the others")
    mixed = _real(replace(truth, groups=np.array(["a", "b", "a", "b"])), judge)
    assert mixed.figures[0].kid == kid(truth.features[::2], truth.features[1::2])
    one = _real(replace(truth, groups=np.array(["a"] * 4)), judge)
    assert one.figures == _real(truth, judge).figures
    assert one.said.endswith("KID of the first half of them to the second")


def test_kid_and_fid_by_inception_stand_beside_the_judges_where_there_are_weights(
    found: Evaluation, bank: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = stands_in(monkeypatch, tmp_path)
    out = tmp_path / "out"
    more = evaluate(bank, models, out, systems=["collage"], inception=path)
    network = load_inception(path)
    assert isinstance(network, SmallInception)
    real, made = (features_of(network, more.system(name).pictures) for name in ("real", "collage"))
    figures = more.system("collage").figures[0]
    assert (figures.kid_inception, figures.fid_inception) == (kid(real, made), None)
    assert more.system("real").figures[0].kid_inception == kid(real[:2], real[2:])
    plain = found.system("collage")
    assert replace(figures, kid_inception=None, seconds=None) == replace(plain.figures[0], seconds=None)
    assert more.about["inception"] == network.name
    told = json.loads((out / "evaluation.json").read_text())
    assert told["systems"]["collage"][0]["kid_inception"] == [*figures.kid_inception]
    assert told["systems"]["collage"][0]["fid_inception"] is None
    assert told["about"]["inception"].startswith("small.safetensors, SHA-256 ")
    table = (out / "table.md").read_text()
    heads = [head.strip() for head in table.splitlines()[0].split("|")]
    assert heads[4:8] == ["KID", "FID", "KID (Inception)", "FID (Inception)"]
    row = next(line for line in table.splitlines() if line.startswith("| collage "))
    low, high = figures.kid_inception[1:]
    assert row.split("|")[6].strip() == f"{figures.kid_inception.value:.1f} ({low:.1f} to {high:.1f})"
    assert f"Inception from {network.name}; " in table
    assert "small.safetensors" in (out / "report.html").read_text()
    assert [str(column.header) for column in rendered(more).columns] == heads[1:-1]
    many = np.random.default_rng(0).normal(size=(59, 6)).astype(np.float32)
    assert _by_inception(many, many)[1] is None
    monkeypatch.setattr(metrics, "FID_IMAGES", 9)
    assert _by_inception(many, many)[1] == pytest.approx(0, abs=1e-3)


def test_without_weights_nothing_is_said_of_inception(found: Evaluation, folder: Path):
    for name in ("table.md", "evaluation.json", "report.html"):
        assert "nception" not in (folder / "out" / name).read_text(), name
    assert [str(column.header) for column in rendered(found).columns] == [
        *("system", "accuracy", "mIoU", "KID", "FID", "spectrum", "SSIM", "bank", "score", "diversity", "s/image"),
        *("KID over SIMS", "mIoU over SIMS"),
    ]
    figures = json.loads((folder / "out" / "evaluation.json").read_text())["systems"]["SIMS"][0]
    assert list(figures) == [
        *("accuracy", "mean_iou", "kid", "fid", "spectrum", "ssim", "bank_share", "score", "diversity", "transforms")
    ]


def test_no_held_out_source_gives_segments(found: Evaluation, bank: Path, models: Path):
    from zeuxis.index.retriever import Retriever

    reader = Reader(bank)
    painter = Painter(reader, Retriever(reader), models)
    for name in found.names:
        (image,) = painter.paint(None, source=name)
        sources = {placed.piece.origin.source for placed in image.canvas.placements}
        assert sources
        assert sources <= {f"folder/{each}" for each in TRAIN}


def test_the_judge_reads_photographs_of_its_own_size(bank: Path, models: Path):
    reader = Reader(bank)
    judge = Judge(Models(models, reader).load("judge"))
    truth = Truth.of(BankSources(reader, SIZE, "test"), judge)
    assert truth.read.shape == truth.indices.shape == (len(TEST), *SIZE)
    one, features = judge(truth.photographs[1:2])
    np.testing.assert_array_equal(one[0], truth.read[1])
    np.testing.assert_allclose(features[0], truth.features[1], rtol=1e-4, atol=1e-5)


def test_an_interrupted_evaluation_goes_on(
    found: Evaluation, bank: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(done: int, *_: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(bank, models, tmp_path / "out", systems=[WHOLE], progress=stop)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FOLDER]
    painted, paint = [], Painter.paint
    monkeypatch.setattr(Painter, "paint", lambda *given, **named: painted.append(named) or paint(*given, **named))
    again = evaluate(bank, models, tmp_path / "out", systems=[WHOLE])
    assert list(dict.fromkeys(each["source"] for each in painted)) == again.names[3:]
    for one, other in zip(again.system(WHOLE).pictures, found.system(WHOLE).pictures, strict=True):
        np.testing.assert_array_equal(one, other)
    figures, whole = again.system(WHOLE).figures[0], found.system(WHOLE).figures[0]
    assert (figures.diversity, figures.score, figures.transforms) == (whole.diversity, whole.score, whole.transforms)
    assert FOLDER not in {path.name for path in (tmp_path / "out").iterdir()}


def test_what_is_written_agrees_and_is_the_same_again(found: Evaluation, folder: Path, bank: Path, models: Path):
    out = folder / "out"
    told = json.loads((out / "evaluation.json").read_text())
    assert list(told["systems"]) == [each.name for each in found.systems]
    assert told["about"]["networks"]["models/judge"]["network"] == "judge"
    picture = np.asarray(Image.open(out / "pictures" / "SIMS" / "folder-test-u.png"))
    np.testing.assert_array_equal(picture, found.system(WHOLE).pictures[0])
    page = (out / "report.html").read_text()
    assert page.count("data:image/") >= len(TEST) * (len(found.systems) + 1)
    assert "://" not in page
    again = evaluate(bank, models, folder / "again", systems=["SIMS"])
    assert json.loads(json.dumps(again.to_json()))["systems"]["SIMS"] == told["systems"]["SIMS"]
    for first, second in zip(again.system(WHOLE).pictures, found.system(WHOLE).pictures, strict=True):
        np.testing.assert_array_equal(first, second)


def test_tables_tell_every_system_and_ranges_of_seeds(found: Evaluation, bank: Path, models: Path, folder: Path):
    assert table_of(found).count("\n| ") == len(found.systems)
    assert rendered(found).row_count == len(found.systems)
    other = Path(shutil.copytree(models, folder / "other seed"))
    save_models(other, bank, "synthesis", seed=1)
    two = evaluate(bank, [models, other], folder / "two", systems=["collage", "SIMS"])
    assert [len(each.figures) for each in two.systems] == [1, 1, 1, 2]
    accuracies = [figures.accuracy for figures in two.system("SIMS").figures]
    assert accuracies[0] == found.system("SIMS").figures[0].accuracy
    assert f"({min(accuracies):.3f} to {max(accuracies):.3f})" in table_of(two)


def test_systems_are_compared_with_the_whole_pipeline_layout_by_layout(found: Evaluation, folder: Path):
    assert {each.name for each in found.systems if each.gap is None} == {"real", "real, blurred", WHOLE}
    plain, whole = found.system("collage"), found.system(WHOLE)
    assert plain.gap is not None
    expected = plain.figures[0].mean_iou - whole.figures[0].mean_iou
    assert plain.gap.mean_iou.value == pytest.approx(expected)
    assert f"{expected:+.3f} (" in table_of(found)
    told = json.loads((folder / "out" / "evaluation.json").read_text())["against SIMS"]
    assert told["collage"]["kid"]["value"] == plain.gap.kid.value


def test_networks_of_another_size_are_left_out_or_refused_before_anything_is_painted(
    bank: Path, models: Path, tmp_path: Path
):
    mixed = Path(shutil.copytree(models, tmp_path / "mixed"))
    small = save_models(tmp_path / "small", bank, "synthesis", size=(48, 64))
    (mixed / "synthesis-no-canvas.safetensors").write_bytes((small / "synthesis.safetensors").read_bytes())
    save_models(mixed, bank, "roi", size=(128, 128))
    systems, left_out = available(Models(mixed, Reader(bank)), SIZE)
    assert not {"no canvas", "collage, filled by RoI-GAN", "SIMS, filled by RoI-GAN"} & {one.name for one in systems}
    said = left_out["no canvas"]
    trained = "expected a network trained at 96x128"
    assert re.fullmatch(rf"no canvas: left out, .*-no-canvas\.safetensors: {trained}, found one at 48x64", said)
    large = r"roi\.safetensors: expected a network of at most 96x128 pixels, .*found one of 128x128$"
    assert re.search(large, left_out["SIMS, filled by RoI-GAN"])
    out = tmp_path / "out"
    with pytest.raises(InputError, match=f"systems: expected .*, found 'no canvas'; {re.escape(said)}$"):
        evaluate(bank, mixed, out, systems=["no canvas"])
    expected = rf"small/synthesis\.safetensors: {trained}, for those of .*, found one at 48x64$"
    with pytest.raises(InputError, match=expected):
        evaluate(bank, [models, small], out)
    with pytest.raises(InputError, match=large):
        evaluate(bank, [models, mixed], out, systems=["SIMS, filled by RoI-GAN"])
    assert not out.exists()


def test_of_systems_that_nobody_asked_for_nothing_is_said(found: Evaluation, bank: Path, models: Path, tmp_path: Path):
    assert "SIMS" not in {said.partition(":")[0] for said in found.left_out}
    assert evaluate(bank, models, tmp_path / "out", systems=["collage"]).left_out == []


def test_a_spectrum_by_frequency_has_its_peak_where_the_wave_is():
    spectrum = np.zeros((64, 96))
    spectrum[32, 48 + 12] = spectrum[32, 48 - 12] = 100.0
    frequencies, power = radial(spectrum)
    assert frequencies[int(np.argmax(power))] == pytest.approx(12 / 96, abs=1 / 64)


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(
    folder: Path, bank: Path, models: Path, tmp_path: Path
):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no such file"):
        evaluate(bank, save_models(tmp_path / "no judge", bank, "synthesis"), out)
    for wrong in ({"systems": ["SIMS", "PIX"]}, {"needed": ["SIMS", "PIX"]}, {"systems": ["SIMS"], "needed": ["PIX"]}):
        with pytest.raises(InputError, match=r"systems: expected some of 'real', 'real, blurred'.*found 'PIX'"):
            evaluate(bank, models, out, **wrong)
    with pytest.raises(InputError, match="at least 4"):
        evaluate(bank, models, out, layouts=3)
    with pytest.raises(InputError, match=r"none\.pth: expected weights of the Inception-v3 of FID, found no such file"):
        evaluate(bank, models, out, inception=tmp_path / "none.pth")
    with pytest.raises(InputError, match="at least 4 labelled sources in val, found 0"):
        evaluate(bank, models, out, split="val")
    stray = Path(shutil.copytree(models, tmp_path / "stray"))
    (stray / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"other.safetensors: is no whole checkpoint"):
        evaluate(bank, stray, out)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder"):
        evaluate(bank, models, tmp_path / "file")
    train = make_bank(Photos(tmp_path / "photos"), tmp_path / "train", "ab")
    with pytest.raises(InputError, match="training sources alone"):
        evaluate(train, models, out)
    assert not out.exists()
