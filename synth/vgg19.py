"""VGG-19's published weights: found or fetched, checked against their published hash, and turned into safetensors.

The published file is a pickle, which a process of its own reads (`pickles`); it is kept as safetensors in a cache.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..storage.errors import InputError, sentence
from .checkpoint import SUFFIX
from .pickles import read_pickle

NAME = "vgg19"
URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
DIGEST = "dcbb9e9d"
"""The published file's SHA-256 begins with it."""
VARIABLE = "ZEUXIS_VGG19"
"""Of the environment: names the file of weights."""
LARGEST_BYTES = 1 << 30


def _convolutions() -> dict[str, int]:
    found, index = {}, 0
    for block, count in enumerate((2, 2, 4, 4, 4), 1):
        for layer in range(1, count + 1):
            found[f"conv{block}_{layer}"] = index
            index += 2  # its ReLU
        index += 1  # the block's pool
    return found


CONVOLUTIONS = _convolutions()
"""Layer to the N of `features.N.weight` in torchvision's file."""
NAMES = tuple(CONVOLUTIONS)
"""Layers, first to last."""
_KEYS = [f"features.{index}.{kind}" for index in CONVOLUTIONS.values() for kind in ("weight", "bias")]


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Weights by torchvision's names, and what they are called: `vgg19`, or `vgg19:<hash>` for others of that shape.

    Raises:
        InputError: there is no such file, or it does not hold VGG-19.
    """
    if not path.is_file():
        raise InputError(sentence(path, expected="weights of VGG-19", found="no such file", fix=f"fetch {URL}"))
    if path.suffix != SUFFIX:
        _check(path, _digest(path))
        return _converted(path), NAME
    tensors = _loaded(path)
    with safe_open(path, framework="pt") as file:
        published = path.parent == cache() and (file.metadata() or {}).get("source") == NAME
    return tensors, NAME if published else f"{NAME}:{_digest(path)[:8]}"


def is_vgg(path: Path) -> bool:
    """Whether a safetensors file has tensors of torchvision's names; not where there is no file or it has none."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return set(_KEYS) <= set(file.keys())
    except (OSError, SafetensorError):
        return False


def fetched() -> dict[str, Tensor]:
    """Torchvision's weights, from the cache or, the first time, from the network.

    Raises:
        InputError: there is no network, or what came is not the published file.
    """
    kept = _kept()
    if kept.exists():
        return _loaded(kept)
    with tempfile.TemporaryDirectory(dir=_made(cache())) as folder:
        path = Path(folder) / "vgg19.pth"
        _download(path)
        return _converted(path)


def cache() -> Path:
    """The user's folder for what can be fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeuxis"


def _kept() -> Path:
    return cache() / f"{NAME}-{DIGEST}{SUFFIX}"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        fix = "let XDG_CACHE_HOME name a folder that can be written"
        raise InputError(sentence(folder, f"cannot be written ({error.strerror})", fix=fix)) from error
    return folder


def _download(path: Path) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer, open(path, "wb") as file:
            while (data := answer.read(1 << 20)) and size <= LARGEST_BYTES:
                digest.update(data)
                size += file.write(data)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        fix = f"fetch it elsewhere and let {VARIABLE} name the file, or learn features: `zeuxis train features`"
        raise InputError(sentence(URL, f"cannot be fetched ({reason})", fix=fix)) from error
    _check(URL, digest.hexdigest())


def _check(what: object, digest: str) -> None:
    if not digest.startswith(DIGEST):
        expected, found = f"SHA-256 {DIGEST}... of torchvision's VGG-19", f"{digest[:8]}..."
        fix = f"fetch {URL} again, or give other weights of VGG-19 as {SUFFIX}"
        raise InputError(sentence(what, expected=expected, found=found, fix=fix))


def _converted(path: Path) -> dict[str, Tensor]:
    """The weights of a checked pickle; kept in the cache."""
    kept = _kept()
    if kept.exists():
        return _loaded(kept)
    tensors = _named(path, read_pickle(path, _KEYS, what="weights of VGG-19", fix=f"fetch {URL}"))
    with tempfile.TemporaryDirectory(dir=_made(cache())) as folder:
        target = Path(folder) / kept.name
        save_file(tensors, target, {"source": NAME})
        os.replace(target, kept)
    return tensors


def _loaded(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(sentence(path, f"cannot be read ({error})", fix="delete it and fetch it again")) from error
    return _named(path, tensors)


def _named(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions among tensors of a file."""
    try:
        return {key: tensors[key].float() for key in _KEYS}
    except KeyError as error:
        expected = "the convolutions of VGG-19 by torchvision's names"
        raise InputError(sentence(path, expected=expected, found=f"no {error}")) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
