"""Every operation of a writer fails once, in every way: the bank is the old or the new generation, nothing between.

A writer adds a shard, indexes it and publishes generation 2. Its operations are counted first; then each is made to
fail in turn, in a forked child (SQLite's method). A run in which no writer was killed alive proves nothing, and fails.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toybank import FRAME, make_bank, publish_shards, toy_bundle, toy_manifest, write_shard

from zeuxis.pipelines import indexing
from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage import files, shard
from zeuxis.storage.footprints import Footprints
from zeuxis.storage.manifest import collect_garbage, generations, load_current, manifest_path, publish, verify
from zeuxis.storage.parts import part_folder
from zeuxis.storage.reader import Reader, content_of

OLD, NEW = (0, 1), (2, 3)
MODES = ("kill", "EIO", "ENOSPC", "short")
SECONDS = 20


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


@pytest.fixture(scope="module", autouse=True)
def made_once() -> Iterator[None]:
    """What a part holds is computed once: the writing is what faults strike."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("build_leaves", "candidate_files"):
            patch.setattr(indexing, name, _remembered(getattr(indexing, name)))
        yield


def _remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    made: dict[Any, Any] = {}

    def once(shards: Sequence[Footprints], *others: object) -> Any:
        key = *(shard.segment_id.tobytes() for shard in shards), *others
        if key not in made:
            made[key] = make(shards, *others)
        return made[key]

    return once


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank before; all that the writers will need is extracted already."""
    for seed in NEW:
        toy_bundle(seed)
    return make_bank(tmp_path_factory.mktemp("old") / "bank", OLD)


@pytest.fixture(scope="module")
def clean(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank after a writer that nothing happened to."""
    bank = Path(shutil.copytree(old, tmp_path_factory.mktemp("clean") / "bank"))
    add_shard(bank, NEW)
    return bank


def forked(work: Callable[[], object], fault: str = "") -> int:
    """Exit code of `work()` in a child: 0, 1 where it raised, or minus the signal it died of."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        os.environ["ZEUXIS_FAULT"] = fault
        files.operations = 0
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def operations_of(bank: Path) -> list[str]:
    """The paths that a writer's operations are about, in their order."""
    reading, writing = os.pipe()

    def work() -> None:
        told, fault_point = [], files.fault_point
        files.fault_point = lambda path: (told.append(str(path)), fault_point(path))[1]
        add_shard(bank, NEW)
        assert len(told) == files.operations
        os.write(writing, "\n".join(told).encode())

    assert forked(work) == 0
    os.close(writing)
    with os.fdopen(reading) as said:
        return said.read().split("\n")


def faults_in(bank: Path) -> list[str]:
    """What is wrong with a bank in which a writer was stopped: nothing but generation 1 or 2, whole, may stand."""
    wrong = list(verify(bank, deep=True))
    if generations(bank) not in ([1], [1, 2]):
        wrong.append(f"generations {generations(bank)}")
    if wrong:
        return wrong
    expected = [f"toy/{seed:03d}" for seed in (OLD if load_current(bank).generation == 1 else OLD + NEW)]
    reader = Reader(bank)
    names = reader.table("sources")["source"].to_pylist()
    ids = reader.table("segments")["segment_id"].to_pylist()
    wanted = sorted(row.segment_id for name in expected for row in toy_bundle(int(name[-3:])).segments)
    if sorted(names) != expected or sorted(ids) != wanted:
        wrong.append("sources or segments are lost or doubled")
    if content_of(reader) != reader.manifest.content:
        wrong.append("the manifest's content is not the bank's")
    if load_current(bank).generation == 2:
        indexed = sum(len(part.leaves) for part in reader.parts)
        if sorted(id for part in reader.parts for id in part.entry.shards) != sorted(s.entry.id for s in reader.shards):
            wrong.append("a shard has no index part, or several")
        elif indexed != len(wanted):
            wrong.append("segments are lost or doubled in the index")
    return wrong


def layout_of(bank: Path) -> list[str]:
    return sorted(str(path.relative_to(bank)) for path in bank.rglob("*"))


@pytest.mark.parametrize("mode", MODES)
def test_whatever_fails_the_bank_is_whole_and_the_next_run_completes(old, clean, tmp_path, mode):
    operations = operations_of(Path(shutil.copytree(old, tmp_path / "count")))
    total, indexing = len(operations), [f"{os.sep}index{os.sep}" in path for path in operations]
    assert total > 25
    assert sum(indexing) >= 5, "an index part is made, written, synchronised and renamed"
    assert not any(indexing[: total // 2]), "shards come first"
    stopped = 0
    ends = set()
    for number in range(1, total + 1):
        bank = Path(shutil.copytree(old, tmp_path / f"{mode}-{number}"))
        code = forked(lambda bank=bank: add_shard(bank, NEW), f"{number}:{mode}")
        assert code in ((-signal.SIGKILL,) if mode == "kill" else (0, 1)), f"operation {number}: {code}"
        stopped += code != 0
        assert faults_in(bank) == [], f"after operation {number}"
        ends.add(load_current(bank).generation)
        assert forked(lambda bank=bank: add_shard(bank, NEW)) == 0
        assert faults_in(bank) == [], f"after the run that followed operation {number}"
        assert load_current(bank).generation == 2
        assert content_of(Reader(bank)) == content_of(Reader(clean))
        assert layout_of(bank) == layout_of(clean), f"something is left of operation {number}"
        shutil.rmtree(bank)
    assert ends == {1, 2}, "faults struck on one side of the publication only"
    assert stopped == total if mode == "kill" else stopped >= 8, f"only {stopped} of {total} faults struck"


def test_the_checker_finds_a_writer_that_publishes_too_early(old, tmp_path):
    """A planted defect: the manifest is linked before its shard has its name."""
    bank = Path(shutil.copytree(old, tmp_path / "bank"))

    def careless() -> None:
        entry = write_shard(bank, NEW)
        publish_shards(bank, 2, [*load_current(bank).shards, entry])
        os.rename(bank / "shards" / entry.id, bank / "shards" / ".tmp-late")
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(careless) == -signal.SIGKILL
    assert faults_in(bank) != []


def test_the_checker_finds_a_doubled_source(old, tmp_path):
    bank = Path(shutil.copytree(old, tmp_path / "bank"))
    entry = write_shard(bank, [1, *NEW])
    publish_shards(bank, 2, [*load_current(bank).shards, entry])
    assert "sources or segments are lost or doubled" in faults_in(bank)


def test_the_checker_finds_a_shard_without_a_part(old, clean, tmp_path):
    bank = Path(shutil.copytree(old, tmp_path / "bank"))
    entry = write_shard(bank, NEW)
    publish_shards(bank, 2, [*load_current(bank).shards, entry])
    assert faults_in(bank) == ["a shard has no index part, or several"]


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
