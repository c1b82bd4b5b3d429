"""A folder of trained networks, each checked against the bank that it shall paint from before it is used."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor, nn

from ..storage.classes import VOID, ClassTable, SemanticClass
from ..storage.errors import InputError, sentence
from ..storage.files import plain_bytes
from ..storage.plain_yaml import load_yaml
from ..storage.reader import Reader
from ..synth.checkpoint import SUFFIX, Card, load_card, load_checkpoint
from ..synth.compiling.buckets import Compiled, backend_of, packages_of
from ..synth.compiling.packages import Store
from ..synth.layers import is_finite
from ..synth.presets import MULTIPLE

NamesMap = Mapping[str, Sequence[str]]
"""Class of the model to classes of the bank, none for a class that shall not be used."""

ASPECT_TOLERANCE = 0.02
"""Relative difference of aspect ratios above which a model does not fit a bank."""

LISTED = 5
"""Classes that a sentence names one by one."""


class Kind(NamedTuple):
    """Where a network and its configuration live."""

    module: str
    network: str
    config: str


KINDS = {
    "synthesis": Kind("synthesis", "SynthesisNetwork", "SynthesisConfig"),
    "transform": Kind("transformation", "TransformationNetwork", "TransformationConfig"),
    "ordering": Kind("ordering_network", "OrderingNetwork", "OrderingConfig"),
    "densify": Kind("densification", "DensificationNetwork", "DensificationConfig"),
    "judge": Kind("judge", "JudgeNetwork", "JudgeConfig"),
    "crn": Kind("crn", "CrnNetwork", "CrnConfig"),
}
"""The networks that paint, and the judge of what is painted, by the kind that stands in their checkpoints."""
OTHERS = {
    "features": Kind("features", "ParsingNetwork", "ParsingConfig"),
    "roi": Kind("roi_gan.generator", "RoiGenerator", "RoiConfig"),
    "glcic": Kind("glcic", "GlcicNetwork", "GlcicConfig"),
    "key-patches": Kind("key_patches.network", "KeyPatchNetwork", "KeyPatchConfig"),
    "generator": Kind("region_semantics.networks", "generator_network", "GeneratorConfig"),
    "domains": Kind("region_semantics.shared_features", "SharedNetwork", "FeaturesConfig"),
}
"""Networks that training alone uses, that complete pictures, or make them of patches or latents; compiled as those."""
OF_ONE_SIZE = ("roi", "glcic", "key-patches", "generator")
"""Networks that take pictures of the size they were built for alone."""

CHANNELS_LAST = ("transform", "ordering")
"""Networks that take a quarter less time on a CPU with their weights laid out so; the synthesis network does not."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready for use, and how the bank's classes become its channels.

    Attributes:
        path: of its checkpoint; card: what that says.
        network: in evaluation mode, on its device, without gradients.
        channel_of: `(65536,)` int64, bank class id to channel; void and what the network does not know is the last.
        class_of: `(n_classes + 1,)` uint16, channel to bank class id, `VOID` where there is none.
        unknown: names of the bank's classes that are void to the network.
        warnings: what the user should know of it, one sentence each.
    """

    path: Path
    card: Card
    network: nn.Module
    channel_of: npt.NDArray[np.int64]
    class_of: npt.NDArray[np.uint16]
    unknown: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def backend(self) -> str:
        """What runs it, such as `inductor float32`."""
        return backend_of(self.network)

    @property
    def packages(self) -> tuple[str, ...]:
        """Its compiled forms, a line each; none where it runs as it is."""
        return packages_of(self.network)

    @property
    def size(self) -> tuple[int, int]:
        """`(rows, cols)` of the pictures it was trained with."""
        return self.card.size

    @property
    def n_classes(self) -> int:
        """Channels without that of void."""
        return len(self.card.classes)


class Models:
    """The networks of a folder, loaded when they are first asked for and again when their file has changed.

    Args:
        folder: holds `synthesis.safetensors` and others.
        reader: the bank that they shall paint from.
        map_classes: see `as_names_map`; without it a network must have been trained for exactly the bank's classes.
        device: that they run on; default a CUDA device where there is one.
        compiled: folder of compiled forms of them, which are used where they fit network, device and versions.

    Raises:
        InputError: there is no such folder or device, `compiled` is not the user's alone, or `map_classes` cannot be
            used.
    """

    def __init__(
        self,
        folder: str | Path,
        reader: Reader,
        map_classes: str | Path | Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        compiled: str | Path | None = None,
    ) -> None:
        self.folder = Path(os.path.expanduser(folder))
        if not self.folder.is_dir():
            fix = "train them first: `zeuxis train all`"
            raise InputError(sentence(self.folder, expected="a folder of trained networks", found="none", fix=fix))
        self.reader = reader
        self.names = None if map_classes is None else as_names_map(map_classes)
        self.device = device_of(device)
        self.compiled = None if compiled is None else Store(compiled)
        self._held: dict[str, tuple[tuple[int, int, int], Model]] = {}

    def path(self, name: str) -> Path:
        """Where the network of that name lies, or would."""
        return self.folder / f"{name}{SUFFIX}"

    def has(self, name: str) -> bool:
        """Whether there is a file of that name; it is looked into when it is loaded."""
        return os.path.lexists(self.path(name))

    def sees_canvas(self, kind: str, name: str) -> bool:
        """Whether the network of that name, of one of the kinds that paint, is shown anything of the bank.

        One that is not there counts as if it were: who loads it refuses it.

        Raises:
            InputError: it is damaged.
        """
        return kind != "crn" and (not self.has(name) or bool(load_card(self.path(name)).config.get("canvas", True)))

    def load(self, kind: str, name: str | None = None) -> Model:
        """A network, checked in every respect.

        Args:
            kind: one of `KINDS`; name: of the file without its suffix; default the kind.

        Raises:
            InputError: there is none, it is damaged or no checkpoint of that kind, or it does not fit the bank.
        """
        path = self.path(name or kind)
        stamp = _stamp(path)
        if path.name not in self._held or self._held[path.name][0] != stamp:
            self._held[path.name] = stamp, self._loaded(kind, path)
        return self._held[path.name][1]

    def find(self, kind: str) -> Model | None:
        """The network of that kind, or None where the folder has none.

        Raises:
            InputError: there is one, and it cannot be used.
        """
        return self.load(kind) if self.has(kind) else None

    def _loaded(self, kind: str, path: Path) -> Model:
        card, tensors = load_checkpoint(path, kind)
        channel_of, class_of, unknown = channels_of(card, self.reader.classes, self.names, path)
        check_size(card.size, self.reader.geometry.frame, path)
        network = ready(built(kind, card, tensors, path), kind, self.device)
        said: tuple[str, ...] = ()
        if self.compiled is not None:
            network, said = with_compiled(network, path, self.compiled)
        return Model(path, card, network, channel_of, class_of, unknown, said)


def device_of(device: str | torch.device | None) -> torch.device:
    """A device that is there; None for CUDA where there is a device of it, else the CPU.

    Raises:
        InputError: it is none, or cannot be used.
    """
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise InputError(sentence("--device", expected="one that is here", found=f"'{device}' ({said})")) from error
    return found


def ready(network: nn.Module, kind: str, device: torch.device) -> nn.Module:
    """A network for use: in evaluation mode, on the device, without gradients, laid out as is fastest.

    On a GPU the process takes convolutions that give the same bits each time, from then on.
    """
    network.eval().requires_grad_(False).to(device)
    torch.backends.cudnn.deterministic |= device.type == "cuda"
    if kind in CHANNELS_LAST:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def built(kind: str, card: Card, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network that a card describes, with the tensors as its weights, on the CPU.

    It is laid out without memory first, so that a card that asks for more than the file holds costs nothing.

    Raises:
        InputError: the configuration is none of that kind, or the tensors are not those of such a network.
    """
    broken = "fetch it again, or train it: `zeuxis train " + kind + "`"
    make = _maker(kind, card, path, broken)
    with torch.device("meta"):
        expected = make().state_dict()
    _check_tensors(tensors, expected, path, broken)
    network = make()
    network.load_state_dict(dict(tensors))
    return network


def channels_of(
    card: Card, classes: ClassTable, names: NamesMap | None, path: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16], tuple[str, ...]]:
    """How a bank's classes become a network's channels: `channel_of`, `class_of` and `unknown` of `Model`.

    Without `names` both must have the same classes, ids and names alike. With them a class of the model stands for
    the classes of the bank that it is mapped to, else for the one of its own name; of two that want the same class,
    the one that comes first in the map has it.

    Raises:
        InputError: they differ and there are no names, or names name what is not there.
    """
    if names is None:
        _check_same(card, classes, path)
        own = [(channel, entry) for channel, entry in enumerate(card.classes)]
    else:
        own = _partners(card.classes, classes, names, path)
    channel_of = np.full(VOID + 1, len(card.classes), np.int64)
    class_of = np.full(len(card.classes) + 1, VOID, np.uint16)
    for channel, entry in reversed(own):  # so that the first of several stays
        channel_of[entry.id] = channel
        class_of[channel] = entry.id
    unknown = tuple(entry.name for entry in classes if channel_of[entry.id] == len(card.classes))
    return channel_of, class_of, unknown


def as_names_map(given: str | Path | Mapping[str, Any]) -> NamesMap:
    """A class map, or the one in a YAML file: class of the model to one class of the bank, several, or none.

        person: pedestrian
        vehicle: [car, bus]
        rider: null            # not used

    Raises:
        InputError: no such file, or not of that form.
    """
    found = given if isinstance(given, Mapping) else _yaml_of(given)
    names = {str(name): [] if to is None else [to] if isinstance(to, str) else to for name, to in found.items()}
    if not all(isinstance(to, Sequence) and all(isinstance(each, str) for each in to) for to in names.values()):
        what = "the class map" if isinstance(given, Mapping) else given
        form = "model class: class of the bank, a list of them, or null"
        raise InputError(sentence(what, expected=form, found=repr(dict(found))[:80]))
    return names


def check_size(size: tuple[int, int], frame: tuple[int, int], path: Path) -> None:
    """Refuses a network whose pictures have another shape than the bank's frame.

    Sides are multiples of `MULTIPLE`: where no other number of columns is nearer to the frame's shape, it fits.

    Raises:
        InputError: the aspect ratios differ by more than `ASPECT_TOLERANCE`.
    """
    rows, cols = size
    nearest = max(MULTIPLE, round(rows * frame[1] / frame[0] / MULTIPLE) * MULTIPLE)
    if cols != nearest and abs(math.log(cols / rows * frame[0] / frame[1])) > ASPECT_TOLERANCE:
        raise InputError(
            sentence(
                path,
                expected=f"pictures of the shape of the bank's frame, {frame[0]}x{frame[1]}",
                found=f"a network trained at {rows}x{cols}",
                fix="train one on this bank, or rebuild the bank with another frame",
            )
        )


def _maker(kind: str, card: Card, path: Path, fix: str) -> Callable[[], nn.Module]:
    """Makes the network that a card describes, as often as it is called."""
    home = (KINDS | OTHERS)[kind]
    module = import_module(f"..synth.{home.module}", __package__)
    config_of, network_of = getattr(module, home.config), getattr(module, home.network)

    def make() -> nn.Module:
        try:
            known = {each.name for each in fields(config_of)}
            if strange := set(card.config) - known:
                raise ValueError(f"unknown setting {min(strange)}")
            config = config_of(**{k: tuple(v) if isinstance(v, list) else v for k, v in card.config.items()})
            for name, value in (("n_classes", len(card.classes)), ("size", card.size)):
                if getattr(config, name, value) != value:
                    raise ValueError(f"{name} is {getattr(config, name)} instead of {value}")
            network: nn.Module = network_of(config)
        except Exception as error:  # whatever a setting may break inside
            cause = str(error).partition("Exception raised from")[0].strip()  # what follows is a trace of C++
            said = f"holds no configuration of a {kind} network ({cause[:300]})"
            raise InputError(sentence(path, said, fix=fix)) from error
        return network

    return make


def with_compiled(network: nn.Module, path: Path, store: Store) -> tuple[Compiled, tuple[str, ...]]:
    """A network with its compiled forms, and what is to be said where there are none."""
    compiled, said = store.load(network)
    if not compiled.buckets and not said:
        found = f"nothing compiled for {path.name}, this machine and these versions"
        said = (sentence(store.folder, f"holds {found}: it runs uncompiled", fix="compile it: `zeuxis compile`"),)
    return compiled, said


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, fix: str) -> None:
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        found = " and ".join(f"{what} {_listed(names)}" for what, names in (("no", missing), ("also", extra)) if names)
        raise InputError(sentence(path, expected="the weights of its network", found=found, fix=fix))
    for name, tensor in tensors.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.is_floating_point() != want.is_floating_point():
            wanted, found = (f"{name} {tuple(each.shape)} of {each.dtype}" for each in (want, tensor))
            raise InputError(sentence(path, expected=wanted, found=found, fix=fix))
        if not is_finite(tensor):
            raise InputError(sentence(path, f"{name} holds values that are no numbers", fix=fix))


def _check_same(card: Card, classes: ClassTable, path: Path) -> None:
    own, banks = ({(entry.id, entry.name) for entry in each} for each in (card.classes, classes))
    if own == banks:
        return
    said = [
        f"{who} has {_listed([f'{name} ({id})' for id, name in sorted(those)])}"
        for who, those in (("only the network", own - banks), ("only the bank", banks - own))
        if those
    ]
    fix = "train a network on this bank, or give --map-classes"
    raise InputError(sentence(path, "was trained for other classes than the bank's", found="; ".join(said), fix=fix))


def _partners(
    own: Sequence[SemanticClass], classes: ClassTable, names: NamesMap, path: Path
) -> list[tuple[int, SemanticClass]]:
    """Channel and class of the bank, those that the map names first."""
    channels = {entry.name: channel for channel, entry in enumerate(own)}
    if strange := sorted(set(names) - set(channels)):
        known = f"classes of {path.name}, {', '.join(channels)}"
        raise InputError(sentence("--map-classes", expected=known, found=_listed(strange)))
    wanted = {to for those in names.values() for to in those}
    if strange := sorted(to for to in wanted if classes.named(to) is None):
        known = f"classes of the bank, {', '.join(entry.name for entry in classes)}"
        raise InputError(sentence("--map-classes", expected=known, found=_listed(strange)))
    pairs = [(channels[name], classes.named(to)) for name, those in names.items() for to in those]
    pairs += [(channel, classes.named(name)) for name, channel in channels.items() if name not in names]
    return [(channel, entry) for channel, entry in pairs if entry is not None]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _yaml_of(path: str | Path) -> Mapping[Any, Any]:
    try:
        found = load_yaml(plain_bytes(Path(path)).decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(sentence(path, f"cannot be read as YAML ({' '.join(str(error).split())})")) from error
    if not isinstance(found, dict):
        raise InputError(sentence(path, expected="lines of model class: class of the bank", found=repr(found)[:80]))
    return found


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced; zeros where there is none, which loading then says."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size
