"""`gradecho inspect` and `gradecho config`: what a person sees of a log."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import (
    KNOWN_LAYERS,
    TREE,
    Log,
    Training,
    gradecho,
    read_log,
    replay,
    run,
    until,
    wait_rows,
    write_gradients,
)

STEPS = [4, 8, 15]
SHAPES = {"bias": (30,), "conv/kernel": (8, 9), "block.0/weight": (24, 40)}
MODES = 6


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    rng = np.random.default_rng(3)
    layers = {
        name: 0.1 * np.ones(shape) + rng.standard_normal((len(STEPS), 4, *shape))
        for name, shape in SHAPES.items()
    }
    layers["conv/kernel"][2, 1, 0, 0] = np.nan
    path = write_gradients(folder / "grads.h5", layers, 16, STEPS)
    replay(
        path,
        folder / "log.h5",
        *("--set", "sample.echo_every=2", "--set", f"layers.max_modes={MODES}"),
    )
    return folder / "log.h5"


def inspect(path: Path, *options: str, **more: Any) -> str:
    done = run(gradecho("inspect", path, *options), **more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def inspect_json(path: Path, *options: str) -> dict[str, Any]:
    def forbid(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    parsed: dict[str, Any] = json.loads(
        inspect(path, "--json", *options), parse_constant=forbid
    )
    return parsed


# ---- the table ----


def lines_of(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(name + " ")]


def test_the_table_has_every_layer(log: Path) -> None:
    text = inspect(log)
    head = lines_of(text, "layer")
    assert len(head) == 1
    assert re.sub(r"  +", "|", head[0]).startswith(
        "layer|rows x cols|sigma^2|noise scale|knee|"
    )
    values = read_log(log)
    for name in SHAPES:
        found = lines_of(text, name)
        assert len(found) == 1, name
        i = values.layers.index(name)
        assert f"{values['rows'][i]} x {values['cols'][i]}" in found[0]
        sigma2 = values.of(name, "sigma2").mean()
        assert f"  {sigma2:.3g}  " in found[0]
    assert len(lines_of(text, "whole model")) == 1
    assert "session replay" in text
    assert "3 samples" in text
    assert "step 15: " in text
    assert "echoes of step 15" in text
    # The bias has no echo: its line ends where that of the others goes on.
    length = len(lines_of(text, "block.0/weight")[0])
    assert len(lines_of(text, "bias")[0]) < length


def test_what_stands_out_is_told(log: Path) -> None:
    assert "conv/kernel: 1 of 4 replicas missing or not finite" in inspect(log)
    assert "not finite" not in inspect(log, "--step", "8")


SAME = "read the same data"


@pytest.mark.parametrize("pair", [(0, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("apart", [0.0, 0.2])
def test_replicas_with_the_same_data_are_named(
    tmp_path: Path, pair: tuple[int, int], apart: float
) -> None:
    """Exact copies, and nearly so."""
    rng = np.random.default_rng(51)
    data = rng.standard_normal((1, 4, 60, 40))
    data[:, pair[1]] = data[:, pair[0]] + apart * rng.standard_normal((60, 40))
    path = write_gradients(tmp_path / "grads.h5", {"w": data})
    log, _ = replay(path, tmp_path / "log.h5")
    correlation = log["residual_correlation_max"][0]
    assert correlation > (0.9 if apart else 0.999)
    lines = [x for x in inspect(tmp_path / "log.h5").splitlines() if SAME in x]
    assert [x.strip() for x in lines] == [
        f"ranks {pair[0]} and {pair[1]} {SAME} since step 0: correlation of "
        f"their noise {correlation:.2f}, above 0.9"
    ]


def test_independent_replicas_are_not_accused(tmp_path: Path) -> None:
    """Noise of which a few rows and columns have most looks alike by chance."""
    rng = np.random.default_rng(52)
    data = rng.standard_normal((100, 8, 64, 64))
    data *= np.exp(rng.standard_normal((100, 1, 64, 1)))
    data *= np.exp(rng.standard_normal((100, 1, 1, 64)))
    path = write_gradients(tmp_path / "grads.h5", {"w": data.astype(np.float32)})
    log, _ = replay(path, tmp_path / "log.h5")
    order = np.argsort(log["residual_correlation_max"])
    assert log["residual_correlation_max"][order[-1]] > 0.5  # what was once told
    for row in order[-3:]:
        step = str(log["step"][row])
        assert SAME not in inspect(tmp_path / "log.h5", "--step", step)


def test_step_picks_the_sample(log: Path) -> None:
    text = inspect(log, "--step", "8")
    assert "step 8: " in text
    assert "echoes of step 4" in text  # this sample has none of its own
    assert "step 4: " in inspect(log, "--step", "4")


def mode_rows(text: str) -> list[list[str]]:
    """The table of modes, without its header."""
    rows = [line.split() for line in text.splitlines()]
    first = next(i for i, row in enumerate(rows) if row[:1] == ["mode"])
    assert rows[first][1:3] == ["s", "seen"]
    return [row for row in rows[first + 1 :] if row]


def test_layer_shows_every_mode(log: Path) -> None:
    text = inspect(log, "--layer", "block*")
    assert lines_of(text, "bias") == []
    rows = mode_rows(text)
    values = read_log(log)
    assert [row[0] for row in rows] == [str(k + 1) for k in range(MODES)]
    for k, row in enumerate(rows):
        for column, name in ((1, "s_replica"), (2, "s_est"), (3, "echo")):
            expected = values.of("block.0/weight", name)[2, k]
            if np.isnan(expected):
                assert row[column] == "-"
            else:
                np.testing.assert_allclose(float(row[column]), expected, rtol=0.06)


def test_layer_is_a_glob_over_all_layers(log: Path) -> None:
    text = inspect(log, "--layer", "*")
    assert text.count("s seen") == 2  # two of three have modes
    assert inspect(log, "--layer", "bias").count("s seen") == 0


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("options", [[], ["--layer", "*"], ["--json"]])
def test_a_pipe_gets_plain_text(log: Path, locale: str, options: list[str]) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": locale, "TERM": "xterm-256color"}
    text = inspect(log, *options, env=environment)
    assert text.isascii()
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_reader_that_goes_away_is_no_crash(log: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            gradecho("inspect", log), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=30, check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "standard output" in done.stderr


# ---- JSON ----


def assert_same(got: Any, expected: Any, what: str) -> None:
    """JSON against HDF5: null for NaN and for a missing whole number."""
    flat = np.atleast_1d(expected)
    values = got if isinstance(got, list) else [got]
    assert len(values) == len(flat), what
    for value, wanted in zip(values, flat, strict=True):
        missing = wanted < 0 if flat.dtype.kind == "i" else not np.isfinite(wanted)
        if missing:
            assert value is None, what
        else:
            np.testing.assert_allclose(value, wanted, rtol=1e-11, err_msg=what)


DIMENSIONS = {
    "step": 1, "time": 1, "replicas": 1, "loss": 1, "batch_size": 1, "dropped": 1
}


def assert_json_is_the_log(
    found: dict[str, Any], log: Log, row: int, echo: int
) -> None:
    assert found["step"] == log["step"][row]
    assert found["echo_step"] == log["step"][echo]
    for name in DIMENSIONS:
        assert_same(found[name], log[name][row], name)
    assert [layer["layer"] for layer in found["layers"]] == log.layers
    nulls = 0
    for i, layer in enumerate(found["layers"]):
        assert layer["rows"] == log["rows"][i]
        assert layer["cols"] == log["cols"][i]
        fields = [
            name
            for name, data in log.fields.items()
            if data.ndim >= 2 and data.shape[:2] == (len(log["step"]), len(log.layers))
        ]
        assert {"sigma2", "echo", "replica_noise"} <= set(fields)
        modes = len(log["mode"])
        for name in fields:
            per_mode = log[name].ndim == 3 and log[name].shape[2] == modes
            at = echo if per_mode and name != "replica_noise" else row
            assert_same(layer[name], log[name][at, i], name)
            nulls += json.dumps(layer[name]).count("null")
    assert nulls > 0  # what is missing is there, as null


@pytest.mark.parametrize(
    ("options", "row", "echo"),
    [([], 2, 2), (["--step", "8"], 1, 0), (["--step", "4"], 0, 0)]
)
def test_json_is_what_h5py_reads(
    log: Path, options: list[str], row: int, echo: int
) -> None:
    found = inspect_json(log, *options)
    assert_json_is_the_log(found, read_log(log), row, echo)
    assert found["log"] == str(log)
    assert found["session"] == "replay"
    assert found["samples"] == len(STEPS)
    assert found["clean_close"] is True


def test_json_averages_are_ratios_of_averages(log: Path) -> None:
    found, values = inspect_json(log), read_log(log)
    trace, square = values["noise_trace"], values["grad_sqnorm"]
    assert found["averaged"] == len(STEPS)
    for i, layer in enumerate(found["layers"]):
        expected = 16 * trace[:, i].sum() / square[:, i].sum()
        np.testing.assert_allclose(layer["noise_scale_average"], expected, rtol=1e-9)
        np.testing.assert_allclose(
            layer["sigma2_average"], values["sigma2"][:, i].mean(), rtol=1e-9
        )
    np.testing.assert_allclose(
        found["noise_scale_average"], 16 * trace.sum() / square.sum(), rtol=1e-9
    )


def test_json_of_one_layer(log: Path) -> None:
    found = inspect_json(log, "--layer", "conv*")
    assert [layer["layer"] for layer in found["layers"]] == ["conv/kernel"]
    assert found["layers"][0]["layer_replicas"] == 3
    assert found["layers"][0]["replica_noise"][1] is None


def test_names_that_json_must_escape(tmp_path: Path) -> None:
    name = 'é"\\weight'
    data = np.random.default_rng(0).standard_normal((1, 2, 4, 4))
    path = write_gradients(tmp_path / "grads.h5", {name: data})
    replay(path, tmp_path / "log.h5")
    found = inspect_json(tmp_path / "log.h5")
    assert [layer["layer"] for layer in found["layers"]] == [name]
    assert name in inspect(tmp_path / "log.h5")


# ---- a log that grows, and one whose writer was killed ----


def test_a_log_that_grows_and_is_cut_off(training: Training) -> None:
    training.train(4, steps=6, paced=1)
    monitor = training.monitor(2, "--set", "sample.echo_every=2")
    training.step(3)
    with training.follow() as file:
        log = wait_rows(file, 3)
        text = inspect(training.log)
        assert "3 samples, still open" in text
        assert f"session {training.session}, 4 trainers, 3 samples" in text
        for name in KNOWN_LAYERS:
            assert len(lines_of(text, name)) == 1
        assert_json_is_the_log(inspect_json(training.log), log, 2, 2)
        training.step()
        log = wait_rows(file, 4)
        found = inspect_json(training.log)
        assert_json_is_the_log(found, log, 3, 2)
        assert (found["samples"], found["clean_close"]) == (4, False)

    monitor.kill_all()
    assert monitor.process.returncode == -signal.SIGKILL
    with pytest.raises(OSError, match="already open"):
        h5py.File(training.log, "r")  # else this test is about nothing
    until(
        lambda: "4 samples, its writer was killed" in inspect(training.log),
        "the monitors are gone",
    )
    assert len(mode_rows(inspect(training.log, "--layer", "block.0*"))) == 16
    found = inspect_json(training.log)
    assert_json_is_the_log(found, log, 3, 2)
    assert (found["samples"], found["clean_close"]) == (4, False)


# ---- configurations ----


def configuration(*options: str | Path) -> str:
    done = run(gradecho("config", *options))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_default_yaml_is_what_config_prints() -> None:
    assert (TREE / "configs" / "default.yaml").read_text() == configuration()
    assert configuration("--default") == configuration()


def test_the_default_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text(configuration())
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert configuration("--check", path) == configuration("--check", empty)


CONFIGURATIONS = sorted((TREE / "configs").glob("*.yaml"))


def test_there_are_configurations() -> None:
    assert len(CONFIGURATIONS) >= 2


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_configuration_is_valid(path: Path, tmp_path: Path) -> None:
    made = configuration("--check", path)
    again = tmp_path / "again.yaml"
    again.write_text(made)
    assert configuration("--check", again) == made
    if path.name != "default.yaml":  # it is there because it differs
        assert made != configuration("--check", TREE / "configs" / "default.yaml")
