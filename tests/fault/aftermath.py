"""What kill.py leaves behind, and what must be true of it."""

from __future__ import annotations

import multiprocessing
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "e2e"))

from conftest import known_sample, mix, reference  # noqa: E402

Array = NDArray[np.float64]

TILE, TILES = 2048, 64  # of clock_trainer's second layer
PERIOD = 0.02  # s, of a training step
# s, in which the monitors notice that a trainer died, or is back.
NOTICE = 5.0


class Failure(Exception):
    """What the harness is there to find."""


def check(condition: Any, what: str) -> None:
    if not condition:
        raise Failure(what)


# ---- trainers ----


@dataclass
class Report:
    """What clock_trainer wrote of itself, over all of them."""

    samples: int = 0
    dropped: int = 0
    steps: int = 0
    voluntary: int = 0
    involuntary: int = 0
    pause: float = 0.0
    pause_cpu: float = 0.0
    control: float = 0.0

    def add(self, path: Path) -> None:
        data = path.read_bytes() if path.exists() else b""
        if len(data) < 64:  # killed before it began
            return
        words = struct.unpack("<5Q3d", data[:64])
        counts = ("samples", "dropped", "steps", "voluntary", "involuntary")
        for name, value in zip(counts, words[:5], strict=True):
            setattr(self, name, getattr(self, name) + value)
        for name, value in zip(("pause", "pause_cpu", "control"), words[5:], strict=True):
            setattr(self, name, max(getattr(self, name), value))


@dataclass
class Trainer:
    rank: int
    process: subprocess.Popen[bytes] | None = None
    report: Path = Path()
    down: list[tuple[float, float]] = field(default_factory=list)  # when

    @property
    def alive(self) -> bool:
        return self.process is not None


def bulk_tile(rank: int, step: int) -> Array:
    """One of the equal parts of clock_trainer's second layer."""
    hashed: Any = np.uint64(0)
    for word in (1, rank, 0, step, 1):
        hashed = mix(hashed, word)
    noise = (mix(hashed, np.arange(TILE)) & np.uint64(127)).astype(np.float64)
    tile: Array = (noise - 64) / 128.0
    return tile[None, :]


# ---- the log while it grows ----


def read_rows(path: str) -> tuple[list[int], list[int]] | None:
    """Steps and restarts of the committed rows; None if it cannot be read now
    (not there yet, or being opened again)."""
    try:
        with h5py.File(path, "r", swmr=True) as file:
            rows = len(file["step"])
            return file["step"][:rows].tolist(), file["restarts"][:rows].tolist()
    except (OSError, KeyError, RuntimeError):
        return None


class Reader:
    """Reads a log that others write and die over, in a process that can be
    given up: HDF5 may wait for ever."""

    def __init__(self) -> None:
        self.pool = multiprocessing.get_context("fork").Pool(1)

    def rows(self, path: Path) -> tuple[list[int], list[int]] | None:
        answer = self.pool.apply_async(read_rows, (str(path),))
        try:
            return answer.get(timeout=10)
        except multiprocessing.TimeoutError:
            self.pool.terminate()
            self.pool = multiprocessing.get_context("fork").Pool(1)
            return None

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


# ---- every row ----


def same(what: str, got: float, expected: float, slack: float = 0.0) -> None:
    check(
        abs(got - expected) <= 1e-6 * abs(expected) + slack,
        f"{what} is {got}, not {expected}",
    )


def ranks_of(log: dict[str, Array], row: int, step: int) -> list[int]:
    """Whose gradients a row is of: their noise is known. One alone has none,
    but its own loss."""
    if log["replicas"][row] == 1:
        return [round(log["loss"][row] - 0.5 - 0.25 * step)]
    known = np.isfinite(log["replica_noise"][row, 1])
    return [int(rank) for rank in np.flatnonzero(known)]


def verify_row(log: dict[str, Array], row: int, step: int, ranks: list[int]) -> None:
    """All figures of a row follow from the gradients of these ranks."""
    where = f"row {row}, step {step}, ranks {ranks}: "
    same(where + "replicas", log["replicas"][row], len(ranks))
    same(where + "loss", log["loss"][row], 0.5 + 0.25 * step + np.mean(ranks), 1e-9)
    weight = known_sample("block.0/weight", step, ranks)
    bulk = np.array([bulk_tile(rank, step) for rank in ranks])
    for layer, (data, times) in enumerate(((weight, 1), (bulk, TILES))):
        trace, square = log["noise_trace"][row, layer], log["grad_sqnorm"][row, layer]
        if len(ranks) == 1:
            check(np.isnan(trace), f"{where}one alone has noise")
            continue
        expected = reference.noise(data)
        norm = float((data.mean(axis=0) ** 2).sum()) * times
        name = f"{where}layer {layer} "
        same(name + "noise_trace", trace, expected["noise_trace"] * times)
        same(name + "grad_sqnorm", square, expected["grad_sqnorm"] * times, 1e-6 * norm)
        ratio = log["replica_noise"][row, layer, ranks]
        for got, wanted in zip(ratio, reference.replica_noise(data), strict=True):
            same(name + "replica_noise", got, wanted)


def verify_missing(
    step: int, then: float, ranks: list[int], trainers: list[Trainer]
) -> None:
    """Who is not in a row was dead about then."""
    for trainer in trainers:
        check(
            trainer.rank in ranks
            or any(a - NOTICE <= then <= b + NOTICE for a, b in trainer.down),
            f"step {step}: trainer {trainer.rank} was alive and is missing",
        )


def verify(path: Path, origin: float, trainers: list[Trainer]) -> tuple[list[int], int]:
    """The finished log: its steps, and how often its writers were restarted."""
    with h5py.File(path, "r") as file:  # plainly: it was closed
        check(file.attrs["clean_close"] in (1, 2), "the log is not closed")
        log = {name: data[:] for name, data in file.items()}
    steps = log["step"]
    check((np.diff(steps) > 0).all(), "a step is there twice, or out of order")
    check((np.diff(log["restarts"]) >= 0).all(), "restarts decrease")
    for row, step in enumerate(steps.tolist()):
        ranks = ranks_of(log, row, step)
        verify_row(log, row, step, ranks)
        verify_missing(step, origin + step * PERIOD, ranks, trainers)
    return steps.tolist(), int(log["restarts"][-1])
