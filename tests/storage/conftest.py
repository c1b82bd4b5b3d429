"""Lets the tests of the storage floor share the small banks of `toybank`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from toybank import make_bank


@pytest.fixture(scope="session")
def finished_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources 0..2 and a reject in one shard, 3 and 4 in another. Not to be written to."""
    return make_bank(tmp_path_factory.mktemp("finished") / "bank", [0, 1, 2], [3, 4], rejects=["bad"])


@pytest.fixture
def bank(finished_bank: Path, tmp_path: Path) -> Path:
    """A copy of `finished_bank` to write to."""
    return Path(shutil.copytree(finished_bank, tmp_path / "bank"))
