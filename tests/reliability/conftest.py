"""One fork server for all fault tests: its imports and kernels are paid for once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).absolute().parents[2]))  # whose `benchmarks` no installed package has

from benchmarks.reliability.server import TrialServer


@pytest.fixture(scope="package")
def server() -> Iterator[TrialServer]:
    """Runs trials on the fault points of the storage floor."""
    with TrialServer() as server:
        yield server
