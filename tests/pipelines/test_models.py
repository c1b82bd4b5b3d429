"""Trained networks are checked against the bank; what does not fit, or is damaged, is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.conftest import Photos
from tests.pipelines.tiny_models import FRAME, SIZE, card_of, make_bank, network_of, save_models
from zeuxis.pipelines.models import Models, as_names_map, check_size
from zeuxis.storage.classes import VOID, SemanticClass
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_card, save_checkpoint

Write = Callable[[Path], None]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return make_bank(Photos(folder / "photos"), folder / "bank", "ab")


@pytest.fixture(scope="module")
def reader(bank: Path) -> Reader:
    return Reader(bank)


def named(*names: str) -> list[SemanticClass]:
    return [SemanticClass(id, name, (id, id, id)) for id, name in enumerate(names)]


def refused(call: Callable[[], Any], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said


def test_a_network_that_fits_is_ready_for_use(bank: Path, reader: Reader, tmp_path: Path):
    model = Models(save_models(tmp_path, bank, "synthesis"), reader).load("synthesis")
    assert (model.size, model.n_classes, model.unknown) == (SIZE, 4, ())
    assert model.channel_of[[0, 1, 2, 3, 4, VOID]].tolist() == [0, 1, 2, 3, 4, 4]
    assert model.class_of.tolist() == [0, 1, 2, 3, VOID]
    assert not model.network.training
    assert not any(weights.requires_grad for weights in model.network.parameters())
    expected = network_of("synthesis", 4).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.network.state_dict().items())


def test_a_network_is_loaded_once_and_again_when_its_file_has_changed(bank: Path, reader: Reader, tmp_path: Path):
    models = Models(save_models(tmp_path, bank, "synthesis"), reader)
    first = models.load("synthesis")
    assert models.load("synthesis") is first
    save_models(tmp_path, bank, "synthesis", seed=1)
    again = models.load("synthesis")
    assert not torch.equal(first.network.to_image.weight, again.network.to_image.weight)  # type: ignore[union-attr]


def test_a_folder_or_a_network_that_is_not_there_is_named(bank: Path, reader: Reader, tmp_path: Path):
    refused(lambda: Models(tmp_path / "none", reader), "none", "zeuxis train all")
    models = Models(save_models(tmp_path, bank, "ordering"), reader)
    assert models.find("transform") is None
    assert models.find("ordering") is not None
    refused(lambda: models.load("synthesis"), "synthesis.safetensors", "zeuxis train synthesis")


def test_other_classes_are_named(bank: Path, reader: Reader, tmp_path: Path):
    own = list(reader.classes)
    for classes, words in (
        (own[:3], ("only the bank has sign (3)",)),
        ([*own, SemanticClass(4, "tree", (1, 2, 3))], ("only the network has tree (4)",)),
        ([*own[:3], replace(own[3], name="bus")], ("only the network has bus (3)", "only the bank has sign (3)")),
        ([*own[:3], replace(own[3], id=9)], ("only the network has sign (9)", "only the bank has sign (3)")),
    ):
        save_models(tmp_path, bank, "synthesis", classes=classes)
        refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors", "--map-classes", *words)


def test_the_order_of_channels_is_the_networks_own(bank: Path, reader: Reader, tmp_path: Path):
    save_models(tmp_path, bank, "synthesis", classes=list(reader.classes)[::-1])
    model = Models(tmp_path, reader).load("synthesis")
    assert model.channel_of[:5].tolist() == [3, 2, 1, 0, 4]
    assert model.class_of.tolist() == [3, 2, 1, 0, VOID]


def test_classes_are_mapped_by_name(bank: Path, reader: Reader, tmp_path: Path):
    folder = save_models(tmp_path, bank, "synthesis", classes=named("heaven", "road", "lane", "car"))
    (tmp_path / "map.yaml").write_text("heaven: sky\nroad: ground\nlane: ground\n")
    model = Models(folder, reader, tmp_path / "map.yaml").load("synthesis")
    assert model.channel_of[[0, 1, 2, 3, VOID]].tolist() == [0, 1, 3, 4, 4]  # car by its name, sign has no partner
    assert model.class_of.tolist() == [0, 1, 1, 2, VOID]  # of two that want one class, the first has its channel
    assert model.unknown == ("sign",)


def test_a_class_of_the_network_may_stand_for_several_or_none(bank: Path, reader: Reader, tmp_path: Path):
    folder = save_models(tmp_path, bank, "synthesis", classes=named("all", "sky"))
    model = Models(folder, reader, {"all": ["ground", "sign"], "sky": None}).load("synthesis")
    assert model.channel_of[:4].tolist() == [2, 0, 2, 0]
    assert model.class_of.tolist() == [1, VOID, VOID]
    assert model.unknown == ("sky", "car")


def test_a_class_map_that_cannot_be_is_refused(bank: Path, reader: Reader, tmp_path: Path):
    folder = save_models(tmp_path / "models", bank, "synthesis", classes=named("blue"))
    refused(lambda: Models(folder, reader, {"sea": "sky"}).load("synthesis"), "sea", "blue")
    refused(lambda: Models(folder, reader, {"blue": "9"}).load("synthesis"), "classes of the bank", "9")
    refused(lambda: as_names_map({"sky": 3}), "model class")
    for text in ("- a\n", "sky: [1]\n", "a: &b c\nd: *b\n", "sky: {x: y}\n", "\0"):
        (tmp_path / "map.yaml").write_text(text)
        refused(lambda: as_names_map(tmp_path / "map.yaml"), "map.yaml")
    refused(lambda: as_names_map(tmp_path / "none.yaml"), "none.yaml")


def test_another_shape_than_the_banks_frame_is_refused(bank: Path, reader: Reader, tmp_path: Path):
    save_models(tmp_path, bank, "synthesis", size=(96, 192))
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "96x192", "48x64")
    for size, frame in (((192, 256), (360, 480)), ((96, 128), (96, 134)), ((192, 640), (375, 1242))):
        check_size(size, frame, tmp_path)  # the multiple of 32 that is nearest
    with pytest.raises(InputError):
        check_size((192, 256), (192, 288), tmp_path)


# ---- what is damaged, or somebody's trap


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_card(path: Path) -> None:
    path.write_bytes(save({"a": torch.zeros(1)}))


@pytest.mark.parametrize(
    "spoil", [garbage, pickled, truncated, short, empty, huge_header, folder, without_card], ids=lambda f: f.__name__
)
def test_a_file_that_is_no_checkpoint_is_refused(spoil: Write, bank: Path, reader: Reader, tmp_path: Path):
    path = save_models(tmp_path, bank, "synthesis") / "synthesis.safetensors"
    spoil(path)
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors")


ODD = (
    '{"format": 1, "network": "synthesis", "config": 3, "bank": "b", "generation": 1, "size": [96, 128],'
    ' "classes": [{"id": [], "name": "sky", "colour": [0, 0, 0]}]}'
)


STEPS = ODD.replace('"config": 3', '"config": {}, "training": {"steps": "x"}').replace("[]", "0")


@pytest.mark.parametrize(
    "card", [STEPS, "[]", "3", '"card"', "null", "{}", "{", "[" * 100_000, '{"format": 1, "classes": 3}', ODD]
)
def test_a_card_that_is_none_is_refused(card: str, reader: Reader, tmp_path: Path):
    (tmp_path / "synthesis.safetensors").write_bytes(save({"a": torch.zeros(1)}, {"card": card}))
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors")


def test_the_checkpoint_of_another_network_is_refused(bank: Path, reader: Reader, tmp_path: Path):
    save_models(tmp_path, bank, "ordering")
    (tmp_path / "ordering.safetensors").rename(tmp_path / "synthesis.safetensors")
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "a synthesis network", "a ordering network")


def test_weights_that_are_not_the_networks_are_named(reader: Reader, tmp_path: Path):
    network = network_of("synthesis", 4)
    path, card, whole = (
        tmp_path / "synthesis.safetensors",
        card_of("synthesis", network, reader.classes),
        network.state_dict(),
    )
    name = "to_image.weight"
    broken = whole[name].clone()
    broken[0] = torch.nan
    for tensors, word in (
        ({key: value for key, value in whole.items() if key != name}, f"no {name}"),
        ({**whole, "extra": torch.zeros(1)}, "also extra"),
        ({**whole, name: torch.zeros(3, 8, 3, 3)}, name),
        ({**whole, name: whole[name].long()}, name),
        ({**whole, name: broken}, name),
        ({}, "no "),
    ):
        save_checkpoint(path, tensors, card)
        refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors", word)


@pytest.mark.parametrize(
    "config",
    [
        {"width": 1e9},
        {"width": float("nan")},
        {"width": "wide"},
        {"n_classes": 3},
        {"n_classes": -1},
        {"size": [1 << 40, 1 << 40]},
        {"size": None},
        {"depth": 3},
        {"canvas": [1]},
    ],
    ids=json.dumps,
)
def test_a_configuration_that_is_not_its_own_is_refused(config: dict[str, Any], reader: Reader, tmp_path: Path):
    network = network_of("synthesis", 4)
    card = card_of("synthesis", network, reader.classes)
    spoilt = replace(card, config={**card.config, **config})
    if config == {"canvas": [1]}:
        spoilt = replace(card, config={})
    save_checkpoint(tmp_path / "synthesis.safetensors", network.state_dict(), spoilt)
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors")


def test_the_frame_of_the_tests_is_that_of_the_bank(reader: Reader):
    assert reader.geometry.frame == FRAME


@pytest.mark.parametrize("size", [(0, 0), (-96, -128), (96.0, 128.0), (True, 1)])
def test_a_size_that_no_picture_has_is_refused(size: tuple[Any, Any], bank: Path, reader: Reader, tmp_path: Path):
    network = network_of("synthesis", 4)
    card = card_of("synthesis", network, reader.classes, size)
    save_checkpoint(tmp_path / "synthesis.safetensors", network.state_dict(), card)
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "expected a checkpoint of zeuxis", f"size {size[0]}x")


def test_what_is_no_plain_file_is_not_waited_for(reader: Reader, tmp_path: Path):
    os.mkfifo(tmp_path / "synthesis.safetensors")
    refused(lambda: Models(tmp_path, reader).load("synthesis"), "synthesis.safetensors", "found no plain file")


def test_a_width_without_bounds_is_said_in_a_line(reader: Reader, tmp_path: Path):
    network = network_of("synthesis", 4)
    card = card_of("synthesis", network, reader.classes)
    card = replace(card, config={**card.config, "width": 1e300})
    save_checkpoint(tmp_path / "synthesis.safetensors", network.state_dict(), card)
    with pytest.raises(InputError) as caught:
        Models(tmp_path, reader).load("synthesis")
    assert "holds no configuration" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("roi", "roi", "roi"),
        ("roi-published", "roi", "roi --variant published"),
        ("glcic", "glcic", "roi --variant glcic"),
        ("synthesis-no-canvas", "synthesis", "synthesis --variant no-canvas"),
        ("key-patches-no-mask", "key-patches", "key-patches --variant no-mask"),
        ("key-patches-random", "key-patches", "key-patches --patches random"),
        ("key-patches-no-mask-random", "key-patches", "key-patches --variant no-mask --patches random"),
        ("generator-began", "generator", "generator --kind began"),
    ],
)
def test_how_a_missing_network_is_trained_is_told(tmp_path, name, network, said):
    with pytest.raises(InputError, match=f"train it: `zeuxis train {said}`"):
        load_card(tmp_path / f"{name}.safetensors", network)
