"""CUDA graphs, by a stand-in on the CPU: how they are recorded, what they keep, who may replay them."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from zeuxis.synth.compiling import backends


@pytest.fixture
def cuda_on_the_cpu(monkeypatch) -> SimpleNamespace:
    """A stand-in for CUDA graphs on the CPU, which says on which device, in which stream and how it recorded."""

    class Stream:
        def __init__(self, device=None):
            self.device = device

        def wait_stream(self, other):
            pass

    class Graph:
        """What was called while it recorded is computed again from the same buffers."""

        def replay(self):
            for own, each in zip(self.made, self.call(*self.given), strict=True):
                own.copy_(each)

    seen = SimpleNamespace(device=None, stream=Stream(), recorded=[], at_once=0, most=0)

    @contextmanager
    def on(name, value):
        before = getattr(seen, name)
        setattr(seen, name, value)
        try:
            yield
        finally:
            setattr(seen, name, before)

    @contextmanager
    def recording(graph, stream, capture_error_mode):
        seen.at_once += 1
        seen.most = max(seen.most, seen.at_once)
        seen.recorded.append((seen.device, stream.device, capture_error_mode))
        before, seen.stream = seen.stream, stream
        time.sleep(0.005)
        yield
        seen.stream = before  # not where it fails, as in PyTorch
        seen.at_once -= 1

    monkeypatch.setattr(torch.cuda, "device", lambda device: on("device", device))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: on("stream", stream))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: seen.stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return seen


def doubled(given: Tensor) -> tuple[Tensor]:
    return (2 * given,)


def test_a_graph_is_recorded_on_its_own_device_and_stream_one_at_a_time(cuda_on_the_cpu):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: backends.Graphed(doubled, (torch.zeros(3),)), range(4)))
    assert cuda_on_the_cpu.most == 1
    cpu = torch.device("cpu")  # the device of its inputs, not the current one; other threads may allocate meanwhile
    assert cuda_on_the_cpu.recorded == [(cpu, cpu, "thread_local")] * 4


def test_what_was_recorded_lives_as_long_as_its_graph(cuda_on_the_cpu):
    """A graph holds addresses alone."""
    network = nn.Linear(3, 3)
    weight = weakref.ref(network.weight)
    graphed = backends.Graphed(network, (torch.zeros(1, 3),))
    del network
    gc.collect()
    assert weight() is not None
    del graphed
    gc.collect()
    assert weight() is None


def test_a_record_that_fails_leaves_the_stream_as_it_was(cuda_on_the_cpu):
    before, calls = cuda_on_the_cpu.stream, itertools.count()

    def failing(given: Tensor) -> Tensor:
        if next(calls) == 3:
            raise RuntimeError("operation not permitted when stream is capturing")
        return given

    with pytest.raises(RuntimeError, match="capturing"):
        backends.Graphed(failing, (torch.zeros(3),))
    assert cuda_on_the_cpu.stream is before


@pytest.mark.parametrize("recorded", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("asked", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_graph_may_be_recorded_and_asked_with_and_without_gradients(cuda_on_the_cpu, recorded, asked):
    with recorded():
        graphed = backends.Graphed(doubled, (torch.zeros(3),))
    graphed._graph.call, graphed._graph.given, graphed._graph.made = doubled, graphed._given, graphed._made
    with asked():
        for value in (1.0, 2.0):
            (found,) = graphed(torch.full((3,), value, requires_grad=True))
            assert torch.equal(found, torch.full((3,), 2 * value))
            assert not found.requires_grad


def test_replays_of_a_graph_do_not_meet_in_their_buffers():
    """Threads call one graph; its stand-in computes from the buffers that were recorded, while others could write."""

    class Graph:
        def replay(self) -> None:
            seen = given.clone()
            time.sleep(0.002)
            made.copy_(seen + given)
            time.sleep(0.002)

    given, made = torch.zeros(4), torch.zeros(4)
    graphed = backends.Graphed.__new__(backends.Graphed)
    graphed._given, graphed._made, graphed._graph = (given,), made, Graph()
    graphed._lock = threading.Lock()

    def ask(value: int) -> list[Tensor]:
        return [graphed(torch.full((4,), float(value))) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for value, answers in enumerate(pool.map(ask, range(4))):
            assert all(torch.equal(each, torch.full((4,), 2.0 * value)) for each in answers)
