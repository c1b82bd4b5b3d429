"""Layout in, hits out: what every way to ask has in common, from a query's options to what it returns."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID, Layout
from ..storage.codec import Mask
from ..storage.errors import InputError, LayoutError, SourceError, ZeuxisError, sentence
from ..storage.layouts import Box, Components, FramedLayout, areas_and_boxes, label_runs, sample_to_frame
from ..storage.reader import Reader
from .batch import in_order, usable_cores
from .coherence import coherent
from .fast import FastSearch
from .filters import Filtered, SegmentFilters
from .lights import Lights
from .query import Query, make_query
from .request import LayoutLike, Options, RetrievalOptions, as_box, as_layout, as_mask, as_size, asked_for
from .result import Asked, Component, Hit, Retrieval
from .scoring import TopK
from .search import ExactSearch

if TYPE_CHECKING:
    from .device import DeviceSearch

ASPECT_TOLERANCE = 0.02
"""Relative difference of aspect ratios above which a layout is answered with a warning."""

WORTH_THREADS = 200_000
"""Threads share the components of one layout where their classes hold this many segments together."""
DEVICE_BATCH = 64
"""Layouts that a CUDA device searches at once."""

Job = tuple[int, LayoutLike | None, str | None]
"""A layout of many: its number, itself, its source."""


class Question(NamedTuple):
    """A layout made ready: its query, its options, the candidates that filters leave, and what to warn of."""

    query: Query
    options: RetrievalOptions
    candidates: Filtered | None
    warnings: list[str]


class Retriever:
    """Retrieval from one generation of a bank."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.filters = SegmentFilters(reader)
        self.lights = Lights(reader)
        self._exact = ExactSearch(reader)
        self._fast = FastSearch(reader, self._exact)

    def retrieve(
        self, layout: LayoutLike | None = None, k: int = 5, *, dataset: str | None = None, **options: Unpack[Options]
    ) -> Retrieval:
        """The k best segments for every component of a layout, by the score.

        Args:
            layout: path, `(H, W)` class ids or `(H, W, 3)` colours, of any size (see `as_layout`); None for the own
                layout of the `source` that is named.
            k: hits a component, at most.
            dataset: ids and colours are the native ones of this data set.
            options: see `Options`.

        Raises:
            LayoutError: the layout. FilterError: k and options. InputError: dataset, source.
        """
        return self._answers([self._question(layout, dataset, asked_for(k, options))], usable_cores())[0]

    def retrieve_mask(
        self, mask: npt.ArrayLike, class_: str | int, k: int = 5, **options: Unpack[Options]
    ) -> Retrieval:
        """The k best segments of a class for a bare mask; with nothing around it, the score is the mask IoU.

        Args:
            mask: `(H, W)` bool, or integers of which all but 0 count; of any size. All of it is one component, in
                however many pieces.
            class_: name or id in the bank.
            k: hits, at most.
            options: see `Options`; `weights` are (1, 0) by default.

        Returns:
            A retrieval of one component; it is in `skipped` where it is under the bank's minimum area.

        Raises:
            LayoutError: the mask. InputError: the class, source. FilterError: k and options.
        """
        options.setdefault("weights", (1.0, 0.0))
        chosen = asked_for(k, options)
        query = self._mask_query(as_mask(mask), self._class_id(class_))
        return self._answers([self._ready(query, chosen, [])], 1)[0]

    def retrieve_box(
        self,
        box: Box,
        class_: str | int,
        k: int = 5,
        *,
        size: tuple[int, int] | None = None,
        **options: Unpack[Options],
    ) -> Retrieval:
        """`retrieve_mask` of a box, half-open, in a picture of `size`, `(height, width)`; default the frame."""
        height, width = as_size(self.reader.geometry.frame if size is None else size)
        top, left, bottom, right = as_box(box, height, width)
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        return self.retrieve_mask(mask, class_, k, **options)

    def retrieve_many(
        self,
        layouts: Iterable[LayoutLike] | None = None,
        k: int = 5,
        *,
        sources: Iterable[str] | None = None,
        dataset: str | None = None,
        workers: int | None = None,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[Retrieval | ZeuxisError]:
        """`retrieve` of many layouts on several threads, in their order, a few ahead of what is taken.

        Args:
            layouts: any number, taken as they are needed; None for the own layouts of `sources`.
            k, dataset, options: as in `retrieve`.
            sources: of each layout, the source of the bank that it belongs to.
            workers: threads; default one a core.
            errors: `"raise"`, or `"skip"`, which yields the error in the place of the layout that caused it.

        Raises:
            FilterError, InputError: at once, for options that no layout could be searched with; else as `retrieve`,
            with the number of the layout.
        """
        chosen = asked_for(k, options)
        threads = usable_cores() if workers is None else workers
        if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or threads < 1:
            raise InputError(sentence("workers", expected="a whole number of at least 1", found=repr(workers)))
        if errors not in ("raise", "skip"):
            raise InputError(sentence("errors", expected="raise or skip", found=repr(errors)))
        if sources is not None and chosen.source is not None:
            raise InputError(sentence("sources and source", "exclude each other", fix="name one of them"))
        if dataset is not None:
            self.reader.dataset(dataset)
        self.filters.candidates(chosen if sources is None else replace(chosen, guard=False))
        together = DEVICE_BATCH if chosen.mode == "gpu" else 1

        def answer(jobs: Sequence[Job]) -> list[Retrieval | ZeuxisError]:
            asked = [self._asked(job, dataset, chosen, errors) for job in jobs]
            answers = iter(self._answers([each for each in asked if isinstance(each, Question)], 1))
            return [next(answers) if isinstance(each, Question) else each for each in asked]

        return _flat(in_order(answer, _batches(_jobs(layouts, sources), together), int(threads)))

    def _asked(
        self, job: Job, dataset: str | None, options: RetrievalOptions, errors: Literal["raise", "skip"]
    ) -> Question | ZeuxisError:
        """One layout of many made ready, or what is wrong with it, with its number."""
        number, layout, source = job
        try:
            return self._question(layout, dataset, options if source is None else replace(options, source=source))
        except ZeuxisError as error:
            named = _of_layout(error, number)
            if errors == "skip":
                return named
            raise named from error

    def _question(self, layout: LayoutLike | None, dataset: str | None, options: RetrievalOptions) -> Question:
        labels, warnings = self._layout(layout, dataset, options.source)
        return self._ready(make_query(labels, self.reader.geometry, self._thin), options, warnings)

    def _ready(self, query: Query, options: RetrievalOptions, warnings: Sequence[str]) -> Question:
        stretched = _aspect_warning(query.layout, self.reader.geometry.frame)
        return Question(query, options, self.filters.candidates(options), [*stretched, *warnings])

    def _layout(self, layout: LayoutLike | None, dataset: str | None, source: str | None) -> tuple[Layout, list[str]]:
        """A layout in the bank's ids, and what to warn of."""
        if layout is None:
            if source is None:
                raise LayoutError(sentence("layout", expected="a layout, or the name of a source", found="neither"))
            if dataset is not None:
                raise InputError(sentence("dataset", "a source's own layout needs none", fix="leave it out"))
            return self.reader.layout(source), []
        labels = as_layout(layout, self.reader, dataset)
        datasets = self.reader.manifest.datasets
        if dataset is not None or not isinstance(layout, (str, Path)) or len(datasets) < 2:
            return labels, []
        names = ", ".join(entry.name for entry in datasets)
        said = f"was read as the bank's own class ids, which are not those of each of {names}"
        return labels, [sentence(layout, said, fix="name its data set if it holds native ids")]

    def _answers(self, questions: Sequence[Question], threads: int) -> list[Retrieval]:
        """The answers to questions of one mode; those that the same filter leaves candidates for are asked at once."""
        answers: list[Retrieval] = []
        for _, each in groupby(questions, lambda question: id(question.candidates)):
            alike = list(each)
            tops = self._search([question.query for question in alike], alike[0], threads)
            answers += [self._answer(question, top) for question, top in zip(alike, tops, strict=True)]
        return answers

    def _search(self, queries: Sequence[Query], question: Question, threads: int) -> list[TopK]:
        """The k best of each query, in the way that the options of one of them name."""
        _, options, candidates, _ = question
        rows = candidates.rows if candidates else None
        if options.mode == "gpu" and self._device is not None:
            return self._device.search(queries, options.depth, rows, options.weights)
        found = []
        for query in queries:
            if options.mode == "fast":
                found.append(self._fast.search(query, options.depth, rows, options.weights, certify=options.certify))
            else:
                sizes = sum(self._exact.class_sizes.get(id, 0) for id in query.class_ids.tolist())
                share = threads if sizes >= WORTH_THREADS else 1
                found.append(self._exact.search(query, options.depth, rows, options.weights, threads=share))
        return found

    @cached_property
    def _device(self) -> DeviceSearch | None:
        """Search on a CUDA device; None where there is none."""
        import torch

        if not torch.cuda.is_available():
            return None
        from .device import DeviceSearch

        return DeviceSearch(self.reader)

    def _answer(self, question: Question, top: TopK) -> Retrieval:
        query, options, candidates, warnings = question
        components = [self._component(query, q, top, options) for q in range(len(query.searched))]
        skipped = self._skipped(query)
        warnings = [*warnings, *self._missing(query, top, candidates, options)]
        if options.mode == "gpu" and self._device is None:
            warnings.append(sentence("mode 'gpu'", "there is no CUDA device: the CPU answered"))
        certified = options.mode != "fast" or options.certify
        found = Retrieval(
            query.layout, self.reader.geometry.frame, components, skipped, warnings, options, certified, self.reader
        )
        return coherent(found, self.lights) if options.coherent else found

    def _missing(self, query: Query, top: TopK, candidates: Filtered | None, options: RetrievalOptions) -> list[str]:
        """A sentence where filters leave nothing, else one for each class of which there is no candidate."""
        given = ("where", options.where is not None), ("exclude", options.exclude), ("guard", options.guarded)
        filters = ", ".join(name for name, is_given in given if is_given)
        if candidates is not None and candidates.number == 0:
            return [sentence(filters or "bank", "no segment is left")]
        without = np.unique(query.class_ids[np.asarray(top.found) == 0])
        who = f"{filters}: no segment is left" if filters else "bank: there is no segment"
        return [f"{who} of class {self.reader.classes[int(id)].name!r}" for id in without]

    def _component(self, query: Query, q: int, top: TopK, options: RetrievalOptions) -> Component:
        number = int(query.searched[q])
        class_id = int(query.class_ids[q])
        name = self.reader.classes[class_id].name
        hits = self._hits(class_id, name, top, q, options, Asked(query.framed, number, options.weights))
        return Component(
            class_id, name, _box(query.framed.boxes[number]), int(query.framed.areas[number]), hits,
            int(top.scored[q]), number, query.framed,
        )  # fmt: skip

    def _hits(self, class_id: int, name: str, top: TopK, q: int, options: RetrievalOptions, asked: Asked) -> list[Hit]:
        ids, scores = top.segment_id[q].tolist(), top.score[q].tolist()
        counts, places = top.counts[q].tolist(), top.place[q].tolist()  # whole lists: one by one is three times slower
        hits = []
        for rank in _chosen(top, q, options, asked):
            (shard, row), (mask, mask_union, context, context_union) = places[rank], counts[rank]
            footprints = self.reader.shards[shard].footprints
            hits.append(
                Hit(
                    ids[rank],
                    class_id,
                    name,
                    scores[rank],
                    mask / mask_union,
                    context / context_union if context_union else 0.0,
                    _box(footprints.box[row]),
                    self.reader.shard_sources[shard].names.item(int(footprints.source[row])),
                    self.reader,
                    shard,
                    row,
                    asked,
                )
            )
        return hits

    def _skipped(self, query: Query) -> list[Component]:
        framed = query.framed
        numbers = np.flatnonzero(~framed.stored)
        ids, areas = framed.components.class_ids[numbers].tolist(), framed.areas[numbers].tolist()
        names = {id: self.reader.classes[id].name for id in set(ids)}
        rows = zip(numbers.tolist(), ids, framed.boxes[numbers].tolist(), areas, strict=True)
        return [Component(id, names[id], tuple(box), area, (), 0, number, framed) for number, id, box, area in rows]

    def _mask_query(self, mask: Mask, class_id: int) -> Query:
        """A mask as the one component of a layout that is void elsewhere."""
        layout = np.where(mask, np.uint16(class_id), np.uint16(VOID))
        labels = mask.astype(np.uint32)
        first_pixel = np.array([int(mask.argmax())], np.int64)
        components = Components(label_runs(labels), labels.shape[1], np.array([class_id], np.uint16), first_pixel)
        geometry = self.reader.geometry
        sampled = np.ascontiguousarray(sample_to_frame(labels, geometry.frame)).astype(np.uint32)
        areas, boxes = areas_and_boxes(sampled, 1)
        stored = (areas >= geometry.min_area) & (areas > 0)
        framed = FramedLayout(components, label_runs(sampled), sampled.shape[1], areas, boxes, stored)
        return make_query(layout, geometry, self._thin, framed)

    def _class_id(self, class_: str | int) -> int:
        classes = self.reader.classes
        if isinstance(class_, str):
            entry = classes.named(class_)
        else:
            whole = isinstance(class_, (int, np.integer)) and not isinstance(class_, bool)
            entry = classes[int(class_)] if whole and class_ in classes else None
        if entry is None:
            known = ", ".join(f"{entry.name} ({entry.id})" for entry in classes)
            raise InputError(sentence("class_", expected=f"a class of the bank, {known}", found=repr(class_)))
        return entry.id

    @cached_property
    def _thin(self) -> npt.NDArray[np.bool_]:
        return self.reader.classes.flags("thin")


def _chosen(top: TopK, q: int, options: RetrievalOptions, asked: Asked) -> Sequence[int]:
    """Which of the best of a component are handed out, ascending ranks."""
    scores = top.score[q, : top.found[q]]
    good = len(scores) if options.min_score is None else int((scores >= options.min_score).sum())
    if options.sample is None:
        return range(good)
    box, area = asked.framed.boxes[asked.number], asked.framed.areas[asked.number]
    draw = np.random.default_rng([options.sample[1], q, *box.tolist(), int(area)])  # layouts draw apart
    drawn: list[int] = np.sort(draw.choice(good, min(options.k, good), replace=False)).tolist()
    return drawn


def _jobs(layouts: Iterable[LayoutLike] | None, sources: Iterable[str] | None) -> Iterator[Job]:
    """Number, layout and source of each job; checked before the first is taken."""
    for name, given in (("layouts", layouts), ("sources", sources)):
        if isinstance(given, (str, Path)) or not (given is None or isinstance(given, Iterable)):
            raise InputError(sentence(name, expected="several", found=repr(given), fix="put them into a list"))
    if layouts is None and sources is None:
        raise InputError(sentence("layouts", expected="layouts, or the names of sources", found="neither"))
    return _pairs(layouts, sources)


def _batches(jobs: Iterator[Job], size: int) -> Iterator[list[Job]]:
    while batch := list(islice(jobs, size)):
        yield batch


def _flat(batches: Generator[list[Retrieval | ZeuxisError]]) -> Iterator[Retrieval | ZeuxisError]:
    with closing(batches):
        for batch in batches:
            yield from batch


def _pairs(layouts: Iterable[LayoutLike] | None, sources: Iterable[str] | None) -> Iterator[Job]:
    if layouts is None or sources is None:
        for number, given in enumerate(layouts if layouts is not None else sources or ()):
            yield (number, given, None) if sources is None else (number, None, given)  # type: ignore[misc]
        return
    nothing: Any = object()
    for number, (layout, source) in enumerate(zip_longest(layouts, sources, fillvalue=nothing)):
        if layout is nothing or source is nothing:
            short = "layouts" if layout is nothing else "sources"
            raise InputError(
                sentence("layouts and sources", expected="as many of each", found=f"only {number} {short}")
            )
        yield number, layout, source


def _of_layout(error: ZeuxisError, number: int) -> ZeuxisError:
    """The same error, naming the layout's number."""
    kind = InputError if isinstance(error, SourceError) else type(error)
    return kind(f"layout {number}: {error}")


def _aspect_warning(layout: Layout, frame: tuple[int, int]) -> list[str]:
    height, width = layout.shape
    stretch = (width / height) / (frame[1] / frame[0])
    if abs(math.log(stretch)) <= ASPECT_TOLERANCE:
        return []
    return [
        sentence(
            f"layout of {height}x{width}",
            f"has another aspect ratio than the bank's frame of {frame[0]}x{frame[1]} and was stretched to it",
        )
    ]


def _box(row: npt.NDArray[np.integer]) -> Box:
    top, left, bottom, right = row.tolist()
    return top, left, bottom, right
