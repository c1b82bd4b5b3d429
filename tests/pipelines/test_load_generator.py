"""Generators that are loaded: checkpoints, a user's own as an exported program, and all that is refused."""

import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from zeuxis.pipelines.generators import load_generator, load_rival
from zeuxis.storage.errors import InputError
from zeuxis.synth.checkpoint import Card, save_checkpoint
from zeuxis.synth.region_semantics.generator import GeneratorConfig
from zeuxis.synth.region_semantics.networks import generator_network

LATENT, SIDE = 6, 16

pytestmark = [
    pytest.mark.usefixtures("one_thread", "seeded"),
    pytest.mark.filterwarnings("ignore:.*treespec.*:FutureWarning"),
]


class Own(nn.Module):
    """A small generator: linear, what is given in between, convolution, and an end."""

    def __init__(self, middle=None, end=torch.tanh, channels=3) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(LATENT, 4 * 16), middle or nn.Identity()
        self.last, self.end = nn.Conv2d(4, channels, 3, padding=1), end

    def forward(self, z):
        x = self.middle(self.first(z).unflatten(1, (4, 4, 4)))
        return self.end(self.last(nn.functional.interpolate(x, scale_factor=4.0)))


def save(path: Path, network: nn.Module, *, fixed: int = 0, fewest: int = 1, core: bool = False, **kept) -> Path:
    """Exports a network, as it is, for any number of latents from `fewest`, or for a fixed one."""
    n = torch.export.Dim("n", min=fewest, max=5 if fewest > 1 else None)
    shapes = None if fixed else ({0: n},)
    program = torch.export.export(network, (torch.randn(fixed or 3, LATENT),), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if core else program, path, **kept)
    return path


def normalised(*, learned: bool) -> Own:
    """With batch normalisation that takes moments of its batch."""
    network = Own(nn.BatchNorm2d(4)).train()
    if learned:
        with torch.no_grad():
            for _ in range(30):
                network(torch.randn(16, LATENT))
    return network


@pytest.fixture
def own(tmp_path) -> Path:
    return tmp_path / "own.pt2"


# ---- checkpoints


@pytest.fixture
def folder(tmp_path) -> Path:
    for kind in ("began", "wgan-gp", "ladder-vae"):
        config = GeneratorConfig(kind, 64, 1 / 16)
        network = generator_network(config)
        card = Card("generator", asdict(config), (), (64, 64), "bank", 1)
        save_checkpoint(tmp_path / f"generator-{kind}.safetensors", network.state_dict(), card)
    return tmp_path


def test_a_checkpoint_is_found_by_folder_kind_or_path(folder):
    names = {"generator-wgan-gp", "generator-began"}
    found = load_generator(folder, device="cpu")
    assert (found.name, found.latent, found.prior, found.resolution) == ("generator-wgan-gp", 128, "normal", 64)
    assert found.card.config["kind"] == "wgan-gp"
    assert not any(each.requires_grad for each in found.network.parameters())
    z = found.draw(2, torch.Generator().manual_seed(0))
    assert found.network(z).shape == (2, 3, 64, 64)
    for given in ((folder, "began"), (folder, "generator-began"), (folder / "generator-began.safetensors",)):
        found = load_generator(*given, device="cpu")
        assert (found.name, found.latent, found.prior) == ("generator-began", 64, "uniform")
        assert found.name in names
        assert found.draw(100, torch.Generator().manual_seed(0)).abs().max() <= 1
    card, rival = load_rival(folder, "ladder-vae", device="cpu")
    assert card.config["kind"] == rival.config.kind == "ladder-vae"
    assert rival.sample(1, torch.Generator()).shape == (1, 3, 64, 64)


def test_what_is_no_generator_of_one_latent_is_refused(folder, tmp_path):
    for given, said in (
        ((folder, "ladder-vae"), "expected a generator of one latent, began or wgan-gp, found a ladder-vae"),
        ((folder, "stylegan"), "expected a generator 'stylegan', found generator-began.safetensors, generator-ladder"),
        ((folder / "none.pt2",), "expected a generator or a folder of networks, found no such file"),
    ):
        with pytest.raises(InputError, match=said):
            load_generator(*given)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected generator-wgan-gp\.safetensors or .*, found neither"):
        load_generator(tmp_path / "empty")
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"or \.pt2 by torch.export.save, found another suffix"):
        load_generator(tmp_path / "weights.pth")
    with pytest.raises(InputError, match="expected a pixel-vae, found a ladder-vae"):
        load_rival(folder / "generator-ladder-vae.safetensors", "pixel-vae")
    card = Card("generator", asdict(GeneratorConfig("began", 32, 1 / 16)), (), (64, 64), "bank", 1)
    network = generator_network(GeneratorConfig("began", 32, 1 / 16))
    save_checkpoint(tmp_path / "other.safetensors", network.state_dict(), card)
    with pytest.raises(InputError, match="expected pictures of the size on its card, 64x64, found 32 pixels a side"):
        load_generator(tmp_path / "other.safetensors")


# ---- a user's own


@pytest.mark.parametrize(("options", "prior"), [({}, "normal"), ({"extra_files": {"prior": "uniform"}}, "uniform")])
def test_an_exported_program_says_how_long_its_latents_are(own, options, prior):
    network = Own()
    found = load_generator(save(own, network, **options), device="cpu")
    assert (found.name, found.latent, found.prior, found.resolution, found.card) == ("own", LATENT, prior, SIDE, None)
    z = found.draw(70, torch.Generator().manual_seed(0))
    assert (z.abs().max() <= 1) == (prior == "uniform")
    with torch.no_grad():
        torch.testing.assert_close(found.network(z), network(z))
    wanted = z[:3].clone().requires_grad_(True)
    found.network(wanted).sum().backward()
    assert wanted.grad.abs().sum(1).all()


@pytest.mark.parametrize("sizes", [{"fixed": 4}, {"fixed": 1}, {"fewest": 2}])
def test_a_program_for_another_number_of_latents_runs_in_parts(own, sizes):
    network = Own()
    found = load_generator(save(own, network, **sizes), device="cpu")
    with torch.no_grad():
        for n in (0, 1, 4, 11):
            z = torch.randn(n, LATENT)
            torch.testing.assert_close(found.network(z), network(z) if n else torch.zeros(0, 3, SIDE, SIDE))


@pytest.mark.parametrize("core", [False, True])
def test_batch_normalisation_moves_a_picture_with_its_batch_unless_it_is_frozen(own, core):
    """Figure 4 of the paper: the moments of the batch decide what a latent becomes."""
    network = normalised(learned=True)
    path = save(own, network, core=core)
    first, others = torch.randn(1, LATENT), [torch.randn(7, LATENT) * scale for scale in (0.2, 3.0)]
    batches = [torch.cat([first, each]) for each in others]
    coupled = torch.export.load(path).module()
    with torch.no_grad():
        apart = (coupled(batches[0])[0] - coupled(batches[1])[0]).abs().max()
    assert apart > 0.1, "the same latent, another picture"
    with pytest.raises(InputError, match=r"takes the moments of each batch, .*give --freeze"):
        load_generator(path)
    found = load_generator(path, freeze=True, device="cpu")
    assert found.frozen == 1
    pictures = [found.network(batch)[0] for batch in batches]
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures[0], network.eval()(batches[0])[0].detach(), rtol=0, atol=1e-5)


def test_a_program_in_evaluation_mode_needs_no_freezing(own):
    network = normalised(learned=True).eval()
    assert load_generator(save(own, network), device="cpu").frozen == 0


@pytest.mark.parametrize("core", [False, True])
def test_instance_normalisation_is_no_batch_statistic(own, core):
    found = load_generator(save(own, Own(nn.InstanceNorm2d(4)), core=core), device="cpu")
    assert found.frozen == 0


class Centred(nn.Module):
    """A batch statistic that no operator gives away."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Flattened(nn.Module):
    """Takes two inputs."""

    def forward(self, z, c):
        return torch.tanh(z @ c)


REFUSED = {
    "moments that are not there": (Own(nn.BatchNorm2d(4, track_running_stats=False)), "changes with the other latents"),
    "another batch statistic": (Own(Centred()), "changes with the other latents of its batch"),
    "chance": (Own(nn.Dropout(0.5)), "expected the same picture of the same latent, found another"),
    "0 to 1": (Own(end=torch.sigmoid), r"found that of \[0, 1\], from .*; export one that returns 2 \* x - 1"),
    "0 to 255": (Own(end=lambda x: 255 * torch.sigmoid(x)), r"found that of \[0, 255\], from .*x / 127.5 - 1"),
    "no bound": (Own(end=lambda x: 9 * x), r"colours in the range \[-1, 1\], found another, from"),
    "no numbers": (Own(end=lambda x: x / (x - x)), "hold values that are no numbers"),
    "no gradient": (
        Own(end=lambda x: torch.tanh(x.detach())),
        "expected a gradient that reaches the latent, found none",
    ),
    "grey": (Own(channels=1), r"expected pictures \(16, 3, R, R\) of float32, found \(16, 1, 16, 16\) of float32"),
    "oblong": (Own(end=lambda x: torch.tanh(x)[..., :8]), r"found \(16, 3, 16, 8\)"),
    "half": (Own(end=lambda x: torch.tanh(x).half()), "found .* of float16"),
    "two pictures": (Own(end=lambda x: (torch.tanh(x), x)), "expected pictures .*, found a tuple"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_program_that_pictures_cannot_be_sought_with_is_refused(own, what):
    network, said = REFUSED[what]
    path = save(own, network.train())
    for freeze in (False, True):
        with pytest.raises(InputError, match=said):
            load_generator(path, freeze=freeze, device="cpu")


def test_moments_that_were_never_learned_cannot_be_frozen_to(own):
    path = save(own, normalised(learned=False))
    with pytest.raises(InputError, match="has running moments that were never learned"):
        load_generator(path, freeze=True)


def test_a_program_of_damaged_weights_is_refused(own):
    save(own, Own())
    with zipfile.ZipFile(own) as archive:
        place = max(archive.infolist(), key=lambda each: each.file_size * ("weights/" in each.filename))
    data = bytearray(own.read_bytes())
    start = place.header_offset + 30 + int.from_bytes(data[place.header_offset + 28 :][:2], "little")
    data[start + len(place.filename) + place.file_size // 2] ^= 1
    own.write_bytes(data)
    with pytest.raises(InputError, match=f"is damaged: {place.filename} is not what was saved; export it again"):
        load_generator(own)


def test_other_files_and_other_inputs_are_refused(own, tmp_path):
    own.write_bytes(b"no program")
    with pytest.raises(InputError, match=r"is no exported program .*torch\.export\.save"):
        load_generator(own)
    torch.export.save(torch.export.export(Flattened(), (torch.randn(3, 2), torch.randn(2, 4))), own)
    with pytest.raises(InputError, match=r"expected one input, latents \(N, Z\) of float32, found 2 inputs"):
        load_generator(own)
    torch.export.save(torch.export.export(nn.Flatten(), (torch.randn(3, 2, 2),)), own)
    with pytest.raises(InputError, match=r"expected one input, latents .*, found \(3, 2, 2\) of float32"):
        load_generator(own)
    with pytest.raises(InputError, match="expected an extra file prior that says normal or uniform, found 'gamma'"):
        load_generator(save(own, Own(), extra_files={"prior": "gamma"}))
