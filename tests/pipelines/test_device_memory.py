"""GPUs without memory, on the CPU: threads take turns, what is made fewer at a time, which errors mean it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from zeuxis.pipelines.device_memory import AtOnce, is_out_of_memory
from zeuxis.storage.errors import UnfinishedError
from zeuxis.synth.turns import in_turn

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize(("devices", "most"), [(["cuda:0"], 1), (["cuda:0", "cuda:1"], 2), (["cpu"], 4)])
def test_threads_take_turns_on_a_gpu_whatever_becomes_of_one(devices: list[str], most: int):
    now = highest = 0
    lock = threading.Lock()

    def ask(number: int) -> None:
        nonlocal now, highest
        with suppress(KeyboardInterrupt), in_turn(torch.device(devices[number % len(devices)])):
            assert torch.is_inference_mode_enabled()
            with lock:
                now += 1
                highest = max(highest, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            if number % 3 == 0:
                raise KeyboardInterrupt

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(16)))
    assert highest == most


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
