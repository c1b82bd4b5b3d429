"""A small world for fault tests: two data sets, a bank made from them, and what a night finds changed."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeuxis.pipelines.forget import forget
from zeuxis.pipelines.generations import collect, rollback
from zeuxis.pipelines.publishing import RebuildReport
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.storage.manifest import load_current

SIZE = (24, 32)
CLASSES = "".join(f"- {{id: {id}, name: {name}}}\n" for id, name in enumerate(["sky", "ground", "box", "bag"]))
MEMORY = Path("/dev/shm")
"""Where it is there, trials run in memory: an fsync costs nothing, and what it protects from is replayed elsewhere."""


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder, in memory where that can be had."""
    return tempfile.TemporaryDirectory(
        prefix="zeuxis-trials-", dir=os.environ.get("TMPDIR") or (MEMORY if MEMORY.is_dir() else None)
    )


def add_picture(root: Path, name: str, seed: str = "") -> None:
    """A photograph of noise and a label map of four blocks, both decided by their name and `seed`."""
    random = np.random.default_rng(zlib.crc32((root.name + name + seed).encode()))
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    for folder, array in (("images", image), ("labels", random_layout(random))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / folder / f"{name}.png")


def random_layout(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """`(24, 32)` uint8: a sky over a ground, two boxes on them."""
    labels = np.zeros(SIZE, np.uint8)
    labels[random.integers(9, 15) :] = 1
    for label, top, left in ((2, *random.integers(1, 10, 2)), (3, *random.integers(12, 17, 2))):
        labels[top : top + random.integers(4, 7), left : left + random.integers(5, 12)] = label
    return labels


def asked_layouts() -> list[npt.NDArray[np.uint8]]:
    """What every bank of this world is asked for."""
    return [random_layout(np.random.default_rng(seed)) for seed in (101, 102)]


def make_world(folder: Path) -> None:
    """Two data sets, `one` and `two`, and two banks of theirs: `base`, generation 2, and `grown`, a night later.

    Between them one source changed, one vanished, and one broke that was whole; another was broken all along. After
    both, one more source was added.
    """
    one, two = folder / "one", folder / "two"
    for root, names in ((one, "abcd"), (two, "uvw")):
        for name in names:
            add_picture(root, name)
        (root / "classes.yaml").write_text(CLASSES)
    spoil(one, "d")
    run(folder, folder / "base", shard_size=8)
    add_picture(two, "t")
    run(folder, folder / "base", shard_size=8)
    add_picture(one, "b", "changed")
    spoil(two, "t")
    for kind in ("images", "labels"):
        (one / kind / "a.png").unlink()
    run(folder, copy_bank(folder / "base", folder / "grown"))
    add_picture(one, "e")


def spoil(root: Path, name: str) -> None:
    """Cuts a photograph short."""
    path = root / "images" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:200])


def run(world: Path, bank: Path, shard_size: int = 1, **options: Any) -> RebuildReport:
    """A rebuild in this very process; every input must be accounted for."""
    report = rebuild(
        [f"folder:{world / 'one'}", f"folder:{world / 'two'}"], bank, frame=SIZE, min_area=4, patches=False,
        shard_size=shard_size, workers=0, allow_shrink=True, **options,
    )  # fmt: skip
    parts = report.n_new, report.n_reused, report.n_rejected, report.n_forgotten
    assert report.n_in == sum(parts), f"not every input is accounted for: {report}"
    return report


def merge(world: Path, bank: Path) -> None:
    """A rebuild that merges the small shards of `grown`, and keeps no older generation."""
    run(world, bank, shard_size=8, keep=1, report=False)


def drop(world: Path, bank: Path) -> None:
    """Removes a source for good, and proves it."""
    report = forget("folder/c", bank)
    assert report.proved, f"not forgotten: {report}"


def go_back(world: Path, bank: Path) -> None:
    """Back to generation 2, unless that has been done; either way, what a killed writer left is removed."""
    if load_current(bank).generation == 3:
        rollback(bank, 2)
    collect(bank, keep=9)


def thin_out(world: Path, bank: Path) -> None:
    """Removes all generations but the current one."""
    collect(bank, keep=1)


class Work(NamedTuple):
    """What a writer does to a bank. Done again, it finds its work done, or what is left of it.

    Attributes:
        base: name of the bank in the world that it starts from.
        do: the work, given the world's folder and the bank's.
    """

    base: str
    do: Callable[[Path, Path], object]


SCENARIOS = {
    "rebuild": Work("base", run), "merge": Work("grown", merge), "forget": Work("grown", drop),
    "rollback": Work("grown", go_back), "collect": Work("grown", thin_out),
}  # fmt: skip


def copy_bank(source: Path, target: Path) -> Path:
    """The bank again, none of its files shared: whatever is overwritten in place harms the copy alone."""
    return Path(shutil.copytree(source, target))
