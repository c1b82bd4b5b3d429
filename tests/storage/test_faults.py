"""What a killed writer had finished is taken over as it is; tests/reliability strikes every operation of a writer."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from toybank import FRAME, make_bank, toy_manifest, write_shard

from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage import files, shard
from zeuxis.storage.manifest import collect_garbage, load_current, manifest_path, publish
from zeuxis.storage.parts import part_folder
from zeuxis.storage.reader import Reader, content_of

OLD, NEW = (0, 1), (2, 3)


def add_shard(bank: Path, seeds: Sequence[int]) -> None:
    """Brings the bank to generation 2 by a shard and its index part, unless it is there already: a rebuild in small."""
    with files.writer_lock(bank):
        current = load_current(bank)
        if current.generation == 1:
            manifest = toy_manifest(2, [*current.shards, write_shard(bank, seeds)])
            content = content_of(Reader(bank, manifest))
            index = index_shards(bank, FRAME, manifest.shards, current.index)
            publish(bank, replace(manifest, index=index, content=content))
        collect_garbage(bank)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank before."""
    return make_bank(tmp_path_factory.mktemp("old") / "bank", OLD)


@pytest.fixture(scope="module")
def clean(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank after a writer that nothing happened to."""
    bank = Path(shutil.copytree(old, tmp_path_factory.mktemp("clean") / "bank"))
    add_shard(bank, NEW)
    return bank


def layout_of(bank: Path) -> list[str]:
    return sorted(str(path.relative_to(bank)) for path in bank.rglob("*"))


def test_a_shard_finished_before_a_kill_is_taken_over_as_it_is(old, clean, tmp_path):
    """What was done is not done again: the next run finds the shard under its name."""
    bank = Path(shutil.copytree(old, tmp_path / "bank"))
    (name,) = {entry.id for entry in load_current(clean).shards} - {entry.id for entry in load_current(old).shards}
    done = write_shard(bank, NEW)
    assert done.id == name
    before = (bank / "shards" / name).stat().st_ino
    add_shard(bank, NEW)
    assert (bank / "shards" / name).stat().st_ino == before
    assert shard.finished_shard(bank / "shards" / name) == done
    assert collect_garbage(bank) == {}
    assert manifest_path(bank, 2).exists()


def test_a_part_finished_before_a_kill_is_taken_over_as_it_is(old, clean, tmp_path):
    bank = Path(shutil.copytree(old, tmp_path / "bank"))
    shards = [*load_current(bank).shards, write_shard(bank, NEW)]
    (entry,) = index_shards(bank, FRAME, shards)
    before = (part_folder(bank) / entry.id).stat().st_ino
    add_shard(bank, NEW)
    assert load_current(bank).index == load_current(clean).index == (entry,)
    assert (part_folder(bank) / entry.id).stat().st_ino == before
    assert layout_of(bank) == layout_of(clean)
