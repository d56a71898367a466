"""A small convolutional network on handwritten digits, watched by gradecho.

    launch/gradecho-run -n 4 -- torchrun --nproc-per-node 4 examples/pytorch_ddp.py

The two lines that gradecho needs are marked. Without gradecho-run the training
is the same; without gradecho installed, the package of this tree is used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))

import gradecho  # 1


class Digits(nn.Module):
    """8 x 8 pixels to ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        y: Tensor = self.head(torch.relu(self.hidden(x.flatten(1))))
        return y


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32, help="examples per rank")
    parser.add_argument("--rate", type=float, default=0.05)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same network on all ranks
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(labels, dtype=torch.int64)
    # Replicas must be independent: no two ranks may read the same examples.
    x, y = x[rank::world], y[rank::world]
    draw = torch.Generator().manual_seed(rank)

    model = DistributedDataParallel(Digits())
    optimizer = torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9)
    watch = gradecho.watch(model, wait=10)  # 2

    for step in range(options.steps):
        pick = torch.randint(len(x), (options.batch,), generator=draw)
        loss = nn.functional.cross_entropy(model(x[pick]), y[pick])
        watch.loss(loss)  # if the log is to show it
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}", flush=True)

    if rank == 0:
        with torch.no_grad():
            right = (model.module(x).argmax(1) == y).float().mean().item()
        print(f"{right:.1%} of rank 0's digits are recognised", flush=True)
    watch.close()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
