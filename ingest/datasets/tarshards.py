"""Tar shards in WebDataset style: members that share a name up to its first dot are one source."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

from ...storage.errors import SourceError, sentence
from .base import Dataset, EncodedSource, Problem, SourceRef
from .files import FileInfo
from .listing import DEPTHS, PICTURES
from .shards import ShardFiles, open_shard, split_of, split_word
from .tarindex import Damage, Member, index_tar

FORMATS = {
    "image": frozenset(suffix[1:] for suffix in PICTURES),
    "layout": frozenset(suffix[1:] for suffix in PICTURES - {".jpg", ".jpeg"}),
    "depth": frozenset(suffix[1:] for suffix in DEPTHS),
    "instances": frozenset(suffix[1:] for suffix in PICTURES - {".jpg", ".jpeg"}),
}
QUALIFIERS = {
    "image": ("", "image", "img", "rgb", "photo"),
    "layout": ("seg", "label", "labels", "lbl", "mask", "segmentation", "semantic", "annotation", "target"),
    "depth": ("depth", "depths"),
    "instances": ("inst", "instance", "instances"),
}
"""What stands between a source's name and the format: `000123.jpg`, `000123.seg.png`, `000123.depth.npy`."""
BARE = {"layout": "seg", "depth": "depth", "instances": "inst"}
"""Suffixes that stand alone, without a format: `000123.seg`."""
METADATA = frozenset(
    {"cls", "cls2", "class", "id", "index", "key", "url", "txt", "text", "caption", "captions", "transcript"}
    | {"md5", "sha256", "score", "time", "bbox.json"}
)
"""Members that say something of a source and are not read; of `json`, only the keys `split` and `group` are."""
PICKLED = frozenset(["pyd", "pkl", "pickle", "pth", "pt", "ten", "tb", "npz", "joblib", "dill", "ckpt"])
"""Members that could run code, or hide a bomb, when loaded: never opened."""
MAX_JSON = 1 << 20

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstandard"}
_ROLES = ("image", "layout", "depth", "instances")


@dataclass(frozen=True, slots=True)
class TarRef(SourceRef):
    """A source in a shard: `spans` are offset and size of image, layout, depth and instance map in it, bytes."""

    spans: tuple[tuple[int, int] | None, ...] = ()
    shard: str = ""


class TarShards(ShardFiles):
    """Tar shards with label maps: `000123.jpg`, `000123.seg.png` and, if there are any, `000123.depth.png`.

    A source is named by its shard (where there is more than the one given) and its members' common name. Members that
    belong to no source, or could not be opened safely, are never extracted nor loaded: names are keys, never paths.
    Splits come from the `json` member's key `split`, else from the shard's name; groups from its key `group`.
    """

    kind = "tar"
    expects = "tar files (not compressed) with members such as 000123.jpg and 000123.seg.png"
    suffixes = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
    knows: ClassVar[Mapping[str, str]] = {
        "image": "suffixes of the photographs, with commas between them, such as image=jpg,jpeg",
        "labels": "suffixes of the label maps, such as labels=png; labels=none for photographs alone",
        "depth": "suffixes of the depth maps",
        "instances": "suffixes of the instance maps",
        "metres_per_unit": "of the depth maps",
    }

    @cached_property
    def _listing(self) -> tuple[tuple[SourceRef, ...], tuple[Problem, ...]]:
        ignored: list[Problem] = []
        refs: dict[str, SourceRef] = {}
        for shard in self._shards(ignored):
            for ref in self._sources_of(shard, ignored):
                name = ref.name
                while name in refs:  # a reject whose name is that of a source
                    name += "'"
                refs[name] = ref if name == ref.name else replace(ref, name=name)
        self._refuse_empty(refs.values())
        return tuple(refs[name] for name in sorted(refs)), tuple(sorted(ignored, key=lambda problem: problem.file))

    def read(self, ref: SourceRef) -> EncodedSource:
        """The bytes of one source, from where the listing found them.

        Raises:
            SourceError: the fault that `ref` carries, `unreadable-file`, or `changed` since it was listed.
        """
        if ref.fault is not None:
            raise SourceError(*ref.fault)
        assert isinstance(ref, TarRef)
        try:
            with self._open_unchanged(ref.shard, ref.stamp) as file:
                image, *rest = (span and _exactly(file, *span) for span in ref.spans)
        except OSError as error:
            said = sentence(self._place(ref.shard), f"cannot be read ({error})", fix="check the file")
            raise SourceError("unreadable-file", said) from error
        return EncodedSource(image or b"", *rest)

    def _shard_of(self, ref: SourceRef) -> str:
        return ref.shard if isinstance(ref, TarRef) else ""

    def _sources_of(self, shard: FileInfo, ignored: list[Problem]) -> Iterable[SourceRef]:
        place = self._place(shard.path)
        prefix = f"{shard.path.removesuffix('.tar')}/" if shard.path else ""
        maker = _Maker(self, shard, prefix, split_of(shard.path or self.root.name))
        try:
            with open_shard(place) as file:
                size = file.seek(0, 2)
                file.seek(0)
                if wrong := _COMPRESSED.get(file.read(2)):
                    said = "a tar file that is not compressed: members of others cannot be found without unpacking all"
                    fix = f"unpack it ({wrong})"
                    return [maker.reject("", "compressed-shard", sentence(place, expected=said, fix=fix))]
                members, damage = index_tar(file, size)
                groups, strays = self._grouped(members)
                ignored += [maker.problem(*stray) for stray in strays.items()]
                refs = [maker.source(key, group, file) for key, group in groups.items()]
        except OSError as error:
            said = sentence(place, f"cannot be read ({error})", fix="check the file")
            return [maker.reject("", "unreadable-file", said)]
        refs += [maker.unusable(member) for member in members if member.fault]
        return refs + ([maker.damaged(damage)] if damage else [])

    def _grouped(self, members: Sequence[Member]) -> tuple[dict[str, _Group], Counter[tuple[str, str]]]:
        """Members by source and role, and how many of each suffix belong to none, with the reason."""
        groups: dict[str, _Group] = {}
        strays: Counter[tuple[str, str]] = Counter()
        chosen = frozenset(self._chosen)
        for member in members:
            if member.fault:
                continue
            folder, slash, last = member.name.rpartition("/")
            stem, _, suffix = last.partition(".")
            role = self._roles.get(suffix.lower()) or _role(suffix.lower(), chosen)
            if not stem:
                strays["hidden-file", ""] += 1
            elif role in _ROLES or role == "json":
                groups.setdefault(folder + slash + stem, {}).setdefault(role, []).append(member)
            elif role:
                strays[role, suffix.lower()] += 1
        return {key: group for key, group in groups.items() if set(group) - {"json"}}, strays

    @cached_property
    def _chosen(self) -> dict[str, str]:
        """Role to suffixes, where options say so."""
        options = {"image": "image", "labels": "layout", "depth": "depth", "instances": "instances"}
        return {role: self.options[option] for option, role in options.items() if option in self.options}

    @cached_property
    def _roles(self) -> Mapping[str, str]:
        return {
            suffix.strip().lstrip(".").lower(): role
            for role, suffixes in self._chosen.items()
            for suffix in suffixes.split(",")
            if (role, suffixes) != ("layout", "none")
        }

    def _refuse_empty(self, refs: Iterable[SourceRef]) -> None:
        """Refuses what holds no photograph, or no label map at all."""
        usable = [ref for ref in refs if ref.image]
        if not usable:
            faults = [ref.fault[1] for ref in refs if ref.fault]
            raise self._nothing(faults[0].rstrip(".") if faults else "no photograph in them")
        if self.labelled and not any(ref.layout for ref in usable):
            found = f"no label map beside {usable[0].image}: labels=SUFFIX names them, labels=none does without"
            raise self._nothing(found)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is derived from the options."""
        return {key: value for key, value in super().__getstate__().items() if key not in {"_chosen", "_roles"}}


class TarImages(TarShards):
    """Tar shards of photographs alone (`labels=none`): key patches, no segments."""

    labelled = False
    expects = "tar files (not compressed) with members such as 000123.jpg"


def open_tar(root: str | Path, **options: str) -> Dataset:
    """Tar shards; with `labels=none` their photographs alone.

    Raises:
        DatasetError: there is no such path or option.
    """
    return (TarImages if options.get("labels") == "none" else TarShards)(root, **options)


_Group = dict[str, list[Member]]


class _Maker(NamedTuple):
    """Makes the sources of one shard."""

    dataset: TarShards
    shard: FileInfo
    prefix: str
    split: str

    def source(self, key: str, group: _Group, file: BinaryIO) -> TarRef:
        """One source from the members that share a name."""
        first: dict[str, Member] = {role: members[0] for role, members in group.items()}
        fault = self._fault(key, group)
        placed: Mapping[str, Any] = {}
        if fault is None and "json" in first:
            try:
                placed = _placing(file, first["json"])
            except ValueError as error:
                said = sentence(self._member(first["json"].name), f"cannot be read ({error})", fix="write it again")
                fault = "unreadable-metadata", said
        name = self.prefix + key
        paths = [f"{self.shard.path}/{first[role].name}".lstrip("/") if role in first else None for role in _ROLES]
        spans = tuple((first[role].offset, first[role].size) if role in first else None for role in _ROLES)
        image, layout, depth, instances = paths
        split, of = placed.get("split") or self.split, str(placed.get("group") or name)
        return TarRef(
            name, split, of, image, layout, depth, fault, instances, self.shard.stamp, spans, self.shard.path
        )  # fmt: skip

    def unusable(self, member: Member) -> TarRef:
        """The reject of a member that is never opened."""
        reason, what = member.fault or ("", "")
        said = sentence(
            self._member(member.name),
            expected="a plain file whose name is printable UTF-8 and stays within the archive",
            found=what,
            fix="pack it again without it",
        )
        return self.reject(f"{member.name}@{member.offset}", reason, said)

    def damaged(self, damage: Damage) -> TarRef:
        """The reject that stands for all that lies behind the damage."""
        place = self.dataset._place(self.shard.path)
        said = sentence(place, f"ends as a tar file at byte {damage.offset:,} ({damage.what})", fix="fetch it again")
        return self.reject(f"@{damage.offset}", "damaged-shard", said)

    def reject(self, name: str, reason: str, said: str) -> TarRef:
        """A row for something that holds no source."""
        name = (self.prefix + name if name else self.shard.path) or self.dataset.root.name
        return TarRef(
            name, self.split, name, None, None, None, (reason, said), None, self.shard.stamp, (), self.shard.path
        )

    def problem(self, stray: tuple[str, str], count: int) -> Problem:
        """Members of one suffix that are left out."""
        reason, suffix = stray
        place = self.dataset._place(self.shard.path)
        why, fix = {
            "pickled-member": ("could run code when loaded", "pack them as plain pictures"),
            "hidden-file": ("have nothing in front of the dot", "rename them"),
        }.get(reason, ("belong to no source", "name their suffix by an option"))
        said = sentence(place, f"{count:,} members .{suffix} are left out: they {why}", fix=fix)
        return Problem(self.shard.path or self.dataset.root.name, reason, said)

    def _fault(self, key: str, group: _Group) -> tuple[str, str] | None:
        for role in _ROLES:
            if len(same := group.get(role, ())) > 1:
                found = " and ".join(member.name for member in same)
                fix = f"pack it again with one, or name its suffix: {'labels' if role == 'layout' else role}=SUFFIX"
                return "duplicate-name", sentence(self._member(key), expected=f"one {role}", found=found, fix=fix)
        if "depth" in group and not self.dataset._metres and f".{_format(group['depth'][0].name)}" not in PICTURES:
            return self.dataset._unknown_unit(self._member(group["depth"][0].name))
        missing = "image" if "image" not in group else "layout" if "layout" not in group else ""
        if not missing or (missing == "layout" and not self.dataset.labelled):
            return None
        what, reason = ("an image", "missing-image") if missing == "image" else ("a label map", "missing-label")
        found = ", ".join(member.name for members in group.values() for member in members)
        return reason, sentence(self._member(key), expected=f"{what} of this name", found=found, fix="add it")

    def _member(self, name: str) -> str:
        place = self.dataset._place(self.shard.path)
        return f"{place}/{name}" if name else str(place)  # a member of an absolute name is still one of this shard


@lru_cache(1000)
def _role(suffix: str, chosen: frozenset[str]) -> str:
    """What a member of this suffix is: a role, `json`, a reason to leave it out, or nothing to be said of."""
    if suffix == "json":
        return "json"
    if suffix in METADATA:
        return ""
    if suffix.rpartition(".")[2] in PICKLED:
        return "pickled-member"
    qualifier, _, format = suffix.rpartition(".")
    for role in _ROLES:
        if role in chosen:
            continue
        if qualifier in QUALIFIERS[role] and format in FORMATS[role]:
            return role
        if suffix == BARE.get(role):
            return role
    return "unknown-member"


def _format(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _placing(file: BinaryIO, member: Member) -> Mapping[str, Any]:
    """`split` and `group` of a `json` member.

    Raises:
        ValueError: it is no JSON object, or gives a split that is none.
    """
    if member.size > MAX_JSON:
        raise ValueError(f"{member.size:,} bytes of JSON")
    try:
        content = json.loads(_exactly(file, member.offset, member.size))
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error
    if not isinstance(content, dict):
        return {}
    split, group = content.get("split"), content.get("group")
    word = split_word(split) if isinstance(split, str) else None
    if split is not None and word is None:
        raise ValueError(f"the split {split!r}")
    return {"split": word, "group": group if isinstance(group, str | int) and group != "" else None}


def _exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    """A span of a file, all of it.

    Raises:
        OSError: the file is shorter.
    """
    file.seek(offset)
    parts, missing = [], size
    while missing and (part := file.read(min(missing, 1 << 24))):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise OSError(f"{missing:,} bytes are missing")
    return b"".join(parts)
