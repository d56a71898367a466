"""Layers that take turns (layers.per_sample), and large ones that are read panel
by panel: the same numbers, only fewer at a time or in less memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Log, gradecho, read_log, replay, run, write_gradients

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
import gradecho as package  # noqa: E402
from gradecho._report import pick_layers  # noqa: E402

EVERY = ("--set", "sample.echo_every=1")
TWO = ("--set", "layers.per_sample=2")
SHAPES = {"a": (20, 12), "b": (12, 30), "c": (9, 9), "d": (25, 8), "e": (10, 11)}
SAMPLES, TURNS = 7, 3
ECHO_FIELDS = ("echo", "echo_se", "gain", "s_mean", "mode_t", "tau2_left_mode")


def planted(
    rng: np.random.Generator, shape: tuple[int, int], samples: int, replicas: int
) -> NDArray[np.float32]:
    left, right = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for n in shape)
    truth = (left * [60.0, 30.0, 20.0]) @ right.T
    noise = rng.standard_normal((samples, replicas, *shape))
    return (truth + noise).astype(np.float32)


@pytest.fixture(scope="module")
def layers() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    made = {name: planted(rng, shape, SAMPLES, 4) for name, shape in SHAPES.items()}
    made["bias"] = rng.standard_normal((SAMPLES, 4, 40)).astype(np.float32)
    return made


def measured(log: Log) -> NDArray[np.bool_]:
    """[step, layer] has echoes."""
    known: NDArray[np.bool_] = np.isfinite(log["echo"]).any(axis=2)
    return known


@pytest.fixture(scope="module")
def logs(
    layers: dict[str, NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Log, Log]:
    """(folder, everything in every sample, two layers in turn)"""
    folder = tmp_path_factory.mktemp("turns")
    grads = write_gradients(folder / "grads.h5", layers, batch_size=8)
    whole, _ = replay(grads, folder / "whole.h5", *EVERY)
    turns, _ = replay(grads, folder / "turns.h5", *EVERY, *TWO, ranks=2)
    return folder, whole, turns


def test_every_layer_has_its_turn(logs: tuple[Path, Log, Log]) -> None:
    _, whole, turns = logs
    seen = measured(turns)
    matrices = [turns.layers.index(name) for name in SHAPES]
    assert measured(whole)[:, matrices].all()
    assert seen.sum(axis=1).max() == 2
    for first in range(SAMPLES - TURNS + 1):
        cycle = seen[first : first + TURNS, matrices].sum(axis=0)
        assert cycle.tolist() == [1] * len(SHAPES)
    assert not seen[:, turns.layers.index("bias")].any()


def test_a_turn_gives_what_a_whole_sample_gives(logs: tuple[Path, Log, Log]) -> None:
    _, whole, turns = logs
    seen = measured(turns)
    for name in ECHO_FIELDS:
        np.testing.assert_array_equal(turns[name][seen], whole[name][seen])
        assert np.isnan(turns[name][~seen]).all(), name
    assert (turns["signal_modes"] >= 0).tolist() == seen.tolist()
    for name in ("sigma2", "noise_scale", "replica_noise", "residual_correlation_max"):
        np.testing.assert_array_equal(turns[name], whole[name])


def test_a_resumed_log_goes_on_with_the_turns(
    logs: tuple[Path, Log, Log], layers: dict[str, NDArray[np.float32]]
) -> None:
    folder, _, turns = logs
    part = write_gradients(
        folder / "part.h5", {name: data[:4] for name, data in layers.items()}, 8
    )
    log = folder / "resumed.h5"
    replay(part, log, *EVERY, *TWO)
    resumed, _ = replay(folder / "grads.h5", log, *EVERY, *TWO, "--resume")
    np.testing.assert_array_equal(resumed["echo"], turns["echo"])


def test_inspect_shows_the_last_echoes_of_each_layer(
    logs: tuple[Path, Log, Log],
) -> None:
    folder, whole, turns = logs
    seen = measured(turns)
    done = run(gradecho("inspect", folder / "turns.h5", "--json"))
    assert done.returncode == 0, done.stderr
    shown = {layer["layer"]: layer for layer in json.loads(done.stdout)["layers"]}
    for name in SHAPES:
        last = int(np.flatnonzero(seen[:, turns.layers.index(name)])[-1])
        assert shown[name]["echo_step"] == turns["step"][last]
        echo = np.array(shown[name]["echo"], dtype=float)
        np.testing.assert_allclose(echo, whole.of(name, "echo")[last], rtol=1e-6)
    assert shown["bias"]["echo_step"] is None
    table = run(gradecho("inspect", folder / "turns.h5")).stdout
    assert f"echoes of steps {SAMPLES - TURNS} to {SAMPLES - 1}" in table
    table = run(gradecho("inspect", folder / "whole.h5")).stdout
    assert f"echoes of step {SAMPLES - 1}" in table


def test_the_reader_takes_the_last_echoes_of_each_layer(
    logs: tuple[Path, Log, Log],
) -> None:
    folder, whole, turns = logs
    seen = measured(turns)
    with package.open_log(folder / "turns.h5") as log:
        rows = log.last_echo_rows()
        last, signal = log.last_echoes("echo"), log.last_echoes("signal_modes")
        picks = {pick.layer for pick in pick_layers(log)}
    for i, name in enumerate(turns.layers):
        known = np.flatnonzero(seen[:, i])
        if name == "bias":
            assert rows[i] == -1 and np.isnan(last[i]).all() and signal[i] == -1
            continue
        assert rows[i] == known[-1]
        np.testing.assert_array_equal(last[i], whole["echo"][known[-1], i])
        assert signal[i] == whole["signal_modes"][known[-1], i] > 0
    assert picks and picks <= {turns.layers.index(name) for name in SHAPES}


def test_export_leaves_out_what_was_not_measured(logs: tuple[Path, Log, Log]) -> None:
    folder, _, turns = logs
    out = folder / "turns.jsonl"
    done = run(gradecho("export", folder / "turns.h5", "--format", "jsonl", "-o", out))
    assert done.returncode == 0, done.stderr
    echoes = sum(
        json.loads(line).get("echo") is not None for line in out.read_text().splitlines()
    )
    assert echoes == np.isfinite(turns["echo"]).sum()


def test_a_layer_read_by_panels_gives_the_same_bits(tmp_path: Path) -> None:
    """A layer above a sixteenth of the model is not copied; ballast makes it
    small against the model."""
    rng = np.random.default_rng(5)
    large = planted(rng, (700, 400), 1, 3)
    assert large[0, 0].size > 1 << 18
    ballast = np.ones((1, 3, 17 * large[0, 0].size), dtype=np.float32)
    alone = write_gradients(tmp_path / "alone.h5", {"w": large})
    beside = write_gradients(tmp_path / "beside.h5", {"w": large, "ballast": ballast})
    panels, _ = replay(alone, tmp_path / "panels.h5", ranks=3)
    wide, _ = replay(alone, tmp_path / "wide.h5", ranks=1)
    copied, _ = replay(beside, tmp_path / "copied.h5", ranks=3)
    assert np.isfinite(panels["echo"]).all()
    for name in (*ECHO_FIELDS, "echo_loo", "echo_cluster", "tau2_right_mode"):
        np.testing.assert_array_equal(panels.of("w", name), copied.of("w", name))
        np.testing.assert_array_equal(panels.of("w", name), wide.of("w", name))
