#!/usr/bin/env python3
"""The truncated SVD on gradients that nobody planted.

Trains a small transformer on a text that Debian has (PyTorch, half a minute), keeps
6 replicas of its gradients at 5 steps, and replays them twice: by LAPACK's complete
SVD (svd.tolerance: 0) and by the default. A mode with an echo of 0.5 or more must
have the same echo to 1e-3. Modes inside the bulk are not converged to: their echoes,
those of noise, must be the same to 0.02 in 99 % of the cases and to 0.1 in all. The
count of signal modes may differ by one in 5 % of the cases, where a mode is at the
threshold of the test. Run by hand:

    tests/python/real_gradients.py build/release/src/gradecho [--seed N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch

WIDTH, LENGTH, BATCH, REPLICAS = 256, 64, 16, 6
STEPS = (2, 20, 80, 160, 240)


class Network(torch.nn.Module):
    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbol = torch.nn.Embedding(symbols, WIDTH)
        self.place = torch.nn.Embedding(LENGTH, WIDTH)
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, 4, 3 * WIDTH, 0.0, batch_first=True, norm_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(layer, 2)
        self.out = torch.nn.Linear(WIDTH, symbols)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        later = torch.triu(torch.full((LENGTH, LENGTH), float("-inf")), 1)
        x = self.symbol(x) + self.place(torch.arange(LENGTH))
        return self.out(self.blocks(x, mask=later))


def text() -> torch.Tensor:
    words = Path("/usr/share/common-licenses/GPL-3").read_text()
    index = {symbol: i for i, symbol in enumerate(sorted(set(words)))}
    return torch.tensor([index[symbol] for symbol in words])


def record(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data = text()
    symbols = int(data.max()) + 1
    network = Network(symbols)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    layers = {n: p for n, p in network.named_parameters() if p.dim() == 2}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in layers}

    def backward() -> None:
        at = torch.randint(0, len(data) - LENGTH - 1, (BATCH,))
        rows = torch.stack([data[i : i + LENGTH + 1] for i in at])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            network(rows[:, :-1]).reshape(-1, symbols), rows[:, 1:].reshape(-1)
        ).backward()

    for step in range(max(STEPS) + 1):
        for _ in range(REPLICAS if step in STEPS else 0):
            backward()
            for name, layer in layers.items():
                assert layer.grad is not None
                kept[name].append(layer.grad.numpy().copy())
        backward()
        optimizer.step()
    with h5py.File(path, "w") as file:
        file.attrs["batch_size"] = BATCH
        for name, gradients in kept.items():
            shape = (len(STEPS), REPLICAS, *gradients[0].shape)
            file[f"gradients/{name.replace('.', '/')}"] = np.reshape(gradients, shape)


def measure(program: str, gradients: Path, tolerance: float) -> dict[str, np.ndarray]:
    log = gradients.with_suffix(f".{tolerance}.h5")
    subprocess.run(
        [program, "replay", gradients, "--log", log]
        + f"--set sample.echo_every=1 --set svd.tolerance={tolerance}".split(),
        check=True,
    )
    with h5py.File(log) as file:
        return {name: file[name][:] for name in ("echo", "signal_modes")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gradients.h5"
        record(path, options.seed)
        exact = measure(options.program, path, 0.0)
        found = measure(options.program, path, 1e-3)
    off = np.abs(found["echo"] - exact["echo"])
    known = np.isfinite(exact["echo"])
    clear = known & (exact["echo"] >= 0.5)
    signal = np.abs(found["signal_modes"] - exact["signal_modes"])
    print(
        f"{known.sum()} echoes, off by {np.median(off[known]):.1g} (median), "
        f"{np.quantile(off[known], 0.99):.2g} (99 %), {off[known].max():.2g} (most)\n"
        f"{clear.sum()} of 0.5 or more, off by {off[clear].max():.1g} (most)\n"
        f"{np.count_nonzero(signal)} of {signal.size} counts of signal modes differ"
    )
    same = np.array_equal(known, np.isfinite(found["echo"]))
    counts = signal.max() <= 1 and np.count_nonzero(signal) <= 0.05 * signal.size
    clear_same = off[clear].max() < 1e-3
    noise_same = np.quantile(off[known], 0.99) < 0.02 and off[known].max() < 0.1
    good = same and clear_same and noise_same and counts
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
