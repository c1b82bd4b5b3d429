"""The Inception network of published figures: its names, shapes and sums, what it sees, and which files are taken."""

import hashlib
import re
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from zeuxis.storage.errors import InputError
from zeuxis.synth import inception, pickles
from zeuxis.synth.inception import Inception, features_of, load_inception, seen_of

CONVOLUTIONS = """
Conv2d_1a_3x3 3 32 3x3, Conv2d_2a_3x3 32 32 3x3, Conv2d_2b_3x3 32 64 3x3, Conv2d_3b_1x1 64 80 1x1,
Conv2d_4a_3x3 80 192 3x3,
Mixed_5b: branch1x1 192 64 1x1, branch5x5_1 192 48 1x1, branch5x5_2 48 64 5x5, branch3x3dbl_1 192 64 1x1,
branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3, branch_pool 192 32 1x1,
Mixed_5c: branch1x1 256 64 1x1, branch5x5_1 256 48 1x1, branch5x5_2 48 64 5x5, branch3x3dbl_1 256 64 1x1,
branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3, branch_pool 256 64 1x1,
Mixed_5d: branch1x1 288 64 1x1, branch5x5_1 288 48 1x1, branch5x5_2 48 64 5x5, branch3x3dbl_1 288 64 1x1,
branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3, branch_pool 288 64 1x1,
Mixed_6a: branch3x3 288 384 3x3, branch3x3dbl_1 288 64 1x1, branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3,
Mixed_6b: branch1x1 768 192 1x1, branch7x7_1 768 128 1x1, branch7x7_2 128 128 1x7, branch7x7_3 128 192 7x1,
branch7x7dbl_1 768 128 1x1, branch7x7dbl_2 128 128 7x1, branch7x7dbl_3 128 128 1x7, branch7x7dbl_4 128 128 7x1,
branch7x7dbl_5 128 192 1x7, branch_pool 768 192 1x1,
Mixed_6c: branch1x1 768 192 1x1, branch7x7_1 768 160 1x1, branch7x7_2 160 160 1x7, branch7x7_3 160 192 7x1,
branch7x7dbl_1 768 160 1x1, branch7x7dbl_2 160 160 7x1, branch7x7dbl_3 160 160 1x7, branch7x7dbl_4 160 160 7x1,
branch7x7dbl_5 160 192 1x7, branch_pool 768 192 1x1,
Mixed_6d: branch1x1 768 192 1x1, branch7x7_1 768 160 1x1, branch7x7_2 160 160 1x7, branch7x7_3 160 192 7x1,
branch7x7dbl_1 768 160 1x1, branch7x7dbl_2 160 160 7x1, branch7x7dbl_3 160 160 1x7, branch7x7dbl_4 160 160 7x1,
branch7x7dbl_5 160 192 1x7, branch_pool 768 192 1x1,
Mixed_6e: branch1x1 768 192 1x1, branch7x7_1 768 192 1x1, branch7x7_2 192 192 1x7, branch7x7_3 192 192 7x1,
branch7x7dbl_1 768 192 1x1, branch7x7dbl_2 192 192 7x1, branch7x7dbl_3 192 192 1x7, branch7x7dbl_4 192 192 7x1,
branch7x7dbl_5 192 192 1x7, branch_pool 768 192 1x1,
Mixed_7a: branch3x3_1 768 192 1x1, branch3x3_2 192 320 3x3, branch7x7x3_1 768 192 1x1, branch7x7x3_2 192 192 1x7,
branch7x7x3_3 192 192 7x1, branch7x7x3_4 192 192 3x3,
Mixed_7b: branch1x1 1280 320 1x1, branch3x3_1 1280 384 1x1, branch3x3_2a 384 384 1x3, branch3x3_2b 384 384 3x1,
branch3x3dbl_1 1280 448 1x1, branch3x3dbl_2 448 384 3x3, branch3x3dbl_3a 384 384 1x3, branch3x3dbl_3b 384 384 3x1,
branch_pool 1280 192 1x1,
Mixed_7c: branch1x1 2048 320 1x1, branch3x3_1 2048 384 1x1, branch3x3_2a 384 384 1x3, branch3x3_2b 384 384 3x1,
branch3x3dbl_1 2048 448 1x1, branch3x3dbl_2 448 384 3x3, branch3x3dbl_3a 384 384 1x3, branch3x3dbl_3b 384 384 3x1,
branch_pool 2048 192 1x1
"""
"""Name, channels in and out, rows and columns, of the published file's convolutions; a block's name goes before."""

BRANCHES = {
    "A": "branch1x1 | branch5x5_1 branch5x5_2 | branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 | mean branch_pool",
    "B": "branch3x3/2 | branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3/2 | max/2",
    "C": "branch1x1 | branch7x7_1 branch7x7_2 branch7x7_3 | branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3"
    " branch7x7dbl_4 branch7x7dbl_5 | mean branch_pool",
    "D": "branch3x3_1 branch3x3_2/2 | branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4/2 | max/2",
    "E": "branch1x1 | branch3x3_1 branch3x3_2a | branch3x3_1 branch3x3_2b | branch3x3dbl_1 branch3x3dbl_2"
    " branch3x3dbl_3a | branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3b | POOL branch_pool",
}
BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), BRANCHES["A"]), "Mixed_6a": BRANCHES["B"],
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), BRANCHES["C"]), "Mixed_7a": BRANCHES["D"],
    "Mixed_7b": BRANCHES["E"].replace("POOL", "mean"), "Mixed_7c": BRANCHES["E"].replace("POOL", "max"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def alone(one_thread, monkeypatch):
    """No weights of the user's, one thread."""
    monkeypatch.delenv("ZEUXIS_INCEPTION", raising=False)


def listed() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published file that a figure can depend on, and of the last layer."""
    found: dict[str, tuple[int, ...]] = {}
    block = ""
    for entry in CONVOLUTIONS.replace("\n", " ").split(","):
        before, _, rest = entry.strip().rpartition(": ")
        block = before or block
        name, inputs, outputs, side = rest.split()
        name = f"{block}.{name}" if block else name
        found[f"{name}.conv.weight"] = (int(outputs), int(inputs), *map(int, side.split("x")))
        for kind in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.bn.{kind}"] = (int(outputs),)
    return found | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ones, with which activations neither vanish nor grow from layer to layer."""
    random = torch.Generator().manual_seed(seed)
    held = {}
    for key, shape in listed().items():
        drawn = torch.randn(shape, generator=random)
        if key.endswith("conv.weight"):
            held[key] = drawn * (2 / drawn[0].numel()) ** 0.5
        else:
            held[key] = (1.0 if key.endswith(("bn.weight", "running_var")) else 0.0) + drawn.clamp(-2, 2) / 10
    return held


@pytest.fixture(scope="module")
def held() -> dict[str, torch.Tensor]:
    return weights()


@pytest.fixture(scope="module")
def network(held) -> Inception:
    made = Inception()
    made.load_state_dict(held, strict=False)
    return made.requires_grad_(False).eval()


def reference(held: dict[str, torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
    """The features, written from the list of convolutions and of branches; strides stand there, padding follows."""

    def convolved(x, name, padded=True, stride=1):
        weight, bias, mean, variance = (
            held[f"{name}.bn.{kind}"].view(-1, 1, 1) for kind in ("weight", "bias", "running_mean", "running_var")
        )
        kernel = held[f"{name}.conv.weight"]
        padding = [side // 2 for side in kernel.shape[2:]] if padded and stride == 1 else 0
        y = functional.conv2d(x, kernel, stride=stride, padding=padding)
        return ((y - mean) / (variance + 0.001).sqrt() * weight + bias).relu()

    def mean_of_those_there(x):
        ones = torch.ones_like(x[:1, :1])
        kernel = torch.ones(x.shape[1], 1, 3, 3)
        total = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        return total / functional.conv2d(ones, kernel[:1], padding=1)

    def step(x, block, word):
        name, _, stride = word.partition("/")
        if name == "mean":
            return mean_of_those_there(x)
        if name == "max":
            return functional.max_pool2d(x, 3, 2) if stride else functional.max_pool2d(x, 3, 1, 1)
        return convolved(x, f"{block}.{name}", stride=int(stride or 1))

    x = convolved(seen, "Conv2d_1a_3x3", stride=2)
    x = convolved(convolved(x, "Conv2d_2a_3x3", padded=False), "Conv2d_2b_3x3")
    x = convolved(functional.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
    x = functional.max_pool2d(convolved(x, "Conv2d_4a_3x3", padded=False), 3, 2)
    for block, branches in BLOCKS.items():
        ends = []
        for branch in branches.split(" | "):
            y = x
            for word in branch.split():
                y = step(y, block, word)
            ends.append(y)
        x = torch.cat(ends, 1)
    return x.flatten(2).mean(2)


def photograph(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, cols, 3), np.uint8)


def published(path, monkeypatch, what):
    """A file in the format of the published one, whose hash is taken for the published one's."""
    torch.save(what, path)
    monkeypatch.setattr(inception, "DIGEST", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return path


def spread(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of these shapes that take next to no room in a pickle."""
    return {key: torch.full((1,), 0.5).expand(tensor.shape) for key, tensor in held.items()}


def test_names_and_shapes_are_those_of_the_published_file():
    with torch.device("meta"):
        made = Inception()
    counted = {key for key in made.state_dict() if key.endswith("num_batches_tracked")}
    assert {key: tuple(tensor.shape) for key, tensor in made.state_dict().items() if key not in counted} == listed()
    assert len(counted) == 94
    total = sum(parameter.numel() for parameter in made.parameters())
    assert total - 8 * 2049 == 23_834_568  # torchvision's inception_v3 of 1,000 classes without its auxiliary head
    moments = sum(buffer.numel() for name, buffer in made.named_buffers() if "running" in name)
    assert total - 8 * 2049 + moments // 2 == 23_851_784  # as Keras counts, with moments and without scales


def test_features_are_those_of_the_network_written_out(network, held):
    seen = seen_of(torch.from_numpy(photograph(60, 80)))
    wanted = reference(held, seen[None])
    with torch.inference_mode():
        found = network(seen[None])
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_features_of_any_number_of_pictures_of_any_size(network, monkeypatch):
    images = [photograph(48, 64), photograph(400, 310, 1), photograph(48, 64, 2)]
    monkeypatch.setattr(inception, "AT_ONCE", 2)
    sizes = []
    with monkeypatch.context() as patch:
        patch.setattr(Inception, "forward", watched(Inception.forward, sizes))
        found = features_of(network, images)
    assert sizes == [(2, True), (1, True)]
    assert (found.shape, found.dtype) == ((3, 2048), np.float32)
    assert np.isfinite(found).all()
    assert np.ptp(found, axis=0).max() > 0
    np.testing.assert_allclose(features_of(network, images[2:])[0], found[2], rtol=1e-3, atol=1e-4)


def watched(forward, sizes):
    def call(self, x):
        sizes.append((len(x), torch.is_inference_mode_enabled()))
        return forward(self, x)

    return call


def test_pictures_are_resized_from_their_first_pixel_and_not_smoothed():
    image = photograph(598, 897)
    seen = seen_of(torch.from_numpy(image))
    assert seen.shape == (3, 299, 299)
    torch.testing.assert_close(seen, (torch.from_numpy(image[::2, ::3]).movedim(-1, 0).float() - 128) / 128)
    small = np.array([[0, 100], [50, 250]], np.uint8)[..., None].repeat(3, 2)
    seen = seen_of(torch.from_numpy(small))[0] * 128 + 128
    at = torch.arange(299) * 2 / 299
    rows, cols = (torch.minimum(at, torch.ones(())).view(shape) for shape in ((-1, 1), (1, -1)))
    wanted = (1 - rows) * (1 - cols) * 0 + (1 - rows) * cols * 100 + rows * (1 - cols) * 50 + rows * cols * 250
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-3)


def test_a_published_pickle_comes_back_as_it_was_saved(tmp_path, monkeypatch, held):
    counted = {key.replace("running_var", "num_batches_tracked"): torch.tensor(0) for key in held if "_var" in key}
    path = published(tmp_path / "weights.pth", monkeypatch, {**held, **counted})
    loaded = load_inception(path)
    assert loaded.name == f"weights.pth, SHA-256 {inception.DIGEST}"
    state = loaded.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in held.items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_other_weights_are_taken_as_safetensors_and_called_by_their_own_hash(tmp_path, monkeypatch, held):
    path = tmp_path / "own.safetensors"
    save_file({key: tensor.half() for key, tensor in held.items()}, path)
    assert load_inception() is None
    monkeypatch.setenv("ZEUXIS_INCEPTION", "")
    assert load_inception() is None
    monkeypatch.setenv("ZEUXIS_INCEPTION", str(path))
    loaded = load_inception()
    with pytest.raises(InputError, match=r"nowhere: .* no such file"):
        load_inception(tmp_path / "nowhere")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert loaded.name == f"own.safetensors, SHA-256 {digest}, not the published file"
    key = "Mixed_6c.branch7x7_2.conv.weight"
    assert torch.equal(loaded.state_dict()[key], held[key].half().float())


def test_a_pickle_of_another_hash_is_not_opened(tmp_path, monkeypatch, held):
    path = published(tmp_path / "weights.pth", monkeypatch, spread(held))
    with open(path, "ab") as file:
        file.write(b" ")
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(InputError, match=r"weights\.pth: expected SHA-256 .* found .*; fetch .* or give other weights"):
        load_inception(path)


class Rogue:
    """Leaves a file behind where it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch, held):
    path = published(tmp_path / "weights.pth", monkeypatch, {**spread(held), "rogue": Rogue(tmp_path / "left")})
    with pytest.raises(InputError, match=r"weights\.pth: cannot be read as weights of the Inception"):
        load_inception(path)
    assert not (tmp_path / "left").exists()


def test_the_reader_of_pickles_has_little_memory(tmp_path, monkeypatch, held):
    path = published(tmp_path / "weights.pth", monkeypatch, spread(held))
    monkeypatch.setattr(pickles, "MEMORY_BYTES", 1 << 20)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_inception(path)


WRONG = {
    "no last layer": ("fc.bias", None, "fc.bias is 1008, found none"),
    "torchvision's classes": ("fc.weight", (1000, 2048), "fc.weight is 1008x2048, found 1000x2048"),
    "another block": ("Mixed_7c.branch_pool.conv.weight", (192, 2048, 3, 3), "192x2048x1x1, found 192x2048x3x3"),
}


@pytest.mark.parametrize(("key", "shape", "said"), WRONG.values(), ids=WRONG)
def test_weights_of_another_network_are_refused(tmp_path, monkeypatch, held, key, shape, said):
    wrong = spread(held)
    del wrong[key]
    if shape:
        wrong[key] = torch.zeros(1).expand(shape)
    save_file({name: tensor.half().contiguous() for name, tensor in wrong.items()}, tmp_path / "weights.safetensors")
    expected = rf"weights\.\w+: expected weights of the Inception-v3 of FID.*{said}; fetch"
    with pytest.raises(InputError, match=expected):
        load_inception(tmp_path / "weights.safetensors")
    if shape == (1000, 2048):
        path = published(tmp_path / "weights.pth", monkeypatch, wrong)
        with pytest.raises(InputError, match=expected):
            load_inception(path)


def test_damaged_files_are_refused(tmp_path, monkeypatch, held):
    whole = {key: tensor.half().contiguous() for key, tensor in spread(held).items()}
    save_file(whole, path := tmp_path / "own.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"own\.safetensors: cannot be read as weights"):
        load_inception(path)
    save_file({**whole, "Mixed_5b.branch1x1.bn.bias": torch.full((64,), torch.nan)}, path)
    with pytest.raises(InputError, match=r"expected finite weights, found others in Mixed_5b\.branch1x1\.bn\.bias"):
        load_inception(path)
    pickle = published(tmp_path / "weights.pth", monkeypatch, spread(held))
    pickle.write_bytes(pickle.read_bytes()[:-1000])
    monkeypatch.setattr(inception, "DIGEST", hashlib.sha256(pickle.read_bytes()).hexdigest()[:8])
    with pytest.raises(InputError, match=r"weights\.pth: cannot be read as weights"):
        load_inception(pickle)
    torch.save([1, 2], pickle)
    monkeypatch.setattr(inception, "DIGEST", hashlib.sha256(pickle.read_bytes()).hexdigest()[:8])
    with pytest.raises(InputError, match=r"weights\.pth: .*in which Conv2d_1a_3x3\.conv\.weight is .*, found none"):
        load_inception(pickle)


def test_what_is_no_file_is_refused_with_where_weights_are_had(tmp_path):
    for path, found in ((tmp_path / "none.pth", "no such file"), (tmp_path, "no plain file")):
        with pytest.raises(InputError, match=rf"{found}; fetch https://.*{re.escape(inception.URL[-20:])} and name it"):
            load_inception(path)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_features(network):
    images = [photograph(48, 64), photograph(96, 128, 1)]
    wanted = features_of(network, images)
    found = features_of(Inception().eval().to("cuda"), images)
    assert np.isfinite(found).all()
    moved = Inception().eval()
    moved.load_state_dict(network.state_dict())
    np.testing.assert_allclose(features_of(moved.to("cuda"), images), wanted, rtol=1e-3, atol=1e-4)
