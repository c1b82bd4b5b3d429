"""`zeuxis demo`: scenes, a bank of them, photographs for layouts it has not seen, and a page that shows it all."""

from __future__ import annotations

import json
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..index.retriever import Retriever
from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset, SourceRef
from ..ingest.datasets.scenes import INDEX_FILE
from ..ingest.scene_painter import VERSION
from ..storage.errors import InputError, sentence
from ..storage.files import remove_tree, writer_lock
from ..storage.manifest import generations, load_current
from ..storage.outputs import keep_banks
from ..storage.reader import Reader
from .collage import paint
from .demo_models import MODELS
from .models import Models
from .paint import Painter
from .progress import Progress, silent
from .rebuild import rebuild
from .report import Example, write_report
from .scenes import check_scenes, scenes

LEAST_SCENES = 9
"""Scenes below which no street is left out of the bank."""


def demo(
    out: str | Path = "demo",
    *,
    count: int = 72,
    seed: int = 7,
    layouts: int = 6,
    k: int = 4,
    size: tuple[int, int] = (384, 512),
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Makes `out/scenes`, `out/bank`, `out/collages`, `out/painted` and `out/report.html`.

    Scenes and bank are reused where they are of the same count, seed and size, else made anew. The bank holds the
    scenes of the training streets only; the layouts are of other streets.

    Args:
        out: folder of the demo; made where there is none.
        count: of scenes, at least 9; seed, size: as in `scenes`.
        layouts: to retrieve for and paint, at most; k: hits a component.
        scheduler, workers: as in `rebuild`.
        progress: told how far each part is.

    Returns:
        Path of the report.

    Raises:
        InputError: a number makes no sense, or `out` holds something else. BankError: `out/bank` cannot be used.
    """
    for name, value, least in (("count", count, LEAST_SCENES), ("layouts", layouts, 1), ("k", k, 1)):
        if value < least:
            raise InputError(sentence(name, expected=f"at least {least}", found=str(value)))
    check_scenes(count, seed, size)
    out = Path(os.path.expanduser(out))
    _make(out / "collages")
    _make(out / "painted")
    root = out / "scenes"
    if not _up_to_date(root, count, seed, size):
        _remove_bank(out / "bank", root)
        scenes(root, count=count, seed=seed, size=size, progress=progress)
    dataset = open_dataset(f"scenes:{root}")
    bank = out / "bank"
    rebuild(dataset.spec, bank, split=("train",), scheduler=scheduler, workers=workers, progress=progress)
    reader = Reader(bank)
    chosen = held_out(dataset.sources(), layouts)
    retriever = Retriever(reader)
    painter = _painter(reader, retriever)
    examples = []
    for done, ref in enumerate(chosen):
        progress(done, len(chosen), "painting")
        examples.append(_example(retriever, painter, dataset, ref, k, out))
    progress(len(chosen), len(chosen), "painting")
    return write_report(reader, examples, out / "report.html")


def held_out(sources: Sequence[SourceRef], most: int) -> list[SourceRef]:
    """Test sources spread over their groups: one of each in turn, as far apart in a group as they can be."""
    groups: defaultdict[str, list[SourceRef]] = defaultdict(list)
    for ref in sources:
        if ref.split == "test":
            groups[ref.group].append(ref)
    quota = -(-most // max(len(groups), 1))
    turns: list[tuple[int, str, SourceRef]] = []
    for group, refs in groups.items():
        take = min(quota, len(refs))
        spread = [refs[i * len(refs) // take] for i in range(take)]
        spread += [ref for ref in refs if ref not in spread]
        turns += [(turn, group, ref) for turn, ref in enumerate(spread)]
    return [ref for _, _, ref in sorted(turns, key=lambda turn: turn[:2])[:most]]


def _painter(reader: Reader, retriever: Retriever) -> Painter | None:
    """The networks that come with the package; none, and a warning, for scenes of another shape than theirs."""
    try:
        Models(MODELS, reader).load("synthesis")
    except InputError as error:
        warnings.warn(f"the demo ends in collages: {error}", stacklevel=3)
        return None
    return Painter(reader, retriever, MODELS)


def _example(
    retriever: Retriever, painter: Painter | None, dataset: Dataset, ref: SourceRef, k: int, out: Path
) -> Example:
    layout = dataset.root / str(ref.layout)
    retrieval = retriever.retrieve(layout, k, dataset=dataset.spec)
    collage = paint(retriever, layout, dataset=dataset.spec, out=out / "collages" / f"{ref.name}.png")
    painted = painter.paint(layout, dataset=dataset.spec, out=out / "painted")[0] if painter else None
    photograph = dataset.decode(ref, dataset.read(ref)).image
    return Example(ref.name, ref.group, retrieval, collage, photograph, painted)


def _up_to_date(root: Path, count: int, seed: int, size: tuple[int, int]) -> bool:
    """Whether a folder holds these scenes, all of them."""
    try:
        index = json.loads((root / INDEX_FILE).read_text(encoding="utf-8"))
        about = index["version"], index["seed"], tuple(index["size"]), len(index["scenes"])
        files = len(list((root / "images").glob("*.png")))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return about == (VERSION, seed, tuple(size), count) and files == count


def _remove_bank(bank: Path, root: Path) -> None:
    """Removes the bank of an earlier demo: with other scenes the frame and the streets left out are others.

    Raises:
        InputError: it holds more than the demo's scenes.
    """
    if not generations(bank):
        return
    if {(entry.kind, entry.root) for entry in load_current(bank).datasets} != {("scenes", str(root.resolve()))}:
        raise InputError(sentence(bank, "holds more than the scenes of a demo", fix="choose another folder"))
    with writer_lock(bank):
        remove_tree(bank)


def _make(folder: Path) -> None:
    keep_banks(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(sentence(folder, f"cannot be made ({error.strerror})", fix="choose another place")) from error
