"""A fork server for fault tests: imports and kernels are ready, each trial forks, is struck once, and is judged.

`python -m benchmarks.reliability.trials` reads requests from its standard input, one JSON line each, and answers with
one JSON line a trial. It holds no thread and no LMDB environment of its own, so that a fork of it is a fresh process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zeuxis.storage import environments, files
from zeuxis.storage.manifest import generations

from .forks import DONE, KILLED, RAISED, End, forked, spread
from .judging import State, first_lines, judge, names_in
from .plants import PLANTS
from .power import Moment, Recorder, Replay
from .world import SCENARIOS, copy_bank, make_world, scratch_folder

MODES = ("kill", "EIO", "ENOSPC", "short")


class Points:
    """The fault points of `storage/files`; they are counted, recorded and struck in a forked child."""

    name = "ZEUXIS_FAULT"

    def __init__(self, bank: Path) -> None:
        files.operations = 0

    def record(self) -> list[str]:
        """From now on, what every operation is: the function and the path."""
        told: list[str] = []
        point = files.fault_point

        def noted(path: Path) -> bool:
            what = f"{sys._getframe(1).f_code.co_name} {path}"
            told.append(f"fsync {path}" if told and told[-1] == what else what)  # a write, then its fsync
            return point(path)

        files.fault_point = noted
        return told

    @staticmethod
    def count() -> int:
        return files.operations


class Calls:
    """The calls into the C library, by the preloaded shim: what LMDB and Arrow write by themselves is among them."""

    name = "ZEUXIS_SHIM"

    def __init__(self, bank: Path) -> None:
        os.environ["ZEUXIS_SHIM_FOLDER"] = os.path.realpath(bank)
        self._log = bank.parent / f"{bank.name}.calls"

    def record(self) -> list[str]:
        self._log.unlink(missing_ok=True)
        os.environ["ZEUXIS_SHIM_LOG"] = str(self._log)
        return _LinesLater(self._log)

    @staticmethod
    def count() -> int:
        return int(ctypes.CDLL(None).fault_shim_operations())


class _LinesLater(list[str]):
    """The lines of a file that is still being written, read when they are iterated over."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._path.read_text().splitlines())


LAYERS: dict[str, type[Points] | type[Calls]] = {"points": Points, "calls": Calls}


class Scenario:
    """A writer's work in a world, and the two states of the bank that may be found afterwards.

    Args:
        world: the folder of `make_world`.
        name: one of `SCENARIOS`; layer: one of `LAYERS`; plant: one of `PLANTS`, a defect that the writer gets.
    """

    def __init__(self, world: Path, name: str, layer: str, plant: str | None) -> None:
        self.world, self.work, self.layer = world, SCENARIOS[name], LAYERS[layer]
        self.plant = PLANTS[plant] if plant else None
        self.old = _state(world / self.work.base)
        clean = copy_bank(world / self.work.base, world / f"clean-{name}-{layer}-{plant}")
        recorded = forked(lambda: self._recorded(clean))
        if recorded.how != DONE:
            raise RuntimeError(f"the clean run of {name} {recorded}")
        self.operations: list[str] = recorded.said
        self.new = _state(clean)
        self.left = generations(clean)
        self.seconds = recorded.seconds
        forked(lambda: self.work.do(self.world, clean))  # what is left of a struck run is the next one's to remove
        self.names = names_in(clean)
        shutil.rmtree(clean)

    def _recorded(self, bank: Path) -> list[str]:
        layer = self.layer(bank)
        told, before = layer.record(), layer.count()
        self.work.do(self.world, bank)
        operations = list(told)
        assert len(operations) == layer.count() - before, "not every operation was recorded"
        return operations

    def trial(self, number: int, mode: str, second: str = "") -> dict[str, Any]:
        """Strikes operation `number`, judges, runs again (struck too, where `second` says so), and judges again."""
        bank = copy_bank(self.world / self.work.base, self.world / f"trial-{os.getpid()}-{number}-{mode}")
        wrong: list[str] = []
        ends = [self._struck(bank, f"{number}:{mode}", wrong)]
        if second:
            ends.append(self._struck(bank, second, wrong, surely=False))
        found = self._completed(bank, wrong)
        what = self.operations[number - 1].replace(str(self.world), "")
        return {
            "number": number, "mode": mode, "second": second, "what": what, "ends": ends,
            "end": "new" if found == self.new else "old", "wrong": first_lines(wrong),
        }  # fmt: skip

    def traced(self) -> tuple[list[Moment], Path]:
        """Every moment of a run, and where the contents of files lie."""
        bank = copy_bank(self.world / self.work.base, self.world / "traced")
        store = self.world / "contents"

        def work() -> list[Moment]:
            if self.plant:
                self.plant()
            recorder = Recorder(bank, store)
            self.work.do(self.world, bank)
            return recorder.end()

        end = forked(work)
        if end.how != DONE:
            raise RuntimeError(f"the traced run {end}")
        shutil.rmtree(bank)
        return [Moment(*moment) for moment in end.said], store

    def power_loss(self, replay: Replay, seed: int) -> dict[str, Any]:
        """The disk after a power loss at a random moment, every fifth time right after the run had ended."""
        drawn = random.Random(seed)
        last = len(replay) - 1
        moment = last if seed % 5 == 0 else drawn.randrange(len(replay))
        bank = self.world / f"lost-{os.getpid()}-{seed}"
        wrong: list[str] = []
        replay.write(moment, bank, drawn)
        found = self._completed(bank, wrong)
        if moment == last and found != self.new:
            wrong.append(f"the run had ended, and {found} was there, not {self.new}")
        return {
            "number": moment, "mode": "power", "second": "", "what": f"seed {seed}", "ends": ["lost"],
            "end": "new" if found == self.new else "old", "wrong": first_lines(wrong),
        }  # fmt: skip

    def killed(self, seed: int) -> dict[str, Any]:
        """`kill -9` of a live writer at a random time; one that was done does not count: another is begun."""
        drawn, wrong, missed = random.Random(seed), list[str](), -1
        bank = self.world / f"killed-{os.getpid()}-{seed}"
        end = End(DONE, None)
        while end.how == DONE:
            missed += 1
            shutil.rmtree(bank, ignore_errors=True)
            copy_bank(self.world / self.work.base, bank)
            end = forked(self._planted(bank), kill_after=drawn.uniform(0, self.seconds))
        if end.how != KILLED:
            wrong.append(f"the run {end.how}: {end.said}")
        found = self._completed(bank, wrong)
        return {
            "number": missed, "mode": "killed", "second": "", "what": f"seed {seed}", "ends": [end.how],
            "end": "new" if found == self.new else "old", "wrong": first_lines(wrong),
        }  # fmt: skip

    def _planted(self, bank: Path) -> Callable[[], bool]:
        def work() -> bool:
            if self.plant:
                self.plant()
            self.work.do(self.world, bank)
            return True

        return work

    def _completed(self, bank: Path, wrong: list[str]) -> State | None:
        """What is found, which must be the old state or the new one; the next run must leave the new one.

        The bank is removed.
        """

        def work() -> Any:
            before = judge(bank)
            close_environments()
            if self.plant:
                self.plant()
            gc.collect()  # whoever still reads pins what the run would remove
            self.work.do(self.world, bank)
            return before, judge(bank), names_in(bank)

        end = forked(work)
        shutil.rmtree(bank)
        if end.how != DONE:
            wrong.append(f"the next run {end.how}: {end.said}")
            return None
        (before, faults), (after, later), names = end.said
        wrong += [*faults, *(f"after the next run: {each}" for each in later)]
        wrong += [f"{name} is left or missing after the next run" for name in sorted(set(names) ^ set(self.names))]
        found = State(*before) if before else None
        if found not in (self.old, self.new):
            wrong.append(f"{found} was found, neither {self.old} nor {self.new}")
        if after is None or State(*after) != self.new:
            wrong.append(f"the next run leaves {after}, a clean one {self.new}")
        return found

    def _struck(self, bank: Path, fault: str, wrong: list[str], surely: bool = True) -> str:
        """How the run ended that a fault struck; one that was not struck is wrong, unless it had less to do."""

        def work() -> bool:
            layer = self.layer(bank)
            if self.plant:
                self.plant()
            os.environ[layer.name] = fault
            try:
                self.work.do(self.world, bank)
            finally:
                del os.environ[layer.name]
                if surely and layer.count() < int(fault.partition(":")[0]):
                    raise AssertionError("the fault did not strike")
            return True

        end = forked(work)
        if end.how not in (DONE, RAISED, KILLED) or (surely and (end.how == KILLED) != fault.endswith(":kill")):
            wrong.append(f"the run struck at {fault} {end.how}: {end.said}")
        return end.how if end.how != RAISED else f"raised {end.said[0]}"

    def trials(
        self, sample: int | None, seed: int, modes: Sequence[str], after: str | None, only: str
    ) -> list[tuple[int, str, str]]:
        """Every operation with every mode, `short` where bytes are written; or so many, at random, and the last one."""
        functions = [what.split()[0] for what in self.operations]
        first = functions.index(after) + 1 if after else 0
        chosen = [
            (number, mode, "")
            for number, function in enumerate(functions, start=1)
            for mode in modes
            if number > first and only in self.operations[number - 1] and (mode != "short" or "write" in function)
        ]
        if not sample or sample >= len(chosen):
            return chosen
        return [*sorted(random.Random(seed).sample(chosen[:-1], sample - 1)), chosen[-1]]

    def twice(self, count: int, seed: int) -> list[tuple[int, str, str]]:
        """Kills at random operations, followed by a second fault at one of the first operations of the next run."""
        drawn = random.Random(seed)
        total = len(self.operations)
        return [
            (drawn.randint(1, total), "kill", f"{drawn.randint(1, 4)}:{drawn.choice(MODES[:3])}") for _ in range(count)
        ]


def _state(bank: Path) -> State:
    state, wrong = forked(lambda: judge(bank)).said
    if wrong or state is None:
        raise RuntimeError(f"{bank} is not sound to begin with: {wrong}")
    return State(*state)


def answer(world: Path, request: Mapping[str, Any]) -> Iterator[str]:
    """The trials of one scenario, a line of JSON each.

    Args:
        world: of `make_world`.
        request: `scenario`, and if wanted `layer`, `plant`, `sample` (so many trials, drawn by `seed`), `modes` (none:
            no such trials), `after` (only operations after the first of that name), `only` (those whose path holds
            this), `twice` (so many in which the run that follows is struck too), `losses` (so many power losses),
            `kills` (so many writers killed at a random time), `processes`.
    """
    scenario = Scenario(world, request["scenario"], request.get("layer", "points"), request.get("plant"))
    seed = request.get("seed", 0)
    chosen = scenario.trials(
        request.get("sample"), seed, request.get("modes", MODES), request.get("after"), request.get("only", "")
    )
    chosen += scenario.twice(request.get("twice", 0), seed)
    tasks = [partial(scenario.trial, *one) for one in chosen]
    if losses := request.get("losses", 0):
        replay = Replay(*scenario.traced())
        tasks += [partial(scenario.power_loss, replay, seed + number) for number in range(losses)]
    tasks += [partial(scenario.killed, seed + number) for number in range(request.get("kills", 0))]
    head = {"operations": len(scenario.operations), "trials": len(tasks), "generations": scenario.left}
    yield json.dumps(head) + "\n"
    yield from spread(tasks, request.get("processes", 2))


def serve() -> None:
    """Answers requests until there are no more."""
    in_warm_process(_serve)


def in_warm_process(work: Callable[[Path], Any]) -> Any:
    """What `work` returns, given a new world, in a process that has the kernels and no thread: one to fork from.

    The world is made and read in a process of its own, which compiles the kernels and leaves a few idle threads of
    Arrow's behind; its child has the ones and not the others.
    """

    def warmed() -> End:
        with scratch_folder() as folder:
            world = Path(folder)
            make_world(world)
            for name in {each.base for each in SCENARIOS.values()}:
                judge(world / name)
            close_environments()
            return forked(lambda: work(world), seconds=0)

    end = forked(warmed, seconds=0)
    if end.how != DONE or End(*end.said).how != DONE:
        raise RuntimeError(f"{work} {end}")
    return End(*end.said).said


def _serve(world: Path) -> None:
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads run in a process that is to be forked")
    for line in sys.stdin:
        for said in answer(world, json.loads(line)):
            sys.stdout.write(said)
        sys.stdout.write("\n")
        sys.stdout.flush()


def close_environments() -> None:
    """Closes what LMDB this process has open for reading."""
    with environments._lock:
        while environments._environments:
            environments._environments.popitem()[1].close()


if __name__ == "__main__":
    serve()
