"""A user's own generator as an exported program: read, checked, and freed of batch statistics where that is asked for.

A program is code: it is run as it is, and must come from somebody who is trusted.
"""

from __future__ import annotations

import logging
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ...storage.errors import InputError, sentence
from ..layers import is_finite
from .generator import Prior, draw

EXTRA = "prior"
"""Name of the extra file that says what latents are drawn from."""
TRIED = 16
"""Latents that a program is tried with at once, RANGED of them for the range of its colours."""
RANGED = 64
MOST = 64
"""Pictures that are asked for at once, at most, where the program sets no other bound."""
TOLERANCE = 1e-3
"""Difference of two pictures of the same latent, in [-1, 1], that rounding is given."""
_TRAINING = {  # operator to the position of its switch
    "batch_norm.default": 5,
    "native_batch_norm.default": 5,
    "cudnn_batch_norm.default": 5,
    "miopen_batch_norm.default": 5,
    "_batch_norm_impl_index.default": 5,
    "_native_batch_norm_legit.default": 5,
    "_native_batch_norm_legit_functional.default": 5,
}
_ALWAYS = ("_batch_norm_with_update.default", "_batch_norm_with_update_functional.default")
"""Operators that take moments of the batch whenever they run."""
EVAL = "export it in evaluation mode, or give --freeze"


class _Input(NamedTuple):
    """What a program takes: fewest and most latents at once, and how long one is."""

    fewest: int
    most: int
    latent: int


class ExportedGenerator(nn.Module):
    """A program that makes pictures of latents, in as many calls as it takes.

    Args:
        path: a file of `torch.export.save`: one input, `(N, Z)` float32, N of one number or of a range; one output,
            `(N, 3, R, R)` in [-1, 1].
        freeze: ties batch normalisation to its running moments; device: that it runs on.

    Attributes:
        latent, resolution: Z and R; prior: what its extra file `prior` says, else `normal`.
        frozen: how many batch normalisations were tied.

    Raises:
        InputError: it is no such program; a picture depends on the other latents of its batch, or on chance; no
            gradient reaches the latents; colours are out of range. The sentence says what to do.
    """

    def __init__(self, path: Path, *, freeze: bool = False, device: torch.device | None = None) -> None:
        super().__init__()
        self._path = path
        where = device or torch.device("cpu")
        program, self.prior = _loaded(path, where)
        self._input = _input(path, program)
        self.latent = self._input.latent
        self._program = program.module()
        self.frozen = _without_statistics(path, self._program, freeze)
        self.requires_grad_(False)
        self.resolution = self._checked(where)

    def forward(self, z: Tensor) -> Tensor:
        """`(N, Z)` latents, for any N, to `(N, 3, R, R)` pictures."""
        if not len(z):
            return z.new_zeros(0, 3, self.resolution, self.resolution)
        found: list[Tensor] = []
        for some in torch.split(z, self._input.most):
            short = max(0, self._input.fewest - len(some))
            filled = torch.cat([some, some[-1:].expand(short, -1)]) if short else some
            found.append(self._program(filled)[: len(some)])
        return torch.cat(found) if len(found) > 1 else found[0]

    def train(self, mode: bool = True) -> ExportedGenerator:
        """A program has no modes."""
        return self

    def _checked(self, device: torch.device) -> int:
        """The resolution, once the program has been tried; the checks that need it to run."""
        random = torch.Generator().manual_seed(0)
        z, others = (draw(self.prior, TRIED, random, self.latent).to(device) for _ in range(2))
        side = self._shape(z)
        with torch.no_grad():
            made = self(z)
            if not is_finite(made):
                raise InputError(sentence(self._path, "makes pictures that hold values that are no numbers"))
            if _apart(made, self(z)):
                fix = "export it in evaluation mode, with its noise as a constant"
                raise InputError(
                    sentence(self._path, expected="the same picture of the same latent", found="another", fix=fix)
                )
            if _apart(made[:1], self(torch.cat([z[:1], others[1:]]))[:1]):
                expected = "a picture that depends on its latent alone"
                found = "one that changes with the other latents of its batch"
                fix = "its batch statistics keep no running moments to freeze: take a generator without them"
                raise InputError(sentence(self._path, expected=expected, found=found, fix=fix))
            self._in_range(torch.cat([self(draw(self.prior, RANGED, random, self.latent).to(device)), made]))
        wanted = z[:2].clone().requires_grad_(True)
        made = self(wanted)
        slope = torch.autograd.grad(made.square().sum(), wanted)[0] if made.requires_grad else torch.zeros_like(wanted)
        if not is_finite(slope) or not slope.any():
            fix = "export it outside torch.no_grad, of layers that have a gradient"
            raise InputError(sentence(self._path, expected="a gradient that reaches the latent", found="none", fix=fix))
        return side

    def _shape(self, z: Tensor) -> int:
        """The side of the pictures."""
        expected = f"pictures ({len(z)}, 3, R, R) of float32"
        try:
            made = self(z)
        except Exception as error:  # whatever a program may do
            said = " ".join(str(error).split())[:200]
            raise InputError(sentence(self._path, f"fails on latents {tuple(z.shape)} ({said})")) from error
        if not isinstance(made, Tensor):
            raise InputError(sentence(self._path, expected=expected, found=f"a {type(made).__name__}"))
        square = made.ndim == 4 and made.shape[:2] == (len(z), 3) and made.shape[2] == made.shape[3]
        if not square or made.dtype != torch.float32:
            found = f"{tuple(made.shape)} of {str(made.dtype).removeprefix('torch.')}"
            raise InputError(sentence(self._path, expected=expected, found=found))
        return int(made.shape[2])

    def _in_range(self, made: Tensor) -> None:
        """Refuses another range than [-1, 1], and says which it looks like."""
        low, high = float(made.min()), float(made.max())
        if -1 - TOLERANCE <= low < 0 and high <= 1 + TOLERANCE:
            return
        if low >= 0 and high <= 1 + TOLERANCE:
            found, fix = "that of [0, 1]", "export one that returns 2 * x - 1"
        elif low >= 0 and high <= 255 * (1 + TOLERANCE):
            found, fix = "that of [0, 255]", "export one that returns x / 127.5 - 1"
        else:
            found, fix = "another", "export one that ends in tanh, or is scaled and clamped to [-1, 1]"
        found = f"{found}, from {low:.4g} to {high:.4g}"
        raise InputError(sentence(self._path, expected="colours in the range [-1, 1]", found=found, fix=fix))


def _loaded(path: Path, device: torch.device) -> tuple[Any, Prior]:
    """The program on the device, and what its latents are drawn from."""
    from torch.export.passes import move_to_device_pass

    _check_whole(path)
    extra: dict[str, Any] = {EXTRA: ""}
    said = logging.getLogger("torch.export")
    before, said.disabled = said.disabled, True  # it prints where a damaged file has failed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = move_to_device_pass(torch.export.load(str(path), extra_files=extra), str(device))
    except Exception as error:  # whatever is inside the file
        fix = "write one: torch.export.save(torch.export.export(generator.eval(), (z,)), FILE)"
        why = f"is no exported program ({' '.join(str(error).split())[:200]})"
        raise InputError(sentence(path, why, fix=fix)) from error
    finally:
        said.disabled = before
    prior = extra[EXTRA] or "normal"
    prior = (prior.decode(errors="replace") if isinstance(prior, bytes) else prior).strip()
    if prior == "uniform":
        return program, "uniform"
    if prior == "normal":
        return program, "normal"
    raise InputError(sentence(path, expected="an extra file prior that says normal or uniform", found=repr(prior[:40])))


def _check_whole(path: Path) -> None:
    """Refuses an archive of which a part is not what its checksum says; `torch.export.load` reads over that."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):  # as is told by what loads it
        return
    if damaged is not None:
        raise InputError(sentence(path, f"is damaged: {damaged} is not what was saved", fix="export it again"))


def _input(path: Path, program: Any) -> _Input:
    """What the program takes, by its signature."""
    expected = "one input, latents (N, Z) of float32"
    names = list(program.graph_signature.user_inputs)
    if len(names) != 1:
        raise InputError(sentence(path, expected=expected, found=f"{len(names)} inputs"))
    node = next(node for node in program.graph.nodes if node.name == str(names[0]))
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim != 2 or value.dtype != torch.float32:
        kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
        shape = "(" + ", ".join(map(str, value.shape)) + ") of " if isinstance(value, Tensor) else ""
        raise InputError(sentence(path, expected=expected, found=f"{shape}{kind}"))
    n: Any
    latent: Any
    n, latent = value.shape
    if not isinstance(latent, int) or latent < 1:
        raise InputError(sentence(path, expected=f"{expected}, Z of one number", found=f"Z of {latent}"))
    if isinstance(n, int):
        return _Input(n, n, latent)
    bounds = program.range_constraints.get(n.node.expr)
    if bounds is None:  # such as 2 * n
        raise InputError(
            sentence(path, expected=f"{expected}, any N", found=f"N of {n}", fix="export it with Dim('N')")
        )
    fewest = max(1, int(bounds.lower))
    most = MOST if bounds.upper > MOST else int(bounds.upper)
    return _Input(fewest, max(most, fewest), latent)


def _without_statistics(path: Path, program: fx.GraphModule, freeze: bool) -> int:
    """Ties every batch normalisation in training mode to its running moments, in place; returns how many."""
    found = [(node, _switch(node)) for node in program.graph.nodes]
    using = [(node, switch) for node, switch in found if switch is not None]
    if using and not freeze:
        said = "takes the moments of each batch" + (f" in {len(using)} places" if len(using) > 1 else "")
        expected = "a generator without batch statistics, whose picture depends on its latent alone"
        raise InputError(sentence(path, said, expected=expected, found="batch normalisation in training", fix=EVAL))
    for node, switch in using:
        _check_moments(path, program, node, switch)
        node.args = tuple(False if place == switch else value for place, value in enumerate(node.args))
    if using:
        _without_writes(program)
    return len(using)


def _without_writes(program: fx.GraphModule) -> None:
    """Leaves out what a program writes into its own buffers, such as the running moments, in place."""
    for node in reversed(program.graph.nodes):
        written = node.args[0] if node.args else None
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        writes = node.op == "call_function" and name.endswith("_") and not name.endswith("__")
        if writes and isinstance(written, fx.Node) and written.op == "get_attr" and not node.users:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.recompile()


def _switch(node: fx.Node) -> int | None:
    """Where a batch normalisation that takes the batch's own moments is told so, -1 for nowhere; None for others.

    Those without running moments are found by what they do: instance normalisation is written with them as well.
    """
    name = str(node.target).removeprefix("aten.")
    if node.op != "call_function" or len(node.args) < 5 or node.args[3] is None:
        return None
    if name in _ALWAYS:
        return -1
    place = _TRAINING.get(name)
    return place if place is not None and node.args[place] is True else None


def _check_moments(path: Path, program: fx.GraphModule, node: fx.Node, switch: int) -> None:
    """Refuses to freeze to moments that are not there, or were never learned."""
    mean, var = (_held(program, node.args[place]) for place in (3, 4))
    fix = "export it in evaluation mode once its moments are learned, or take a generator without batch statistics"
    if switch < 0 or mean is None or var is None:
        raise InputError(sentence(path, "keeps no running moments that it could be frozen to", fix=fix))
    if not mean.any() and bool((var == 1).all()):
        raise InputError(sentence(path, "has running moments that were never learned", fix=fix))


def _held(program: fx.GraphModule, argument: Any) -> Tensor | None:
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    value: Any = program
    for part in str(argument.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None


def _apart(first: Tensor, second: Tensor) -> bool:
    """Whether two pictures differ by more than rounding, as a share of the range of the colours."""
    scale = max(1.0, float(first.abs().max()))
    return float((first - second).abs().max()) > TOLERANCE * scale
