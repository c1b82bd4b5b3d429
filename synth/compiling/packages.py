"""Compiled networks on the disk: native code in a folder that its owner alone may enter, each with a card beside it.

A package is loaded only from such a folder, only where its SHA-256 is that of its card, and only for the network,
shapes, device and library versions that it was made for. What is hashed is what is loaded: the bytes, not the name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ...storage.errors import InputError, sentence
from ...storage.outputs import write_outputs
from ..checkpoint import parts_of
from .backends import BACKENDS, Graphed
from .buckets import Bucket, Compiled, Shapes, Verdict
from .casting import cast
from .parity import Parity

FORMAT = 1
"""Version of the card; others are passed over."""
LARGEST_CARD = 1 << 20
"""Bytes."""
LIBRARIES = ("torch", "torch-tensorrt", "tensorrt", "triton")
_OURS = re.compile(r"\.?[\w.-]+-\d+x\d+-b\d+-[0-9a-f]{16}(\.[0-9a-f]{16}\.pt2|\.json)(\.[0-9a-f]{8})?")


@dataclass(frozen=True)
class PackageCard:
    """What a package says of itself.

    Attributes:
        name: of the network's file without its suffix.
        place: what it was made for, see `place_of`.
        asked: backend and precision that were asked for.
        verdict: what came of it.
        file, sha256: of the package in the same folder; empty where the network runs as it is.
    """

    name: str
    place: dict[str, Any]
    asked: tuple[str, str]
    verdict: Verdict
    file: str = ""
    sha256: str = ""

    def to_json(self) -> str:
        """The card as it stands in its file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, indent=1)

    @property
    def digest(self) -> str:
        """16 hex digits over all of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: bytes) -> PackageCard:
        """The card that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: it is none.
        """
        row = json.loads(text)
        if row.pop("format") != FORMAT:
            raise ValueError("another format")
        told = row.pop("verdict")
        parity = None if told["parity"] is None else Parity(**told["parity"])
        verdict = Verdict(**{**told, "parity": parity, "shapes": _shapes(told["shapes"])})
        backend, precision = row.pop("asked")
        card = cls(**row, asked=(backend, precision), verdict=verdict)
        if verdict.backend not in ("eager", *BACKENDS) or type(verdict.batch) is not int or verdict.batch < 1:
            raise ValueError("no such backend or batch")
        if not float(verdict.compiled_ms) > 0 or os.path.basename(card.file) != card.file:
            raise ValueError("no such time or file")
        return card


class Store:
    """A folder of compiled networks.

    Args:
        folder: with mode 0700, of the user who runs this; make: whether it is made where there is none.

    Raises:
        InputError: there is none, or somebody else could write, read or replace what is in it.
    """

    def __init__(self, folder: str | Path, *, make: bool = False) -> None:
        self.folder = Path(os.path.expanduser(folder))
        if make and not os.path.lexists(self.folder):
            try:
                os.mkdir(self.folder, 0o700)
            except OSError as error:
                said = f"cannot be made ({error.strerror})"
                raise InputError(sentence(self.folder, said, fix="choose another place")) from error
        _check_private(self.folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Alone, with what a run that was killed has left removed.

        Raises:
            InputError: another process is writing.
        """
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fix = "wait for it, or give --out another folder"
                raise InputError(sentence(self.folder, "another process is compiling into it", fix=fix)) from None
            self._sweep()
            yield
        finally:
            os.close(handle)

    def find(self, name: str, place: dict[str, Any], asked: tuple[str, str]) -> PackageCard | None:
        """The card of what was compiled before for the same place by the same wish, if its package is whole."""
        card = self._card(self._path(name, place))
        if card is None or card.place != place or card.asked != asked or (card.file and self._package(card) is None):
            return None
        return card

    def keep(
        self, name: str, place: dict[str, Any], asked: tuple[str, str], verdict: Verdict, package: bytes | None
    ) -> None:
        """Writes a package, then its card, which makes it known; both whole or not at all.

        Raises:
            InputError: the disk refuses; what was there before is there still.
        """
        path = self._path(name, place)
        if package is None:
            write_outputs({path: PackageCard(name, place, asked, verdict).to_json().encode()})
            return
        digest = hashlib.sha256(package).hexdigest()
        file = path.with_suffix(f".{digest[:16]}.pt2")
        card = PackageCard(name, place, asked, verdict, file.name, digest)
        write_outputs({file: package, path: card.to_json().encode()})

    def load(self, network: nn.Module) -> tuple[Compiled, tuple[str, ...]]:
        """The network with everything that was compiled for it, for its device and for these versions.

        Args:
            network: eager, in evaluation mode, on its device.

        Returns:
            And a sentence for each package that cannot be used.
        """
        device, own = device_of(network), own_place(network)
        buckets, said = [], []
        for card in self.cards():
            if {key: card.place.get(key) for key in own} != own:
                continue
            try:
                buckets.append(Bucket(card.verdict, self.call(card, device), card.digest))
            except InputError as error:
                said.append(str(error))
        return Compiled(network, buckets), tuple(said)

    def call(self, card: PackageCard, device: torch.device) -> Any:
        """What runs a package; None where the network runs as it is.

        Raises:
            InputError: the package is missing, altered, not the user's own, or cannot be loaded.
        """
        if not card.file:
            return None
        fix = "compile it again: `zeuxis compile`"
        package = self._package(card)
        if package is None:
            raise InputError(sentence(self.folder / card.file, "is not the package that its card names", fix=fix))
        try:
            return running(card.verdict.backend, package, device, card.verdict)
        except Exception as error:  # whatever a loader of native code raises
            said = f"cannot be loaded ({str(error)[:200]})"
            raise InputError(sentence(self.folder / card.file, said, fix=fix)) from error

    def cards(self) -> list[PackageCard]:
        """Of all packages, by name; files that are no cards are passed over."""
        found = (self._card(path) for path in sorted(self.folder.glob("*.json")))
        return [card for card in found if card is not None]

    def _path(self, name: str, place: dict[str, Any]) -> Path:
        size = "x".join(map(str, place["inputs"][0][-2:]))  # of a latent its length alone
        return self.folder / f"{name}-{size}-b{place['batch']}-{_digest(place)[:16]}.json"

    def _card(self, path: Path) -> PackageCard | None:
        text = _own_bytes(path, LARGEST_CARD)
        try:
            card = None if text is None else PackageCard.from_json(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return card

    def _package(self, card: PackageCard) -> bytes | None:
        """The bytes of a package, None where they are not those of its card."""
        data = _own_bytes(self.folder / card.file)
        return data if data is not None and hashlib.sha256(data).hexdigest() == card.sha256 else None

    def _sweep(self) -> None:
        """Removes temporary files, and packages that no card names."""
        named = {card.file for card in self.cards()}
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in named and path.suffix != ".json":
                with suppress(OSError):
                    path.unlink()


def running(backend: str, package: bytes, device: torch.device, verdict: Verdict) -> Any:
    """A package loaded: takes and returns float32, whatever it computes in; on a GPU as a CUDA graph."""
    call = cast(BACKENDS[backend].load(package, device), verdict.precision)
    if device.type != "cuda":
        return call
    return Graphed(call, tuple(torch.zeros((verdict.batch, *shape), device=device) for shape in verdict.shapes))


def own_place(network: nn.Module) -> dict[str, Any]:
    """What of a place depends on the network and the machine alone."""
    return {
        "weights": weights_hash(network), "code": code_hash(network), "device": device_name(device_of(network)),
        "versions": _versions(),
    }  # fmt: skip


def place_of(network: nn.Module, shapes: Shapes, batch: int) -> dict[str, Any]:
    """What a package is made for: weights, the code of the networks, device, versions, inputs and batch."""
    return {**own_place(network), "inputs": [list(each) for each in shapes], "batch": batch}


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU for what has none."""
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of a network's build and weights, wherever and however they lie in memory."""
    found = hashlib.sha256(f"{type(network).__qualname__} {getattr(network, 'config', '')}".encode())
    for part in parts_of(network.state_dict()):
        found.update(part)
    return found.hexdigest()


@cache
def device_name(device: torch.device) -> str:
    """A GPU's name and capability; a CPU's, and a digest of what it can do: packages use all of it."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)}, capability {major}.{minor}"
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        return torch.backends.cpu.get_cpu_capability()
    told = {key.strip(): value.strip() for key, value in lines.items()}
    flags = hashlib.sha256(told.get("flags", told.get("Features", "")).encode()).hexdigest()[:8]
    return f"{told.get('model name', 'CPU')}, {torch.backends.cpu.get_cpu_capability()}, flags {flags}"


def code_hash(network: nn.Module) -> str:
    """SHA-256 of the modules that a network's layers are written in, and of those beside them that these import."""
    todo = {type(layer).__module__ for layer in network.modules()}
    todo = {name for name in todo if name.partition(".")[0] != "torch"}
    rooms, seen = {name.rpartition(".")[0] for name in todo}, set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        values = vars(sys.modules[name]).values()
        homes = {value.__name__ if isinstance(value, ModuleType) else _home(value) for value in values}
        todo |= {home for home in homes - seen if home in sys.modules and home.rpartition(".")[0] in rooms}
    found = hashlib.sha256()
    for name in sorted(seen):
        file = getattr(sys.modules[name], "__file__", None)
        found.update(f"{name} ".encode() + (Path(file).read_bytes() if file else b""))
    return found.hexdigest()


def _home(value: object) -> str:
    return str(getattr(value, "__module__", ""))


@cache
def _versions() -> dict[str, str]:
    found = {"cuda": str(torch.version.cuda)}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _digest(place: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()


def _shapes(told: Sequence[Sequence[int]]) -> Shapes:
    return tuple(tuple(int(side) for side in each) for each in told)


def _check_private(folder: Path) -> None:
    fix = "compile into another: `zeuxis compile MODELS --out FOLDER`"
    try:
        found = os.lstat(folder)
    except OSError:
        fix = "compile them first: `zeuxis compile MODELS`"
        raise InputError(sentence(folder, expected="a folder of compiled networks", found="none", fix=fix)) from None
    if not stat.S_ISDIR(found.st_mode):
        raise InputError(sentence(folder, expected="a folder", found="a file or a link", fix=fix))
    if found.st_uid != os.geteuid():
        raise InputError(sentence(folder, expected="a folder of your own", found="another user's", fix=fix))
    if found.st_mode & 0o077:
        expected, mode = "a folder that you alone may enter", f"mode {stat.S_IMODE(found.st_mode):o}"
        raise InputError(sentence(folder, "holds code", expected=expected, found=mode, fix=f"chmod 700, or {fix}"))


def _own_bytes(path: Path, most: int | None = None) -> bytes | None:
    """What a plain file of the user's own holds; None for any other, or where it is larger than `most`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        plain = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        return file.read() if plain and (most is None or found.st_size <= most) else None
