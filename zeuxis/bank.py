"""What `zeuxis.open` returns: one generation of a bank, its tables, its retriever and its painter."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .holdings import Holdings
from .storage.errors import FilterError, InputError, sentence
from .storage.reader import Reader

if TYPE_CHECKING:
    import numpy.typing as npt

    from .index.appearance import AppearanceIndex, Similar
    from .index.request import LayoutLike, Options
    from .index.result import Hit, Retrieval
    from .index.retriever import Retriever
    from .pipelines.assemble import Assembled
    from .pipelines.assembling.patches import PatchLike
    from .pipelines.collage import Collage
    from .pipelines.inpaint import ImageLike, Inpainted, Sliders
    from .pipelines.inpainting.regions import RegionLike
    from .pipelines.paint import Painter
    from .pipelines.painted import Painted
    from .pipelines.painting_steps import Stages
    from .storage.classes import ClassTable
    from .storage.errors import ZeuxisError
    from .storage.layouts import Box


class Bank(Holdings):
    """One generation of a bank, read-only; later rebuilds do not change it.

    Args:
        path: the bank's folder.
        models: folder of the trained networks that `paint` uses.

    Raises:
        NotABankError, SchemaError, DamagedBankError: the bank cannot be used; the sentence names the file.
    """

    def __init__(self, path: str | Path, models: str | Path | None = None) -> None:
        self._reader, self._models = Reader(path), models
        self._painters: dict[tuple[Path, Path | None], Painter] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_reader": self._reader, "_models": self._models, "_painters": {}}

    def __repr__(self) -> str:
        return f"Bank({str(self.path)!r}, generation {self.generation})"

    @property
    def path(self) -> Path:
        """The bank's folder."""
        return self._reader.path

    @property
    def generation(self) -> int:
        """The generation that is read."""
        return self._reader.manifest.generation

    @property
    def frame(self) -> tuple[int, int]:
        """`(rows, cols)`, the resolution at which footprints and contexts are compared."""
        return self._reader.geometry.frame

    @property
    def classes(self) -> ClassTable:
        """The class table: iterate it, or index it by id."""
        return self._reader.classes

    def retrieve(
        self, layout: LayoutLike | None = None, k: int = 5, *, dataset: str | None = None, **options: Unpack[Options]
    ) -> Retrieval:
        """The k best segments for every component of a layout, by mask IoU plus context IoU.

        Args:
            layout: `(H, W)` array of class ids, a path, or an RGB-palette image; of any size. None for the own layout
                of the source that is named by `source=`.
            k: hits a component, at most.
            dataset: the layout's ids and colours are the native ones of this data set, such as `"nyu"`.
            options: `where`, `exclude`, `source`, `guard`, `min_score`, `sample`, `weights`, `mode`, `certify`,
                `coherent` (hits chosen jointly, for uniform light and colour); see `zeuxis.index.request.Options`.

        Raises:
            LayoutError, FilterError, InputError: one of the arguments cannot be used.
        """
        return _warned(self._retriever.retrieve(layout, k, dataset=dataset, **options))

    def retrieve_mask(
        self, mask: npt.ArrayLike, class_: str | int, k: int = 5, **options: Unpack[Options]
    ) -> Retrieval:
        """The k best segments of a class for a bare mask; with nothing around it, the score is the mask IoU.

        Args:
            mask: `(H, W)` bool, of any size; all of it is one component, in however many pieces.
            class_: name or id.
            k: hits, at most.
            options: as in `retrieve`; `weights` are (1, 0) by default.

        Raises:
            LayoutError, FilterError, InputError: one of the arguments cannot be used.
        """
        return _warned(self._retriever.retrieve_mask(mask, class_, k, **options))

    def retrieve_box(
        self,
        box: Box,
        class_: str | int,
        k: int = 5,
        *,
        size: tuple[int, int] | None = None,
        **options: Unpack[Options],
    ) -> Retrieval:
        """`retrieve_mask` of a box `(top, left, bottom, right)`, half-open, in a picture of `size`, else the frame."""
        return _warned(self._retriever.retrieve_box(box, class_, k, size=size, **options))

    @overload
    def retrieve_many(
        self,
        layouts: Iterable[LayoutLike] | None = None,
        k: int = 5,
        *,
        sources: Iterable[str] | None = None,
        dataset: str | None = None,
        workers: int | None = None,
        progress: bool = True,
        errors: Literal["raise"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[Retrieval]: ...
    @overload
    def retrieve_many(
        self,
        layouts: Iterable[LayoutLike] | None = None,
        k: int = 5,
        *,
        sources: Iterable[str] | None = None,
        dataset: str | None = None,
        workers: int | None = None,
        progress: bool = True,
        errors: Literal["skip"],
        **options: Unpack[Options],
    ) -> Iterator[Retrieval | ZeuxisError]: ...
    def retrieve_many(
        self,
        layouts: Iterable[LayoutLike] | None = None,
        k: int = 5,
        *,
        sources: Iterable[str] | None = None,
        dataset: str | None = None,
        workers: int | None = None,
        progress: bool = True,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[Any]:
        """`retrieve` of many layouts on all cores; the results come in order, as they are done.

        Args:
            layouts: any number of them, taken a few at a time; None for the own layouts of `sources`.
            k, dataset, options: as in `retrieve`.
            sources: of each layout, the source of the bank that it belongs to.
            workers: threads; default one a core.
            progress: show a bar, where the error stream is a terminal.
            errors: `"raise"`, or `"skip"`, which yields the error in the place of the layout that caused it.

        Raises:
            FilterError, InputError: at once, for options that no layout could be searched with; else as `retrieve`,
            with the number of the layout. What `retrieve` warns of is in each result's `warnings`.
        """
        results = self._retriever.retrieve_many(
            layouts, k, sources=sources, dataset=dataset, workers=workers, errors=errors, **options
        )
        given = sources if layouts is None else layouts
        return _counted(results, len(given) if isinstance(given, Sized) else None) if progress else results

    def collage(
        self,
        layout: LayoutLike | None = None,
        *,
        out: str | Path | None = None,
        dataset: str | None = None,
        **options: Unpack[Options],
    ) -> Collage:
        """Paints a layout from the best hit of each component.

        Args:
            layout, dataset, options: as in `retrieve`.
            out: where to save the picture; its validity mask, provenance map and list of sources stand beside it.

        Raises:
            as `retrieve`; InputError: `out` cannot be written.
        """
        from .pipelines.collage import paint

        return paint(self._retriever, layout, out=out, dataset=dataset, **options)

    def paint(
        self,
        layout: LayoutLike | None = None,
        variants: int = 1,
        seed: int = 0,
        k: int = 5,
        *,
        models: str | Path | None = None,
        compiled: str | Path | None = None,
        dataset: str | None = None,
        densify: bool = False,
        map_classes: str | Path | Mapping[str, Any] | None = None,
        stages: Stages | None = None,
        out: str | Path | None = None,
        **options: Unpack[Options],
    ) -> list[Painted]:
        """Photographs for a layout, by trained networks, from the segments that fit it: one a variant.

        The same bank, networks, layout, seed and variant give the same bytes on the same machine.

        Args:
            layout, dataset, options: as in `retrieve`; `sample` is not to be had.
            variants: how many; the first takes the best hits, each other one a random one of the best `k` for every
                component, drawn by `seed`.
            models: folder of trained networks; default that which the bank was opened with.
            compiled: folder of compiled forms of them, as `zeuxis.compile` makes it; they are used where they fit.
            densify: the layout is coarse and is made dense first.
            map_classes: for networks trained on other classes: class of theirs to class, or classes, of the bank; or a
                YAML file that says so.
            stages: which way each step goes, see `zeuxis.pipelines.painting_steps.Stages`.
            out: a folder, made where there is none, for `<layout's name>-<variant>.png` and what stands beside it.

        Raises:
            as `retrieve`; InputError: the networks are missing or do not fit the bank, or `out` cannot be written.
        """
        painter = self._painter(models, compiled)
        images = painter.paint(
            layout, variants, seed, k, out=out, dataset=dataset, densify=densify, map_classes=map_classes,
            stages=stages, **options,
        )  # fmt: skip
        for warning in dict.fromkeys(warning for image in images for warning in image.report.warnings):
            warnings.warn(warning, stacklevel=2)
        return images

    def inpaint(
        self,
        image: ImageLike,
        region: RegionLike,
        variants: int = 1,
        seed: int = 0,
        *,
        method: str = "roi",
        models: str | Path | None = None,
        compiled: str | Path | None = None,
        sliders: Sliders = None,
        erase: bool = False,
        layout: LayoutLike | None = None,
        dataset: str | None = None,
        out: str | Path | None = None,
    ) -> list[Inpainted]:
        """A picture with a region filled, once a variant; outside it nothing changes.

        Args:
            image: `(H, W, 3)` uint8 RGB, a file, or a source of this bank.
            region: a mask as an array or a file, a box `(top, left, bottom, right)`, or `segment:ID` of this bank.
            method: a network, `roi`, `roi-published` or `glcic`; `telea`, `navier-stokes`, `patchmatch` or `rows`; or
                `bank`.
            models: folder of trained networks; default that which the bank was opened with.
            compiled: folder of compiled forms of them, as `zeuxis.compile` makes it; they are used where they fit.
            variants, seed, sliders, erase, layout, dataset, out: see `zeuxis.pipelines.inpaint.inpaint`.

        Raises:
            InputError: one of the arguments cannot be used, found before anything is written.
        """
        from .pipelines.inpaint import inpaint

        return inpaint(
            image, region, variants, seed, method=method, models=models or self._models, compiled=compiled,
            retriever=self._retriever, sliders=sliders, erase=erase, layout=layout, dataset=dataset, out=out,
        )  # fmt: skip

    def assemble(
        self,
        patches: Sequence[PatchLike] = (),
        variants: int = 4,
        seed: int = 0,
        *,
        models: str | Path | None = None,
        **settings: Any,
    ) -> list[Assembled]:
        """Whole pictures from a few patches, and where each patch went, once a variant.

        Args:
            patches: files, or `(h, w, 3)` uint8 arrays such as `patch_pixels` gives.
            models: folder of trained networks; default that which the bank was opened with.
            variants, seed, settings: `network`, `from_bank`, `sources`, `split`, `count`, `noise`, `alike`, `compiled`
                and `out` as in `zeuxis.pipelines.assemble.assemble`.

        Raises:
            InputError: one of the arguments cannot be used, found before anything is written.
        """
        from .pipelines.assemble import assemble

        models = models or self._models
        made = assemble(patches, variants, seed, models=models, reader=self._reader, **settings)
        for warning in made[0].report.warnings:
            warnings.warn(warning, stacklevel=2)
        return made

    def similar(
        self,
        segment: Hit | Similar | int | str,
        k: int = 5,
        *,
        same_class: bool = True,
        exclude_source: bool = True,
    ) -> list[Similar]:
        """The k segments that look most like a given one, by colour and texture, nearest first.

        Args:
            segment: a hit, a similar segment, or a segment's id, as a number or as tables print it.
            k: how many, at most.
            same_class: only segments of its class.
            exclude_source: none of its own photograph.

        Raises:
            InputError: no such segment. FilterError: k. BankError: the bank holds no descriptors.
        """
        looks = self._appearance
        shard, row = looks.find(segment)
        return looks.describe(looks.similar(shard, row, k, same_class=same_class, exclude_source=exclude_source))

    def duplicates(self, threshold: int | None = None) -> list[tuple[Similar, Similar]]:
        """Pairs of segments of one class and two photographs that look all but the same, nearest first.

        Args:
            threshold: squared distance of descriptors below which they count; default `NEAR_DUPLICATE`.

        Raises:
            BankError: the bank holds no descriptors. FilterError: the threshold cannot be.
        """
        from .index.appearance import NEAR_DUPLICATE
        from .index.request import is_whole

        if threshold is not None and not is_whole(threshold, 1):
            raise FilterError(sentence("threshold", expected="a whole number of at least 1", found=repr(threshold)))
        looks = self._appearance
        pairs = looks.duplicates(NEAR_DUPLICATE if threshold is None else threshold)
        described = iter(looks.describe([one for pair in pairs for one in pair]))
        return list(zip(described, described, strict=True))

    def _painter(self, models: str | Path | None, compiled: str | Path | None = None) -> Painter:
        from .pipelines.paint import Painter

        folder = models or self._models
        if not folder:
            fix = "open the bank with models=FOLDER, or train some: `zeuxis train all`"
            raise InputError(sentence("models", "no folder of trained networks was named", fix=fix))
        key = Path(folder), None if compiled is None else Path(compiled)
        if key not in self._painters:
            self._painters[key] = Painter(self._reader, self._retriever, key[0], compiled=key[1])
        return self._painters[key]

    @cached_property
    def _appearance(self) -> AppearanceIndex:
        from .index.appearance import AppearanceIndex

        return AppearanceIndex(self._reader)

    @cached_property
    def _retriever(self) -> Retriever:
        from .index.retriever import Retriever

        return Retriever(self._reader)


def _warned(result: Retrieval) -> Retrieval:
    for warning in result.warnings:
        warnings.warn(warning, stacklevel=3)
    return result


def _counted(results: Any, total: int | None) -> Iterator[Any]:
    """Results as they come, counted by a bar in a terminal."""
    from .progress import progress_bar

    with closing(results), progress_bar("layouts") as report:
        for done, result in enumerate(results, start=1):
            report(done, total)
            yield result
