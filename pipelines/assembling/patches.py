"""Where patches come from: files and arrays, objects of a class of the bank, whole photographs of it; or several."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ...index.request import is_whole
from ...storage.errors import InputError, SourceError, sentence
from ...storage.files import plain_bytes
from ...storage.images import Photograph, decode_photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...synth.key_patches.network import Aspect
from ..training.patch_pictures import PatchPicture, PatchPictures
from ..training.photographs import BankOrigin
from ..training.task import NothingToLearn, subject_of

PatchLike = str | Path | npt.NDArray[np.uint8]
"""A file, or uint8 `(h, w, 3)` RGB, `(h, w, 4)` with alpha, `(h, w)` or `(h, w, 1)` grey, `(h, w, 2)` with alpha."""
ARRAYS = "(h, w, 3) or (h, w), with alpha or without, of uint8"
LEAST_SIDE = 4
"""Pixels of a patch, at least: what is smaller shows no part of anything."""
MOST_PATCHES = 64
"""Of a picture."""
GREY = 128
"""Level behind transparent pixels: a patch's middle, for the network."""
SPLITS = ("train", "val", "test")
_PICTURE = 3
"""Sets the draws of pictures apart from others."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch that a picture is made from.

    Attributes:
        pixels: `(h, w, 3)` uint8 RGB.
        name: its file, or the picture of the bank that it is of, and its rank there.
        source: of the bank, None for what was given; box: where it is in `picture`, None likewise.
    """

    pixels: Photograph
    name: str
    source: str | None = None
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """Patches that belong together.

    Attributes:
        name: for files; patches: best first.
        picture: what they are of, `(R, R, 3)`; of: its name in the bank; None for what was given.
    """

    name: str
    patches: Sequence[Patch]
    picture: Photograph | None = None
    of: str | None = None


def given(patches: Sequence[PatchLike]) -> Group:
    """What a user gives, at least one: grey pictures are read as RGB, transparent pixels as lying on grey.

    Raises:
        InputError: one cannot be read, or is smaller than `LEAST_SIDE`.
    """
    found = [_given(each, number) for number, each in enumerate(patches)]
    first = patches[0]
    stem = Path(first).stem if isinstance(first, str | Path) else "patches"
    return Group(stem, found)


def of_class(
    reader: Reader, name: str, resolution: int, count: int, seed: int, number: int = 0, split: str | None = None,
    taken: Collection[str] = (), aspect: Aspect = "stretched",
) -> Group:  # fmt: skip
    """Key patches of an object of a class, which the seed draws: first a photograph, then one of its objects.

    Args:
        reader: of the bank; name: of the class; resolution: of the network; count: patches at most.
        seed, number: of the draw. split: whose objects; default test, else val, else train.
        taken: names of objects that are left out. aspect: of patches, see `KeyPatchConfig`.

    Raises:
        InputError: there is no such class or split, or none of its objects that are left has key patches.
    """
    subject = subject_of(reader, (resolution, resolution))
    random = np.random.default_rng([seed, number, _PICTURE])
    for names in _names(reader, split):
        for at in random.permutation(len(names)).tolist():
            try:
                pictures = PatchPictures(
                    reader, [names[at]], resolution, objects=name, n=count, subject=subject, aspect=aspect
                )
            except NothingToLearn:
                continue
            left = [each for each in (pictures[k] for k in range(len(pictures))) if each.name not in taken]
            if left:
                return group_of(left[int(random.integers(len(left)))], name)
    where, more = f"split {split} of {reader.path}" if split else reader.path, "another " if taken else "an "
    expected = f"{more}object of class {name!r} with key patches, large enough to be a picture"
    raise InputError(sentence(where, expected=expected, found="none", fix="name another class"))


def of_photograph(reader: Reader, source: str, resolution: int, count: int, aspect: Aspect = "stretched") -> Group:
    """Key patches of a whole photograph of the bank.

    Raises:
        InputError: there is no such source, or it has no key patches.
    """
    subject = subject_of(reader, (resolution, resolution))
    pictures = PatchPictures(reader, [_known(reader, source)], resolution, n=count, subject=subject, aspect=aspect)
    if not len(pictures):
        said = "has no key patches: nothing in it stands out"
        raise InputError(sentence(f"source {source!r}", said, fix="name another source"))
    return group_of(pictures[0], source.replace("/", "-"))


def group_of(picture: PatchPicture, name: str) -> Group:
    """The patches of a picture."""
    patches = []
    for rank, (pixels, box) in enumerate(zip(picture.patches, picture.boxes.tolist(), strict=True)):
        top, left, bottom, right = box
        patches.append(Patch(pixels, f"{picture.name}, patch {rank}", picture.source, (top, left, bottom, right)))
    return Group(name, patches, picture.image, picture.name)


def check_count(count: int | None) -> None:
    """Refuses a number of patches that cannot be.

    Raises:
        InputError: it is no whole number, or below 1.
    """
    if count is not None and not is_whole(count, 1):
        raise InputError(sentence("--patches", expected="a whole number of at least 1", found=repr(count)))


def mixed(groups: Sequence[Group], count: int | None) -> list[Patch]:
    """Patches of groups, one of each in turn, each group's best first.

    Args:
        groups: at least one; count: patches, at least 1, None for all of them.

    Raises:
        InputError: there are none, too few, or too many.
    """
    longest = max((len(group.patches) for group in groups), default=0)
    found = [group.patches[rank] for rank in range(longest) for group in groups if rank < len(group.patches)]
    if not found:
        fix = "name picture files, or --from-bank class:NAME"
        raise InputError(sentence("patches", expected="at least one", found="none", fix=fix))
    if count is not None and count > len(found):
        raise InputError(
            sentence("--patches", expected=f"at most {len(found)}, as many as there are", found=str(count))
        )
    chosen = found[:count]
    if len(chosen) > MOST_PATCHES:
        raise InputError(sentence("patches", expected=f"at most {MOST_PATCHES}", found=str(len(chosen))))
    return chosen


def _given(patch: PatchLike, number: int) -> Patch:
    if isinstance(patch, np.ndarray):
        what, pixels = f"patch {number}", _as_rgb(patch, number)
    else:
        try:
            path = Path(os.path.expanduser(patch))
        except TypeError as error:
            expected, found = f"a file, or {ARRAYS}", type(patch).__name__
            raise InputError(sentence(f"patch {number}", expected=expected, found=found)) from error
        what, pixels = str(patch), _read(path)
    rows, cols = pixels.shape[:2]
    if min(rows, cols) < LEAST_SIDE:
        expected, fix = f"a patch of at least {LEAST_SIDE}x{LEAST_SIDE} pixels", "give a larger part of a picture"
        raise InputError(sentence(what, expected=expected, found=f"{rows}x{cols}", fix=fix))
    return Patch(pixels, what)


def _as_rgb(patch: npt.NDArray[np.uint8], number: int) -> Photograph:
    pixels = patch[..., None] if patch.ndim == 2 else patch
    if patch.dtype != np.uint8 or not patch.size or pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        found = f"{patch.shape} of {patch.dtype}"
        raise InputError(sentence(f"patch {number}", expected=ARRAYS, found=found))
    grey, opaque = pixels.shape[2] < 3, pixels.shape[2] % 2 == 1
    coloured = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=2) if grey else pixels
    return coloured if opaque else _on_grey(Image.fromarray(coloured))


def _read(path: Path) -> Photograph:
    try:
        data = plain_bytes(path)
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        raise InputError(sentence(f"patch {path}", said, expected="a picture file")) from error
    try:
        return decode_photograph(data, path)
    except SourceError as error:
        if error.reason != "transparent":
            raise InputError(str(error)) from error
    with Image.open(io.BytesIO(data)) as picture:  # sound, as that was the first thing looked at
        upright = (ImageOps.exif_transpose(picture) or picture).convert("RGBA")
    return _on_grey(upright)


def _on_grey(picture: Image.Image) -> Photograph:
    """A picture of mode RGBA over `GREY`."""
    ground = Image.new("RGBA", picture.size, (GREY, GREY, GREY, 255))
    return np.array(Image.alpha_composite(ground, picture).convert("RGB"))


def _names(reader: Reader, split: str | None) -> list[list[str]]:
    """Of the photographs of a split, or of all of them in the order in which they are asked."""
    if split is not None and split not in SPLITS:
        raise InputError(sentence("--split", expected="train, val or test", found=repr(split)))
    return [BankOrigin(reader).names(each) for each in ([split] if split else reversed(SPLITS))]


def _known(reader: Reader, source: str) -> str:
    if not reader.table("sources", {"source": str(source)}, ["source"]).num_rows:
        raise InputError(sentence(f"source {source!r}", f"is not in {reader.path}"))
    return str(source)
