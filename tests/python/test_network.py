"""The gradients of a real network, against what the whole of its text says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from science import EVERY, Array, reference, replay, write_gradients
import char_network  # isort: skip  (science.py makes the path)

SEEDS: Sequence[int] = range(1, 7)


class Real:
    """Gradients of a real network, and what is true of their leading modes."""

    def __init__(self, folder: Path) -> None:
        made = [char_network.make(seed) for seed in SEEDS]
        data = {
            name: np.array([x[0][name] for x in made]).astype(np.float32)
            for name in made[0][0]
        }
        self.losses = [x[2] for x in made]
        self.layers = [name for name, x in data.items() if x.ndim == 4]
        path = write_gradients(folder / "real.h5", data, char_network.BATCH)
        self.log = replay(path, folder / "real.log.h5", *EVERY)
        self.shapes = {name: data[name].shape[2:] for name in self.layers}
        pairs = [(name, row) for name in self.layers for row in range(len(SEEDS))]
        self.truth = np.array([
            self.measure(data[name][row].astype(float), made[row][1][name])
            for name, row in pairs
        ])
        self.at = pairs

    @staticmethod
    def measure(replicas: Array, whole: Array) -> tuple[float, float]:
        """True gain and true echo of the leading mode, means over replicas."""
        of = reference.evidence(replicas)
        u, _, v = reference.modes(whole, 1)
        gain = np.mean([a[:, 0] @ whole @ b[:, 0]
                        for a, b in zip(of.u, of.v, strict=True)])
        echo = np.mean([(u[:, 0] @ a[:, 0]) * (v[:, 0] @ b[:, 0])
                        for a, b in zip(of.u, of.v, strict=True)])
        return gain / of.s[:, 0].mean(), abs(echo)

    def logged(self, name: str) -> Array:
        """Of the leading modes."""
        found = [self.log.of(layer, name)[row] for layer, row in self.at]
        return np.array([x[0] if np.ndim(x) else x for x in found], dtype=float)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real(tmp_path_factory.mktemp("real"))


def test_the_real_network_learns_and_its_layers_are_large(real: Real) -> None:
    assert all(after < before - 0.5 for before, after in real.losses)
    assert len(real.layers) == 3
    assert all(min(shape) >= 64 for shape in real.shapes.values())


def test_gain_is_what_the_whole_text_says(real: Real) -> None:
    """All layers of one step share their minibatches, so a step that is off is
    off in several: most, not all, must be within bounds, and none far out."""
    off = real.logged("gain") - real.truth[:, 0]
    bound = np.maximum(0.05, 2.5 * real.logged("gain_se"))
    print(f"gain off by {off.mean():+.3f} on average, {np.abs(off).max():.3f} at "
          f"most, within bounds {(np.abs(off) < bound).sum()} of {len(off)}")
    assert (np.abs(off) < bound).mean() >= 0.85
    assert (np.abs(off) < 2 * bound).all()
    first = [i for i, (_, row) in enumerate(real.at) if row == 0]
    assert (np.abs(off) < bound)[first].all()


def test_echo_is_what_the_whole_text_says(real: Real) -> None:
    off = real.logged("echo") - real.truth[:, 1]
    print(f"true echoes {real.truth[:, 1].min():.2f} to {real.truth[:, 1].max():.2f}, "
          f"off by {off.mean():+.3f} on average, {np.abs(off).max():.3f} at most")
    assert (np.abs(off) < 0.1).all()


def test_real_noise_is_not_what_isotropic_laws_assume(real: Real) -> None:
    exact, mode = real.logged("misfit_exact"), real.logged("misfit_mode")
    print(f"misfit of the exact law {exact.min():.2f} to {exact.max():.2f}, "
          f"of the mode law {mode.min():.2f} to {mode.max():.2f}; smaller for the "
          f"mode law in {(mode < exact).sum()} of {len(exact)}")
    assert (exact > 0.1).all()
    # At the leading mode, where the laws are meant to hold.
    off = {law: np.abs(real.logged(f"echo_{law}") - real.truth[:, 1])
           for law in ("exact", "mode")}
    print(f"leading mode: exact law off by {off['exact'].mean():.2f}, "
          f"mode law by {off['mode'].mean():.2f}")
    assert (off["exact"] > 0.1).all()
    assert off["mode"].mean() < off["exact"].mean() / 2
    assert (real.logged("anisotropy_left") > 2).all()
