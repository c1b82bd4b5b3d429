"""From a picture back to the bank: a judge parses it, and the best segments for that layout are retrieved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...index.result import Retrieval
from ...index.retriever import Retriever
from ...storage.classes import Layout
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.records import hex_id
from ...synth.encoding import to_tensor
from ..models import Models
from ..training.sources import resized_image


@dataclass(frozen=True, eq=False)
class LookedUp:
    """What the bank holds for a picture.

    Attributes:
        layout: `(S, S)` uint16 in the bank's ids, as the judge reads the picture; retrieval: the hits for it.
    """

    layout: Layout
    retrieval: Retrieval

    def told(self) -> list[dict[str, Any]]:
        """The components and their hits, for a report."""
        return [
            {
                "class": component.class_name,
                "hits": [
                    {"segment": hex_id(hit.segment_id), "source": hit.source, "score": round(float(hit.score), 6)}
                    for hit in component.hits
                ],
            }
            for component in self.retrieval
        ]


class LookUp:
    """Looks pictures up in a bank.

    The judge sees a square picture as a square, as high as the pictures of its training; the bank stretches the layout
    to its frame, as it does with every layout.

    Args:
        folder: of trained networks, with a judge that was trained for the bank's classes.
        retriever: of the bank; k: hits a component, at most.

    Raises:
        InputError: there is no judge, or it does not fit the bank.
    """

    def __init__(self, folder: str | Path | None, retriever: Retriever | None, k: int = 5) -> None:
        if retriever is None:
            raise InputError(sentence("looking up", "no bank was named", fix="give --bank"))
        if folder is None:
            raise InputError(sentence("looking up", "needs a judge", fix="give a folder of networks with --models"))
        self._judge = Models(folder, retriever.reader).load("judge")
        self._retriever, self._k = retriever, k

    def __call__(self, image: Photograph) -> LookedUp:
        """The layout of a square picture, and what fits it."""
        rows = self._judge.size[0]
        device = next(self._judge.network.parameters()).device
        shown = to_tensor(resized_image(image, (rows, rows)))[None].to(device)
        with torch.inference_mode():
            read = self._judge.network(shown)[0].argmax(0).cpu().numpy()
        layout = np.asarray(self._judge.class_of[read], np.uint16)
        return LookedUp(layout, self._retriever.retrieve(layout, self._k))
