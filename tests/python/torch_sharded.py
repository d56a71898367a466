"""Scenarios of fully_shard(), which torch 1.13 does not have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel as Fsdp1
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import gradecho
from torch_support import (
    RANK,
    WORLD,
    Consumer,
    gradients,
    scenario,
)


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
        self.out = nn.Linear(12, 5)
        self.gain = nn.Parameter(torch.ones(12))  # of the root itself

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        y: Tensor = self.out(x * self.gain)
        return y


def data(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(RANK + 16 * step)
    return torch.randn(6, 12, generator=generator)


def shard(model: Blocks, **options: Any) -> Blocks:
    mesh = init_device_mesh("cpu", (WORLD,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    return model


def follow(name: str, every: int, **options: Any) -> None:
    """The model is trained sharded; the same steps on a whole copy tell what
    each rank's gradient is before the reduce-scatter."""
    torch.manual_seed(0)
    whole = Blocks()
    consumer = Consumer(name, every)
    sharded = Blocks()
    sharded.load_state_dict(whole.state_dict())
    shard(sharded, **options)
    watch = consumer.watch(sharded)
    optimizer = torch.optim.SGD(sharded.parameters(), lr=0.1)
    expected = []
    for step in range(5):
        for mine, theirs in zip(whole.parameters(), sharded.parameters()):
            mine.data.copy_(theirs.full_tensor())
        expected.append(
            gradients(whole, lambda m: m(data(step)).square().mean())  # noqa: B023
        )
        optimizer.zero_grad()
        sharded(data(step)).square().mean().backward()
        optimizer.step()
    samples = consumer.samples(watch)
    assert [s.step for s in samples] == list(range(0, 5, every))
    for sample in samples:
        assert list(sample.data[0]) == [n for n, _ in whole.named_parameters()]
        if options:
            for n, gradient in expected[sample.step].items():
                got = sample.data[0][n].view(gradient.shape)
                assert torch.equal(got, got.bfloat16().float())
                torch.testing.assert_close(got, gradient, rtol=0.2, atol=5e-3)
        else:
            sample.same(0, expected[sample.step])


@scenario
def sharded_gradients_are_whole() -> None:
    follow("sharded", 1)
    follow("sharded-some", 2)


@scenario
def sharded_in_mixed_precision() -> None:
    follow(
        "sharded-mixed",
        1,
        mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16),
    )


@scenario
def what_is_not_supported_says_so() -> None:
    for model in (Fsdp1(Blocks(), device_id=torch.device("cpu")), nn.Linear):
        try:
            gradecho.watch(model, session="never")
        except gradecho.GradechoError as error:
            assert "fully_shard()" in str(error)
        else:
            raise AssertionError("accepted")
