"""Objects assembled from key patches, in place of the stored segments that a new layout's objects would be shown by.

The layout says where an object is and what shape it has, a segment of the bank fills that shape, and its pixels give
way to those of a picture that the network of key patches makes of parts of another object: so labels stay exact.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...index.filters import alike_groups
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...storage.records import hex_id
from ...synth.canvas import Canvas, Placement
from ...synth.checkpoint import SUFFIX
from ...synth.colour import monge_kantorovich
from ...synth.elision import Elided
from ..assembling.network import KIND, Assembler
from ..models import Models
from ..training.object_windows import window_around
from ..training.patch_pictures import PatchPictures
from ..training.task import NothingToLearn, subject_of
from .guard import Used
from .layouts import TRAIN
from .options import SynthesisOptions

HELD = 256
"""Photographs whose objects are held in memory."""
MOST_OF = 0.5
"""Of a component's pixels that must be of objects that were put in."""
Instances = npt.NDArray[np.uint16]


class Put(NamedTuple):
    """A segment whose appearance gave way: hex id, new instances that it shows, source of the patches, pixels seen."""

    segment: str
    instances: tuple[int, ...]
    source: str
    pixels: int


class _Source(NamedTuple):
    """A photograph: its group, and the objects of which parts may be taken, as `PatchPicture` names them."""

    group: str
    objects: set[str]


class Assembling:
    """Puts assembled objects into canvases; safe to use from several threads.

    Args:
        reader: of the bank; models: the folder's networks; options: of the run.

    Raises:
        InputError: see `check_assembling`.
    """

    def __init__(self, reader: Reader, models: Models, options: SynthesisOptions) -> None:
        check_assembling(models, options)
        self.reader = reader
        self.assembler = Assembler(models.folder, KIND, models.device, models.compiled)
        name = str(self.assembler.objects)
        found = reader.classes.named(name)
        if self.assembler.objects is None or found is None:
            said = "objects of no class" if self.assembler.objects is None else f"objects of class {name}"
            fix = "train one on this bank: `zeuxis train key-patches --class NAME`"
            what = models.path(KIND)
            raise InputError(sentence(what, expected="objects of a class of the bank", found=said, fix=fix))
        if name in options.erase:
            fix = "leave one of them out"
            raise InputError(sentence("--assemble", f"makes objects of class {name}, which --erase takes out", fix=fix))
        self.class_name, self.class_id = name, found.id
        self._sources = _sources(reader, options, name)
        if not self._sources:
            raise InputError(sentence(reader.path, f"holds no {name} of {TRAIN} whose parts could be taken"))
        self._neighbours = {entry.name for entry in reader.manifest.datasets if entry.neighbours}
        self._subject = subject_of(reader, (self.assembler.resolution,) * 2)
        self._lock = threading.Lock()
        self._pictures = lru_cache(maxsize=HELD)(self._pictures_of)

    def put(
        self,
        canvas: Canvas,
        elided: Elided,
        instances: Instances,
        added: set[int],
        seed: Sequence[int],
        apart: tuple[str | None, str | None],
    ) -> tuple[Canvas, Elided, list[Put]]:
        """A canvas with assembled objects where its layout has new ones of the class.

        Args:
            canvas, elided: as they were painted, and what is left of them for the synthesis network.
            instances: `(H, W)` of the canvas; added: numbers of those that were put in.
            seed: of the image; object k of it draws from `(*seed, k)`.
            apart: group and source of which nothing is taken.

        Returns:
            the same with other pixels, and whose they are; what shows which segment does not change.
        """
        new = np.isin(instances, sorted(added))
        image, placements, done = canvas.image.copy(), list(canvas.placements), []
        for number, placed in enumerate(canvas.placements):
            if placed.piece.class_id != self.class_id or not self._is_new(placed, new):
                continue
            seen = canvas.provenance == number + 1
            shows = np.unique(instances[seen & new]).tolist()
            made = self._object(placed, image.shape[:2], [*seed, number], apart) if shows else None
            if made is None:
                continue
            pixels, source = made
            top, left, bottom, right = placed.box
            shown = seen[top:bottom, left:right]
            image[top:bottom, left:right][shown] = pixels[shown]
            placements[number] = replace(placed, pixels=pixels)
            done.append(Put(hex_id(placed.piece.segment_id), tuple(shows), source, int(seen.sum())))
        if not done:
            return canvas, elided, []
        shown_image = np.where(elided.valid[..., None], image, elided.image)
        return replace(canvas, image=image, placements=placements), Elided(shown_image, elided.valid), done

    def used(self, done: Sequence[Put]) -> list[Used]:
        """What those objects are made from."""
        return [Used("patch", each.source, None, self.class_name, each.pixels) for each in done]

    def _is_new(self, placed: Placement, new: npt.NDArray[np.bool_]) -> bool:
        """Whether the component that a segment covers is an object that was put in."""
        top, left, bottom, right = placed.piece.target.box
        own = placed.piece.target.mask
        return bool(own.any() and new[top:bottom, left:right][own].mean() > MOST_OF)

    def _object(
        self, placed: Placement, size: tuple[int, ...], seed: Sequence[int], apart: tuple[str | None, str | None]
    ) -> tuple[Photograph, str] | None:
        """Pixels in the box of a placement, zero outside its mask, and the source of the parts."""
        random = np.random.default_rng(seed)
        found = self._parts(random, apart)
        if found is None or not placed.mask.any():
            return None
        patches, source = found
        noise = random.uniform(-1, 1, self.assembler.network.config.noise).astype(np.float32)
        picture = self.assembler.many([patches], [noise])[0].image
        window = window_around(placed.box, (size[0], size[1]))
        pixels = _cut(picture, window, placed.box)
        pixels[placed.mask] = monge_kantorovich(pixels[placed.mask], placed.pixels[placed.mask])
        pixels[~placed.mask] = 0
        return pixels, source

    def _parts(
        self, random: np.random.Generator, apart: tuple[str | None, str | None]
    ) -> tuple[list[Photograph], str] | None:
        """Key patches of an object that is drawn: first a photograph, then one of its objects."""
        group, source = apart
        barred = set() if group is None else set(alike_groups(group, group.partition("/")[0] in self._neighbours))
        names = [name for name, own in self._sources.items() if own.group not in barred and name != source]
        for at in random.permutation(len(names)).tolist():
            with self._lock:  # what finds patches sets OpenCV's threads, which are the process's
                sets = self._pictures(names[at])
            if sets:
                return sets[int(random.integers(len(sets)))], names[at]
        return None

    def _pictures_of(self, source: str) -> list[list[Photograph]]:
        """The patches of every object of a photograph that may be taken and is large enough."""
        side, most = self.assembler.resolution, self.assembler.parts
        try:
            found = PatchPictures(
                self.reader, [source], side, objects=self.class_name, n=most, subject=self._subject,
                aspect=self.assembler.aspect,
            )  # fmt: skip
        except NothingToLearn:
            return []
        pictures = (found[k] for k in range(len(found)))
        return [list(each.patches) for each in pictures if each.name in self._sources[source].objects]


def check_assembling(models: Models, options: SynthesisOptions) -> None:
    """Refuses what does not go together.

    Raises:
        InputError: there is no network of key patches, nothing is recomposed, or what paints sees no canvas.
    """
    if not options.recompose and not options.generated:
        fix = "give --recompose or --generated"
        raise InputError(sentence("--assemble", "is for objects that are put into new layouts", fix=fix))
    if not models.sees_canvas(options.stages.kind, options.stages.network):
        found, fix = "one that sees the layout alone", "leave --assemble or --network out"
        raise InputError(sentence("--assemble", expected="a network that sees the canvas", found=found, fix=fix))
    if not models.has(KIND):
        fix = f"train one: `zeuxis train {KIND} --class NAME`, or leave --assemble out"
        raise InputError(sentence("--assemble", f"{models.folder} holds no {KIND}{SUFFIX}", fix=fix))


def added_by(edits: Sequence[Mapping[str, Any]]) -> set[int]:
    """Numbers of the instances that were put in."""
    return {number for edit in edits if edit["kind"] == "added" for number in edit["instances"]}


def with_assembled(edits: Sequence[dict[str, Any]], done: Sequence[Put]) -> list[dict[str, Any]]:
    """Edits as they are told, those whose objects were assembled with how."""
    told = []
    for edit in edits:
        own = [put._asdict() for put in done if not set(edit["instances"]).isdisjoint(put.instances)]
        told.append({**edit, "assembled": own} if own else edit)
    return told


def _sources(reader: Reader, options: SynthesisOptions, class_name: str) -> dict[str, _Source]:
    """Training sources with segments of the class that the run may use, by name, ascending."""
    table = reader.table("segments", options.where, ["source", "split", "group", "class_name", "segment_id"])
    barred, found = set(options.exclude), dict[str, _Source]()
    for row in sorted(table.to_pylist(), key=lambda row: row["source"]):
        source, group = row["source"], row["group"]
        if row["split"] == TRAIN and row["class_name"] == class_name and not barred & {source, group}:
            found.setdefault(source, _Source(group, set())).objects.add(f"{source}#{hex_id(row['segment_id'])}")
    return found


def _cut(picture: Photograph, window: Box, box: Box) -> Photograph:
    """The pixels in a box, of a picture that is stretched to a window; beyond the window its edges are repeated."""
    rows, cols = window[2] - window[0], window[3] - window[1]
    shrinks = rows <= picture.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    stretched = cv2.resize(picture, (max(cols, 1), max(rows, 1)), interpolation=how)
    down = np.clip(np.arange(box[0], box[2]) - window[0], 0, stretched.shape[0] - 1)
    across = np.clip(np.arange(box[1], box[3]) - window[1], 0, stretched.shape[1] - 1)
    found: Photograph = np.ascontiguousarray(stretched[np.ix_(down, across)])
    return found
