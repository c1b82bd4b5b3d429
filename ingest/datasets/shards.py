"""Data sets of files that hold many sources each: which files those are, and what else is common to them."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from ...storage.decoding import Decoding
from ...storage.errors import DatasetError, SourceError, sentence
from .base import Dataset, Problem, SourceRef
from .classfile import FILE_NAMES, ClassFile, find_class_file
from .files import FileInfo, is_remote, list_files, open_root, stamp_of
from .listing import contents
from .remote import check_url

MILLIMETRE = 0.001
MAX_SHARDS = 1_000_000
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class ShardFiles(Dataset):
    """A data set in shards: the path is one of them, a folder, or a pattern such as `data/train-{000..009}.tar`.

    A pattern may have braces (`{000..009}`, `{train,val}`), which name every shard, each of which must be there, or
    `*` and `[...]`, which take what there is. Beside the shards may lie a class file (see `classfile`).
    """

    suffixes: ClassVar[tuple[str, ...]]
    """Of the shards in a folder, in lower case."""

    def __init__(self, root: str | Path, **options: str) -> None:
        folder, self.pattern = _split_pattern(str(root))
        first = next(iter(expand(self.pattern)), "") if "{" in self.pattern else ""
        super().__init__(f"{folder}/{first}" if first else folder, **options)
        if first:  # a web server knows files, but often no folders
            self.root = open_root(folder)
        self._classes = self._class_file() if self.labelled else ClassFile((), frozenset())
        self._metres = _metres(options.get("metres_per_unit"), self.kind) or self._classes.metres_per_unit

    @property
    def address(self) -> str:
        """The folder with the pattern and the options."""
        folder, mark, options = super().address.partition("?")
        return f"{folder.rstrip('/')}/{self.pattern}{mark}{options}" if self.pattern else super().address

    @cached_property
    def decoding(self) -> Decoding:
        """What the class file says; without one, ids are their own names and 255 is void. Depth in millimetres."""
        metres = self._metres or MILLIMETRE
        return Decoding(self._classes.classes, self._classes.void, self._classes.palette, metres)

    def sources(self) -> Sequence[SourceRef]:
        """Every source of every shard, by name; see `Dataset.sources`."""
        return self._listing[0]

    def ignored(self) -> Sequence[Problem]:
        """Files that are no shards, and what the shards hold that belongs to no source."""
        return self._listing[1]

    def stamp(self, ref: SourceRef) -> str:
        """Size and modification time of the shard that holds the source."""
        return stamp_of(self._place(self._shard_of(ref)))

    @property
    @abstractmethod
    def _listing(self) -> tuple[tuple[SourceRef, ...], tuple[Problem, ...]]:
        """Sources and problems, both sorted."""

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed or derived: a worker is sent a root and settings."""
        derived = {"_listing", "_open", "decoding"}
        return {key: value for key, value in self.__dict__.items() if key not in derived}

    def _shards(self, ignored: list[Problem]) -> list[FileInfo]:
        """The shards, by name; what else lies in the folder is named in `ignored`.

        Raises:
            DatasetError: there is none, or one that a pattern names is missing.
        """
        if self._is_file:
            return [FileInfo("", stamp_of(self.root), True)]
        if "{" in self.pattern:
            return self._named()
        found = []
        for file in list_files(self.root):
            name = file.path.rpartition("/")[2]
            if self.pattern and not _matches(file.path, self.pattern):
                continue
            if self.pattern or (name.lower().endswith(self.suffixes) and not name.startswith(".")):
                found.append(file)
            elif name not in FILE_NAMES and not name.upper().startswith(("LICENSE", "LICENCE", "README")):
                said = sentence(self.root / file.path, "is left out: it is no shard", fix="remove it")
                ignored.append(Problem(file.path, "not-a-shard", said))
        if not found:
            found_instead = f"nothing that {self.pattern} fits" if self.pattern else contents(self.root)
            raise self._nothing(found_instead)
        return found

    def _named(self) -> list[FileInfo]:
        names = expand(self.pattern)
        shards = [FileInfo(name, stamp_of(self.root / name), True) for name in names]
        missing = [shard.path for shard in shards if shard.stamp == "-"]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise self._nothing(f"no {', '.join(missing[:3])}{more}")
        return shards

    def _place(self, shard: str) -> Path:
        return self.root / shard if shard else self.root

    @abstractmethod
    def _shard_of(self, ref: SourceRef) -> str:
        """The shard that holds a source, relative to the root; empty where the root is the shard."""

    def _open_unchanged(self, shard: str, stamp: str) -> BinaryIO:
        """A shard, opened; it must be what it was when it was listed.

        Raises:
            SourceError: `unreadable-file`, or `changed`.
        """
        place = self._place(shard)
        now = stamp_of(place)
        if now == "-":
            raise SourceError("unreadable-file", sentence(place, "is gone", fix="put it back"))
        if stamp and now != stamp:
            said = sentence(place, "has changed since it was listed", fix="run again when nobody writes to it")
            raise SourceError("changed", said)
        return open_shard(place)

    def _unknown_unit(self, where: object) -> tuple[str, str]:
        """The fault of a depth map of numbers, where nobody says what one is worth; in a picture it is a millimetre."""
        wanted = "the unit of depth maps that are no pictures"
        said = sentence(where, expected=wanted, found="none", fix="write metres_per_unit=1 behind the path for metres")
        return "unknown-unit", said

    def _class_file(self) -> ClassFile:
        return find_class_file(self.root.parent if self._is_file else self.root)

    def _nothing(self, found: str) -> DatasetError:
        what = f"{self.kind}:{self.address}"
        return DatasetError(sentence(what, expected=self.expects, found=found, fix="check the path"))


def open_shard(place: Path) -> BinaryIO:
    """A shard, opened for reading and seeking; of a remote one only what is asked for is fetched.

    Raises:
        OSError: it cannot be opened.
    """
    if is_remote(place):
        file: BinaryIO = place.fs.open(place.path, "rb", block_size=1 << 16, cache_type="readahead")  # type: ignore[attr-defined]
        return file
    if place.exists() and not place.is_file():  # a named pipe that nobody writes would hold the run up for ever
        raise OSError(errno.EINVAL, "is no regular file", str(place))
    return place.open("rb", buffering=0)


def split_of(path: str) -> str:
    """The split that a shard's name or one of its folders says, such as `validation-00000.tar`; else `train`."""
    for part in reversed(PurePosixPath(path).parts):
        words = [word for word in re.split(r"[^a-z]+", part.lower()) if word in _SPLIT_WORDS]
        if words:
            return _SPLIT_WORDS[words[0]]
    return "train"


def split_word(word: str) -> str | None:
    """`train`, `val` or `test` for the words that data sets use for them; `None` for others."""
    return _SPLIT_WORDS.get(word.strip().lower())


def expand(pattern: str) -> list[str]:
    """The names that braces stand for: `{000..010}` counts, `{a,b}` lists.

    Raises:
        DatasetError: a brace that cannot be read, or more than `MAX_SHARDS` names.
    """
    pieces, total = [], 1
    for piece in re.split(r"(\{[^{}]*\})", pattern):
        choices = list(_choices(piece, pattern)) if piece[:1] + piece[-1:] == "{}" else [piece]
        total *= len(choices)
        if total > MAX_SHARDS:
            raise _bad_brace(pattern, f"more than {MAX_SHARDS:,} names")
        pieces.append(choices)
    names = ["".join(parts) for parts in product(*pieces)]
    if any("{" in name or "}" in name for name in names):
        raise _bad_brace(pattern, "a brace without its partner")
    return names


def _choices(brace: str, pattern: str) -> Iterator[str]:
    numbers = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", brace)
    if numbers is None:
        if "," not in brace:
            raise _bad_brace(pattern, brace)
        yield from brace[1:-1].split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise _bad_brace(pattern, brace)
    for number in range(first, last + 1):
        yield f"{number:0{len(numbers[1])}d}"


def _bad_brace(pattern: str, found: str) -> DatasetError:
    return DatasetError(sentence(pattern, expected="braces such as {000..009} or {train,val}", found=found))


def _split_pattern(root: str) -> tuple[str, str]:
    """The folder in front of the first name with a `*`, `[` or `{`, and the rest."""
    check_url(root)
    magic = re.search(r"[*\[{]", root)
    if magic is None or os.path.exists(os.path.expanduser(root)):
        return root, ""
    cut = root.rfind("/", 0, magic.start())
    return root[:cut] or "/" if cut >= 0 else ".", root[cut + 1 :]


def _matches(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _metres(value: str | None, kind: str) -> float | None:
    if value is None:
        return None
    try:
        metres = float(value)
    except ValueError:
        metres = 0.0
    if not 0 < metres < 1e6:
        raise DatasetError(sentence(f"{kind}: metres_per_unit", expected="a number above 0", found=repr(value)))
    return metres
