"""A grown bank: real sources as rebuild stores them, then windows of them, as many as wanted, always the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import zeuxis
from zeuxis.storage.errors import BankError, InputError
from zeuxis.storage.manifest import verify
from zeuxis.storage.reader import Reader

ROOT = Path(__file__).resolve().parents[1]
FRAME = (48, 64)
WANTED = 90


@pytest.fixture
def make_bank(monkeypatch):
    """The module: its folder is on nobody's path but that of who runs benchmarks."""
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.make_bank as module

    return module


class Pool(ThreadPoolExecutor):
    """Works in this process and remembers the first source of every shard it was to make."""

    begun: ClassVar[list[int]] = []

    def __init__(self, workers, *_):
        super().__init__(workers)
        self.begun.clear()

    def submit(self, call, growth, first, *rest):
        self.begun.append(first)
        return super().submit(call, growth, first, *rest)


@pytest.fixture
def grow(make_bank, photos, tmp_path, monkeypatch):
    """Grows a bank of shards of five sources, of which seven are real, by default in this process."""
    photos.add("a/1", "a/2", "b/3", "b/4", "b/5", "c/6", "c/7")
    groups = (f"{name},,{name[0]}" for name in ("a/1", "a/2", "b/3", "b/4", "b/5", "c/6", "c/7"))
    (photos.root / "sources.csv").write_text("\n".join(["name,split,group", *groups]))

    def run(name="grown", *, processes=False, **options):
        options = {"segments": WANTED, "workers": 1, "shard_size": 5, "frame": FRAME} | options
        with monkeypatch.context() as patch:
            if not processes:
                patch.setattr(make_bank, "ProcessPoolExecutor", Pool)
            return make_bank.make_bank(photos.spec, tmp_path / name, **options)

    return run


def rows(bank, where=None):
    table = zeuxis.open(bank).segments(where)
    return sorted(table.to_pylist(), key=lambda row: row["segment_id"])


def test_real_sources_come_first_as_rebuild_stores_them_and_grown_ones_follow(grow, photos, rebuild_bank, tmp_path):
    grow()
    rebuild_bank(photos.spec, tmp_path / "real", frame=FRAME, min_area=64)
    sources = zeuxis.open(tmp_path / "grown").sources().to_pylist()
    real = zeuxis.open(tmp_path / "real").sources().to_pylist()
    assert [row["source"] for row in sources[:7]] == [row["source"] for row in real]
    assert rows(tmp_path / "grown", {"source": [row["source"] for row in real]}) == rows(tmp_path / "real")
    place = {row["source"]: (row["group"], row["split"], row["dataset"], row["image"]) for row in real}
    origins = [row["source"].split("~") for row in sources[7:]]
    assert [int(number) for _, number in origins] == list(range(7, len(sources)))
    assert {origin for origin, _ in origins[:7]} <= set(place)
    assert len({origin for origin, _ in origins[:7]}) == min(len(origins), 7)  # each real layout before any returns
    for row, (origin, _) in zip(sources[7:], origins, strict=True):
        assert (row["group"], row["split"], row["dataset"], row["image"]) == place[origin]


def test_ends_at_the_source_that_reaches_the_wanted_number(grow, tmp_path):
    manifest = grow()
    counts = [row["segments"] for row in zeuxis.open(tmp_path / "grown").sources().to_pylist()]
    assert sum(counts[:-1]) < WANTED <= sum(counts)
    assert [shard.rows["sources"] for shard in manifest.shards[:-1]] == [5] * (len(manifest.shards) - 1)
    ids = [row["segment_id"] for row in rows(tmp_path / "grown")]
    assert len(set(ids)) == len(ids) == sum(counts)
    assert {path.name for path in (tmp_path / "grown/shards").iterdir()} == {shard.id for shard in manifest.shards}


def test_the_seed_alone_decides_what_grows(grow):
    one, two, other = grow("one"), grow("two", workers=2, processes=True), grow("other", seed=1)
    assert [shard.id for shard in one.shards] == [shard.id for shard in two.shards]
    assert one.content == two.content != other.content


def test_an_interrupted_run_keeps_its_finished_shards(grow, tmp_path):
    whole = grow("whole")
    second, third = (tmp_path / "again/shards" / shard.id for shard in whole.shards[1:3])
    shutil.copytree(tmp_path / "whole/shards", tmp_path / "again/shards")
    (second / "segments.parquet").write_bytes(b"half of it")
    third.rename(third.with_name(".tmp-1-abc"))  # all written, and killed before it had its name
    assert grow("again").content == whole.content
    assert 0 not in Pool.begun
    assert {5, 10} <= set(Pool.begun)
    names = {path.name for path in (tmp_path / "again/shards").iterdir()}
    assert names == {shard.id for shard in whole.shards}
    assert list(verify(tmp_path / "again")) == []


@pytest.mark.parametrize("change", [{"seed": 1}, {"frame": (96, 128)}])
def test_shards_that_grew_otherwise_are_not_kept(grow, photos, tmp_path, change):
    photos.remove("a/2", "b/3", "b/4", "b/5", "c/6", "c/7")  # one layout has but one order: windows alone differ
    grow("other", **change)
    shutil.copytree(tmp_path / "other/shards", tmp_path / "again/shards")
    assert grow("again").content == grow("whole").content


def test_a_grown_layout_finds_itself(make_bank, grow, photos, tmp_path):
    grow()
    bank = zeuxis.open(tmp_path / "grown")
    entry = Reader(tmp_path / "grown").manifest.datasets[0]
    growth = make_bank.Growth(tmp_path, photos.spec, None, make_bank.Extraction(None, bank.classes, entry), 0)
    layout, _ = growth.layout(9)
    _, name, _ = growth.place(9)
    best = [component.hits[0] for component in bank.retrieve(entry.to_bank(layout), k=1).components]
    assert best
    assert {(hit.source, hit.mask_iou, hit.context_iou) for hit in best} == {(name, 1.0, 1.0)}


def test_windows_keep_zoom_and_aspect_and_are_mirrored_half_the_time(make_bank):
    size = 480, 640
    down, across = (np.broadcast_to(ramp, size).astype(np.uint16) for ramp in np.ogrid[: size[0], : size[1]])
    random = [np.random.default_rng(seed) for seed in range(200)]
    heights = [np.ptp(make_bank.grown_layout(down, rng).astype(int)) + 1 for rng in random]
    random = [np.random.default_rng(seed) for seed in range(200)]
    grown = [make_bank.grown_layout(across, rng).astype(int) for rng in random]
    widths = np.array([np.ptp(layout) + 1 for layout in grown])
    zoom, aspect = np.sqrt(np.prod(size) / (heights * widths)), (heights / widths) / (size[0] / size[1])
    assert 1.02 <= zoom.min() < 1.06
    assert 1.44 < zoom.max() <= 1.51
    assert 0.91 <= aspect.min() < 0.94
    assert 1.06 < aspect.max() <= 1.09
    assert all(layout.shape == size for layout in grown)
    mirrored = [layout[0, 0] > layout[0, -1] for layout in grown]
    assert 70 < sum(mirrored) < 130


def test_windows_of_nothing_but_void_are_drawn_again(make_bank):
    layout = np.full((48, 64), make_bank.VOID, np.uint16)
    layout[0, 0] = 3
    assert all((make_bank.grown_layout(layout, np.random.default_rng(seed)) == 3).any() for seed in range(5))


def test_bad_arguments_are_refused(make_bank, photos, tmp_path):
    photos.add("a/1")
    refused = {
        "segments": {"segments": 0},
        "split": {"split": "night"},
        "frame": {"frame": (4, 64)},
        "seed": {"seed": -1},
    }
    for word, options in refused.items():
        with pytest.raises(InputError, match=word):
            make_bank.make_bank(photos.spec, tmp_path / "bank", **({"segments": 5} | options))
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank/MANIFEST-000001.json").write_text("{}")
    with pytest.raises(BankError, match="choose another folder"):
        make_bank.make_bank(photos.spec, tmp_path / "bank", segments=5)


def test_the_command_says_what_is_wrong_in_a_sentence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.make_bank",
        f"camvid:{tmp_path / 'no'}",
        str(tmp_path),
        "--segments",
        "5",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr
