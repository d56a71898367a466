"""What the end-to-end tests share: programs, processes, logs, gradients.

The tests know the program from outside only: command lines, exit codes, what
it prints, what h5py finds in its log. Numbers are held against NumPy
(tests/python/reference.py). Programs come from the environment, set by ctest:
GRADECHO_BIN, and where needed KNOWN_TRAINER_BIN, CHAR_LM_BIN.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "python"))

import reference  # noqa: E402  (needs the path above)

Array = NDArray[np.float64]

PATIENCE = 30.0  # seconds; a test that waits longer has failed
POLL = 0.01

os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
os.environ.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.pop("GRADECHO_SESSION", None)


def program(variable: str) -> str:
    """Path of a program under test."""
    path = os.environ.get(variable)
    assert path, f"{variable} is not set; run these tests by ctest"
    return path


# ---- processes ----


def gradecho(*arguments: str | Path, ranks: int = 0) -> list[str]:
    """A command line of gradecho; ranks = 0: without mpirun."""
    launcher = ["mpirun", "-n", str(ranks), "--bind-to", "none"] if ranks else []
    return [*launcher, program("GRADECHO_BIN"), *map(str, arguments)]


def run(command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **more,
    )


def told(stderr: str) -> list[str]:
    """gradecho's own lines; mpirun has its say after a failure, too."""
    return [line for line in stderr.splitlines() if line.startswith("gradecho")]


def errors(stderr: str) -> list[str]:
    return [line for line in told(stderr) if ": error: " in line]


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until the condition gives something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(POLL)
    raise AssertionError(f"{what}: not within {PATIENCE:g} s")


class Job:
    """A background process in a group of its own; output goes to files."""

    def __init__(self, command: Sequence[str], folder: Path, name: str) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.trouble = folder / f"{name}.err"
        with self.output.open("w") as out, self.trouble.open("w") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stderr(self) -> str:
        return self.trouble.read_text()

    @property
    def stdout(self) -> str:
        return self.output.read_text()

    def running(self) -> bool:
        return self.process.poll() is None

    def finish(self) -> int:
        if not self.stdin.closed:
            self.stdin.close()
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} does not end; it said:\n{self.stderr}"
            ) from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill_all(self) -> None:
        """SIGKILL to the process and to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.stdin.close()


# ---- gradients and logs ----


def write_gradients(
    path: Path,
    layers: dict[str, NDArray[Any]],
    batch_size: float | None = None,
    steps: Sequence[int] | None = None,
) -> Path:
    """The input of replay: {name: [sample, replica, rows, cols] or [.., n]}."""
    with h5py.File(path, "w") as file:
        file.create_group("gradients")
        for name, data in layers.items():
            file["gradients"].create_dataset(name, data=data)
        if batch_size is not None:
            file.attrs["batch_size"] = batch_size
        if steps is not None:
            file["step"] = np.asarray(steps, dtype=np.int64)
    return path


@dataclass
class Log:
    """All that a log holds."""

    attributes: dict[str, Any]
    layers: list[str]
    fields: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.fields[name]

    def of(self, layer: str, name: str) -> NDArray[Any]:
        """A layer's part of a field: [step], [step, mode] or [step, replica]."""
        part: NDArray[Any] = self.fields[name][:, self.layers.index(layer)]
        return part


STATIC = {"layer", "rows", "cols", "mode", "replica", "pair"}


def read_log(source: Path | h5py.File) -> Log:
    """Rows up to the commit mark, len(/step)."""
    if not isinstance(source, h5py.File):
        with h5py.File(source, "r") as file:
            return read_log(file)
    rows = len(source["step"])
    return Log(
        dict(source.attrs),
        [name.decode() for name in source["layer"][:]],
        {
            name: data[:] if name in STATIC else data[:rows]
            for name, data in source.items()
        },
    )


def replay(
    gradients: Path, log: Path, *options: str, ranks: int = 0
) -> tuple[Log, list[str]]:
    """Replay a file of gradients: the log, and the warnings."""
    done = run(
        gradecho("replay", gradients, "--log", log, *options, ranks=ranks)
    )
    assert done.returncode == 0, done.stderr
    return read_log(log), [x for x in told(done.stderr) if "warning" in x]


def names_of(value: Any) -> set[str]:
    """Every name in a JSON value."""
    if isinstance(value, list):
        return set().union(*map(names_of, value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*map(names_of, value.values()))


# ---- comparing with the reference ----

# Relative tolerance of what is measured in single precision. An echo is a
# cosine: its tolerance is absolute.
NOISE_FIELDS = {
    "sigma2": 1e-5,
    "sigma2_se": 1e-4,
    "grad_sqnorm": 1e-5,
    "noise_trace": 1e-5,
    "noise_scale": 1e-5,
    "edge": 1e-5,
    "tau2_edge": 1e-5,
    "tau2_asym": 1e-5,
}
ECHO_TOLERANCE = 1e-3
MARGIN = 5e-4
ERRORS = ("echo_se", "gain_se")
LAWS = ("echo_hill", "echo_two_sided", "echo_exact")


def as_matrices(data: NDArray[Any]) -> Array:
    """[replica, rows, cols] of one sample of a layer."""
    full = np.asarray(data, dtype=np.float64)
    return full[:, None, :] if full.ndim == 2 else full


def same_noise(
    log: Log, layer: str, row: int, replicas: Array, batch_size: float = np.nan
) -> None:
    """The noise figures of one layer in one row are the reference's."""
    expected = reference.noise(replicas, batch_size)
    norm = float((replicas.mean(axis=0) ** 2).sum())
    for name, tolerance in NOISE_FIELDS.items():
        # The squared norm is a difference: its error goes by what is subtracted.
        slack = tolerance * norm if name == "grad_sqnorm" else 0.0
        if name == "noise_scale":
            condition = norm / abs(expected["grad_sqnorm"])
            tolerance = tolerance * max(1.0, condition)
        np.testing.assert_allclose(
            log.of(layer, name)[row],
            expected[name],
            rtol=tolerance,
            atol=slack,
            err_msg=f"{name} of {layer}, row {row}",
        )
    assert log.of(layer, "layer_replicas")[row] == len(replicas)


def mixing(expected: dict[str, Array]) -> Array:
    """How much of its neighbour single precision may put into a mode."""
    mixed: Array = 2e-6 * expected["s_mean"].max() / expected["gap"]
    return mixed


def echo_slack(expected: dict[str, Array]) -> Array:
    """How far single precision may leave an echo off, beyond ECHO_TOLERANCE:
    much where a term of its ratio is almost 0, or where two singular values
    are almost equal, so that their vectors mix. That is the case for noise;
    for signal it is next to nothing."""
    scale = expected["s_mean"].max()
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, z = (np.abs(expected[name]) for name in "abz")
        largest = np.sqrt(np.maximum(a * z / b, b * z / a))
        mixed = mixing(expected)
        off = 1e-5 * scale + mixed * expected["s_replica"]
        slack: Array = largest * (off / a + off / b + (1e-5 + mixed) / z)
    return np.nan_to_num(slack, nan=np.inf)


def same_echo(
    log: Log,
    layer: str,
    row: int,
    replicas: Array,
    max_modes: int = 16,
    oversample: int = 8,
) -> None:
    """The mode figures of one layer in one row are the reference's."""
    expected = reference.echo(replicas, max_modes, oversample)
    count = len(expected["echo"])
    scale = expected["s_mean"].max()
    slack = echo_slack(expected)
    # Where no division is by almost nothing.
    settled = expected["margin"] > MARGIN  # no chance in the matching
    around = expected["echo_margin"] > MARGIN
    sure = around & (expected["echo"] > 0.2) & (slack < ECHO_TOLERANCE)

    def check(name: str, where: Any, rtol: float = 0, atol: Any = 0) -> None:
        got = log.of(layer, name)[row]
        error = np.abs(got[:count] - expected[name])
        bound = atol + rtol * np.abs(expected[name])
        both_missing = np.isnan(got[:count]) & np.isnan(expected[name])
        wrong = ~((error <= bound) | both_missing)
        assert not wrong[where].any(), (
            f"{name} of {layer}, row {row}: {got[:count]} for {expected[name]}"
        )
        assert np.isnan(got[count:]).all(), f"{name} beyond the last mode"

    for name in ("echo", "echo_loo", "echo_cluster"):
        check(name, around, atol=ECHO_TOLERANCE + slack)
    check("gain", settled, atol=ECHO_TOLERANCE + mixing(expected))
    check("s_mean", ..., rtol=1e-5, atol=1e-6 * scale)
    check("s_replica", settled, rtol=1e-5, atol=1e-6 * scale)
    check("s_est", sure, rtol=1e-3, atol=5e-5 * scale)
    for name in ERRORS:
        check(name, sure, rtol=1e-2, atol=ECHO_TOLERANCE)
    sigma2 = reference.noise(replicas)["sigma2"]
    laws = reference.laws(expected["s_replica"], sigma2, *replicas.shape[1:])
    for name in LAWS:
        expected[name] = laws[name]
        # Laws have a vertical tangent at the edge of the bulk.
        clear = np.abs(laws["y2"] / laws["edge2"] - 1) > 1e-3
        check(name, settled & clear, atol=1e-4)


def same_health(log: Log, layer: str, row: int, replicas: Array) -> None:
    """The noise ratio of every replica is the reference's."""
    got = log.of(layer, "replica_noise")[row]
    np.testing.assert_allclose(
        got[: len(replicas)],
        reference.replica_noise(replicas),
        rtol=1e-5,
        err_msg=f"replica_noise of {layer}, row {row}",
    )
    assert np.isnan(got[len(replicas) :]).all()


# ---- known_trainer and the monitor beside it ----

KNOWN_LAYERS = {
    "block.0/weight": (32, 64),
    "block.1/weight": (64, 16),
    "bias": (1, 50),
}
STRENGTHS = (48, 24, 12)
LOW = 0xFFFFFFFF


def mix(hashed: Any, word: Any) -> NDArray[np.uint64]:
    """One round of known_trainer's hash: 32 bits, held in 64."""
    x = np.asarray(hashed, dtype=np.uint64)
    x = x ^ (np.asarray(word, dtype=np.uint64) * np.uint64(0x9E3779B9) & np.uint64(LOW))
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x85EBCA6B) & np.uint64(LOW)
    x = (x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2AE35) & np.uint64(LOW)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(16))
    return mixed


def walsh(count: int, mode: int) -> NDArray[np.int64]:
    both = np.arange(count) & mode
    sign: NDArray[np.int64] = 1 - 2 * ((both ^ (both >> 1)) & 1)
    return sign


def entries(layer: str, seed: int, rank: int, replica: int, step: int) -> Array:
    """The gradient that known_trainer hands over, before its scale."""
    rows, cols = KNOWN_LAYERS[layer]
    hashed: Any = np.uint64(0)
    for word in (seed, rank, replica, step, list(KNOWN_LAYERS).index(layer)):
        hashed = mix(hashed, word)
    noise = (mix(hashed, np.arange(rows * cols)) & np.uint64(127)).astype(np.int64)
    signal_part = sum(
        strength * np.outer(walsh(rows, k + 1), walsh(cols, 3 - k))
        for k, strength in enumerate(STRENGTHS)
    )
    return (noise.reshape(rows, cols) - 64 + signal_part) / 128.0


def known_sample(
    layer: str,
    step: int,
    ranks: Sequence[int],
    seed: int = 1,
    replicas: int = 1,
) -> Array:
    """[replica, rows, cols] of one step over the given ranks."""
    return np.array(
        [entries(layer, seed, r, p, step) for r in ranks for p in range(replicas)]
    )


_sessions = itertools.count()


class Training:
    """Known trainers, one process each, and their monitors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = f"e2e-{os.getpid()}-{next(_sessions)}"
        self.log = folder / f"{self.session}.h5"
        self.trainers: list[Job] = []
        self.jobs: list[Job] = []

    def train(
        self,
        world: int,
        each: Sequence[dict[str, Any]] | None = None,
        ranks: Sequence[int] | None = None,
        **common: Any,
    ) -> None:
        """Start the trainers, or some of them; `each` has what differs, rank by
        rank."""
        for rank in range(world) if ranks is None else ranks:
            options: dict[str, Any] = {
                "session": self.session, "rank": rank, "world": world, **common
            }
            options.update(each[rank] if each is not None else {})
            job = Job(
                [program("KNOWN_TRAINER_BIN")]
                + [f"{key}={value}" for key, value in options.items()],
                self.folder,
                f"{self.session}.trainer{len(self.trainers)}",
            )
            self.trainers.append(job)
            self.jobs.append(job)

    def monitor(self, ranks: int, *options: str) -> Job:
        job = Job(
            gradecho(
                "monitor", "--session", self.session, "--log", self.log,
                *options, ranks=ranks,
            ),
            self.folder,
            f"{self.session}.monitor{len(self.jobs)}",
        )
        self.jobs.append(job)
        return job

    def step(self, count: int = 1, ranks: Sequence[int] | None = None) -> None:
        """Let paced trainers do some steps; does not wait. Ranks count in the
        order in which they were started."""
        for rank, job in enumerate(self.trainers):
            if job.running() and (ranks is None or rank in ranks):
                job.stdin.write(b"." * count)
                job.stdin.flush()

    def follow(self) -> h5py.File:
        """The log while it grows, as soon as it is there."""

        def open_it() -> h5py.File | None:
            try:
                return h5py.File(self.log, "r", swmr=True)
            except OSError:
                return None

        try:
            return until(open_it, f"{self.log} opens")
        except AssertionError as late:
            said = "\n".join(job.stderr for job in self.jobs)
            raise AssertionError(f"{late}; it was said:\n{said}") from None

    def finish_trainers(self) -> list[int]:
        """Samples that each trainer handed over."""
        handed = []
        for job in self.trainers:
            code = job.finish()
            if code != -signal.SIGKILL:
                assert code == 0, job.stderr
                handed.append(int(job.stdout))
        return handed

    def segments(self) -> list[Path]:
        return sorted(Path("/dev/shm").glob(f"gradecho.{self.session}.*"))

    def clean(self) -> None:
        for job in self.jobs:
            job.kill_all()
        for path in self.segments():
            path.unlink()


def committed(file: h5py.File) -> int:
    """Rows that are committed now."""
    file["step"].refresh()
    return len(file["step"])


def wait_rows(file: h5py.File, rows: int) -> Log:
    """The log as it is once it has so many rows: /step is looked at first, so
    that the other fields have at least its length."""
    until(lambda: committed(file) >= rows, f"{rows} rows in the log")
    for name, data in file.items():
        if name not in STATIC | {"step"}:
            data.refresh()
    return read_log(file)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    made = Training(tmp_path)
    yield made
    made.clean()
