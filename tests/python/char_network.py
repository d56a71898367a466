"""Gradients of a real network: a small MLP that reads real text.

One-hot characters before -> hidden -> hidden -> softmax over the next one,
trained a little, in plain NumPy. Then the gradient of one step is taken K times,
each over a minibatch of its own drawn from the text with replacement, and once
over the whole text: the true gradient, of which the K are unbiased and
independent estimates.

    char_network.py OUT.h5      writes the K replicas for `gradecho replay`, and
                                the true gradients under /truth
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LICENCES = Path("/usr/share/common-licenses")
DOCS = Path(__file__).resolve().parents[2] / "docs"
LENGTH = 40_000  # characters
CONTEXT = 4  # characters before
HIDDEN = (128, 96)
REPLICAS = 6
BATCH = 256
STEPS = 20


def text() -> str:
    """Real text, the same wherever the same files are."""
    paths = [LICENCES / name for name in ("GPL-3", "Apache-2.0")]
    if not all(path.is_file() for path in paths):
        paths = sorted(DOCS.glob("*.md"))
    found = "".join(path.read_text(encoding="utf-8") for path in paths)
    return found[:LENGTH]


class Network:
    """Weights [out x in], biases, and the loss over examples of the text."""

    def __init__(self, rng: np.random.Generator, source: str) -> None:
        symbols, codes = np.unique(list(source), return_inverse=True)
        self.count = len(symbols)
        self.context = np.lib.stride_tricks.sliding_window_view(codes, CONTEXT)[:-1]
        self.next = codes[CONTEXT:]
        sizes = [CONTEXT * self.count, *HIDDEN, self.count]
        self.weights = {}
        for i, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
            # One of the inputs of the first layer is 1 per character.
            fan = CONTEXT if i == 0 else n
            self.weights[f"layer.{i}.weight"] = rng.standard_normal((m, n)) / fan**0.5
            self.weights[f"layer.{i}.bias"] = np.zeros(m)

    @property
    def examples(self) -> int:
        return len(self.next)

    def gradient(self, which: NDArray[np.int64]) -> tuple[float, dict[str, Array]]:
        """Mean loss over these examples, and its gradient."""
        rows = np.arange(len(which))
        signal = np.zeros((len(which), CONTEXT * self.count))
        for place in range(CONTEXT):
            signal[rows, place * self.count + self.context[which, place]] = 1
        signals = [signal]
        last = len(HIDDEN)
        for i in range(last + 1):
            signal = signals[-1] @ self.weights[f"layer.{i}.weight"].T
            signal += self.weights[f"layer.{i}.bias"]
            signals.append(signal if i == last else np.tanh(signal))
        scores = signals[-1] - signals[-1].max(axis=1, keepdims=True)
        chance = np.exp(scores)
        chance /= chance.sum(axis=1, keepdims=True)
        loss = -np.log(chance[rows, self.next[which]]).mean()
        error = chance
        error[rows, self.next[which]] -= 1
        error /= len(which)
        gradients = {}
        for i in range(last, -1, -1):
            gradients[f"layer.{i}.weight"] = error.T @ signals[i]
            gradients[f"layer.{i}.bias"] = error.sum(axis=0)
            if i > 0:
                error = error @ self.weights[f"layer.{i}.weight"]
                error *= 1 - signals[i] ** 2
        return float(loss), gradients

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A minibatch, with replacement."""
        return rng.integers(self.examples, size=BATCH)

    def train(self, rng: np.random.Generator, steps: int, rate: float = 0.2) -> None:
        for _ in range(steps):
            _, gradients = self.gradient(self.draw(rng))
            for name, gradient in gradients.items():
                self.weights[name] -= rate * gradient

    def whole(self) -> tuple[float, dict[str, Array]]:
        """Loss and gradient over the whole text: the true gradient."""
        total, loss = {name: np.zeros_like(w) for name, w in self.weights.items()}, 0.0
        for part in np.array_split(np.arange(self.examples), 10):
            share = len(part) / self.examples
            some, gradients = self.gradient(part)
            loss += share * some
            for name, gradient in gradients.items():
                total[name] += share * gradient
        return loss, total


def make(seed: int = 1) -> tuple[dict[str, Array], dict[str, Array], list[float]]:
    """Replica gradients {layer: [K, ...]}, true ones, and the losses before and
    after training."""
    rng = np.random.default_rng(seed)
    network = Network(rng, text())
    before, _ = network.whole()
    network.train(rng, STEPS)
    after, truth = network.whole()
    drawn = [network.gradient(network.draw(rng))[1] for _ in range(REPLICAS)]
    replicas = {name: np.array([d[name] for d in drawn]) for name in truth}
    return replicas, truth, [before, after]


def main() -> None:
    import h5py

    replicas, truth, losses = make()
    with h5py.File(sys.argv[1], "w") as file:
        file.attrs["batch_size"] = float(BATCH)
        for name, gradients in replicas.items():
            file[f"gradients/{name}"] = gradients[None].astype(np.float32)
            file[f"truth/{name}"] = truth[name]
    print("loss {:.3f} before, {:.3f} after {} steps".format(*losses, STEPS))


if __name__ == "__main__":
    main()
