"""`zeuxis compile`: every network of a folder compiled ahead of time, each compared with itself and timed beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import nn

from ..storage.errors import InputError, sentence
from ..storage.outputs import keep_banks
from ..storage.reader import Reader
from ..synth.checkpoint import SUFFIX, Card, load_card, load_checkpoint
from ..synth.compile import Precision
from ..synth.compile import compile as compiled
from ..synth.compiling import onnx
from ..synth.compiling.buckets import Verdict, shapes_of
from ..synth.compiling.packages import Store, device_name
from ..synth.compiling.parity import Inputs, side_by_side
from ..synth.presets import MULTIPLE
from .examples import Example, Recorded, made_example
from .models import KINDS, OF_ONE_SIZE, OTHERS, built, device_of, ready
from .progress import Progress, silent

if TYPE_CHECKING:
    from rich.table import Table

Backend = Literal["auto", "tensorrt", "inductor", "eager", "onnx"]
FOLDER = "compiled"
"""In the folder of models, where `out` names no other."""
BATCHES = {"cpu": (1,), "cuda": (1, 8)}
"""By the device's type: as many pictures as are painted at once."""
SEVERAL = {"cpu": (1, 8), "cuda": (1, 8, 32)}
"""Of networks that are given as many segments, or pairs, as a layout has."""
LARGEST_SIDE, LARGEST_BATCH = 8192, 1024


@dataclass(frozen=True)
class CompileReport:
    """What was compiled.

    Attributes:
        folder: that holds it.
        verdicts: name of the network, and what came of it, one a batch size.
        left_out: a sentence for each network that is passed over.
    """

    folder: Path
    verdicts: tuple[tuple[str, Verdict], ...]
    left_out: tuple[str, ...] = ()

    def render(self) -> Table:
        """The report for a terminal, as a rich renderable."""
        from rich.table import Table

        heads = ("network", "size", "batch", "backend", "random", "real", "example", "eager ms", "ms", "ratio", "why")
        table = Table(*heads, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name, each in self.verdicts:
            size = "x".join(map(str, each.shapes[0][-2:]))
            drifts = ("-", "-") if each.parity is None else (f"{each.parity.random:.1e}", f"{each.parity.real:.1e}")
            times = f"{each.eager_ms:.1f}", f"{each.compiled_ms:.1f}", f"{each.ratio:.2f}"
            table.add_row(name, size, str(each.batch), str(each), *drifts, each.example, *times, each.why)
        return table


class _Network(NamedTuple):
    """A network of the folder, its card, and the size it is compiled for."""

    name: str
    card: Card
    path: Path
    size: tuple[int, int]

    def load(self, device: torch.device) -> nn.Module:
        kind = self.card.network
        return ready(built(kind, *load_checkpoint(self.path, kind), self.path), kind, device)


def compile(
    models: str | Path,
    shape: tuple[int, int] | None = None,
    batch: Sequence[int] = (),
    *,
    backend: Backend = "auto",
    precision: Precision = "auto",
    out: str | Path | None = None,
    bank: str | Path | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> CompileReport:
    """Compiles every network of a folder ahead of time; what was compiled before is kept, so that a run can go on.

    Args:
        models: the folder.
        shape: `(rows, cols)` of the pictures; default the size that each network was trained at, and paints at.
        batch: pictures at once; default as painting does. Other numbers are cut, or padded to the next.
        backend: `auto` takes TensorRT, else Inductor, else leaves a network as it is; `onnx` writes ONNX files.
        precision: `auto` is float16 on a GPU and float32 on a CPU.
        out: the folder of packages, `MODELS/compiled` by default, `MODELS/onnx` for ONNX files.
        bank: whose layouts are painted for real input; without one it is made up.
        device: default a CUDA device where there is one.
        progress: told of every network.

    Raises:
        InputError: before anything is written: no networks, one that is damaged, arguments that cannot be, a folder
            that others could write. Later: a backend that was named fails or drifts; what is done by then is kept.
    """
    on = _device(device)
    _check(shape, batch, backend, precision)
    folder = _folder(models)
    networks, left_out = _networks(folder, shape)
    recorded = Recorded(folder, Reader(bank)) if bank is not None else None
    into = Path(out) if out is not None else folder / ("onnx" if backend == "onnx" else FOLDER)
    keep_banks(into)
    work = [(each, size) for each in networks for size in batch or (SEVERAL if _several(each) else BATCHES)[on.type]]
    if backend == "onnx":
        onnx.check_onnx()
        _make_folder(into)
        verdicts = [_written(*each, recorded, into) for each in _counted(work, progress)]
        return CompileReport(into, tuple(verdicts), left_out)
    store = Store(into, make=True)
    found: list[tuple[str, Verdict]] = []
    with store.writing():
        for each, size in _counted(work, progress):
            example = _example(each, recorded)
            made = compiled(
                each.load(on), tuple(some.to(on) for some in example.inputs), backend, precision=precision,
                batches=(size,), store=store, name=each.name, about=example.about,
            )  # fmt: skip
            found += [(each.name, verdict) for verdict in made.verdicts]
    return CompileReport(into, tuple(found), left_out)


def _counted(work: Sequence[tuple[_Network, int]], progress: Progress) -> Iterator[tuple[_Network, int]]:
    for done, (network, batch) in enumerate(work):
        progress(done, len(work), f"{network.name}, batch {batch}")
        yield network, batch
    progress(len(work), len(work))


def _written(network: _Network, batch: int, recorded: Recorded | None, into: Path) -> tuple[str, Verdict]:
    """One ONNX file, beside the eager network on the CPU."""
    held, example = network.load(torch.device("cpu")), _example(network, recorded)
    inputs: Inputs = tuple(torch.cat([each] * -(-batch // len(each)))[:batch] for each in example.inputs)
    rows, cols = network.size
    path = into / f"{network.name}-{rows}x{cols}-b{batch}{onnx.SUFFIX}"
    parity = onnx.export_onnx(held, inputs, path)
    eager, ms = side_by_side([held, onnx.onnx_call(path.read_bytes())], inputs)
    place = shapes_of(inputs), device_name(torch.device("cpu"))
    return network.name, Verdict("onnx", "float32", batch, *place, parity, eager, ms, path.name, example.about)


def _example(network: _Network, recorded: Recorded | None) -> Example:
    """Recorded inputs where there are any, else made-up ones."""
    kind, n_classes = network.card.network, len(network.card.classes)
    found = recorded.example(kind, network.card, network.size) if recorded else None
    found = found or made_example(kind, n_classes, network.size, network.card.config)
    assert found is not None  # _networks passes over kinds without
    return found


def _networks(folder: Path, shape: tuple[int, int] | None) -> tuple[list[_Network], tuple[str, ...]]:
    """The networks that can be compiled, each loaded once to see that it is whole, and what is said of others."""
    found, left_out = [], []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        card = load_card(path)
        size = card.size if shape is None or card.network in OF_ONE_SIZE else shape
        if card.network not in KINDS | OTHERS:
            left_out.append(sentence(path, f"a {card.network} network is not compiled"))
            continue
        each = _Network(path.stem, card, path, size)
        each.load(torch.device("cpu"))
        found.append(each)
    if not found:
        fix = "train them first: `zeuxis train all`"
        raise InputError(sentence(folder, expected="trained networks", found="none that can be compiled", fix=fix))
    return found, tuple(left_out)


def _several(network: _Network) -> bool:
    return network.card.network in ("transform", "ordering")


def _folder(models: str | Path) -> Path:
    folder = Path(os.path.expanduser(models))
    if not folder.is_dir():
        fix = "train them first: `zeuxis train all`"
        raise InputError(sentence(folder, expected="a folder of trained networks", found="none", fix=fix))
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(sentence(folder, f"cannot be made ({error.strerror})", fix="choose another place")) from error


def _device(device: str | None) -> torch.device:
    """A device that is there, and that networks are compiled for."""
    found = device_of(device)
    if found.type not in BATCHES:
        raise InputError(sentence("--device", expected="cpu or cuda", found=repr(device)))
    return (
        found if found.type == "cpu" or found.index is not None else torch.device("cuda", torch.cuda.current_device())
    )


def _check(shape: tuple[int, int] | None, batch: Sequence[int], backend: str, precision: str) -> None:
    for what, value, known in (("--backend", backend, Backend), ("--precision", precision, Precision)):
        if value not in get_args(known):
            raise InputError(sentence(what, expected=f"one of {', '.join(get_args(known))}", found=repr(value)))
    if shape is not None and any(side % MULTIPLE or not MULTIPLE <= side <= LARGEST_SIDE for side in shape):
        expected = f"multiples of {MULTIPLE} from {MULTIPLE} to {LARGEST_SIDE:,}"
        raise InputError(sentence("--shape", expected=expected, found="x".join(map(str, shape))))
    if any(type(each) is not int or not 1 <= each <= LARGEST_BATCH for each in batch):
        found = ", ".join(map(str, batch))
        raise InputError(sentence("--batch", expected=f"whole numbers from 1 to {LARGEST_BATCH:,}", found=found))
    if backend == "onnx" and precision not in ("auto", "float32"):
        raise InputError(sentence("--precision", expected="float32 with --backend onnx", found=precision))
