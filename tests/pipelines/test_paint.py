"""From layouts to photographs: what each step takes and gives, variants, seeds, and what is said of what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.conftest import Photos, blocks
from tests.pipelines.inpainting.tiny_roi import save_fillers
from tests.pipelines.tiny_models import SIZE, make_bank, save_models
from zeuxis.index.retriever import Retriever
from zeuxis.pipelines.models import Models
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.painted import Painted
from zeuxis.pipelines.painting_steps import Stages, composed, elided, placed, synthesised, usual_colours
from zeuxis.storage.classes import VOID, SemanticClass
from zeuxis.storage.errors import InputError, LayoutError
from zeuxis.storage.reader import Reader
from zeuxis.synth.canvas import load_provenance
from zeuxis.synth.checkpoint import load_checkpoint, save_checkpoint
from zeuxis.synth.elision import Elided, Elision
from zeuxis.synth.filling import filled
from zeuxis.synth.fitting import AT_ONCE
from zeuxis.synth.ordering import Order, Pair
from zeuxis.synth.transform import Piece, Transform, fit, identity

OFF = Stages("analytic", "classes", elision=False, coherent=False, synthesis=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paint")


@pytest.fixture(scope="module")
def bank(folder: Path) -> Path:
    return make_bank(Photos(folder / "photos"), folder / "bank", "abcdefgh")


@pytest.fixture(scope="module")
def reader(bank: Path) -> Reader:
    return Reader(bank)


@pytest.fixture(scope="module")
def models(folder: Path, bank: Path) -> Path:
    return save_models(folder / "models", bank)


@pytest.fixture(scope="module")
def painter(reader: Reader, models: Path) -> Painter:
    return Painter(reader, Retriever(reader), models)


def layout_of(seed: int) -> np.ndarray:
    return blocks(np.random.default_rng(seed))


def the(images: list[Painted]) -> Painted:
    (image,) = images
    return image


def same(a: Painted, b: Painted) -> bool:
    arrays = ((x.image, x.elided, x.valid, x.canvas.image, x.canvas.provenance) for x in (a, b))
    return all(np.array_equal(*each) for each in zip(*arrays, strict=True))


def segments(image: Painted) -> list[int]:
    return [placed.piece.segment_id for placed in image.canvas.placements]


def test_a_network_never_sees_what_spills_over_a_component(painter: Painter):
    spilt_anywhere = False
    for seed in range(1, 6):
        image = the(painter.paint(layout_of(seed), stages=OFF))
        shown = np.array([VOID, *(placed.piece.class_id for placed in image.canvas.placements)])
        spilt = image.canvas.valid & (shown[image.canvas.provenance] != image.layout)
        assert not image.valid[spilt].any()
        assert image.valid.mean() > 0.8
        spilt_anywhere |= bool(spilt.any())
    assert spilt_anywhere


# ---- what comes out


def test_an_image_a_variant_at_the_size_of_the_network(painter: Painter):
    images = painter.paint(layout_of(1), 3)
    assert [image.report.variant for image in images] == [0, 1, 2]
    for image in images:
        assert (image.image.shape, image.image.dtype) == ((*SIZE, 3), np.uint8)
        assert image.canvas.valid.shape == image.valid.shape == image.layout.shape == SIZE
        assert image.report.share == image.valid.mean()
        assert set(np.unique(image.provenance.indices)) - {0} <= set(image.provenance.records)
        assert image.image.std() > 5  # random weights, but no flat picture
    assert set(images[0].report.networks) == {"transform", "ordering", "synthesis"}
    assert "pieces" in repr(images[0])


def test_equal_seeds_give_equal_bytes_and_others_do_not(painter: Painter):
    first, again, other = (painter.paint(layout_of(1), 3, seed) for seed in (5, 5, 6))
    assert all(same(*pair) for pair in zip(first, again, strict=True))
    assert segments(first[0]) == segments(other[0])
    assert not np.array_equal(first[0].elided, other[0].elided)
    assert any(segments(a) != segments(b) for a, b in zip(first[1:], other[1:], strict=True))


def test_an_image_depends_on_nothing_else_that_is_asked_for(
    painter: Painter, reader: Reader, models: Path, monkeypatch: pytest.MonkeyPatch
):
    alone = painter.paint(layout_of(1), 2)
    assert all(same(*pair) for pair in zip(alone, painter.paint(layout_of(1), 4), strict=False))
    others = [layout_of(seed) for seed in (2, 1, 3)]
    assert all(same(*pair) for pair in zip(alone, list(painter.paint_many(others, 2))[1], strict=True))
    fresh = Painter(reader, Retriever(reader), models)
    assert all(same(*pair) for pair in zip(alone, fresh.paint(layout_of(1), 2), strict=True))
    monkeypatch.setattr("zeuxis.pipelines.paint.BATCH", {"cpu": 5})
    alone = painter.paint(layout_of(1), 2)  # with company, as on a device that makes many images at once
    assert all(same(*pair) for pair in zip(alone, list(painter.paint_many(others, 2))[1], strict=True))
    assert all(same(*pair) for pair in zip(alone, painter.paint(layout_of(1), 4), strict=False))


def test_what_variants_share_is_asked_of_the_networks_once(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, list[bytes]] = {"transform": [], "ordering": []}
    for kind, rows in seen.items():
        network = painter._models[""].load(kind).network
        honest = network.forward

        def spied(*inputs: torch.Tensor, honest: Any = honest, rows: list[bytes] = rows) -> torch.Tensor:
            assert {len(each) for each in inputs} == {AT_ONCE["cpu"]}
            rows += [b"".join(each[n].numpy().tobytes() for each in inputs) for n in range(len(inputs[0]))]
            return honest(*inputs)

        monkeypatch.setattr(network, "forward", spied)
    pairs = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4)]  # the layouts here are so simple that none is contested
    monkeypatch.setattr("zeuxis.pipelines.paint.contested", lambda placements, size: pairs)
    made = painter.paint(layout_of(1), 4, stages=replace(OFF, transform="network", order="network"))
    pieces = {(p.piece.segment_id, p.piece.target.box) for image in made for p in image.canvas.placements}
    assert len(pieces) < sum(len(image.canvas.placements) for image in made)
    assert len(seen["transform"]) == -(-len(pieces) // AT_ONCE["cpu"]) * AT_ONCE["cpu"]
    assert len(seen["ordering"]) == AT_ONCE["cpu"]
    for rows in seen.values():
        filling = sum(row == rows[-1] for row in rows) - 1
        assert len(rows) - len(set(rows)) == filling < AT_ONCE["cpu"]


def test_two_layouts_draw_apart(painter: Painter):
    ranks = []
    for number in (1, 2, 3, 4):
        plain = painter.retriever.retrieve(layout_of(number), 5)
        of = [{hit.segment_id: rank for rank, hit in enumerate(component.hits)} for component in plain]
        drawn = segments(painter.paint(layout_of(number), 2, stages=OFF)[1])
        ranks.append([hits[id] for hits, id in zip(of, drawn, strict=True)][:4])
    assert len({tuple(each) for each in ranks}) > 1


def test_the_first_variant_takes_the_best_hits_and_others_some_of_the_best_k(painter: Painter):
    layout = layout_of(1)
    plain = painter.retriever.retrieve(layout, 3)
    best = [[hit.segment_id for hit in component.hits] for component in plain]
    images = painter.paint(layout, 12, k=3, stages=replace(OFF, coherent=True))
    together = painter.retriever.retrieve(layout, 3, coherent=True)
    assert segments(images[0]) == [component.hits[0].segment_id for component in together]
    assert segments(the(painter.paint(layout, stages=OFF))) == [ids[0] for ids in best]
    for number, ids in enumerate(best):
        assert {segments(image)[number] for image in images[1:]} == set(ids)


def test_coherence_leaves_the_other_variants_as_they_were(painter: Painter):
    with_it, without = (painter.paint(layout_of(1), 4, k=3, coherent=on) for on in (3.0, False))
    assert [segments(image) for image in with_it[1:]] == [segments(image) for image in without[1:]]


def test_segments_are_chosen_each_alone_unless_it_is_asked_for(painter: Painter):
    layout = layout_of(1)
    alone = [component.hits[0].segment_id for component in painter.retriever.retrieve(layout, 3)]
    together = [component.hits[0].segment_id for component in painter.retriever.retrieve(layout, 3, coherent=50.0)]
    assert alone != together
    assert segments(the(painter.paint(layout, k=3))) == alone
    assert segments(the(painter.paint(layout, k=3, coherent=50.0))) == together


# ---- each step can be switched


def test_how_segments_are_fitted(painter: Painter, reader: Reader, models: Path):
    names = {
        how: set(the(painter.paint(layout_of(1), stages=replace(OFF, transform=how))).report.transforms)
        for how in ("identity", "analytic", "network")
    }
    assert names["identity"] == {"identity"}
    assert "box" in names["analytic"]
    assert names["network"] <= {"network", "box", "identity"}


def test_the_transform_network_is_asked(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def stay(pieces: list[Piece], *rest: Any) -> list[Transform]:
        asked.append(rest)
        return [identity(piece, SIZE) for piece in pieces]

    monkeypatch.setattr("zeuxis.synth.fitting.learned_fit", stay)
    image = the(painter.paint(layout_of(1), stages=replace(OFF, transform="network")))
    assert image.report.transforms == {"identity": len(image.canvas.placements)}
    ((network, layout, size, n_classes, seen),) = asked
    assert isinstance(network, nn.Module)
    assert (size, n_classes, seen) == (SIZE, 4, SIZE)
    assert np.array_equal(layout, np.where(image.layout == VOID, 4, image.layout))


def test_how_segments_are_ordered(painter: Painter, reader: Reader, bank: Path, tmp_path: Path):
    by_class = the(painter.paint(layout_of(1), stages=OFF))
    by_network = the(painter.paint(layout_of(1), stages=replace(OFF, order="network")))
    assert sorted(by_class.canvas.back_to_front) == sorted(by_network.canvas.back_to_front)
    assert set(by_class.report.networks) == set()
    assert set(by_network.report.networks) == {"ordering"}
    save_models(tmp_path, bank, "synthesis")
    save_models(tmp_path, bank, "ordering", size=(32, 32))  # small ones are quicker
    image = the(Painter(reader, Retriever(reader), tmp_path).paint(layout_of(1)))
    assert image.report.networks["ordering"]["size"] == [32, 32]


def test_a_pair_that_is_dropped_is_told(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    cycle = [Pair(1, 0, 0.9), Pair(2, 1, 0.8), Pair(0, 2, 0.1)]
    monkeypatch.setattr("zeuxis.synth.ordering_evidence.evidence_of", lambda *_: cycle)
    image = the(painter.paint(layout_of(1), stages=OFF))
    assert image.canvas.dropped == cycle[2:]
    assert image.report.dropped == 1


def test_the_order_decides_what_the_canvas_shows_and_nothing_that_the_network_sees(painter: Painter, reader: Reader):
    pieces = [each.piece for each in the(painter.paint(layout_of(1), stages=OFF)).canvas.placements]
    enlarged = [Transform("enlarged", tuple(tuple(1.5 * value for value in row) for row in fit(each, SIZE).matrix))
                for each in pieces]  # fmt: skip
    placements, orders = placed(pieces, enlarged, SIZE), (range(len(pieces)), range(len(pieces))[::-1])
    one, other = (composed(placements, SIZE, Order(list(order), [])) for order in orders)
    assert not np.array_equal(one.image, other.image)
    seen = [elided(each, reader, Elision(), np.random.default_rng(0)) for each in (one, other)]
    assert all(map(np.array_equal, *seen))
    assert seen[0].valid.any()


def test_boundaries_are_elided_as_in_training(reader: Reader, bank: Path, tmp_path: Path):
    save_models(tmp_path, bank, "synthesis", training={"elision": {"interior": 0.0, "exterior_width": 0.2}})
    painter = Painter(reader, Retriever(reader), tmp_path)
    layout = layout_of(1)
    trained, explicit, other, off = (
        the(painter.paint(layout, stages=replace(OFF, elision=elision)))
        for elision in (None, Elision(0.0, 0.05, 0.2), Elision(1.0), False)
    )
    assert same(trained, explicit)
    assert not np.array_equal(trained.elided, other.elided)
    assert not np.array_equal(trained.elided, off.elided)
    assert np.array_equal(off.elided[off.valid], off.canvas.image[off.valid])
    assert not off.elided[~off.valid].any()
    assert off.valid.mean() > trained.valid.mean()
    assert np.array_equal(off.image, off.elided)
    save_models(tmp_path, bank, "synthesis", training={"elision": {"inside": 1}})
    with pytest.raises(InputError, match="elision"):
        painter.paint(layout)


def test_another_synthesis_network_may_be_named(painter: Painter, models: Path, bank: Path, tmp_path: Path):
    save_models(tmp_path, bank, "synthesis", canvas=False)
    (tmp_path / "synthesis.safetensors").rename(models / "synthesis-no-canvas.safetensors")
    stages = Stages(synthesis="synthesis-no-canvas")
    a, b = (the(painter.paint(layout_of(1), seed=seed, stages=stages)) for seed in (1, 2))
    assert a.report.networks["synthesis"]["file"] == "synthesis-no-canvas.safetensors"
    assert np.array_equal(a.image, b.image)
    with pytest.raises(InputError, match=r"none\.safetensors"):
        painter.paint(layout_of(1), stages=Stages(synthesis="none"))
    with pytest.raises(InputError, match="sees no canvas needs none filled"):
        painter.paint(layout_of(1), stages=Stages(synthesis="synthesis-no-canvas", inpaint="telea"))
    assert set(a.report.networks) == {"synthesis"}, "none is named that nothing went through"


def test_a_network_that_sees_no_canvas_has_nothing_of_the_bank(reader: Reader, bank: Path, tmp_path: Path):
    blind = Painter(reader, Retriever(reader), save_models(tmp_path, bank, "synthesis", canvas=False))
    image = the(blind.paint(layout_of(1)))
    assert image.report.share == 0
    assert not image.valid.any()
    assert not any(component.hits for component in image.retrieval), "nothing is sought for it"


def test_the_network_sees_layout_canvas_and_validity(reader: Reader, models: Path):
    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.seen: list[Any] = []

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, None]:
            self.seen.append(inputs)
            return inputs[1] / 2, None

    model = replace(Models(models, reader).load("synthesis"), network=Seeing())
    layout = np.array([[0, 3], [VOID, 1]], np.uint16)
    canvas = Elided(np.full((2, 2, 3), [255, 0, 255], np.uint8), np.array([[True, False], [True, True]]))
    images = synthesised(model, [layout] * 3, [canvas] * 3, 2)
    assert len(images) == 3
    assert (images[0] == [191, 64, 191]).all()
    assert [inputs[0].shape[0] for inputs in model.network.seen] == [2, 2]  # type: ignore[union-attr]
    shown, pixels, valid = (each[0] for each in model.network.seen[1])  # type: ignore[union-attr,index]
    assert shown.argmax(0).tolist() == [[0, 3], [4, 1]]
    assert shown.sum(0).eq(1).all()
    assert pixels[:, 0, 0].tolist() == [1, -1, 1]
    assert valid.tolist() == [[[1, 0], [1, 1]]]


# ---- layouts of every kind


def test_a_layout_of_another_resolution_is_painted(painter: Painter):
    small = layout_of(1)
    large = small.repeat(5, axis=0).repeat(5, axis=1)
    a, b = (the(painter.paint(layout)) for layout in (small, large))
    assert np.array_equal(a.layout, b.layout)
    assert b.image.shape == (*SIZE, 3)
    wide = the(painter.paint(np.hstack([small, small])))
    assert any("aspect ratio" in warning for warning in wide.report.warnings)


def test_ids_that_no_class_has_are_void_and_told(painter: Painter, tmp_path: Path):
    layout = layout_of(1)
    layout[layout == 2] = 77
    Image.fromarray(layout).save(tmp_path / "odd.png")
    for given in (layout, tmp_path / "odd.png"):
        image = the(painter.paint(given))
        assert image.report.void == ("id 77",)
        assert any("77" in warning for warning in image.report.warnings)
        assert 77 not in image.layout
    with pytest.raises(LayoutError, match="void"):
        painter.paint(np.full((48, 64), 77, np.uint8))
    with pytest.raises(LayoutError, match="shape"):
        painter.paint(np.zeros((4, 4, 4)))


def test_a_class_without_segments_is_painted_from_the_layout_alone(painter: Painter):
    image = the(painter.paint(layout_of(1), where="class_name != 'car'"))
    assert image.report.from_layout == ("car",)
    assert any("car" in warning and "layout alone" in warning for warning in image.report.warnings)
    assert 2 not in {placed.piece.class_id for placed in image.canvas.placements}
    assert 2 in image.layout


def test_a_layout_of_specks_alone_is_painted(painter: Painter):
    layout = np.full((48, 64), 255, np.uint8)
    layout[3:5, 3:5], layout[30:33, 40:43] = 0, 2
    image = the(painter.paint(layout))
    assert len(image.retrieval) == 0
    assert not image.valid.any()
    assert (image.elided == 0).all()
    assert image.image.shape == (*SIZE, 3)
    assert image.report.from_layout == ("sky", "car")


def test_a_layout_of_specks_begins_with_the_usual_colours_where_canvases_are_filled(
    reader: Reader, bank: Path, tmp_path: Path
):
    layout = np.full((48, 64), 255, np.uint8)
    layout[3:5, 3:5], layout[30:33, 40:43] = 0, 2
    models = save_models(tmp_path, bank, "synthesis", passing=True, filled=True)
    image = the(Painter(reader, Retriever(reader), models).paint(layout))
    assert not image.valid.any()
    usual = usual_colours(reader, SIZE)
    for class_id in (0, 2):
        assert (image.elided[image.layout == class_id] == usual[class_id].round()).all()
    assert (image.elided[image.layout == VOID] == 128).all()
    assert len({tuple(colour.round()) for colour in usual.values()}) == len(usual), "classes differ"


def test_the_layout_of_a_source_keeps_its_photograph_out(painter: Painter):
    image = the(painter.paint(source="folder/a"))
    assert all(placed.piece.origin.source != "folder/a" for placed in image.canvas.placements)
    with pytest.raises(LayoutError):
        painter.paint()


def test_a_bad_layout_among_many_is_passed_over_where_asked(painter: Painter):
    layouts = [layout_of(1), np.zeros((4, 4, 4)), layout_of(2)]
    first, bad, last = painter.paint_many(layouts, errors="skip")
    assert isinstance(bad, LayoutError)
    assert isinstance(first, list)
    assert isinstance(last, list)
    with pytest.raises(LayoutError):
        list(painter.paint_many(layouts))


# ---- networks that are missing or of other classes


def test_without_helpers_the_analytic_ways_are_taken_and_told(reader: Reader, bank: Path, tmp_path: Path):
    painter = Painter(reader, Retriever(reader), save_models(tmp_path, bank, "synthesis"))
    image = the(painter.paint(layout_of(1)))
    assert set(image.report.transforms) <= {"box", "identity"}
    assert sum(word in warning for warning in image.report.warnings for word in ("no transform", "no ordering")) == 2
    analytic = the(painter.paint(layout_of(1), stages=Stages("analytic", "classes")))
    assert same(image, analytic)
    assert analytic.report.warnings == ()


def test_without_synthesis_nothing_is_painted(reader: Reader, bank: Path, tmp_path: Path):
    painter = Painter(reader, Retriever(reader), save_models(tmp_path, bank, "transform", "ordering"))
    with pytest.raises(InputError, match=r"synthesis\.safetensors.*zeuxis train synthesis"):
        painter.paint(layout_of(1))


def test_a_network_of_other_classes_paints_by_a_class_map(reader: Reader, bank: Path, tmp_path: Path):
    classes = [SemanticClass(id, name, (id, 0, 0)) for id, name in enumerate(("vehicle", "earth", "sky"))]
    painter = Painter(reader, Retriever(reader), save_models(tmp_path, bank, classes=classes))
    with pytest.raises(InputError, match="--map-classes"):
        painter.paint(layout_of(1))
    image = the(painter.paint(layout_of(1), map_classes={"vehicle": "car", "earth": "ground"}))
    assert image.report.void == ("sign",)
    assert {placed.piece.class_name for placed in image.canvas.placements} == {"sky", "ground", "car", "sign"}
    with pytest.raises(InputError, match="--map-classes"):
        painter.paint(layout_of(1))


def test_a_coarse_layout_is_made_dense_first(painter: Painter, reader: Reader, bank: Path, tmp_path: Path):
    layout = layout_of(1)
    layout[10:40] = 255
    image = the(painter.paint(layout, densify=True))
    assert (image.layout != VOID).all()
    assert "densify" in image.report.networks
    assert image.report.layout == the(painter.paint(layout)).report.layout
    layout[:5] = 77
    strange = the(painter.paint(layout, densify=True)).report
    assert strange.void == ("id 77",)
    assert any("ids 77" in warning for warning in strange.warnings)
    alone = Painter(reader, Retriever(reader), save_models(tmp_path, bank, "synthesis"))
    with pytest.raises(InputError, match="densify"):
        alone.paint(layout, densify=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"variants": 0},
        {"variants": True},
        {"variants": 10**9},
        {"seed": -1},
        {"seed": 1.5},
        {"k": 0},
        {"sample": (5, 1)},
        {"coherent": -1},
        {"coherent": 1e308},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], painter: Painter):
    with pytest.raises(InputError, match=next(iter(settings))):
        painter.paint(layout_of(1), **settings)


def test_stages_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="transform"):
        Stages(transform="nothing")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="order"):
        Stages(order="nothing")  # type: ignore[arg-type]


# ---- what is saved


def test_beside_each_picture_stands_what_it_is_made_of(painter: Painter, tmp_path: Path):
    Image.fromarray(layout_of(1)).save(tmp_path / "street.png")
    images = painter.paint(tmp_path / "street.png", 2, out=tmp_path / "made")
    kinds = ("png", "canvas.png", "valid.png", "provenance.png", "json")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(
        f"street-{variant}.{kind}" for variant in (0, 1) for kind in kinds
    )
    for image in images:
        picture, canvas, valid = (np.asarray(Image.open(path)) for path in image.files[:3])
        assert np.array_equal(picture, image.image)
        assert np.array_equal(canvas, image.elided)
        assert np.array_equal(valid, image.valid * np.uint8(255))
        loaded = load_provenance(image.files[0])
        assert np.array_equal(loaded.indices, image.canvas.provenance)
        assert dict(loaded.records) == dict(image.provenance.records)
        told = json.loads(image.files[4].read_text())["painting"]
        assert (told["variant"], told["seed"], told["layout"]) == (image.report.variant, 0, image.report.layout)
        assert set(told["networks"]) == {"transform", "ordering", "synthesis"}


def test_saving_again_gives_the_same_files(painter: Painter, tmp_path: Path):
    first, again = (painter.paint(layout_of(1), 2, out=tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, again, strict=True):
        assert [path.read_bytes() for path in one.files] == [path.read_bytes() for path in other.files]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(painter: Painter, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "made" / "layout-0.png").mkdir(parents=True)
    for out in (tmp_path / "file", tmp_path / "none" / "made", tmp_path / "made"):
        with pytest.raises(InputError):
            painter.paint(np.zeros((4, 4, 4)), out=out)  # whose layout would be refused too, but later
    assert not (tmp_path / "none").exists()


# ---- what is missing of a canvas, filled


@pytest.mark.parametrize("method", ["telea", "patchmatch", "roi"])
def test_what_is_missing_of_a_canvas_is_filled_before_the_network_or_instead_of_it(
    painter: Painter, models: Path, bank: Path, method: str
):
    save_fillers(models, bank, "roi")
    plain, filled, alone = (
        the(painter.paint(layout_of(1), stages=stages))
        for stages in (Stages(), Stages(inpaint=method), Stages(inpaint=method, synthesis=False))
    )
    assert not plain.valid.all()
    np.testing.assert_array_equal(filled.valid, plain.valid, "what stems from the bank is no more than before")
    np.testing.assert_array_equal(filled.elided[plain.valid], plain.elided[plain.valid])
    missing = ~plain.valid
    assert (filled.elided[missing] != plain.elided[missing]).any(axis=1).mean() > 0.9
    assert not np.array_equal(filled.image, plain.image), "the network sees what was filled"
    np.testing.assert_array_equal(alone.image, filled.elided)
    assert filled.report.share == plain.report.share
    assert filled.report.networks["inpaint"]["method"] == method
    assert filled.report.networks["inpaint"].get("file") == ("roi.safetensors" if method == "roi" else None)
    assert "inpaint" not in plain.report.networks
    assert same(filled, the(painter.paint(layout_of(1), stages=Stages(inpaint=method))))


def test_a_network_that_learned_on_filled_canvases_sees_them(reader: Reader, bank: Path, tmp_path: Path):
    plain, full = (
        the(Painter(reader, Retriever(reader), folder).paint(layout_of(1), stages=replace(OFF, elision=None)))
        for folder in (
            save_models(tmp_path / "plain", bank, "synthesis", passing=True),
            save_models(tmp_path / "full", bank, "synthesis", passing=True, filled=True),
        )
    )
    assert not plain.valid.all()
    assert np.array_equal(full.valid, plain.valid)
    assert np.array_equal(full.elided, filled(Elided(plain.elided, plain.valid), plain.layout).image)
    assert not np.array_equal(full.elided, plain.elided)
    assert full.report.share == plain.report.share


def test_a_network_sees_a_filled_canvas_as_all_there(painter: Painter, monkeypatch: pytest.MonkeyPatch):
    from zeuxis.pipelines import painting_steps

    seen: list[Elided] = []

    def synthesised_too(model: Any, layouts: Any, canvases: list[Elided], batch: int) -> list[np.ndarray]:
        seen.extend(canvases)
        return [each.image for each in canvases]

    monkeypatch.setattr(painting_steps, "synthesised", synthesised_too)
    for stages in (Stages(), Stages(inpaint="telea")):
        painter.paint(layout_of(1), stages=stages)
    assert [bool(each.valid.all()) for each in seen] == [False, True]


def test_a_canvas_of_which_too_little_is_there_stays_and_that_is_said(painter: Painter, models: Path, bank: Path):
    from zeuxis.pipelines.inpainting.methods import FromNetwork
    from zeuxis.pipelines.painting_steps import without_holes

    save_fillers(models, bank, "roi")
    filler = FromNetwork(models, "roi")
    rows, cols = 96, 128
    valid = np.zeros((rows, cols), bool)
    valid[40:42, 60:63] = True
    canvas = Elided(np.full((rows, cols, 3), 90, np.uint8), valid)
    same, said = without_holes(canvas, filler, 0, 0)
    assert same is canvas
    assert said == "canvas: 0.0% of it is there, too little for roi to go by: nothing was filled"
    valid[:, :80] = True
    filled, said = without_holes(canvas, filler, 0, 0)
    assert filled.valid.all()
    assert not said


def test_a_network_that_sees_more_than_a_canvas_does_not_fill_it(painter: Painter, models: Path, bank: Path):
    save_fillers(models, bank, "roi")
    card, tensors = load_checkpoint(models / "roi.safetensors", "roi")
    save_checkpoint(models / "roi.safetensors", tensors, replace(card, size=(512, 512)))
    expected = r"--inpaint roi: expected a network that sees at most \d+x\d+ pixels, .*found 512x512"
    with pytest.raises(InputError, match=expected):
        painter.paint(layout_of(1), stages=Stages(inpaint="roi"))


def test_a_way_to_fill_that_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"stages: inpaint: expected one of roi, .*patchmatch, .*found 'bank'"):
        Stages(inpaint="bank")
    with pytest.raises(InputError, match="sees no canvas needs none filled"):
        Stages(inpaint="telea", synthesis="crn")
