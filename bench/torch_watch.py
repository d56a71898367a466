"""What gradecho.watch() adds to a training step.

    cmake --build build/dev && SAMPLE_DUMP_BIN=build/dev/tests/sample_dump \\
        python3 tests/python/spawn.py 2 python3 bench/torch_watch.py

The same network under DDP without a watch, with one whose steps are not
sampled, and with one that hands over every step, in turns in one run: ratios of
medians, of the time that a step takes and of the processor time that it uses,
which other load on the machine changes less. A consumer takes the samples.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TREE / "python"), str(TREE / "tests" / "python")]
os.environ.setdefault("GRADECHO_TEST_SESSION", f"torch-bench-{os.getppid()}")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import gradecho  # noqa: E402
from torch_support import Consumer  # noqa: E402

ROUNDS, STEPS = 12, 5
NEVER = 10**15


class Training:
    def __init__(self, width: int, depth: int, examples: int) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(width, width) for _ in range(depth)]
        self.model = DistributedDataParallel(nn.Sequential(*layers))
        self.x = torch.randn(examples, width)
        self.times: list[tuple[float, float]] = []  # wall, processor

    def run(self) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            self.model.zero_grad()
            self.model(self.x).square().mean().backward()
        self.times.append((time.perf_counter() - wall, time.process_time() - processor))
        dist.barrier()

    def medians(self) -> tuple[float, float]:
        wall, processor = (statistics.median(t) for t in zip(*self.times))
        return wall, processor


def compare(width: int, depth: int, examples: int) -> None:
    trainings = [Training(width, depth, examples) for _ in range(3)]
    bare, idle, busy = trainings
    consumers = [Consumer(f"idle{width}", NEVER), Consumer(f"busy{width}", 1)]
    watches = [
        consumer.watch(training.model, slots=4)
        for consumer, training in zip(consumers, (idle, busy))
    ]
    watches[0].step = 1  # 0 is a multiple of everything
    for training in trainings:
        training.run()
        training.times.clear()
    for _ in range(ROUNDS):
        for training in trainings:
            training.run()
    watches[1].close()
    assert watches[1].samples > ROUNDS
    if dist.get_rank() > 0:
        return
    wall, processor = bare.medians()
    print(
        f"torch {torch.__version__}, {dist.get_world_size()} ranks, {2 * depth} "
        f"parameters, {width * (width + 1) * depth * 4e-6:.1f} MB, step "
        f"{wall / STEPS * 1e3:.2f} ms, with a watch:"
    )
    for name, training in (("not sampled", idle), ("every step", busy)):
        w, p = training.medians()
        print(f"  {name:12}  wall x {w / wall:.3f}  processor x {p / processor:.3f}")


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    warnings.simplefilter("ignore", gradecho.GradechoWarning)  # "no sample"
    for size in ((32, 100, 16), (256, 50, 64), (1024, 8, 128)):
        compare(*size)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
