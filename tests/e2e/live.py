"""What the tests of live runs share: rows against the reference, a good end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from conftest import (
    KNOWN_LAYERS,
    Array,
    Job,
    Log,
    Training,
    errors,
    known_sample,
    read_log,
    same_echo,
    same_noise,
)

EVERY = ("--set", "sample.echo_every=1")
FOUR = (0, 1, 2, 3)
WITH_ECHO = ("block.0/weight", "block.1/weight")


@cache
def sample(layer: str, step: int, ranks: tuple[int, ...], replicas: int) -> Array:
    return known_sample(layer, step, ranks, replicas=replicas)


def same_rows(
    log: Log,
    steps: Sequence[int],
    ranks: Sequence[int] = FOUR,
    replicas: int = 1,
    first: int = 0,
) -> None:
    """Rows from `first` on are these steps, and are the reference's numbers."""
    rows = slice(first, first + len(steps))
    assert log["step"][rows].tolist() == list(steps)
    assert log.layers == list(KNOWN_LAYERS)
    assert (log["replicas"][rows] == len(ranks) * replicas).all()
    assert (log["batch_size"][rows] == 32).all()
    loss = 0.5 + 0.25 * np.array(steps) + np.mean(ranks)
    np.testing.assert_allclose(log["loss"][rows], loss, rtol=1e-12)
    for row, step in enumerate(steps, first):
        for layer in KNOWN_LAYERS:
            data = sample(layer, step, tuple(ranks), replicas)
            same_noise(log, layer, row, data, batch_size=32)
            if layer in WITH_ECHO:
                same_echo(log, layer, row, data)
            else:
                assert np.isnan(log.of(layer, "echo")[row]).all()


def ends_well(training: Training, monitor: Job) -> Log:
    """Everybody is done: exit codes, the closed log, nothing left behind."""
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    assert training.segments() == []
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert log.attributes["session"].decode() == training.session
    return log
