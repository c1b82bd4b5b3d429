"""Depth networks: what they are shown, what is made of their output, and what is refused before it can run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zeuxis.ingest.depth import FARTHEST, DepthModel, DepthSettings, read_settings
from zeuxis.storage.errors import InputError, SourceError

RANDOM = np.random.default_rng(0)
PHOTOGRAPH = RANDOM.integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope="session")
def exported() -> dict[str, bytes]:
    """`.pt2` files: `any` gives the mean of the channels at any size; at 32x48 alone, `shifted` gives half that less
    0.25 at half the size, `nan` and `two` what cannot be used."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            self.weight = torch.nn.Parameter(torch.full((1, 3, 1, 1), 1 / 3))
            self.register_buffer("shift", torch.full((1,), 0.25))

        def forward(self, x: torch.Tensor) -> object:
            mean = torch.nn.functional.conv2d(x, self.weight)
            if self.kind == "shifted":
                return {"predicted_depth": (torch.nn.functional.avg_pool2d(mean, 2) / 2 - self.shift)[:, 0]}
            if self.kind == "nan":
                return mean / (mean - mean)
            return (mean, mean) if self.kind == "two" else mean * torch.ones(x.shape[2], 1)

    sides = {2: torch.export.Dim("rows", min=8, max=4096), 3: torch.export.Dim("cols", min=8, max=4096)}
    files = {}
    for kind in ("any", "shifted", "nan", "two"):
        shapes = {"x": sides if kind == "any" else None}
        program = torch.export.export(Network(kind).eval(), (torch.rand(1, 3, 32, 48),), dynamic_shapes=shapes)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        files[kind] = buffer.getvalue()
    return files


def onnx_network(path: Path, **options: object) -> None:
    """The mean of the channels at any size."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 3, np.float32), "weight")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "rows", "cols"])
    taken = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "rows", "cols"])
    graph = helper.make_graph([helper.make_node("Conv", ["x", "weight"], ["y"])], "mean", [given], [taken], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path), **options)


@pytest.fixture
def network(tmp_path: Path, exported: dict[str, bytes]) -> Callable[..., DepthModel]:
    """Makes a network of a kind with settings, `onnx` or one of `exported`."""

    def make(kind: str = "any", settings: str = "output: depth") -> DepthModel:
        path = tmp_path / ("model.onnx" if kind == "onnx" else "model.pt2")
        if kind == "onnx":
            onnx_network(path)
        else:
            path.write_bytes(exported[kind])
        path.with_suffix(".yaml").write_text(settings)
        return DepthModel(path)

    return make


@pytest.mark.parametrize("kind", ["any", "onnx"])
def test_depth_is_the_networks_output_of_rgb_in_0_to_1(network: Callable[..., DepthModel], kind: str) -> None:
    depth = network(kind)(PHOTOGRAPH, "x")
    assert (depth.dtype, depth.shape) == (np.float32, (48, 64))
    np.testing.assert_allclose(depth, PHOTOGRAPH.mean(2) / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["any", "onnx"])
def test_disparity_is_turned_round_and_never_unknown(network: Callable[..., DepthModel], kind: str) -> None:
    photograph = PHOTOGRAPH.copy()
    photograph[0, 0] = 0
    depth = network(kind, "output: disparity")(photograph, "x")
    disparity = photograph.mean(2) / 255
    np.testing.assert_allclose(depth[1:] * disparity[1:], disparity.max(), rtol=1e-4)
    assert depth[0, 0] == pytest.approx(FARTHEST)


def test_a_smaller_map_comes_back_at_the_photographs_size_and_negatives_are_unknown(
    network: Callable[..., DepthModel],
) -> None:
    photograph = np.full((48, 64, 3), 255, np.uint8)
    photograph[:, :32] = 51
    depth = network("shifted", "{output: depth, scale: 4, size: [32, 48]}")(photograph, "x")
    assert depth.shape == (48, 64)
    assert (depth[:, :32] == 0).all()  # 0.2 / 2 - 0.25
    assert depth[:, 32:] == pytest.approx(1)  # 4 x (1 / 2 - 0.25)


def test_mean_and_std_are_taken_from_the_settings(network: Callable[..., DepthModel]) -> None:
    photograph = np.full((48, 64, 3), 255, np.uint8)
    depth = network("any", "{output: depth, mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]}")(photograph, "x")
    assert depth == pytest.approx(3)


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        (DepthSettings("depth"), (480, 640), (480, 640)),
        (DepthSettings("depth"), (3000, 4000), (768, 1024)),
        (DepthSettings("depth", multiple=14), (480, 640), (476, 644)),
        (DepthSettings("depth", multiple=32, longest=100), (10, 1000), (32, 96)),
        (DepthSettings("depth", size=(384, 512), multiple=14), (480, 640), (384, 512)),
    ],
)
def test_the_size_the_network_sees(settings: DepthSettings, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert settings.input_size(*size) == expected


def test_a_network_of_one_size_is_shown_that_size(network: Callable[..., DepthModel]) -> None:
    assert network("shifted", "{output: depth, size: [32, 48]}")(PHOTOGRAPH, "x").shape == (48, 64)
    with pytest.raises(InputError, match=r"model\.pt2: cannot be used: a picture of noise: expected one finite"):
        network("shifted").check()


@pytest.mark.parametrize(("kind", "found"), [("nan", "not finite"), ("two", "outputs of shapes")])
def test_what_is_no_finite_map_is_a_reject_of_that_photograph(
    network: Callable[..., DepthModel], kind: str, found: str
) -> None:
    model = network(kind, "{output: depth, size: [32, 48]}")
    with pytest.raises(SourceError, match=found) as caught:
        model(PHOTOGRAPH, "a/photograph.jpg")
    assert caught.value.reason == "no-network-depth"
    assert str(caught.value).startswith("a/photograph.jpg: ")
    with pytest.raises(InputError, match=found):
        model.check()


def test_the_hash_covers_the_network_its_tensors_elsewhere_and_its_settings(
    network: Callable[..., DepthModel], tmp_path: Path
) -> None:
    first = network("any").sha256
    assert len(first) == 64
    assert network("any").sha256 == first
    assert network("any", "output: disparity").sha256 != first
    assert network("shifted").sha256 != first
    path = tmp_path / "large.onnx"
    onnx_network(path, save_as_external_data=True, location="large.onnx.data", size_threshold=0)
    path.with_suffix(".yaml").write_text("output: depth")
    model = DepthModel(path)
    model.check()
    before = model.sha256
    (tmp_path / "large.onnx.data").write_bytes(bytes(12))
    assert DepthModel(path).sha256 != before


def test_an_onnx_file_may_not_take_tensors_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx_network(path, save_as_external_data=True, location="secret.bin", size_threshold=0)
    path.with_suffix(".yaml").write_text("output: depth")
    with pytest.raises(InputError, match=r"all tensors in it or model\.onnx\.data.*secret\.bin"):
        DepthModel(path).check()


def test_a_model_goes_to_another_process_without_what_it_has_loaded(network: Callable[..., DepthModel]) -> None:
    model = network()
    model.check()
    sent = pickle.dumps(model)
    assert len(sent) < 500
    assert np.array_equal(pickle.loads(sent)(PHOTOGRAPH, "x"), model(PHOTOGRAPH, "x"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", "found None"),
        ("scale: 2", "found no output"),
        ("output: nearness", "output: 'nearness'"),
        ("{output: depth, mean: 0.5}", "mean: 0.5"),
        ("{output: depth, std: [1, 0, 1]}", "std"),
        ("{output: depth, size: [384]}", "size"),
        ("{output: depth, multiple: 1.5}", "multiple: 1.5"),
        ("{output: depth, scale: .nan}", "scale: nan"),
        ("{output: depth, device: cuda}", "the unknown key 'device'"),
        ("{output: [depth]}", "output"),
        ("output: !!python/object/apply:os.abort []", "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, settings: str, words: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(settings)
    with pytest.raises(InputError) as caught:
        read_settings(path)
    assert words in str(caught.value)
    assert "output: depth or output: disparity" in str(caught.value)


def test_a_missing_model_missing_settings_and_strange_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        DepthModel(tmp_path / "model.pt2")
    for suffix in (".pt", ".pth", ".pkl", ".ts"):
        (tmp_path / f"model{suffix}").write_bytes(b"x")
        with pytest.raises(InputError, match="the suffix"):
            DepthModel(tmp_path / f"model{suffix}")
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"model\.yaml.*no such file"):
        DepthModel(tmp_path / "model.onnx")
    (tmp_path / "model.yaml").write_text("output: depth")
    with pytest.raises(InputError, match="cannot be loaded"):
        DepthModel(tmp_path / "model.onnx").check()


class Bomb:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.path),)

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def altered(data: bytes, change: Callable[[str, bytes], bytes], *more: tuple[str, bytes]) -> bytes:
    """The archive with `change(member, its bytes)` of every member, and more members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        for member, content in more:
            new.writestr(f"{root}/{member}", content)
    return buffer.getvalue()


def same(member: str, content: bytes) -> bytes:
    return content


def replacing(wanted: str, old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(member: str, content: bytes) -> bytes:
        if member != wanted:
            return content
        text = json.dumps(json.loads(content))
        assert old in text
        return text.replace(old, new).encode()

    return change


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CALL = "__import__('pathlib').Path('{mark}').touch()"
ATTACKS: dict[str, tuple[Callable[[str, bytes], bytes], tuple[tuple[str, bytes], ...], str]] = {
    "an operation of torch's modules": (
        replacing(PROGRAM, "torch.ops.aten.conv2d.default", "torch.os.system"), (), "torch.os.system",
    ),
    "an operation that opens files": (
        replacing(PROGRAM, "torch.ops.aten.conv2d.default", "torch.ops.aten.from_file.default"), (), "from_file",
    ),
    "an operation on callables": (
        replacing(PROGRAM, "torch.ops.aten.conv2d.default", "_operator.methodcaller"), (), "methodcaller",
    ),
    "a size that is Python": (replacing(PROGRAM, "Symbol('s", f"{CALL} or Symbol('s"), (), "the size"),
    "a size with attributes": (replacing(PROGRAM, "Symbol('s", "Symbol.mro or Symbol('s"), (), "the size"),
    "a pickled weight": (replacing(WEIGHTS, '"use_pickle": false', '"use_pickle": true'), (), "names a pickle"),
    "a custom object": (same, (("data/constants/custom_obj_0", b"x"),), "custom_obj_0"),
    "a pickled object": (same, (("data/constants/opaque_obj_0", b"x"),), "opaque_obj_0"),
    "weights of the old form": (same, (("data/weights/model.pt", b"x"),), "weights/model.pt"),
    "a compiled library": (same, (("data/aotinductor/model/x.so", b"x"),), "aotinductor"),
    "a member twice": (same, ((PROGRAM, b"{}"),), "two members"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_program_that_could_run_more_than_tensor_operations_is_refused(
    tmp_path: Path, exported: dict[str, bytes], attack: str
) -> None:
    change, more, words = ATTACKS[attack]
    (tmp_path / "model.yaml").write_text("output: depth")
    path, mark = tmp_path / "model.pt2", tmp_path / "mark"

    def marked(member: str, content: bytes) -> bytes:
        return change(member, content).replace(b"{mark}", str(mark).encode())

    path.write_bytes(altered(exported["any"], marked, *more))
    with pytest.raises(InputError) as caught:
        DepthModel(path).check()
    assert words in str(caught.value)
    assert not mark.exists()


def test_pickled_sample_inputs_are_never_read(tmp_path: Path, exported: dict[str, bytes]) -> None:
    mark = tmp_path / "mark"
    samples = pickle.dumps(Bomb(mark))

    def change(member: str, content: bytes) -> bytes:
        return samples if member == "data/sample_inputs/model.pt" else content

    (tmp_path / "model.yaml").write_text("output: depth")
    (tmp_path / "model.pt2").write_bytes(altered(exported["any"], change))
    DepthModel(tmp_path / "model.pt2").check()
    assert not mark.exists()


def test_a_damaged_program_is_refused(tmp_path: Path, exported: dict[str, bytes]) -> None:
    (tmp_path / "model.yaml").write_text("output: depth")
    for data in (b"", b"PK\3\4", exported["any"][:-500], b"\x80\x04."):
        (tmp_path / "model.pt2").write_bytes(data)
        with pytest.raises(InputError, match=r"model\.pt2.*cannot be loaded"):
            DepthModel(tmp_path / "model.pt2").check()
