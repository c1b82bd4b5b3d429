"""The first two steps of an image: layout to canvas on the CPU, canvas to photograph by the network."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...index.request import Options, RetrievalOptions
from ...index.retriever import Retriever
from ...storage.classes import VOID, Layout
from ...storage.errors import InputError, SourceError, UnfinishedError, sentence
from ...storage.images import Photograph
from ...storage.layouts import find_components, sample_to_frame
from ...storage.reader import Reader
from ...storage.records import hex_id
from ...synth.canvas import Canvas
from ...synth.elision import Elided
from ...synth.encoding import resized
from .. import painting_steps as steps
from ..device_memory import AtOnce, enough_for_one
from ..inpainting.methods import FromNetwork
from ..models import Models
from ..paint import Painter, Run
from ..painted import Prepared
from ..training.sources import resized_image
from ..variants import digest_of
from .assembling import Assembling, added_by, with_assembled
from .composer import Composer
from .erasing import filled_where_erased
from .guard import Guard, Used
from .items import Imagined, Instances, LeftOut, Ready, Rejected
from .judging import agreement
from .labels import Reading
from .layouts import Entry, Layouts
from .options import SynthesisOptions
from .plan import Item, Plan, filling_networks, packages_of

MOST_TOGETHER = 8
"""Variants of a layout that are prepared at once, sharing its retrieval; what bounds the memory of many variants."""
_ASSEMBLE = 9
"""Sets the random numbers of assembled objects apart from those of painting and of new layouts."""


class Session:
    """A bank, its networks and a plan, opened for work; safe to use from several threads.

    Args:
        reader: the bank; models: the networks, on their device.
        options: of the run; plan: of the run; paths: pictures of layouts, None for the bank's own.
        tell: takes a sentence for the user.

    Raises:
        UnfinishedError: other compiled networks can be used here than those of the plan.
    """

    def __init__(
        self,
        reader: Reader,
        models: Models,
        options: SynthesisOptions,
        plan: Plan,
        paths: Sequence[Path] | None,
        tell: Callable[[str], None] = lambda said: None,
    ) -> None:
        self.reader, self.options, self.plan, self.tell = reader, options, plan, tell
        self.layouts = Layouts(reader, options, paths, plan.layouts)
        self.guard = Guard(reader)
        self._models = models
        if packages_of(models, options) != plan.settings["compiled"]:
            said = "holds other compiled networks for this machine than the plan names: images would differ"
            fix = "let all workers be alike, or leave --compiled out"
            raise UnfinishedError(sentence(options.compiled or "--compiled", said, fix=fix))
        self._painter = Painter(reader, Retriever(reader), models)
        self._composer = Composer(reader, options)
        self._at_once = AtOnce(self.run.batch, tell)
        self._dense = models.load("densify") if options.densify else None
        self._assembling = Assembling(reader, models, options) if options.assemble else None
        self._judge = models.load("judge") if options.agreement is not None else None
        filling = filling_networks(models, options)
        self._filler = FromNetwork(models.folder, filling[0][1], models.device, models.compiled) if filling else None

    @cached_property
    def run(self) -> Run:
        """How images are painted: from segments of `train` alone."""
        given = self.options
        options: Options = {"where": given.where, "exclude": given.exclude, "mode": given.mode, "guard": True}
        return self._painter.run(
            given.variants, given.seed, given.k, map_classes=given.map_classes, stages=given.stages, **options
        )

    @property
    def batch(self) -> int:
        """Images that go through the network together, by their numbers in a shard."""
        return self.run.batch * self._together

    @property
    def judging(self) -> bool:
        """Whether images are judged."""
        return self._judge is not None

    def warnings(self) -> list[str]:
        """Opens what is needed, before anything is written; what the user should know of the networks.

        Raises:
            InputError: a network cannot be used, a class not be boosted, a name not be left out, or the network makes
                fewer pictures of a layout than are wanted.
        """
        given = self.options
        most = max(Counter(self.plan.picks).values(), default=0) * given.variants
        if self.run.collects and most > self._together:
            expected = f"at most {self._together} images a layout, as many as {self.run.model.path.name} makes"
            raise InputError(
                sentence("--network", expected=expected, found=f"{most:,}", fix="lower --variants or --boost")
            )
        self._painter.retriever.filters.candidates(
            RetrievalOptions(where=given.where, exclude=given.exclude, guard=True)
        )
        self._composer.check()
        assembler = self._assembling.assembler if self._assembling else None
        return [*self.run.warnings(), *(said for each in (self._filler, assembler) if each for said in each.warnings)]

    # ---- layout to canvas

    def prepare(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        """Images of one layout, or one photograph, up to the network; what cannot be used is rejected.

        Raises:
            UnfinishedError: the device has not enough memory for the networks that this takes.
        """
        with enough_for_one():
            return self._made_ready(items)

    def _made_ready(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        if items[0].photograph is not None:
            return [self._kept(item) for item in items]
        try:
            if self.options.recompose:
                return [self._recomposed(item) for item in items]
            number = cast(int, items[0].layout)
            entry = self.layouts.entries[number]
            if self.options.generated:
                new = self._composer.generated(number)
                entry = self._lent(entry, new.edits)
            else:
                layout = self._read(number)
                if not self.options.erase:
                    return self._painted(items, entry, layout, self._components(layout), [])
                new = self._composer.erased(layout)
            return self._painted(items, entry, new.layout, self._sized(new.instances), new.edits)
        except SourceError as error:
            return [Rejected(item, error.reason, str(error)) for item in items]

    def _read(self, number: int) -> Layout:
        layout = self.layouts.read(number)
        return layout if self._dense is None else steps.dense(layout, self._dense)

    def _painted(
        self, items: Sequence[Item], entry: Entry, layout: Layout, instances: Instances, edits: Sequence[Any]
    ) -> list[Ready | Rejected]:
        numbers = [item.variant for item in items]
        made: list[Ready | Rejected] = []
        for item, each in zip(items, self._prepared(layout, numbers, entry), strict=True):
            sources = {used.source: used for used in self._objects(edits)}
            seen, parts, told_edits = self._assembled(item, each, instances, edits, entry)
            used = (*self._layout_of(entry.source), *sources.values(), *_segments(each.canvas), *parts)
            report = each.report
            told = {
                "layout": entry.name, "variant": item.variant, "split": self.plan.split,
                "share": round(report.share, 6),
                "from_layout": list(report.from_layout), "void": list(report.void), "edits": told_edits,
            }  # fmt: skip
            self.guard.check(self.plan.name(item.index), used, *self._apart_from(entry))
            group = entry.group or f"layout/{entry.name}"
            label, shown = self._reading.label(each.layout, each.canvas, seen)
            things = np.where(label == VOID, 0, instances).astype(np.uint16)
            made.append(Ready(item, label, things, seen, None, used, group, told, shown))
        return made

    def _assembled(
        self, item: Item, each: Prepared, instances: Instances, edits: Sequence[Any], entry: Entry
    ) -> tuple[Elided, list[Used], list[dict[str, Any]]]:
        """What the network is shown, with assembled objects where some are to be; what they are of, and the edits."""
        told = [asdict(edit) for edit in edits]
        if self._assembling is None or not (added := added_by(told)):
            return each.seen, [], told
        seed = [self.options.seed, *np.frombuffer(digest_of(each.layout), "<u4").tolist(), item.variant, _ASSEMBLE]
        _, seen, done = self._assembling.put(each.canvas, each.elided, instances, added, seed, self._apart_from(entry))
        return self.run.as_seen(seen, each.layout), self._assembling.used(done), with_assembled(told, done)

    def _prepared(self, layout: Layout, variants: Sequence[int], entry: Entry) -> list[Prepared]:
        """The canvases of a layout of segments that it may have."""
        if self.options.apart == "group":
            return self.run.prepared(layout, variants, entry.source)
        barred = [name for name in self._apart_from(entry) if name is not None]
        return self.run.prepared(layout, variants, exclude=barred)

    def _apart_from(self, entry: Entry) -> tuple[str | None, str | None]:
        """The group and the source that a layout has nothing of."""
        group, source = entry.group, entry.source
        return {"group": (group, None), "source": (None, source), "nothing": (None, None)}[self.options.apart]

    def _recomposed(self, item: Item) -> Ready | Rejected:
        number = cast(int, item.layout)
        entry = self.layouts.entries[number]
        try:
            layout = self._read(number)
        except SourceError as error:
            return Rejected(item, error.reason, str(error))
        new = self._composer.recomposed(layout, item.variant, *self._apart_from(entry))
        (made,) = self._painted([item], entry, new.layout, self._sized(new.instances), new.edits)
        return made

    def _lent(self, entry: Entry, edits: Sequence[Any]) -> Entry:
        """A generated layout as one of the source whose stuff it shows, which it keeps apart from."""
        source = next(edit.source for edit in edits if edit.kind == "background")
        return entry._replace(source=source, group=self.guard.sources[source].group)

    def _sized(self, instances: Instances) -> Instances:
        """At the size of the images."""
        return np.asarray(sample_to_frame(instances, self.plan.size), np.uint16)

    def _kept(self, item: Item) -> Ready | Rejected:
        """A photograph with its labels, resized and sampled to the size of the images."""
        name = cast(str, item.photograph)
        image = resized_image(self.reader.photograph(name), self.plan.size)
        layout = self.reader.layout(name)
        used = (Used("photograph", name), *self._layout_of(name))
        source = self.guard.sources[name]
        self.guard.check(self.plan.name(item.index), used, None)
        told = {"layout": name, "variant": 0, "split": source.split, "share": 1.0}
        told |= {"from_layout": [], "void": [], "edits": []}
        shown, instances = resized(layout, self.plan.size), self._components(layout)
        if self._filler is not None:
            new = self._composer.erased(shown)
            try:
                image, how = filled_where_erased(image, shown, new, self._filler, self.options.seed, name)
            except InputError as error:
                return Rejected(item, "cannot-erase", f"{name}: {error}")
            shown, instances = new.layout, new.instances
            told |= {"edits": [asdict(edit) for edit in new.edits], "filled": how}
        return Ready(item, shown, instances, None, image, used, source.group, told)

    def _layout_of(self, source: str | None) -> tuple[Used, ...]:
        return () if source is None else (Used("layout", source),)

    def _objects(self, edits: Sequence[Any]) -> list[Used]:
        """The sources that objects of a new layout come from."""
        names = [edit.source for edit in edits if edit.kind != "background"]
        return [Used("object", name) for name in names if name]

    def _components(self, layout: Layout) -> Instances:
        """Things are told apart where they do not touch; numbered as their first pixels come."""
        shown = resized(layout, self.plan.size)
        components = find_components(shown)
        thing = self._thing[components.class_ids]
        numbers = np.concatenate([[0], np.where(thing, np.cumsum(thing), 0)]).astype(np.uint16)
        instances: Instances = numbers[components.labels]
        return instances

    @cached_property
    def _thing(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(1 << 16, bool)
        for entry in self.reader.classes:
            found[entry.id] = entry.thing
        return found

    # ---- photograph to verdict

    def judged(self, each: Imagined | Rejected) -> Imagined | Rejected | LeftOut:
        """An image with the judge's verdict; left out where it agrees too little with its layout.

        Raises:
            UnfinishedError: the device has not enough memory for the judge.
        """
        if self._judge is None or isinstance(each, Rejected) or each.ready.seen is None:
            return each
        with enough_for_one():
            share = round(agreement(self._judge, each.image, each.ready.layout), 6)
        if share < cast(float, self.options.agreement):
            return LeftOut(each.ready.item, each.ready.told["layout"], share)
        return replace(each, ready=replace(each.ready, told={**each.ready.told, "agreement": share}))

    # ---- canvas to photograph

    def imagine(self, slots: Sequence[Ready | Rejected]) -> list[Imagined | Rejected]:
        """The photographs of a batch.

        Every image has a slot of its own in a batch of constant size, whatever became of the others: a network's last
        bits may depend on both.
        """
        due = [each for each in slots if isinstance(each, Ready) and each.seen is not None]
        images: list[Photograph] = []
        given: list[Layout] = []
        if due:
            filled = [each if isinstance(each, Ready) and each.seen is not None else due[0] for each in slots]
            filled += [due[0]] * (self.batch - len(filled))
            given = [self._reading.given(each.layout) for each in filled]
            images = self._synthesised(filled, given)
        done: list[Imagined | Rejected] = []
        for slot, each in enumerate(slots):
            if isinstance(each, Rejected):
                done.append(each)
            elif each.image is not None:
                done.append(Imagined(each, each.image, zlib.crc32(each.layout.tobytes())))
            else:
                done.append(Imagined(each, images[slot], _checksum(each, given[slot]), self._reading.alike))
        return done

    @cached_property
    def _reading(self) -> Reading:
        """How the network takes the bank's classes, and whether it sees the canvas."""
        return Reading(self.run.model, self.reader.classes, self.run.blind)

    @cached_property
    def _together(self) -> int:
        """Variants of a layout that the network makes at once."""
        return int(self.run.model.card.config["images"]) if self.run.collects else 1

    def _synthesised(self, some: Sequence[Ready], given: Sequence[Layout]) -> list[Photograph]:
        """As many at once as the device has memory for.

        Raises:
            UnfinishedError: it has not enough for one.
        """
        return self._at_once.made(lambda batch: self._pictures(some, given, batch))

    def _pictures(self, some: Sequence[Ready], given: Sequence[Layout], batch: int) -> list[Photograph]:
        """Of a network that makes the variants of a layout at once, each layout is looked at once."""
        model = self.run.model
        if not self.run.collects:
            return steps.synthesised(model, given, [cast(Elided, each.seen) for each in some], batch)
        names = [layout.tobytes() for layout in given]
        layouts = dict(zip(names, given, strict=True))
        made = dict(zip(layouts, steps.pictured(model, list(layouts.values()), batch), strict=True))
        return [made[name][each.item.variant] for name, each in zip(names, some, strict=True)]


def _checksum(ready: Ready, given: Layout) -> int:
    """Of the layout that the network was given, with what the canvas alone has shown it."""
    if ready.shown is not None:
        given = np.where(ready.shown == VOID, given, ready.shown)
    return zlib.crc32(given.tobytes())


def _segments(canvas: Canvas) -> tuple[Used, ...]:
    """Every segment that was placed, with the pixels that the canvas shows of it."""
    return tuple(
        Used(
            "segment", placed.piece.origin.source, hex_id(placed.piece.segment_id), placed.piece.class_name,
            int(visible),
        )
        for placed, visible in zip(canvas.placements, canvas.visible, strict=True)
    )  # fmt: skip
