"""`gradecho doctor`: every trouble is made, and found; a good host has none.

On a host made of namespaces, with a /dev/shm of its own, so that neither what
others left there nor its size matters. mpirun is replaced by one that does
nothing where it is not what the test is about.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from conftest import Job, gradecho, program, run, until, write_gradients
from hosts import Host, missing_privilege

reason = missing_privilege()
needs_host = pytest.mark.skipif(
    bool(reason), reason=f"no network namespaces: {reason}"
)
CORES = len(os.sched_getaffinity(0))
GOOD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
OF_MPI = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "OMPI_MCA_rmaps_base_oversubscribe",
)


# An mpirun (-n N ...) that starts nothing, and the answer that is waited for.
HELLO = 'echo "monitors: $2"'


@dataclass
class Findings:
    code: int
    lines: list[str]

    def of(self, what: str, finding: str) -> list[str]:
        return [x for x in self.lines if x.split()[0] == finding and what in x[9:22]]

    def count(self, finding: str) -> int:
        return sum(x.split()[0] == finding for x in self.lines[:-1])


class Patient:
    """A host to be looked at."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()

    def mpirun(self, script: str) -> str:
        """A PATH on which mpirun is this script."""
        fake = self.bin / "mpirun"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        return f"{self.bin}:{os.environ['PATH']}"

    def doctor(
        self, *arguments: str, real: bool = False, **changed: str | None
    ) -> Findings:
        environment: dict[str, str | None] = {**os.environ, **GOOD, **changed}
        if not real:
            environment["PATH"] = changed.get("PATH") or self.mpirun(HELLO)
        kept: Mapping[str, str] = {k: v for k, v in environment.items() if v is not None}
        done = run(
            self.host.enter(
                program("GRADECHO_BIN"), "doctor", "--log",
                str(self.folder / "run.h5"), *arguments,
            ),
            env=kept,
        )
        assert done.stderr == ""
        assert "\033" not in done.stdout
        found = Findings(done.returncode, done.stdout.splitlines())
        assert found.lines[-1].split()[0] == str(found.count("problem"))
        assert found.lines[-1].split()[2] == str(found.count("warning"))
        assert found.code == (found.count("problem") > 0)
        return found


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    host = Host("patient", 1)
    try:
        yield Patient(host, tmp_path)
    finally:
        host.close()


@needs_host
def test_a_good_host_has_nothing(patient: Patient) -> None:
    found = patient.doctor("-n", "1", "--parameters", "1M", real=True)
    assert (found.code, found.count("ok")) == (0, len(found.lines) - 1), found.lines
    for what in ("leftovers", "shared memory", "memory", "cores", "threads", "MPI", "log"):
        assert len(found.of(what, "ok")) >= 1, what
    assert sorted(patient.folder.iterdir()) == [patient.bin]
    assert patient.host.shared_memory() == []


# ---- memory ----


@needs_host
def test_a_small_dev_shm_is_told_the_size_that_it_needs(patient: Patient) -> None:
    needs = ("-n", "2", "--parameters", "8M")  # 128 MB; there are 64 MiB
    found = patient.doctor(*needs)
    (line,) = found.of("shared memory", "problem")
    size = line.partition("size=")[2].partition(" ")[0]
    assert f"--shm-size={size.lower()}" in line
    remount = ("mount", "-o", f"remount,size={size}", "/dev/shm")
    assert run(patient.host.enter(*remount)).returncode == 0
    assert len(patient.doctor(*needs).of("shared memory", "ok")) == 1
    # The trainer itself agrees with both.
    for more in (("--dtype", "f64"), ("--slots", "4"), ("--replicas", "2")):
        assert len(patient.doctor(*needs, *more).of("shared memory", "problem")) == 1
    assert len(patient.doctor(*needs, "--dtype", "bf16").of("shared memory", "ok")) == 1


@needs_host
def test_a_dev_shm_that_is_none(patient: Patient) -> None:
    mount = ("mount", "-o", "remount,ro", "/dev/shm")
    assert run(patient.host.enter(*mount)).returncode == 0
    (line,) = patient.doctor().of("shared memory", "problem")
    assert "/dev/shm" in line and "Read-only" in line


@needs_host
def test_more_than_the_memory_there_is(patient: Patient) -> None:
    found = patient.doctor("--parameters", "900G")
    assert len(found.of("memory", "problem")) == 2  # shared memory, and memory


@needs_host
def test_more_than_can_be_counted(patient: Patient) -> None:
    most = ("--parameters", "1000000G", "--slots", "64", "--replicas", "1024")
    (line,) = patient.doctor(*most).of("shared memory", "problem")
    assert "larger than any address" in line


# ---- cores and threads ----


@needs_host
def test_threads_without_cores(patient: Patient) -> None:
    found = patient.doctor("-n", "1", OPENBLAS_NUM_THREADS=str(64 * CORES))
    assert found.code == 0
    (line,) = found.of("threads", "warning")
    assert f"OPENBLAS_NUM_THREADS={64 * CORES}" in line
    found = patient.doctor("-n", str(CORES + 1))
    assert len(found.of("cores", "warning")) == 1
    unset = {name: None for name in GOOD}
    found = patient.doctor("-n", "2", **unset)
    assert len(found.of("threads", "warning")) == (1 if CORES > 1 else 0)


# ---- leftovers ----


@needs_host
def test_dead_trainers(patient: Patient) -> None:
    jobs = []
    for name in ("alive", "dead"):
        command = [
            program("KNOWN_TRAINER_BIN"), f"session={name}", "rank=0", "world=1",
            "steps=1",
        ]
        jobs.append(Job(patient.host.enter(*command), patient.folder, name))
    try:
        both = ["gradecho.alive.0", "gradecho.dead.0"]
        until(lambda: patient.host.shared_memory() == both, "two segments")
        jobs[1].signal(signal.SIGKILL)
        jobs[1].process.wait()
        (line,) = patient.doctor().of("leftovers", "warning")
        assert "1 segment of" in line and "/dev/shm/gradecho.dead.0" in line
        assert patient.host.shared_memory() == both
        (line,) = patient.doctor("--clean").of("leftovers", "ok")
        assert "removed 1 segment" in line
        assert patient.host.shared_memory() == ["gradecho.alive.0"]
    finally:
        for job in jobs:
            job.kill_all()


@needs_host
def test_dead_jobs_and_logs(patient: Patient) -> None:
    holder = Job(
        patient.host.enter(
            "/usr/bin/python3", "-c",
            "import mmap, sys\n"
            "for name in ('held', 'dead'):\n"
            "    open(f'/dev/shm/vader_segment.{name}', 'wb').write(bytes(8192))\n"
            "file = open('/dev/shm/vader_segment.held', 'r+b')\n"
            "kept = mmap.mmap(file.fileno(), 8192)\n"
            "print('ready', flush=True)\n"
            "sys.stdin.read()\n",
        ),
        patient.folder,
        "holder",
    )
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = patient.folder / f"run.h5.{gone.pid}.new"
    alive = patient.folder / f"run.h5.{os.getpid()}.new"
    for path in (dead, alive):
        path.touch()
    try:
        until(lambda: "ready" in holder.stdout, "a mapped file")
        files, logs = patient.doctor().of("leftovers", "warning")
        assert "1 file of" in files and "rm /dev/shm/vader_segment.dead" in files
        assert "1 log that" in logs and f"rm {dead}" in logs
    finally:
        holder.kill_all()


# ---- MPI ----


@needs_host
def test_no_mpirun(patient: Patient) -> None:
    (line,) = patient.doctor(PATH=str(patient.folder)).of("MPI", "problem")
    assert "no mpirun on PATH" in line


@needs_host
def test_what_gradecho_run_does_is_no_problem(patient: Patient) -> None:
    plain = {name: None for name in OF_MPI}
    (line,) = patient.doctor("-n", "1", real=True, **plain).of("MPI", "ok")
    assert "gradecho-run can" in line and "refuses root" in line
    slots = {"OMPI_MCA_rmaps_base_oversubscribe": None}
    many = str(CORES + 1)
    (line,) = patient.doctor("-n", many, real=True, **slots).of("MPI", "ok")
    assert "gradecho-run can" in line and "more monitors than slots" in line


@needs_host
def test_an_mpi_that_does_not_work(patient: Patient) -> None:
    found = patient.doctor("-n", "2", real=True, OMPI_MCA_btl="nonsense")
    (line,) = found.of("MPI", "problem")
    assert "cannot start 2 monitors" in line
    loud = patient.mpirun(f'{HELLO}; echo "Read -1, expected 9, errno = 1" >&2')
    (line,) = patient.doctor(PATH=loud).of("MPI", "warning")
    assert "btl_vader_single_copy_mechanism=none" in line


@needs_host
def test_the_mpirun_of_another_mpi(patient: Patient) -> None:
    """It starts processes, each of which finds itself alone."""
    script = 'n=$2; shift 4; while [ $n -gt 0 ]; do "$@"; n=$((n - 1)); done'
    other = patient.mpirun(script)
    (line,) = patient.doctor("-n", "2", PATH=other).of("MPI", "problem")
    assert "do not know of each other" in line


# ---- the log ----


@needs_host
@pytest.mark.parametrize(
    ("options", "why"), [("ro", "Read-only"), ("size=16k", "0.0 MB free")]
)
def test_a_folder_where_no_log_can_be(
    patient: Patient, options: str, why: str
) -> None:
    place = patient.folder / "place"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place))
    assert run(patient.host.enter(*mount)).returncode == 0
    (line,) = patient.doctor("--log", str(place / "run.h5")).of("log", "problem")
    assert str(place) in line and why in line


@needs_host
def test_a_disk_that_is_full_from_the_start_is_an_error(patient: Patient) -> None:
    """What the doctor warns of: HDF5 left to itself crashes at exit."""
    place = patient.folder / "place"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place))
    assert run(patient.host.enter(*mount)).returncode == 0
    data = np.ones((1, 2, 4, 4), dtype=np.float32)
    gradients = write_gradients(patient.folder / "g.h5", {"w": data})
    command = gradecho("replay", gradients, "--log", place / "run.h5")
    done = run(patient.host.enter(*command))
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


@needs_host
def test_a_folder_that_is_missing_and_a_log_that_exists(patient: Patient) -> None:
    missing = str(patient.folder / "none" / "run.h5")
    (line,) = patient.doctor("--log", missing).of("log", "problem")
    assert "No such file" in line
    (patient.folder / "run.h5").touch()
    (line,) = patient.doctor().of("log", "warning")
    assert "--overwrite" in line


# ---- the command line ----


@needs_host
def test_colours_are_for_terminals(patient: Patient) -> None:
    ours, theirs = pty.openpty()
    command = [program("GRADECHO_BIN"), "doctor", "-n", "1"]
    subprocess.run(
        patient.host.enter(*command), stdout=theirs, cwd=patient.folder,
        env={**os.environ, "PATH": patient.mpirun(HELLO)}, check=False,
    )
    os.close(theirs)
    said = b""
    while b"problems" not in said and (more := os.read(ours, 4096)):
        said += more
    os.close(ours)
    assert b"\033[32mok" in said


USAGE = {
    "no trainers": (["-n", "0"], ["-n", "0"]),
    "many slots": (["--slots", "65"], ["--slots", "64", "65"]),
    "words": (["--parameters", "many"], ["--parameters", "124M", "many"]),
    "nothing": (["--parameters", "0"], ["--parameters", "not 0"]),
    "no dtype": (["--dtype", "int8"], ["--dtype", "int8"]),
    "an argument": (["x"], ["x"]),
}


@pytest.mark.parametrize("what", USAGE)
def test_usage(what: str) -> None:
    arguments, parts = USAGE[what]
    done = run([program("GRADECHO_BIN"), "doctor", *arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    for part in parts:
        assert part in done.stderr
