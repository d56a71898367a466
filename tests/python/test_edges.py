"""Layers at the edge of what can be measured: huge, tiny, of zeros, of low rank,
with duplicates, of odd shapes."""

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
    Log,
    clear,
    planted,
    reference,
    replay,
    values_of,
    write_gradients,
)

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
