"""A rebuild that was stopped anywhere leaves the generation before, and the next one takes up what it had finished."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from nights import Run, content, counts, leftovers, night, reading

from zeuxis.pipelines.rebuild import RebuildReport
from zeuxis.storage.manifest import generations


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def rebuild_bank(bank: Path) -> Run:
    """A night in this process."""

    def run(dataset: str | list[str], path: Path = bank, **options: Any) -> RebuildReport:
        return night(dataset, path, **options)

    return run


class Interrupt:
    """A progress that interrupts as soon as some shards are finished."""

    def __init__(self, bank: Path, shards: int = 1) -> None:
        self.bank, self.shards = bank, shards

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if "segments" in note and len(finished(self.bank)) >= self.shards:
            raise KeyboardInterrupt


def finished(bank: Path) -> dict[str, int]:
    """Name and inode of the shards that are complete."""
    return {path.parent.name: path.parent.stat().st_ino for path in bank.glob("shards/[!.]*/shard.json")}


def settled(bank: Path) -> dict[str, int]:
    """The finished shards once the workers that were not told to stop have ended."""
    deadline = time.monotonic() + 10
    while leftovers(bank) and time.monotonic() < deadline:
        time.sleep(0.02)
    return finished(bank)


@pytest.fixture
def many(photos: Any) -> Any:
    photos.add(*(f"m{number:02}" for number in range(40)))
    return photos


def test_an_interrupted_rebuild_is_taken_up_again(rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path) -> None:
    many.image("m05").write_bytes(b"no picture")
    many.write(many.label("m06"), np.full((1, 1), 1, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    assert generations(bank) == []
    before = settled(bank)
    assert 3 <= len(before) < 40
    with reading() as names:
        assert counts(rebuild_bank(many.spec)) == (40, 38, 0, 2)
    assert len(names) == 40 - len(before), "what lies in finished shards is not read again"
    assert leftovers(bank) == []
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_an_interrupted_addition_leaves_the_generation_before(rebuild_bank: Run, many: Any, bank: Path) -> None:
    rebuild_bank(many.spec)
    first = content(bank)
    many.add(*(f"n{number:02}" for number in range(40)))
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    assert (generations(bank), content(bank)) == ([1], first)
    before = settled(bank)
    with reading() as names:
        assert counts(rebuild_bank(many.spec)) == (80, 40, 40, 0)
    assert len(names) == 40 - (len(before) - 1)


def test_shards_of_other_settings_are_not_adopted(rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, min_area=50, progress=Interrupt(bank))
    other = settled(bank)
    with reading() as names:
        assert rebuild_bank(many.spec).n_new == 40
    assert (len(names), len(finished(bank).keys() & other.keys())) == (40, 0)
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_shards_of_files_that_have_changed_are_not_adopted(
    rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank))
    before = settled(bank)
    for number in range(40):
        many.write(many.label(f"m{number:02}"), np.full((48, 64), 1, np.uint8))
    with reading() as names:
        assert rebuild_bank(many.spec).n_new == 40
    assert (len(names), len(finished(bank).keys() & before.keys())) == (40, 0)
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


def test_a_source_is_not_adopted_beside_a_twin_that_now_comes_first(
    rebuild_bank: Run, many: Any, bank: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rebuild_bank(many.spec, shard_size=1, progress=Interrupt(bank, 3))
    settled(bank)
    for number in range(40):
        for kind in (many.image, many.label):
            kind(f"a{number:02}").write_bytes(kind(f"m{number:02}").read_bytes())
    assert counts(rebuild_bank(many.spec)) == (80, 40, 0, 40)
    rebuild_bank(many.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")


KILLED = """
import sys, time
from pathlib import Path
from zeuxis.pipelines.rebuild import rebuild

def hold(done, total, note=""):
    if len(list(Path(sys.argv[2]).glob("shards/[!.]*/shard.json"))) >= 3:
        print("three shards", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    options = {"frame": (24, 32), "min_area": 16, "patches": False, "shard_size": 1, "workers": 1}
    rebuild(sys.argv[1], sys.argv[2], progress=hold, **options)
"""


def test_a_rebuild_that_was_killed_is_taken_up_again(
    rebuild_bank: Run, photos: Any, bank: Path, tmp_path: Path
) -> None:
    photos.add(*(f"m{number:02}" for number in range(40)))
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), photos.spec, str(bank)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "three shards\n"
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert generations(bank) == []
    before = finished(bank)
    assert 3 <= len(before) < 40
    (bank / "shards/.tmp-1-abc").mkdir()
    with reading() as read:
        assert counts(rebuild_bank(photos.spec, shard_size=50)) == (40, 40, 0, 0)
    assert len(read) <= 40 - len(before)
    assert leftovers(bank) == []
    rebuild_bank(photos.spec, tmp_path / "fresh")
    assert content(bank) == content(tmp_path / "fresh")
