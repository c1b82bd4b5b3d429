"""GPUs without memory, on the CPU: who takes turns, what is made fewer at a time, which errors mean it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from zeuxis.pipelines.device_memory import AtOnce, is_out_of_memory, take_turns
from zeuxis.storage.errors import UnfinishedError

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
]


class Busy(nn.Module):
    """Says how many threads were in it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.005)
        self.now -= 1
        if given.isnan().any():
            raise RuntimeError("no number")
        return 2 * given


@pytest.mark.parametrize(("device", "alone"), [("cuda", True), ("cpu", False)])
def test_networks_take_turns_on_a_gpu_whatever_becomes_of_one(device: str, alone: bool):
    network = Busy()
    take_turns(network, torch.device(device))

    def ask(value: float) -> bool:
        try:
            return bool(network(torch.tensor([value])) == 2 * value)
        except RuntimeError:
            return value != value

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, [1.0, float("nan")] * 8))
    assert (network.most == 1) == alone


def test_two_networks_of_a_device_take_turns_and_are_exported_as_before():
    first, second = nn.Linear(2, 2), Busy()
    for network in (first, second):
        take_turns(network, torch.device("cuda:7"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda network: network(torch.zeros(1, 2)), [first, second] * 4))
    assert second.most == 1
    given = (torch.ones(1, 2),)
    with torch.no_grad():
        assert torch.equal(torch.export.export(first, given).module()(*given), first(*given))


@pytest.mark.parametrize("error", FULL)
def test_a_batch_is_halved_until_it_fits_and_stays_so(error: RuntimeError):
    said: list[str] = []
    asked: list[int] = []
    at_once = AtOnce(8, said.append)

    def work(batch: int) -> int:
        asked.append(batch)
        if batch > 2:
            raise error
        return batch

    assert [at_once.made(work), at_once.made(work)] == [2, 2]
    assert asked == [8, 4, 2, 2]
    assert said == ["GPU: has not enough memory for 8 images at once: fewer are made together"]


@pytest.mark.parametrize("error", FULL)
def test_where_one_is_too_many_it_ends_in_a_sentence(error: RuntimeError):
    def work(batch: int) -> None:
        raise error

    with pytest.raises(UnfinishedError, match="memory for one image"):
        AtOnce(4).made(work)


def test_other_errors_pass():
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert not is_out_of_memory(error)

    def work(batch: int) -> None:
        raise error

    with pytest.raises(RuntimeError, match="illegal memory access"):
        AtOnce(1).made(work)
