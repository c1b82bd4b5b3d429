"""What a rebuild's report shows of a bank: a few shards are read, whatever the bank's size, and the manifests."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from ..index.figure import cut_out
from ..storage.errors import SourceError
from ..storage.images import FORMATS, Photograph, decode_photograph
from ..storage.reader import Reader
from ..storage.shard import Shard
from .report_parts import Html, draw_orderings, draw_patches
from .report_pictures import Picture, source_colours

MEASURED_SEGMENTS = 200_000
"""Segments that a histogram counts, about; of larger banks every n-th shard is read."""
PICTURE_SHARDS = 4
"""Shards that pictures are taken from: each one's blobs are checked as a whole before they are read."""
PICTURE_BYTES = 1 << 28
"""And their blobs are together no larger than this, where there is a choice."""
DEPTH_SOURCES = 8
SHOWN_PIXELS = 60_000_000
"""Pixels of rejected pictures that are decoded, over all."""
SHOWN_BYTES = 1 << 26
"""Larger files are not opened for a thumbnail."""
NEVER_OPENED = frozenset({"worker-died", "too-large", "crashed", "unsafe-name"})
"""Reasons for which a file is not opened once more."""


@dataclass(frozen=True)
class Changes:
    """Names of sources, sorted: taken in, taken in with other content, and gone since the generation before."""

    new: Sequence[str]
    changed: Sequence[str]
    gone: Sequence[str]


def changes(reader: Reader, before: Reader | None) -> Changes:
    """What is in a generation and was not in the one before, from the shards in which they differ."""
    now = {shard.entry.id: shard for shard in reader.shards}
    then = {shard.entry.id: shard for shard in (before.shards if before else ())}
    came: dict[str, str] = {}
    went: dict[str, str] = {}
    for id, shard in now.items():
        earlier = set(then[id].entry.masked) if id in then else None
        if earlier is None:
            came |= _ids(shard)
        elif earlier != set(shard.entry.masked):
            everything = _ids(shard, masked=True)
            masked = set(shard.entry.masked)
            went |= {name: everything[name] for name in masked - earlier if name in everything}
            came |= {name: everything[name] for name in earlier - masked if name in everything}
    for id in then.keys() - now.keys():
        went |= _ids(then[id])
    return Changes(
        sorted(came.keys() - went.keys()),
        sorted(name for name in came.keys() & went.keys() if came[name] != went[name]),
        sorted(went.keys() - came.keys()),
    )


def _ids(shard: Shard, *, masked: bool = False) -> dict[str, str]:
    """Source id by name."""
    table = shard.table("sources", ["source", "source_id"])
    hidden = set() if masked else set(shard.entry.masked)
    rows = zip(table["source"].to_pylist(), table["source_id"].to_pylist(), strict=True)
    return {name: id for name, id in rows if name not in hidden}


def rows_of(reader: Reader, table: str) -> int:
    """Live rows of one of the tables; only shards with masked sources are read."""
    if table == "sources":
        return sum(shard.entry.rows[table] - len(shard.entry.masked) for shard in reader.shards)
    return sum(
        len(_live(shard, table, ["source"])) if shard.entry.masked else shard.entry.rows[table]
        for shard in reader.shards
    )


def class_counts(reader: Reader) -> Counter[int]:
    """Live segments by class id; only shards with masked sources are read."""
    counts: Counter[int] = Counter()
    for shard in reader.shards:
        if shard.entry.masked:
            counts.update(_live(shard, "segments", ["source", "class_id"])["class_id"].to_pylist())
        else:
            counts.update({id: last - first for id, (first, last) in shard.entry.classes.items()})
    return counts


def rejects_of(reader: Reader) -> list[dict[str, Any]]:
    """The inputs that are not usable, by name; only shards that have some are read."""
    found = []
    for shard in reader.shards:
        if shard.entry.rows["rejects"] > len(shard.entry.masked_rejects):
            hidden = set(shard.entry.masked_rejects)
            found += [row for row in shard.table("rejects").to_pylist() if row["source"] not in hidden]
    return sorted(found, key=lambda row: str(row["source"]))


def segment_sizes(reader: Reader) -> npt.NDArray[np.float64]:
    """Areas of segments as shares of the frame, 0..1: of all of them, or of those in every n-th shard."""
    rows = sum(shard.entry.rows["segments"] for shard in reader.shards)
    step = max(rows // MEASURED_SEGMENTS, 1)
    areas = [_live(shard, "segments", ["source", "area"])["area"].to_numpy() for shard in reader.shards[::step]]
    height, width = reader.geometry.frame
    shares: npt.NDArray[np.float64] = np.concatenate([np.zeros(0), *areas]) / (height * width)
    return shares


def depths_of(reader: Reader, chosen: Sequence[int]) -> npt.NDArray[np.float32]:
    """Depths in metres, where known, of some pixels of some sources that have depth."""
    found: list[npt.NDArray[np.float32]] = []
    for number in chosen:
        rows = _live(reader.shards[number], "sources").to_pylist()
        for row in spread([row for row in rows if row["depth"]], max(DEPTH_SOURCES // len(chosen), 1)):
            try:
                data = reader.shards[number].raw("depth", row["source_id"])
                depth = reader.dataset(row["dataset"]).decoding.depth(data, row["source"])[::5, ::5]
            except (KeyError, SourceError):
                continue
            found.append(depth[depth > 0])
    return np.concatenate([np.zeros(0, np.float32), *found])


def picture_shards(reader: Reader, before: Reader | None) -> list[int]:
    """Numbers of the shards that pictures are taken from: those that are new first, the rest evenly spread."""
    old = {entry.id for entry in before.manifest.shards} if before else set()
    filled = [n for n, shard in enumerate(reader.shards) if shard.entry.rows["sources"] > len(shard.entry.masked)]
    fresh = [n for n in filled if reader.shards[n].entry.id not in old]
    wanted = [*spread(fresh, PICTURE_SHARDS), *spread([n for n in filled if n not in set(fresh)], PICTURE_SHARDS)]
    chosen: list[int] = []
    total = 0
    for number in wanted[:PICTURE_SHARDS]:
        total += sum(file.size for file in reader.shards[number].entry.files.values())
        if not chosen or total <= PICTURE_BYTES:
            chosen.append(number)
    return chosen


def sample_segments(reader: Reader, chosen: Sequence[int], most: int) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Segments of all classes in turn, each of another photograph where that can be, with their cut-outs."""
    per_class: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for number in chosen:
        columns = ["segment_id", "source", "class_id", "class_name", "pixels"]
        for row in _live(reader.shards[number], "segments", columns).to_pylist():
            per_class.setdefault(row["class_id"], []).append((number, row))
    queues = []
    for rows in sorted(per_class.values(), key=lambda rows: (-len(rows), rows[0][1]["class_id"])):
        rows.sort(key=lambda item: (-item[1]["pixels"], item[1]["segment_id"]))
        first_of = list({row["source"]: (number, row) for number, row in reversed(rows)}.values())[::-1]
        queues.append(spread(first_of[: max(len(first_of) // 2, 4)], 4))
    turns = [(turn, place, item) for place, queue in enumerate(queues) for turn, item in enumerate(queue)]
    for _, _, (number, row) in sorted(turns, key=lambda each: each[:2])[:most]:
        id = row["segment_id"]
        yield row, cut_out(reader.segment_pixels(number, id), reader.segment_mask(number, id))


def drawn_evidence(reader: Reader, chosen: Sequence[int], most: int = 2) -> list[Html]:
    """Photographs with their orderings as arrows, then others with their key patches as boxes."""
    return [*_drawn_orderings(reader, chosen, most), *_drawn_patches(reader, chosen, most)]


def _drawn_orderings(reader: Reader, chosen: Sequence[int], most: int) -> Iterator[Html]:
    known = [(n, row) for n in chosen for row in _live(reader.shards[n], "orderings").to_pylist() if row["front"]]
    counts = Counter((n, row["source"]) for n, row in known)
    for (number, source), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0][1]))[:most]:
        if (photograph := _photograph(reader, number, source)) is not None:
            pairs = [row for n, row in known if (n, row["source"]) == (number, source)]
            yield draw_orderings(reader, number, source, photograph, pairs)


def _drawn_patches(reader: Reader, chosen: Sequence[int], most: int) -> Iterator[Html]:
    rows = [(n, row) for n in chosen for row in _live(reader.shards[n], "patches").to_pylist()]
    best: dict[str, tuple[int, float]] = {}
    for number, row in rows:
        best[row["source"]] = number, max(row["score"], best.get(row["source"], (0, 0.0))[1])
    for source, (number, _) in sorted(best.items(), key=lambda item: (-item[1][1], item[0]))[:most]:
        if (photograph := _photograph(reader, number, source)) is not None:
            yield draw_patches(source, photograph, [row for _, row in rows if row["source"] == source])


def _photograph(reader: Reader, number: int, source: str) -> Photograph | None:
    """A source's photograph, found without looking through all shards; None where the bank keeps none."""
    shard = reader.shards[number]
    try:
        return decode_photograph(shard.raw("image", _ids(shard)[source]), source)
    except (KeyError, SourceError):
        return None


class Thumbnails:
    """Opens the files of rejected sources, where that is safe, until enough has been decoded."""

    def __init__(self, reader: Reader) -> None:
        self._roots = {entry.name: entry.root for entry in reader.manifest.datasets}
        self._left = SHOWN_PIXELS

    def of(self, row: Mapping[str, Any], longest: int) -> Picture | None:
        """`(h, w, 3)` uint8 of a reject's image or else its label map; None where neither can be shown."""
        if row["reason"] in NEVER_OPENED:
            return None
        for kind in ("image", "layout"):
            path = self._inside(self.root(row), row[kind]) if row[kind] else None
            picture = self._small(path, longest, kind == "layout") if path else None
            if picture is not None:
                return picture
        return None

    def root(self, row: Mapping[str, Any]) -> str:
        """The root of a reject's data set."""
        return self._roots.get(row["dataset"], "")

    def _inside(self, root: str, name: str) -> Path | None:
        """A plain file under the data set's root; a listing may name whatever it likes."""
        if "://" in root or not root:
            return None
        try:
            path = Path(root, name).resolve()
            plain = path.is_relative_to(Path(root).resolve()) and path.is_file()
            return path if plain and path.stat().st_size <= SHOWN_BYTES else None
        except (OSError, ValueError):
            return None

    def _small(self, path: Path, longest: int, labels: bool) -> Picture | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS)
                if picture.width * picture.height > self._left:
                    return None
                self._left -= picture.width * picture.height
                if labels and picture.mode in ("L", "P", "I", "I;16"):
                    return _coloured(np.asarray(picture), longest)
                picture.draft("RGB", (longest, longest))
                if picture.mode[0] == "I":
                    return _stretched(np.asarray(picture), longest)
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                upright.thumbnail((longest, longest))
                return np.asarray(upright)
        except Exception:  # Pillow's decoders raise many kinds on damaged data, and this file was rejected
            return None


def _coloured(ids: npt.NDArray[Any], longest: int) -> Picture:
    """A label map, each id in a colour of its own."""
    step = max(-(-max(ids.shape) // longest), 1)
    table = np.array(source_colours(256), np.uint8)
    coloured: Picture = table[ids[::step, ::step].astype(np.int64) % len(table)]
    return coloured


def _stretched(values: npt.NDArray[Any], longest: int) -> Picture:
    """A picture of 16-bit or longer numbers, its darkest black and its lightest white."""
    step = max(-(-max(values.shape) // longest), 1)
    small = values[::step, ::step].astype(np.float64)
    grey = (255 * (small - small.min()) / max(float(np.ptp(small)), 1.0)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most that many of some things, in even steps from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[n] for n in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))] if most else []


def _live(shard: Shard, table: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of sources that are still in the bank."""
    rows = shard.table(table, columns)
    masked = list(shard.entry.masked)
    return rows.filter(pc.invert(pc.is_in(rows["source"], pa.array(masked, pa.string())))) if masked else rows
