"""Scenarios of copies that arrive later, with a stand-in for the GPU.

What a real one does is tested by test_torch_cuda.py where there is one. Here:
that a sample is published when its copies have arrived and not before, that the
training does not wait for them, and that the memory is page-locked once.
"""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from gradecho._copy import Copier
from torch_support import Consumer, batch, gradients, loss_of, network, scenario


class OnGpu(torch.Tensor):
    """In host memory, and says that it is not."""

    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    def record_stream(self, stream: Any) -> None:
        pass


class Gpu:
    """Copies have arrived once `arrived` is set."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.locked: list[tuple[int, int]] = []
        self.unlocked: list[int] = []

    def patches(self) -> Any:
        event = SimpleNamespace(synchronize=lambda: self.arrived.wait(30))
        stream = SimpleNamespace(
            wait_stream=lambda other: None,
            record_event=lambda: event,
            synchronize=lambda: self.arrived.wait(30),
        )
        cudart = SimpleNamespace(
            cudaHostRegister=self.lock, cudaHostUnregister=self.unlocked.append
        )
        return patch.multiple(
            torch.cuda,
            Stream=lambda device: stream,
            stream=lambda stream: nullcontext(),
            current_stream=lambda device: stream,
            cudart=lambda: cudart,
        )

    def lock(self, start: int, size: int, flags: int) -> int:
        ctypes.string_at(start, size)  # it is there, all of it
        self.locked.append((start, size))
        return 0


def put_from_gpu(self: Copier, replica: int, layer: int, gradient: Tensor) -> None:
    put(self, replica, layer, gradient.as_subclass(OnGpu))  # type: ignore


put = Copier.put


@scenario
def a_sample_is_published_when_its_copies_have_arrived() -> None:
    consumer, gpu = Consumer("stream"), Gpu()
    model = network()
    expected = {}

    def step(number: int) -> None:
        for micro in range(2):
            loss_of(model, batch(number, micro)).backward()
        expected[number] = [
            gradients(model, lambda m: loss_of(m, batch(number, micro)))  # noqa: B023
            for micro in range(2)
        ]

    with gpu.patches(), patch.object(Copier, "put", put_from_gpu):
        watch = consumer.watch(model, accumulation=2)
        step(0)
        step(1)  # while the copies of step 0 are under way
        assert watch._copier is not None
        assert (watch.samples, watch._copier.busy) == (0, True)
        gpu.arrived.set()
        while watch._copier.busy:
            time.sleep(0.001)
        assert watch.samples == 1
        step(2)
        samples = consumer.samples(watch, dropped=1)
    assert [s.step for s in samples] == [0, 2]
    for sample in samples:
        for micro in range(2):
            sample.same(micro, expected[sample.step][micro])
    assert len(gpu.locked) == 1
    assert gpu.unlocked == [gpu.locked[0][0]]


@scenario
def two_backward_passes_add_up_on_the_gpu() -> None:
    consumer, gpu = Consumer("stream-twice"), Gpu()
    gpu.arrived.set()
    model = nn.Linear(3, 2)

    def loss(m: nn.Module) -> Tensor:
        y: Tensor = m(torch.ones(4, 3))
        return y.square().sum()

    once = gradients(model, loss)
    with gpu.patches(), patch.object(Copier, "put", put_from_gpu):
        watch = consumer.watch(model)
        result = loss(model)
        result.backward(retain_graph=True)
        result.backward()
        (sample,) = consumer.samples(watch)
    sample.same(0, {name: gradient + gradient for name, gradient in once.items()})


@scenario
def a_gradient_that_is_kept_is_not_given_to_the_parameter() -> None:
    """What the copies from a GPU rely on."""
    parameter = nn.Parameter(torch.ones(8))
    kept: list[Tensor] = []
    parameter.register_hook(kept.append)
    (parameter * torch.rand(8)).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.data_ptr() != kept[0].data_ptr()
