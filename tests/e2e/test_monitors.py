"""How live monitors end, are replaced, and refuse trainers that do not fit
together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import (
    Job,
    Training,
    errors,
    program,
    read_log,
    told,
    until,
    wait_rows,
)
from live import EVERY, FOUR, ends_well, same_rows


@pytest.mark.parametrize("monitors", [1, 4])
def test_sigusr1_ends_the_monitors_in_order(
    training: Training, monitors: int
) -> None:
    training.train(4, steps=8, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
    monitor.signal(signal.SIGUSR1)
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert len(log["step"]) == 3
    same_rows(log, range(3))
    training.step(5)  # the training goes on and hands nothing over any more
    assert training.finish_trainers() == [3] * 4
    assert training.segments() == []


def test_a_second_monitor_takes_over(training: Training) -> None:
    training.train(4, steps=9, paced=1)
    first = training.monitor(4, *EVERY)
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
    first.signal(signal.SIGUSR1)
    assert first.finish() == 0, first.stderr
    before = read_log(training.log)
    training.log = training.log.with_suffix(".second.h5")
    second = training.monitor(2, *EVERY)
    with training.follow() as file:
        # The log is there when the trainers are listened to.
        training.step(3)
        wait_rows(file, 3)
    training.step(3)
    assert training.finish_trainers() == [9] * 4
    after = ends_well(training, second)
    same_rows(before, range(3))
    same_rows(after, range(3, 9))


@pytest.mark.parametrize("ranks", [1, 4])
def test_sigusr1_ends_the_wait_for_trainers(training: Training, ranks: int) -> None:
    monitor = training.monitor(ranks)
    until(lambda: "waiting for trainers" in monitor.stderr, "the monitor waits")
    monitor.signal(signal.SIGUSR1)
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    assert not training.log.exists()


def rank_process(training: Training, rank: int) -> int:
    """Process id of a rank of this session's monitors."""

    def find() -> int | None:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                environment = (folder / "environ").read_bytes().split(b"\0")
                if (
                    words[0] == program("GRADECHO_BIN")
                    and training.session in words
                    and f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment
                ):
                    return int(folder.name)
        return None

    found: int = until(find, f"monitor {rank} runs")
    return found


def test_a_killed_monitor_leaves_a_closed_log(training: Training) -> None:
    """mpirun ends the others by SIGTERM, a second before it kills: rank 0 is
    in a collective that the dead one will never join, and must get out."""
    training.train(4, steps=1_000_000, step_ms=20)
    monitor = training.monitor(4, *EVERY)
    with training.follow() as file:
        rows = len(wait_rows(file, 5)["step"])
    os.kill(rank_process(training, 2), signal.SIGKILL)
    assert monitor.finish() != 0
    lines = errors(monitor.stderr)
    assert len(lines) == 1, monitor.stderr
    assert "no answer from monitor 2 on" in lines[0]
    assert "SIGTERM" in lines[0]
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert len(log["step"]) >= rows
    assert (log["replicas"] == 4).all()
    for job in training.trainers:
        assert job.finish() == 0, job.stderr
    assert training.segments() == []


# ---- trainers that do not fit together ----


def refused(training: Training, monitor: Job, *parts: str) -> None:
    assert monitor.finish() == 2, monitor.stderr
    lines = errors(monitor.stderr)
    assert len(lines) == 1, monitor.stderr
    for part in parts:
        assert part in lines[0]
    assert not training.log.exists()


@pytest.mark.parametrize("monitors", [1, 2, 4])
def test_different_layers_are_refused(training: Training, monitors: int) -> None:
    each: list[dict[str, Any]] = [{} for _ in FOUR]
    each[3] = {"layers": "another/weight"}
    training.train(4, each, steps=3)
    monitor = training.monitor(monitors)
    refused(training, monitor, "layers")


@pytest.mark.parametrize("monitors", [1, 4])
def test_different_world_sizes_are_refused(
    training: Training, monitors: int
) -> None:
    each: list[dict[str, Any]] = [{} for _ in FOUR]
    each[3] = {"world": 5}
    training.train(4, each, steps=3)
    until(lambda: len(training.segments()) == 4, "four segments")
    monitor = training.monitor(monitors)
    refused(training, monitor, training.session, "4", "5")


def test_more_monitors_than_trainers_are_refused(training: Training) -> None:
    training.train(2, steps=3)
    until(lambda: len(training.segments()) == 2, "two segments")
    monitor = training.monitor(3)
    refused(training, monitor, "2")


def test_a_session_has_one_monitor_job(training: Training) -> None:
    training.train(2, steps=2, paced=1)
    first = training.monitor(2, *EVERY)
    training.step()
    with training.follow() as file:
        wait_rows(file, 1)
        log, training.log = training.log, training.log.with_suffix(".other.h5")
        second = training.monitor(2)
        refused(training, second, "attached")
        training.log = log
        training.step()
        wait_rows(file, 2)
    training.finish_trainers()
    same_rows(ends_well(training, first), range(2), ranks=(0, 1))


def test_a_trainer_that_died_before_the_monitors_came_is_done_without(
    training: Training,
) -> None:
    """After a while: it could be what a run before this one left."""
    training.train(3, steps=3, paced=1)
    until(lambda: len(training.segments()) == 3, "three segments")
    lost = training.trainers.pop()
    lost.signal(signal.SIGKILL)
    lost.process.wait()
    monitor = training.monitor(2, *EVERY)
    with training.follow() as file:
        training.step(3)
        log = wait_rows(file, 3)
    assert log["replicas"].tolist() == [2] * 3
    assert training.finish_trainers() == [3, 3]
    assert monitor.finish() == 0, monitor.stderr
    assert any("trainer 2 died" in x for x in told(monitor.stderr))
    same_rows(read_log(training.log), range(3), ranks=(0, 1))


def test_a_leftover_of_a_dead_trainer_is_replaced(training: Training) -> None:
    training.train(1, steps=3)
    until(training.segments, "a segment")
    training.trainers[0].signal(signal.SIGKILL)
    training.trainers[0].process.wait()
    leftover = training.segments()
    assert len(leftover) == 1  # else this test is about nothing
    before = os.stat(leftover[0]).st_ino
    training.trainers.clear()
    training.train(1, steps=3)
    until(
        lambda: Path(leftover[0]).exists() and os.stat(leftover[0]).st_ino != before,
        "a new segment",
    )
    monitor = training.monitor(1, *EVERY)
    assert training.finish_trainers() == [3]
    log = ends_well(training, monitor)
    assert log["step"].tolist() == [0, 1, 2]
    assert log["replicas"].tolist() == [1, 1, 1]
    assert np.isnan(log["sigma2"]).all()  # one replica only


def cpu_seconds(session: str) -> dict[int, float]:
    """Of each monitor of the session, by its process id."""
    seconds = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(folder / "exe") != os.path.realpath(program("GRADECHO_BIN")):
                continue
            if session.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                ticks = int(fields[11]) + int(fields[12])
                seconds[int(folder.name)] = ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def test_monitors_that_wait_sleep(training: Training) -> None:
    """Some 0.1 % of a core; one that polled without sleeping would take most of
    one, half of one where two share it. A busy machine makes it less."""
    training.train(2, steps=2, paced=1)
    monitor = training.monitor(2, *EVERY)
    training.step()
    with training.follow() as file:
        wait_rows(file, 1)
    before = cpu_seconds(training.session)
    assert len(before) == 2
    time.sleep(3)
    after = cpu_seconds(training.session)
    for pid, seconds in before.items():
        assert after[pid] - seconds < 0.1 * 3
    training.step()
    same_rows(ends_well(training, monitor), [0, 1], ranks=(0, 1))
