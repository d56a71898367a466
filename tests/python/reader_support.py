"""Logs to read: planted ones, written by h5py, and a process that appends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "python"

PER_STEP = ("time", "loss", "batch_size", "duration_seconds", "model_noise_scale",
            "model_noise_scale_smooth", "residual_correlation_max")  # fmt: skip
PER_LAYER = ("sigma2", "sigma2_se", "noise_scale", "noise_scale_se",
             "noise_scale_smooth", "edge", "tau2_edge", "misfit_exact")  # fmt: skip
PER_MODE = ("s_mean", "s_replica", "s_est", "echo", "echo_se", "echo_hill",
            "echo_exact", "echo_mode", "mode_t", "gain")  # fmt: skip
UNITS = {"noise_scale": "examples", "sigma2": "[g]^2"}


def plant(
    path: Path,
    names: list[str],
    samples: int = 30,
    modes: int = 6,
    replicas: int = 4,
    every: int = 3,
    **change: Any,
) -> dict[str, Any]:
    """Write a log that was closed in order; its values by name. Echoes in every
    third sample; the last layer has none. change: values instead of ours, and
    fields beyond them, [step] or [step, layer]."""
    rng = np.random.default_rng(7)
    count = len(names)
    values: dict[str, Any] = {
        "step": 10 * np.arange(samples),
        "replicas": np.full(samples, replicas),
        "dropped": np.zeros(samples, dtype=int),
        "residual_correlation_pair": np.tile([0, 1], (samples, 1)),
        "layer_replicas": np.full((samples, count), replicas),
        "replica_noise": rng.uniform(0.8, 1.2, (samples, count, replicas)),
    }
    values.update({name: rng.uniform(1, 2, samples) for name in PER_STEP})
    values["residual_correlation_max"] = rng.uniform(-0.3, 0.1, samples)
    values["batch_size"] = np.full(samples, 64.0)
    values.update({name: rng.uniform(1, 2, (samples, count)) for name in PER_LAYER})
    values["noise_scale"] = 300 * values["noise_scale"] * np.sqrt(1 + np.arange(count))
    values["noise_scale_smooth"] = values["noise_scale"].copy()
    values["noise_scale_se"] = 0.2 * values["noise_scale"]
    values["misfit_exact"] = 0.01 * values["misfit_exact"]
    values["tau2_edge"] = 0.01 * values["tau2_edge"]
    echo = np.arange(samples) % every == 0
    for name in PER_MODE:
        field = np.sort(rng.uniform(0.05, 0.9, (samples, count, modes)))[:, :, ::-1]
        field[~echo] = np.nan
        field[:, -1] = np.nan
        values[name] = field
    signal = rng.integers(0, modes, (samples, count))
    signal[~echo] = -1
    signal[:, -1] = -1
    values["signal_modes"] = signal
    values.update(change)
    _write(path, names, values, modes, replicas)
    return values


def _write(
    path: Path, names: list[str], values: dict[str, Any], modes: int, replicas: int
) -> None:
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs.update({
            "gradecho_schema": 1, "gradecho_version": "0.1.0", "session": "planted",
            "created": "2025-01-01T00:00:00Z", "world_size": 4, "clean_close": 1,
            "config": "sample:\n  every: 10\n",
        })  # fmt: skip
        scales = {
            "layer": np.array([name.encode() for name in names]),
            "mode": np.arange(modes),
            "replica": np.arange(replicas),
            "pair": np.arange(2),
            "step": values["step"],
        }
        for name, scale in scales.items():
            grows = {"maxshape": (None,)} if name == "step" else {}
            file.create_dataset(name, data=scale, **grows).make_scale(name)
        shape = {"rows": np.full(len(names), 60), "cols": np.full(len(names), 40)}
        for name, value in {**shape, **values}.items():
            if name == "step":
                continue
            value = np.asarray(value)
            dims = ["layer"] if name in shape else ["step", "layer", "mode"]
            if name == "replica_noise":
                dims = ["step", "layer", "replica"]
            elif name == "residual_correlation_pair":
                dims = ["step", "pair"]
            grows = {"maxshape": (None, *value.shape[1:])} if name not in shape else {}
            made = file.create_dataset(name, data=value, **grows)
            made.attrs["units"] = UNITS.get(name, "1")
            made.attrs["long_name"] = f"planted {name}"
            for axis, dim in zip(range(value.ndim), dims):
                made.dims[axis].attach_scale(file[dim])


class Writer:
    """A process that appends to a log as a monitor does; a context."""

    def __init__(self, path: Path, layers: int = 3, resume: bool = False) -> None:
        self.process = subprocess.Popen(
            [
                os.environ["LOG_WRITER_BIN"],
                str(path),
                "1",
                str(layers),
                "4",
                "5",
                *["resume"] * resume,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.append(0)  # the log exists

    def append(self, rows: int) -> int:
        """Rows in the log when they are there."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{rows}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline().split()[1])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
