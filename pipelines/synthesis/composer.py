"""Layouts that are made for a run: recomposed, generated, or without the objects of some classes."""

from __future__ import annotations

import threading
from functools import cached_property

import numpy as np

from ...storage.classes import Layout
from ...storage.errors import InputError, sentence
from ...storage.reader import Reader
from ..recomposed import Recomposed
from ..recomposition import Recomposer
from ..variants import digest_of
from .layouts import TRAIN
from .options import SynthesisOptions

_RECOMPOSE, _GENERATE = 7, 8
"""Set the random numbers of new layouts apart from those of painting, and from each other."""


class Composer:
    """Makes layouts as a run's options say; safe to use from several threads, one of which waits for the other.

    Args:
        reader: the bank, whose objects of `train` are put in; options: of the run.
    """

    def __init__(self, reader: Reader, options: SynthesisOptions) -> None:
        self.reader, self.options = reader, options
        self._lock = threading.Lock()  # a recomposer keeps masks that it has decoded, for one thread

    def check(self) -> None:
        """Opens what the run needs.

        Raises:
            InputError: a class cannot be boosted or erased, or there is nothing to boost it with.
        """
        given = self.options
        if not (given.recompose or given.generated or given.erase):
            return
        recomposer = self._recomposer
        more = [name for name, factor in given.boost.items() if factor > 1]
        if not more or not (given.recompose or given.generated):
            return
        if lacking := recomposer.lacking():
            raise InputError(sentence("--boost", f"no {lacking[0]} can be put into layouts", fix="leave it out"))
        shown = self._shown()
        if given.stages.kind != "crn" and (lost := [name for name in more if name not in shown]):
            raise InputError(sentence("--boost", f"--where leaves no {lost[0]} to show", fix="leave it out"))

    def _shown(self) -> set[str]:
        """Names of the classes of which there are segments to paint with."""
        table = self.reader.table("segments", self.options.where, ["class_name", "split"])
        rows = zip(table["class_name"].to_pylist(), table["split"].to_pylist(), strict=True)
        return {name for name, split in rows if split == TRAIN}

    def recomposed(self, layout: Layout, variant: int, group: str | None, source: str | None) -> Recomposed:
        """A layout made anew, without anything of a group or a source; each variant another one."""
        seed = [self.options.seed, *np.frombuffer(digest_of(layout), "<u4").tolist(), variant, _RECOMPOSE]
        with self._lock:
            return self._recomposer.recompose(layout, np.random.default_rng(seed), group, source)

    def generated(self, number: int) -> Recomposed:
        """The layout of that number, of nobody's, in the bank's frame; its objects keep apart from what lends stuff."""
        random = np.random.default_rng([self.options.seed, number, _GENERATE])
        with self._lock:
            return self._recomposer.generated(random, apart=self.options.apart)

    def erased(self, layout: Layout) -> Recomposed:
        """A layout without what shall be erased."""
        with self._lock:
            return self._recomposer.erase(layout)

    @cached_property
    def _recomposer(self) -> Recomposer:
        given = self.options
        boost = given.boost or None
        return Recomposer(self.reader, split=TRAIN, boost=boost, erased=given.erase, exclude=given.exclude)
