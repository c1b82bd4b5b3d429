"""What several tests share: kernels, a Dask cluster that is started once, small photographs, the real data."""

import fcntl
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FIRST = ("tests/index/test_search.py", "tests/reliability/", "tests/synth/")
"""Where several processes run tests: one compiles the kernels of the search while the others need few of them. Those on
reliability fork, which must not be done where compiled networks have started threads."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of `FIRST` before the others."""

    def place(item: pytest.Item) -> int:
        return next((k for k, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))

    items.sort(key=place)


@dataclass
class Photos:
    """A `folder` data set: PNG photographs of noise that the name decides, and index label maps."""

    root: Path

    @property
    def spec(self) -> str:
        return f"folder:{self.root}"

    def image(self, name: str) -> Path:
        return self.root / "images" / f"{name}.png"

    def label(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"

    def add(self, *names: str, labels: np.ndarray | None = None, depth: np.ndarray | None = None) -> None:
        """Adds sources; by default of 48x64 pixels in four classes, with about five components."""
        for name in names:
            random = np.random.default_rng(zlib.crc32(name.encode()))
            chosen = blocks(random) if labels is None else labels
            self.write(self.image(name), random.integers(0, 256, (*chosen.shape[:2], 3), np.uint8))
            self.write(self.label(name), chosen)
            if depth is not None:
                self.write(self.root / "depths" / f"{name}.png", depth)

    def write(self, path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    def remove(self, *names: str) -> None:
        for name in names:
            self.image(name).unlink()
            self.label(name).unlink()


def blocks(random: np.random.Generator) -> np.ndarray:
    """`(48, 64)` uint8: a sky over a ground, three boxes of two classes on them, a patch of void."""
    labels = np.zeros((48, 64), np.uint8)
    labels[random.integers(20, 28) :] = 1
    for label, row, col in ((2, 1, 2), (3, 1, 36), (2, 28, 36), (255, 28, 2)):
        top, left = row + random.integers(0, 5), col + random.integers(0, 7)
        labels[top : top + random.integers(8, 14), left : left + random.integers(8, 20)] = label
    return labels


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """An empty folder data set."""
    return Photos(tmp_path / "photos")


@pytest.fixture
def more_photos(tmp_path: Path) -> Photos:
    """Another one."""
    return Photos(tmp_path / "more")


@pytest.fixture(scope="session", autouse=True)
def kernels_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where several processes run tests, one compiles a kernel; who needs it meanwhile waits, and loads it."""
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    locks, compiled = tmp_path_factory.getbasetemp().parent, Dispatcher.compile

    def compiled_or_loaded(kernel: Any, signature: Any) -> Any:
        if kernel._cache.cache_path is None:
            return compiled(kernel, signature)
        name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}.lock"
        with global_compiler_lock, open(locks / name, "w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            return compiled(kernel, signature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compiled_or_loaded)
        yield


@pytest.fixture(scope="session")
def dask_address() -> Iterator[str]:
    """Address of a scheduler with two workers in threads of this process: tests may patch what they run."""
    from distributed import LocalCluster

    options: dict[str, Any] = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, protocol="tcp", host="127.0.0.1", **options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def rebuild_bank(tmp_path: Path, dask_address: str) -> Callable[..., Any]:
    """`rebuild` into `tmp_path/bank` by default, on the shared cluster, without key patches."""
    from zeuxis.pipelines.rebuild import rebuild

    def run(dataset: str | list[str], bank: Path = tmp_path / "bank", **options: Any) -> Any:
        return rebuild(dataset, bank, **{"scheduler": dask_address, "patches": False, "min_area": 16} | options)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs; skips the test where there is none."""
    path = Path(__file__).resolve().parents[2] / "shared/data"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch in one thread: small networks are faster so, and the same to the bit however many cores there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seeded() -> None:
    """Torch's random numbers begin anew."""
    import torch

    torch.manual_seed(0)
