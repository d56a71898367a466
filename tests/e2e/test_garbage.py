"""Segments that turn to garbage while trainers and monitors run.

Another process (this one) overwrites a trainer's segment with random bytes or
cuts it off. That rank's data are lost and nothing else: the monitors go on with
the others, say so in one line that names rank and session, and no row holds a
number that comes from the garbage.
"""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from pathlib import Path

import h5py
import pytest

from conftest import (
    Job,
    Training,
    committed,
    errors,
    read_log,
    told,
    until,
    wait_rows,
)
from test_live import EVERY, FOUR, same_rows

# src/handoff/abi.h
CONSTANTS, PRODUCER, CONSUMER, TABLE = 0, 128, 192, 256
CONSTANT_BYTES, LINE = 104, 64  # what is reserved holds nothing
LAYER_BYTES, LAYERS = 320, 3


class Segment:
    """A trainer's segment, as any process of the user sees it."""

    def __init__(self, training: Training, rank: int, seed: int) -> None:
        path = Path(f"/dev/shm/gradecho.{training.session}.{rank}")
        self.file = os.open(path, os.O_RDWR)
        self.bytes = os.fstat(self.file).st_size
        self.random = random.Random(seed)
        head = os.pread(self.file, 256, 0)
        self.slots, self.slot_bytes = struct.unpack_from("<QQ", head, 64)
        self.count = struct.unpack_from("<I", head, 40)[0]
        assert self.slots + self.count * self.slot_bytes == self.bytes

    def scribble(self, at: int, count: int) -> None:
        """Other bytes than those that are there, every one."""
        old = os.pread(self.file, count, at)
        new = bytes(x ^ self.random.randrange(1, 256) for x in old)
        os.pwrite(self.file, new, at)

    def scribble_some(self, at: int, count: int) -> None:
        """A few bytes in a row."""
        first = self.random.randrange(count)
        self.scribble(
            at + first, self.random.randint(1, min(8, count - first))
        )

    def scribble_slot_headers(self) -> None:
        for slot in range(self.count):
            self.scribble_some(self.slots + slot * self.slot_bytes, 52)

    def cut(self, to: int) -> None:
        os.ftruncate(self.file, to)

    def close(self) -> None:
        os.close(self.file)


def lost_lines(training: Training, monitor: Job, rank: int) -> list[str]:
    name = f"trainer {rank} of session {training.session} is lost"
    return [line for line in told(monitor.stderr) if name in line]


GARBAGE = {
    "everything": lambda s: s.scribble(0, s.bytes),
    "constants": lambda s: s.scribble_some(CONSTANTS, CONSTANT_BYTES),
    "the producer's line": lambda s: s.scribble(PRODUCER, 24),
    "the end mark": lambda s: s.scribble_some(PRODUCER + 20, 4),
    "the consumer's line": lambda s: s.scribble_some(CONSUMER, 20),
    "cut off": lambda s: s.cut(0),
    "cut in the payload": lambda s: s.cut(s.bytes - s.slot_bytes),
    "cut and grown": lambda s: (s.cut(0), s.cut(s.bytes)),
}


def may_die(training: Training, kind: str, *ranks: int) -> None:
    """Known: a trainer whose own segment is cut off dies of SIGBUS."""
    for rank in ranks:
        job = training.trainers[rank]
        code = job.finish()
        allowed = (0, -7) if "cut" in kind else (0,)
        assert code in allowed, (kind, code, job.stderr)


@pytest.mark.parametrize(
    ("kind", "monitors"), zip(GARBAGE, itertools.cycle([4, 2, 1]))
)
def test_garbage_costs_one_rank(
    training: Training, monitors: int, kind: str
) -> None:
    """Two ranks in turn; each time the others' numbers stay right."""
    seed = 4711 + monitors + len(kind)
    print("seed", seed)
    training.train(4, steps=12, paced=1)
    monitor = training.monitor(monitors, *EVERY)
    left = list(FOUR)
    rows = 3
    training.step(3)
    with training.follow() as file:
        wait_rows(file, rows)
        for victim in (2, 0):
            segment = Segment(training, victim, seed + victim)
            GARBAGE[kind](segment)
            segment.close()
            until(
                lambda: lost_lines(training, monitor, victim),
                f"trainer {victim} is told to be lost",
            )
            left.remove(victim)
            training.step(2)
            log = wait_rows(file, rows + 2)
            assert monitor.running()
            same_rows(log, [rows, rows + 1], ranks=left, first=rows)
            rows += 2
    for rank in left:
        assert training.trainers[rank].finish() == 0
    may_die(training, kind, 0, 2)
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    for victim in (2, 0):
        assert len(lost_lines(training, monitor, victim)) == 1, monitor.stderr
    assert len([x for x in told(monitor.stderr) if "warning" in x]) == 2
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    assert log["step"].tolist() == list(range(rows))
    same_rows(log, range(3))


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_a_slot_that_waits_turns_to_garbage(
    training: Training, seed: int, wait: bool
) -> None:
    """Its step, too, could be overwritten: were it believed, all ranks would
    discard whatever comes before it. Without `wait` the others hand over at
    once, and the sample may be in the middle of being measured: then it leaves
    no row, and is counted."""
    victim = 1
    training.train(4, steps=9, paced=1)
    monitor = training.monitor(4, *EVERY)
    training.step(3)
    with training.follow() as file:
        wait_rows(file, 3)
        training.trainers[victim].stdin.write(b"..")
        training.trainers[victim].stdin.flush()
        segment = Segment(training, victim, seed)

        def handed_over() -> bool:
            return os.pread(segment.file, 1, PRODUCER) == bytes([5])

        until(handed_over, "two samples wait in the slots")
        segment.scribble_slot_headers()
        segment.close()
        if wait:
            until(
                lambda: lost_lines(training, monitor, victim), "the loss is told"
            )
        training.step(3)
        until(lambda: 5 in read_steps(file), "step 5 in the log")
    training.finish_trainers()
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    assert len(lost_lines(training, monitor, victim)) == 1, monitor.stderr
    log = read_log(training.log)
    steps = log["step"].tolist()
    left = [r for r in FOUR if r != victim]
    assert steps in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5])
    assert len(steps) == 6 or (not wait and log["dropped"][-1] >= 1)
    same_rows(log, range(3))
    same_rows(log, steps[3:], ranks=left, first=3)


def read_steps(file: h5py.File) -> list[int]:
    file["step"].refresh()
    steps: list[int] = file["step"][:].tolist()
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_full_flight(training: Training, seed: int) -> None:
    """Trainers run freely and the bytes change at any moment, in the middle of
    a sample, too. What is logged is right or not there."""
    dice = random.Random(seed)
    cut = seed % 2 == 0
    victim = dice.choice([0, 1, 2, 3])
    print("seed", seed, "victim", victim, "cut" if cut else "garbage")
    training.train(4, steps=60)
    until(lambda: len(training.segments()) == 4, "four segments")
    segment = Segment(training, victim, seed)
    monitor = training.monitor(dice.choice([1, 2, 4]), *EVERY)
    with training.follow() as file:
        until(lambda: committed(file) >= 5, "a few rows")
        time.sleep(dice.random() * 0.05)
        if cut:
            segment.cut(dice.randrange(segment.bytes))
        else:
            for _ in range(200):
                segment.scribble_some(0, TABLE + LAYERS * LAYER_BYTES)
    segment.close()
    for rank in FOUR:
        if rank != victim:
            assert training.trainers[rank].finish() == 0
    may_die(training, "cut" if cut else "garbage", victim)
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    log = read_log(training.log)
    assert log.attributes["clean_close"] == 1
    left = [r for r in FOUR if r != victim]
    for row, step in enumerate(log["step"]):
        ranks = FOUR if log["replicas"][row] == 4 else left
        same_rows(log, [int(step)], ranks=ranks, first=row)
    assert log["replicas"][-1] == 3  # it was lost, and the others went on
    assert log["step"][-1] == 59
    dead = [x for x in told(monitor.stderr) if f"trainer {victim} " in x]
    assert len(dead) == 1, monitor.stderr


def test_a_wake_word_that_never_rests_does_not_make_the_monitor_spin(
    training: Training,
) -> None:
    training.train(1, steps=3, paced=1)
    monitor = training.monitor(1, *EVERY)
    training.step()
    with training.follow() as file:
        wait_rows(file, 1)
        segment = Segment(training, 0, 1)

        def cpu_seconds() -> float:
            pids = [
                int(p.name)
                for p in Path("/proc").iterdir()
                if p.name.isdigit() and is_monitor(p, training.session)
            ]
            assert len(pids) == 1
            stat = Path(f"/proc/{pids[0]}/stat").read_text().rsplit(")")[1]
            user, system = (int(x) for x in stat.split()[11:13])
            return (user + system) / os.sysconf("SC_CLK_TCK")

        before, start = cpu_seconds(), time.monotonic()
        word = 1000
        while time.monotonic() < start + 2.0:
            word += 1
            os.pwrite(segment.file, struct.pack("<I", word), PRODUCER + 16)
        # Without the brake it is all of the two seconds that the writer leaves.
        assert cpu_seconds() - before < 0.7
        segment.close()
        training.step(2)
        wait_rows(file, 3)
    assert training.finish_trainers() == [3]
    assert monitor.finish() == 0, monitor.stderr


def is_monitor(process: Path, session: str) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (
        os.path.basename(words[0]) == b"gradecho"
        and b"monitor" in words
        and session.encode() in words
    )
