"""`gradecho replay`: are the numbers in the log right?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import reference
from conftest import (
    Array,
    Log,
    as_matrices,
    replay,
    same_echo,
    same_health,
    same_noise,
    write_gradients,
)

EVERY = ("--set", "sample.echo_every=1")
# Not a function of the gradients.
CLOCKS = {"time", "duration_seconds"}


def noisy(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    samples: int = 2,
    replicas: int = 4,
    noise: float = 1.0,
) -> Array:
    """Some modes and a mean that all replicas share, plus noise."""
    if len(shape) == 1:
        truth = rng.standard_normal(shape)
    else:
        rows, cols = shape
        values = 4.0 * np.sqrt(max(shape)) * 0.6 ** np.arange(min(rows, cols, 5))
        truth, _, _ = reference.planted(rng, rows, cols, values)
    return truth + noise * rng.standard_normal((samples, replicas, *shape))


def single(data: Array) -> NDArray[np.float32]:
    return data.astype(np.float32)


# ---- against the truth ----

ROWS, COLS, REPLICAS, SEEDS = 128, 256, 4, 6
BATCH = 32.0
STRONGEST, WEAKEST, MODES = 0.98, 0.3, 10  # echoes


def strength_of(echo: float) -> float:
    """Singular value whose exact echo is this, noise variance 1: bisection."""
    gamma = ROWS / COLS
    low, high = gamma**0.25, 1e3
    for _ in range(200):
        x = (low + high) / 2
        x2, x4 = x**2, x**4
        seen = (x4 - gamma) / np.sqrt((x4 + gamma * x2) * (x4 + x2))
        low, high = (x, high) if seen < echo else (low, x)
    return float(low * np.sqrt(COLS))


class Planted:
    """Samples of known modes, what gradecho measured, and what is true."""

    def __init__(self, folder: Path) -> None:
        # In geometric steps: modes closer together than the noise mix, and
        # then their echoes are less well known (theory 7).
        self.strengths = np.geomspace(
            strength_of(STRONGEST), strength_of(WEAKEST), MODES
        )
        samples, truths = [], []
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            truth = reference.planted(rng, ROWS, COLS, self.strengths)
            noise = rng.standard_normal((REPLICAS, ROWS, COLS))
            samples.append(single(truth[0] + noise))
            truths.append(truth)
        path = write_gradients(
            folder / "planted.h5", {"planted": np.array(samples)}, BATCH
        )
        self.log, _ = replay(path, folder / "planted.log.h5", *EVERY)
        pairs = zip(samples, truths, strict=True)
        found = [self.measure(s.astype(float), t) for s, t in pairs]
        self.order = np.array([x[0] for x in found])
        self.echo = np.array([x[1] for x in found])
        self.gain = np.array([x[2] for x in found])

    @staticmethod
    def measure(
        replicas: Array, truth: tuple[Array, Array, Array]
    ) -> tuple[NDArray[np.intp], Array, Array]:
        """For each planted mode: its place among the modes of the mean, its
        true echo and its best gain, both means over replicas."""
        g, u, v = truth
        u_mean, _, v_mean = reference.modes(replicas.mean(axis=0), 16)
        overlap = np.abs((u.T @ u_mean) * (v.T @ v_mean))
        order = overlap.argmax(axis=1)
        echoes, useful, seen = [], [], []
        for replica in replicas:
            found = reference.match(*reference.modes(replica, 24), u, v)
            echoes.append((u * found[0]).sum(axis=0) * (v * found[2]).sum(axis=0))
            useful.append(np.einsum("ik,ij,jk->k", found[0], g, found[2]))
            seen.append(found[1])
        gain = np.mean(useful, axis=0) / np.mean(seen, axis=0)
        return order, np.mean(echoes, axis=0), gain

    def logged(self, name: str) -> Array:
        """[seed, planted mode]."""
        part = self.log.of("planted", name)
        return np.take_along_axis(part, self.order, axis=1).astype(float)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))


def test_echo_is_the_true_echo(planted: Planted) -> None:
    strong = planted.echo > 0.5
    assert strong.sum() >= 7 * SEEDS  # the test is about something
    assert len({len(set(order)) for order in planted.order[:, :7]}) == 1
    error = planted.logged("echo") - planted.echo
    rmse = np.sqrt((error[strong] ** 2).mean())
    print(f"RMSE {rmse:.4f} over {strong.sum()} modes")
    assert rmse <= 0.02
    assert np.abs(error[strong].mean()) <= 0.01  # and not all to one side


def test_echo_se_is_the_size_of_the_error(planted: Planted) -> None:
    strong = planted.echo > 0.5
    error = np.abs(planted.logged("echo") - planted.echo)[strong]
    claimed = planted.logged("echo_se")[strong]
    assert (claimed > 0).all()
    # Replicas share errors that no jackknife sees, hence no tighter bounds.
    assert 0.2 < np.median(error) / np.median(claimed) < 3


def test_s_est_is_the_true_singular_value(planted: Planted) -> None:
    strong = planted.echo > 0.5
    ratio = (planted.logged("s_est") / planted.strengths)[strong]
    seen = (planted.logged("s_replica") / planted.strengths)[strong]
    assert np.sqrt(((ratio - 1) ** 2).mean()) < 0.04
    assert abs(ratio.mean() - 1) < 0.03
    # What is seen is larger, and that by much more.
    assert seen.min() > 1.0
    assert abs(ratio.mean() - 1) < (seen.mean() - 1) / 3


def test_gain_is_the_best_shrinkage(planted: Planted) -> None:
    strong = planted.echo > 0.5
    error = (planted.logged("gain") - planted.gain)[strong]
    assert np.sqrt((error**2).mean()) < 0.02
    assert planted.logged("gain")[strong].max() < 1.0


def test_noise_is_the_true_noise(planted: Planted) -> None:
    log = planted.log
    entries = ROWS * COLS
    error = np.sqrt(2 / ((REPLICAS - 1) * entries))
    sigma2 = log.of("planted", "sigma2")
    assert np.abs(sigma2 - 1).max() < 4 * error
    claimed = log.of("planted", "sigma2_se").mean()
    assert 0.3 < claimed / error < 3
    square = float((planted.strengths**2).sum())
    spread = np.sqrt(4 * square / REPLICAS + 2 * entries / REPLICAS**2)
    assert np.abs(log.of("planted", "grad_sqnorm") - square).max() < 4 * spread
    scale = log.of("planted", "noise_scale") / (BATCH * entries / square)
    assert np.abs(scale - 1).max() < 5 * spread / square
    edge = np.sqrt(ROWS) + np.sqrt(COLS)
    np.testing.assert_allclose(log.of("planted", "edge"), edge, rtol=3 * error)


def test_laws_hold_for_isotropic_noise(planted: Planted) -> None:
    """Where the noise is what the exact law assumes, it says the truth."""
    strong = planted.echo > 0.6
    error = (planted.logged("echo_exact") - planted.echo)[strong]
    assert np.sqrt((error**2).mean()) < 0.03


# ---- against the reference, and between numbers of monitors ----

MIXED_STEPS = [10, 25]


def mixed() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(11)
    return {
        "a.bias": single(noisy(rng, (300,))),
        "block.0/attention/query": noisy(rng, (96, 24)),  # float64, tall
        "block.0/attention/key": single(noisy(rng, (20, 90))),  # wide
        "block.0/mlp": single(noisy(rng, (40, 40))),
        "column": single(noisy(rng, (40, 1))),
        "frozen/weight": single(noisy(rng, (30, 30))),
        "long/vector": noisy(rng, (70001,)),  # more than one piece
        "row": single(noisy(rng, (1, 40))),
        "tiny": single(noisy(rng, (2, 3))),
    }


MODES_OF = {
    "block.0/attention/query": 16,
    "block.0/attention/key": 16,
    "block.0/mlp": 16,
    "tiny": 2,
}
MIXED_OPTIONS = (*EVERY, "--set", 'layers.exclude=["frozen*"]')


@pytest.fixture(scope="module")
def mixed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.h5"
    return write_gradients(path, mixed(), batch_size=8, steps=MIXED_STEPS)


@pytest.fixture(scope="module")
def mixed_log(mixed_file: Path) -> Log:
    log, warnings = replay(
        mixed_file, mixed_file.with_suffix(".log.h5"), *MIXED_OPTIONS
    )
    assert warnings == []
    return log


def test_layers_of_every_shape_are_there(mixed_log: Log) -> None:
    layers = mixed()
    assert mixed_log.layers == sorted(layers)
    for i, name in enumerate(mixed_log.layers):
        shape = layers[name].shape[2:]
        assert mixed_log["rows"][i] == (shape[0] if len(shape) == 2 else 1), name
        assert mixed_log["cols"][i] == shape[-1], name
    assert mixed_log["step"].tolist() == MIXED_STEPS
    assert mixed_log["replicas"].tolist() == [4, 4]
    assert mixed_log["batch_size"].tolist() == [8, 8]
    assert mixed_log.attributes["clean_close"] == 1


@pytest.mark.parametrize("layer", sorted(mixed()))
@pytest.mark.parametrize("row", range(len(MIXED_STEPS)))
def test_numbers_are_those_of_the_reference(
    mixed_log: Log, layer: str, row: int
) -> None:
    replicas = as_matrices(mixed()[layer][row])
    same_noise(mixed_log, layer, row, replicas, batch_size=8)
    same_health(mixed_log, layer, row, replicas)
    if layer in MODES_OF:
        same_echo(mixed_log, layer, row, replicas)
    echo = mixed_log.of(layer, "echo")[row]
    assert np.isfinite(echo).sum() == MODES_OF.get(layer, 0)


def test_fewer_modes_and_no_oversampling(mixed_file: Path, tmp_path: Path) -> None:
    log, _ = replay(
        mixed_file,
        tmp_path / "log.h5",
        *MIXED_OPTIONS,
        *("--set", "layers.max_modes=3", "--set", "svd.oversample=0"),
    )
    assert log["echo"].shape == (2, len(mixed()), 3)
    for layer in ("block.0/mlp", "tiny"):
        same_echo(log, layer, 1, as_matrices(mixed()[layer][1]), 3, 0)


def assert_same_logs(one: Log, other: Log, tolerance: float) -> None:
    assert one.layers == other.layers
    assert set(one.fields) == set(other.fields)
    for name in sorted(set(one.fields) - CLOCKS):
        if one[name].dtype.kind in "fiu":
            np.testing.assert_allclose(
                other[name], one[name], rtol=tolerance, atol=0, err_msg=name
            )


@pytest.mark.parametrize(
    ("ranks", "machine"), [(1, 0), (2, 0), (3, 0), (4, 0), (6, 0), (3, 1), (6, 2), (6, 4)]
)
def test_the_number_of_monitors_does_not_matter(
    mixed_file: Path,
    mixed_log: Log,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    machine: int,
) -> None:
    """Nor how many of them share memory, if not all (0)."""
    monkeypatch.setenv("GRADECHO_NODE_RANKS", str(machine))
    log, _ = replay(mixed_file, tmp_path / "log.h5", *MIXED_OPTIONS, ranks=ranks)
    assert_same_logs(mixed_log, log, 1e-6)


def test_it_does_not_matter_where_the_numbers_come_from(tmp_path: Path) -> None:
    """Used in the mapped file, read ahead and let go; or read by HDF5. To the
    last bit, for layers of more than is kept behind, too."""
    rng = np.random.default_rng(4)
    layers = {
        "large": single(rng.standard_normal((3, 3, 512, 3072))),
        "small": single(rng.standard_normal((3, 3, 40, 30))),
        "vector": single(rng.standard_normal((3, 3, 1000))),
    }
    options = ("--set", "sample.echo_every=2", "--set", "layers.max_modes=2")
    logs = []
    for name, how in (("mapped", {}), ("read", {"chunks": True})):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            for layer, data in layers.items():
                file.create_dataset(f"gradients/{layer}", data=data, **how)
        logs.append(replay(path, tmp_path / f"{name}.log.h5", *options)[0])
    assert_same_logs(*logs, 0)


def test_the_placement_of_the_svd_does_not_matter(
    mixed_file: Path, mixed_log: Log, tmp_path: Path
) -> None:
    log, _ = replay(
        mixed_file,
        tmp_path / "log.h5",
        *(*MIXED_OPTIONS, "--set", "svd.placement=root"),
        ranks=3,
    )
    assert_same_logs(mixed_log, log, 1e-6)


# ---- few replicas ----


def few(replicas: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(replicas)
    return {
        "bias": single(noisy(rng, (17,), 1, replicas)),
        "weight": single(noisy(rng, (24, 40), 1, replicas)),
    }


@pytest.mark.parametrize("ranks", [1, 2])
def test_one_replica_has_no_noise_estimate(tmp_path: Path, ranks: int) -> None:
    path = write_gradients(tmp_path / "one.h5", few(1), batch_size=8)
    log, warnings = replay(path, tmp_path / "log.h5", *EVERY, ranks=ranks)
    assert len(warnings) == 1
    assert "one replica only" in warnings[0]
    assert log["replicas"].tolist() == [1]
    assert log["layer_replicas"].tolist() == [[1, 1]]
    for name in ("sigma2", "sigma2_se", "grad_sqnorm", "noise_trace",
                 "noise_scale", "edge", "tau2_edge", "echo", "echo_se",
                 "echo_loo", "gain", "s_est", "echo_hill", "replica_noise"):
        assert np.isnan(log[name]).all(), name


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_replicas_have_values_without_errors(tmp_path: Path, ranks: int) -> None:
    layers = few(2)
    path = write_gradients(tmp_path / "two.h5", layers, batch_size=8)
    log, _ = replay(path, tmp_path / "log.h5", *EVERY, ranks=ranks)
    for layer, data in layers.items():
        same_noise(log, layer, 0, as_matrices(data[0]), batch_size=8)
    same_echo(log, "weight", 0, as_matrices(layers["weight"][0]))
    assert log.of("weight", "echo")[0, 0] > 0.5
    for name in ("sigma2_se", "echo_se", "gain_se"):
        assert np.isnan(log[name]).all(), name


# ---- gradients that are not well ----


@pytest.mark.parametrize(
    ("ranks", "bad"),
    [(1, np.nan), (2, np.nan), (4, np.nan), (2, np.inf), (2, -np.inf)]
)
def test_a_replica_that_is_not_finite_is_left_out(
    tmp_path: Path, ranks: int, bad: float
) -> None:
    rng = np.random.default_rng(5)
    layers = {
        name: single(noisy(rng, shape, 2, 4))
        for name, shape in {
            "a": (24, 40), "b/broken": (40, 24), "c": (31,)
        }.items()
    }
    layers["b/broken"][1, 2, 39, 23] = bad
    path = write_gradients(tmp_path / "bad.h5", layers, 8, steps=[3, 7])
    log, warnings = replay(path, tmp_path / "log.h5", *EVERY, ranks=ranks)

    assert len(warnings) == 1
    for part in ("step 7", "layer b/broken", "replica 2 (rank 2)", "not finite"):
        assert part in warnings[0]
    assert log["replicas"].tolist() == [4, 4]
    assert log["layer_replicas"].tolist() == [[4, 4, 4], [4, 3, 4]]
    for layer, data in layers.items():
        for row in range(2):
            left = [0, 1, 3] if (layer, row) == ("b/broken", 1) else [0, 1, 2, 3]
            replicas = as_matrices(data[row])[left]
            same_noise(log, layer, row, replicas, batch_size=8)
            if layer != "c":
                same_echo(log, layer, row, replicas)
    ratios = log.of("b/broken", "replica_noise")[1]
    assert np.isfinite(ratios).tolist() == [True, True, False, True]


def test_a_layer_without_a_finite_replica_is_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    layers = {name: single(noisy(rng, (12, 20), 1, 3)) for name in ("good", "lost")}
    layers["lost"][:, :, 0, 0] = np.nan
    path = write_gradients(tmp_path / "lost.h5", layers)
    log, warnings = replay(path, tmp_path / "log.h5", *EVERY, ranks=3)
    assert len(warnings) == 3
    assert log["layer_replicas"].tolist() == [[3, 0]]
    assert np.isnan(log.of("lost", "sigma2")).all()
    assert np.isnan(log.of("lost", "echo")).all()
    same_noise(log, "good", 0, layers["good"][0].astype(float))
    same_echo(log, "good", 0, layers["good"][0].astype(float))


@pytest.mark.parametrize("ranks", [1, 3])
def test_identical_replicas_have_no_noise(tmp_path: Path, ranks: int) -> None:
    rng = np.random.default_rng(8)
    one = single(noisy(rng, (24, 40), 1, 1))
    path = write_gradients(tmp_path / "same.h5", {"w": np.repeat(one, 3, axis=1)})
    log, _ = replay(path, tmp_path / "log.h5", *EVERY, ranks=ranks)
    square = float((one.astype(float) ** 2).sum())
    # The mean of three equal floats may be off by half a unit in the last place.
    assert 0 <= log.of("w", "sigma2")[0] <= 1e-13 * square / one.size
    np.testing.assert_allclose(log.of("w", "grad_sqnorm"), square, rtol=1e-6)
    singular = np.linalg.svd(one[0, 0].astype(float), compute_uv=False)[:16]
    np.testing.assert_allclose(log.of("w", "s_est")[0], singular, rtol=1e-4)
    np.testing.assert_allclose(log.of("w", "echo")[0], 1, atol=1e-4)
    np.testing.assert_allclose(log.of("w", "gain")[0], 1, atol=1e-4)


def test_identical_pairs_have_no_noise_at_all(tmp_path: Path) -> None:
    """Two equal floats have an exact mean: sigma2 is 0, and laws say 1."""
    rng = np.random.default_rng(9)
    one = single(noisy(rng, (24, 40), 1, 1))
    path = write_gradients(tmp_path / "same.h5", {"w": np.repeat(one, 2, axis=1)})
    log, _ = replay(path, tmp_path / "log.h5", *EVERY, ranks=2)
    assert log.of("w", "sigma2")[0] == 0
    assert log.of("w", "edge")[0] == 0
    for name in ("echo_hill", "echo_two_sided", "echo_exact"):
        np.testing.assert_array_equal(log.of("w", name)[0], 1, err_msg=name)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_layer_of_zeros_has_neither_noise_nor_echo(
    tmp_path: Path, ranks: int
) -> None:
    rng = np.random.default_rng(10)
    layers = {
        "good": single(noisy(rng, (12, 20), 1, 3)),
        "zero": np.zeros((1, 3, 12, 20), dtype=np.float32),
    }
    path = write_gradients(tmp_path / "zero.h5", layers, batch_size=8)
    log, _ = replay(path, tmp_path / "log.h5", *EVERY, ranks=ranks)
    for name in ("sigma2", "sigma2_se", "grad_sqnorm", "noise_trace", "edge"):
        assert log.of("zero", name)[0] == 0, name
    assert np.isnan(log.of("zero", "noise_scale")[0])
    assert not (log.of("zero", "echo")[0] > 0).any()
    assert log.of("zero", "layer_replicas")[0] == 3
    same_noise(log, "good", 0, layers["good"][0].astype(float), batch_size=8)
    same_echo(log, "good", 0, layers["good"][0].astype(float))


# ---- when, and in which units ----


def test_residuals_say_what_has_converged(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    small, large = single(noisy(rng, (12, 20), 1, 3)), rng.standard_normal((1, 3, 130, 140))
    large += 60.0 * np.outer(np.ones(130), np.ones(140)) / np.sqrt(130 * 140)
    path = write_gradients(tmp_path / "g.h5", {"small": small, "large": single(large)})
    log, _ = replay(path, tmp_path / "log.h5")
    assert np.isnan(log.of("small", "residual")).all()  # by LAPACK
    residual = log.of("large", "residual")[0]
    assert 0 <= residual[0] < 1e-3 < residual[15]  # the last is in the bulk


def test_echo_every_is_honoured(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    data = single(noisy(rng, (12, 20), 7, 3))
    path = write_gradients(tmp_path / "seven.h5", {"w": data})
    log, _ = replay(path, tmp_path / "log.h5", "--set", "sample.echo_every=3", ranks=2)
    assert np.isfinite(log.of("w", "sigma2")).all()
    measured = np.isfinite(log.of("w", "echo")[:, :12]).all(axis=1)
    assert measured.tolist() == [True, False, False, True, False, False, True]
    assert np.isnan(log.of("w", "echo")[~measured]).all()
    assert np.isnan(log.of("w", "s_mean")[~measured]).all()
    for row in range(7):
        same_noise(log, "w", row, data[row].astype(float))
    for row in np.flatnonzero(measured):
        same_echo(log, "w", int(row), data[row].astype(float))


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Array, Log]:
    folder = tmp_path_factory.mktemp("unscaled")
    data = noisy(np.random.default_rng(13), (24, 40), 1, 4)
    path = write_gradients(folder / "scaled.h5", {"w": single(data)}, batch_size=8)
    return data, replay(path, folder / "log.h5", *EVERY)[0]


# The last two: a float's square, or a sum of squares, is beyond a float.
@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e-24, 1e24])
def test_units_of_the_gradient_do_not_matter(
    tmp_path: Path, unscaled: tuple[Array, Log], factor: float
) -> None:
    data, plain = unscaled
    path = write_gradients(
        tmp_path / "scaled.h5", {"w": single(data * factor)}, batch_size=8
    )
    log, warnings = replay(path, tmp_path / "log.h5", *EVERY)
    assert warnings == []
    for name, power, tolerance in (
        ("sigma2", 2, 1e-5),
        ("grad_sqnorm", 2, 1e-5),
        ("noise_scale", 0, 1e-5),
        ("edge", 1, 1e-5),
        ("s_mean", 1, 1e-5),
        ("s_replica", 1, 1e-5),
    ):
        np.testing.assert_allclose(
            log[name], plain[name] * factor**power, rtol=tolerance, err_msg=name
        )
    for name in ("echo", "echo_loo", "gain", "echo_hill", "echo_exact"):
        np.testing.assert_allclose(
            log[name], plain[name], rtol=0, atol=1e-4, err_msg=name
        )
