"""Compiled networks: what is taken and why, parity, buckets, packages that nobody else can slip in, ONNX."""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.synth.test_networks import CASES, SIZE, awake, made
from zeuxis.storage.errors import InputError
from zeuxis.synth import compile as compiling
from zeuxis.synth.compile import compile
from zeuxis.synth.compiling import backends, onnx
from zeuxis.synth.compiling.backends import BACKENDS, Backend
from zeuxis.synth.compiling.buckets import Compiled, plan
from zeuxis.synth.compiling.native import Native
from zeuxis.synth.compiling.packages import Store, code_hash, place_of, weights_hash
from zeuxis.synth.compiling.parity import TOLERANCE, drift, random_like, side_by_side


class Small(nn.Module):
    """Two outputs, one of which may be none, of two inputs."""

    def __init__(self, second: bool = True) -> None:
        super().__init__()
        self.layer, self.norm, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(1, 8), second

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        made = nn.functional.leaky_relu(self.norm(self.layer(torch.cat([image, mask], 1))), 0.2)
        return made, made.mean((2, 3)) if self.second else None

    def other(self) -> str:
        return "of the network"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval().requires_grad_(False)


def inputs(n: int, size: tuple[int, int] = (8, 12)) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.rand(n, 2, *size), (torch.rand(n, 1, *size) > 0.5).float()


class Fake:
    """A compiler whose packages name a network that it keeps; `twist` changes what it answers."""

    def __init__(self, twist: Callable[[Any], Any] | None = None, missing: str = "") -> None:
        self.twist, self.missing, self.seen = twist, missing, list[int]()
        self.kept: dict[bytes, tuple[nn.Module, int]] = {}

    def backend(self) -> Backend:
        return Backend(lambda device: self.missing, self.build, self.load)

    def build(self, network: nn.Module, given: tuple[Tensor, ...]) -> bytes:
        package = f"package {len(self.kept)}".encode()
        self.kept[package] = network, len(given[0])
        return package

    def load(self, package: bytes, device: torch.device) -> Callable[..., Any]:
        network, size = self.kept[package]

        def run(*given: Tensor) -> Any:
            assert {len(each) for each in given} == {size}, "shapes are static"
            assert all(each.is_contiguous() for each in given), "so is how they lie"
            self.seen.append(size)
            answer = network(*given)
            return self.twist(answer) if self.twist else answer

        return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fake]:
    """A fake Inductor, and how many times as fast as eager it seems, by batch size or for all."""

    def set_up(twist: Any = None, ratio: Any = 2.0, **options: Any) -> Fake:
        made = Fake(twist, **options)
        monkeypatch.setitem(BACKENDS, "inductor", made.backend())

        def timed(calls: Any, given: Any) -> list[float]:
            times = ratio[len(given[0])] if isinstance(ratio, dict) else ratio
            return [len(given[0]) * 1.0, len(given[0]) / times][: len(calls)]

        monkeypatch.setattr(compiling, "side_by_side", timed)
        return made

    return set_up


def same(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("second", [True, False])
def test_a_batch_is_padded_to_buckets_and_cut_again(fake, n, second):
    compiler = fake()
    network = Small(second).eval()
    found = compile(network, inputs(2), batches=(1, 4))
    compiler.seen.clear()
    with torch.no_grad():
        same(found(*inputs(n)), network(*inputs(n)))
    assert found.backend == "inductor float32"
    assert sum(compiler.seen) == n  # equal cost an item: nothing is wasted


def test_a_bucket_that_is_dear_is_filled_rather_than_the_small_one_called_often():
    assert plan(3, ((1, 2.0), (4, 3.0))) == (4,)
    assert plan(9, ((1, 2.0), (4, 3.0))) == (4, 4, 1)


def test_the_plan_is_the_cheapest_there_is():
    costs = ((1, 1.0), (3, 2.2), (8, 5.0))
    for n in range(1, 20):
        sets = (
            c for k in range(1, n + 1) for c in itertools.combinations_with_replacement((1, 3, 8), k) if sum(c) >= n
        )
        best = min(sum(dict(costs)[size] for size in each) for each in sets) if n < 9 else None
        found = plan(n, costs)
        assert sum(found) >= n
        assert sum(found[:-1]) < n
        if best is not None:
            assert sum(dict(costs)[size] for size in found) == pytest.approx(best)


def test_other_shapes_types_and_what_else_it_has_go_to_the_network(fake, network):
    compiler = fake()
    found = compile(network, inputs(2), batches=(1,))
    compiler.seen.clear()
    same(found(*inputs(2, (16, 16))), network(*inputs(2, (16, 16))))
    assert not compiler.seen
    assert found.other() == "of the network"
    with pytest.raises(AttributeError):
        _ = found.nothing
    double = tuple(each.double() for each in inputs(1))
    network.double()
    same(found(*double), network(*double))
    assert not compiler.seen


@pytest.mark.parametrize(
    "twist", [lambda made: (made[0] * 1.01, made[1]), lambda made: (made[0] * math.nan, made[1]), lambda made: made[:1]]
)
def test_what_drifts_is_refused_when_named_and_passed_over_by_auto(fake, network, twist):
    fake(twist)
    with pytest.raises(InputError, match=r"inductor float32: drifts by .* of the largest output"):
        compile(network, inputs(2), "inductor")
    found = compile(network, inputs(2))
    assert found.backend == "eager"
    assert "drifts" in found.verdicts[0].why
    same(found(*inputs(2)), network(*inputs(2)))


def test_what_is_slower_than_eager_is_left_as_it_is_even_when_named(fake, network):
    fake(ratio={1: 0.9, 4: 1.5})
    for backend in ("auto", "inductor"):
        found = compile(network, inputs(2), backend, batches=(1, 4))
        assert [str(each) for each in found.verdicts] == ["eager", "inductor float32"]
        assert found.verdicts[0].ratio == 1
        assert "no faster than eager (0.90 times)" in found.verdicts[0].why
        same(found(*inputs(5)), network(*inputs(5)))


def test_a_compiler_that_is_not_here_or_fails_is_said(fake, network):
    fake(missing="there is no C++ compiler g++")
    assert "no C++ compiler" in compile(network, inputs(1)).verdicts[0].why
    with pytest.raises(InputError, match="no C\\+\\+ compiler"):
        compile(network, inputs(1), "inductor")
    with pytest.raises(InputError, match="it needs a CUDA device"):
        compile(network, inputs(1), "tensorrt")

    def broken(made: Any) -> Any:
        raise RuntimeError("a compiler's\nlong trace")

    fake(broken)
    with pytest.raises(InputError, match="failed \\(a compiler's long trace\\)"):
        compile(network, inputs(1), "inductor")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_casts_network_and_inputs_and_says_its_drift(fake, network, precision):
    compiler = fake()
    found = compile(network, inputs(3), "inductor", precision=precision)
    (verdict,) = found.verdicts
    assert str(verdict) == f"inductor {precision}"
    assert {each.dtype for each in compiler.kept[b"package 0"][0].parameters()} == {getattr(torch, precision)}
    assert 1e-5 < verdict.parity.real < TOLERANCE[precision]
    assert found(*inputs(3))[0].dtype == torch.float32
    assert network.layer.weight.dtype == torch.float32


def test_a_compiler_that_does_not_keep_to_the_precision_is_refused(fake, network):
    fake(lambda made: tuple(each.float() for each in made))
    with pytest.raises(InputError, match=r"computed in torch.float32 instead of torch.float16"):
        compile(network, inputs(1), "inductor", precision="float16")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backend": "xla"}, "one of auto, tensorrt, inductor, eager"),
        ({"precision": "int8"}, "one of auto, float32"),
        ({"batches": (0,)}, "whole numbers of at least 1"),
        ({"example": ()}, "found nothing"),
        ({"example": (torch.rand(2, 2, 8, 8), torch.rand(1, 1, 8, 8))}, "of one batch size"),
        ({"example": (torch.zeros(0, 2, 8, 8),)}, "of one batch size"),
        ({"example": (torch.zeros(1, 2, 8, 8, dtype=torch.int64),)}, "float32"),
    ],
)
def test_arguments_that_cannot_be_are_refused(network, given, words):
    with pytest.raises(InputError, match=words):
        compile(network, **({"example": inputs(1)} | given))


def test_a_network_in_training_is_refused(network):
    with pytest.raises(InputError, match="evaluation mode"):
        compile(network.train(), inputs(1))


def test_drift_is_the_largest_difference_over_the_largest_value():
    one = torch.tensor([1.0, -4.0])
    assert drift((one, None), (one, None)) == 0
    assert drift({"a": one + torch.tensor([0.4, 0.0])}, {"a": one}) == pytest.approx(0.1)
    assert drift([one, one * 2], [one, one]) == pytest.approx(1.0)
    assert drift(one, torch.zeros(2)) == pytest.approx(4 / 1e-3)
    for found in (one[:1], (one,), None, one * math.inf):
        assert drift(found, one) == math.inf


def test_random_input_has_the_range_of_the_real_one():
    (noise,) = random_like((torch.tensor([[-1.0, 3.0]] * 500),))
    assert noise.min() >= -1
    assert noise.max() <= 3
    assert noise.std() > 1


def test_calls_are_timed_in_turn():
    order: list[int] = []
    times = side_by_side([lambda *_: order.append(0), lambda *_: order.append(1)], inputs(1), seconds=0)
    assert order[2:] == [0, 1] * (len(order) // 2 - 1)
    assert len(times) == 2
    assert min(times) > 0


# packages on the disk


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "compiled", make=True)


def test_a_package_is_found_again_and_made_once(fake, network, store):
    compiler = fake()
    before = compile(network, inputs(2), batches=(1, 4), store=store, name="small")
    again = compile(network, inputs(2), batches=(1, 4), store=store, name="small")
    assert len(compiler.kept) == 2
    assert again.verdicts == before.verdicts
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    loaded, said = store.load(network)
    assert not said
    assert loaded.verdicts == before.verdicts
    same(loaded(*inputs(4)), network(*inputs(4)))
    compile(network, inputs(2), batches=(1,), precision="bfloat16", store=store, name="small")
    assert len(compiler.kept) == 3  # another wish


def test_a_package_serves_its_own_weights_device_and_versions_alone(fake, network, store, monkeypatch):
    fake()
    compile(network, inputs(1), store=store)
    assert store.load(network)[0].buckets
    monkeypatch.setattr("zeuxis.synth.compiling.packages._versions", lambda: {"torch": "0.1"})
    assert not store.load(network)[0].buckets
    monkeypatch.undo()
    with torch.no_grad():
        network.layer.bias[0] += 1e-7
    assert not store.load(network)[0].buckets


def test_weights_are_hashed_by_value(network):
    first = weights_hash(network)
    assert weights_hash(network.to(memory_format=torch.channels_last)) == first
    with torch.no_grad():
        network.norm.weight[3] += 1e-6
    assert weights_hash(network) != first


def test_the_code_of_a_network_is_hashed_with_what_it_imports(monkeypatch):
    network, read = made("synthesis"), set[str]()
    before, real = code_hash(network), Path.read_bytes

    def noted(path: Path) -> bytes:
        read.add(path.name)
        return real(path) + (b"# changed" if path.name == "refinement.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", noted)
    assert code_hash(network) != before
    assert {"synthesis.py", "trunk.py", "layers.py", "refinement.py"} <= read
    assert not read & {"judge.py", "fitting.py", "elision.py"}


def package_of(store: Store) -> Path:
    (path,) = store.folder.glob("*.pt2")
    return path


@pytest.mark.parametrize("harm", ["altered", "truncated", "missing", "linked", "writable", "another's"])
def test_a_package_that_is_not_the_one_its_card_names_is_never_loaded(fake, network, store, tmp_path, harm):
    compiler = fake()
    compile(network, inputs(1), store=store)
    path, loads = package_of(store), []
    compiler.load = lambda *given: loads.append(given)
    BACKENDS["inductor"] = compiler.backend()
    data = path.read_bytes()
    if harm == "altered":
        path.write_bytes(b"P" + data[1:])
    elif harm == "truncated":
        path.write_bytes(data[:-1])
    elif harm == "writable":
        path.chmod(0o646)
    elif harm == "another's":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(path, 12345, 12345)
    else:
        path.unlink()
    if harm == "linked":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    found, (said,) = store.load(network)
    assert not loads
    assert not found.buckets
    assert "is not the package that its card names; compile it again" in said
    same(found(*inputs(1)), network(*inputs(1)))
    assert store.find("network", place_of(network, ((2, 8, 12), (1, 8, 12)), 1), ("auto", "auto")) is None


def test_a_damaged_package_is_compiled_again(fake, network, store):
    compiler = fake()
    compile(network, inputs(1), store=store)
    package_of(store).write_bytes(b"")
    compile(network, inputs(1), store=store)
    assert len(compiler.kept) == 2
    assert store.load(network)[1] == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda row: [],
        lambda row: row | {"format": 2},
        lambda row: row | {"file": "../x.pt2"},
        lambda row: row | {"file": "/etc/passwd"},
        lambda row: row | {"verdict": None},
        lambda row: row | {"verdict": row["verdict"] | {"batch": -1}},
        lambda row: row | {"verdict": row["verdict"] | {"backend": "pickle"}},
        lambda row: row | {"verdict": row["verdict"] | {"compiled_ms": 0}},
        lambda row: row | {"verdict": row["verdict"] | {"shapes": 3}},
        lambda row: {key: value for key, value in row.items() if key != "place"},
    ],
)
def test_what_is_no_card_is_passed_over(fake, network, store, change):
    fake()
    compile(network, inputs(1), store=store)
    (card,) = store.folder.glob("*.json")
    card.write_text(json.dumps(change(json.loads(card.read_text()))))
    assert store.cards() == []
    card.write_text("[" * 100_000)
    assert store.cards() == []
    assert not store.load(network)[0].buckets


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707, 0o701])
def test_a_folder_that_others_may_enter_is_refused(tmp_path, mode):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(InputError, match=f"you alone may enter, found mode {mode:o}; chmod 700"):
        Store(tmp_path / "open")


def test_a_link_a_file_nothing_and_another_users_folder_are_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(InputError, match="expected a folder, found a file or a link"):
            Store(tmp_path / name, make=True)
    with pytest.raises(InputError, match="found none; compile them first"):
        Store(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be made"):
        Store(tmp_path / "no" / "parent", make=True)
    if os.geteuid() == 0:
        os.chown(tmp_path / "real", 12345, 12345)
        with pytest.raises(InputError, match="another user's"):
            Store(tmp_path / "real")


def test_what_a_killed_run_left_goes_and_nothing_else_does(fake, network, store):
    fake()
    compile(network, inputs(1), store=store)
    package = package_of(store)
    left = [f".{package.name}.0123abcd", package.name.replace(package.name[-20:-4], "0" * 16)]
    own = ["notes.txt", "model.pt2", ".hidden"]
    for name in left + own:
        (store.folder / name).touch()
    with store.writing():
        pass
    names = {path.name for path in store.folder.iterdir()}
    assert not names & set(left)
    assert names >= {*own, package.name}
    assert len(store.cards()) == 1


def test_one_process_at_a_time_writes(store):
    with store.writing(), pytest.raises(InputError, match="another process is compiling into it"), store.writing():
        pass
    with store.writing():
        pass


def test_a_full_disk_leaves_what_was_there(fake, network, store, monkeypatch):
    fake()
    compile(network, inputs(1), store=store)
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        compile(network, inputs(1), batches=(3,), store=store)
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


def test_a_package_that_cannot_be_loaded_is_compiled_again(fake, network, store):
    compiler = fake()
    compile(network, inputs(1), store=store)
    first, refused = compiler.load, set(compiler.kept)

    def load(package: bytes, device: torch.device) -> Any:
        if package in refused:
            raise OSError("cannot open shared object file")
        return first(package, device)

    compiler.load = load
    BACKENDS["inductor"] = compiler.backend()
    assert compile(network, inputs(1), store=store).backend == "inductor float32"
    assert len(compiler.kept) == 2
    refused.update(compiler.kept)
    compiler.missing = "there is no C++ compiler g++"
    found = compile(network, inputs(1), store=store)
    assert found.backend == "eager"
    assert "no C++ compiler" in found.verdicts[0].why


# the real compilers


def foreseen_files():
    """Those in the folders of Inductor's default cache, whose names anybody can foresee."""
    return {path for path in Path(tempfile.gettempdir()).glob("torchinductor_*/**/*") if path.is_file()}


def test_inductor_packages_answer_as_the_network_does(network, store, monkeypatch):
    monkeypatch.setattr(compiling, "side_by_side", lambda calls, given: [2.0, 1.0][: len(calls)])  # keep it anyway
    before = foreseen_files()
    found = compile(network, inputs(2), "inductor", store=store)
    (verdict,) = found.verdicts
    assert verdict.parity.worst < 1e-5
    assert foreseen_files() == before
    scratch = Path(backends._scratch().name)
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert list(scratch.rglob("*.cpp"))
    monkeypatch.setenv("CXX", "no-such-compiler")  # which is for building alone
    assert backends._inductor_missing(torch.device("cpu"))
    loaded, said = store.load(network)
    assert not said
    assert compile(network, inputs(2), "inductor", store=store).verdicts == found.verdicts
    with torch.inference_mode():
        for n in (1, 2, 3):
            same(loaded(*inputs(n)), network(*inputs(n)))
        lying = tuple(each.flip(-1).movedim(-1, -2).contiguous().movedim(-1, -2).flip(-1) for each in inputs(2))
        assert not any(each.is_contiguous() for each in lying)
        same(loaded(*lying), network(*inputs(2)))
    call = loaded.buckets[verdict.shapes][2].call
    assert type(call) is Native
    all_answer_at_once(call, inputs(2), network)
    with torch.inference_mode():
        answer, released = call(*inputs(2)), call.released
    assert released.alive
    del call, loaded, found
    gc.collect()
    assert not released.alive
    same(answer, network(*inputs(2)))


def all_answer_at_once(call: Callable[..., Any], given: tuple[Tensor, ...], network: nn.Module) -> None:
    """Threads call a package beside each other, each for its own answer."""

    def ask(scale: float) -> tuple[Any, Any]:
        with torch.inference_mode():
            own = tuple(each * scale for each in given)
            return [call(*own) for _ in range(20)], network(*own)

    with ThreadPoolExecutor(3) as pool:
        for found, wanted in pool.map(ask, (1.0, 0.5, 0.25)):
            for each in found:
                same(each, wanted)


def exported_and_run(name: str, path: Path) -> float:
    torch.manual_seed(0)
    network, given = awake(made(name)), CASES[name].inputs(2, SIZE)
    parity = onnx.export_onnx(network, given, path)
    with torch.no_grad():
        found, wanted = onnx.onnx_call(path.read_bytes())(*given), onnx.flat(network(*given))
    assert [each.shape for each in found] == [each.shape for each in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-3 * b.abs().max()
    return parity.worst


def test_a_network_runs_as_onnx(tmp_path):
    path = tmp_path / "network.onnx"
    assert exported_and_run("transformation", path) < 1e-4
    graph = pytest.importorskip("onnx").load(path).graph
    assert [each.name for each in graph.input] == ["segment", "target_mask", "layout"]
    assert [each.name for each in graph.output] == ["output"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "transformation"])
def test_every_network_runs_as_onnx(tmp_path, name):
    assert exported_and_run(name, tmp_path / "network.onnx") < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_every_network_is_compiled_by_inductor(name):
    torch.manual_seed(0)
    network, given = awake(made(name)).requires_grad_(False), CASES[name].inputs(2, SIZE)
    found = compile(network, given, "inductor")
    with torch.inference_mode():
        assert drift(found(*given), network(*given)) < TOLERANCE["float32"]


def test_a_network_that_is_exported_stays_as_it_was(network, tmp_path, monkeypatch):
    seen: list[nn.Module] = []

    def exported(held: nn.Module, given: Any) -> bytes:
        seen.append(held)
        return b"an ONNX file"

    monkeypatch.setattr(onnx, "onnx_call", lambda data: seen[-1])
    monkeypatch.setattr(onnx, "_exported", exported)
    network.train()
    onnx.export_onnx(network, inputs(1), tmp_path / "a.onnx")
    assert network.training
    assert not seen[0].training
    assert seen[0].layer.weight.data_ptr() != network.layer.weight.data_ptr()


def test_onnx_that_drifts_is_not_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "onnx_call", lambda data: lambda *given: tuple(2 * each for each in network(*given)))
    monkeypatch.setattr(onnx, "_exported", lambda *_: b"an ONNX file")
    with pytest.raises(InputError, match=r"drifts, expected at most 0\.001"):
        onnx.export_onnx(network, inputs(1), tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"a name in \.onnx"):
        onnx.export_onnx(network, inputs(1), tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_half_precision_is_compiled_and_replayed(network):
    given = tuple(each.cuda() for each in inputs(4))
    found = compile(network.cuda(), given, batches=(1, 4))
    assert isinstance(found, Compiled)
    with torch.inference_mode():
        for n in (1, 3, 4, 6):
            some = tuple(torch.cat([each, each])[:n] for each in given)
            assert drift(found(*some), network(*some)) < TOLERANCE["float16"]
