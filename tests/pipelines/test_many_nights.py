"""Whatever happens to the files and to the bank, night after night, it holds what a simple model says it holds."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from nights import content, is_sound, night, rejects, twin

from zeuxis.ingest.datasets.base import EncodedSource
from zeuxis.pipelines.forget import forget
from zeuxis.pipelines.generations import collect, rollback
from zeuxis.pipelines.repair import repair
from zeuxis.storage import files
from zeuxis.storage.errors import ZeuxisError
from zeuxis.storage.manifest import generations, load_current
from zeuxis.storage.reader import Reader

ANCHOR = "m"
"""A source that nobody touches, so that there is always something to take in."""
names = st.sampled_from("abmz".replace(ANCHOR, "") + "cd")
versions = st.integers(0, 5)
State = tuple[dict[str, str], dict[str, str]]
"""Of a bank: name to hash of its sources, name to reason of its rejects."""


class Folder:
    """A folder data set of 16 x 16 pixels."""

    def __init__(self, root: Path) -> None:
        self.root, self.spec = root, f"folder:{root}"
        for kind in ("images", "labels"):
            (root / kind).mkdir(parents=True)

    def image(self, name: str) -> Path:
        return self.root / "images" / f"{name}.png"

    def label(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"

    def put(self, name: str, version: int) -> None:
        rng = np.random.default_rng([ord(name), version])
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(self.image(name))
        Image.fromarray(np.kron(rng.integers(0, 3, (2, 2)), np.ones((8, 8))).astype(np.uint8)).save(self.label(name))

    def names(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "images").iterdir())

    def id_of(self, name: str) -> str:
        return EncodedSource(self.image(name).read_bytes(), self.label(name).read_bytes()).source_id

    def is_broken(self, name: str) -> bool:
        return self.label(name).read_bytes() == b"text"


class Nights(RuleBasedStateMachine):
    """Rules change files or the bank; the model knows what each generation holds and what was forgotten."""

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.bank = self.place / "bank"
        self.folder = Folder(self.place / "photos")
        self.folder.put(ANCHOR, 0)
        self.states: dict[int, State] = {}
        self.now: State = ({}, {})
        self.forgotten: dict[str, str] = {}
        self.contents: dict[tuple[str, str], str] = {}

    def teardown(self) -> None:
        if hasattr(self, "place"):
            shutil.rmtree(self.place)

    def there(self, name: str) -> bool:
        return self.folder.image(name).exists()

    # what happens to the files

    @rule(name=names, version=versions)
    def add_or_change_or_mend(self, name: str, version: int) -> None:
        self.folder.put(name, version)

    @rule(name=names, when=st.integers(1, 9))
    def touch(self, name: str, when: int) -> None:
        if self.there(name):
            os.utime(self.folder.image(name), (when, when))

    @rule(name=names)
    def remove(self, name: str) -> None:
        if self.there(name):
            self.folder.image(name).unlink()
            self.folder.label(name).unlink()

    @rule(name=names)
    def spoil(self, name: str) -> None:
        if self.there(name):
            self.folder.label(name).write_bytes(b"text")

    @rule(name=names, of=names)
    def make_twin(self, name: str, of: str) -> None:
        if name != of and self.there(of):
            twin(self.folder, name, of)

    # what happens to the bank

    def expected(self) -> tuple[State, dict[str, str]]:
        """What a rebuild makes of the files, and all that is forgotten then."""
        held, forgotten = self.now[0], dict(self.forgotten)
        good: dict[str, str] = {}
        refused: dict[str, str] = {}
        ids = {name: self.folder.id_of(name) for name in self.folder.names() if name not in forgotten}
        kept = {name for name, id in ids.items() if held.get(name) == id}
        taken = {ids[name] for name in kept}
        for name, id in ids.items():
            if name in kept:
                good[name] = id
            elif id in self.forgotten.values():
                forgotten[name] = id
            elif self.folder.is_broken(name):
                refused[name] = "unreadable-label"
            elif id in taken:
                refused[name] = "duplicate"
            else:
                good[name] = id
                taken.add(id)
        return (good, refused), forgotten

    def publish(self, state: State, forgotten: dict[str, str]) -> None:
        self.now, self.forgotten = state, forgotten
        self.states = {number: self.states.get(number, state) for number in generations(self.bank)}

    def night(self, **options: Any) -> Any:
        return night(self.folder.spec, self.bank, allow_shrink=True, **options)

    @rule(shard_size=st.sampled_from([1, 3, 128]), rehash=st.booleans())
    def rebuild(self, shard_size: int, rehash: bool) -> None:
        state, forgotten = self.expected()
        before = len(generations(self.bank))
        report = self.night(shard_size=shard_size, rehash=rehash, keep=4)
        assert report.n_in == len(self.folder.names())
        assert report.n_rejected == len(state[1])
        assert report.published or before
        self.publish(state, forgotten)
        again = self.night(shard_size=shard_size)
        assert not again.published, "the second of two nights has nothing to do"

    @rule(operation=st.integers(1, 90), shard_size=st.sampled_from([1, 128]))
    def rebuild_that_fails(self, operation: int, shard_size: int) -> None:
        state, forgotten = self.expected()
        before = load_current(self.bank).generation if generations(self.bank) else 0
        files.operations = 0
        os.environ["ZEUXIS_FAULT"] = f"{operation}:EIO"
        try:
            self.night(shard_size=shard_size)
        except (OSError, ZeuxisError):
            pass
        finally:
            del os.environ["ZEUXIS_FAULT"]
        after = load_current(self.bank).generation if generations(self.bank) else 0
        if after != before or (before and self.now == state):
            self.publish(state, dict(load_current(self.bank).forgotten) and forgotten)

    @rule(name=names)
    def forget(self, name: str) -> None:
        if name in self.now[0]:
            forget(f"folder/{name}", self.bank)
            good, refused = self.now
            state = ({other: id for other, id in good.items() if other != name}, refused)
            self.publish(state, {**self.forgotten, name: good[name]})

    @precondition(lambda self: len(self.states) > 1)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.states)[:-1]))
        state = self.states[number]
        if not set(self.forgotten) & set(state[0]) and not set(self.forgotten.values()) & set(state[0].values()):
            rollback(self.bank, number)
            self.publish(state, self.forgotten)

    @precondition(lambda self: self.states)
    @rule(keep=st.integers(1, 3))
    def collect(self, keep: int) -> None:
        collect(self.bank, keep)
        self.publish(self.now, self.forgotten)

    @precondition(lambda self: self.states)
    @rule(data=st.data(), where=st.floats(0, 1))
    def damage_and_repair(self, data: st.DataObject, where: float) -> None:
        self.rebuild(128, False)
        before = content(self.bank)
        found = sorted(path for of in load_current(self.bank).pieces(self.bank).values() for path in of)
        path = data.draw(st.sampled_from(found))
        flipped = bytearray(path.read_bytes())
        flipped[int(where * (len(flipped) - 1))] ^= 1
        path.write_bytes(flipped)
        assert repair(self.bank, workers=0).published
        assert content(self.bank) == before
        self.publish(self.now, self.forgotten)

    # what must be so

    @invariant()
    def the_bank_holds_what_the_model_says(self) -> None:
        if not self.states:
            return
        assert max(self.states) == max(generations(self.bank))
        rows = Reader(self.bank).table("sources", columns=["source", "source_id", "content"]).to_pylist()
        held = {row["source"].removeprefix("folder/"): row["source_id"] for row in rows}
        assert len(held) == len(rows)
        assert held == self.now[0]
        assert {name.removeprefix("folder/"): reason for name, reason in rejects(self.bank).items()} == self.now[1]
        for row in rows:
            key = row["source"], row["source_id"]
            assert self.contents.setdefault(key, row["content"]) == row["content"], "as when it was first taken in"
        content(self.bank)
        assert is_sound(self.bank)


def test_every_history_leaves_what_the_model_says() -> None:
    run_state_machine_as_test(Nights, settings=_settings(10, 12))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_long_history_leaves_what_the_model_says() -> None:
    run_state_machine_as_test(Nights, settings=_settings(150, 40))


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=examples < 100, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
