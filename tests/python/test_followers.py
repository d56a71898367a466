"""A log in TensorBoard and Weights & Biases: what arrives is what it holds."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradecho
from gradecho import followers
from reader_support import PACKAGE, Writer, plant

NAMES = ["fc1.weight", "fc2.weight", "fc2.bias"]


class Board:
    """Takes what a SummaryWriter takes."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float, float]]] = {}

    def add_scalar(self, tag: str, value: float, step: int, walltime: float) -> None:
        self.points.setdefault(tag, []).append((step, value, walltime))


class Run:
    """Takes what a run of Weights & Biases takes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.commits: list[bool] = []
        self.metrics: dict[str, Any] = {}

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics[name] = step_metric

    def log(self, values: dict[str, float], commit: bool) -> None:
        self.rows.append(values)
        self.commits.append(commit)


def check(points: dict[str, list[tuple[int, float, float]]], log: Any) -> None:
    """The curves of the planted log, whole."""
    for i, name in enumerate(NAMES):
        steps, values, times = np.transpose(points[f"gradecho/noise_scale/{name}"])
        np.testing.assert_array_equal(steps, log.steps)
        np.testing.assert_allclose(values, log.read("noise_scale_smooth", layer=i))
        np.testing.assert_allclose(times, log.read("time"), atol=1)
        values = [v for _, v, _ in points[f"gradecho/knee/{name}"]]
        np.testing.assert_allclose(values, np.sqrt(log.read("tau2_edge", layer=i)))
    steps, values, _ = np.transpose(points["gradecho/echo/fc2.weight/2"])
    np.testing.assert_array_equal(steps, log.steps[log.echo_rows()])
    np.testing.assert_allclose(values, log.read("echo", layer=1)[log.echo_rows(), 1])
    assert not any("echo/fc2.bias" in tag for tag in points), "it has no echoes"


def test_tensorboard(tmp_path: Path) -> None:
    plant(tmp_path / "log.h5", NAMES)
    board = Board()
    with gradecho.open_log(tmp_path / "log.h5") as log:
        with followers.tensorboard(log.path, board) as follower:
            assert follower.poll() == 30
            assert follower.poll() == 0
        check(board.points, log)


def test_unbounded_noise_scales_are_left_out(tmp_path: Path) -> None:
    plant(tmp_path / "log.h5", NAMES, noise_scale_smooth=np.full((30, 3), -2.0))
    board = Board()
    followers.tensorboard(tmp_path / "log.h5", board, layers="fc1.*").poll()
    assert not any("noise_scale/" in tag for tag in board.points)
    assert "gradecho/knee/fc1.weight" in board.points
    assert "gradecho/knee/fc2.weight" not in board.points


def test_the_training_s_own_run_is_not_moved_on(tmp_path: Path) -> None:
    plant(tmp_path / "log.h5", NAMES, samples=4)
    run = Run()
    follower = followers.wandb(tmp_path / "log.h5", run)
    assert [follower.poll() for _ in range(5)] == [1, 1, 1, 1, 0]
    assert [row["gradecho/step"] for row in run.rows] == [0, 10, 20, 30]
    assert run.commits == [False] * 4
    assert run.metrics == {"gradecho/step": None, "gradecho/*": "gradecho/step"}


def test_a_run_of_its_own(tmp_path: Path) -> None:
    plant(tmp_path / "log.h5", NAMES, samples=4)
    run = Run()
    assert followers.wandb(tmp_path / "log.h5", run, own_run=True).run() == 4
    assert run.commits == [True] * 4


def test_a_log_that_comes_grows_and_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    board = Board()
    follower = followers.tensorboard(path, board)
    assert follower.poll() == 0, "there is no log yet"
    with Writer(path) as writer:
        assert follower.poll() == 0
        writer.append(3)
        assert follower.poll() == 3
        writer.append(2)
        assert follower.poll() == 2
        writer.append(1)
        writer.close()
    assert follower.run(timeout=20, interval=0.01) == 1
    follower.close()


def test_a_training_survives_whatever_comes(tmp_path: Path) -> None:
    class Broken:
        def add_scalar(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("disk full")

    plant(tmp_path / "log.h5", NAMES)
    (tmp_path / "text.h5").write_text("no log")
    for path, words in (("log.h5", "disk full"), ("text.h5", "is not an HDF5 file")):
        follower = followers.tensorboard(tmp_path / path, Broken())
        with pytest.warns(gradecho.GradechoWarning, match=words):
            assert follower.poll() == 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert follower.poll() == 0, "told once"
    with pytest.raises(gradecho.GradechoError, match=r"no log .* came in 0.05 s"):
        follower = followers.tensorboard(tmp_path / "never.h5", Broken())
        follower.run(timeout=0.05, interval=0.01)


def test_tensorboard_s_own_writer(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    pytest.importorskip("torch.utils.tensorboard", reason="no SummaryWriter")
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    plant(tmp_path / "log.h5", NAMES)
    done = subprocess.run(
        [sys.executable, "-m", "gradecho", "tensorboard", tmp_path / "log.h5",
         tmp_path / "runs"],
        env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "30 samples\n"), done.stderr
    read = EventAccumulator(str(tmp_path / "runs"))
    read.Reload()
    points = {
        tag: [(e.step, e.value, e.wall_time) for e in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }
    with gradecho.open_log(tmp_path / "log.h5") as log:
        np.testing.assert_allclose(
            [v for _, v, _ in points["gradecho/noise_scale/fc2.bias"]],
            log.read("noise_scale_smooth", layer=2),
            rtol=1e-6,
        )
        assert len(points["gradecho/echo/fc1.weight/1"]) == len(log.echo_rows())


def test_wandb_s_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    plant(tmp_path / "log.h5", NAMES, samples=3)
    for name, value in (
        ("MODE", "offline"),
        ("DIR", str(tmp_path)),
        ("SILENT", "true"),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    with wandb.init(project="test") as run:
        follower = followers.wandb(tmp_path / "log.h5", run)
        for loss in (3.0, 2.0, 1.0):
            assert follower.poll() == 1
            run.log({"loss": loss})
        assert run.step == 3, "one row for each log() of the training"
        assert run.summary["gradecho/step"] == 20
