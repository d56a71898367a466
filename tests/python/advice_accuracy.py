"""How far `gradecho inspect --advice` is off on planted gradients.

    GRADECHO_BIN=build/dev/src/gradecho python3 tests/python/advice_accuracy.py

Prints the figures of docs/reading.md. A gradient of ten modes, from far above
the noise to within it, under isotropic noise and under noise whose rows and
columns are scaled; the truth is what means at other batches, freshly drawn,
show of the planted modes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import reference  # noqa: E402  (needs the path above)
from conftest import gradecho, replay, run, write_gradients  # noqa: E402

Array = NDArray[np.float64]

ROWS, COLS, MODES, BATCH = 96, 128, 10, 16
BATCHES = np.geomspace(0.01, 32, 25)  # over today's
CASES = [(4, 0.0), (8, 0.0), (4, 0.5), (8, 0.5), (16, 0.5)]


@dataclass
class Case:
    advice: Any
    trusted: int  # true echo above 0.5 in today's mean, of the signal modes
    half: float  # batch from which on half of the signal modes have it


def overlaps(mean: Array, left: Array, right: Array) -> Array:
    """[planted mode, mode of the mean]"""
    u, _, v = np.linalg.svd(mean, full_matrices=False)
    found: Array = np.abs((left.T @ u) * (v @ right).T)
    return found


def crossing(echoes: Array) -> float:
    """Batch over today's at which a mode's echo passes 1/2."""
    above = np.flatnonzero(echoes > 0.5)
    if len(above) == 0 or above[0] == 0:
        return float(BATCHES[0] if len(above) else np.inf)
    i = above[0]
    part = (0.5 - echoes[i - 1]) / (echoes[i] - echoes[i - 1])
    return float(BATCHES[i - 1] ** (1 - part) * BATCHES[i] ** part)


def measure(seed: int, replicas: int, scaled: float) -> Case:
    rng = np.random.default_rng(seed)
    values = (np.sqrt(ROWS) + np.sqrt(COLS)) * np.geomspace(2.5, 0.25, MODES)
    gradient, left, right = reference.planted(rng, ROWS, COLS, values)
    profile = np.exp(scaled * rng.standard_normal((ROWS, 1)))
    profile = profile * np.exp(scaled * rng.standard_normal(COLS))
    profile /= np.sqrt((profile**2).mean())
    noise = profile * rng.standard_normal((1, replicas, ROWS, COLS))
    data = (gradient + noise).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = write_gradients(Path(folder) / "grads.h5", {"w": data}, BATCH)
        replay(path, Path(folder) / "log.h5")
        done = run(gradecho("inspect", Path(folder) / "log.h5", "--json"))
    told = json.loads(done.stdout)
    # Signal modes, and which planted mode each is; the best has it.
    layer = told["layers"][0]
    t = np.array(layer["mode_t"], dtype=float)
    signal = np.argsort(-t)[: int(layer["signal_modes"])]
    now = overlaps(data[0].mean(axis=0, dtype=float), left, right)[:, signal]
    which, best = now.argmax(axis=0), now.max(axis=0)
    own = np.array([b == best[which == w].max() for w, b in zip(which, best)])
    fresh = np.array([
        np.mean([
            overlaps(
                gradient + profile * rng.standard_normal((ROWS, COLS))
                / np.sqrt(replicas * batch), left, right,
            ).max(axis=1)
            for _ in range(4)
        ], axis=0)
        for batch in BATCHES
    ])
    knees = np.array([crossing(fresh[:, k]) for k in range(MODES)])
    sorted_knees = np.sort(np.where(own, knees[which], np.inf))
    half = sorted_knees[max(int(np.ceil(len(signal) / 2)) - 1, 0)]
    return Case(told["advice"], int((best > 0.5).sum()), half * replicas * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    seeds = range(parser.parse_args().seeds)
    print("   K scaled | half: silent  off  said | trust: off  said  within 2 se")
    for replicas, scaled in CASES:
        with ThreadPoolExecutor(2) as pool:
            cases = list(pool.map(lambda s: measure(s, replicas, scaled), seeds))  # noqa: B023
        knees = [(c.advice["knee"][0], c.half) for c in cases]
        said = [(k, truth) for k, truth in knees if k["silent"] is None]
        off = [np.log(k["batch"] / truth) for k, truth in said]
        errors = [np.log(k["high"] / k["low"]) / 2 for k, _ in said]
        trust = [c.advice["trust"] for c in cases]
        gap = np.array([x["modes"] - c.trusted for x, c in zip(trust, cases)])
        se = np.array([x["se"] for x in trust])
        rms = [np.sqrt(np.mean(np.square(x))) for x in (off, errors, gap, se)]
        print(
            f"{replicas:4} {scaled:6} | {len(cases) - len(said):8}/{len(cases)} "
            f"{rms[0]:6.2f} {rms[1]:5.2f} | {rms[2]:10.2f} {rms[3]:5.2f} "
            f"{np.mean(np.abs(gap) <= 2 * np.maximum(se, 0.25)):12.0%}"
        )


if __name__ == "__main__":
    main()
