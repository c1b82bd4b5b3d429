"""What a batch synthesis is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...index.request import Mode, is_whole, names_of
from ...storage.errors import InputError, sentence
from ...storage.filters import Where
from ..painted_files import check_variants
from ..painting_steps import Orders, Stages, Transforms

Format = Literal["folder", "webdataset", "parquet"]
Apart = Literal["group", "source", "nothing"]
SHARD = 128
"""Images a shard: what is published at once, and made again after a kill."""
MOST_SHARD = 10_000
AUGMENTING: Mapping[str, Any] = {"recompose": True, "apart": "nothing", "elision": False}
"""Of `SynthesisOptions`: what helped a segmentation network most, of what was tried (docs/augmentation.md)."""


@dataclass(frozen=True)
class SynthesisOptions:
    """What decides the bytes of a run, together with the bank, the networks and the layouts.

    Attributes:
        variants: images a layout; seed: of all draws; k: hits a component that variants are drawn from.
        dataset: the layouts' ids are native to this data set, and labels are saved in them too.
        from_bank: the layouts are those of the bank's sources of this split; default `train` where no folder is named.
        generated: so many layouts of nobody's are made from the bank's, `Recomposer.generated`, None for none.
        recompose: each image gets a layout of its own, made anew from the layout.
        assemble: objects that are put into new layouts look like ones that the network `key-patches` assembles from
            parts of others, where they are of the class that it was trained on.
        boost: class name to factor: how much more of it there shall be.
        erase: names of thing classes of which nothing shall be in any image nor in its labels.
        keep_real: the share of the output that is real photographs with their labels, 0 to below 1.
        limit: images, at most.
        format: of the output; coco: also write COCO annotations.
        shard: images a shard.
        apart: what of the bank's layouts their segments and objects keep apart from: all of the layout's `group`, its
            `source` alone, or `nothing` but val and test, so that a layout made anew may keep its own photograph.
        where, exclude, mode: of retrieval, as in `Retriever.retrieve`, one name to exclude or several; val and test are
            always left out. New layouts have no objects of what is excluded, nor its stuff.
        map_classes, transform, order: as in `Painter.paint_many` and `Stages`.
        elision: as the network was trained with; False leaves boundaries, and so things of a few pixels, as they are.
        network: name of the network that paints, as `Stages.synthesis`; one that begins with `crn` sees layouts alone.
        densify: the layouts of a folder are coarse: the densification network fills them first.
        agreement: images of which the judge network reads a smaller share of the known pixels as painted are left out,
            0 to 1; None judges none. Photographs that are kept are not judged.
        compiled: folder of compiled forms of the networks; which of them are used is part of the plan.

    Raises:
        InputError: a value that cannot be.
    """

    variants: int = 1
    seed: int = 0
    k: int = 5
    dataset: str | None = None
    from_bank: str | None = None
    generated: int | None = None
    recompose: bool = False
    assemble: bool = False
    boost: Mapping[str, float] = field(default_factory=dict)
    erase: tuple[str, ...] = ()
    keep_real: float = 0.0
    limit: int | None = None
    format: Format = "folder"
    coco: bool = False
    shard: int = SHARD
    apart: Apart = "group"
    where: Where = None
    exclude: tuple[str, ...] = ()
    mode: Mode = "exact"
    map_classes: str | Path | Mapping[str, Any] | None = None
    transform: Transforms = "network"
    order: Orders = "network"
    elision: bool = True
    network: str = "synthesis"
    densify: bool = False
    agreement: float | None = None
    compiled: str | Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", names_of("exclude", self.exclude))
        object.__setattr__(self, "erase", names_of("erase", self.erase))
        check_variants(self.variants)
        _require("seed", "a whole number of at least 0", self.seed, is_whole(self.seed, 0))
        _require("shard", f"a whole number from 1 to {MOST_SHARD:,}", self.shard, is_whole(self.shard, 1, MOST_SHARD))
        _require("limit", "a whole number of at least 1", self.limit, self.limit is None or is_whole(self.limit, 1))
        share = isinstance(self.keep_real, (int, float)) and 0 <= self.keep_real < 1
        _require("keep_real", "a share from 0 to below 1", self.keep_real, share)
        agreement = self.agreement is None or (isinstance(self.agreement, (int, float)) and 0 <= self.agreement <= 1)
        _require("agreement", "a share from 0 to 1", self.agreement, agreement)
        _require("format", f"one of {', '.join(get_args(Format))}", self.format, self.format in get_args(Format))
        _require("apart", f"one of {', '.join(get_args(Apart))}", self.apart, self.apart in get_args(Apart))
        splits = (None, "train", "val", "test")
        _require("from_bank", "train, val or test", self.from_bank, self.from_bank in splits)
        for name, factor in self.boost.items():
            usable = isinstance(factor, (int, float)) and math.isfinite(factor) and factor > 0
            _require(f"boost of {name}", "a number above 0", factor, usable)
        generated = self.generated is None or is_whole(self.generated, 1)
        _require("generated", "a whole number of at least 1", self.generated, generated)
        if self.generated and (self.recompose or self.from_bank):
            other = "--recompose" if self.recompose else "--from-bank"
            raise InputError(sentence("--generated", f"excludes {other}", fix="name one of them"))
        both = sorted(set(self.erase) & set(self.boost))
        if both:
            raise InputError(sentence(f"--erase {both[0]}", "excludes its --boost", fix="name one of them"))
        if self.keep_real and self.from_bank not in (None, "train"):
            said = f"photographs that train and layouts of {self.from_bank} would stand in one set"
            raise InputError(sentence("keep_real", said, fix="leave it out, or take layouts of train"))

    @property
    def stages(self) -> Stages:
        """Which way painting goes."""
        return Stages(self.transform, self.order, elision=self.elision, synthesis=self.network)


def _require(name: str, expected: str, found: object, holds: bool) -> None:
    if not holds:
        raise InputError(sentence(name, expected=expected, found=repr(found)))
