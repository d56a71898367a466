"""The log's file system in trouble: full, read-only, over quota. The monitor
says so once, goes on taking samples, writes again when it can, and says at the
end how many it could not write.

A small tmpfs in a mount namespace of its own is full for real; other errors
come from tests/support/file_fault.c.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from conftest import (
    Job,
    Training,
    committed,
    errors,
    gradecho,
    program,
    read_log,
    run,
    told,
    until,
)

SIZE = 1 << 20
EVERY = ("--set", "sample.echo_every=1")


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Job]:
    """A process whose tmp_path/disk is a small tmpfs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={SIZE} tmpfs {disk} && echo up && exec cat"
    holder = Job(["unshare", "-m", "sh", "-c", mount], tmp_path, "namespace")
    try:
        until(lambda: holder.stdout == "up\n" or not holder.running(), "a mount")
        if not holder.running():
            pytest.skip(f"no mount namespace here: {holder.stderr.strip()}")
        yield holder
    finally:
        holder.kill_all()


def within(holder: Job, command: list[str]) -> list[str]:
    return ["nsenter", "-t", str(holder.process.pid), "-m", *command]


def seen_from_here(holder: Job, path: Path) -> Path:
    return Path(f"/proc/{holder.process.pid}/root{path}")


def start(training: Training, command: list[str]) -> Job:
    job = Job(command, training.folder, "monitor")
    training.jobs.append(job)
    return job


def step_until(training: Training, monitor: Job, text: str) -> int:
    """Let the trainers do steps until the monitor says so; how many."""
    steps = 0

    def said() -> bool:
        nonlocal steps
        training.step()
        steps += 1
        return text in monitor.stderr

    until(said, f"the monitor says: {text}")
    return steps


def lost_rows(monitor: Job) -> int:
    """What the monitor says at its end; and that it says the rest once."""
    said = told(monitor.stderr)
    assert len([line for line in said if "cannot write step" in line]) == 1
    assert len([line for line in said if "writing again" in line]) <= 1
    found = re.search(r"(\d+) samples could not be written$", said[-1])
    assert found is not None, monitor.stderr
    return int(found[1])


def outage(training: Training, monitor: Job, log: Path, filler: Path) -> int:
    """Six samples, then the disk is full; steps until some time after that."""
    until(log.exists, "the log")
    training.step(6)
    with h5py.File(log, "r", swmr=True) as file:
        until(lambda: committed(file) >= 6, "six rows")
    fill(filler)
    steps = 6 + step_until(training, monitor, "cannot write step")
    training.step(20)
    return steps + 20


def fill(path: Path) -> None:
    """As much as there is room for."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError as full:
            assert full.errno == errno.ENOSPC


def check_end(training: Training, monitor: Job, log: Path, steps: int) -> None:
    """All samples were taken; the log has all but those told as lost."""
    for job in training.trainers:
        assert job.finish() == 0
        assert int(job.stdout) == steps  # nobody had to drop a sample
    assert monitor.finish() == 1
    lost = lost_rows(monitor)
    rows = read_log(log)["step"].tolist()
    assert rows[:6] == list(range(6))
    assert rows == sorted(set(rows))
    assert len(rows) == steps - lost
    assert rows[-1] == steps - 1 or "writing again" not in monitor.stderr


def test_a_full_disk_costs_the_rows_that_did_not_fit(
    training: Training, namespace: Job, tmp_path: Path
) -> None:
    inside = tmp_path / "disk" / "log.h5"
    log = seen_from_here(namespace, inside)
    training.train(2, steps=2000, paced=1)
    monitor = start(
        training,
        within(
            namespace,
            gradecho("monitor", "--session", training.session, "--log", inside, *EVERY),
        ),
    )
    filler = seen_from_here(namespace, tmp_path / "disk" / "fill")
    steps = outage(training, monitor, log, filler)
    filler.unlink()
    steps += step_until(training, monitor, "writing again from step")
    training.step(5)
    check_end(training, monitor, log, steps + 5)
    with h5py.File(log, "r") as file:
        assert file.attrs["clean_close"] == 1
    assert "No space left on device" in errors(monitor.stderr)[0]


def test_a_disk_that_stays_full(
    training: Training, namespace: Job, tmp_path: Path
) -> None:
    inside = tmp_path / "disk" / "log.h5"
    log = seen_from_here(namespace, inside)
    training.train(2, steps=2000, paced=1)
    command = gradecho("monitor", "--session", training.session, "--log", inside, *EVERY)
    monitor = start(training, within(namespace, command))
    filler = seen_from_here(namespace, tmp_path / "disk" / "fill")
    steps = outage(training, monitor, log, filler)
    for job in training.trainers:
        assert job.finish() == 0
    assert monitor.finish() == 1
    lost = lost_rows(monitor)
    filler.unlink()
    done = run(within(namespace, gradecho("recover", inside)))
    assert done.returncode == 0, done.stderr
    assert read_log(log)["step"].tolist() == list(range(steps - lost))


def test_a_read_only_folder_is_an_error_at_once(
    namespace: Job, tmp_path: Path
) -> None:
    log = tmp_path / "disk" / "log.h5"
    remount = ["mount", "-o", "remount,ro", str(log.parent)]
    assert run(within(namespace, remount)).returncode == 0
    grads = tmp_path / "grads.h5"
    with h5py.File(grads, "w") as file:
        file["gradients/w"] = [[[[1.0, 2.0]], [[2.0, 1.0]]]]
    for option in ([], ["--resume"]):
        done = run(
            within(namespace, gradecho("replay", grads, "--log", log, *option))
        )
        assert done.returncode == 1
        assert len(told(done.stderr)) == 1
        assert "Read-only file system" in done.stderr


@pytest.mark.parametrize(
    ("error", "flush", "heals"),
    [
        (errno.EROFS, 1, True),
        (errno.EDQUOT, 5, True),
        (errno.EDQUOT, 5, False),
        (errno.EIO, 1, False),
    ],
)
def test_a_file_system_that_fails(
    training: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    flush: int,
    heals: bool,
) -> None:
    stop = tmp_path / "stop"
    training.train(2, steps=2000, paced=1)
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", program("FILE_FAULT"))
        patch.setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0")
        patch.setenv("FILE_FAULT_WHILE", str(stop))
        patch.setenv("FILE_FAULT_ERROR", str(error))
        monitor = training.monitor(
            0, *EVERY, "--set", f"log.flush_every={flush}"
        )
    until(training.log.exists, "the log")
    training.step(6)
    with h5py.File(training.log, "r", swmr=True) as file:
        until(lambda: committed(file) >= 6 // flush, "rows")
    stop.touch()
    steps = 6 + step_until(training, monitor, "cannot write step")
    if heals:
        stop.unlink()
        steps += step_until(training, monitor, "writing again from step")
    for job in training.trainers:
        assert job.finish() == 0
        assert int(job.stdout) == steps
    assert monitor.finish() == 1
    lost = lost_rows(monitor)
    assert os.strerror(error) in errors(monitor.stderr)[0]
    if not heals:
        assert "close it by gradecho recover" in monitor.stderr
        with h5py.File(training.log, "r", swmr=True) as file:
            assert len(file["step"]) == steps - lost
        done = run(gradecho("recover", training.log))
        assert done.returncode == 0, done.stderr
        assert f"recovered, {steps - lost} samples" in done.stdout
    rows = read_log(training.log)["step"].tolist()
    assert len(rows) == steps - lost
    assert rows == sorted(set(rows))
