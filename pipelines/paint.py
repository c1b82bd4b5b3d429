"""`zeuxis paint`: layouts in, photographs out, by retrieval and trained networks (SIMS); each pixel has its source.

    layout -> hits -> pieces -> transforms -> order -> canvas -> elision -> photograph

The steps are functions of `painting_steps`. The same bank, networks, layout, seed and variant give the same bytes on
the same machine, whatever else is asked for in the same call.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Unpack, cast

import numpy as np

from ..index.request import LayoutLike, Options
from ..index.retriever import Retriever
from ..storage.classes import VOID, Layout
from ..storage.errors import InputError, ZeuxisError, sentence
from ..storage.images import Photograph
from ..storage.reader import Reader
from ..synth.canvas import Canvas, contested
from ..synth.elision import Elided
from ..synth.encoding import resized
from ..synth.filling import Colours, filled
from . import painting_steps as steps
from .device_memory import AtOnce
from .drawn import Asked, Drawn
from .inpaint import method_of
from .inpainting.methods import FromNetwork, Method
from .models import Model, Models, NamesMap, as_names_map
from .painted import Painted, PaintReport, Prepared
from .painted_files import check_places, save, stem_of
from .painting_steps import NOTHING_TO_FILL, Clock, Stages
from .variants import Draw, chosen, digest_of, random_of
from .wish import Wish, wish_of

BATCH = {"cpu": 1, "cuda": 8}
"""Images the synthesis network makes at once, by the device's type; on a CPU four at once took longer than singly."""


class Painter:
    """Paints layouts from one generation of a bank, with the networks of a folder.

    Args:
        reader, retriever: of the bank.
        models: the folder, or its networks where they are held already; without one that paints nothing is painted.
        device: that the networks run on; default a CUDA device where there is one.
        compiled: folder of compiled forms of the networks, see `Models`.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(
        self,
        reader: Reader,
        retriever: Retriever,
        models: str | Path | Models,
        device: str | None = None,
        compiled: str | Path | None = None,
    ) -> None:
        self.reader, self.retriever = reader, retriever
        held = models if isinstance(models, Models) else Models(models, reader, device=device, compiled=compiled)
        self._folder, self._device = held.folder, held.device
        self._compiled = held.compiled.folder if held.compiled else None
        self._models = {_key(held.names): held}
        self._at_once = AtOnce(BATCH.get(held.device.type, 1), lambda said: warnings.warn(said, stacklevel=2))

    def paint(
        self,
        layout: LayoutLike | None = None,
        variants: int = 1,
        seed: int = 0,
        k: int = 5,
        *,
        out: str | Path | None = None,
        **settings: Any,
    ) -> list[Painted]:
        """Images of one layout, as `paint_many` makes them.

        Args:
            layout: path or array, as in `Retriever.retrieve`; None for the own layout of the `source` that is named.
            out: a folder to save all of them in, or None.
            variants, seed, k, settings: as in `paint_many`.

        Raises:
            as `paint_many`; InputError: `out` cannot be written, found before anything is retrieved.
        """
        stem = stem_of(layout, settings.get("source"))
        if out is not None:
            check_places(out, [stem], variants)
        (images,) = self.paint_many([layout], variants, seed, k, **settings)
        images = cast(list[Painted], images)
        return images if out is None else [save(each, out, stem) for each in images]

    def paint_many(
        self,
        layouts: Iterable[LayoutLike | None],
        variants: int = 1,
        seed: int = 0,
        k: int = 5,
        *,
        dataset: str | None = None,
        densify: bool = False,
        map_classes: str | Path | Mapping[str, Any] | None = None,
        stages: Stages | None = None,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[list[Painted] | ZeuxisError]:
        """Images of many layouts: one list a layout, in their order, with one image a variant.

        Variant 0 takes the best hit of every component, chosen jointly where `stages.coherent` is on; every other one
        a random hit of its best `k` (SIMS, "Diversity").

        Args:
            layouts: of any size; taken a few at a time.
            variants: images a layout; seed: of all draws; k: hits a component that variants are drawn from.
            dataset: the layouts' ids and colours are the native ones of this data set.
            densify: the layouts are coarse: the densification network fills them first.
            map_classes: class of the networks to classes of the bank, or a YAML file, see `models.as_names_map`.
            stages: which way each step goes.
            errors: `"raise"`, or `"skip"`, which yields the error in the place of the layout that caused it.
            options: see `index.request.Options`; `coherent` sets that of `stages`, `sample` is not to be had.

        Raises:
            InputError: at once, for networks or settings that cannot be used; else as `Retriever.retrieve`.
        """
        run = self.run(
            variants, seed, k, dataset=dataset, densify=densify, map_classes=map_classes, stages=stages, **options
        )
        return run.images(iter(layouts), errors)

    def run(
        self,
        variants: int = 1,
        seed: int = 0,
        k: int = 5,
        *,
        dataset: str | None = None,
        densify: bool = False,
        map_classes: str | Path | Mapping[str, Any] | None = None,
        stages: Stages | None = None,
        **options: Unpack[Options],
    ) -> Run:
        """The settings and networks of a call of `paint_many`, for who takes its steps one by one.

        Raises:
            InputError: networks or settings that cannot be used.
        """
        wish = wish_of(variants, seed, k, dataset, densify, stages, options)
        models = self._models_for(map_classes)
        model = models.load(wish.stages.kind, wish.stages.network)
        pieces = models.sees_canvas(wish.stages.kind, wish.stages.network)
        helpers = {
            "densify": models.load("densify") if densify else None,
            "transform": models.find("transform") if pieces and wish.stages.transform == "network" else None,
            "ordering": models.find("ordering") if pieces and wish.stages.order == "network" else None,
        }
        if wish.stages.kind == "crn":
            _check_images(model, wish.variants)
        if wish.stages.inpaint and not pieces:
            raise InputError(sentence("stages: inpaint", NOTHING_TO_FILL, fix="leave one of them out"))
        filler = _filler(wish.stages.inpaint, models, model) if wish.stages.inpaint else None
        return Run(self.reader, self.retriever, wish, model, helpers, self._at_once, filler)

    def images(self, stages: Stages) -> int:
        """How many pictures of a layout the network makes at once that paints by these stages."""
        return int(self._models_for(None).load(stages.kind, stages.network).card.config.get("images", 1))

    def _models_for(self, map_classes: str | Path | Mapping[str, Any] | None) -> Models:
        key = _key(None if map_classes is None else as_names_map(map_classes))
        if key not in self._models:
            self._models[key] = Models(self._folder, self.reader, map_classes, self._device, self._compiled)
        return self._models[key]


def _filler(name: str, models: Models, model: Model) -> Method:
    """What fills the canvases of a network that paints, on its device.

    Raises:
        InputError: there is no such method or network, or it sees larger pictures than the canvases are.
    """
    found = method_of(name, models.folder, None, device=models.device, compiled=models.compiled)
    if isinstance(found, FromNetwork) and any(a > b for a, b in zip(found.card.size, model.size, strict=True)):
        expected, seen = "a network that sees at most {}x{} pixels, the canvas's size", "{}x{}".format(*found.card.size)
        raise InputError(sentence(f"--inpaint {name}", expected=expected.format(*model.size), found=seen))
    return found


@dataclass(frozen=True, eq=False)
class Run:
    """One call's settings and networks; `at_once`: how many images go through the synthesis network together."""

    reader: Reader
    retriever: Retriever
    wish: Wish
    model: Model
    helpers: Mapping[str, Model | None]
    at_once: AtOnce
    filler: Method | None = None

    @property
    def batch(self) -> int:
        """Images that are prepared for the network together; it may have memory for fewer."""
        return self.at_once.most

    @property
    def blind(self) -> bool:
        """Whether the network sees nothing of the bank, so that nothing is retrieved for it."""
        return self.collects or not self.model.card.config.get("canvas", True)

    @property
    def collects(self) -> bool:
        """Whether the network makes all variants of a layout at once, as CRN does."""
        return self.model.card.network == "crn"

    def images(
        self, layouts: Iterator[LayoutLike | None], errors: Literal["raise", "skip"]
    ) -> Iterator[list[Painted] | ZeuxisError]:
        """All images, as many layouts at a time as fill a batch of the synthesis network."""
        while some := list(islice(layouts, max(1, self.batch // self.wish.variants))):
            ready: list[list[Prepared] | ZeuxisError] = []
            for layout in some:
                try:
                    ready.append(self.prepared(layout))
                except ZeuxisError as error:
                    if errors == "raise":
                        raise
                    ready.append(error)
            images = iter(self.imagined([one for each in ready if isinstance(each, list) for one in each]))
            for each in ready:
                yield each if isinstance(each, ZeuxisError) else list(islice(images, len(each)))

    def prepared(
        self,
        layout: LayoutLike | None,
        variants: Iterable[int] | None = None,
        source: str | None = None,
        exclude: Sequence[str] = (),
    ) -> list[Prepared]:
        """Every step but the last, for each variant of a layout, or for those numbers.

        Args:
            layout, source: as in `Retriever.retrieve`; a `source` named here takes the place of that of the call.
            exclude: sources or groups that are left out of this layout besides those of the call.
        """
        wish, clock, digest = self.wish, Clock(), b""
        options = wish.options if source is None else cast(Options, {**wish.options, "source": source})
        if exclude:
            options = cast(Options, {**options, "exclude": (*options.get("exclude", ()), *exclude)})
        unknown: tuple[int, ...] = ()
        if dense := self.helpers["densify"]:
            coarse, unknown = steps.ids_of(layout, self.reader, wish.dataset, options.get("source"))
            digest = digest_of(coarse)
            with clock("densify"):
                layout = steps.dense(coarse, dense)
        with clock("retrieve"):
            dataset = None if dense else wish.dataset
            if self.blind:
                retrieval, strange = steps.unretrieved(self.reader, layout, wish.k, dataset, options)
            else:
                retrieval, strange = steps.retrieved(self.retriever, layout, wish.k, dataset, options)
        with clock("coherent"):
            together = steps.coherently(retrieval, wish.k, wish.stages.coherent, self.retriever.lights)
        shown = resized(retrieval.layout, self.model.size)
        numbers = range(wish.variants) if variants is None else variants
        asked = Asked(digest or digest_of(retrieval.layout), retrieval, together, shown, (*unknown, *strange))
        drawn = self._drawn(asked, numbers, clock)
        return [self._composed(asked, each, Clock(dict(clock.seconds))) for each in drawn]

    def _drawn(self, asked: Asked, variants: Iterable[int], clock: Clock) -> list[Drawn]:
        """The placements of variants, and what is known of their order: what several show is made once."""
        wish, stages, size = self.wish, self.wish.stages, self.model.size
        with clock("pieces"):
            choices = {
                variant: chosen(asked.hits(variant), wish.k, wish.seed, asked.digest, variant) for variant in variants
            }
            pieces = steps.pieces_of(self.reader, (one for each in choices.values() for one in each), size)
        with clock("fit"):
            some = list(pieces.values())
            transforms = steps.fitted(some, size, stages.transform, self.helpers["transform"], asked.layout)
            placed = dict(zip(pieces, steps.placed(some, transforms, size), strict=True))
        with clock("order"):
            drawn = []
            for variant, each in choices.items():
                keys = [choice.key for choice in each if choice.key in placed]
                placements = [placed[key] for key in keys]
                drawn.append(Drawn(variant, [number for number, _ in keys], placements, contested(placements, size)))
            if model := self.helpers["ordering"]:
                by_number = {number: piece for (number, _), piece in pieces.items()}
                wanted = dict.fromkeys(pair for each in drawn for pair in each.numbered)
                asked.leads.update(steps.led(by_number, wanted, self.reader, model, asked.layout))
        return drawn

    def _composed(self, asked: Asked, drawn: Drawn, clock: Clock) -> Prepared:
        """One variant, ordered, composited and elided."""
        stages, size, placements = self.wish.stages, self.model.size, drawn.placements
        with clock("order"):
            known = {pair: asked.leads.get(own) for pair, own in zip(drawn.pairs, drawn.numbered, strict=True)}
            leads = {pair: lead for pair, lead in known.items() if lead is not None}
            order = steps.ordered(placements, drawn.pairs, self.reader, leads)
        with clock("compose"):
            canvas = steps.composed(placements, size, order)
        with clock("elide"):
            random = random_of(self.wish.seed, asked.digest, drawn.variant, Draw.ELISION)
            elided = steps.elided(canvas, self.reader, stages.elision_of(self.model), random)
            seen, unfilled = steps.without_holes(elided, self.filler, self.wish.seed, drawn.variant)
            seen = self.as_seen(seen, asked.layout)
        report = self._report(asked, drawn.variant, canvas, elided, clock)
        if unfilled:
            report = replace(report, warnings=(*report.warnings, unfilled))
        return Prepared(asked.layout, canvas, elided, seen, asked.together, report)

    def as_seen(self, elided: Elided, layout: Layout) -> Elided:
        """An elided canvas as the network sees it: filled, where it learned on filled ones."""
        if not self.model.card.config.get("filled"):
            return elided
        return filled(elided, layout, None if elided.valid.any() else self._usual)

    @cached_property
    def _usual(self) -> dict[int, Colours]:
        return steps.usual_colours(self.reader, self.model.size)

    def imagined(self, ready: Sequence[Prepared]) -> Iterator[Painted]:
        """The photographs of what is prepared.

        Raises:
            UnfinishedError: the device has not enough memory for one.
        """
        layouts, canvases, clock = [each.layout for each in ready], [each.seen for each in ready], Clock()
        with clock("network"):
            images = [each.image for each in canvases]
            if self.wish.stages.synthesis and ready:
                images = (
                    self._pictures(ready)
                    if self.collects
                    else self.at_once.made(lambda batch: steps.synthesised(self.model, layouts, canvases, batch))
                )
        share = {name: seconds / len(ready) for name, seconds in clock.seconds.items() if ready}
        for each, image in zip(ready, images, strict=True):
            report = replace(each.report, seconds={**each.report.seconds, **share})
            yield Painted(image, each.canvas, each.seen.image, each.elided.valid, each.layout, each.retrieval, report)

    def _pictures(self, ready: Sequence[Prepared]) -> list[Photograph]:
        """Of a network that makes the variants of a layout at once: each layout is looked at once."""
        layouts = list({id(each.layout): each.layout for each in ready}.values())
        made = self.at_once.made(lambda batch: steps.pictured(self.model, layouts, batch))
        of = {id(layout): images for layout, images in zip(layouts, made, strict=True)}
        return [of[id(each.layout)][each.report.variant] for each in ready]

    def _report(self, asked: Asked, variant: int, canvas: Canvas, elided: Elided, clock: Clock) -> PaintReport:
        model, classes = self.model, self.reader.classes
        used = {**self.helpers, "synthesis": model if self.wish.stages.synthesis else None}
        present = [int(id) for id in np.unique(asked.layout) if id != VOID]
        shown = {placed.piece.class_id for placed in canvas.placements}
        alone = tuple(classes[id].name for id in present if id not in shown)
        void = tuple(classes[id].name for id in present if model.channel_of[id] == model.n_classes)
        return PaintReport(
            seed=self.wish.seed,
            variant=variant,
            layout=asked.digest.hex(),
            transforms=dict(Counter(placed.transform.name for placed in canvas.placements)),
            dropped=len(canvas.dropped),
            from_layout=alone,
            void=(*void, *(f"id {id}" for id in asked.strange)),
            share=0.0 if self.blind else float(elided.valid.mean()),
            networks={name: _identity(used) for name, used in used.items() if used is not None} | self._filled_by(),
            warnings=(*asked.together.warnings, *self.warnings(), *self._warnings(alone, void, asked.strange)),
            seconds=dict(clock.seconds),
        )

    def _filled_by(self) -> dict[str, Mapping[str, Any]]:
        return {} if self.filler is None else {"inpaint": {"method": self.filler.name, **self.filler.identity}}

    def warnings(self) -> list[str]:
        """What the user should know of the networks, whatever the layout."""
        said = []
        stages, folder = self.wish.stages, self.model.path.parent
        if not self.blind and stages.transform == "network" and self.helpers["transform"] is None:
            said.append(sentence(folder, "holds no transform network: segments are fitted by their boxes"))
        if not self.blind and stages.order == "network" and self.helpers["ordering"] is None:
            said.append(sentence(folder, "holds no ordering network: segments are ordered by their classes"))
        used = (self.model, *self.helpers.values(), self.filler)
        return said + [warning for each in used if each for warning in each.warnings]

    def _warnings(self, alone: Sequence[str], void: Sequence[str], strange: Sequence[int]) -> list[str]:
        """What the user should know of how a layout was taken."""
        said = []
        if alone and not self.blind:
            said.append(
                sentence(
                    "layout", f"no piece of the bank was found for {', '.join(alone)}: painted from the layout alone"
                )
            )
        if void:
            said.append(sentence(self.model.path, f"does not know {', '.join(void)}: taken for void"))
        if strange:
            ids = ", ".join(map(str, strange))
            said.append(sentence("layout", f"no class of the bank has the ids {ids}: taken for void"))
        return said


def _key(names: NamesMap | None) -> str:
    return "" if names is None else repr(names)


def _check_images(model: Model, variants: int) -> None:
    """Refuses more variants of a layout than a network makes.

    Raises:
        InputError: it is so.
    """
    images = model.card.config["images"]
    if variants > images:
        expected = f"at most {images}, as many pictures as {model.path.name} makes of a layout"
        fix = "train one that makes more: `zeuxis train crn --images K`"
        raise InputError(sentence("variants", expected=expected, found=f"{variants:,}", fix=fix))


def _identity(model: Model) -> dict[str, Any]:
    card = model.card
    return {
        "file": model.path.name, "step": card.step, "size": list(card.size), "bank": card.bank,
        "generation": card.generation, "features": card.features, "backend": model.backend,
    }  # fmt: skip
