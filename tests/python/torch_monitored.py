"""torch_monitored.py FOLDER: a training beside real monitors.

Every rank keeps the gradients that it has outside DDP; test_torch.py holds the
monitors' log against them.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as Ddp

import gradecho
from torch_support import RANK, batch, gradients, loss_of, network

STEPS, MICRO = 6, 2


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ddp = Ddp(network())
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    watch = gradecho.watch(
        ddp, accumulation=MICRO, loss_divisor=MICRO, slots=16, wait=30
    )
    kept = {}
    for step in range(STEPS):
        for micro in range(MICRO):
            data = batch(step, micro)
            for name, gradient in gradients(
                ddp.module,
                lambda m: loss_of(m, data),  # noqa: B023
            ).items():
                kept[f"{step}/{micro}/{name}"] = gradient.numpy()
            with ddp.no_sync() if micro < MICRO - 1 else nullcontext():
                loss = loss_of(ddp, data)
                watch.loss(step + RANK)
                (loss / MICRO).backward()
        optimizer.step()
        optimizer.zero_grad()
    # No close(): the last sample is handed over when the process ends.
    assert watch.failure is None, watch.failure
    assert watch.samples == STEPS - 1
    np.savez(folder / f"{RANK}.npz", **kept)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
