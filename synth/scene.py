"""A layout as ground, other stuff and objects before them, which can be taken out and put in one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID
from ..storage.layouts import Box, find_components
from .anatomy import CONTACT_SHARE, WHOLE, anatomy, loose_roots
from .background import background, bridge
from .grounding import Terrain
from .placing import Index, Layer, Mask, Placed

LEVEL = 0.02
"""Of the rows: feet that differ by less are level."""
RIM = 0.012
"""Of the rows: void so near to an object is its rim, which nobody labelled."""
LIFTED = -1
"""Number of pixels of what is taken out, until something else takes them."""
BRIDGED = 0.12
"""Of the columns: so much of an object is taken to go on behind one in front of it that is taken out, at most."""


@dataclass(eq=False)
class Thing:
    """An object of a scene.

    Attributes:
        number: in `Scene.owner`; index: of its class; box: in pixels; area: of all of it, hidden pixels included.
        foot: the row that says how near it is, that of what carries it; stands: it does so on ground.
        root: number of what carries it, its own for one that nothing carries.
        segment: id of the bank's segment that it is, 0 for one of the layout.
        whole: no object in front hides much of it.
        hidden: pixels that others which were put in hide.
    """

    number: int
    index: int
    box: Box
    area: int
    foot: float
    stands: bool
    root: int
    segment: int = 0
    whole: bool = True
    hidden: int = 0


@dataclass(frozen=True)
class Limits:
    """What a place must give.

    Attributes:
        overlap: the share of an object that others may hide, at most, in 0..1.
        support: the share of the columns of an object's foot that must be on allowed stuff, at least.
        smallest: pixels of an object, at least.
    """

    overlap: float = 0.35
    support: float = 0.8
    smallest: int = 12


@dataclass(eq=False)
class Scene:
    """A layout taken apart. Its class indices are places in the bank's table, C for void.

    Attributes:
        owner: `(H, W)` int32, the number of the object that is seen, 0 for stuff.
        behind: `(H, W)` uint16, the stuff behind all objects, class indices.
        rim: `(H, W)` int32, where void is the rim of an object: its number, with which the void goes; 0 elsewhere.
        things: by number; loose: the numbers of those that nothing carries and that may be taken out.
        ahead: `(C, C)`, the share of pairs in which the first of two classes was in front of the second; a half where
            the bank does not know.
    """

    owner: npt.NDArray[np.int32]
    behind: Index
    rim: npt.NDArray[np.int32]
    things: dict[int, Thing]
    loose: list[int]
    ahead: npt.NDArray[np.float64]
    _next: int = field(default=0)

    @classmethod
    def of(
        cls, classes: Index, things: npt.NDArray[np.bool_], terrain: Terrain, ahead: npt.NDArray[np.float64]
    ) -> Scene:
        """Takes a layout apart.

        Args:
            classes: `(H, W)` class indices, C for void; things: `(C,)`; terrain, ahead: of the bank.
        """
        n_classes = len(things)
        parts = find_components(np.where(classes == n_classes, np.uint16(VOID), classes))
        index = np.insert(parts.class_ids.astype(np.int64), 0, n_classes)
        objects = np.append(things, False)[index]
        if not objects.any():
            none = np.zeros(classes.shape, np.int32)
            return cls(none, classes, none, {}, [], ahead, 1)
        body = anatomy(parts.labels, index, objects, terrain.ground)
        on_ground = body.contact @ terrain.ground * 2 > body.contact.sum(axis=1)
        stands = on_ground | (body.boxes[:, 2] == classes.shape[0])
        found = {
            n: Thing(
                n,
                int(index[n]),
                (box[0], box[1], box[2], box[3]),
                int(body.areas[n]),
                float(body.boxes[body.root[n], 2]),
                bool(stands[body.root[n]]),
                int(body.root[n]),
                whole=bool(body.bitten[n] <= WHOLE),
            )
            for n, box in zip(np.flatnonzero(objects).tolist(), body.boxes[objects].tolist(), strict=True)
        }
        hidden = objects[parts.labels]
        owner = np.where(hidden, parts.labels, 0).astype(np.int32)
        near = np.ones((2 * max(round(RIM * classes.shape[0]), 1) + 1,) * 2, np.uint8)
        rim = np.where(classes == n_classes, cv2.dilate(owner.astype(np.float32), near), 0).astype(np.int32)
        behind = background(classes, hidden | (rim > 0), terrain.ground, terrain.prior, terrain.line)
        return cls(owner, behind, rim, found, loose_roots(body, classes.shape).tolist(), ahead, len(index))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.owner.shape[0], self.owner.shape[1]

    def together(self, root: int) -> list[Thing]:
        """An object, then all that it carries."""
        return [self.things[root], *(t for t in self.things.values() if t.root == root and t.number != root)]

    def layers(self, things: Iterable[Thing]) -> list[Layer]:
        """Objects as they are seen, to be put in elsewhere."""
        rows, cols = self.size
        found = []
        for thing in things:
            top, left, bottom, right = thing.box
            mask = self.owner[top:bottom, left:right] == thing.number
            place = top / rows, left / cols, bottom / rows, right / cols
            found.append(Layer(thing.index, place, mask, thing.segment))
        return found

    def lift(self, things: Sequence[Thing]) -> None:
        """Takes objects out: what is behind them is seen again, an object in front of which they were closes."""
        if not things:
            return
        for thing in things:
            del self.things[thing.number]
            top, left, bottom, right = thing.box
            window = self.owner[top:bottom, left:right]
            window[window == thing.number] = LIFTED
        class_of = np.full(self._next + 1, -1, np.int64)
        for thing in self.things.values():
            class_of[thing.number] = thing.index
        merged = bridge(self.owner, LIFTED, class_of, around(things), int(BRIDGED * self.size[1]))
        for kept, gone in merged.tolist():
            self._merge(kept, gone)

    def restore(self, things: Sequence[Thing], layers: Sequence[Layer]) -> None:
        """Puts objects back that were lifted last, where they were."""
        for thing, layer in zip(things, layers, strict=True):
            top, left, bottom, right = thing.box
            self.owner[top:bottom, left:right][layer.mask] = thing.number
            self.things[thing.number] = thing

    def fits(self, placed: Placed, allowed: npt.NDArray[np.bool_], limits: Limits) -> bool:
        """Whether what carries all stands on allowed stuff, and neither hides others nor is hidden too much."""
        layer, box, mask = placed.layers[0]
        if np.count_nonzero(mask) < limits.smallest:
            return False
        if self.support(box, mask, allowed) < limits.support:
            return False
        for _, (top, left, bottom, right), mask in placed.layers:
            seen, counts = np.unique(self.owner[top:bottom, left:right][mask], return_counts=True)
            hidden = 0
            for number, count in zip(seen.tolist(), counts.tolist(), strict=True):
                if not number:
                    continue
                other = self.things[number]
                if self.before(other, placed, layer.class_index):
                    hidden += count
                elif other.hidden + count > limits.overlap * other.area:
                    return False
            if hidden > limits.overlap * np.count_nonzero(mask):
                return False
        return True

    def support(self, box: Box, mask: Mask, allowed: npt.NDArray[np.bool_]) -> float:
        """The share of the columns of an object's foot right below which there is allowed stuff, or the frame ends."""
        top, left, _, _ = box
        ends = np.where(mask.any(axis=0), mask.shape[0] - mask[::-1].argmax(axis=0), 0)
        at = np.flatnonzero(ends > max(ends.max() - max(int(CONTACT_SHARE * mask.shape[0]), 1), 0))
        rows = top + ends[at]
        inside = rows < self.size[0]
        on = allowed[self.behind[np.minimum(rows, self.size[0] - 1), left + at]]
        return float((on | ~inside).mean())

    def before(self, thing: Thing, placed: Placed, index: int) -> bool:
        """Whether an object of the scene is in front of one of a class that is to be put in.

        Of two that stand, the one with the lower foot is. Where feet are level or something hangs, the bank's orderings
        say it; where they do not, what stands is in front of what hangs, and else what reaches lower.
        """
        if thing.stands and placed.stands and abs(thing.foot - placed.foot) > LEVEL * self.size[0]:
            return thing.foot > placed.foot
        ahead = self.ahead[thing.index, index]
        if ahead != 0.5:
            return bool(ahead > 0.5)
        return thing.stands if thing.stands != placed.stands else thing.foot > placed.foot

    def put(self, placed: Placed) -> list[Thing]:
        """Puts objects in: each pixel is seen where nothing in front of it is."""
        made: list[Thing] = []
        for layer, box, mask in placed.layers:
            top, left, bottom, right = box
            number, self._next = self._next, self._next + 1
            root = made[0].number if made else number
            area = int(np.count_nonzero(mask))
            thing = Thing(number, layer.class_index, box, area, placed.foot, placed.stands, root, layer.segment)
            window = self.owner[top:bottom, left:right]
            shown = mask.copy()
            seen, counts = np.unique(window[mask], return_counts=True)
            for other, count in zip(seen.tolist(), counts.tolist(), strict=True):
                if other and self.before(self.things[other], placed, layer.class_index):
                    shown &= window != other
                    thing.hidden += count
                elif other:
                    self.things[other].hidden += count
            window[shown] = number
            self.things[number] = thing
            made.append(thing)
        return made

    def tidy(self, least: float) -> list[Thing]:
        """Drops what is left of objects that others hide: all of one that shows less than `least` of its pixels, else
        those of its pieces that do. What is behind them is seen instead. What carries others keeps all that is seen.

        Returns:
            The objects that went.
        """
        gone: list[Thing] = []
        carriers = {thing.root for thing in self.things.values() if thing.root != thing.number}
        for thing in list(self.things.values()):
            if not thing.hidden:
                continue
            top, left, bottom, right = thing.box
            window = self.owner[top:bottom, left:right]
            seen = window == thing.number
            share = 0 if thing.number in carriers else least
            if np.count_nonzero(seen) < max(share * thing.area, 1):
                window[seen] = 0
                gone.append(self.things.pop(thing.number))
                continue
            n, pieces, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8), connectivity=8)
            small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < share * thing.area)
            if n > 2 and small.size:
                window[np.isin(pieces, small[small > 0])] = 0
        return gone

    def classes(self) -> Index:
        """`(H, W)` uint16 class indices of what is seen."""
        index, rimmed = np.zeros(self._next + 1, np.uint16), np.zeros(self._next + 1, bool)
        for thing in self.things.values():
            index[thing.number] = thing.index
            rimmed[thing.number] = True
        seen: Index = np.where(self.owner > 0, index[self.owner], self.behind)
        seen[rimmed[self.rim] & (self.owner == 0)] = len(self.ahead)
        return seen

    def _merge(self, kept: int, gone: int) -> None:
        one, other = self.things[kept], self.things.pop(gone)
        (top, left, bottom, right), box = one.box, other.box
        one.box = min(top, box[0]), min(left, box[1]), max(bottom, box[2]), max(right, box[3])
        one.area, one.whole = one.area + other.area, one.whole and other.whole
        self.rim[self.rim == gone] = kept
        for thing in self.things.values():
            if thing.root == gone:
                thing.root = one.root


def around(things: Iterable[Thing]) -> Box:
    """The box around objects."""
    tops, lefts, bottoms, rights = zip(*(thing.box for thing in things), strict=True)
    return min(tops), min(lefts), max(bottoms), max(rights)
