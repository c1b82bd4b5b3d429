"""What a user hands over: a layout, which becomes one of the bank's class ids, and how to search for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID, ClassTable, Colour, Layout, SemanticClass
from ..storage.codec import Mask
from ..storage.decoding import Decoding
from ..storage.errors import FilterError, LayoutError, SourceError, sentence
from ..storage.filters import Where
from ..storage.images import MAX_PIXELS, decode_labels
from ..storage.layouts import Box
from ..storage.manifest import Manifest
from ..storage.reader import Reader

LayoutLike = str | Path | npt.NDArray[Any]
"""A path to an index or RGB-palette picture, an `(H, W)` integer array, or an `(H, W, 3)` uint8 RGB array."""

Mode = Literal["exact", "fast", "gpu"]
LEAST_WEIGHT = 1e-100
"""Weights whose sum is under this, or over its inverse, are as good as 0 or infinite."""
POOL = 10
"""How many of the best hits of each component a coherent choice is made among; more of them change next to nothing."""
COHERENCE = 0.5
"""Weight of agreement in a coherent choice where none is given: it costs 3 to 5 % of the mean score."""


class Options(TypedDict, total=False):
    """How to search; every way to ask takes these by name.

    Keys:
        where: only segments that this filter on the columns of `bank.segments()` keeps: SQL text such as `"class_name =
            'car' AND area > 500"`, an Arrow expression, or column to value (or list of values).
        exclude: names of sources or groups whose segments are left out.
        source: the source of the bank that the layout belongs to.
        guard: bars what a training query must not see: `val` and `test` sources and, where `source` is given, all of
            its group, and neighbouring groups where its data set has such; default: on where `source` is given.
        min_score: only hits of at least this score.
        sample: `(top, seed)`: the hits of each component are drawn from its best `top`, without replacement; equal
            seeds draw equally.
        weights: of mask IoU and context IoU, default `(1.0, 1.0)`.
        mode: `"exact"`, `"fast"` (candidates by an approximate index, scored exactly) or `"gpu"`.
        certify: make sure that the answer of `"fast"` is the exact one.
        coherent: the first hit of each component is chosen jointly, among its best `POOL`, so that neighbours agree in
            light and colour; the others follow as they were. True, or the weight of that agreement; False or 0: not.
            With `sample` it is chosen among those drawn.
    """

    where: Where
    exclude: str | Iterable[str]
    source: str | None
    guard: bool | None
    min_score: float | None
    sample: tuple[int, int] | None
    weights: tuple[float, float]
    mode: Mode
    certify: bool
    coherent: bool | float


@dataclass(frozen=True)
class RetrievalOptions:
    """One query's options, checked: `k`, hits a component at most, and those of `Options`; `coherent` as its weight.

    Raises:
        FilterError: one of them cannot be; where, the names in exclude, and source are looked at when they are used.
    """

    k: int = 5
    where: Where = None
    exclude: str | Iterable[str] = ()
    source: str | None = None
    guard: bool | None = None
    min_score: float | None = None
    sample: tuple[int, int] | None = None
    weights: tuple[float, float] = (1.0, 1.0)
    mode: Mode = "exact"
    certify: bool = False
    coherent: bool | float = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", names_of("exclude", self.exclude))
        _require("k", "a whole number of at least 1", self.k, is_whole(self.k, 1))
        weights = "two finite numbers of at least 0, not both 0, their sum in 1e-100..1e100"
        _require("weights", weights, self.weights, _are_weights(self.weights))
        _require("source", "the name of a source", self.source, self.source is None or isinstance(self.source, str))
        _require("guard", "True or False", self.guard, self.guard is None or isinstance(self.guard, bool))
        _require("min_score", "a number", self.min_score, self.min_score is None or _is_number(self.min_score))
        _require("certify", "True or False", self.certify, isinstance(self.certify, bool))
        _require("mode", f"one of {', '.join(get_args(Mode))}", self.mode, self.mode in get_args(Mode))
        usable = self.sample is None or _is_sample(self.sample, self.k)
        _require("sample", f"(top, seed), top at least k = {self.k}, seed at least 0", self.sample, usable)
        _require("coherent", "True, False or a number from 0 to 1e100", self.coherent, _is_weight(self.coherent))
        object.__setattr__(self, "k", int(self.k))  # a narrow NumPy integer overflows as soon as it is doubled
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        weight = COHERENCE if self.coherent is True else float(self.coherent)
        object.__setattr__(self, "coherent", weight)
        if self.sample is not None:
            object.__setattr__(self, "sample", (int(self.sample[0]), int(self.sample[1])))

    @property
    def guarded(self) -> bool:
        """Whether the guard is on."""
        return self.source is not None if self.guard is None else self.guard

    @property
    def depth(self) -> int:
        """How many of the best must be known."""
        if self.sample is not None:
            return self.sample[0]
        return max(self.k, POOL) if self.coherent else self.k


def as_layout(given: LayoutLike, reader: Reader, dataset: str | None = None) -> Layout:
    """A layout in the bank's class ids.

    Args:
        given: class ids (void is 65535; 255 too where it is no class; and, in a bank of one data set, that data
            set's own void), or colours of the classes (black is void where no class is black).
        reader: the bank.
        dataset: the ids and colours are the native ones of this data set instead of the bank's.

    Raises:
        LayoutError: not a layout, ids or colours beyond the class list, or nothing but void.
    """
    name = str(given) if isinstance(given, (str, Path)) else "layout"
    try:
        labels = _labels(given, name)
        if dataset is None:
            layout = _bank_decoding(reader.manifest).layout(labels, name)
        else:
            entry = reader.dataset(dataset)
            decoding = replace(entry.decoding, palette=entry.decoding.palette or _palette(entry.decoding.classes))
            layout = entry.to_bank(decoding.layout(labels, name))
    except SourceError as error:
        raise LayoutError(str(error)) from error
    if not (layout != VOID).any():
        raise LayoutError(sentence(name, expected="at least one labelled pixel", found="nothing but void"))
    return layout


def as_mask(given: npt.ArrayLike) -> Mask:
    """A mask, `(H, W)` bool, of bools or of integers of which all but 0 count.

    Raises:
        LayoutError: not such an array, or not one pixel in it.
    """
    try:
        mask = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise LayoutError(sentence("mask", expected="an array", found=f"none ({error})")) from error
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biu":
        found = f"shape {mask.shape} of {mask.dtype}"
        raise LayoutError(sentence("mask", expected="an (H, W) array of bool or integers", found=found))
    if not mask.any():
        raise LayoutError(sentence("mask", expected="at least one pixel", found="none"))
    whole: Mask = mask != 0
    return whole


def as_size(size: tuple[int, int]) -> tuple[int, int]:
    """`(height, width)` of a picture, pixels, or a LayoutError."""
    height, width = _whole_numbers("size", "(height, width) in pixels", size, 2)
    if not (0 < height <= VOID and 0 < width <= VOID):
        raise LayoutError(sentence("size", expected=f"two numbers in 1..{VOID}", found=repr(size)))
    if height * width > MAX_PIXELS:
        raise LayoutError(sentence("size", expected=f"at most {MAX_PIXELS:,} pixels", found=repr(size)))
    return height, width


def as_box(box: Box, height: int, width: int) -> Box:
    """A half-open box that is not empty and lies inside a picture, or a LayoutError."""
    top, left, bottom, right = _whole_numbers("box", "(top, left, bottom, right)", box, 4)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        expected = f"0 <= top < bottom <= {height} and 0 <= left < right <= {width}"
        raise LayoutError(sentence("box", expected=expected, found=repr(tuple(box))))
    return top, left, bottom, right


def _whole_numbers(name: str, expected: str, given: Any, count: int) -> list[int]:
    try:
        numbers = list(given)
    except TypeError:
        numbers = []
    if len(numbers) != count or not all(isinstance(n, (int, np.integer)) for n in numbers):
        raise LayoutError(sentence(name, expected=f"{expected}, whole numbers", found=repr(given)))
    return [int(n) for n in numbers]


def _labels(given: LayoutLike, name: str) -> npt.NDArray[np.integer]:
    if isinstance(given, (str, Path)):
        try:
            return decode_labels(Path(os.path.expanduser(given)).read_bytes(), name)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = getattr(error, "strerror", None) or error
            raise LayoutError(
                sentence(name, f"cannot be read ({why})", fix="give the path of an index or RGB picture")
            ) from error
    try:
        labels = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; tensors on a device or with gradients
        raise LayoutError(sentence(name, expected="an array of class ids", found=f"none ({error})")) from error
    whole = labels.ndim == 2 or (labels.ndim == 3 and labels.shape[2] == 3 and labels.dtype == np.uint8)
    if not whole or not labels.size or labels.dtype.kind not in "iu":
        raise LayoutError(
            sentence(
                name,
                expected="an (H, W) array of integer class ids or an (H, W, 3) uint8 RGB array",
                found=f"shape {labels.shape} of {labels.dtype}",
            )
        )
    return labels


def _bank_decoding(manifest: Manifest) -> Decoding:
    classes: ClassTable = manifest.classes
    void = {255}
    if len(manifest.datasets) == 1:
        void |= manifest.datasets[0].decoding.void
    return Decoding(
        tuple(classes), frozenset(id for id in void if id not in classes) | {VOID}, _palette(tuple(classes))
    )


def _palette(classes: tuple[SemanticClass, ...]) -> Mapping[Colour, int]:
    """Colours that name one class each; black is void unless a class is black."""
    counts: dict[Colour, int] = {}
    for entry in classes:
        counts[entry.colour] = counts.get(entry.colour, 0) + 1
    palette = {entry.colour: entry.id for entry in classes if counts[entry.colour] == 1}
    return palette if (0, 0, 0) in counts else {**palette, (0, 0, 0): VOID}


def _require(name: str, expected: str, found: object, holds: bool) -> None:
    if not holds:
        raise FilterError(sentence(name, expected=expected, found=repr(found)))


def asked_for(k: int, options: Options) -> RetrievalOptions:
    """Options by their names, checked.

    Raises:
        FilterError: there is no option of that name, or one of them cannot be.
    """
    check_names(options)
    return RetrievalOptions(k, **options)


def check_names(options: Mapping[str, Any]) -> None:
    """Refuses names that are none of `Options`.

    Raises:
        FilterError: there is one.
    """
    if strange := sorted(set(options) - set(Options.__annotations__)):
        expected = f"one of {', '.join(Options.__annotations__)}"
        raise FilterError(sentence(f"option {strange[0]!r}", expected=expected, found="no such option"))


def names_of(what: str, given: object) -> tuple[str, ...]:
    """One name, or several.

    Raises:
        FilterError: it is neither.
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise FilterError(sentence(what, expected="a name, or several", found=repr(given)))
    return names


def is_whole(value: object, least: int, most: float = math.inf) -> bool:
    """Whether it is a whole number, NumPy's among them, from `least` to `most`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(least <= value <= most)  # type: ignore[operator]


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError):  # an integer beyond float64; a complex number
        return False


def _are_weights(weights: Any) -> bool:
    try:
        mask, context = weights
    except (TypeError, ValueError):
        return False
    if isinstance(weights, (str, Mapping)) or not all(_is_weight(weight) for weight in (mask, context)):
        return False
    return LEAST_WEIGHT <= float(mask) + float(context) <= 1 / LEAST_WEIGHT


def _is_weight(value: Any) -> bool:
    return (isinstance(value, bool) or _is_number(value)) and bool(0 <= value <= 1 / LEAST_WEIGHT)


def _is_sample(sample: Any, k: int) -> bool:
    return isinstance(sample, (tuple, list)) and len(sample) == 2 and is_whole(sample[0], k) and is_whole(sample[1], 0)
