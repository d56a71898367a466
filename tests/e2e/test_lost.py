"""Trainers that die, come back, close, lag or fall silent beside live monitors:
whatever happens to them ends in order, and what the others hand over is
measured right."""

from __future__ import annotations

import re
import signal
import time
from typing import Any

import numpy as np
import pytest

from conftest import Training, errors, read_log, told, until, wait_rows
from live import EVERY, FOUR, ends_well, same_rows


# ---- losses ----


def kill(training: Training, rank: int) -> tuple[int, ...]:
    """SIGKILL to one of four trainers; the ranks that are left."""
    training.trainers[rank].signal(signal.SIGKILL)
    training.trainers[rank].process.wait()
    return tuple(r for r in FOUR if r != rank)


@pytest.mark.parametrize("killed", [0, 2])
@pytest.mark.parametrize("monitors", [1, 2, 4])
def test_a_killed_trainer_is_done_without(
    training: Training, monitors: int, killed: int
) -> None:
    training.train(4, steps=8, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
        left = kill(training, killed)
        training.step(5)
        log = wait_rows(file, 8)
    assert log["step"].tolist() == list(range(8))
    assert log["replicas"].tolist() == [4] * 3 + [3] * 5
    assert training.finish_trainers() == [8] * 3
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    died = [x for x in told(monitor.stderr) if f"trainer {killed} died" in x]
    assert len(died) == 1
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert len(log["step"]) == 8
    same_rows(log, range(3))
    same_rows(log, range(3, 8), ranks=left, first=3)
    # The health of a replica stays in that replica's column.
    ratio = log.of("bias", "replica_noise")[4]
    assert np.flatnonzero(np.isfinite(ratio)).tolist() == list(left)


@pytest.mark.parametrize("monitors", [1, 4])
def test_a_trainer_that_comes_back_is_met_again(
    training: Training, monitors: int
) -> None:
    """It may begin with earlier steps, as after a checkpoint: these are neither
    handed over nor measured a second time."""
    training.train(4, steps=9, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
        left = kill(training, 2)
        training.step(2)
        wait_rows(file, 5)
        training.train(1, [{"rank": 2, "world": 4}], steps=9, paced=1, skip="0,1")
        until(lambda: "trainer 2 is back" in monitor.stderr, "trainer 2 is met")
        training.trainers[-1].stdin.write(b"." * 5)
        training.step(4)
        wait_rows(file, 9)
    assert training.finish_trainers() == [9, 9, 9, 4]
    log = ends_well(training, monitor)
    assert log["replicas"].tolist() == [4] * 3 + [3] * 2 + [4] * 4
    same_rows(log, range(3))
    same_rows(log, range(3, 5), ranks=left, first=3)
    same_rows(log, range(5, 9), first=5)


@pytest.mark.parametrize("killed", [0, 2])
@pytest.mark.parametrize("monitors", [1, 4])
def test_a_killed_trainer_ends_the_run_if_that_is_wanted(
    training: Training, monitors: int, killed: int
) -> None:
    """At once, though the others hand nothing over: as a rule they hang in a
    collective that the dead one has left."""
    training.train(4, steps=8, paced=1)
    monitor = training.monitor(monitors, *EVERY, "--set", "on_rank_loss=stop")
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
    kill(training, killed)
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    assert any(f"trainer {killed} died" in x for x in told(monitor.stderr))
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert len(log["step"]) == 3
    same_rows(log, range(3))
    training.step(5)  # the others train on, unwatched
    assert training.finish_trainers() == [3] * 3


@pytest.mark.parametrize("early", [0, 1])
@pytest.mark.parametrize("monitors", [1, 4])
def test_a_trainer_that_closes_ends_the_training(
    training: Training, monitors: int, early: int
) -> None:
    """What it handed over still counts; what the others do after it is not
    measured, with or without its last gradient in its place, and nobody asks
    for it."""
    each: list[dict[str, Any]] = [{"steps": 9} for _ in FOUR]
    each[early] = {"steps": 3}
    training.train(4, each, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    training.step(3)
    assert training.trainers[early].finish() == 0
    training.step(6)  # the slots hold two of them
    handed = training.finish_trainers()
    assert handed.pop(early) == 3
    assert all(3 <= count <= 5 for count in handed)
    log = ends_well(training, monitor)
    assert len(log["step"]) == 3
    same_rows(log, range(3))
    assert not any("died" in x for x in told(monitor.stderr))


PUBLISHED, DROPPED, TAKEN = 128, 136, 192  # in the header of a segment: src/handoff/abi.h


def counted(training: Training, rank: int, offset: int) -> int:
    with open(f"/dev/shm/gradecho.{training.session}.{rank}", "rb") as segment:
        segment.seek(offset)
        return int.from_bytes(segment.read(8), "little")


@pytest.mark.parametrize(
    ("end", "on_loss"),
    [("killed", "continue"), ("killed", "stop"), ("closed", "stop")],
)
@pytest.mark.parametrize("monitors", [1, 3])
def test_a_rank_that_is_late_one_that_drops_one_that_ends(
    training: Training, monitors: int, on_loss: str, end: str
) -> None:
    """Three trainers that never wait: one starts late, one gets ahead of its
    slots, one is killed or closes before the others."""
    common: dict[str, Any] = {"steps": 9, "paced": 1, "drop": 1}
    training.train(3, ranks=[0, 1], **common)
    monitor = training.monitor(
        monitors, *EVERY, "--set", f"on_rank_loss={on_loss}"
    )
    until(lambda: "waiting for trainers" in monitor.stderr, "the monitor waits")
    training.train(3, ranks=[2], **common)
    training.step()
    with training.follow() as file:
        wait_rows(file, 1)
        # The others do nothing: of its steps 1 to 4 it has slots for two.
        training.step(4, ranks=[1])
        until(lambda: counted(training, 1, DROPPED) == 2, "two samples dropped")
        for rows in (2, 3):
            training.step(1, ranks=[0, 2])
            wait_rows(file, rows)
        # Rank 1 does not have their next two any more, and its next one sets
        # their slots free.
        training.step(2, ranks=[0, 2])
        until(
            lambda: [counted(training, r, PUBLISHED) for r in (0, 2)] == [5, 5],
            "two more handed over",
        )
        training.step(1, ranks=[1])
        until(
            lambda: [counted(training, r, TAKEN) for r in (0, 2)] == [5, 5],
            "two discarded",
        )
        training.step(1, ranks=[0, 2])
        assert wait_rows(file, 4)["dropped"][3] == 2
        if end == "killed":
            kill(training, 2)
        else:
            assert training.trainers[2].finish() == 0
        for rows in (5, 6) if (end, on_loss) == ("killed", "continue") else ():
            training.step()
            wait_rows(file, rows)
    if (end, on_loss) != ("killed", "stop"):
        training.step(4)
        training.finish_trainers()
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    same_rows(log, [0, 1, 2, 5], ranks=(0, 1, 2))
    if (end, on_loss) == ("killed", "continue"):
        same_rows(log, [6, 7], ranks=(0, 1), first=4)
    else:
        assert len(log["step"]) == 4
    assert ("trainer 2 died" in monitor.stderr) == (end == "killed")


def test_a_trainer_that_comes_back_is_heard_by_the_next_monitors(
    training: Training,
) -> None:
    """Not by those that lost it; and the others' steps are waited for."""
    training.train(3, steps=6, paced=1)
    first = training.monitor(2, *EVERY)
    training.step(2)
    with training.follow() as file:
        wait_rows(file, 2)
        kill(training, 2)
        lost = training.trainers.pop()
        assert lost.process.returncode == -signal.SIGKILL
        training.train(3, ranks=[2], steps=6, paced=1)
        training.step(1, ranks=[0, 1])
        assert wait_rows(file, 3)["replicas"].tolist() == [3, 3, 2]
    first.signal(signal.SIGUSR1)
    assert first.finish() == 0, first.stderr
    training.log = training.log.with_suffix(".second.h5")
    second = training.monitor(3, *EVERY)
    with training.follow() as file:
        training.step(3, ranks=[2])  # its steps 0 to 2: nobody else has them
        training.step(2)
        wait_rows(file, 2)
    training.step(1)
    assert training.finish_trainers() == [6, 6, 5]  # two of its three filled the slots
    same_rows(ends_well(training, second), [3, 4, 5], ranks=(0, 1, 2))


@pytest.mark.parametrize("monitors", [1, 2])
def test_a_silent_trainer_is_named_once(training: Training, monitors: int) -> None:
    """A fifth of timeout_seconds: one second. That all are silent is no news."""
    training.train(3, steps=5, paced=1)
    monitor = training.monitor(monitors, "--set", "timeout_seconds=5")
    training.step(2)
    with training.follow() as file:
        wait_rows(file, 2)
        began = time.monotonic()
        training.step(ranks=[0, 2])
        silence = rf"trainer 1 of session {training.session} lives and has handed"
        until(lambda: re.search(silence, monitor.stderr), "the silence is told")
        assert time.monotonic() - began >= 1.0
        training.step(ranks=[1])
        wait_rows(file, 3)
        until(lambda: "trainer 1 goes on after" in monitor.stderr, "its end, too")
    training.step(2)
    training.finish_trainers()
    log = ends_well(training, monitor)
    assert log["step"].tolist() == list(range(5))
    assert len([line for line in told(monitor.stderr) if ": warning: " in line]) == 1
