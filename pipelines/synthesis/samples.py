"""An image as files: pixels, label, instances, and what is said of it; each is checked against what was painted."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...storage.classes import VOID, ClassTable, Layout
from ...storage.errors import ZeuxisError, sentence
from ...storage.images import decode_labels
from ...storage.manifest import DatasetEntry
from .coco import Annotation, annotations_of
from .guard import Guard, Used
from .items import Imagined, Instances
from .plan import Plan

IMAGE, LABEL, INSTANCES, NATIVE = "image", "label", "instances", "native"
_QUICK, _SMALL = 1, 6
"""Levels of compression: of photographs more than the quickest gains 10 % and takes four times as long."""


class Form(NamedTuple):
    """How ids are written: `table` takes a bank's ids to those, `back` the other way; void is `void`."""

    table: npt.NDArray[np.uint16]
    back: npt.NDArray[np.uint16]
    void: int

    def write(self, layout: Layout) -> bytes:
        """A layout as PNG, of 8 bits where they hold all ids."""
        narrow = bool(self.table.max() < 256)
        return png(self.table[layout].astype(np.uint8 if narrow else np.uint16), _SMALL)

    def read(self, data: bytes, name: str) -> Layout:
        """What `write` wrote, in the bank's ids."""
        layout: Layout = self.back[decode_labels(data, name)]
        return layout


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of the output.

    Attributes:
        index, name: which; parts: role to the bytes of a PNG.
        record: what is said of it, plain values; used: what it was made from; annotations: of COCO.
        pixels: class name to how many of its pixels the label gives it.
    """

    index: int
    name: str
    parts: Mapping[str, bytes]
    record: Mapping[str, Any]
    used: tuple[Used, ...]
    annotations: tuple[Annotation, ...]
    pixels: Mapping[str, int]


class Encoder:
    """Makes files of images.

    Args:
        plan: of the run; guard: knows the sources; classes: of the bank; dataset: in whose ids labels are saved too.
        coco: make annotations.
    """

    def __init__(self, plan: Plan, guard: Guard, classes: ClassTable, dataset: DatasetEntry | None, coco: bool) -> None:
        self.plan, self.guard, self.classes, self.coco = plan, guard, classes, coco
        self.form = bank_form(classes)
        self.native = native_form(dataset) if dataset else None

    def encode(self, imagined: Imagined) -> Sample:
        """An image, encoded and checked.

        Raises:
            ZeuxisError: the label that would be saved is not the one that was painted.
        """
        ready = imagined.ready
        name = self.plan.name(ready.item.index)
        parts = {
            IMAGE: png(imagined.image, _QUICK),
            LABEL: self.form.write(ready.layout),
            INSTANCES: png(ready.instances, _SMALL),
        }
        if self.native:
            parts[NATIVE] = self.native.write(ready.layout)
        saved = self.form.read(parts[LABEL], name)
        check_label(name, imagined, saved)
        if self.native:
            check_native(name, saved, self.native.read(parts[NATIVE], name), self.native)
        check_instances(name, ready.layout, ready.instances, self.classes)
        annotations = annotations_of(ready.item.index, ready.layout, ready.instances, self.classes) if self.coco else ()
        licences = sorted({self.guard.sources[each.source].licence or UNKNOWN for each in ready.used})
        record = {"name": name, **ready.told, "group": ready.group, "licences": licences}
        ids, counts = np.unique(ready.layout, return_counts=True)
        pairs = zip(ids.tolist(), counts.tolist(), strict=True)
        pixels = {self.classes[id].name: count for id, count in pairs if id != VOID}
        return Sample(ready.item.index, name, parts, record, ready.used, annotations, pixels)


UNKNOWN = "unknown"
"""What stands for the licence of a data set that names none."""


def check_label(name: str, imagined: Imagined, saved: Layout) -> None:
    """That the label in a file is, pixel by pixel, what the network was given, at the image's size.

    Classes that the network takes as one are so here, too. What it was given is mapped back to the bank's ids.

    Raises:
        ZeuxisError: it is not.
    """
    size = imagined.image.shape[:2]
    if saved.shape != size:
        raise ZeuxisError(sentence(f"image {name}", expected=f"a label of {size}", found=f"{saved.shape}"))
    told = saved if imagined.alike is None else imagined.alike[saved]
    if zlib.crc32(np.ascontiguousarray(told, np.uint16).tobytes()) != imagined.fed:
        raise ZeuxisError(sentence(f"image {name}", "its label is not the one that was painted"))


def check_native(name: str, label: Layout, native: Layout, form: Form) -> None:
    """That a label in a data set's ids, read back, says what the label in the bank's ids does.

    Args:
        label, native: `(H, W)` both in the bank's ids; classes that the data set does not have are void in the latter.

    Raises:
        ZeuxisError: it does not.
    """
    wanted = np.where(np.isin(label, form.back), label, VOID)
    if not np.array_equal(native, wanted):
        raise ZeuxisError(sentence(f"image {name}", "its label in native ids is not the one that was painted"))


def check_instances(name: str, layout: Layout, instances: Instances, classes: ClassTable) -> None:
    """That every instance is seen: its pixels are of one class in the label, and that is a thing.

    Raises:
        ZeuxisError: something is annotated that the label does not show.
    """
    shown = instances > 0
    if instances.shape != layout.shape:
        raise ZeuxisError(
            sentence(f"image {name}", expected=f"instances of {layout.shape}", found=f"{instances.shape}")
        )
    pairs = np.unique(np.stack([instances[shown], layout[shown]]), axis=1)
    hidden = [int(id) for id in pairs[1] if int(id) not in classes or not classes[int(id)].thing]
    if hidden or len(np.unique(pairs[0])) != pairs.shape[1]:
        raise ZeuxisError(sentence(f"image {name}", "an instance is annotated where its label shows something else"))


def bank_form(classes: ClassTable) -> Form:
    """The bank's ids; void is 255 where all ids are below it, so that 8 bits hold them, else 65535."""
    table = np.full(VOID + 1, VOID, np.uint16)
    ids = [entry.id for entry in classes]
    void = 255 if max(ids, default=0) < 255 else VOID
    table[:] = void
    table[ids] = ids
    back = np.full(VOID + 1, VOID, np.uint16)
    back[ids] = ids
    return Form(table, back, void)


def native_form(dataset: DatasetEntry) -> Form:
    """The ids of a data set; classes of the bank that it does not have are void."""
    native = {entry.id for entry in dataset.decoding.classes}
    spare = (id for id in (255, VOID) if id not in native)
    void = min(dataset.decoding.void, default=next(spare, 0))
    table = np.full(VOID + 1, void, np.uint16)
    back = np.full(VOID + 1, VOID, np.uint16)
    for own, id in sorted(dataset.mapping.items(), reverse=True):  # so that the lowest of several stays
        table[id], back[own] = own, id
    return Form(table, back, void)


def png(array: npt.NDArray[Any], level: int) -> bytes:
    """A picture as PNG."""
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG", compress_level=level)
    return data.getvalue()
