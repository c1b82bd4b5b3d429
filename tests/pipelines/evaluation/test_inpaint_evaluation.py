"""Ways to fill a region side by side: who is measured, on what, what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Photos
from tests.pipelines.inpainting.tiny_roi import ROI, SIDE, SLIDERS, save_fillers
from tests.pipelines.tiny_models import make_bank
from zeuxis.pipelines.evaluation import inpaint
from zeuxis.pipelines.evaluation.inpaint import KINDS, LEAST, MOST, REAL, REGIONS, SAID, evaluate_inpaint
from zeuxis.pipelines.evaluation.inpaint_measures import Measure, around, head_of, slider_correlations
from zeuxis.pipelines.evaluation.inpaint_report import gap_rows, networks, rendered, table_of
from zeuxis.pipelines.evaluation.inpaint_results import InpaintEvaluation
from zeuxis.pipelines.inpainting.methods import VARYING, Draw, FromNetwork, FromPicture
from zeuxis.pipelines.training.resume import Marks, save_state
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import Card, load_card, save_checkpoint
from zeuxis.synth.features import ParsingConfig, ParsingNetwork
from zeuxis.synth.glcic import GlcicConfig, GlcicNetwork
from zeuxis.synth.roi_gan.discriminator import RoiDiscriminator, SliderHead

HEAD_STEP = 77
NAMES = ["train/a", "train/b", "test/u", "test/v", "test/w", "test/x"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate inpaint")
    make_bank(Photos(folder / "photos"), folder / "bank", NAMES)
    save_fillers(folder / "models", folder / "bank")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> InpaintEvaluation:
    save_head(folder / "models")
    return evaluate_inpaint(folder / "bank", folder / "models", folder / "out")


def save_head(models: Path) -> None:
    """The state of a training of `roi`, with an untrained discriminator and head."""
    torch.manual_seed(1)
    discriminator = RoiDiscriminator(ROI)
    parts = {"discriminator": discriminator, "head": SliderHead(ROI, discriminator.levels)}
    tensors = {f"modules.{name}.{key}": each for name, part in parts.items() for key, each in part.state_dict().items()}
    (models / "resume").mkdir()
    save_state(models / "resume" / "roi.safetensors", tensors, Marks({}, step=HEAD_STEP))


def test_every_way_is_measured_on_every_kind_of_region(found: InpaintEvaluation):
    assert [each.name for each in found.systems] == [REAL, *SAID]
    assert found.names == [f"folder/{name}" for name in NAMES[2:]]
    assert not found.left_out
    for kind in KINDS:
        regions = found.regions[kind]
        assert len({region.tobytes() for region in regions}) == len(regions) == REGIONS * len(found.names)
        assert all(LEAST <= region.mean() <= MOST for region in regions)
        truth = found.systems[0].pictures[kind]
        for system in found.systems[1:]:
            for made, photograph, region in zip(system.pictures[kind], truth, regions, strict=True):
                np.testing.assert_array_equal(made[~region], photograph[~region])
                assert (made[region] != photograph[region]).any()
            figures = system.figures[kind]
            assert figures.kid.low <= figures.kid.high
            assert figures.distance.low <= figures.distance.value <= figures.distance.high
            assert figures.distance.value > 0
            assert (figures.diversity is not None) == (system.name in VARYING)
            assert figures.rate > 0


def test_networks_are_looked_into(found: InpaintEvaluation, folder: Path):
    anatomy = {each.name: each.anatomy for each in found.systems}
    assert anatomy["telea"] is None
    assert anatomy["roi"].dead == anatomy["glcic"].dead == 0
    assert anatomy["roi-published"].dead > 0.3 * anatomy["roi-published"].parameters
    assert len(anatomy["roi"].effects) == len(anatomy["roi"].correlations) == SLIDERS
    assert anatomy["roi-published"].correlations is None, "its head was not kept"
    assert max(map(abs, anatomy["roi"].correlations)) < 0.9, "an untrained head reads nothing"
    assert anatomy["glcic"].effects == []
    step = load_card(folder / "models" / "roi.safetensors", "roi").step
    assert anatomy["roi"].steps == (step, HEAD_STEP)
    (said,) = [each for each in networks(found) if each.startswith("roi:")]
    assert f", a network of step {step:,} by a head of step {HEAD_STEP}" in said
    assert anatomy["glcic"].steered == {}
    (kind, *_), steered = KINDS, anatomy["roi"].steered
    assert list(steered) == list(KINDS)
    assert f"; distances with sliders that are drawn: {kind} {steered[kind]:.3f}, " in said
    assert f"with all sliders at 0: {kind} {anatomy['roi'].noise[kind]:.3f}, " in said
    assert 0 < anatomy["roi"].noise[kind] != found.systems[1].figures[kind].diversity.value
    filler, truth = FromNetwork(folder / "models", "roi"), found.systems[0].pictures[kind]
    made = [filler(*each, Draw(0, i, None))[0] for i, each in enumerate(zip(truth, found.regions[kind], strict=True))]
    apart = Measure(folder / "models", torch.device("cpu")).distances(made, truth, found.regions[kind])
    assert steered[kind] == pytest.approx(np.mean(apart))
    assert steered[kind] != found.systems[1].figures[kind].distance.value, "which is with all sliders at 0"


def test_sliders_are_looked_at_on_all_kinds_of_region_and_spaced_photographs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen, swept, drawn = [], [], []
    monkeypatch.setattr(inpaint, "VARIED", 2)

    def correlate(_: Path, filler: FromNetwork, images: list, regions: list, *rest: int) -> np.ndarray:
        seen.append((images, regions, rest))
        return np.zeros(SLIDERS)

    def sweep(filler: FromNetwork, image: np.ndarray, region: np.ndarray, draw: Draw, steps: int = 7) -> list:
        swept.append((image, region, steps))
        return [[image] * steps] * filler.sliders

    fill = FromNetwork.__call__
    monkeypatch.setattr(inpaint, "slider_correlations", correlate)
    monkeypatch.setattr(inpaint, "sweep", sweep)
    monkeypatch.setattr(
        FromNetwork, "__call__", lambda self, *given: drawn.append((given[0], given[2].seed)) or fill(self, *given)
    )
    found = evaluate_inpaint(folder / "bank", folder / "models", tmp_path / "out", systems=["roi"])
    truth = found.systems[0].pictures[KINDS[0]][::REGIONS]
    regions = {kind: each[::REGIONS] for kind, each in found.regions.items()}
    assert len({each.tobytes() for each in truth}) == len(truth) == len(found.names)
    (images, asked, _), (first, last) = seen[0], (truth[0], truth[-1])
    assert [each.tobytes() for each in images] == [each.tobytes() for _ in KINDS for each in truth]
    assert [each.tobytes() for each in asked] == [each.tobytes() for kind in KINDS for each in regions[kind]]
    ends = [(image.tobytes(), region.tobytes()) for image, region, steps in swept if steps == 2]
    assert ends == [
        (image.tobytes(), regions[kind][number].tobytes())
        for kind in KINDS
        for number, image in ((0, first), (-1, last))
    ]
    varied = [image.tobytes() for image, seed in drawn if seed == 1]
    assert set(varied) == {first.tobytes(), last.tobytes()}, "as do the variants' differences"
    assert found.systems[1].anatomy.shown == 2
    said = "mean over 2 photographs, evenly spaced, with ellipse and rectangle and level-set regions"
    assert f"inside the region, {said}:" in table_of(found)
    assert said in (tmp_path / "out" / "report.html").read_text()
    assert "all kinds pooled" in table_of(found)


def test_the_head_that_was_kept_along_with_the_network_is_taken_before_the_last_one(tmp_path: Path):
    found = [head_of(tmp_path, "roi")]
    (tmp_path / "resume").mkdir()
    for name in ("roi", "roi-along"):
        save_state(tmp_path / "resume" / f"{name}.safetensors", {"modules.head.x": torch.zeros(1)}, Marks({}))
        found.append(head_of(tmp_path, "roi"))
    assert found == [None, *(tmp_path / "resume" / f"{name}.safetensors" for name in ("roi", "roi-along"))]


def test_a_head_that_reads_what_was_set_is_found_to(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A network that paints its first slider as brightness, and a head that sees it."""
    filler = FromNetwork(folder / "models", "roi")

    def bright(image: torch.Tensor, region: torch.Tensor, z: torch.Tensor, sliders: torch.Tensor) -> torch.Tensor:
        return sliders[:, :1, None, None].expand_as(image)

    bright.config = ROI  # type: ignore[attr-defined]
    filler.network = bright  # type: ignore[assignment]

    def means(head: SliderHead, image: torch.Tensor, region: torch.Tensor, features: list[torch.Tensor]) -> object:
        from zeuxis.synth.roi_gan.discriminator import Reading

        value = features[0].mean((1, 2, 3))[:, None]
        return Reading(torch.cat([value, torch.zeros_like(value), -value], 1), value, ())

    def judged(discriminator: RoiDiscriminator, image: torch.Tensor, region: torch.Tensor) -> object:
        from zeuxis.synth.roi_gan.discriminator import Judged

        return Judged(image, [image * region])

    monkeypatch.setattr(SliderHead, "forward", means)
    monkeypatch.setattr(RoiDiscriminator, "forward", judged)
    if not (folder / "models" / "resume").exists():
        save_head(folder / "models")
    image, region = np.full((SIDE, SIDE, 3), 128, np.uint8), np.zeros((SIDE, SIDE), bool)
    region[20:40, 20:40] = True
    read = slider_correlations(folder / "models", filler, [image] * 3, [region] * 3, 0, 8)
    assert read[0] > 0.99
    assert read[1] == 0
    assert abs(read[2]) < 0.8


def test_figures_are_those_of_the_pictures(found: InpaintEvaluation, folder: Path):
    from zeuxis.synth.inpainting.seam import seam
    from zeuxis.synth.metrics import kid, mean_interval

    measure = Measure(folder / "models", torch.device("cpu"))
    system, kind = next(each for each in found.systems if each.name == "telea"), KINDS[1]
    regions, truth = found.regions[kind], found.systems[0].pictures[kind]
    assert system.figures[kind].seam.value == pytest.approx(
        np.mean([seam(*each) for each in zip(system.pictures[kind], regions, strict=True)])
    )
    made, real = (
        measure.vectors([around(*each) for each in zip(some, regions, strict=True)])
        for some in (system.pictures[kind], truth)
    )
    rows = np.arange(REGIONS * len(found.names))
    one, other = (np.isin(rows // REGIONS, [k, k + 2]) for k in (0, 1))
    assert system.figures[kind].kid == kid(real[one], made[other], per=REGIONS)
    assert found.systems[0].figures[kind].kid == kid(real[one], real[other], per=REGIONS)
    by_photograph = np.reshape(measure.distances(system.pictures[kind], truth, regions), (-1, REGIONS)).mean(1)
    assert system.figures[kind].distance == mean_interval(by_photograph.tolist())
    assert measure.distances(truth, truth, regions) == [0] * len(truth)


def test_gaps_are_to_the_first_system_on_the_same_photographs(found: InpaintEvaluation):
    real, first, *others = found.systems
    assert (real.gaps, first.gaps) == ({}, {})
    for kind in KINDS:
        ours = first.figures[kind].distance.value
        for each in others:
            gap = each.gaps[kind]
            assert gap.distance.value == pytest.approx(each.figures[kind].distance.value - ours)
            assert gap.distance.low <= gap.distance.value <= gap.distance.high
            assert gap.kid.low <= gap.kid.high
    rows = gap_rows(found)
    assert [row[:2] for row in rows] == [[kind, each.name] for kind in KINDS for each in others]
    assert f"{others[0].gaps[KINDS[0]].distance.value:.3f}" in rows[0][3]


def test_what_is_written_agrees_and_is_the_same_again(found: InpaintEvaluation, folder: Path, tmp_path: Path):
    told = json.loads((folder / "out" / "evaluation.json").read_text())
    assert list(told["systems"]) == [REAL, *SAID]
    assert told["about"]["independent"] is True
    assert told["systems"]["roi"]["anatomy"]["correlations"] == list(found.systems[1].anatomy.correlations)
    page = (folder / "out" / "report.html").read_text()
    assert page.count("data:image/") == len(found.names) * (len(found.systems) + 1) + 1
    assert "://" not in page
    table = (folder / "out" / "table.md").read_text()
    assert table == table_of(found)
    assert all(f"| {name} " in table for name in SAID)
    assert "without a part in the picture" in table
    assert "How much larger than those of roi KID and distance are" in table
    assert "How much larger than those of roi KID and distance are" in page
    assert set(told["systems"]["telea"]["gaps"]) == set(KINDS)
    assert rendered(found).row_count == len(KINDS) * len(found.systems)
    models = Path(shutil.copytree(folder / "models", tmp_path / "models"))
    larger = GlcicNetwork(GlcicConfig(2 * SIDE, 1 / 16))
    card = Card("glcic", asdict(larger.config), (), (2 * SIDE, 2 * SIDE), "bank", 1)
    save_checkpoint(models / "glcic.safetensors", larger.state_dict(), card)
    again = evaluate_inpaint(folder / "bank", models, tmp_path / "again", systems=["roi", "glcic", "telea"])
    assert again.left_out == ["glcic: left out, its network was trained at 128x128, the others at 64x64"]
    other = json.loads(json.dumps(again.to_json()))["systems"]
    assert list(other) == [REAL, "roi", "telea"]
    assert other["roi"] == told["systems"]["roi"]


def test_without_a_judge_features_measure_and_it_is_said(folder: Path, tmp_path: Path):
    network = ParsingNetwork(ParsingConfig(4, 1 / 16))
    classes = tuple(Reader(folder / "bank").classes)
    card = Card("features", asdict(network.config), classes, (96, 128), "bank", 1)
    save_checkpoint(tmp_path / "features.safetensors", network.state_dict(), card)
    found = evaluate_inpaint(folder / "bank", tmp_path, tmp_path / "out", systems=["telea"])
    assert "which the losses may have compared" in table_of(found)
    assert found.classes == ()


def test_an_interrupted_evaluation_goes_on(
    found: InpaintEvaluation, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(done: int, *_: object) -> None:
        if done == 5:
            raise KeyboardInterrupt

    filled, fill = [], FromPicture.__call__
    monkeypatch.setattr(FromPicture, "__call__", lambda *given: filled.append(1) or fill(*given))
    with pytest.raises(KeyboardInterrupt):
        evaluate_inpaint(folder / "bank", folder / "models", tmp_path / "out", systems=["telea"], progress=stop)
    again = evaluate_inpaint(folder / "bank", folder / "models", tmp_path / "out", systems=["telea"])
    assert len(filled) == len(KINDS) * REGIONS * len(again.names)
    (whole,) = (each for each in found.systems if each.name == "telea")
    for kind in KINDS:
        for one, other in zip(again.systems[1].pictures[kind], whole.pictures[kind], strict=True):
            np.testing.assert_array_equal(one, other)
    assert not list((tmp_path / "out").glob(".*"))


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(folder: Path, tmp_path: Path):
    bank, models, out = folder / "bank", folder / "models", tmp_path / "out"
    with pytest.raises(InputError, match=r"systems: expected some of roi, .*found 'PIX'"):
        evaluate_inpaint(bank, models, out, systems=["roi", "PIX"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected judge\.safetensors or features\.safetensors, found neither"):
        evaluate_inpaint(bank, tmp_path / "empty", out)
    with pytest.raises(InputError, match=r"photographs \(--layouts\): expected at least 4, found 3"):
        evaluate_inpaint(bank, models, out, photographs=3)
    with pytest.raises(InputError, match=r"expected at least 4 held-out sources .*, found 0 in val"):
        evaluate_inpaint(bank, models, out, split="val")
    with pytest.raises(InputError, match="found 2 in train"):
        evaluate_inpaint(bank, models, out, split="train")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        evaluate_inpaint(bank, models, tmp_path / "file")
    assert not out.exists()
