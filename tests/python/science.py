"""What the tests of the science share: a replay and its log, planted modes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import conftest as e2e  # noqa: E402  (needs the path above)
import reference  # noqa: E402
from conftest import Log, read_log, write_gradients  # noqa: E402, F401

Array = NDArray[np.float64]

EVERY = ("--set", "sample.echo_every=1")
BOTH = (*EVERY, "--set", "echo.estimator=both")
BATCH = 16.0


def replay(gradients: Path, log: Path, *options: str, ranks: int = 0) -> Log:
    command = e2e.gradecho("replay", gradients, "--log", log, *options, ranks=ranks)
    done = e2e.run(command)
    assert done.returncode == 0, done.stderr
    return read_log(log)


def planted(
    rng: np.random.Generator,
    rows: int,
    cols: int,
    replicas: int,
    samples: int = 1,
    rank: int = 6,
    scaled: float = 0.0,
) -> NDArray[np.float32]:
    """[sample, replica, rows, cols]: modes well apart, from far above the noise
    to about its edge; rows and columns scaled by exp(scaled * normal)."""
    rank = min(rank, rows, cols)
    edge = np.sqrt(rows) + np.sqrt(cols)
    truth, _, _ = reference.planted(rng, rows, cols, edge * np.geomspace(6, 0.8, rank))
    noise = rng.standard_normal((samples, replicas, rows, cols))
    noise *= np.exp(scaled * rng.standard_normal((rows, 1)))
    noise *= np.exp(scaled * rng.standard_normal(cols))
    return (truth + noise).astype(np.float32)


def values_of(of: reference.Evidence) -> tuple[Array, Array, Array]:
    return of.ratios()


def clear(of: reference.Evidence, least: float = 0.3) -> NDArray[np.bool_]:
    """Modes whose singular vectors single precision cannot mix."""
    echo, _, _ = values_of(of)
    return (echo > least) & (of.gap > 0.02 * of.s_mean[0])
