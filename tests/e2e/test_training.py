"""A real training beside its monitors, as launch/gradecho-run starts them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import TREE, Log, program, read_log, run

RANKS, STEPS, BATCH = 4, 200, 64
EVERY = 5
TRAINER = ["--steps", str(STEPS), "--batch", str(BATCH), "--report", "1"]


def train(*options: str) -> list[str]:
    return [
        "mpirun", "-n", str(RANKS), "--bind-to", "none", program("CHAR_LM_BIN"),
        *TRAINER, *options,
    ]


def segments(session: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"gradecho.{session}.*"))


def losses(output: str) -> list[str]:
    """Loss of every step, then of the held-out text, as printed."""
    steps = re.findall(r"^step +\d+ +loss (\S+) nats", output, re.MULTILINE)
    last = re.findall(r"^held-out loss .*$", output, re.MULTILINE)
    assert len(steps) == STEPS, output
    assert len(last) == 1, output
    return steps + last


class Run:
    """One training under gradecho-run, and what it left."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.h5"
        self.session = f"e2e-training-{os.getpid()}"
        launch = [
            str(TREE / "launch" / "gradecho-run"), "-n", str(RANKS),
            "--log", str(self.path), "--session", self.session,
            "--set", f"sample.every={EVERY}", "--set", "sample.echo_every=5", "--",
        ]
        self.done: subprocess.CompletedProcess[str] = run(launch + train())
        self.left = segments(self.session)

    def log(self) -> Log:
        assert self.done.returncode == 0, self.done.stderr
        return read_log(self.path)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("training"))


def test_the_run_ends_well(watched: Run) -> None:
    assert watched.done.returncode == 0, watched.done.stderr
    assert "error" not in watched.done.stderr
    assert "warning" not in watched.done.stderr
    log = watched.log()
    assert log.attributes["clean_close"] == 1
    assert log.attributes["world_size"] == RANKS
    assert log.attributes["session"].decode() == watched.session
    assert watched.left == []


def test_the_loss_falls(watched: Run) -> None:
    values = [float(x) for x in losses(watched.done.stdout)[:STEPS]]
    assert np.mean(values[-10:]) < np.mean(values[:5]) - 0.5


def test_every_sample_is_whole(watched: Run) -> None:
    log = watched.log()
    steps = log["step"]
    assert len(steps) >= 5
    assert (np.diff(steps) > 0).all()
    assert (steps % EVERY == 0).all()
    assert steps[0] >= EVERY
    assert steps[-1] <= STEPS
    assert (log["replicas"] == RANKS).all()
    assert (log["layer_replicas"] == RANKS).all()
    assert (log["batch_size"] == BATCH).all()
    printed = np.array([float(x) for x in losses(watched.done.stdout)[:STEPS]])
    np.testing.assert_allclose(log["loss"], printed[steps - 1], atol=1e-3)
    # What was not measured since the first was lost, and counted.
    offered = (steps[-1] - steps[0]) // EVERY + 1
    assert log["dropped"][-1] >= offered - len(steps)


def test_the_numbers_make_sense(watched: Run) -> None:
    log = watched.log()
    assert len(log.layers) >= 4
    for name in ("sigma2", "sigma2_se", "noise_trace", "edge"):
        assert np.isfinite(log[name]).all(), name
        assert (log[name] > 0).all(), name
    matrices = np.minimum(log["rows"], log["cols"]) > 1
    assert matrices.any()
    first = log["echo"][0]
    # Which step comes first depends on when the monitors were there, and a
    # layer may be all noise in one step: then its leading echo is 0.
    signal = log["signal_modes"][0] > 0
    assert signal.any()
    assert (first[signal, 0] > 0.1).all()
    assert ((first[matrices, 0] >= 0) & (first[matrices, 0] <= 1)).all()
    measured = np.isfinite(log["echo"][:, matrices, 0]).all(axis=1)
    assert measured.tolist() == [i % 5 == 0 for i in range(len(measured))]
    assert np.isnan(log["echo"][:, ~matrices]).all()


def test_watching_does_not_change_the_training(watched: Run) -> None:
    alone = run(train("--no-watch"))
    nobody = watched.session + "-nobody"
    unmonitored = run(train(), env={**os.environ, "GRADECHO_SESSION": nobody})
    for done in (alone, unmonitored):
        assert done.returncode == 0, done.stderr
        assert losses(done.stdout) == losses(watched.done.stdout)
    assert segments(nobody) == []


def test_a_monitor_that_cannot_run_does_no_harm(watched: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.h5"
    log.write_text("precious")
    launch = [
        str(TREE / "launch" / "gradecho-run"), "-n", str(RANKS),
        "--log", str(log), "--",
    ]
    done = run(launch + train())
    assert done.returncode == 0, done.stderr
    assert losses(done.stdout) == losses(watched.done.stdout)
    assert log.read_text() == "precious"
    assert f"log {log} exists" in done.stderr
    # A training this short may end before they do: it is told which was first.
    assert "warning: the monitors ended with exit code 2" in done.stderr
