"""A log loses nothing that was committed: its monitors are killed and start
again with --resume, `gradecho recover` closes what they leave, and h5py finds
every row as it was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import (
    Job,
    Log,
    Training,
    errors,
    gradecho,
    read_log,
    replay,
    run,
    told,
    until,
    wait_rows,
    write_gradients,
)

EVERY = ("--set", "sample.echo_every=1")
LAYERS = {"w": (12, 8), "b": (1, 20)}


def same(before: Log, after: Log, rows: int, but: tuple[str, ...] = ()) -> None:
    """The first rows of both are the same, bit by bit."""
    assert set(before.fields) == set(after.fields)
    for name, data in before.fields.items():
        if name not in but:
            np.testing.assert_array_equal(
                data[:rows], after[name][:rows], err_msg=name
            )


def killed(job: Job) -> None:
    """SIGKILL to mpirun and all monitors, who are gone when this returns."""
    job.kill_all()
    until(lambda: not group(job.process.pid), "the monitors are gone")


def group(leader: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(leader)],
        capture_output=True, text=True, check=False,
    ).stdout.splitlines()
    return [line for line in listed if "Z" not in line]


def snapshot(path: Path) -> Log:
    """The committed rows of a log that nobody closed."""
    with h5py.File(path, "r", swmr=True) as file:
        return read_log(file)


def equal_lengths(path: Path) -> int:
    """A plain open succeeds, and every growing dataset is as long as /step."""
    with h5py.File(path, "r") as file:
        rows = len(file["step"])
        for name, data in file.items():
            if data.maxshape[0] is None:
                assert len(data) == rows, name
    return rows


# ---- live ----


@pytest.mark.parametrize("monitors", [1, 2])
def test_a_killed_monitor_goes_on_in_the_same_log(
    training: Training, monitors: int
) -> None:
    rounds, each = 4, 3
    training.train(2, steps=rounds * each, paced=1)
    seen: list[int] = []
    before = None
    for turn in range(rounds):
        monitor = training.monitor(monitors, *EVERY, "--resume")
        if turn > 0:
            until(lambda: "resumed behind" in monitor.stderr, "it resumes")
        until(training.log.exists, "the log")
        training.step(each)
        with training.follow() as file:
            log = wait_rows(file, (turn + 1) * each)
        if before is not None:
            same(before, log, turn * each)
        before = log
        seen += [turn] * each
        if turn < rounds - 1:
            killed(monitor)
            same(log, snapshot(training.log), len(seen))
    training.finish_trainers()
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    log = read_log(training.log)
    same(before, log, rounds * each)
    assert log["step"].tolist() == list(range(rounds * each))
    assert log["restarts"].tolist() == seen
    assert log.attributes["restarts"] == rounds - 1
    assert log.attributes["clean_close"] == 1
    assert (np.diff(log["dropped"]) >= 0).all()
    assert equal_lengths(training.log) == rounds * each
    assert [p.name for p in training.folder.glob("*.new")] == []
    shown = run(gradecho("inspect", training.log)).stdout.splitlines()[0]
    assert f"3 restarts, the last before step {(rounds - 1) * each}" in shown


def test_a_training_that_went_back_repeats_no_step(training: Training) -> None:
    training.train(2, steps=5)
    monitor = training.monitor(2, *EVERY)
    training.finish_trainers()
    assert monitor.finish() == 0
    before = read_log(training.log)
    training.trainers.clear()
    training.train(2, steps=8, seed=2)  # from its first step on
    monitor = training.monitor(2, *EVERY, "--resume")
    training.finish_trainers()
    assert monitor.finish() == 0
    log = read_log(training.log)
    assert log["step"].tolist() == list(range(8))
    assert log["restarts"].tolist() == [0] * 5 + [1] * 3
    same(before, log, 5)
    warnings = [x for x in told(monitor.stderr) if "not measured again" in x]
    assert len(warnings) == 1
    assert "5 samples were of steps that the log had already" in monitor.stderr


def test_a_log_has_one_writer(training: Training, tmp_path: Path) -> None:
    training.train(1, steps=3, paced=1)
    monitor = training.monitor(1, *EVERY)
    training.step()
    with training.follow() as file:
        wait_rows(file, 1)
    grads = small_gradients(tmp_path, 2)
    for command in (
        ["recover", training.log],
        ["replay", grads, "--log", training.log, "--resume"],
        ["replay", grads, "--log", training.log, "--overwrite"],
    ):
        done = run(gradecho(*command))
        assert done.returncode == 2
        assert len(told(done.stderr)) == 1
        assert "being written by another gradecho" in done.stderr
    training.step(2)
    training.finish_trainers()
    assert monitor.finish() == 0
    assert read_log(training.log)["step"].tolist() == [0, 1, 2]


# ---- replay ----


def small_gradients(
    folder: Path,
    samples: int,
    replicas: int = 4,
    shapes: dict[str, tuple[int, int]] | None = None,
    name: str = "grads.h5",
    first: int = 0,
) -> Path:
    rng = np.random.default_rng(7)
    shapes = shapes or LAYERS
    data = {
        layer: rng.standard_normal((samples, replicas, *shape)).astype(np.float32)
        for layer, shape in shapes.items()
    }
    return write_gradients(
        folder / name, data, 32, range(10 * first, 10 * (first + samples), 10)
    )


TIMES = ("time", "duration_seconds", "restarts")


def test_a_killed_replay_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Whenever it is killed, moving averages and the rhythm of echoes too."""
    grads = small_gradients(tmp_path, 240)
    whole, _ = replay(grads, tmp_path / "whole.h5")
    log = tmp_path / "log.h5"
    command = gradecho("replay", grads, "--log", log, "--resume")
    kills = 0
    for turn in range(200):
        job = Job(command, tmp_path, "replay")
        start = committed_now(log)
        until(
            lambda: not job.running() or committed_now(log) >= start + 30,
            "some rows",
        )
        job.kill_all()
        kills += job.process.returncode == -signal.SIGKILL
        if job.process.returncode == 0:
            break
        assert job.process.returncode == -signal.SIGKILL, job.stderr
        if log.exists():
            same(snapshot(log), whole, committed_now(log), TIMES)
    assert kills > 2
    assert equal_lengths(log) == 240
    result = read_log(log)
    same(result, whole, 240, TIMES)
    assert (np.diff(result["restarts"]) >= 0).all()
    assert result.attributes["restarts"] <= kills


def committed_now(log: Path) -> int:
    try:
        with h5py.File(log, "r", swmr=True) as file:
            return len(file["step"])
    except OSError:
        return 0
