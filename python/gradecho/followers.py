"""Follow a log into TensorBoard or Weights & Biases.

Beside the training, in a process of its own, which cannot disturb it:

    python -m gradecho tensorboard run.h5 runs/gradecho
    python -m gradecho wandb run.h5 --project NAME

or within the training, on one rank, now and then:

    follower = followers.tensorboard("run.h5", summary_writer)
    for step in ...:
        ...
        follower.poll()      # never raises
    follower.close()
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gradecho._closing import Closing
from gradecho._errors import GradechoError, Place, warn
from gradecho.reader import Log, Sample, open_log

import numpy as np  # isort: skip  (its absence is told by the reader)

__all__ = ["Follower", "scalars", "tensorboard", "wandb"]

MODES = 3
DEADLINE = 5.0  # for the first look at a log that grows
# Training step, Unix seconds, numbers by name.
Write = Callable[[int, float, "dict[str, float]"], None]


def scalars(
    sample: Sample, *, layers: str = "*", modes: int = MODES
) -> dict[str, float]:
    """The numbers of a sample that are worth a curve: noise scales (moving
    averages), knees, signal modes and leading echoes of the layers whose name
    matches the glob `layers`. What is not known is left out."""
    log = sample.log
    found: dict[str, float] = {}

    def take(name: str, value: Any, above: float = -np.inf) -> None:
        if np.isfinite(value) and value > above:
            found["gradecho/" + name] = float(value)

    for name, field, above in (
        ("model/noise_scale", "model_noise_scale_smooth", 0),
        ("model/replicas", "replicas", -1),
        ("model/dropped", "dropped", -1),
    ):
        if field in log:
            take(name, sample[field], above)
    scale, tau2 = sample["noise_scale_smooth"], sample["tau2_edge"]
    count, echo = sample["signal_modes"], sample["echo"]
    for i, layer in enumerate(log.layers):
        if not fnmatchcase(layer.name, layers):
            continue
        take(f"noise_scale/{layer.name}", scale[i], 0)
        if tau2[i] > 0:
            take(f"knee/{layer.name}", np.sqrt(tau2[i]))
        take(f"signal_modes/{layer.name}", count[i], -1)
        for k, value in enumerate(echo[i, :modes]):
            take(f"echo/{layer.name}/{k + 1}", value)
    return found


def tensorboard(
    path: str | os.PathLike[str],
    writer: Any,
    *,
    layers: str = "*",
    modes: int = MODES,
) -> Follower:
    """Hand the log's numbers to a SummaryWriter (of torch or tensorboardX)."""

    def write(step: int, when: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step, walltime=when)

    return Follower(path, write, layers=layers, modes=modes)


def wandb(
    path: str | os.PathLike[str],
    run: Any,
    *,
    own_run: bool = False,
    layers: str = "*",
    modes: int = MODES,
) -> Follower:
    """Hand the log's numbers to a run of Weights & Biases, against the step
    that they were measured at, `gradecho/step`.

    In the training's own run they go out with its next log() call, so that its
    step count is not moved: one sample for each poll(). own_run: nobody else
    logs to this run.
    """
    run.define_metric("gradecho/step")
    run.define_metric("gradecho/*", step_metric="gradecho/step")

    def write(step: int, when: float, values: dict[str, float]) -> None:
        run.log({"gradecho/step": step, **values}, commit=own_run)

    at_once = None if own_run else 1
    return Follower(path, write, layers=layers, modes=modes, at_once=at_once)


class Follower(Closing):
    """Hands each sample of a log, from the first on, to `write` once.

    The log need not exist yet. at_once: samples in one poll(), at most.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        write: Write,
        *,
        layers: str = "*",
        modes: int = MODES,
        at_once: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.failed = False
        self._write, self._layers, self._modes = write, layers, modes
        self._at_once = at_once
        self._log: Log | None = None
        self._place = 0
        self._generation = 0

    def poll(self) -> int:
        """Hand over what is new; the number of samples. Does not wait for a
        log, but takes a fraction of a second for the first look at one; takes
        milliseconds then. Never raises: after one GradechoWarning it does
        nothing more."""
        if self.failed:
            return 0
        try:
            return self._advance(self._at_once)
        except Exception as error:  # whatever it is, the training goes on
            self.failed = True
            text = f"{self.path} is not followed any more: {error}"
            warn(text, Place.of_caller(2))
            return 0

    def run(self, timeout: float | None = None, *, interval: float = 1.0) -> int:
        """Follow until the log is closed in order, or until no sample came for
        `timeout` seconds; the number of samples. Raises what goes wrong."""
        came, total = time.monotonic(), 0
        while True:
            count = self._advance(None)
            total += count
            if count:
                came = time.monotonic()
            elif self._log is not None and self._log.complete:
                return total
            if timeout is not None and time.monotonic() - came >= timeout:
                if self._log is None:
                    raise GradechoError(f"no log {self.path} came in {timeout:g} s")
                return total
            time.sleep(interval)

    def _advance(self, most: int | None) -> int:
        if self._log is None:
            if not self.path.exists():
                return 0
            self._log = open_log(self.path, deadline=DEADLINE)
        elif self._place == len(self._log) and self.path.exists():
            self._log.refresh()
        if self._log.replaced != self._generation:
            self._place, self._generation = 0, self._log.replaced
        rest = len(self._log) - self._place
        count = rest if most is None else min(rest, most)
        for _ in range(count):
            self._hand_over(Sample(self._log, self._place))
            self._place += 1
        return count

    def _hand_over(self, sample: Sample) -> None:
        values = scalars(sample, layers=self._layers, modes=self._modes)
        when = float(sample["time"]) if "time" in sample.log else time.time()
        self._write(sample.step, when, values)

    def close(self) -> None:
        """Hand over what came since, at most one poll()'s worth; close the log."""
        self.poll()
        if self._log is not None:
            self._log.close()
        self.failed = True  # nothing more
