"""How often noise is called signal, how often signal is found, over many draws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from science import EVERY, Array, Log, reference, replay, write_gradients

SHAPES = [(64, 64), (128, 256), (300, 40)]
POOLED = 100  # samples of each shape
KINDS = {"isotropic": 0.0, "scaled": 1.0}


def draw_noise(
    rng: np.random.Generator, shape: tuple[int, int], count: int, replicas: int,
    log_sigma: float,
) -> NDArray[np.float32]:
    """Every sample with rows and columns of its own loudness."""
    noise = rng.standard_normal((count, replicas, *shape), dtype=np.float32)
    rows = rng.standard_normal((count, 1, shape[0], 1))
    cols = rng.standard_normal((count, 1, 1, shape[1]))
    noise *= np.exp(log_sigma * rows).astype(np.float32)
    noise *= np.exp(log_sigma * cols).astype(np.float32)
    return noise


def measure_noise(folder: Path, replicas: int, kind: str) -> list[Log]:
    logs = []
    for i, shape in enumerate(SHAPES):
        name = f"{kind}-{replicas}-{i}"
        rng = np.random.default_rng([7, replicas, i, len(kind)])
        data = draw_noise(rng, shape, POOLED, replicas, KINDS[kind])
        path = write_gradients(folder / f"{name}.h5", {"w": data})
        logs.append(replay(path, folder / f"{name}.log.h5", *EVERY))
        path.unlink()
    return logs


@pytest.fixture(scope="module")
def pure_noise(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[int, str], list[Log]]:
    folder = tmp_path_factory.mktemp("noise")
    cases = [(k, kind) for k in (8, 4, 3, 2) for kind in KINDS]
    with ThreadPoolExecutor(2) as pool:
        logs = pool.map(lambda case: measure_noise(folder, *case), cases)
        return dict(zip(cases, logs, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replicas", [2, 3, 4, 8])
def test_noise_is_not_called_signal(
    pure_noise: dict[tuple[int, str], list[Log]], replicas: int, kind: str
) -> None:
    signals = [log["signal_modes"][:, 0] for log in pure_noise[replicas, kind]]
    rates = [float((x > 0).mean()) for x in signals]
    print(f"K = {replicas}, {kind}: false signal in "
          + ", ".join(f"{r:.1%} ({m}x{n})"
                      for r, (m, n) in zip(rates, SHAPES, strict=True)))
    none = np.concatenate(signals) == 0
    assert len(none) == len(SHAPES) * POOLED
    assert none.mean() >= 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replicas", [4, 8])
def test_independent_replicas_do_not_look_alike(
    pure_noise: dict[tuple[int, str], list[Log]], replicas: int, kind: str
) -> None:
    logs = pure_noise[replicas, kind]
    worst = np.concatenate([log["residual_correlation_max"] for log in logs])
    print(f"K = {replicas}, {kind}: largest residual correlation {worst.max():.2f}, "
          f"above 0.5 in {(worst > 0.5).mean():.1%}")
    assert len(worst) >= 300
    # What `gradecho inspect` warns of.
    assert worst.max() <= (0.5 if kind == "isotropic" else 0.8)


ECHO, PLANTED_SAMPLES = 0.6, 100  # of each shape


def true_echo(replicas: Array, u: Array, v: Array) -> float:
    """Mean overlap of (u, v) with the replicas' modes nearest to it."""
    most = []
    for replica in replicas:
        left, _, right = reference.modes(replica, 24)
        most.append(np.abs((u @ left) * (v @ right)).max())
    return float(np.mean(most))


def strength(
    noise: Array, u: Array, v: Array, low: float, high: float, rounds: int = 9
) -> float:
    """Singular value whose true echo in this noise is ECHO: bisection."""
    for _ in range(rounds):
        s = np.sqrt(low * high)
        more = true_echo(noise + s * np.outer(u, v), u, v) < ECHO
        low, high = (s, high) if more else (low, s)
    return float(np.sqrt(low * high))


def rows_of(replicas: Array, u: Array, v: Array) -> tuple[int, int]:
    """Which mode of the log a planted one is: the one whose matched modes of
    the replicas have most of it, which is what echo, gain and t of the log are
    about; and the mode of the mean that has most of it, which is another one
    where the noise has mixed it with a loud direction of its own."""
    left, _, right = reference.modes(replicas.mean(axis=0), 16)
    matched = [reference.match(*reference.modes(x, 24), left, right) for x in replicas]
    echoes = np.mean([np.abs((u @ a) * (v @ b)) for a, _, b in matched], axis=0)
    return int(echoes.argmax()), int(np.abs((u @ left) * (v @ right)).argmax())


def plant(
    folder: Path, replicas: int, kind: str, shape: tuple[int, int]
) -> tuple[int, int, int, list[float]]:
    """Found, found by the mode of the mean alone, all, and true echoes of modes
    planted in noise, one a sample."""
    rng = np.random.default_rng([8, replicas, shape[0], len(kind)])
    data = draw_noise(rng, shape, PLANTED_SAMPLES, replicas, KINDS[kind])
    echoes, modes = [], []
    for i, noise in enumerate(data):
        u, v = (x / np.linalg.norm(x) for x in map(rng.standard_normal, shape))
        size = np.linalg.norm(noise.astype(float)) / np.sqrt(replicas)
        s = strength(noise[:2].astype(float), u, v, size / 50, 3 * size)
        data[i] += (s * np.outer(u, v)).astype(np.float32)
        modes.append((u, v))
        echoes.append(true_echo(data[i][:2].astype(float), u, v))
    name = f"planted-{kind}-{replicas}-{shape[0]}"
    path = write_gradients(folder / f"{name}.h5", {"w": data})
    log = replay(path, folder / f"{name}.log.h5", *EVERY)
    found = np.zeros(2, dtype=int)
    for i, (u, v) in enumerate(modes):
        t = log.of("w", "mode_t")[i, list(rows_of(data[i].astype(float), u, v))]
        found += (t > reference.threshold(16)) & (log.of("w", "signal_modes")[i] >= 1)
    return int(found[0]), int(found[1]), len(modes), echoes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replicas", [4, 8])
def test_planted_modes_are_found(tmp_path: Path, replicas: int, kind: str) -> None:
    shapes = [(64, 64), (300, 40)]
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda x: plant(tmp_path, replicas, kind, x), shapes))
    found, strict, count = (sum(x[i] for x in parts) for i in range(3))
    echoes = np.concatenate([x[3] for x in parts])
    print(f"K = {replicas}, {kind}: {found} of {count} found, {strict} by the mean's "
          f"mode, true echo {echoes.mean():.2f} +- {echoes.std():.2f}")
    assert abs(echoes.mean() - ECHO) < 0.06
    assert count >= 200
    assert found >= 0.95 * count
