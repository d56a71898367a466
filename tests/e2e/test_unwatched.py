"""A training that gradecho cannot watch goes on without it, with one line that
says why."""

from __future__ import annotations

import os
import re
import shlex
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from conftest import Training, program, run, until

RANKS = 2
SHM = {**os.environ, "OMPI_MCA_btl": "self,tcp"}  # MPI itself needs no /dev/shm


def train(*options: str) -> list[str]:
    return [
        "mpirun", "-n", str(RANKS), "--bind-to", "none", program("CHAR_LM_BIN"),
        "--steps", "5", "--batch", "16", "--report", "1", *options,
    ]


def losses(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    found = re.findall(r"loss (\S+) nats", done.stdout)
    assert len(found) == 6, done.stdout
    return found


@pytest.fixture(scope="module")
def alone() -> list[str]:
    return losses(run(train("--no-watch")))


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [x for x in done.stderr.splitlines() if x.startswith("char_lm: warning")]


def unwatched(
    done: subprocess.CompletedProcess[str], alone: list[str], *parts: str
) -> None:
    assert losses(done) == alone
    lines = warnings(done)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("char_lm: warning: not watched by gradecho: rank ")
    for part in parts:
        assert part in lines[0]


def in_own_shm(options: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run with a /dev/shm that nobody else sees."""
    script = f"mount -t tmpfs -o {options} none /dev/shm && exec {shlex.join(command)}"
    inside = ["unshare", "--mount", "sh", "-c"]
    if run([*inside, f"mount -t tmpfs -o {options} none /dev/shm"]).returncode != 0:
        pytest.skip("no right to mount a /dev/shm of one's own")
    return run([*inside, script], env=SHM)


def test_a_full_shm(alone: list[str]) -> None:
    done = in_own_shm("size=64k", train())
    unwatched(done, alone, "the handoff needs", "MB", "--shm-size")


def test_a_shm_without_the_right_to_write(alone: list[str]) -> None:
    done = in_own_shm("ro", train())
    unwatched(done, alone, "/dev/shm", "Read-only", "must be a writable tmpfs")


def hold_a_segment(training: Training) -> Path:
    """A live trainer has rank 1 of the session."""
    training.train(1, [{"rank": 1, "world": 2}], steps=1, paced=1)
    until(training.segments, "a segment")
    return training.segments()[0]


def rewrite_version(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", 4711))


@pytest.mark.parametrize("foreign", [False, True])
def test_a_name_in_use(training: Training, alone: list[str], foreign: bool) -> None:
    """Also by a trainer of another version: what it means by its bytes does not
    matter, its lock does."""
    segment = hold_a_segment(training)
    if foreign:
        rewrite_version(segment)
    done = run(train("--session", training.session))
    unwatched(done, alone, "rank 1", str(segment), "in use by a live trainer")
    assert training.segments() == [segment]


def test_the_leftover_of_another_version_is_no_obstacle(
    training: Training, alone: list[str]
) -> None:
    segment = hold_a_segment(training)
    rewrite_version(segment)
    training.trainers[0].signal(signal.SIGKILL)
    training.trainers[0].process.wait()
    assert segment.exists()
    done = run(train("--session", training.session))
    assert losses(done) == alone
    assert warnings(done) == []
    assert training.segments() == []
