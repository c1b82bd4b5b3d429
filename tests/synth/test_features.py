"""Features: the published network's layers by name, masks, depth; where weights come from, and what is refused."""

import hashlib
import re
import stat
import subprocess
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from zeuxis.storage.classes import SemanticClass
from zeuxis.storage.errors import InputError
from zeuxis.synth import pickles, vgg19
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.features import LAYERS, Features, FeaturesConfig, ParsingConfig, ParsingNetwork, load_features

WIDTH = 1 / 8
PLAN = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"]
"""Configuration E of the paper, as torchvision lists it."""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No weights of the user's, an empty cache, no network, one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.delenv("ZEUXIS_VGG19", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vgg19, "URL", (tmp_path / "nowhere.pth").as_uri())
    yield
    torch.set_num_threads(before)


def torchvision_weights(seed: int = 0, width: float = WIDTH) -> dict[str, torch.Tensor]:
    """Random weights by the names that torchvision's `features` Sequential gives them, and its classifier's first."""
    random = torch.Generator().manual_seed(seed)
    held, index, inputs = {}, 0, 3
    for item in PLAN:
        if item == "M":
            index += 1
            continue
        outputs = int(item * width)
        held[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=random) / (3 * inputs**0.5)
        held[f"features.{index}.bias"] = torch.randn(outputs, generator=random) / 10
        index, inputs = index + 2, outputs
    return {**held, "classifier.0.weight": torch.zeros(2, 2)}


def reference(weights: dict[str, torch.Tensor], images: torch.Tensor, pooling: str) -> list[torch.Tensor]:
    """Every activation in order, written from the paper's configuration alone."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    found, index = [], 0
    for item in PLAN:
        if item == "M":
            x = functional.max_pool2d(x, 2, 2) if pooling == "max" else functional.avg_pool2d(x, 2, 2)
            index += 1
            continue
        x = functional.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
        x = x.relu()
        found.append(x)
        index += 2
    return found


def published(tmp_path, monkeypatch, weights=None):
    """A small file in the format of the published one, and its hash taken for the published one's."""
    path = tmp_path / "weights.pth"
    torch.save(torchvision_weights() if weights is None else weights, path)
    monkeypatch.setattr(vgg19, "DIGEST", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return path


def images(n: int = 1, size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def learned(models, width: float = WIDTH, step: int = 1500) -> ParsingNetwork:
    models.mkdir(exist_ok=True)
    network = ParsingNetwork(ParsingConfig(2, width, "max")).eval()
    classes = tuple(SemanticClass(i, f"class{i}", (i, i, i)) for i in range(2))
    card = Card("features", asdict(network.config), classes, (32, 48), "bank", 1, step=step)
    save_checkpoint(models / "features.safetensors", network.state_dict(), card)
    return network


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_every_layer_is_that_of_vgg19(tmp_path, pooling):
    weights = torchvision_weights()
    save_file(weights, tmp_path / "vgg.safetensors")
    features = load_features(tmp_path / "vgg.safetensors", None, pooling)
    found = features(images(), vgg19.NAMES)
    names = [f"conv{b}_{i}" for b, count in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, count + 1)]
    assert list(found) == names
    for activation, wanted in zip(found.values(), reference(weights, images(), pooling), strict=True):
        torch.testing.assert_close(activation, wanted)
    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_at_width_1_the_features_have_the_published_networks_parameters():
    with torch.device("meta"):
        features = Features(FeaturesConfig())
    assert sum(parameter.numel() for parameter in features.parameters()) == 20_024_384  # torchvision's vgg19().features


def test_nothing_deeper_than_asked_is_computed():
    features = Features(FeaturesConfig(WIDTH))
    called = []
    for name, layer in features.convolutions.items():
        layer.register_forward_hook(lambda *_args, name=name: called.append(name))
    found = features(images(), ("conv2_1", "conv1_2"))
    assert list(found) == ["conv2_1", "conv1_2"]
    assert called == ["conv1_1", "conv1_2", "conv2_1"]


def test_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="conv6_1"):
        Features(FeaturesConfig(WIDTH))(images(), ("conv6_1",))


def test_a_mask_hides_what_lies_outside():
    features = Features(FeaturesConfig(WIDTH)).eval()
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., 8:24, 6:30] = 1
    other = torch.where(mask > 0, images(), -images())
    found, hidden = features(images(), LAYERS, mask), features(other, LAYERS, mask)
    for name in LAYERS:
        assert torch.equal(found[name], hidden[name])
    black = features(torch.where(mask > 0, images(), torch.tensor(-1.0)))
    share = functional.interpolate(mask, (8, 12), mode="area")
    assert 0 < share[0, 0, 4, 7] < 1
    torch.testing.assert_close(found["conv3_2"], black["conv3_2"] * share)


def test_a_path_is_named_by_what_it_holds(tmp_path):
    save_file(torchvision_weights(), tmp_path / "vgg.safetensors")
    name = load_features(tmp_path / "vgg.safetensors", None).name
    assert name == f"vgg19:{hashlib.sha256((tmp_path / 'vgg.safetensors').read_bytes()).hexdigest()[:8]}"


def test_features_learned_on_the_bank_are_those_of_the_checkpoint(tmp_path):
    network = learned(tmp_path / "models")
    for source in (None, "bank", tmp_path / "models" / "features.safetensors"):
        features = load_features(source, tmp_path / "models")
        assert re.fullmatch(r"bank:1/8 step 1500 \(bank, [0-9a-f]{6}\)", features.name)
        assert features.config == network.config.features
        assert torch.equal(features(images())["conv4_2"], network.features(images())["conv4_2"])


def test_a_path_comes_before_the_variable_and_the_variable_before_the_bank(tmp_path, monkeypatch):
    learned(tmp_path / "models")
    for name, seed in (("path", 1), ("variable", 2)):
        save_file(torchvision_weights(seed), tmp_path / f"{name}.safetensors")
    digests = {name: vgg19._digest(tmp_path / f"{name}.safetensors")[:8] for name in ("path", "variable")}
    monkeypatch.setenv("ZEUXIS_VGG19", str(tmp_path / "variable.safetensors"))
    assert load_features(tmp_path / "path.safetensors", tmp_path / "models").name == f"vgg19:{digests['path']}"
    assert load_features(None, tmp_path / "models").name == f"vgg19:{digests['variable']}"
    assert load_features("vgg19", tmp_path / "models").name == f"vgg19:{digests['variable']}"
    assert load_features("bank", tmp_path / "models").name.startswith("bank:1/8 step 1500 (")


def test_features_of_other_weights_have_another_name(tmp_path):
    names = set()
    for seed in range(2):
        torch.manual_seed(seed)
        learned(tmp_path / str(seed))
        names.add(load_features("bank", tmp_path / str(seed)).name)
    assert len(names) == 2


def test_with_nothing_to_load_the_user_is_told_what_to_do(tmp_path):
    for models in (None, tmp_path / "models"):
        with pytest.raises(InputError, match="zeuxis train features"):
            load_features(None, models)
    with pytest.raises(InputError, match="no such file"):
        load_features("bank", tmp_path / "models")
    with pytest.raises(InputError, match="no such file"):
        load_features(tmp_path / "vgg.pth", None)


def test_the_published_file_is_converted_once(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch)
    features = load_features(path, None)
    assert features.name == "vgg19"
    wanted = reference(torchvision_weights(), images(), "average")[3]
    torch.testing.assert_close(features(images(), ("conv2_2",))["conv2_2"], wanted)
    folder = tmp_path / "cache" / "zeuxis"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (kept,) = folder.iterdir()
    assert "classifier.0.weight" not in load_file(kept)
    assert load_features(kept, None).name == "vgg19"
    monkeypatch.setattr(subprocess, "run", None)
    assert load_features(path, None).name == "vgg19"
    assert load_features("vgg19", None).name == "vgg19"


def test_a_pickle_of_another_hash_is_not_opened(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch)
    with open(path, "ab") as file:
        file.write(b" ")
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(InputError, match="SHA-256"):
        load_features(path, None)


class Rogue:
    """Leaves a file behind where it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch, {**torchvision_weights(), "rogue": Rogue(tmp_path / "left")})
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_features(path, None)
    assert not (tmp_path / "left").exists()
    assert not (tmp_path / "cache").exists(), "nothing is written"


def test_the_reader_of_pickles_has_little_memory(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch)
    monkeypatch.setattr(pickles, "MEMORY_BYTES", 1 << 20)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_features(path, None)


def test_a_fetched_file_is_checked_and_kept(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch)
    monkeypatch.setattr(vgg19, "URL", path.as_uri())
    assert load_features("vgg19", None).name == "vgg19"
    path.unlink()
    assert load_features("vgg19", None).name == "vgg19"


def test_a_fetched_file_of_another_hash_is_refused(tmp_path, monkeypatch):
    path = published(tmp_path, monkeypatch)
    monkeypatch.setattr(vgg19, "URL", path.as_uri())
    monkeypatch.setattr(vgg19, "DIGEST", "00000000")
    with pytest.raises(InputError, match="SHA-256"):
        load_features("vgg19", None)
    assert [*(tmp_path / "cache" / "zeuxis").iterdir()] == []


def test_without_a_network_the_user_is_told_what_to_do():
    with pytest.raises(InputError, match=r"cannot be fetched.*ZEUXIS_VGG19.*zeuxis train features"):
        load_features("vgg19", None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda held: held.pop("features.34.bias"),
        lambda held: held.update({"features.5.weight": torch.zeros(4, 4, 3, 3)}),
    ],
)
def test_weights_of_another_shape_are_refused(tmp_path, spoil):
    weights = torchvision_weights()
    spoil(weights)
    save_file(weights, tmp_path / "vgg.safetensors")
    with pytest.raises(InputError, match=r"vgg(19|\.safetensors)"):
        load_features(tmp_path / "vgg.safetensors", None)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    learned(tmp_path / "models")
    path = tmp_path / "models" / "features.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="whole checkpoint"):
        load_features(None, tmp_path / "models")


def test_features_learn_to_parse_colours():
    """The network that the bank's features come from: two classes by colour, a few steps."""
    torch.manual_seed(0)
    network = ParsingNetwork(ParsingConfig(2, 1 / 16))
    noise = np.random.default_rng(0).normal(0, 0.3, (4, 3, 32, 32))
    labels = (torch.arange(32) > 15).long().expand(4, 32, 32)
    pictures = torch.from_numpy(noise).float() + torch.where(labels > 0, 0.5, -0.5)[:, None]
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(15):
        loss = functional.cross_entropy(network(pictures), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (network(pictures).argmax(1) == labels).float().mean() > 0.9
