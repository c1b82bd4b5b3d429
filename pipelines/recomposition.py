"""New layouts from old ones: objects are moved, taken out, mirrored and put in where the bank says they belong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..index.filters import alike_groups
from ..storage.classes import VOID, Layout
from ..storage.errors import BankError, InputError, sentence
from ..storage.layouts import sample_to_frame
from ..storage.reader import Reader
from ..storage.records import hex_id
from ..synth.placing import Layer, Place, Placed, Places, placed_at
from ..synth.scene import Limits, Scene, Thing, around
from .collage import chances_ahead
from .object_bank import MaskCache, ObjectBank, indices_of, read_objects, regions_of
from .object_pools import Pool, check_thing, checked_boost, lacking, pools_of, rated, removal_rates, without
from .recomposed import Edit, Recomposed, Recomposition, mirrored

SPLITS = ("train", "val", "test")
PLACES_OF_ONE = 3
"""Places that are tried for an object of the bank before another one is."""
TRIALS = 32
"""Layouts of the bank in which objects of every pool are tried once, to know how often they fit."""
CLEAR = 0.05
"""Of a layout: so much of it may be things for it to lend its stuff; those of the clearest quarter do so anyway."""
MOST_INSTANCES = 65535


class _Done(NamedTuple):
    """An edit whose instances are not numbered yet."""

    edit: Edit
    things: Sequence[Thing]


class Recomposer:
    """Makes new layouts. What it makes depends on the layout, the chances and the bank's generation alone.

    What it must know of the bank it reads when first asked. Pickles to a process that opens the bank anew.

    Args:
        reader: of the bank.
        split: `train`, `val` or `test`: whose objects are put in, and whose layouts say where.
        boost: by class name, how many times more of it there shall be, on average over many layouts like the bank's, as
            far as it fits; 1 for those not named.
        settings: how much changes.
        erased: names of thing classes of which nothing is left, and nothing is put in.
        exclude: names of sources and groups of which nothing is put in, and that lend no stuff.

    Raises:
        InputError: `boost` or `erased` names a class that the bank lacks or that is no thing, or a factor is no finite
            number above 0; there is no such split.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        split: str = "train",
        boost: Mapping[str, float] | None = None,
        settings: Recomposition | None = None,
        erased: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        if split not in SPLITS:
            raise InputError(sentence(f"split {split!r}", expected=f"one of {', '.join(SPLITS)}", found="another"))
        self.reader, self.split, self.settings = reader, split, settings or Recomposition()
        self.boost = checked_boost(reader, boost or {})
        for name in erased:
            check_thing(reader, f"{name!r} to be erased", name)
        self.erased, self.exclude = tuple(erased), frozenset(exclude)
        self._limits = Limits(self.settings.overlap, self.settings.support, self.settings.smallest)

    def lacking(self) -> list[str]:
        """Names of the classes that there shall be more of, and no object of which can be put in."""
        objects, barred = self._objects, self._of(self.exclude)[self._objects.source]
        pools = [without(pool, barred) for pool in pools_of(objects, self._erased_classes)]
        return [self._class_name(index) for index in lacking(pools, objects, self._boost).tolist()]

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name != "_masks"}

    def recompose(
        self, layout: Layout, random: np.random.Generator, group: str | None = None, source: str | None = None
    ) -> Recomposed:
        """A layout with some of its objects moved, mirrored or removed, and others put in.

        Args:
            layout: `(H, W)` uint16 class ids of the bank.
            random: of all chances.
            group: of the layout's source, as in `bank.sources()`: nothing is put in of it, or of one that is like it.
            source: of which nothing is put in either.

        Raises:
            BankError: the bank is damaged.
        """
        scene = self._scene(self._index[layout])
        done = self._emptied(scene)
        done += self._changed(scene, random)
        numbers = random.poisson([pool.rate for pool in self._pools]).tolist()
        done += self._added(scene, numbers, random, self._pools_for(group, source))
        return self._finished(scene, done, random)

    def erase(self, layout: Layout) -> Recomposed:
        """A layout without the objects of the classes that are erased, nor what they carry: what is around them closes.

        Args:
            layout: `(H, W)` uint16 class ids of the bank.

        Raises:
            BankError: the bank is damaged.
        """
        scene = self._scene(self._index[layout])
        return self._numbered(scene, self._emptied(scene))

    def generated(
        self,
        random: np.random.Generator,
        size: tuple[int, int] | None = None,
        apart: Literal["group", "source", "nothing"] = "nothing",
    ) -> Recomposed:
        """A layout of nobody's: the stuff of one layout of the bank, with as many objects as another one has.

        Args:
            random: of all chances.
            size: `(rows, cols)`, by default those of the bank's frame.
            apart: what of the layout that lends its stuff no object is of.

        Raises:
            BankError: the split has no labelled layouts, or the bank is damaged.
        """
        objects = self._objects
        free = ~self._of(self.exclude)
        if not free.any():
            raise BankError(sentence(self.reader.path, expected=f"labelled sources in {self.split}", found="none"))
        clear = np.flatnonzero(free & (objects.hidden <= max(float(np.quantile(objects.hidden[free], 0.25)), CLEAR)))
        source = int(clear[random.integers(len(clear))])
        counts = objects.counts[random.integers(len(objects.sources))]
        scene = self._scene_of(source, size or self.reader.geometry.frame)
        scene.lift(list(scene.things.values()))
        wanted = [
            int(counts[pool.class_index] * self._boost[pool.class_index] + random.random()) for pool in self._pools
        ]
        name, group = self._named[source].tolist()
        pools = self._pools if apart == "nothing" else self._pools_for(group if apart == "group" else None, name)
        done = [_Done(Edit("background", source=name), ()), *self._added(scene, wanted, random, pools)]
        return self._finished(scene, done, random)

    def _scene(self, classes: npt.NDArray[np.uint16]) -> Scene:
        return Scene.of(classes, self._objects.things, self._objects.terrain, self._ahead)

    def _scene_of(self, source: int, size: tuple[int, int]) -> Scene:
        """That of a layout of the bank."""
        regions, classes = regions_of(self.reader, self._objects.sources[source], self._objects.class_ids)
        return self._scene(np.asarray(sample_to_frame(classes.astype(np.uint16)[regions], size), np.uint16))

    def _emptied(self, scene: Scene) -> list[_Done]:
        """Takes every object of an erased class out, with all that it carries."""
        done = []
        indices = np.flatnonzero(self._erased_classes)
        for number in [thing.number for thing in scene.things.values() if thing.index in indices]:
            if number not in scene.things:  # it went with what carried it, or closed with another one
                continue
            thing = scene.things[number]
            together = scene.together(number) if thing.root == number else [thing]
            done.append(self._take_out(scene, together))
        return done

    def _changed(self, scene: Scene, random: np.random.Generator) -> list[_Done]:
        """What becomes of the objects that may be taken out: all that go are gone before the first is moved."""
        settings = self.settings
        loose = [root for root in scene.loose if root in scene.things]
        fates = dict(zip(loose, random.random((len(loose), 2)).tolist(), strict=True))
        removal = {root: self._removal[scene.things[root].index] for root in loose}
        done = []
        for root, (gone, _) in fates.items():
            if gone < removal[root] and root in scene.things:  # or it closed with another one behind what is gone
                done.append(self._take_out(scene, scene.together(root)))
        left = 1 - settings.removed
        for root, (gone, other) in fates.items():
            if gone < removal[root] or root not in scene.things or not left:
                continue
            if other * left < settings.moved:
                done += self._move(scene, root, random, mirrored=bool(random.random() < 0.5), stays=False)
            elif other * left < settings.moved + settings.mirrored:
                done += self._move(scene, root, random, mirrored=True, stays=True)
        return done

    def _take_out(self, scene: Scene, things: Sequence[Thing]) -> _Done:
        edit = Edit("removed", self._class_name(things[0].index), before=around(things))
        scene.lift(things)
        return _Done(edit, ())

    def _move(
        self, scene: Scene, root: int, random: np.random.Generator, *, mirrored: bool, stays: bool
    ) -> list[_Done]:
        """Moves an object, with all that it carries, or mirrors it where it is; does nothing where it does not fit."""
        things = scene.together(root)
        first = things[0]
        layers = scene.layers(things)
        grounding = self._objects.grounding
        stood = scene.support(first.box, layers[0].mask, grounding.allowed[first.index])
        indices = [thing.index for thing in things]
        carried = grounding.carries[np.ix_(indices, indices[1:])].any(axis=0).all()
        if not (first.whole and carried and stood >= self.settings.support) or any(t.hidden for t in things):
            return []  # its own shape or place is not known well enough
        scene.lift(things)
        _, left, bottom, right = layers[0].place
        places = [Place(bottom, (left + right) / 2, 1.0)]
        if not stays:
            places = self._places(scene).draw(first.index, bottom, self.settings.tries, random)
        found = self._first_fit(scene, layers, first.index, places, mirrored)
        if found is None:
            scene.restore(things, layers)
            return []
        placed, scale = found
        made, before = scene.put(placed), around(things)
        edit = Edit("mirrored" if stays else "moved", self._class_name(first.index), before, around(made), scale)
        return [_Done(edit, made)]

    def _added(
        self, scene: Scene, numbers: Sequence[int], random: np.random.Generator, pools: Sequence[Pool]
    ) -> list[_Done]:
        """Puts in so many objects of each pool, in a random order, as far as they fit."""
        wanted = np.repeat(np.arange(len(pools)), numbers)
        places = self._places(scene)
        done = (self._add(scene, places, pools[pool], random) for pool in random.permutation(wanted).tolist())
        return [each for each in done if each is not None]

    def _add(self, scene: Scene, places: Places, pool: Pool, random: np.random.Generator) -> _Done | None:
        found = self._find(scene, places, pool, random)
        if found is None:
            return None
        at, placed, scale = found
        made = scene.put(placed)
        objects = self._objects
        edit = Edit(
            "added",
            self._class_name(int(objects.classes[at])),
            after=around(made),
            scale=scale,
            segments=tuple(hex_id(thing.segment) for thing in made),
            source=str(self._named[int(objects.source[at]), 0]),
        )
        return _Done(edit, made)

    def _find(
        self, scene: Scene, places: Places, pool: Pool, random: np.random.Generator
    ) -> tuple[int, Placed, float] | None:
        """An object of a pool where it fits, with its change of size; None where none of a few does."""
        objects = self._objects
        for _ in range(-(-self.settings.tries // PLACES_OF_ONE) if len(pool.objects) else 0):
            at = int(pool.objects[random.integers(len(pool.objects))])
            index = int(objects.classes[at])
            drawn = places.draw(index, float(objects.feet[at]), PLACES_OF_ONE, random)
            mirrored = bool(random.random() < 0.5)
            found = self._first_fit(scene, self._layers(at), index, drawn, mirrored) if drawn else None
            if found is not None:
                return at, *found
        return None

    def _first_fit(
        self, scene: Scene, layers: Sequence[Layer], index: int, places: Sequence[Place], mirrored: bool
    ) -> tuple[Placed, float] | None:
        """The first of some places that objects fit, with the scale there."""
        grounding = self._objects.grounding
        for foot, middle, scale in places:
            placed = placed_at(
                layers, scene.size, foot=foot, middle=middle, scale=scale, mirrored=mirrored,
                stands=bool(grounding.standing[index]),
            )  # fmt: skip
            if placed is not None and scene.fits(placed, grounding.allowed[index], self._limits):
                return placed, scale
        return None

    def _finished(self, scene: Scene, done: Sequence[_Done], random: np.random.Generator) -> Recomposed:
        """As `_numbered`, and mirrors all, perhaps."""
        made = self._numbered(scene, done)
        if random.random() >= self.settings.mirrored_layout:
            return made
        cols = made.layout.shape[1]
        layout, instances = (np.ascontiguousarray(each[:, ::-1]) for each in (made.layout, made.instances))
        edits = [replace(edit, after=mirrored(edit.after, cols)) for edit in made.edits]
        return Recomposed(layout, instances, (*edits, Edit("layout mirrored")))

    def _numbered(self, scene: Scene, done: Sequence[_Done]) -> Recomposed:
        """Drops remnants and numbers the objects."""
        dropped = scene.tidy(self.settings.remnant)
        ids = np.append(self._objects.class_ids, np.uint16(VOID))
        layout, owner = ids[scene.classes()], scene.owner
        edits = [edit for edit in done if not edit.things or any(t.number in scene.things for t in edit.things)]
        made = {thing.number for edit in done for thing in edit.things}
        gone = [thing for thing in dropped if thing.number not in made]
        edits += [_Done(Edit("hidden", self._class_name(thing.index), thing.box), ()) for thing in gone]
        numbers = np.flatnonzero(np.bincount(owner.ravel())[1:])[:MOST_INSTANCES] + 1
        counted = np.zeros(max(int(owner.max()), 0) + 1, np.uint16)
        counted[numbers] = np.arange(1, len(numbers) + 1)
        instances = counted[owner]
        number_of = dict(zip(numbers.tolist(), range(1, len(numbers) + 1), strict=True))
        numbered = (
            replace(edit, instances=tuple(number_of[t.number] for t in things if t.number in number_of))
            for edit, things in edits
        )
        return Recomposed(layout, instances, tuple(numbered))

    def _layers(self, at: int) -> list[Layer]:
        """An object of the bank with all that it carries."""
        objects = self._objects
        shard = objects.sources[int(objects.source[at])].shard
        members = range(int(objects.members[at]), int(objects.members[at + 1]))
        found = []
        for k in members:
            index, id = int(objects.of[k]), int(objects.ids[k])
            top, left, bottom, right = objects.places[k].tolist()
            mask = self._masks.get(shard, id)
            found.append(Layer(index, (top, left, bottom, right), mask, id, bool(self._thin[index])))
        return found

    def _places(self, scene: Scene) -> Places:
        return Places(self._objects.grounding, scene.behind, self.settings.growth)

    def _pools_for(self, group: str | None, source: str | None) -> list[Pool]:
        """The pools without what a layout of `group` may not have anything of, and without a source."""
        names = set() if source is None else {source}
        if group is not None:
            neighbours = {entry.name for entry in self.reader.manifest.datasets if entry.neighbours}
            names.update(alike_groups(group, group.partition("/")[0] in neighbours))
        barred = self._of(names)[self._objects.source]
        return [without(pool, barred) for pool in self._pools] if barred.any() else self._pools

    def _of(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """By number of source, whether it, or its group, is among these names."""
        return np.asarray(np.isin(self._named, list(names)).any(axis=1), bool)

    def _class_name(self, index: int) -> str:
        return self.reader.classes[int(self._objects.class_ids[index])].name

    @cached_property
    def _objects(self) -> ObjectBank:
        return read_objects(self.reader, self.split)

    @cached_property
    def _boost(self) -> npt.NDArray[np.float64]:
        return np.array([self.boost.get(entry.name, 1.0) for entry in self.reader.classes])

    @cached_property
    def _removal(self) -> npt.NDArray[np.float64]:
        return removal_rates(self._objects, self._boost, self.settings.removed)

    @cached_property
    def _pools(self) -> list[Pool]:
        """With rates for what fits: objects are tried in layouts of the bank, by chances that are always the same."""
        objects, frame = self._objects, self.reader.geometry.frame
        pools, random = pools_of(objects, self._erased_classes), np.random.default_rng(len(objects))
        fitted = np.zeros((2, len(pools)))
        for source in np.linspace(0, len(objects.sources) - 1, TRIALS if pools else 0).astype(int).tolist():
            scene = self._scene_of(source, (max(frame[0] // 2, 1), max(frame[1] // 2, 1)))
            places = self._places(scene)
            for number, pool in enumerate(pools):
                found = self._find(scene, places, pool, random)
                fitted[0, number] += 1
                fitted[1, number] += found is not None
        fitting, barred = (fitted[1] + 1) / (fitted[0] + 1), self._of(self.exclude)[objects.source]
        return [without(pool, barred) for pool in rated(pools, objects, self._boost, self._removal, fitting)]

    @cached_property
    def _named(self) -> npt.NDArray[np.str_]:
        """`(n, 2)`: names and groups of the sources, by number."""
        held = self.reader.shard_sources
        rows = [(held[shard].names[row], held[shard].groups[row]) for shard, row in self._objects.sources]
        return np.array(rows, str).reshape(-1, 2)

    @cached_property
    def _erased_classes(self) -> npt.NDArray[np.bool_]:
        """`(C,)`, of which classes nothing is left."""
        return np.array([entry.name in self.erased for entry in self.reader.classes], bool)

    @cached_property
    def _thin(self) -> npt.NDArray[np.bool_]:
        return self.reader.classes.flags("thin")[self._objects.class_ids]

    @cached_property
    def _index(self) -> npt.NDArray[np.uint16]:
        return indices_of(self._objects.class_ids)

    @cached_property
    def _ahead(self) -> npt.NDArray[np.float64]:
        """`(C, C)`, how often the first of two classes was in front of the second, a half where there is too little."""
        return chances_ahead(self.reader, self._objects.class_ids.tolist())

    @cached_property
    def _masks(self) -> MaskCache:
        return MaskCache(self.reader)
