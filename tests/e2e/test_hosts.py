"""A run over several hosts, as docs/operations.md says to start one.

Four hosts made of namespaces, two trainers and two monitors on each, TCP
between them. What is measured must be what one host measures, bit for bit; and
when a cable is pulled the training goes on, the monitors say what happened, and
the log is whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import (
    TREE,
    Job,
    Training,
    errors,
    program,
    read_log,
    told,
    until,
    wait_rows,
)
from hosts import Cluster, cluster, missing_privilege, running

NODES, EACH = 4, 2
WORLD = NODES * EACH
EVERY = ("--set", "sample.echo_every=1")
OF_TIME = {"time", "duration_seconds", "dropped"}

reason = missing_privilege()
pytestmark = pytest.mark.skipif(
    bool(reason), reason=f"no network namespaces: {reason}"
)


class HostsTraining(Training):
    """Trainer r runs on host r % NODES: not where rank r of mpirun does, so
    that who serves whom must follow from what the segments say."""

    def __init__(self, folder: Path, hosts: Cluster) -> None:
        super().__init__(folder)
        self.hosts = hosts

    def place(self, **common: Any) -> None:
        for rank in range(WORLD):
            options = {
                "session": self.session, "rank": rank, "world": WORLD, **common
            }
            job = Job(
                self.hosts.nodes[rank % NODES].enter(
                    program("KNOWN_TRAINER_BIN"),
                    *(f"{key}={value}" for key, value in options.items()),
                ),
                self.folder,
                f"{self.session}.trainer{rank}",
            )
            self.trainers.append(job)
            self.jobs.append(job)

    def watch(self, *options: str, mpirun: tuple[str, ...] = ()) -> Job:
        """docs/operations.md, "Several hosts", typed on the first one."""
        settings = [f"{k}={v}" for k, v in self.hosts.settings().items()]
        job = Job(
            self.hosts.nodes[0].enter(
                "env", *settings,
                "mpirun", "--host", self.hosts.hosts(EACH), "--bind-to", "none",
                "-x", "OPENBLAS_NUM_THREADS=1", *mpirun,
                program("GRADECHO_BIN"), "monitor", "--session", self.session,
                "--log", str(self.log), *options,
            ),
            self.folder,
            f"{self.session}.monitor",
        )
        self.jobs.append(job)
        return job


@pytest.fixture
def far(tmp_path: Path) -> Iterator[HostsTraining]:
    with cluster(NODES) as hosts:
        made = HostsTraining(tmp_path, hosts)
        yield made
        made.clean()


def test_the_numbers_are_those_of_one_host(
    far: HostsTraining, training: Training
) -> None:
    steps = 6
    far.place(steps=steps, paced=1)
    monitor = far.watch(*EVERY)
    far.step()
    with far.follow() as file:
        wait_rows(file, 1)
    # The hosts are hosts: nobody could have seen another one's segments.
    for i, node in enumerate(far.hosts.nodes):
        own = [x for x in node.shared_memory() if x.startswith("gradecho.")]
        assert own == [f"gradecho.{far.session}.{r}" for r in (i, i + NODES)]
        assert len(running([node], program("GRADECHO_BIN"))) == EACH
    assert far.segments() == []
    far.step(steps - 1)
    assert far.finish_trainers() == [steps] * WORLD
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []

    training.train(WORLD, steps=steps)
    alone = training.monitor(2, *EVERY)
    assert training.finish_trainers() == [steps] * WORLD
    assert alone.finish() == 0, alone.stderr

    many, one = read_log(far.log), read_log(training.log)
    assert many["step"].tolist() == list(range(steps))
    assert many.attributes["clean_close"] == 1
    assert many.fields.keys() == one.fields.keys()
    same = many.fields.keys() - OF_TIME
    assert {"sigma2", "echo", "loss", "replica_noise", "tau2_fit"} <= same
    for name in same:
        assert many[name].tobytes() == one[name].tobytes(), name


def test_gradecho_run_takes_the_hosts_of_open_mpi(far: HostsTraining) -> None:
    settings = far.hosts.settings()
    hostfile = far.folder / "hosts"
    hostfile.write_text(
        "".join(f"{node.name} slots={EACH}\n" for node in far.hosts.nodes)
    )
    settings["OMPI_MCA_orte_default_hostfile"] = str(hostfile)
    train = (
        f"exec {program('KNOWN_TRAINER_BIN')} "
        f"rank=$OMPI_COMM_WORLD_RANK world={WORLD} steps=3"
    )
    job = Job(
        far.hosts.nodes[0].enter(
            "env", *(f"{k}={v}" for k, v in settings.items()),
            str(TREE / "launch" / "gradecho-run"), "-n", str(WORLD),
            "--log", str(far.log), "--session", far.session, "--",
            "mpirun", "-n", str(WORLD), "-x", "GRADECHO_SESSION", "sh", "-c", train,
        ),
        far.folder,
        "gradecho-run",
    )
    far.jobs.append(job)
    assert job.finish() == 0, job.stderr
    assert job.stdout.split() == ["3"] * WORLD
    log = read_log(far.log)
    assert log.attributes["clean_close"] == 1
    assert log["step"].tolist() == [0, 1, 2]
    assert (log["replicas"] == WORLD).all()


def start(far: HostsTraining, timeout: int, *keepalive: int) -> tuple[Job, int]:
    """A run under way, and the rows that it has."""
    names = ("time", "intvl", "probes")
    watched = [
        word
        for name, value in zip(names, keepalive)
        for word in ("--mca", f"oob_tcp_keepalive_{name}", str(value))
    ]
    far.place(steps=1_000_000, step_ms=20)
    monitor = far.watch(
        *EVERY, "--set", f"timeout_seconds={timeout}", mpirun=tuple(watched)
    )
    with far.follow() as file:
        rows = len(wait_rows(file, 5)["step"])
    return monitor, rows


def whole(far: HostsTraining, rows: int) -> None:
    """The log has what it had and is closed, its rows are complete."""
    log = read_log(far.log)
    assert log.attributes["clean_close"] == 1
    assert len(log["step"]) >= rows
    assert (log["replicas"] == WORLD).all()
    assert (log["layer_replicas"] == WORLD).all()


def trains_on(far: HostsTraining) -> None:
    """No monitor is left to hold a segment; the trainers never noticed."""
    monitors = program("GRADECHO_BIN")
    until(lambda: not running(far.hosts.nodes, monitors), "no monitors")
    assert all(job.running() for job in far.trainers)
    for job in far.trainers:
        assert job.finish() == 0, job.stderr
        handed, steps, longest_ms = map(float, job.stdout.split())
        assert steps > handed + 10  # it went on
        assert longest_ms < 2000  # the monitors hung for more
    left = [x for node in far.hosts.nodes for x in node.shared_memory()]
    assert [x for x in left if x.startswith("gradecho.")] == []


# The hosts that are missing, seen from the log's rank, which is on host 0.
MISSING = {2: [4, 5], 0: [2, 3, 4, 5, 6, 7]}


@pytest.mark.parametrize("cut", MISSING)
def test_a_cut_cable_ends_the_monitors_alone(far: HostsTraining, cut: int) -> None:
    """mpirun finds the lost host by its keepalive probes."""
    timeout = 20
    monitor, rows = start(far, timeout, 2, 1, 1)
    far.hosts.cut(cut)
    began = time.monotonic()
    assert monitor.finish() != 0
    assert time.monotonic() - began < timeout
    said = errors(monitor.stderr)
    assert len(said) == 1, monitor.stderr
    for rank in MISSING[cut]:
        assert f"{rank} on node{rank // EACH}" in said[0]
    assert "the training goes on" in said[0]
    assert "lost communication with a remote daemon" in monitor.stderr
    whole(far, rows)
    trains_on(far)


def test_the_monitors_find_a_lost_host_themselves(far: HostsTraining) -> None:
    """Without probes: by timeout_seconds. mpirun then hangs on the lost host's
    daemon, which is why operations.md asks for the probes."""
    monitor, rows = start(far, 3)
    far.hosts.cut(3)
    until(lambda: any("samples" in x for x in told(monitor.stderr)), "the log is closed")
    whole(far, rows)
    trains_on(far)
    said = errors(monitor.stderr)
    assert len(said) == 1, monitor.stderr
    assert "no answer from monitor 6 on node3, 7 on node3 for 3" in said[0]
    assert "timeout_seconds" in said[0]
