"""Data sets as published archives unpack: what a file is, and which source it belongs to, stands in its name."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ...storage.errors import DatasetError, sentence
from .base import Dataset, Problem, SourceRef
from .files import FileInfo, list_files
from .listing import contents, printable, unreadable_name

SPARE = "spare"
"""The role of a file that the archive holds and nothing here reads, such as a preview or a list of polygons."""


class Part(NamedTuple):
    """What a file is.

    Attributes:
        role: `image`, `layout`, `depth`, `instances`, whatever else a data set tells apart, or `SPARE`.
        name: of the source; of a spare file, the pattern that says which kind it is, such as `gtFine/*_color.png`.
    """

    role: str
    name: str


Files = dict[str, FileInfo]
"""The files of one source by role."""


class NamedFiles(Dataset):
    """A data set whose files tell by their names what they are.

    Spare files, and sources that are left out as a group, make one line each kind in `ignored()`: an archive holds as
    many previews as images. A file that fits no rule has its own line.
    """

    def sources(self) -> Sequence[SourceRef]:
        """Every source by name; see `Dataset.sources`."""
        return self._listing[0]

    def ignored(self) -> Sequence[Problem]:
        """Hidden and unexpected files one by one; spare files and groups of sources that are left out by their kind."""
        return self._listing[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is listed or derived: a worker is sent a root and settings, not a million names."""
        return {key: value for key, value in self.__dict__.items() if key not in {"_listing", "decoding"}}

    @abstractmethod
    def _folders(self) -> Sequence[str]:
        """The folders to list, relative to the root.

        Raises:
            DatasetError: the root does not hold them.
        """

    @abstractmethod
    def _part(self, path: str) -> Part | None:
        """What a file is by its path relative to the root; `None` where it fits no rule."""

    @abstractmethod
    def _split_and_group(self, name: str) -> tuple[str, str]:
        """Where a source belongs."""

    def _chosen(self, files: Files) -> Files:
        """The files of one source as `image`, `layout`, `depth` and `instances`; any other role adds to the stamp."""
        return files

    def _left_out(self, found: Mapping[str, Files]) -> Mapping[str, str]:
        """Names of sources that are no use to anybody, and why; equal reasons share a line."""
        return {}

    def _notes(self, found: Mapping[str, Files]) -> Iterable[Problem]:
        """More lines for `ignored()`, from all files by source and role."""
        return ()

    @cached_property
    def _listing(self) -> tuple[tuple[SourceRef, ...], tuple[Problem, ...]]:
        found, twins, ignored = self._sorted_files()
        ignored += self._notes(found)
        chosen = {name: self._chosen(files) for name, files in found.items()}
        why = dict(self._left_out(chosen))
        why.update((name, _LONELY) for name, files in chosen.items() if not {"image", "layout"} & set(files))
        for reason, count in Counter(why.values()).items():
            first = next(name for name in why if why[name] == reason)
            said = f"{count:,} {'source is' if count == 1 else 'sources are'} left out: {reason}"
            ignored.append(Problem(first, "left-out", sentence(self.root, said, found=f"the first is {first}")))
        refs = tuple(self._ref(name, chosen[name], twins.get(name, ())) for name in sorted(found) if name not in why)
        if not refs:
            raise self._refusal(self._emptiness(why))
        return refs, tuple(sorted(ignored, key=lambda problem: problem.file))

    def _sorted_files(self) -> tuple[dict[str, Files], dict[str, list[FileInfo]], list[Problem]]:
        """Files by source and role, the second files of a role by source, and what is left out by the file."""
        found: dict[str, Files] = {}
        twins: dict[str, list[FileInfo]] = {}
        spare: Counter[str] = Counter()
        ignored: list[Problem] = []
        for file in (file for folder in self._folders() for file in list_files(self.root, folder)):
            part = self._part(file.path)
            if reason := _why_ignored(file, part):
                path = printable(file.path)
                ignored.append(Problem(path, reason, sentence(self.root / path, f"is left out ({reason})")))
            elif part is None or part.role == SPARE:
                spare[part.name if part else ""] += 1
            elif found.setdefault(part.name, {}).setdefault(part.role, file) is not file:
                twins.setdefault(part.name, []).append(file)
        for pattern, count in spare.items():
            said = f"{count:,} {'file' if count == 1 else 'files'} of this kind are not needed"
            ignored.append(Problem(pattern, "not-needed", sentence(self.root / pattern, said)))
        return found, twins, ignored

    def _ref(self, name: str, files: Files, twins: Iterable[FileInfo]) -> SourceRef:
        if (unreadable := unreadable_name(self.root, name)) is not None:
            return unreadable
        image, layout, depth, instances = (files[role].path if role in files else None for role in _ROLES)
        fault = None
        if same := [PurePosixPath(file.path).name for file in twins]:
            said = sentence(
                self.root / name, expected="one file of a kind", found=f"also {', '.join(same)}",
                fix="keep one of them or rename the others",
            )  # fmt: skip
            fault = "duplicate-name", said
        known = [files[role] for role in _ROLES if role in files]
        stamp = " ".join(file.stamp for file in [*known, *(files[role] for role in files if role not in _ROLES)])
        return SourceRef(name, *self._split_and_group(name), image, layout, depth, fault, instances, stamp)

    def _missing(self, *folders: str) -> None:
        """Refuses a root without one of these folders and says which."""
        if missing := [folder for folder in folders if not (self.root / folder).is_dir()]:
            raise self._refusal(f"no {' and no '.join(f'{folder}/' for folder in missing)} in {contents(self.root)}")

    def _emptiness(self, why: Mapping[str, str]) -> str:
        folders = " and ".join(f"{folder}/" if folder else "it" for folder in self._folders())
        return f"no source to use in {folders}" + "".join(f", {reason}" for reason in sorted(set(why.values())))

    def _refusal(self, found: str) -> DatasetError:
        fix = "check the path and unpack the archives there"
        return DatasetError(sentence(f"{self.kind}:{self.root}", expected=self.expects, found=found, fix=fix))


_ROLES = ("image", "layout", "depth", "instances")
_LONELY = "there is neither image nor label map"


def _why_ignored(file: FileInfo, part: Part | None) -> str:
    if file.path.rpartition("/")[2].startswith("."):
        return "hidden-file"
    if part is None:
        return "unexpected-file"
    return "" if file.regular or part.role == SPARE else "not-a-file"
