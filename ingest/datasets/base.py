"""What a data set is: it lists its sources, reads their bytes, and decodes them, all the same way."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...storage.classes import VOID, Layout
from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from ...storage.images import Depth, Photograph, decode_labels, decode_photograph, depth_size, picture_size
from .files import open_root, stamp_of


@dataclass(frozen=True, slots=True)
class SourceRef:
    """One source of a data set before it is read; listing a data set opens no picture.

    Attributes:
        name: unique in the data set, readable, without suffix, such as `train/0001TP_006690`.
        split: `train`, `val` or `test`.
        group: sources that look alike share one (a video sequence, a room).
        image, layout, depth: paths relative to the data set's root; `None` where there is none. A missing image or
            layout is a reject, a missing depth is not.
        fault: `(reason, sentence)` where the listing already shows that the source cannot be used, such as two images
            of one name; reading it raises that.
        instances: path of the instance map, where there is one.
        stamp: sizes and modification times of the files as they were listed; empty where the listing did not see them.
    """

    name: str
    split: str
    group: str
    image: str | None
    layout: str | None
    depth: str | None = None
    fault: tuple[str, str] | None = None
    instances: str | None = None
    stamp: str = ""

    @property
    def files(self) -> list[str]:
        """Its files, relative to the root."""
        return [path for path in (self.image, self.layout, self.depth, self.instances) if path]


@dataclass(frozen=True)
class Problem:
    """Something a data set holds that cannot be used, or is left out.

    Attributes:
        file: the file relative to the root, or the name of the source.
        reason: one word, as in rejects.parquet.
        sentence: the whole story for the user.
    """

    file: str
    reason: str
    sentence: str


@dataclass(frozen=True)
class EncodedSource:
    """The bytes of one source as they came; no layout where the data set has no labels."""

    image: bytes
    layout: bytes | None
    depth: bytes | None = None
    instances: bytes | None = None

    @cached_property
    def source_id(self) -> str:
        """32 hex digits of blake2b over image, layout, depth and instance bytes, each preceded by its length."""
        digest = hashlib.blake2b(digest_size=16)
        last = () if self.instances is None else (self.instances,)
        for data in (self.image, self.layout or b"", self.depth or b"", *last):
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """One decoded source.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        layout: `(H, W)` uint16 native class ids, `VOID` where the data set says nothing.
        depth: `(H, W)` float32 metres, 0 where unknown, or `None`.
        split, group: as in `SourceRef`.
        instances: `(H, W)` int32, one number an object of its class, 0 where there is none; or `None`.
    """

    image: Photograph
    layout: Layout
    depth: Depth | None
    split: str
    group: str
    instances: npt.NDArray[np.int32] | None = None


class Dataset(ABC):
    """A data set: a kind, a root and options. Cheap to make and to send to a worker.

    The root is a path on disk, or a `upath.UPath` with the same methods for what fsspec reaches.
    """

    kind: ClassVar[str]
    expects: ClassVar[str]
    """One line: which files the root must hold."""
    licence: str | None = None
    neighbours: ClassVar[bool] = False
    """Groups are numbered in the order they were taken, and neighbouring ones may look alike."""
    labelled: ClassVar[bool] = True
    """Sources have label maps; where not, they give key patches and no segments."""
    knows: ClassVar[Mapping[str, str]] = {}
    """Its options, as in `kind:path?option=value`, and what each means."""

    def __init__(self, root: str | Path, **options: str) -> None:
        self.root = open_root(root)
        if strange := sorted(set(options) - set(self.knows)):
            known = ", ".join(self.knows) or "no option"
            raise DatasetError(sentence(f"{self.kind}:{root}", expected=known, found=", ".join(strange)))
        self.options = options
        if not self.root.exists():
            raise DatasetError(
                sentence(
                    f"{self.kind}:{self.root}",
                    expected=self.expects,
                    found="no such file or folder",
                    fix="check the path",
                )
            )

    @property
    def address(self) -> str:
        """The root with the options: what tells two data sets of a kind apart."""
        options = "&".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return str(self.root) + f"?{options}" * bool(options)

    @property
    def spec(self) -> str:
        """`kind:address`, which `open_dataset` takes."""
        return f"{self.kind}:{self.address}"

    @property
    @abstractmethod
    def decoding(self) -> Decoding:
        """Classes, void, palette and depth unit."""

    @abstractmethod
    def sources(self) -> Sequence[SourceRef]:
        """Every source, sorted by name, those with a missing partner included.

        Raises:
            DatasetError: the root does not hold what `expects` says, or holds no source at all.
        """

    def ignored(self) -> Sequence[Problem]:
        """Files that lie among the sources and belong to none: hidden files, texts, stray depth maps."""
        return ()

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source.

        Raises:
            SourceError: `missing-image`, `missing-label`, `unreadable-file`, or the fault that `ref` carries.
        """
        if error := self.fault_of(ref):
            raise error
        rest = [self._bytes(path) if path else None for path in (ref.layout, ref.depth, ref.instances)]
        return EncodedSource(self._bytes(str(ref.image)), *rest)

    def fault_of(self, ref: SourceRef) -> SourceError | None:
        """What the listing alone shows to be wrong with a source: `missing-image`, `missing-label` or its `fault`."""
        if ref.fault is not None:
            return SourceError(*ref.fault)
        if ref.image is None:
            said = sentence(
                self.root / str(ref.layout), expected="an image of the same name", found="none",
                fix="add the image or remove the label map",
            )  # fmt: skip
            return SourceError("missing-image", said)
        if ref.layout is None and self.labelled:
            said = sentence(
                self.root / ref.image, expected="a label map of the same name", found="none",
                fix="add the label map or remove the image",
            )  # fmt: skip
            return SourceError("missing-label", said)
        return None

    def stamp(self, ref: SourceRef) -> str:
        """Sizes and modification times of a source's files as they are now: equal stamps, unchanged files."""
        return " ".join(
            stamp_of(path) for path in ([self.root] if self._is_file else [self.root / p for p in ref.files])
        )

    @cached_property
    def _is_file(self) -> bool:
        return self.root.is_file()

    def decode(self, ref: SourceRef, encoded: EncodedSource) -> Source:
        """Image, layout and depth of one source, checked against each other.

        Raises:
            SourceError: `unreadable-*`, `size-mismatch`, `unknown-id`, `unknown-colour`, `rgb-without-palette` or
                `all-void`.
        """
        image = decode_photograph(encoded.image, self.root / str(ref.image))
        size = image.shape[0], image.shape[1]
        layout = self._checked_layout(ref, encoded.layout, size)
        depth = None
        if encoded.depth is not None:
            depth = self.decoding.depth(encoded.depth, self.root / str(ref.depth))
            self._check_size("depth map", ref.depth, depth.shape, size)
        instances = None
        if encoded.instances is not None:
            instances = self._instance_map(ref, encoded.instances)
            self._check_size("instance map", ref.instances, instances.shape, size)
        return Source(image, layout, depth, ref.split, ref.group, instances)

    def survey(self, ref: SourceRef) -> Layout:
        """The layout of one source, its photograph and depth map known by their headers alone: quick, less strict.

        Raises:
            SourceError: as `read` and `decode`, but a photograph whose header is whole passes.
        """
        encoded = self.read(ref)
        size = picture_size(encoded.image, self.root / str(ref.image))
        layout = self._checked_layout(ref, encoded.layout, size)
        if encoded.depth is not None:
            self._check_size("depth map", ref.depth, depth_size(encoded.depth, self.root / str(ref.depth)), size)
        return layout

    def _instance_map(self, ref: SourceRef, data: bytes) -> npt.NDArray[np.int32]:
        """One number an object, 0 where there is none."""
        return decode_labels(data, self.root / str(ref.instances)).astype(np.int32)

    def _checked_layout(
        self, ref: SourceRef, labels: bytes | npt.NDArray[np.integer] | None, size: tuple[int, int]
    ) -> Layout:
        """The layout, of the photograph's size and not all void; all void where the data set has no labels."""
        if labels is None:
            return np.full(size, VOID, np.uint16)
        layout = self.decoding.layout(labels, self.root / str(ref.layout))
        self._check_size("label map", ref.layout, layout.shape, size)
        if layout.min(initial=VOID) == VOID:
            raise SourceError(
                "all-void",
                sentence(
                    self.root / str(ref.layout),
                    expected="at least one pixel of a class",
                    found="only void",
                    fix="label it or remove it",
                ),
            )
        return layout

    def _bytes(self, relative: str) -> bytes:
        try:
            return (self.root / relative).read_bytes()
        except OSError as error:
            raise SourceError(
                "unreadable-file",
                sentence(
                    self.root / relative,
                    f"cannot be read ({error.strerror})",
                    fix="check the file and its permissions",
                ),
            ) from error

    def _check_size(self, what: str, relative: str | None, found: tuple[int, ...], image: tuple[int, ...]) -> None:
        if tuple(found) != tuple(image):
            raise SourceError(
                "size-mismatch",
                sentence(
                    self.root / str(relative),
                    expected=f"a {what} of the image's size {image[0]}x{image[1]}",
                    found=f"{found[0]}x{found[1]}",
                    fix="make the two the same size",
                ),
            )


def group_name(dataset: str, group: str) -> str:
    """A group's name in a bank: `dataset/group`, so that groups of two data sets never meet."""
    return f"{dataset}/{group}"
