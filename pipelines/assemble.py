"""`zeuxis assemble`: a few patches in, whole pictures out, and where each patch went (Lee et al. 2018).

The same patches, network, seed and variant give the same bytes on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from ..storage.layouts import Box
from ..storage.reader import Reader
from ..synth.compiling.packages import Store
from ..synth.key_patches.placing import PlacedPatch
from .assembling.files import check_places, save, stem_of
from .assembling.network import CUT, KIND, Assembler, degraded
from .assembling.patches import Group, Patch, PatchLike, check_count, given, mixed, of_class, of_photograph
from .assembling.sheet import sheet
from .inpaint import check_draws

VARIANTS = 4
MOST_NOISE = 255.0
"""Levels of 0..255."""
CLASS = "class:"


@dataclass(frozen=True)
class UsedPatch:
    """A patch and where it went.

    Attributes:
        name: of its file, or of the picture of the bank it is of; source: of the bank, None for what was given.
        size: `(rows, cols)` as it came; cut_from: its box in that picture, None for what was given.
        box: where it is in what was made, `(top, left, bottom, right)`, half-open; score: how sure, see `PlacedPatch`.
    """

    name: str
    source: str | None
    size: tuple[int, int]
    cut_from: Box | None
    box: Box
    score: float


@dataclass(frozen=True)
class AssembleReport:
    """How a picture was made.

    Attributes:
        network: of its file; seed, variant: of the noise; noise: added to the patches, levels of 0..255.
        patches: in the order in which they were given; their order does not change the picture.
        identity: of the network, plain values; warnings: what the user should know.
        mask_cut: of the mask, what is above it is where the network says that patches are.
    """

    network: str
    seed: int
    variant: int
    noise: float
    patches: tuple[UsedPatch, ...]
    identity: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    mask_cut: float = CUT


@dataclass(frozen=True, eq=False)
class Assembled:
    """A picture that was made of patches.

    Attributes:
        image: `(R, R, 3)` uint8 RGB, at the network's resolution.
        mask: `(R, R)` float32 in 0..1, how much the network says that patches are there, inside above `mask_cut` of
            the report; zeros where it predicts none.
        patches: as the network saw them, `(R, R, 3)` each; places: where each is.
        report: how; files: what was saved, the picture first.
    """

    image: Photograph
    mask: npt.NDArray[np.float32]
    patches: Sequence[Photograph]
    places: Sequence[PlacedPatch]
    report: AssembleReport
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        rows, cols = self.mask.shape
        return f"Assembled({rows}x{cols}, variant {self.report.variant}, {len(self.places)} patches)"


def assemble(
    patches: Sequence[PatchLike] = (),
    variants: int = VARIANTS,
    seed: int = 0,
    *,
    models: str | Path | None,
    network: str = KIND,
    reader: Reader | None = None,
    from_bank: Sequence[str] = (),
    sources: Sequence[str] = (),
    split: str | None = None,
    count: int | None = None,
    noise: float = 0.0,
    alike: bool = False,
    compiled: str | Path | None = None,
    out: str | Path | None = None,
) -> list[Assembled]:
    """Pictures of patches, once a variant; patches of several pictures make one that is between them.

    Args:
        patches: files or arrays, see `PatchLike`.
        variants: how many; seed: of the noise, and of which pictures of the bank the patches are.
        models: folder of trained networks; network: name of the file there.
        reader: of the bank, for what follows.
        from_bank: `class:NAME` each: key patches of an object of that class, another one for each time it is named.
        sources: names of photographs, whose key patches are taken. split: of the objects; default test, else val, else
            train.
        count: patches in all; default all that are given, and of the bank as many as the network was trained with less
            these, at least one of each picture.
        noise: standard deviation of noise added to the patches, levels of 0..255.
        alike: all that is given is of one scale, such as parts that were cut out of one photograph; a network that sees
            the shapes of patches is told how large they are beside one another. Patches of the bank always are so.
        compiled: folder of compiled forms of the networks, which are used where they fit.
        out: a folder, made where there is none, for `<name>-<variant>.png`, what stands beside it, and a sheet.

    Raises:
        InputError: one of the arguments cannot be used, found before anything is written.
    """
    check_draws(variants, seed)
    _check_noise(noise)
    check_count(count)
    from_bank, sources = _listed("from_bank", from_bank), _listed("sources", sources)
    _check_bank(reader, from_bank, sources, split)
    patches = _listed("patches", patches)
    own = [given(patches)] if patches else []
    if models is None:
        raise InputError(sentence("models", "no folder of trained networks was named", fix="give --models"))
    assembler = Assembler(models, network, compiled=None if compiled is None else Store(compiled))
    groups = own + _groups(reader, from_bank, sources, split, assembler, count, seed)
    chosen = _chosen(groups, count, assembler)
    stem = stem_of([group.name for group in groups])
    if out is not None:
        check_places(out, stem, variants, patches)
    warnings = _warnings(assembler, chosen, from_bank, sources)
    pixels = degraded(_fitting(assembler, chosen, alike=alike), noise, seed)
    made = [_made(assembler, chosen, pixels, seed, variant, noise, warnings) for variant in range(variants)]
    if out is None:
        return made
    drawn = sheet(made, [group.picture for group in groups if group.picture is not None])
    return [replace(each, files=paths) for each, paths in zip(made, save(made, drawn, out, stem), strict=True)]


def _fitting(assembler: Assembler, chosen: Sequence[Patch], *, alike: bool) -> list[Photograph]:
    """The pixels of patches: of the bank as they are, what was given as the network is used to."""
    longest = max((max(each.pixels.shape[:2]) for each in chosen if each.source is not None), default=None)
    given = [each.pixels for each in chosen if each.source is None]
    fitting = iter(assembler.fitting(given, longest, alike=alike))
    return [next(fitting) if each.source is None else each.pixels for each in chosen]


def _listed(name: str, values: Any) -> list[Any]:
    """What several things are given as; a picture alone is none."""
    single = isinstance(values, str | Path) or (isinstance(values, np.ndarray) and values.ndim in (2, 3))
    if single or not isinstance(values, Iterable):
        found = repr(str(values)) if isinstance(values, str | Path) else type(values).__name__
        raise InputError(sentence(name, expected="a list of them", found=found, fix="put it in [ ]"))
    return list(values)


def _made(
    assembler: Assembler,
    chosen: Sequence[Patch],
    pixels: Sequence[Photograph],
    seed: int,
    variant: int,
    noise: float,
    warnings: tuple[str, ...],
) -> Assembled:
    picture = assembler.made(pixels, seed, variant)
    places = assembler.places(picture, pixels)
    used = tuple(
        UsedPatch(each.name, each.source, (each.pixels.shape[0], each.pixels.shape[1]), each.box, *place)
        for each, place in zip(chosen, places, strict=True)
    )
    told = assembler.identity, warnings, assembler.cut
    report = AssembleReport(assembler.name, seed, variant, float(noise), used, *told)
    return Assembled(picture.image, picture.mask, assembler.squares(pixels), places, report)


def _groups(
    reader: Reader | None,
    from_bank: Sequence[str],
    sources: Sequence[str],
    split: str | None,
    assembler: Assembler,
    count: int | None,
    seed: int,
) -> list[Group]:
    """The patches of each picture of the bank that is asked for."""
    if reader is None:
        return []
    most, side = count or assembler.parts, assembler.resolution
    found: list[Group] = []
    for number, each in enumerate(from_bank):
        taken = {group.of for group in found if group.of is not None}
        name = each.removeprefix(CLASS)
        found.append(of_class(reader, name, side, most, seed, number, split, taken, assembler.aspect))
    return found + [of_photograph(reader, each, side, most, assembler.aspect) for each in sources]


def _chosen(groups: Sequence[Group], count: int | None, assembler: Assembler) -> list[Patch]:
    """What the picture is made of: `count`, or all that was given, and of the bank what the network knows beyond it.

    Raises:
        InputError: there are none, or too many, or so few were asked for that some picture would give none.
    """
    if count is not None and count < len(groups):
        expected = f"at least {len(groups)}, one of each picture that is named"
        raise InputError(sentence("--patches", expected=expected, found=str(count)))
    of_bank = [group for group in groups if group.picture is not None]
    if count is not None or not of_bank:
        return mixed(groups, count)
    room = assembler.parts - sum(len(group.patches) for group in groups if group.picture is None)
    there = sum(len(group.patches) for group in of_bank)
    taken = mixed(of_bank, min(there, max(room, len(of_bank))))
    left = [
        group if group.picture is None else replace(group, patches=[each for each in group.patches if each in taken])
        for group in groups
    ]
    return mixed(left, None)


def _warnings(
    assembler: Assembler, chosen: Sequence[Patch], from_bank: Sequence[str], sources: Sequence[str]
) -> tuple[str, ...]:
    said, file = [*assembler.warnings], f"{assembler.name}.safetensors"
    if len(chosen) > assembler.parts:
        said.append(sentence(file, f"was trained with {assembler.parts} patches at most and gets {len(chosen)}"))
    own = assembler.objects
    trained = f"objects of class {own}" if own else "whole photographs"
    strange = [each for each in dict.fromkeys(from_bank) if each != f"{CLASS}{own}"]
    if strange:
        said.append(sentence(file, f"was trained on {trained}, and gets patches of {', '.join(strange)}"))
    if sources and own:
        said.append(sentence(file, f"was trained on {trained}, and gets patches of whole photographs"))
    return tuple(said)


def _check_noise(noise: float) -> None:
    number = isinstance(noise, int | float | np.number) and not isinstance(noise, bool)
    if not (number and math.isfinite(noise) and 0 <= noise <= MOST_NOISE):
        raise InputError(sentence("noise", expected=f"a number from 0 to {MOST_NOISE:g} levels", found=repr(noise)))


def _check_bank(reader: Reader | None, from_bank: Sequence[str], sources: Sequence[str], split: str | None) -> None:
    if twice := next((each for each in sources if list(sources).count(each) > 1), None):
        raise InputError(sentence(f"source {twice!r}", expected="once", found="several times"))
    for each in from_bank:
        if not str(each).startswith(CLASS) or each == CLASS:
            raise InputError(sentence("--from-bank", expected=f"{CLASS}NAME, such as {CLASS}car", found=repr(each)))
    if (from_bank or sources) and reader is None:
        raise InputError(sentence("patches of the bank", "no bank was named", fix="give --bank"))
    if split is not None and not from_bank:
        raise InputError(sentence("--split", expected="with --from-bank", found="without it", fix="leave it out"))
