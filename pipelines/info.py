"""`zeuxis info` and `zeuxis verify`: what a bank holds, and whether all of it is still there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..storage.classes import SemanticClass
from ..storage.manifest import generations, open_generation
from ..storage.manifest import verify as find_damage
from ..storage.reader import Reader
from ..storage.shard import APPEARANCE, BLOBS, FOOTPRINTS
from .progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, repr=False)
class BankInfo:
    """What a bank holds.

    Attributes:
        bank: where; generation: the current one; generations: all that are there.
        made: time and versions of the current one; content: its content hash.
        frame: `(rows, cols)`; settings: how it was extracted.
        datasets: name to (kind:root, sources, sources by split).
        sources, segments, small, orderings, patches, rejects: how many; small: components too small to store; ordered:
            touching pairs of which it is known who is in front.
        classes: the classes that occur in the bank or, if their list is short, all; class_segments: by class id.
        sizes: `(height, width)` of the sources to their number.
        bytes: kind of file to bytes on disk, shards of the current generation.
    """

    bank: Path
    generation: int
    generations: Sequence[int]
    made: Mapping[str, str]
    content: str
    frame: tuple[int, int]
    settings: Mapping[str, Any]
    datasets: Mapping[str, tuple[str, int, Mapping[str, int]]]
    sources: int
    segments: int
    small: int
    orderings: int
    ordered: int
    patches: int
    rejects: Mapping[str, int]
    classes: Sequence[SemanticClass]
    class_segments: Mapping[int, int]
    sizes: Mapping[tuple[int, int], int]
    bytes: Mapping[str, int]

    def __repr__(self) -> str:
        return f"BankInfo({self.bank}, generation {self.generation}, {self.sources} sources, {self.segments} segments)"

    def to_frame(self) -> pd.DataFrame:
        """The class table: id, name, colour, thing, thin, segments."""
        return pd.DataFrame(
            {
                "id": entry.id,
                "name": entry.name,
                "colour": "#{:02x}{:02x}{:02x}".format(*entry.colour),
                "thing": entry.thing,
                "thin": entry.thin,
                "segments": self.class_segments.get(entry.id, 0),
            }
            for entry in self.classes
        )

    def render(self) -> Group:
        """The numbers for a terminal, as a rich renderable."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        sizes = sorted(self.sizes.items(), key=lambda item: -item[1])
        lines = [
            f"{self.bank}: generation {self.generation}, {len(self.generations)} kept"
            + f", made {self.made.get('time', '?')}"
            + (f", {self.made['note']}" if "note" in self.made else ""),
            f"content {self.content}",
            f"frame {self.frame[0]}x{self.frame[1]}, components of at least "
            f"{self.settings['geometry']['min_area']} frame pixels",
            *(
                f"data set {name}: {n:,} sources ({', '.join(f'{s} {c:,}' for s, c in splits.items())}), {where}"
                for name, (where, n, splits) in self.datasets.items()
            ),
            "source sizes (height x width): "
            + ", ".join(f"{h}x{w} ({n:,})" for (h, w), n in sizes[:6])
            + f" and {len(sizes) - 6} more" * (len(sizes) > 6),
            f"{self.segments:,} segments from {self.sources:,} sources; {self.small:,} components were too small",
            f"{self.orderings:,} touching pairs, {self.ordered:,} of them ordered; {self.patches:,} key patches",
            "rejects: " + (", ".join(f"{reason} {n:,}" for reason, n in self.rejects.items()) or "none"),
            "on disk: " + ", ".join(f"{kind} {n / 1e6:,.1f} MB" for kind, n in self.bytes.items()),
        ]
        table = Table("id", "", "colour", "class", "kind", "segments", box=None, pad_edge=False)
        for entry in self.classes:
            kind = ("thing" if entry.thing else "stuff") + (", thin" if entry.thin else "")
            colour = "#{:02x}{:02x}{:02x}".format(*entry.colour)
            count = f"{self.class_segments.get(entry.id, 0):,}"
            table.add_row(str(entry.id), Text("██", style=colour), colour, entry.name, kind, count)
        return Group(*map(Text, lines), table)


@dataclass(frozen=True)
class VerifyReport:
    """What is wrong with a bank: one sentence a damage, none for a sound one."""

    bank: Path
    generation: int
    files: int
    damage: Sequence[str]


def info(bank: str | Path) -> BankInfo:
    """What the current generation of a bank holds.

    Raises:
        BankError: it cannot be used.
    """
    reader = Reader(bank)
    manifest = reader.manifest
    sources = reader.table("sources").to_pandas()
    segments = reader.table("segments", columns=["class_id"])["class_id"].to_numpy()
    fronts = reader.table("orderings", columns=["front"])["front"]
    counts = np.bincount(segments, minlength=1)
    held = {int(id): int(counts[id]) for id in np.flatnonzero(counts)}
    classes = [entry for entry in manifest.classes if entry.id in held or len(manifest.classes) <= 64]
    rejects = reader.table("rejects", columns=["reason"])["reason"].to_pandas().value_counts()
    return BankInfo(
        bank=reader.path,
        generation=manifest.generation,
        generations=generations(reader.path),
        made=manifest.made,
        content=manifest.content,
        frame=manifest.geometry.frame,
        settings=manifest.settings,
        datasets={e.name: (f"{e.kind}:{e.root}", *_of_dataset(sources, e.name)) for e in manifest.datasets},
        sources=len(sources),
        segments=len(segments),
        small=int(sources["small"].sum()),
        orderings=len(fronts),
        ordered=len(fronts) - fronts.null_count,
        patches=reader.table("patches", columns=["rank"]).num_rows,
        rejects={str(reason): int(n) for reason, n in rejects.items() if n},
        classes=classes,
        class_segments=held,
        sizes={(int(h), int(w)): int(n) for (h, w), n in sources.groupby(["height", "width"]).size().items()},
        bytes=bytes_by_kind(reader),
    )


def verify(bank: str | Path, *, deep: bool = False, progress: Progress = silent) -> VerifyReport:
    """Compares every file of the current generation with the size and hash that were published.

    Args:
        bank: its folder.
        deep: also decode every value inside the blobs, and check that rows, values and index belong together.
        progress: told how many files are done.

    Raises:
        BankError: the manifest itself cannot be used.
    """
    path = Path(os.path.expanduser(bank))
    manifest, _held = open_generation(path)
    damage = list(find_damage(path, manifest, deep=deep, progress=progress))
    return VerifyReport(path, manifest.generation, sum(map(len, manifest.pieces(path).values())), damage)


def bytes_by_kind(reader: Reader) -> dict[str, int]:
    """Bytes of the generation on disk by kind; blobs are the sources' files and the crops."""
    kinds = {"blobs": 0, "search columns": 0, "appearance": 0, "index": 0, "tables": 0}
    for shard in reader.shards:
        for name, entry in shard.entry.files.items():
            kind = {BLOBS: "blobs", FOOTPRINTS: "search columns", APPEARANCE: "appearance"}.get(name, "tables")
            kinds[kind] += entry.size
    if reader.manifest.stamps:
        kinds["tables"] += reader.manifest.stamps.file.size
    kinds["index"] = sum(entry.size for part in reader.parts for entry in part.entry.files.values())
    return kinds


def _of_dataset(sources: pd.DataFrame, name: str) -> tuple[int, dict[str, int]]:
    splits = sources.loc[sources["dataset"] == name, "split"].astype(str).value_counts().sort_index()
    return int(splits.sum()), {str(split): int(n) for split, n in splits.items()}
