"""`gradecho replay`: every science field of the log against reference.py.

Planted gradients go in, the log comes out; what NumPy says of the same
gradients, in double precision and by brute force, must be in it. Then rates:
how often noise is called signal, how often signal is found; edges; and the
gradients of a real network. Run by ctest, which sets GRADECHO_BIN.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import char_network  # noqa: E402  (need the path above)
import conftest as e2e  # noqa: E402
import reference  # noqa: E402
from conftest import Log, read_log, write_gradients  # noqa: E402

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


# ---- every field against the reference ----

LAYERS = {
    "rough": (60, 40, 1.0),
    "square": (48, 48, 0.0),
    "tall": (90, 30, 0.4),
    "tiny": (2, 3, 0.0),
    "wide": (24, 70, 0.4),
}
MODES = 6  # max_modes: about the planted ones
SAMPLES = 3
REPLICAS = [2, 3, 4, 7]
HALF_LIFE = 1.5
OPTIONS = (
    *BOTH, "--set", f"layers.max_modes={MODES}",
    "--set", f"noise.half_life={HALF_LIFE}",
)


class Measured:
    """One number of replicas: gradients, log, and evidence."""

    def __init__(self, folder: Path, replicas: int) -> None:
        rng = np.random.default_rng(100 + replicas)
        self.replicas = replicas
        self.data = {
            name: planted(rng, m, n, replicas, SAMPLES, scaled=scaled)
            for name, (m, n, scaled) in LAYERS.items()
        }
        self.data["vector"] = rng.standard_normal((SAMPLES, replicas, 33)).astype(
            np.float32
        ) + np.float32(0.5)
        path = write_gradients(folder / f"k{replicas}.h5", self.data, BATCH)
        self.log = replay(path, folder / f"k{replicas}.log.h5", *OPTIONS)
        self.evidence = {
            (name, row): reference.evidence(self.matrices(name, row), MODES)
            for name in LAYERS
            for row in range(SAMPLES)
        }

    def matrices(self, layer: str, row: int) -> Array:
        data = self.data[layer][row].astype(float)
        return data[:, None, :] if data.ndim == 2 else data

    def value(self, layer: str, row: int, name: str) -> Any:
        return self.log.of(layer, name)[row]

    def each(self) -> list[tuple[str, int, reference.Evidence]]:
        return [(layer, row, of) for (layer, row), of in self.evidence.items()]


@pytest.fixture(scope="module", params=REPLICAS)
def measured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    return Measured(tmp_path_factory.mktemp("measured"), request.param)


def values_of(of: reference.Evidence) -> tuple[Array, Array, Array]:
    return of.ratios()


def clear(of: reference.Evidence, least: float = 0.3) -> NDArray[np.bool_]:
    """Modes whose singular vectors single precision cannot mix."""
    echo, _, _ = values_of(of)
    return (echo > least) & (of.gap > 0.02 * of.s_mean[0])


def compare(
    measured: Measured, fields: dict[str, Any], layer: str, row: int,
    where: Any, rtol: float, atol: float = 0.0,
) -> None:
    for name, expected in fields.items():
        got = measured.value(layer, row, name)
        if np.ndim(got) == 1:
            assert np.isnan(got[len(expected):]).all(), name
            got, expected = got[: len(expected)][where], expected[where]
        np.testing.assert_allclose(
            got, expected, rtol=rtol, atol=atol, err_msg=f"{name} of {layer}, row {row}"
        )


def test_the_modes_compared_are_many(measured: Measured) -> None:
    counts = [clear(of).sum() for _, _, of in measured.each()]
    assert sum(counts) >= 0.5 * MODES * SAMPLES * 3


def test_errors_of_the_noise_are_the_brute_force_jackknife(measured: Measured) -> None:
    for layer in measured.data:
        for row in range(SAMPLES):
            expected = reference.noise(measured.matrices(layer, row), BATCH)
            for name in ("grad_sqnorm_se", "noise_trace_se", "noise_scale_se"):
                np.testing.assert_allclose(
                    measured.value(layer, row, name), expected[name], rtol=1e-4,
                    err_msg=f"{name} of {layer}, row {row}",
                )
    if measured.replicas == 2:
        assert np.isnan(measured.log["noise_scale_se"]).all()
        assert np.isnan(measured.log["grad_sqnorm_se"]).all()
        assert np.isnan(measured.log["noise_trace_se"]).all()


def test_the_smoothed_noise_scale_is_a_ratio_of_averages(measured: Measured) -> None:
    sums = np.zeros((2, SAMPLES))
    for layer in measured.data:
        noise = [
            reference.noise(measured.matrices(layer, row), BATCH)
            for row in range(SAMPLES)
        ]
        trace = np.array([x["noise_trace"] for x in noise])
        square = np.array([x["grad_sqnorm"] for x in noise])
        sums += trace, square
        np.testing.assert_allclose(
            measured.log.of(layer, "noise_scale_smooth"),
            BATCH * reference.smooth(trace, HALF_LIFE)
            / reference.smooth(square, HALF_LIFE),
            rtol=1e-4, err_msg=layer,
        )
    log = measured.log
    np.testing.assert_allclose(log["model_noise_trace"], sums[0], rtol=1e-5)
    np.testing.assert_allclose(log["model_grad_sqnorm"], sums[1], rtol=1e-5)
    np.testing.assert_allclose(
        log["model_noise_scale"], BATCH * sums[0] / sums[1], rtol=1e-5
    )
    np.testing.assert_allclose(
        log["model_noise_scale_smooth"],
        BATCH * reference.smooth(sums[0], HALF_LIFE)
        / reference.smooth(sums[1], HALF_LIFE),
        rtol=1e-5,
    )


def test_the_models_error_is_the_brute_force_jackknife(measured: Measured) -> None:
    got = measured.log["model_noise_scale_se"]
    if measured.replicas == 2:
        assert np.isnan(got).all()
        return
    expected = [
        reference.model_noise_scale_se(
            [dict(enumerate(measured.matrices(layer, row))) for layer in measured.data],
            BATCH,
        )
        for row in range(SAMPLES)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_models_noise_scale_and_its_error_are_the_planted_ones(
    tmp_path: Path,
) -> None:
    """Over samples that differ in their noise alone."""
    samples, replicas = 200, 8
    rng = np.random.default_rng(33)
    shapes, sigmas, size = {"a": (12, 30), "b": (40, 1), "c": (5, 5)}, (1.0, 3.0, 0.2), 2.0
    data, trace, square = {}, 0.0, 0.0
    for (name, shape), sigma in zip(shapes.items(), sigmas, strict=True):
        truth = size * rng.standard_normal(shape)
        noise = sigma * rng.standard_normal((samples, replicas, *shape))
        data[name] = (truth + noise).astype(np.float32)
        trace += sigma**2 * truth.size
        square += float((truth**2).sum())
    log = replay(write_gradients(tmp_path / "g.h5", data, BATCH), tmp_path / "l.h5",
                 "--set", "sample.echo_every=1000")
    scale, error = log["model_noise_scale"], log["model_noise_scale_se"]
    spread = scale.std(ddof=1)
    print(f"planted {BATCH * trace / square:.2f}, mean {scale.mean():.2f} +- "
          f"{spread / samples**0.5:.2f}; error {error.mean() / spread:.2f} of the spread")
    assert abs(scale.mean() - BATCH * trace / square) < 4 * spread / samples**0.5
    assert 0.8 < error.mean() / spread < 1.25
    assert (np.abs(scale - BATCH * trace / square) < 2 * error).mean() > 0.85


def test_leaks_and_the_laws_that_follow_are_the_references(measured: Measured) -> None:
    for layer, row, of in measured.each():
        laws = reference.mode_laws(of, values_of(of)[1])
        leaks = {x: laws.pop(x) for x in list(laws) if "tau2" in x or "aniso" in x}
        compare(measured, leaks, layer, row, clear(of), rtol=1e-3)
        compare(measured, laws, layer, row, clear(of), rtol=0, atol=2e-3)


def test_mode_gaps_are_distances_of_singular_values(measured: Measured) -> None:
    for layer, row, of in measured.each():
        expected = of.gap / np.sqrt(of.sigma2)
        known = np.arange(len(expected)) < len(expected) - 1
        compare(measured, {"mode_gap": expected}, layer, row, known, 1e-3, 1e-3)


def test_the_gap_of_the_last_mode_looks_beyond_it(measured: Measured) -> None:
    """The nearest other singular value may be one that is not logged."""
    for layer, row, of in measured.each():
        expected = of.gap / np.sqrt(of.sigma2)
        compare(measured, {"mode_gap": expected}, layer, row, ..., 1e-3, 1e-3)


def test_significance_is_the_references(measured: Measured) -> None:
    for layer, row, of in measured.each():
        t = reference.mode_t(of)
        compare(measured, {"mode_t": t}, layer, row, clear(of), 5e-3, 0.02)
        bar = reference.threshold(len(t))
        got = measured.value(layer, row, "mode_t")[: len(t)]
        got = got[measured.value(layer, row, "echo")[: len(t)] > 0]
        assert (np.abs(got / bar - 1) > 1e-6).all()  # no chance in the count
        assert measured.value(layer, row, "signal_modes") == (got > bar).sum()


def test_reverb_is_the_references_and_near_the_echo(measured: Measured) -> None:
    apart = []
    for layer, row, of in measured.each():
        reverb = reference.reverb(of)
        compare(measured, {"echo_reverb": reverb}, layer, row, clear(of), 0, 2e-3)
        if layer in ("square", "tall", "wide"):  # modes well apart
            apart.append((reverb - values_of(of)[0])[clear(of)])
    assert np.sqrt(np.mean(np.concatenate(apart) ** 2)) < 0.1


def signal(measured: Measured, layer: str, row: int, count: int) -> NDArray[np.bool_]:
    """The modes that the log calls signal, by its own numbers."""
    t = measured.value(layer, row, "mode_t")[:count]
    order = np.argsort(-np.nan_to_num(t, nan=-np.inf))
    out = np.zeros(count, dtype=bool)
    out[order[: measured.value(layer, row, "signal_modes")]] = True
    return out


def test_misfits_are_over_signal_modes(measured: Measured) -> None:
    seen = 0
    for layer, row, of in measured.each():
        count = len(of.s_mean)
        which = signal(measured, layer, row, count)
        echo = measured.value(layer, row, "echo")[:count]
        for law in ("hill", "two_sided", "exact", "mode"):
            rest = (measured.value(layer, row, f"echo_{law}")[:count] - echo)[which]
            rest = rest[~np.isnan(rest)].astype(float)
            got = measured.value(layer, row, f"misfit_{law}")
            if len(rest) == 0:
                assert np.isnan(got)
            else:
                seen += 1
                np.testing.assert_allclose(
                    got, np.sqrt((rest**2).mean()), rtol=1e-4, atol=1e-6
                )
    assert seen > 20


def test_fits_are_those_of_brute_force(measured: Measured) -> None:
    seen: dict[str, int] = {}
    for layer, row, of in measured.each():
        which = signal(measured, layer, row, len(of.s_mean))
        got = {x: measured.value(layer, row, x) for x in
               ("tau2_fit", "tau2_fit_se", "q_fit", "q_fit_se")}
        if which.sum() < 2:
            assert np.isnan(list(got.values())).all()
            continue
        # Of echoes near 1 single precision leaves little: not of 2 x 3.
        if layer == "tiny" or not clear(of, 0.2)[which].all():
            continue
        if measured.replicas == 2:  # no errors: all modes weigh by echo alone
            echo, s_est, _ = values_of(of)
            one = np.ones(which.sum())
            expected = {"tau2_fit": reference.fit_tau2(s_est[which], echo[which], one),
                        "q_fit": reference.fit_q(s_est[which], echo[which], one)}
            assert np.isnan(got["tau2_fit_se"]) and np.isnan(got["q_fit_se"])
        else:
            expected = reference.fits(of, which)
        for name, value in expected.items():
            if value > 10 and name.startswith("q_fit"):
                continue  # next to not determined: runs with the last digit
            np.testing.assert_allclose(
                got[name], value, rtol=2e-2 if name.endswith("_se") else 1e-2,
                err_msg=f"{name} of {layer}, row {row}",
            )
            seen[name] = seen.get(name, 0) + bool(np.isfinite(value))
    print(f"K = {measured.replicas}: {seen}")
    assert seen["tau2_fit"] >= 5


def test_two_replicas_have_values_but_no_errors(tmp_path: Path) -> None:
    data = planted(np.random.default_rng(3), 40, 50, 2)
    log = replay(write_gradients(tmp_path / "g.h5", {"w": data}, BATCH),
                 tmp_path / "l.h5", *BOTH)
    for name in ("sigma2", "noise_scale", "noise_scale_smooth", "model_noise_scale",
                 "tau2_fit", "misfit_exact"):
        assert np.isfinite(log[name]).all(), name
    assert log.of("w", "signal_modes")[0] >= 2
    for name in ("echo", "gain", "mode_t", "echo_reverb", "echo_mode", "s_est"):
        assert np.isfinite(log.of("w", name)[0, :3]).all(), name
    for name in ("sigma2_se", "grad_sqnorm_se", "noise_scale_se", "echo_se", "gain_se",
                 "model_noise_scale_se", "tau2_fit_se", "q_fit_se", "residual_correlation_max"):
        assert np.isnan(log[name]).all(), name
    assert (log["residual_correlation_pair"] == -1).all()


# ---- partners, missing replicas, duplicates ----


@pytest.mark.parametrize("ranks", [1, 4])
def test_three_partners_are_the_next_three(tmp_path: Path, ranks: int) -> None:
    data = planted(np.random.default_rng(21), 40, 50, 10)
    path = write_gradients(tmp_path / "g.h5", {"w": data})
    log = replay(path, tmp_path / "l.h5", *EVERY, "--set", "echo.partners=3",
                 ranks=ranks)
    of = reference.evidence(data[0].astype(float), partners=3)
    assert (~np.isnan(of.cross)).sum() == 30 * 16
    ok = clear(of)
    assert ok.sum() >= 4
    np.testing.assert_allclose(
        log.of("w", "mode_t")[0][ok], reference.mode_t(of)[ok], rtol=5e-3
    )


@pytest.mark.parametrize("replicas", [2, 3, 6])
def test_one_partner_is_enough(tmp_path: Path, replicas: int) -> None:
    """Then there is no spread to be seen; what is assumed stands in."""
    data = planted(np.random.default_rng(25), 40, 50, replicas)
    path = write_gradients(tmp_path / "g.h5", {"w": data})
    log = replay(path, tmp_path / "l.h5", *EVERY, "--set", "echo.partners=1")
    of = reference.evidence(data[0].astype(float), partners=1)
    assert (~np.isnan(of.cross)).sum() == replicas * 16
    ok = clear(of)
    assert ok.sum() >= 4
    assert np.isfinite(log.of("w", "mode_t")[0]).all()
    np.testing.assert_allclose(
        log.of("w", "mode_t")[0][ok], reference.mode_t(of)[ok], rtol=5e-3
    )
    assert log.of("w", "signal_modes")[0] >= 4


@pytest.mark.parametrize("partners", [8, 3, 2, 1])
def test_a_replica_missing_in_one_layer_is_missing_there(
    tmp_path: Path, partners: int
) -> None:
    """With few partners one missing replica leaves others with fewer still:
    that must not cost the layer its significance."""
    rng = np.random.default_rng(22)
    data = {"a": planted(rng, 40, 50, 6), "b": planted(rng, 50, 40, 6)}
    data["b"][0, 2, 7, 7] = np.nan
    path = write_gradients(tmp_path / "g.h5", data, BATCH)
    options = (*BOTH, "--set", f"echo.partners={partners}")
    if partners < 5:
        options = (*EVERY, "--set", f"echo.partners={partners}")
    log = replay(path, tmp_path / "l.h5", *options, ranks=2)
    assert log["layer_replicas"].tolist() == [[6, 5]]
    left = [0, 1, 3, 4, 5]
    for layer, places in (("a", list(range(6))), ("b", left)):
        replicas = data[layer][0][places].astype(float)
        of = reference.evidence(replicas, partners=partners, places=places, present=6)
        ok = clear(of)
        noise = reference.noise(replicas, BATCH)
        for name in ("sigma2_se", "grad_sqnorm_se", "noise_scale_se"):
            np.testing.assert_allclose(log.of(layer, name)[0], noise[name], rtol=1e-4)
        np.testing.assert_allclose(
            log.of(layer, "tau2_left_mode")[0][ok], of.tau2_left[ok], rtol=1e-3
        )
        if partners >= 5:
            np.testing.assert_allclose(
                log.of(layer, "echo_reverb")[0][ok], reference.reverb(of)[ok], atol=2e-3
            )
        got = log.of(layer, "mode_t")[0]
        assert np.isfinite(got[ok]).all(), f"mode_t of {layer}: {got}"
        assert log.of(layer, "signal_modes")[0] >= 4
        np.testing.assert_allclose(got[ok], reference.mode_t(of)[ok], rtol=5e-3)
    assert np.isfinite(log["model_noise_scale"]).all()
    layers = [dict(enumerate(data["a"][0].astype(float))),
              {place: data["b"][0, place].astype(float) for place in left}]
    np.testing.assert_allclose(
        log["model_noise_scale_se"],
        [reference.model_noise_scale_se(layers, BATCH)], rtol=1e-4,
    )


@pytest.mark.parametrize("pair", [(0, 1), (1, 3), (0, 3)])
def test_ranks_that_read_the_same_data_are_named(
    tmp_path: Path, pair: tuple[int, int]
) -> None:
    rng = np.random.default_rng(23)
    data = {"loud": 1e3 * planted(rng, 30, 40, 4), "quiet": planted(rng, 64, 32, 4)}
    for layer in data.values():
        layer[:, pair[1]] = layer[:, pair[0]]
    log = replay(write_gradients(tmp_path / "g.h5", data), tmp_path / "l.h5", ranks=4)
    assert log["residual_correlation_max"][0] == pytest.approx(1, abs=1e-6)
    assert log["residual_correlation_pair"][0].tolist() == list(pair)


@pytest.mark.parametrize("replicas", [3, 4, 8])
def test_residual_correlations_are_about_the_exact_ones(
    tmp_path: Path, replicas: int
) -> None:
    rng = np.random.default_rng(24)
    data = {"a": planted(rng, 60, 70, replicas, 4),
            "b": 10 * planted(rng, 100, 300, replicas, 4)}
    log = replay(write_gradients(tmp_path / "g.h5", data), tmp_path / "l.h5")
    for row in range(4):
        exact = reference.correlations([x[row].astype(float) for x in data.values()])
        # A sketch of 256 bins: 0.06 for one pair, the largest of up to 28.
        off = log["residual_correlation_max"][row] - np.triu(exact, 1).max(
            initial=-1, where=np.triu(np.ones_like(exact), 1) > 0)
        assert -0.1 < off < 0.3
        a, b = log["residual_correlation_pair"][row]
        assert 0 <= a < b < replicas


# ---- rates ----

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


# ---- edges ----


def edges() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(31)
    base = planted(rng, 40, 60, 4)
    low = reference.planted(rng, 40, 60, np.array([30.0, 20.0]))
    short = planted(np.random.default_rng(32), 10, 48, 4).astype(float)
    mixing = rng.standard_normal((4, 2, 2)) * 0.1 + np.eye(2) * [30, 20]
    return {
        "base": base,
        "duplicates": np.repeat(base[:, :1], 4, axis=1),
        "huge": base.astype(float) * 1e30 / 100,
        "large": base.astype(float) * 2.0**66,
        "long": planted(rng, 8192, 8, 4),
        "rank_two": np.array([low[1] @ x @ low[2].T for x in mixing])[None].astype(
            np.float32),
        "row": rng.standard_normal((1, 4, 1, 77)).astype(np.float32),
        # Columns that add up to 0, as those of a softmax's layer: as far as single
        # precision goes.
        "softmax": (short - short.mean(axis=2, keepdims=True)).astype(np.float32),
        "small": base.astype(float) * 2.0**-66,
        "tiny": planted(rng, 2, 3, 4),
        "tiny_numbers": base.astype(float) * 1e-30,
        "turned": np.swapaxes(base, 2, 3).copy(),
        "zero": np.zeros((1, 4, 20, 30), dtype=np.float32),
    }


@pytest.fixture(scope="module")
def edge_log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("edges")
    data = {k: v.astype(np.float32) for k, v in edges().items()}
    return replay(write_gradients(folder / "g.h5", data, BATCH), folder / "l.h5", *BOTH)


def test_nothing_is_infinite(edge_log: Log) -> None:
    infinite = [
        (name, layer)
        for name, data in edge_log.fields.items()
        if data.dtype.kind == "f" and data.ndim >= 2
        for layer in edge_log.layers
        if np.isinf(edge_log.of(layer, name)).any()
    ]
    # In units of a noise that is not there.
    assert edge_log.of("duplicates", "sigma2")[0] == 0
    allowed = {("mode_gap", "duplicates"), ("mode_t", "duplicates")}
    assert set(infinite) <= allowed
    for name, data in edge_log.fields.items():
        if name.startswith("model_") or name == "residual_correlation_max":
            assert np.isfinite(data).all(), name


PURE = ("echo", "echo_se", "echo_loo", "echo_cluster", "echo_reverb", "gain", "gain_se",
        "echo_hill", "echo_two_sided", "echo_exact", "echo_mode", "echo_mode_closed",
        "echo_hill_asym", "anisotropy_left", "anisotropy_right")


@pytest.mark.parametrize("layer", ["huge", "large", "small", "tiny_numbers"])
def test_the_size_of_the_gradient_does_not_matter(edge_log: Log, layer: str) -> None:
    ok = clear(reference.evidence(edges()["base"][0].astype(float)))
    for name in PURE:
        np.testing.assert_allclose(
            edge_log.of(layer, name)[0][ok], edge_log.of("base", name)[0][ok],
            atol=1e-3, rtol=1e-3, err_msg=name,
        )
    np.testing.assert_allclose(
        edge_log.of(layer, "mode_t")[0][ok], edge_log.of("base", "mode_t")[0][ok],
        rtol=1e-3,
    )
    for name in ("signal_modes", "layer_replicas"):
        assert edge_log.of(layer, name)[0] == edge_log.of("base", name)[0]
    for name in ("misfit_hill", "misfit_mode", "noise_scale", "q_fit"):
        np.testing.assert_allclose(
            edge_log.of(layer, name), edge_log.of("base", name), rtol=1e-2,
            err_msg=name,
        )


def test_a_turned_gradient_has_the_same_echoes(edge_log: Log) -> None:
    ok = clear(reference.evidence(edges()["base"][0].astype(float)))
    assert ok.sum() >= 4
    swap = {"anisotropy_left": "anisotropy_right", "anisotropy_right":
            "anisotropy_left", "tau2_left_mode": "tau2_right_mode",
            "tau2_right_mode": "tau2_left_mode"}
    for name in (*PURE, "mode_t", "s_est", "tau2_left_mode", "tau2_right_mode"):
        np.testing.assert_allclose(
            edge_log.of("turned", swap.get(name, name))[0][ok],
            edge_log.of("base", name)[0][ok], rtol=2e-3, err_msg=name,
        )


def test_a_gradient_of_zeros_says_nothing(edge_log: Log) -> None:
    assert edge_log.of("zero", "sigma2")[0] == 0
    assert edge_log.of("zero", "grad_sqnorm")[0] == 0
    assert np.isnan(edge_log.of("zero", "noise_scale")).all()
    assert edge_log.of("zero", "signal_modes")[0] == 0
    assert (edge_log.of("zero", "s_mean")[0] == 0).all()
    assert np.isnan(edge_log.of("zero", "echo")[0]).all()


def test_duplicates_have_no_noise_and_all_echo(edge_log: Log) -> None:
    assert edge_log.of("duplicates", "sigma2")[0] < 1e-13 * (
        edge_log.of("duplicates", "grad_sqnorm")[0])
    np.testing.assert_allclose(edge_log.of("duplicates", "echo")[0], 1, atol=1e-3)
    np.testing.assert_allclose(edge_log.of("duplicates", "gain")[0], 1, atol=1e-3)


def test_a_layer_of_low_rank_has_the_echoes_of_its_rank(edge_log: Log) -> None:
    echo = edge_log.of("rank_two", "echo")[0]
    assert (echo[:2] > 0.99).all()
    assert np.isnan(echo[2:]).all()
    assert edge_log.of("rank_two", "signal_modes")[0] == 2
    ok = np.arange(2)
    of = reference.evidence(edges()["rank_two"][0].astype(float))
    np.testing.assert_allclose(
        edge_log.of("rank_two", "gain")[0][ok], values_of(of)[2][ok], atol=1e-3
    )


def test_a_null_space_that_all_replicas_share_is_no_signal(edge_log: Log) -> None:
    assert (edge_log.of("softmax", "s_mean")[0][:10] >= 0).all()
    for name in ("echo", "gain", "mode_t", "echo_exact"):
        values = edge_log.of("softmax", name)[0]
        assert np.isfinite(values[:8]).all(), name
        assert np.isnan(values[9:]).all(), name
    assert edge_log.of("softmax", "signal_modes")[0] <= 9


@pytest.mark.parametrize("layer", ["long", "tiny"])
def test_odd_shapes_have_the_references_numbers(edge_log: Log, layer: str) -> None:
    data = edges()[layer][0].astype(float)
    if layer == "long":  # the reference makes projectors of rows x rows
        count = 8
        expected = reference.echo(data)
        ok = expected["gap"] > 0.02 * expected["s_mean"][0]
        assert ok.sum() >= 4
        np.testing.assert_allclose(
            edge_log.of(layer, "echo")[0][:count][ok], expected["echo"][ok], atol=2e-3
        )
    else:
        of = reference.evidence(data)
        ok = clear(of)
        count = 2
        assert ok.any()
        np.testing.assert_allclose(
            edge_log.of(layer, "echo")[0][:count][ok], values_of(of)[0][ok], atol=2e-3
        )
    assert np.isnan(edge_log.of(layer, "echo")[0][count:]).all()


def test_a_row_has_noise_but_no_modes(edge_log: Log) -> None:
    expected = reference.noise(edges()["row"][0].astype(float), BATCH)
    for name in ("sigma2", "noise_scale", "noise_scale_se"):
        np.testing.assert_allclose(
            edge_log.of("row", name)[0], expected[name], rtol=1e-4
        )
    assert np.isnan(edge_log.of("row", "echo")).all()
    assert np.isnan(edge_log.of("row", "mode_gap")).all()


def test_a_single_logged_mode_has_a_finite_gap(tmp_path: Path) -> None:
    data = planted(np.random.default_rng(32), 20, 30, 4)
    log = replay(write_gradients(tmp_path / "g.h5", {"w": data}), tmp_path / "l.h5",
                 *EVERY, "--set", "layers.max_modes=1")
    of = reference.evidence(data[0].astype(float), 1)
    np.testing.assert_allclose(
        log.of("w", "mode_gap")[0], of.gap / np.sqrt(of.sigma2), rtol=1e-3
    )


# ---- against the real thing ----

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


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", *sys.argv[1:]]))
