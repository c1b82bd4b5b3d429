"""A rebuild indexes what is new, leaves the other parts as they are, and answers as a bank that was made at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeuxis
from zeuxis import cli
from zeuxis.pipelines.indexing import index_shards
from zeuxis.pipelines.rebuild import RebuildReport
from zeuxis.storage.errors import DamagedBankError
from zeuxis.storage.manifest import generations, load_current, publish, shard_folder, verify
from zeuxis.storage.parts import INDEX, LEAVES, part_folder
from zeuxis.storage.reader import Reader

Run = Callable[..., RebuildReport]
OLD = [f"p{number:02}" for number in range(20)]
NEW = ["q0"]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def first(rebuild_bank: Run, photos: Any) -> Any:
    """A data set of twenty photographs and their bank."""
    photos.add(*OLD)
    rebuild_bank(photos.spec, frame=(48, 64), shard_size=8)
    return photos


def layouts(count: int = 4) -> list[np.ndarray]:
    """Blocks of the bank's classes and of void."""
    rng = np.random.default_rng(1)
    return [np.kron(rng.choice([0, 1, 2, 3, zeuxis.VOID], (6, 8)), np.ones((8, 8), int)) for _ in range(count)]


def answers(bank: Path, k: int = 7) -> list[list[tuple[float, int]]]:
    opened = zeuxis.open(bank)
    return [
        [(hit.score, hit.segment_id) for hit in component.hits]
        for layout in layouts()
        for component in opened.retrieve(layout, k=k)
    ]


def part_files(bank: Path) -> dict[str, tuple[int, int]]:
    """Every file of every part: inode and modification time."""
    paths = sorted(path for path in part_folder(bank).rglob("*") if path.is_file())
    return {str(path.relative_to(bank)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def covered(bank: Path) -> list[str]:
    return sorted(id for part in load_current(bank).index for id in part.shards)


def shard_ids(bank: Path) -> list[str]:
    return sorted(entry.id for entry in load_current(bank).shards)


def test_a_rebuild_publishes_the_parts_of_its_shards(first: Any, bank: Path) -> None:
    (part,) = load_current(bank).index
    assert len(part.shards) == 3
    assert covered(bank) == shard_ids(bank)
    assert part.rows == 20 * 5
    assert [path.name for path in part_folder(bank).iterdir()] == [part.id]
    assert list(verify(bank)) == []


def test_a_night_makes_a_part_of_its_own_and_leaves_the_files_of_the_others(
    first: Any, rebuild_bank: Run, bank: Path, tmp_path: Path
) -> None:
    before = part_files(bank)
    first.add(*NEW)
    rebuild_bank(first.spec)
    after = part_files(bank)
    assert [part.rows for part in load_current(bank).index] == [100, 5]
    assert covered(bank) == shard_ids(bank)
    assert before.items() <= after.items()
    assert len({Path(name).parent for name in after}) == 2
    rebuild_bank(first.spec, tmp_path / "at once", frame=(48, 64))
    assert len(load_current(tmp_path / "at once").index) == 1
    assert answers(bank) == answers(tmp_path / "at once")


def test_nights_are_merged_as_they_accumulate(first: Any, rebuild_bank: Run, bank: Path, tmp_path: Path) -> None:
    (large,) = load_current(bank).index
    for night in range(3):
        first.add(f"q{night}")
        rebuild_bank(first.spec)
        assert covered(bank) == shard_ids(bank)
    assert load_current(bank).index[0] == large
    assert [part.rows for part in load_current(bank).index] == [100, 15]
    first.add("r0", "r1")
    rebuild_bank(first.spec)
    assert [part.rows for part in load_current(bank).index] == [125]
    rebuild_bank(first.spec, tmp_path / "at once", frame=(48, 64))
    assert answers(bank) == answers(tmp_path / "at once")


def test_a_rebuild_without_news_publishes_and_writes_nothing(first: Any, rebuild_bank: Run, bank: Path) -> None:
    before = part_files(bank)
    assert not rebuild_bank(first.spec).published
    assert part_files(bank) == before


def test_what_left_the_bank_is_no_longer_found_and_its_part_is_dissolved_with_its_shard(
    first: Any, rebuild_bank: Run, bank: Path
) -> None:
    first.add(*NEW)
    rebuild_bank(first.spec)
    large, small = load_current(bank).index
    first.remove(*NEW)
    rebuild_bank(first.spec, allow_shrink=True)
    assert load_current(bank).index == (large,)
    first.remove(OLD[3])
    rebuild_bank(first.spec, allow_shrink=True)
    assert load_current(bank).index == (large,), "a source that is masked leaves its shard and part as they are"
    found = {hit.source for each in zeuxis.open(bank).retrieve(layouts(1)[0], k=10**6) for hit in each.hits}
    assert found <= {f"folder/{name}" for name in OLD if name != OLD[3]}
    assert (part_folder(bank) / small.id).exists(), "the older generation names it still"


def test_a_bank_whose_manifest_lost_its_index_answers_alike_and_is_indexed_by_the_next_rebuild(
    first: Any, rebuild_bank: Run, bank: Path
) -> None:
    """As a bank that was made before there were parts."""
    wanted, files = answers(bank), part_files(bank)
    publish(bank, replace(load_current(bank), generation=2, index=()))
    assert answers(bank) == wanted
    report = rebuild_bank(first.spec, shard_size=8)  # with a larger one its shards would be merged first
    assert (report.published, report.generation, report.n_new, generations(bank)) == (True, 3, 0, [1, 2, 3])
    assert covered(bank) == shard_ids(bank)
    assert answers(bank) == wanted
    assert part_files(bank) == files, "equal parts are taken as they are"
    assert not rebuild_bank(first.spec).published


def test_parts_of_an_older_version_are_made_anew(first: Any, rebuild_bank: Run, bank: Path) -> None:
    current = load_current(bank)
    (part,) = current.index
    publish(bank, replace(current, generation=2, index=(replace(part, id="old", version=INDEX - 1),)))
    wanted = answers(bank)
    assert rebuild_bank(first.spec, shard_size=8).published
    assert load_current(bank).index == (part,)
    assert answers(bank) == wanted


def test_damaged_leaves_are_named_by_the_first_retrieval_and_by_verify(
    first: Any, bank: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (part,) = load_current(bank).index
    path = part_folder(bank) / part.id / LEAVES
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    opened = zeuxis.open(bank)
    with pytest.raises(DamagedBankError) as caught:
        opened.retrieve(layouts(1)[0])
    monkeypatch.setattr(sys, "argv", ["zeuxis", "verify", str(bank)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    (said,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1
    for sentence in (str(caught.value), said):
        assert sentence.startswith(f"{path}: expected ")
        assert "\n" not in sentence


def test_indexing_says_what_it_does_and_nothing_where_there_is_nothing_to_do(first: Any, bank: Path) -> None:
    said: list[str] = []
    shards = load_current(bank).shards
    parts = index_shards(bank, (48, 64), shards, say=said.append)
    assert said == ["indexing 100 segments", "indexing candidates among 100 segments"]
    assert index_shards(bank, (48, 64), shards, parts, said.append) == parts
    assert len(said) == 2


def test_parts_number_their_shards_in_the_order_they_name_them(first: Any, rebuild_bank: Run, bank: Path) -> None:
    first.add("q0", "q1", "q2", "q3", "q4")
    rebuild_bank(first.spec)
    reader = Reader(bank)
    (part,) = reader.parts
    by_id = {shard.entry.id: shard for shard in reader.shards}
    for number, row, box in zip(part.leaves.shard, part.leaves.row, part.leaves.box, strict=True):
        assert by_id[part.entry.shards[number]].footprints.box[row].tolist() == box.tolist()


@pytest.mark.parametrize("damage", ["altered", "short", "missing"])
def test_a_rebuild_makes_damaged_parts_anew(first: Any, rebuild_bank: Run, bank: Path, damage: str) -> None:
    wanted = answers(bank)
    (part,) = load_current(bank).index
    path = part_folder(bank) / part.id / LEAVES
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-1] if damage == "short" else data)
    if damage == "altered":
        assert not rebuild_bank(first.spec).published, "a night looks at sizes"
    assert rebuild_bank(first.spec, rehash=damage == "altered").published
    assert list(verify(bank)) == []
    assert answers(bank) == wanted


def test_a_damaged_old_shard_does_not_keep_new_photographs_out(first: Any, rebuild_bank: Run, bank: Path) -> None:
    """Its part would be merged with the new one, which cannot be: the old part stays, the new one stands beside it."""
    (old, *_) = load_current(bank).shards
    (part,) = load_current(bank).index
    path = shard_folder(bank) / old.id / "footprints.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    first.add("q0", "q1", "q2", "q3", "q4")
    report = rebuild_bank(first.spec)
    assert (report.published, report.n_new) == (True, 5)
    assert load_current(bank).index[0].id == part.id
    assert len(load_current(bank).index) == 2
