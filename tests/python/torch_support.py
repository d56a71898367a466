"""What the training processes of the PyTorch tests share.

Each process is one rank. It trains a small network beside a consumer of its own
(sample_dump), and compares what was handed over, bit by bit, with the gradients
that a copy of the network has outside DDP.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gradecho
from gradecho._watch import Watch

RANK = int(os.environ.get("RANK", "0"))
WORLD = int(os.environ.get("WORLD_SIZE", "1"))
IS_2 = not torch.__version__.startswith("1.")
DTYPES = {1: torch.float32, 2: torch.float64, 3: torch.float16, 4: torch.bfloat16}
PATIENCE = 30.0

Gradients = dict[str, Tensor]


class Net(nn.Module):
    """Tied weights, a frozen one, an unused one, one of each shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.mix = nn.Linear(16, 16)
        self.tied = nn.Linear(16, 16, bias=False)
        self.tied.weight = self.mix.weight
        self.frozen = nn.Linear(16, 16)
        self.frozen.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv(x)).mean(1).flatten(1)
        x = self.frozen(torch.tanh(self.mix(x)))
        y: Tensor = self.out(torch.tanh(self.tied(x)) * self.scale)
        return y


SHAPES = {  # the table that is expected of Net, in order
    "scale": (1, 1),
    "conv.weight": (4, 9),
    "conv.bias": (1, 4),
    "mix.weight": (16, 16),
    "mix.bias": (1, 16),
    "out.weight": (10, 16),
    "out.bias": (1, 10),
}


def network(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def batch(step: int, micro: int = 0, size: int = 6) -> tuple[Tensor, Tensor]:
    """Other data for each rank, step, and micro-batch."""
    generator = torch.Generator().manual_seed(1 + RANK + 16 * micro + 256 * step)
    x = torch.randn(size, 1, 6, 6, generator=generator)
    return x, torch.randint(0, 10, (size,), generator=generator)


def loss_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    loss: Tensor = nn.functional.cross_entropy(model(data[0]).float(), data[1])
    return loss


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def gradients(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Gradients:
    """Of a copy of the model, by no means but backward()."""
    twin = copy.deepcopy(model)
    twin.zero_grad()
    loss(twin).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in twin.named_parameters()
        if parameter.grad is not None
    }


@dataclass
class Sample:
    step: int
    replicas: int
    loss: float
    batch_size: float
    scale: float
    world: int
    mean_replicas: int
    data: list[Gradients]  # of each replica, as matrices; then the mean

    def same(self, replica: int, expected: Gradients) -> None:
        """This replica is, bit by bit, what is expected."""
        got = self.data[replica]
        assert set(got) == set(expected), set(got) ^ set(expected)
        for name, gradient in expected.items():
            rows = gradient.shape[0] if gradient.dim() > 1 else 1
            matrix = gradient.detach().reshape(rows, -1)
            assert got[name].dtype is gradient.dtype, name
            assert got[name].shape == matrix.shape, name
            assert torch.equal(got[name], matrix), (
                f"step {self.step} replica {replica} {name}: "
                f"{(got[name] - matrix).abs().max()}"
            )


def read_samples(path: Path) -> list[Sample]:
    samples = []
    with path.open("rb") as file:
        while line := file.readline():
            head = json.loads(line)
            data: list[Gradients] = [{} for _ in range(head["replicas"] + 1)]
            for replica, name, rows, cols, dtype, size in head.pop("layers"):
                raw = bytearray(file.read(size))
                values = torch.frombuffer(raw, dtype=DTYPES[dtype])
                data[replica][name] = values.view(rows, cols)
            head["loss"] = float(head["loss"])
            samples.append(Sample(**head, data=data))
    return samples


class Consumer:
    """sample_dump beside this rank."""

    def __init__(self, name: str, every: int = 1) -> None:
        self.session = f"{os.environ['GRADECHO_TEST_SESSION']}.{name}"
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "samples"
        self.process = subprocess.Popen(
            [
                os.environ["SAMPLE_DUMP_BIN"],
                self.session,
                str(RANK),
                str(every),
                str(self.path),
            ]
        )

    def watch(self, model: nn.Module, **options: Any) -> Watch:
        options.setdefault("slots", 16)
        return gradecho.watch(model, session=self.session, wait=PATIENCE, **options)

    def samples(self, watch: Watch, dropped: int = 0) -> list[Sample]:
        """All that was handed over, after the watch is closed."""
        watch.close()
        assert watch.failure is None, watch.failure
        assert self.process.wait(PATIENCE) == 0
        found = read_samples(self.path)
        assert len(found) == watch.samples
        assert watch.dropped == dropped
        assert all(sample.world == WORLD for sample in found)
        self.folder.cleanup()
        return found


@contextmanager
def warned(count: int, text: str = "") -> Iterator[None]:
    """Inside, gradecho warns `count` times, with this text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    about = [w for w in caught if issubclass(w.category, gradecho.GradechoWarning)]
    # They point at the training's own line.
    assert all(Path(w.filename).name.startswith("torch_") for w in about), about
    ours = [str(w.message) for w in about]
    assert len(ours) == count, ours
    assert all(text in line and "\n" not in line for line in ours), ours


SCENARIOS: list[Callable[[], None]] = []


def scenario(test: Callable[[], None]) -> Callable[[], None]:
    SCENARIOS.append(test)
    return test


def main(only: list[str]) -> None:
    """Run the scenarios in this rank; "ok NAME" for each that holds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    # What is not expected is a failure.
    warnings.simplefilter("error", gradecho.GradechoWarning)
    for test in SCENARIOS:
        if not only or test.__name__ in only:
            test()
            dist.barrier()
            os.write(1, f"ok {test.__name__}\n".encode())  # in one piece
    dist.barrier()
    dist.destroy_process_group()
