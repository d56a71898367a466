"""Fail calls in whole programs, as users run them, and judge.

    sweep_processes.py [--all] [--only SCENARIO] [--class CLASS]
        LIBFAULTS GRADECHO KNOWN_TRAINER CHAR_LM

The sweep in one process (sweep.c) is exhaustive, but starts after MPI and ends
before it. Here each fault is a run of the program: start and end of MPI, lost
peers, the trainer's own life. On two ranks one has the fault and the other must
not hang. Of each class of calls a few are failed, spread evenly; with --all,
all of them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py
import numpy as np

DEADLINE = 60.0  # seconds, of one run
CLASSES = ("memory", "system", "hdf5", "mpi", "lapack")
FEW = {"mpi": 8}  # points of a class, else:
FEW_ELSE = 3

ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OPENBLAS_NUM_THREADS="1",
)


@dataclass
class Programs:
    libfaults: str
    gradecho: str
    known_trainer: str
    char_lm: str


@dataclass
class Outcome:
    code: int | None  # None: it did not end
    out: str
    err: str
    reports: dict[int, list[str]]  # rank: lines
    left: list[str]  # names
    trouble: list[str] = field(default_factory=list)

    def lines(self, what: str, rank: int) -> list[str]:
        return [x for x in self.reports.get(rank, []) if x.startswith(what + " ")]

    @property
    def errors(self) -> list[str]:
        return [x for x in self.err.splitlines() if "error: " in x]

    def uses(self, name: str, rank: int) -> int:
        for line in self.lines("uses", rank):
            if line.split()[1] == name:
                return int(line.split()[2])
        raise AssertionError(f"no report of rank {rank}:\n{self.err}")


class Scenario:
    """A program, or several, that run until all is done."""

    classes = CLASSES
    makes_log = True
    library_only = False

    def __init__(self, programs: Programs, folder: Path, ranks: int) -> None:
        self.programs = programs
        self.ranks = ranks
        self.log = folder / "log.h5"
        self.reports = folder / "reports"
        self.folder = folder
        self.session = f"faults.{os.getpid()}.{folder.name}"

    @property
    def name(self) -> str:
        return f"{type(self).__name__.lower()}, {self.ranks} ranks"

    def command(self) -> list[str]:
        raise NotImplementedError

    def trainers(self) -> list[list[str]]:
        return []

    def run(self, fault: str, victim: int) -> Outcome:
        shutil.rmtree(self.reports, ignore_errors=True)
        self.reports.mkdir()
        self.log.unlink(missing_ok=True)
        under = [
            "env",
            f"LD_PRELOAD={self.programs.libfaults}",
            f"GRADECHO_FAULT={fault}",
            f"GRADECHO_FAULT_RANK={victim}",
            f"GRADECHO_FAULT_REPORT={self.reports}/rank",
        ]
        if self.library_only:
            under.append("GRADECHO_FAULT_LIBRARY=1")
        launch = ["mpirun", "-n", str(self.ranks), "--bind-to", "none"]
        trainers = [start(command) for command in self.trainers()]
        process = start((launch if self.ranks > 1 else []) + under + self.command())
        code: int | None = None
        try:
            out, err = process.communicate(timeout=DEADLINE)
            code = process.returncode
        except subprocess.TimeoutExpired:
            out, err = "", "it does not end"
        for one in [process, *trainers]:
            kill(one)
        return Outcome(code, out, err, dict(self.read_reports()), self.leftovers())

    def read_reports(self) -> Iterator[tuple[int, list[str]]]:
        for path in self.reports.iterdir():
            rank = path.suffix.removeprefix(".")
            yield int(rank or 0), path.read_text().splitlines()

    def leftovers(self) -> list[str]:
        known = {"log.h5", "reports", "gradients.h5"}
        left = [p for p in self.folder.iterdir() if p.name not in known]
        left += Path("/dev/shm").glob(f"gradecho.{self.session}.*")
        for path in left:
            path.unlink()
        return [str(path) for path in left]

    def readable(self) -> bool:
        """By the program itself, without a fault. No row yet is fine."""
        done = subprocess.run(
            [self.programs.gradecho, "inspect", self.log],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=ENVIRONMENT,
            check=False,
        )
        return done.returncode == 0 or "no sample yet" in done.stderr


class Replay(Scenario):
    def command(self) -> list[str]:
        gradients = str(self.folder / "gradients.h5")
        return [self.programs.gradecho, "replay", gradients, "--log", str(self.log)]


class Monitor(Scenario):
    def command(self) -> list[str]:
        return [
            *(self.programs.gradecho, "monitor", "--session", self.session),
            *("--log", str(self.log), "--set", "timeout_seconds=20"),
        ]

    def trainers(self) -> list[list[str]]:
        return [
            [
                *(self.programs.known_trainer, f"session={self.session}"),
                *(f"rank={rank}", f"world={self.ranks}", "steps=3"),
            ]
            for rank in range(self.ranks)
        ]

    def leftovers(self) -> list[str]:
        # The trainers were killed if the monitors went first.
        for path in Path("/dev/shm").glob(f"gradecho.{self.session}.*"):
            path.unlink()
        return super().leftovers()


class Trainer(Scenario):
    """A training whose libgradecho fails goes on without."""

    classes = ("memory", "system")
    makes_log = False
    library_only = True

    def command(self) -> list[str]:
        return [
            *(self.programs.char_lm, "--session", self.session, "--steps", "3"),
            *("--hidden", "8", "--batch", "4"),
        ]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """It and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def judge(scenario: Scenario, o: Outcome, victim: int, name: str, usual: str) -> None:
    failed = [x.split()[1] for x in o.lines("failed", victim)]
    exempt = {"unlink", "fstat", "lstat"}  # what cannot be told ours stays
    if o.code not in (0, 1, 2):
        o.trouble.append(f"exit code {o.code}")
    # A job is cut off by a failure of MPI, or of a rank before MPI has started:
    # nobody can be agreed with. What it holds dies with it.
    cut_off = o.code != 0 and (name == "mpi" or "uses mpi 0" in o.reports[victim])
    for rank in range(scenario.ranks):
        if not o.lines("uses", rank) and not cut_off:
            o.trouble.append(f"rank {rank} did not come to its end")
        if not cut_off:
            o.trouble += [f"rank {rank}: {x}" for x in o.lines("left", rank)]
    if o.left and not exempt & set(failed):
        o.trouble.append(f"left over: {o.left}")
    if isinstance(scenario, Trainer):
        if o.code != 0 or o.out.split("held-out")[-1] != usual:
            o.trouble.append("the training is not what it is unwatched")
        return
    # What follows from the first error, and names it: rows that are missing at
    # the end; rank 0 on the monitor that left MPI, when mpirun ends the others.
    follows = sum("could not be written" in x for x in o.errors)
    if cut_off and victim > 0:
        follows += sum("told to end (SIGTERM)" in x for x in o.errors)
    if o.code != 0 and len(o.errors) - follows != 1:
        o.trouble.append(f"{len(o.errors)} errors are told instead of one")
    closing = any(x.endswith("close") for x in failed)
    if o.code == 0 and o.errors and name != "lapack" and not closing:
        if "warning: " not in o.err:
            o.trouble.append("an error is told, but nothing is missing")
    if scenario.log.exists() and not scenario.readable():
        o.trouble.append("the log cannot be read")


def points(name: str, uses: int, every: bool) -> list[int]:
    few = FEW.get(name, FEW_ELSE)
    if every or uses <= few:
        return list(range(1, uses + 1))
    return [1 + i * (uses - 1) // (few - 1) for i in range(few)]


def sweep_class(
    scenario: Scenario, name: str, victim: int, good: Outcome, every: bool
) -> tuple[int, int]:
    """One class of calls on one rank: points and bad ones."""
    began = time.monotonic()
    harmless = refused = wrong = 0
    uses = good.uses(name, victim)
    said = ""
    for n in points(name, uses, every):
        o = scenario.run(f"{name}:{n}", victim)
        if not o.lines("failed", victim):
            continue  # uses of a live monitor vary
        judge(scenario, o, victim, name, good.out.split("held-out")[-1])
        harmless += o.code == 0
        refused += o.code != 0
        if o.trouble:
            wrong += 1
            said += f"{scenario.name}: {name} {n} on rank {victim}: {o.trouble}\n"
            said += "\n".join([*o.lines("failed", victim), o.err, ""])
    print(
        f"{said}{scenario.name:18} {name:7} rank {victim}: {uses:4} uses, "
        f"{harmless + refused:4} points, {harmless:4} harmless, "
        f"{refused:4} refused, {wrong} bad, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return harmless + refused, wrong


Task = Callable[[], "tuple[int, int]"]


def tasks(make: Callable[[], Scenario], every: bool, only: str) -> Iterator[Task]:
    """A scenario's classes of calls, to be swept beside each other: each in a
    folder of its own."""
    scenario = make()
    good = scenario.run("count", 0)
    judge(scenario, good, 0, "none", good.out.split("held-out")[-1])
    if good.code != 0 or good.trouble:
        print(f"{scenario.name}: without a fault: {good.trouble}\n{good.err}")
        yield lambda: (0, 1)
        return
    victims = sorted({0, scenario.ranks - 1})
    for name, victim in itertools.product(scenario.classes, victims):
        if only in ("", name):
            yield partial(sweep_class, make(), name, victim, good, every)


def write_gradients(path: Path) -> None:
    draw = np.random.default_rng(1).normal
    with h5py.File(path, "w") as file:
        file["gradients/block/weight"] = draw(size=(3, 4, 5, 4)).astype(np.float32)
        file["gradients/bias"] = draw(size=(3, 4, 3))
        file["step"] = np.arange(3)
        file.attrs["batch_size"] = 8.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="", help="scenarios of that name")
    parser.add_argument("--class", default="", choices=CLASSES)
    for name in Programs.__annotations__:
        parser.add_argument(name)
    arguments = vars(parser.parse_args())
    every, only = arguments.pop("all"), arguments.pop("only")
    only_class = arguments.pop("class")
    programs = Programs(**arguments)
    todo: list[Task] = []
    with tempfile.TemporaryDirectory(prefix="gradecho-fault.") as root:
        numbers = itertools.count()

        def make(kind: type[Scenario], ranks: int) -> Scenario:
            folder = Path(root) / str(next(numbers))
            folder.mkdir()
            write_gradients(folder / "gradients.h5")
            return kind(programs, folder, ranks)

        for kind, ranks in ((Trainer, 1), (Replay, 1), (Replay, 2), (Monitor, 2)):
            if only in make(kind, ranks).name:
                todo += tasks(partial(make, kind, ranks), every, only_class)
        # Most of a run's time is mpirun's own waiting.
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda task: task(), todo))
    count = sum(points for points, _ in found)
    bad = sum(wrong for _, wrong in found)
    print(f"{count} points, {bad} bad")
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())
