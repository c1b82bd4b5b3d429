"""Where an interrupted training goes on: everything that decides its next step, in one safetensors file.

Nothing is pickled: tensors are tensors, and what else there is stands as JSON in the file's header. The file is written
under a temporary name, made durable, and only then takes the place of the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ...storage import files
from ...storage.errors import InputError, UnfinishedError, sentence
from ...synth.checkpoint import CHECKSUM, damage, sealed

FORMAT = "zeuxis-training-1"


@dataclass
class Marks:
    """How far a training is; what a resume state holds beside tensors.

    Attributes:
        settings: what decides the losses, by name; a run with other ones is another training.
        step: optimiser steps done; seconds: that they took.
        best: the deciding figure of the checkpoint; None before the first validation.
        pending: sums of the terms since the last row of the log; n_pending: how many steps they are of.
        logged: `seconds` at that row.
        rates: learning rates by optimiser, one a parameter group; scaler: of half precision, its state.
    """

    settings: Mapping[str, Any]
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    pending: dict[str, float] = field(default_factory=dict)
    n_pending: int = 0
    logged: float = 0.0
    rates: dict[str, list[float]] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def load_marks(path: Path) -> Marks | None:
    """What a resume state says of itself; None where there is none.

    Raises:
        InputError: it is cut short, or something else.
    """
    if not path.exists():
        return None
    with _opened(path) as file:
        return _marks(path, file.metadata())


def refuse_other_settings(what: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with a training under other settings.

    Raises:
        InputError: it names each setting that differs, with both values.
    """
    before, now = _flat(before), _flat(now)
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if not names:
        return
    said = {name: (_short(before.get(name)), _short(now.get(name))) for name in names}
    expected = ", ".join(f"{name} {old}" for name, (old, _) in said.items())
    found = ", ".join(f"{name} {new}" for name, (_, new) in said.items())
    fix = "give the same ones to go on, or --restart to train anew"
    raise InputError(sentence(what, f"was trained otherwise, expected {expected}", found=found, fix=fix))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same, what is inside a setting on its own: `config norm`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inside = value if isinstance(value, Mapping) else None
        found |= {name: value} if inside is None else {f"{name} {key}": each for key, each in inside.items()}
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else hashlib.blake2b(text.encode(), digest_size=4).hexdigest() + "…"


def state_of(modules: nn.ModuleDict, average: nn.Module, optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Tensors by name: parameters that learn, buffers, the running mean of the network, the state of optimisers."""
    found = {f"modules.{name}": tensor for name, tensor in _learning(modules).items()}
    found |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, state in optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{name}.{number}.{key}": each for key, each in state.items() if each is not None}
    return found


def restore(
    path: Path, held: Mapping[str, Tensor], marks: Marks, modules: nn.ModuleDict, average: nn.Module,
    optimisers: Mapping[str, Optimizer],
) -> None:  # fmt: skip
    """Puts back, in place, what `state_of` named.

    Raises:
        InputError: the state at `path`, which they were read from, lacks some of it, or holds it in other shapes.
    """
    try:
        _restore(held, marks, modules, average, optimisers)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, f"it is not that of this network, {error!r:.200}") from error


def _restore(
    held: Mapping[str, Tensor], marks: Marks, modules: nn.ModuleDict, average: nn.Module,
    optimisers: Mapping[str, Optimizer],
) -> None:  # fmt: skip
    for name, tensor in _learning(modules).items():
        if tensor.shape != (kept := held[f"modules.{name}"]).shape:  # else one number would fill a whole tensor
            raise ValueError(f"{name} is {tuple(kept.shape)} instead of {tuple(tensor.shape)}")
        tensor.data.copy_(kept)
    average.load_state_dict(_below(held, "average."))
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _below(held, f"optimiser.{name}.").items():
            number, _, what = key.partition(".")
            state.setdefault(int(number), {})[what] = tensor
        groups = optimiser.state_dict()["param_groups"]
        for group, rate in zip(groups, marks.rates[name], strict=True):
            group["lr"] = rate
        optimiser.load_state_dict({"state": state, "param_groups": groups})


def _learning(modules: nn.ModuleDict) -> dict[str, Tensor]:
    """The parameters that require a gradient, and all buffers, those that are not in a `state_dict` included."""
    learning = {name: each for name, each in modules.named_parameters() if each.requires_grad}
    return learning | dict(modules.named_buffers())


def _below(held: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in held.items() if name.startswith(prefix)}


def fingerprint(modules: nn.ModuleDict) -> str:
    """16 hex digits of the parameters that do not learn; empty where all do."""
    digest, frozen = hashlib.blake2b(digest_size=8), False
    for name, each in modules.named_parameters():
        if not each.requires_grad:
            frozen = True
            digest.update(name.encode())
            digest.update(each.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest() if frozen else ""


def save_state(path: Path, tensors: Mapping[str, Tensor], marks: Marks) -> None:
    """Writes a resume state in place of the one before.

    Raises:
        UnfinishedError: the disk refuses; the one before is still there.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with room(path, marks.step):
        try:
            files.fault_point(temporary)
            text = json.dumps({"format": FORMAT, **asdict(marks)})
            save_file(held, temporary, {"training": sealed(text, held)})
            temporary.chmod(0o644)  # as other files; safetensors makes them private
            files.fsync_file(temporary)
            os.replace(temporary, path)
            files.fsync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def room(path: Path, step: int) -> Iterator[None]:
    """Within the `with`, only files are written: a disk that refuses ends a training in one sentence.

    Raises:
        UnfinishedError: it does.
    """
    try:
        yield
    except (OSError, SafetensorError, InputError) as error:
        cause = error.__cause__ if isinstance(error, InputError) else error
        said = f"cannot be written at step {step} ({getattr(cause, 'strerror', None) or cause or error})"
        fix = "what was saved before is intact: make room, and run the same command again to go on"
        raise UnfinishedError(sentence(path, said, fix=fix)) from error


def load_state(path: Path) -> tuple[Marks, dict[str, Tensor]]:
    """A resume state, on the CPU.

    Raises:
        InputError: it is cut short, damaged, or something else.
    """
    with _opened(path) as file:
        said = file.metadata() or {}
        marks = _marks(path, said)
        try:
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(path, str(error)) from error
    if differs := damage(said["training"], held):
        raise _damaged(path, "expected checksum {}, found {}".format(*differs))
    return marks, held


def _opened(path: Path) -> Any:
    if not path.is_file():  # a pipe would be waited for without end
        raise _damaged(path, "it is no plain file")
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _marks(path: Path, metadata: Mapping[str, str] | None) -> Marks:
    try:
        row = json.loads((metadata or {})["training"])
        row.pop(CHECKSUM, None)
        if row.pop("format") != FORMAT:
            raise ValueError("another format")
        return _checked(Marks(**row))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"holds something else, {error!r}") from error


def _checked(marks: Marks) -> Marks:
    """The same, where every entry is of its kind; raises ValueError where one is not."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "settings": dict, "step": int, "seconds": (int, float), "best": (int, float, type(None)), "pending": dict,
        "n_pending": int, "logged": (int, float), "rates": dict, "scaler": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(getattr(marks, name), kind):
            raise ValueError(f"{name} is {getattr(marks, name)!r:.40}")
    if marks.step < 0:
        raise ValueError(f"step is {marks.step}")
    return marks


def _damaged(path: Path, said: str) -> InputError:
    return InputError(sentence(path, f"is no whole state of a training ({said})", fix="train anew with --restart"))
