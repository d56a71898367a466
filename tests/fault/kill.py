#!/usr/bin/python3
"""Kill anything, any time, and look at what is left.

    kill.py [--kills N] [--seed S] [--trainers R] [--build FOLDER] [--keep]

Trainers hand over gradients that can be worked out, gradecho-run watches them,
and at random instants something gets a SIGKILL: all monitors, mpirun alone, one
monitor, one trainer (which comes back or does not), all trainers, or monitors
and a trainer at once. Checked after each kill: the log grows again, and every
row that was committed before is still there. Checked at the end: every row of
the log is, to the last digit that matters, what the gradients of the trainers
in it say for its step (so none is torn or of mixed steps), no step is there
twice, a trainer is missing only where it was dead, the restarts are counted,
the log is closed, nothing is left in /dev/shm, no process is left. The trainers
tell how long the handoff held them up: it must never have waited.

The seed is printed: the same one kills the same things after the same pauses.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aftermath import (
    PERIOD, TILE, TILES, TREE, Failure, Reader, Report, Trainer, check, verify,
)

PATIENCE = 60.0  # s; what takes longer has failed
PAUSE_MOST = 5e-3  # s; checked in the long form, where it means something

KINDS = {  # how often, of how many
    "all monitors": 3,
    "mpirun": 2,
    "one monitor": 3,
    "one trainer": 4,
    "all trainers": 1,
    "monitors and a trainer": 2,
}
WITH_MONITORS = {"all monitors", "mpirun", "one monitor", "monitors and a trainer"}
WITH_TRAINER = {"one trainer", "monitors and a trainer"}


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Failure(f"not within {PATIENCE:g} s: {what}")


# ---- processes ----


def processes(session: str) -> dict[str, list[int]]:
    """mpirun, monitors and gradecho-run of the session, by name."""
    found: dict[str, list[int]] = {"mpirun": [], "gradecho": [], "gradecho-run": []}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if session.encode() not in words:
                continue
            names = {os.path.basename(word).decode() for word in words[:2]}
            for name in found:
                if name in names:
                    found[name].append(int(folder.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Episode:
    """One run of gradecho-run, from start to end."""

    def __init__(
        self, number: int, world: int, rng: random.Random, folder: Path, build: Path
    ):
        self.build = build
        self.name = f"kill-{os.getpid()}-{number}"
        self.rng = rng
        self.folder = folder / self.name
        self.folder.mkdir()
        self.log = self.folder / "log.h5"
        self.said = self.folder / "said"
        self.origin = time.monotonic()
        self.trainers = [Trainer(rank) for rank in range(world)]
        self.reports: list[Path] = []
        self.committed: list[int] = []
        self.restarts = 0
        self.reader = Reader()
        self.scratch: set[str] = set()
        with self.said.open("w") as said:
            self.run = subprocess.Popen(
                [
                    str(TREE / "launch" / "gradecho-run"), "-n", str(world),
                    "--log", str(self.log), "--session", self.name,
                    "--restarts", "1000", "--restart-pause", "0.05",
                    "--set", "sample.echo_every=5", "--", "cat",
                ],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env={**os.environ, "GRADECHO_BIN": str(build / "src" / "gradecho")},
            )
        for trainer in self.trainers:
            self.start(trainer)

    # trainers

    def start(self, trainer: Trainer) -> None:
        trainer.report = self.folder / f"report.{trainer.rank}.{len(self.reports)}"
        self.reports.append(trainer.report)
        options = {
            "session": self.name,
            "rank": trainer.rank,
            "world": len(self.trainers),
            "origin": round(self.origin * 1e9),
            "period": round(PERIOD * 1e6),
            "bulk": TILE * TILES,
            "report": trainer.report,
        }
        trainer.process = subprocess.Popen(
            [str(self.build / "tests" / "clock_trainer")]
            + [f"{key}={value}" for key, value in options.items()]
        )
        if trainer.down:
            trainer.down[-1] = (trainer.down[-1][0], time.monotonic())

    def slay(self, trainers: list[Trainer]) -> None:
        for trainer in trainers:
            assert trainer.process is not None
            trainer.down.append((time.monotonic(), np.inf))
            trainer.process.kill()
        for trainer in trainers:
            assert trainer.process is not None
            code = trainer.process.wait()
            check(code == -signal.SIGKILL, f"trainer {trainer.rank} ended by itself: {code}")
            trainer.process = None

    def alive(self) -> list[Trainer]:
        return [trainer for trainer in self.trainers if trainer.alive]

    # the log

    def look(self) -> bool:
        """Read the log, if that can be done now; what was there must be."""
        rows = self.reader.rows(self.log)
        if rows is None:
            return False
        steps, restarts = rows
        check(
            steps[: len(self.committed)] == self.committed,
            f"committed rows are gone: {len(self.committed)} were there, now "
            f"{len(steps)}: ..{self.committed[-5:]} against ..{steps[-5:]}",
        )
        self.committed = steps
        self.restarts = restarts[-1] if restarts else 0
        return True

    def now(self) -> int:
        return int((time.monotonic() - self.origin) / PERIOD)

    def grows(self, after: int, restarts: int) -> None:
        """Wait for a row beyond a step, by a later monitor."""

        def grown() -> bool:
            self.look()
            return (
                bool(self.committed)
                and self.committed[-1] > after
                and self.restarts >= restarts
            )

        until(grown, f"a row after step {after} with restarts >= {restarts}")

    # kills

    def remember_scratch(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):
                for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    if word.startswith(b"TMPDIR=/dev/shm/"):
                        self.scratch.add(word.decode().split("=", 1)[1])

    def strike(self, kind: str) -> int:
        """Kill; the number of monitor jobs that this ends for sure."""
        found = processes(self.name)
        monitors, mpirun = found["gradecho"], found["mpirun"]
        self.remember_scratch(monitors)
        victims: list[int] = []
        if kind in ("all monitors", "monitors and a trainer"):
            victims = monitors + mpirun
        elif kind == "mpirun":
            victims = mpirun
        elif kind == "one monitor":
            victims = self.rng.sample(monitors, 1) if monitors else []
        self.rng.shuffle(victims)
        trainers = self.alive()
        if kind in WITH_TRAINER:
            trainers = [self.rng.choice(trainers)]
        elif kind != "all trainers":
            trainers = []
        kill(victims)
        self.slay(trainers)
        return 1 if victims else 0

    def bring_back(self, kind: str) -> None:
        """One in two comes back; two must be alive for noise to be seen."""
        missing = [trainer for trainer in self.trainers if not trainer.alive]
        if not missing:
            return
        if kind == "all trainers" or len(self.alive()) < 2 or self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(0, 0.5))
            for trainer in missing:
                self.start(trainer)

    def kill_once(self) -> str:
        time.sleep(self.rng.uniform(0, 0.6))
        kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        hasty = self.rng.random() < 0.25  # the next one comes into the recovery
        self.look()
        restarts = self.restarts
        ended = self.strike(kind)
        after = self.now()
        self.bring_back(kind)
        if not hasty:
            self.grows(after, restarts + ended)
        check(self.run.poll() is None, "gradecho-run ended")
        return kind

    # the end

    def finish(self, in_order: bool) -> None:
        self.grows(self.now(), self.restarts)
        if in_order:
            for trainer in self.alive():
                assert trainer.process is not None
                trainer.process.terminate()
            for trainer in self.alive():
                assert trainer.process is not None
                code = trainer.process.wait(timeout=PATIENCE)
                check(code == 0, f"trainer {trainer.rank} ends with {code}")
        else:
            self.strike("all monitors")
            self.slay(self.alive())
        assert self.run.stdin is not None
        self.run.stdin.close()
        check(self.run.wait(timeout=PATIENCE) == 0, "gradecho-run's exit code is not cat's")
        until(self.nobody, "the end of all processes")
        left = [p for p in Path("/dev/shm").glob(f"gradecho.{self.name}.*")]
        left += [Path(p) for p in self.scratch if Path(p).exists()]
        check(not left, f"left in /dev/shm: {left}")
        before = self.committed
        self.committed, self.restarts = verify(self.log, self.origin, self.trainers)
        check(self.committed[: len(before)] == before, "committed rows are gone")
        self.reader.close()

    def nobody(self) -> bool:
        return not any(processes(self.name).values())

    def abandon(self) -> None:
        for trainer in self.alive():
            assert trainer.process is not None
            trainer.process.kill()
            trainer.process.wait()
        kill([pid for pids in processes(self.name).values() for pid in pids])
        self.run.wait()
        for path in Path("/dev/shm").glob(f"gradecho.{self.name}.*"):
            path.unlink()
        for name in self.scratch:
            shutil.rmtree(name, ignore_errors=True)
        self.reader.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--trainers", type=int, default=4)
    parser.add_argument("--build", type=Path, default=TREE / "build" / "dev")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    rng = random.Random(asked.seed)
    folder = Path(tempfile.mkdtemp(prefix="gradecho-kill-"))
    kinds: Counter[str] = Counter()
    report, rows, restarts, longest = Report(), 0, 0, 30
    began = time.monotonic()
    number = 0
    while kinds.total() < asked.kills:
        episode = Episode(number, asked.trainers, rng, folder, asked.build)
        number += 1
        try:
            episode.grows(0, 0)
            for _ in range(min(longest, asked.kills - kinds.total())):
                kinds[episode.kill_once()] += 1
            episode.finish(in_order=rng.random() < 0.5)
        except (Failure, subprocess.TimeoutExpired) as failure:
            print(f"FAILED after {kinds.total()} kills, --seed {asked.seed}: {failure}")
            print(f"logs are in {episode.folder}; gradecho-run said at the end:")
            print("    " + "\n    ".join(episode.said.read_text().splitlines()[-30:]))
            episode.abandon()
            return 1
        for path in episode.reports:
            report.add(path)
        rows += len(episode.committed)
        restarts += episode.restarts
        print(f"{kinds.total()} kills, {rows} rows, {restarts} restarts", flush=True)
    if not asked.keep:
        shutil.rmtree(folder)
    print(", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())))
    print(
        f"{kinds.total()} kills in {time.monotonic() - began:.0f} s; {rows} rows "
        f"verified, {restarts} restarts of the monitors; {report.samples} samples "
        f"handed over in {report.steps} steps, {report.dropped} dropped"
    )
    print(
        f"longest pause beyond the copy {report.pause * 1e3:.2f} ms by the clock "
        f"({report.involuntary} preemptions), {report.pause_cpu * 1e3:.2f} ms of the "
        f"trainer's own time; of a trainer without us {report.control * 1e3:.2f} ms; "
        f"waits in our calls: {report.voluntary}"
    )
    if report.voluntary > 0:
        print("FAILED: a call of the handoff waited")
        return 1
    if asked.kills >= 100 and report.pause_cpu > PAUSE_MOST:
        print(f"FAILED: more than {PAUSE_MOST * 1e3:g} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
