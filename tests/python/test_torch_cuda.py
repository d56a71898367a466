"""Gradients on a GPU: right, and not in the training's way."""

from __future__ import annotations

import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "python")]
os.environ.setdefault("GRADECHO_TEST_SESSION", f"torch-cuda-{os.getpid()}")

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from torch_support import Consumer, gradients  # noqa: E402

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: copies from a GPU"
)


def model(width: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(width, width) for _ in range(8)]
    return nn.Sequential(*layers).to("cuda", dtype)


def loss_of(x: torch.Tensor, net: nn.Module) -> torch.Tensor:
    return net(x).float().square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_arrives_is_the_gradient(dtype: torch.dtype) -> None:
    consumer = Consumer(f"cuda-{str(dtype)[6:]}")
    net = model(64, dtype)
    watch = consumer.watch(net, accumulation=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    expected = []
    for step in range(4):
        optimizer.zero_grad()
        truth = []
        for micro in range(2):
            torch.manual_seed(100 * step + micro)
            x = torch.randn(16, 64, device="cuda", dtype=dtype)
            truth.append(gradients(net, partial(loss_of, x)))
            loss = loss_of(x, net)
            watch.loss(loss)
            loss.backward()
        expected.append({"loss": loss.item(), "gradients": truth})
        optimizer.step()
        torch.cuda.synchronize()
        while watch._copier is not None and watch._copier.busy:
            time.sleep(0.001)
    samples = consumer.samples(watch)
    assert samples
    for sample in samples:
        for micro, truth in enumerate(expected[sample.step]["gradients"]):
            sample.same(micro, {n: g.cpu() for n, g in truth.items()})


def test_the_training_stream_does_not_wait() -> None:
    """Alternating in one run: steps that are watched, and that are not."""
    net = model(2048)
    x = torch.randn(4096, 2048, device="cuda")

    def step_ms(steps: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(steps):
            net.zero_grad(set_to_none=True)
            net(x).square().mean().backward()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / steps

    step_ms(5)
    bare = [step_ms(10) for _ in range(5)]
    consumer = Consumer("cuda-speed", every=5)
    watch = consumer.watch(net)
    step_ms(10)
    watched = [step_ms(10) for _ in range(5)]
    samples = consumer.samples(watch)
    assert samples
    ratio = statistics.median(watched) / statistics.median(bare)
    print(f"step with / without: {ratio:.3f} ({statistics.median(bare):.2f} ms)")
    # One copy of 134 MB takes 5 ms and more where a step is a few: a stream
    # that waited would take twice as long.
    assert ratio < 1.5
