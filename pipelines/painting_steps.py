"""What painting consists of, each step a function whose input and output can be looked at (SIMS, section 4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..index.coherence import coherent
from ..index.lights import Lights
from ..index.request import POOL, LayoutLike, Options, as_layout, asked_for
from ..index.result import Retrieval
from ..index.retriever import Retriever
from ..storage.classes import VOID, Layout
from ..storage.errors import InputError, LayoutError, SourceError, sentence
from ..storage.images import Photograph, decode_labels
from ..storage.layouts import sample_to_frame
from ..storage.reader import Reader
from ..synth.canvas import Canvas, Placement, paint, place
from ..synth.elision import NO_ELISION, Elided, Elision, elide
from ..synth.encoding import one_hot, resized, to_image, to_tensor
from ..synth.filling import Colours
from ..synth.ordering import Order, back_to_front
from ..synth.transform import Piece, Target, Transform, fit, identity
from ..synth.turns import in_turn
from .collage import class_order, piece_of
from .inpainting.methods import FILLERS, Draw, Method
from .models import Model
from .training.sources import BankSources
from .variants import Choice, Key

Transforms = Literal["network", "analytic", "identity"]
Orders = Literal["network", "classes"]
Indices = npt.NDArray[np.int64]
"""`(H, W)` channel numbers of a network, void is the number of classes."""


COLOURED = 32
"""Training photographs that the usual colours of classes are of, at most."""
NOTHING_TO_FILL = "a network that sees no canvas needs none filled"


@dataclass(frozen=True)
class Stages:
    """Which way each step goes; every one can be switched off, so that it can be judged.

    Attributes:
        transform: `network` where there is one, else as `analytic`: the better of box fit and identity.
        order: `network` where there is one, else as `classes`: statistics of the bank's orderings.
        elision: None for the one the synthesis network was trained with, True and False likewise, or other settings.
        coherent: choose the hits of variant 0 jointly; a number is the weight of what neighbours say of each other.
        synthesis: name of the network's file, True for `synthesis`; False leaves the canvas as it would have seen it.
            One whose name begins with `crn` paints from the layout alone: nothing is retrieved, and its pictures of a
            layout are the variants.
        inpaint: method of `zeuxis inpaint`, a network or one of the picture alone, that fills what is missing of the
            canvas before the synthesis network sees it, or instead of it; None leaves that to the synthesis network.
    """

    transform: Transforms = "network"
    order: Orders = "network"
    elision: Elision | bool | None = None
    coherent: bool | float = False
    synthesis: bool | str = True
    inpaint: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("transform", get_args(Transforms)), ("order", get_args(Orders))):
            if getattr(self, name) not in known:
                found = repr(getattr(self, name))
                raise InputError(sentence(f"stages: {name}", expected=f"one of {', '.join(known)}", found=found))
        if self.inpaint is not None and self.inpaint not in FILLERS:
            raise InputError(
                sentence("stages: inpaint", expected=f"one of {', '.join(FILLERS)}", found=repr(self.inpaint))
            )
        if self.inpaint is not None and self.kind == "crn":
            raise InputError(sentence("stages: inpaint", NOTHING_TO_FILL, fix="leave one of them out"))

    @property
    def network(self) -> str:
        """Name of the synthesis network's file."""
        return self.synthesis if isinstance(self.synthesis, str) else "synthesis"

    @property
    def kind(self) -> str:
        """Of that network."""
        return "crn" if self.network.split("-")[0] == "crn" else "synthesis"

    def elision_of(self, model: Model) -> Elision:
        """How much is elided for a synthesis network: what is set here, else what stands in its checkpoint."""
        if isinstance(self.elision, Elision):
            return self.elision
        return NO_ELISION if self.elision is False else trained_elision(model)


@dataclass
class Clock:
    """Seconds that steps took, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Adds what the block takes."""
        start = perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start


class Cleaned(NamedTuple):
    """`layout`: `(H, W)` without the ids that no class has, which are void; `unknown`: those, ascending."""

    layout: npt.NDArray[np.int64]
    unknown: tuple[int, ...]


def trained_elision(model: Model) -> Elision:
    """The elision that a synthesis network was trained with.

    Raises:
        InputError: the checkpoint holds another thing under that name.
    """
    settings = model.card.training.get("elision", {})
    try:
        return Elision(**settings)
    except TypeError as error:
        raise InputError(sentence(model.path, f"holds no settings of elision ({error})")) from error


def retrieved(
    retriever: Retriever, layout: LayoutLike | None, k: int, dataset: str | None, options: Options
) -> tuple[Retrieval, tuple[int, ...]]:
    """The hits of a layout, by score, and the ids in it that no class of the bank has, which count as void.

    As many hits as a coherent choice is made among, k at least.

    Raises:
        as `Retriever.retrieve`, but for such ids.
    """
    k = max(k, POOL)
    try:
        return retriever.retrieve(layout, k, dataset=dataset, **options), ()
    except LayoutError:
        cleaned = None if layout is None else without_unknown(layout, retriever.reader, dataset)
        if cleaned is None or not cleaned.unknown:
            raise
    return retriever.retrieve(cleaned.layout, k, dataset=dataset, **options), cleaned.unknown


def unretrieved(
    reader: Reader, layout: LayoutLike | None, k: int, dataset: str | None, options: Options
) -> tuple[Retrieval, tuple[int, ...]]:
    """As `retrieved`, of a layout for which nothing is searched: no components."""
    chosen = asked_for(k, options)
    labels, unknown = ids_of(layout, reader, dataset, chosen.source)
    return Retrieval(labels, reader.geometry.frame, [], [], [], chosen, True, reader), unknown


def ids_of(
    layout: LayoutLike | None, reader: Reader, dataset: str | None, source: str | None
) -> tuple[Layout, tuple[int, ...]]:
    """A layout in the bank's ids, and the ids in it that no class has, which count as void.

    Raises:
        LayoutError: it is none, or there is neither a layout nor a source to take one of.
    """
    if layout is None:
        if source is None:
            raise LayoutError(sentence("layout", expected="a layout, or the name of a source", found="neither"))
        return reader.layout(source), ()
    cleaned = without_unknown(layout, reader, dataset)
    known, unknown = (cleaned.layout, cleaned.unknown) if cleaned else (layout, ())
    return as_layout(known, reader, dataset), unknown


def without_unknown(layout: LayoutLike, reader: Reader, dataset: str | None) -> Cleaned | None:
    """A layout of indices with void in place of ids that no class has; None where it is none."""
    if isinstance(layout, (str, Path)):
        try:
            labels = decode_labels(Path(os.path.expanduser(layout)).read_bytes(), layout)
        except (OSError, ValueError, SourceError):
            return None
    else:
        labels = np.asarray(layout)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        return None
    if dataset is None:
        entries = reader.manifest.datasets
        known = {entry.id for entry in reader.classes} | (entries[0].decoding.void if len(entries) == 1 else set())
    else:
        decoding = reader.dataset(dataset).decoding
        known = {entry.id for entry in decoding.classes} | decoding.void
    present = np.unique(labels)
    unknown = present[~np.isin(present, [*known, 255, VOID])]
    cleaned = np.where(np.isin(labels, unknown), VOID, labels).astype(np.int64)
    return Cleaned(cleaned, tuple(unknown.tolist()))


def dense(layout: Layout, model: Model) -> Layout:
    """A coarse layout of any size, in the bank's ids, made dense at the size of the densification network."""
    from ..synth.coarsening import densified

    channels = densified(model.network, model.channel_of[resized(layout, model.size)], model.n_classes)
    return model.class_of[channels]


def coherently(retrieval: Retrieval, k: int, weight: bool | float, lights: Lights) -> Retrieval:
    """At most k hits a component, those that go together first; `weight` True is the usual one, False changes none."""
    options = replace(retrieval.options, k=k, coherent=weight)
    return coherent(replace(retrieval, options=options), lights)


def pieces_of(reader: Reader, choices: Iterable[Choice], size: tuple[int, int]) -> dict[Key, Piece]:
    """Chosen segments with their pixels and with their components sampled to a canvas of `(rows, cols)`, each once.

    Components of which nothing is left at that size have none.
    """
    found: dict[Key, Piece] = {}
    targets: dict[int, Target | None] = {}
    for choice in choices:
        number, component, hit = choice
        if number not in targets:
            left = component.at_size(size)
            targets[number] = Target(*left) if left else None
        target = targets[number]
        if target is not None and choice.key not in found:
            found[choice.key] = piece_of(reader, component, hit, target)
    return found


def fitted(
    pieces: Sequence[Piece], size: tuple[int, int], how: Transforms, model: Model | None, layout: Layout
) -> list[Transform]:
    """Where each piece goes on a canvas of `(rows, cols)`; `layout` is that of the canvas, in the bank's ids."""
    if how == "identity":
        return [identity(piece, size) for piece in pieces]
    if how == "analytic" or model is None or not pieces:
        return [fit(piece, size) for piece in pieces]
    from ..synth.fitting import learned_fit

    return learned_fit(pieces, model.network, model.channel_of[layout], size, model.n_classes, model.size)


def led(
    pieces: Mapping[int, Piece], pairs: Iterable[tuple[int, int]], reader: Reader, model: Model, layout: Layout
) -> dict[tuple[int, int], float]:
    """What the ordering network says of pairs of components, `2 p - 1` for the first in front; see `pair_leads`.

    Args:
        pieces: component number to any piece that covers it; layout: that of the canvas, in the bank's ids.
    """
    from ..synth.ordering_evidence import pair_leads

    shown = model.channel_of[resized(layout, model.size)]
    seen = {number: _seen_at(piece, layout.shape, model.size) for number, piece in pieces.items()}
    return pair_leads(model.network, shown, seen, pairs, model.channel_of, class_order(reader))


def ordered(
    placements: Sequence[Placement],
    pairs: Sequence[tuple[int, int]],
    reader: Reader,
    leads: Mapping[tuple[int, int], float],
) -> Order:
    """The order of painting, back to front, and the pairs it contradicts.

    Args:
        pairs: of indices of placements, those whose order the canvas shows; leads: what a network says of some.
    """
    from ..synth.ordering_evidence import evidence_of

    statistics = class_order(reader)
    ids, boxes = [each.piece.class_id for each in placements], [each.box for each in placements]
    return back_to_front(ids, boxes, evidence_of(leads, ids, boxes, pairs, statistics), statistics)


def _seen_at(piece: Piece, canvas: tuple[int, ...], size: tuple[int, int]) -> Piece:
    """A piece whose component is sampled to the size of a network that orders."""
    if canvas == size:
        return piece
    top, left, bottom, right = piece.target.box
    whole = np.zeros(canvas, bool)
    whole[top:bottom, left:right] = piece.target.mask
    return replace(piece, target=Target((0, 0, *size), np.asarray(sample_to_frame(whole, size), bool)))


def placed(pieces: Sequence[Piece], transforms: Sequence[Transform], size: tuple[int, int]) -> list[Placement]:
    """Pieces warped onto a canvas of `(rows, cols)`."""
    return [place(piece, transform, size) for piece, transform in zip(pieces, transforms, strict=True)]


def composed(placements: Sequence[Placement], size: tuple[int, int], order: Order) -> Canvas:
    """The canvas of `(rows, cols)`, painted back to front."""
    return paint(placements, size, order.back_to_front, dropped=order.dropped)


def elided(canvas: Canvas, reader: Reader, settings: Elision, random: np.random.Generator) -> Elided:
    """A canvas as a synthesis network sees it, but for what is filled, and saw simulated ones in training.

    That is, without what spills over a segment's own component, and without pixels near the boundaries of segments.
    """
    is_thing = reader.classes.flags("thing")
    things = np.array([False, *(is_thing[each.piece.class_id] for each in canvas.placements)])
    return elide(canvas.image, _on_own_components(canvas), things, settings, random)


def _on_own_components(canvas: Canvas) -> npt.NDArray[np.uint16]:
    """The provenance of a canvas, 0 also where a segment lies outside the component that it shall cover."""
    kept = np.zeros_like(canvas.provenance)
    for number, placed in enumerate(canvas.placements, start=1):
        top, left, bottom, right = placed.piece.target.box
        window = canvas.provenance[top:bottom, left:right] == number
        kept[top:bottom, left:right][window & placed.piece.target.mask] = number
    return kept


def usual_colours(reader: Reader, size: tuple[int, int]) -> dict[int, Colours]:
    """By class id its mean colour, `(3,)` levels, in a few training photographs at `(rows, cols)`."""
    sums: dict[int, Colours] = {}
    sources = BankSources(reader, size, most=COLOURED)
    for picture in (sources[number] for number in range(len(sources))):
        for class_id in np.unique(picture.layout).tolist():
            own = picture.image[picture.layout == class_id].astype(np.float32)
            sums[class_id] = sums.get(class_id, np.zeros(4, np.float32)) + np.append(own.sum(0), np.float32(len(own)))
    return {class_id: found[:3] / found[3] for class_id, found in sums.items() if class_id != VOID}


def without_holes(canvas: Elided, filler: Method | None, seed: int, variant: int) -> tuple[Elided, str]:
    """A canvas whose missing pixels are filled, all of it valid; one that is all there or all missing stays, as without
    a filler every one does.

    Returns:
        And why the method could not fill it: it stays then too, and the sentence is for the user; empty where it did.
    """
    if filler is None or canvas.valid.all() or not canvas.valid.any():
        return canvas, ""
    try:
        image, _ = filler(canvas.image, ~canvas.valid, Draw(seed, variant))
    except InputError:
        there = f"{canvas.valid.mean():.1%} of it is there"
        return canvas, sentence("canvas", f"{there}, too little for {filler.name} to go by: nothing was filled")
    return Elided(image, np.ones_like(canvas.valid)), ""


def synthesised(model: Model, layouts: Sequence[Layout], canvases: Sequence[Elided], batch: int) -> list[Photograph]:
    """Photographs of layouts and canvases of the network's size, `(H, W, 3)` uint8 RGB.

    A network's last bits depend on how many images it sees at once (1e-6 were seen on a CPU). So that an image does not
    depend on what else is asked for, all batches have the same size; the last one is filled with its first image.
    """
    images: list[Photograph] = []
    for start in range(0, len(layouts), batch):
        some = list(zip(layouts, canvases, strict=True))[start : start + batch]
        images += _imagined(model, some + some[:1] * (batch - len(some)))[: len(some)]
    return images


def pictured(model: Model, layouts: Sequence[Layout], batch: int) -> list[list[Photograph]]:
    """Of each layout the photographs that a network makes of it that sees no canvas; batches as `synthesised`."""
    images: list[list[Photograph]] = []
    device = next(model.network.parameters()).device
    for start in range(0, len(layouts), batch):
        some = layouts[start : start + batch]
        filled = [*some, *[some[0]] * (batch - len(some))]
        with in_turn(device):
            indices = torch.from_numpy(np.stack([model.channel_of[layout] for layout in filled]))
            made = model.network(one_hot(indices.to(device), model.n_classes))
        images += [[to_image(image) for image in each] for each in made[: len(some)]]
    return images


def _imagined(model: Model, some: Sequence[tuple[Layout, Elided]]) -> list[Photograph]:
    device = next(model.network.parameters()).device
    with in_turn(device):
        indices = torch.from_numpy(np.stack([model.channel_of[layout] for layout, _ in some]))
        canvas = torch.stack([to_tensor(seen.image) for _, seen in some])
        valid = torch.from_numpy(np.stack([seen.valid for _, seen in some])).float()[:, None]
        layout = one_hot(indices.to(device), model.n_classes)
        image, _ = model.network(layout, canvas.to(device), valid.to(device))
    return [to_image(each) for each in image]
