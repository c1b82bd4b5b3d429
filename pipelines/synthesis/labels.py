"""What of a layout a network paints that was trained for other classes than the bank's: labels say nothing else."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...storage.classes import VOID, ClassTable, Layout
from ...synth.canvas import Canvas
from ...synth.elision import Elided
from ..models import Model

Table = npt.NDArray[np.uint16]
"""`(65536,)`, from class id to class id."""


class Reading:
    """How a network takes the bank's classes: some as one, some, for which it has no channel, as void.

    Args:
        model: the network; classes: of the bank; blind: it is not shown the canvas.
    """

    def __init__(self, model: Model, classes: ClassTable, blind: bool) -> None:
        self._model, self._ids, self._blind = model, [entry.id for entry in classes], blind

    def given(self, layout: Layout) -> Layout:
        """A layout as the network is given it, mapped back: one id for all of a channel, void where it has none."""
        given: Layout = self._back[self._model.channel_of[layout]]
        return given

    def label(self, layout: Layout, canvas: Canvas, seen: Elided) -> tuple[Layout, Layout | None]:
        """What a picture shows of a layout: classes without a channel where a segment of theirs is seen alone.

        Args:
            layout: `(H, W)`; canvas, seen: for it, and as the network is shown it.

        Returns:
            The label, and `(H, W)` the classes without a channel that the canvas shows, void elsewhere; None where
            the network has channels for all.
        """
        unknown = self._model.channel_of[layout] == self._model.n_classes
        if not self._strange or not (unknown & (layout != VOID)).any():
            return layout, None
        shown = np.full_like(layout, VOID)
        if not self._blind:
            pasted = np.array([VOID, *(placed.piece.class_id for placed in canvas.placements)], np.uint16)
            pasted = pasted[canvas.provenance]
            kept = seen.valid & unknown & (pasted == layout)
            shown[kept] = pasted[kept]
        return np.where(unknown, shown, layout), shown

    @cached_property
    def alike(self) -> Table:
        """The id that stands for each: that which `given` says, and the own of classes without a channel."""
        table = self._back[self._model.channel_of]
        table[self._strange] = self._strange
        return table

    @cached_property
    def _strange(self) -> list[int]:
        """Classes without a channel."""
        return [id for id in self._ids if self._model.channel_of[id] == self._model.n_classes]

    @cached_property
    def _back(self) -> Table:
        """`(n_classes + 1,)`, from channel to the first class that it is for."""
        back = np.full(self._model.n_classes + 1, VOID, np.uint16)
        for id in reversed(self._ids):
            back[self._model.channel_of[id]] = id
        back[self._model.n_classes] = VOID
        return back
