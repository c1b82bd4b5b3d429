"""What a user hands over as a layout, as a layout of the bank's class ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID, ClassTable, Colour, Layout, SemanticClass
from ..storage.decoding import Decoding
from ..storage.errors import LayoutError, SourceError, sentence
from ..storage.images import decode_labels
from ..storage.manifest import Manifest
from ..storage.reader import Reader

LayoutLike = str | Path | npt.NDArray[Any]
"""A path to an index or RGB-palette picture, an `(H, W)` integer array, or an `(H, W, 3)` uint8 RGB array."""


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
