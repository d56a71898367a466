"""`gradecho monitor` beside live trainers, through real shared memory.

What is measured must be what NumPy says of the same gradients; the log must be
readable at any moment; and whatever happens to trainers or monitors ends in
order. Trainers are paced (one step for each byte), so nothing hangs on time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference
from conftest import (
    KNOWN_LAYERS,
    Array,
    Job,
    Log,
    Training,
    echo_slack,
    entries,
    errors,
    known_sample,
    program,
    read_log,
    same_echo,
    same_health,
    same_noise,
    told,
    until,
    wait_rows,
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


def test_the_gradients_are_what_they_are_meant_to_be() -> None:
    """The ground under all that follows: exact in bf16, modes, fresh noise."""
    for layer, (rows, cols) in KNOWN_LAYERS.items():
        one = entries(layer, 1, 0, 0, 0)
        assert one.shape == (rows, cols)
        assert np.abs(one * 128).max() <= 255
        assert (one * 128 == np.round(one * 128)).all()
        noise = [
            entries(layer, *words) - entries(layer, 2, 0, 0, 0)
            for words in [(1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
        ]
        assert np.abs(np.corrcoef([x.ravel() for x in noise]) - 0.5).min() < 0.5
        assert len({x.tobytes() for x in noise}) == len(noise)
    expected = reference.echo(known_sample("block.0/weight", 0, FOUR))
    echo = expected["echo"]
    assert echo[0] > 0.9
    assert 0.5 < echo[2] < echo[1] < echo[0]
    # Comparing with the reference means something.
    assert echo_slack(expected)[:3].max() < 1e-3
    assert expected["margin"][:3].min() > 0.1


# ---- a good run, watched from outside ----


def test_the_log_is_right_while_it_is_written(training: Training) -> None:
    training.train(4, steps=12, paced=1)
    monitor = training.monitor(4, *EVERY)
    seen, growth = 0, 0
    training.step()
    with training.follow() as file:
        for step in range(12):
            if step > 0:
                training.step()
            log = wait_rows(file, step + 1)
            assert monitor.running()
            assert len(log["step"]) == step + 1  # one more, and no ghosts
            same_rows(log, [step], first=step)
            assert file.attrs["clean_close"] == 0
            growth += len(log["step"]) > seen
            seen = len(log["step"])
    assert growth == 12
    assert training.finish_trainers() == [12] * 4
    log = ends_well(training, monitor)
    same_rows(log, range(12))
    for row in range(12):
        for layer in KNOWN_LAYERS:
            same_health(log, layer, row, sample(layer, row, FOUR, 1))
    assert (log["duration_seconds"] > 0).all()
    assert (np.diff(log["time"]) > 0).all()
    assert log.attributes["world_size"] == 4


def test_free_running_trainers_lose_no_step_and_tear_no_row(
    training: Training,
) -> None:
    """Readers poll as fast as they can while the monitor writes at its own
    pace; every new row is checked as soon as it is seen."""
    steps = 120
    training.train(4, steps=steps)
    monitor = training.monitor(2, *EVERY)
    seen, polls = 0, 0
    with training.follow() as file:
        while seen < steps:
            log = wait_rows(file, seen + 1)
            rows = len(log["step"])
            for name in ("sigma2", "echo", "loss", "replicas", "layer_replicas"):
                assert len(log[name]) == rows, name
            np.testing.assert_array_equal(log["step"], np.arange(rows))
            assert np.isfinite(log["sigma2"]).all()
            assert np.isfinite(log.of("block.0/weight", "echo")).all()
            assert (log["replicas"] == 4).all()
            same_rows(log, [rows - 1], first=rows - 1)
            polls += seen > 0
            seen = rows
    assert polls > 0  # it was seen to grow
    assert training.finish_trainers() == [steps] * 4
    log = ends_well(training, monitor)
    same_rows(log, range(steps))


@pytest.mark.parametrize(
    ("monitors", "options"),
    [
        (4, {"dtype": "f16", "scale": 1024}),
        (4, {"dtype": "bf16", "scale": 1024}),
        (4, {"dtype": "f64", "scale": 1000}),
        (4, {"dtype": "f32", "scale": 1000}),
        (2, {"dtype": "f16", "replicas": 2}),
        (4, {"replicas": 2}),
        (1, {}),
        (2, {}),
        (3, {}),
        (1, {"replicas": 3, "dtype": "f64"}),
    ],
)
def test_the_numbers_are_right(
    training: Training, monitors: int, options: dict[str, Any]
) -> None:
    training.train(4, steps=4, **options)
    monitor = training.monitor(monitors, *EVERY)
    assert training.finish_trainers() == [4] * 4
    log = ends_well(training, monitor)
    assert len(log["step"]) == 4
    same_rows(log, range(4), replicas=options.get("replicas", 1))


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


def test_the_monitor_may_start_first(training: Training) -> None:
    monitor = training.monitor(2, *EVERY)
    until(lambda: "waiting for trainers" in monitor.stderr, "the monitor waits")
    training.train(4, steps=3)
    assert training.finish_trainers() == [3] * 4
    same_rows(ends_well(training, monitor), range(3))


# ---- which steps are measured ----


def test_sample_every_picks_its_multiples(training: Training) -> None:
    training.train(4, steps=11)
    monitor = training.monitor(4, *EVERY, "--set", "sample.every=3")
    assert training.finish_trainers() == [4] * 4
    log = ends_well(training, monitor)
    assert len(log["step"]) == 4
    same_rows(log, [0, 3, 6, 9])


@pytest.mark.parametrize("monitors", [1, 2, 4])
def test_steps_that_one_rank_lacks_are_left_out(
    training: Training, monitors: int
) -> None:
    """And no sample mixes two steps: the numbers of the others are right."""
    each: list[dict[str, Any]] = [{} for _ in FOUR]
    each[2] = {"skip": "2,3"}
    each[1] = {"skip": "6,6"}
    training.train(4, each, steps=9)
    monitor = training.monitor(monitors, *EVERY)
    assert training.finish_trainers() == [9, 8, 7, 9]
    log = ends_well(training, monitor)
    assert len(log["step"]) == 6
    same_rows(log, [0, 1, 4, 5, 7, 8])


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
    """It may begin with earlier steps, as after a checkpoint: these are not
    measured twice."""
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
    assert training.finish_trainers() == [9, 9, 9, 7]
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
    measured, with or without its last gradient in its place."""
    each: list[dict[str, Any]] = [{"steps": 9} for _ in FOUR]
    each[early] = {"steps": 3}
    training.train(4, each, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    training.step(3)
    assert training.trainers[early].finish() == 0
    training.step(6)  # more than the slots hold: the monitors must go on taking
    assert training.finish_trainers() == [3 if r == early else 9 for r in FOUR]
    log = ends_well(training, monitor)
    assert len(log["step"]) == 3
    same_rows(log, range(3))
    assert not any("died" in x for x in told(monitor.stderr))


DROPPED, TAKEN = 136, 192  # in the header of a segment: src/handoff/abi.h


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
    assert training.finish_trainers() == [6, 6, 6]
    same_rows(ends_well(training, second), [3, 4, 5], ranks=(0, 1, 2))


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
