"""Which objects of a bank are put into layouts, and how many: so that every class is as common as it shall be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.reader import Reader
from ..synth.anatomy import LARGEST
from .object_bank import Floats, Ints, ObjectBank

ODD = 0.7, 1.7
"""Times as tall as others at its place, at least and at most: else an object is a part of one, or something else."""
SOLID = 0.6
"""Of its box, relative to the median of its class, that an object must cover: what covers less lacks a part."""
NAMED = 5
"""What a class that shall become more or less common counts, beside one that shall stay as it is."""
ENOUGH_CARRIED = 5
"""Objects that stand and carry some of a class that hangs, from which on it is put in with these alone."""


class Pool(NamedTuple):
    """Objects that are put in for the sake of one class, with all that they carry.

    Attributes:
        class_index: of the class; objects: their numbers in the bank; rate: how many of them a layout gets, on average.
    """

    class_index: int
    objects: Ints
    rate: float


def removal_rates(objects: ObjectBank, boost: Floats, removed: float) -> Floats:
    """`(C,)`, the probability that an object of each class that can be taken out is removed, with all that it carries.

    Args:
        boost: `(C,)`, how many times more there shall be of each class; below 1 it takes more than `removed`, perhaps.
        removed: of those that are at least as common as before.
    """
    own = np.diag(objects.n_loose)
    needed = np.divide((1 - boost) * objects.n_pixels, own, out=np.zeros(len(own)), where=own > 0)
    rates: Floats = np.clip(np.maximum(needed, removed), 0, 1)
    return rates


def pools_of(objects: ObjectBank, erased: npt.NDArray[np.bool_]) -> list[Pool]:
    """One pool a thing class that has objects to be put in, without rates.

    Args:
        erased: `(C,)`, classes of which nothing is put in, nor what carries it.
    """
    barred = np.logical_or.reduceat(erased[objects.of], objects.members[:-1]) if len(objects) else np.zeros(0, bool)
    found = ((int(index), _objects_of(objects, int(index))) for index in np.flatnonzero(objects.things))
    chosen = [(index, each[~barred[each]]) for index, each in found]
    return [Pool(index, each, 0.0) for index, each in chosen if each.size]


def rated(pools: Sequence[Pool], objects: ObjectBank, boost: Floats, removal: Floats, fitting: Floats) -> list[Pool]:
    """The pools with rates that make up for what is removed, and add what `boost` asks for.

    The rates are the numbers of at least 0 for which the expected pixels of all classes come nearest to what is wanted
    (least squares, relative to how common each class is): objects bring others along that they carry.

    Args:
        fitting: by pool, the share of its objects for which there is room.
    """
    from scipy.optimize import nnls

    if not pools:
        return []
    wanted = (boost - 1) * objects.n_pixels + removal @ objects.n_loose
    brings = np.stack([objects.pixels_of(pool.objects) for pool in pools], axis=1) * fitting
    weight = np.where(boost == 1, 1, NAMED) / np.maximum(objects.n_pixels, 1e-6)
    of_things = (brings * weight[:, None])[objects.things], np.maximum(wanted * weight, 0)[objects.things]
    rates, _ = nnls(*of_things)
    return [pool._replace(rate=float(rate)) for pool, rate in zip(pools, rates, strict=True)]


def lacking(pools: Sequence[Pool], objects: ObjectBank, boost: Floats) -> Ints:
    """Indices of the classes that there shall be more of, and that no object of the pools has or carries."""
    brought = sum((objects.pixels_of(pool.objects) for pool in pools), np.zeros(len(objects.things)))
    return np.flatnonzero((boost > 1) & (brought == 0))


def without(pool: Pool, barred: npt.NDArray[np.bool_]) -> Pool:
    """A pool without some objects; `barred`: `(n,)` by object."""
    return pool._replace(objects=pool.objects[~barred[pool.objects]])


def _objects_of(objects: ObjectBank, index: int) -> Ints:
    """Of a class that stands, its objects; of one that hangs, those that stand and carry it, or its own if too few."""
    usable = _usable(objects)
    own = usable & (objects.classes == index)
    if objects.grounding.standing[index]:
        return np.flatnonzero(own)
    holds = np.zeros(len(objects), bool)
    holds[np.searchsorted(objects.members, np.flatnonzero(objects.of == index), side="right") - 1] = True
    carrying = np.flatnonzero(usable & holds & objects.grounding.standing[objects.classes])
    return carrying if len(carrying) >= ENOUGH_CARRIED else np.flatnonzero(own)


def _usable(objects: ObjectBank) -> npt.NDArray[np.bool_]:
    """Objects of an ordinary height that may stand somewhere and are not too large together."""
    grounding = objects.grounding
    expected = grounding.intercept[objects.classes] + grounding.slope[objects.classes] * objects.feet
    fitted = ~np.isnan(expected)
    expected = np.where(fitted & (expected > 0), expected, np.nan)
    odd = (objects.heights < ODD[0] * expected) | (objects.heights > ODD[1] * expected)
    cut = objects.edges[:, 0] | objects.edges[:, 2]  # of those nobody knows the height
    solid = objects.areas[objects.members[:-1]] / np.maximum(objects.heights * 2 * objects.halves, 1e-9)
    for index in np.unique(objects.classes).tolist():
        of_class = objects.classes == index
        solid[of_class] /= max(float(np.median(solid[of_class])), 1e-9)
    together = np.add.reduceat(objects.areas, objects.members[:-1]) if len(objects) else np.zeros(0)
    ordinary = ~fitted | cut | (~np.isnan(expected) & ~odd)
    usable: npt.NDArray[np.bool_] = (
        ordinary & (solid >= SOLID) & (together <= LARGEST) & grounding.allowed[objects.classes].any(axis=1)
    )
    return usable


def checked_boost(reader: Reader, boost: Mapping[str, float]) -> dict[str, float]:
    """Class name to factor.

    Raises:
        InputError: a name is none of a thing class of the bank, or a factor no finite number above 0.
    """
    for name, factor in boost.items():
        where = f"boost of {name!r}"
        check_thing(reader, where, name)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
            raise InputError(sentence(where, expected="a finite number above 0", found=repr(factor)))
    return {name: float(factor) for name, factor in boost.items()}


def check_thing(reader: Reader, where: str, name: str) -> None:
    """Refuses a name that is none of a thing class; `where` says who asked.

    Raises:
        InputError: the bank has no such class, or it is stuff.
    """
    things = [entry.name for entry in reader.classes if entry.thing]
    if name not in things:
        known = "a stuff class" if reader.classes.named(name) else f"no class of {reader.path}"
        listed = ", ".join(things) or "none, the bank has no thing classes"
        raise InputError(sentence(where, expected=f"a thing class of the bank ({listed})", found=known))
