"""What a person should not miss in a log, each with its number.

The thresholds are those of `gradecho inspect`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradecho._style import number
from gradecho.reader import Log

import numpy as np  # isort: skip  (its absence is told by the reader)

NOISY = 2.0  # a replica's noise over the mean
ALIKE = 0.9  # correlation of two replicas' residuals; copies have 1
DROPPED = 0.1  # samples lost, of those measured
MISFIT = 0.2  # of the isotropic law
CHUNK = 256  # rows read at once of what is large


@dataclass(frozen=True)
class Finding:
    name: str
    value: str
    fine: bool
    advice: str = ""


def findings(log: Log) -> list[Finding]:
    """Over all samples of the log; fields that it lacks are left out."""
    if not len(log):
        return []
    tests = {
        "replicas": _replicas,
        "replica_noise": _replica_noise,
        "residual_correlation_max": _correlation,
        "dropped": _dropped,
        "restarts": _restarts,
        "layer_replicas": _missing,
        "misfit_exact": _misfit,
    }
    return [test(log) for field, test in tests.items() if field in log]


def _replicas(log: Log) -> Finding:
    count = log.read("replicas")
    low, high = int(count.min()), int(count.max())
    advice = "two replicas give no standard errors" if low == 2 else ""
    if low == 1:
        advice = "one replica alone says nothing of its noise"
    if low < high:
        advice = "ranks were lost, or joined late"
    value = str(low) if low == high else f"{low} to {high}"
    return Finding("replicas in a sample", value, not advice, advice)


def _replica_noise(log: Log) -> Finding:
    worst, place = -np.inf, (0, 0, 0)
    for first in range(0, len(log), CHUNK):
        part = log.read("replica_noise", slice(first, first + CHUNK))
        part = np.nan_to_num(part, nan=-np.inf)
        if part.size and part.max() > worst:
            at = np.unravel_index(int(part.argmax()), part.shape)
            worst, place = (
                float(part.max()),
                (first + int(at[0]), int(at[1]), int(at[2])),
            )
    name = "noisiest replica, over the mean"
    if not np.isfinite(worst):
        return Finding(name, "not known", True)
    row, layer, replica = place
    return Finding(
        name,
        f"{number(worst)} times: replica {replica}, {log.layers[layer].name}, "
        f"step {log.steps[row]}",
        worst <= NOISY,
        "a bad shard, a wrong loss scale, or hardware, if it is always this one",
    )


def _correlation(log: Log) -> Finding:
    values = log.read("residual_correlation_max").astype(float)
    name = "largest correlation of two replicas' noise"
    if not np.isfinite(values).any():
        return Finding(name, "not known; it takes three replicas", True)
    row = int(np.nanargmax(values))
    pair = ""
    if "residual_correlation_pair" in log:
        one, other = log.read("residual_correlation_pair", row)
        pair = f": replicas {one} and {other}"
    return Finding(
        name,
        f"{values[row]:.2f}{pair}, step {log.steps[row]}",
        bool(values[row] <= ALIKE),
        "they read the same data, or share a seed",
    )


def _dropped(log: Log) -> Finding:
    dropped = int(log.read("dropped").max())
    return Finding(
        "samples dropped",
        f"{max(dropped, 0):,} beside {len(log):,} measured",
        dropped <= DROPPED * len(log),
        "raise sample.every or sample.echo_every",
    )


def _restarts(log: Log) -> Finding:
    restarts = log.read("restarts")
    grown = np.flatnonzero(np.diff(restarts) > 0) + 1
    steps = log.steps
    gaps = ", ".join(f"{steps[i - 1]} to {steps[i]}" for i in grown[:5])
    return Finding(
        "restarts of the monitors",
        f"{max(int(restarts.max()), 0)}" + (f": steps {gaps}" if gaps else ""),
        not len(grown),
        "samples may be missing in between",
    )


def _missing(log: Log) -> Finding:
    present = log.read("replicas")[:, None]
    lost = np.maximum(present - log.read("layer_replicas"), 0)
    lost[(present < 0)[:, 0]] = 0
    name = "gradients missing or not finite"
    if not lost.any():
        return Finding(name, "none", True)
    layer = int(lost.sum(axis=0).argmax())
    samples = int((lost[:, layer] > 0).sum())
    return Finding(
        name,
        f"{int((lost > 0).any(axis=0).sum())} of {len(log.layers)} layers, most in "
        f"{log.layers[layer].name}: {samples:,} of {len(log):,} samples",
        False,
        "those replicas were left out of those layers",
    )


def _misfit(log: Log) -> Finding:
    name = "isotropic law, largest misfit"
    values = log.last_echoes("misfit_exact")
    if not np.isfinite(values).any():
        return Finding(name, "not known; it takes signal modes", True)
    layer = int(np.nanargmax(values))
    step = log.steps[log.last_echo_rows()[layer]]
    return Finding(
        name,
        f"{values[layer]:.2f}: {log.layers[layer].name}, step {step}",
        bool(values[layer] <= MISFIT),
        "use the measured echoes, not what the noise variance predicts",
    )
