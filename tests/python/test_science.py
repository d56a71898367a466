"""`gradecho replay`: every science field of the log against reference.py.

Planted gradients go in, the log comes out; what NumPy says of the same
gradients, in double precision and by brute force, must be in it. How often
noise is called signal and signal is found: test_rates.py; layers at the edge of
what can be measured: test_edges.py; a real network: test_network.py. Run by
ctest, which sets GRADECHO_BIN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from science import (
    BATCH,
    BOTH,
    EVERY,
    Array,
    clear,
    planted,
    reference,
    replay,
    values_of,
    write_gradients,
)

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
