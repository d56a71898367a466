"""Hosts made of namespaces: each has its own network, name, /dev/shm and IPC,
and a cable to a common switch that can be pulled.

Nothing of the machine's own network is touched: the switch is a bridge in a
network namespace of its own. Every host lives as long as a process that reads
from a pipe of ours, so nothing is left behind however the test ends.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

SUBNET = "10.98.76"  # in these namespaces only
NAMESPACES = ("--net", "--mount", "--uts", "--ipc")


def missing_privilege() -> str:
    """Why hosts cannot be made here; "" if they can."""
    for name in ("unshare", "nsenter", "ip"):
        if shutil.which(name) is None:
            return f"no {name} (packages util-linux and iproute2)"
    script = (
        "mount -t tmpfs tmpfs /dev/shm && ip link add type veth && "
        "ip link add name br0 type bridge"
    )
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0:
        return ""
    return (tried.stderr.strip().splitlines() or ["no reason given"])[-1]


class Host:
    """One namespace of each kind, and the process that keeps them."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        script = (
            f"mount -t tmpfs -o size=64m tmpfs /dev/shm && hostname {name} && "
            "ip link set lo up && echo ready && exec cat"
        )
        self.keeper = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.keeper.stdout is not None
        assert self.keeper.stdout.readline() == b"ready\n", f"no host {name}"
        self.namespace = os.readlink(f"/proc/{self.keeper.pid}/ns/net")

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command on this host."""
        nsenter = shutil.which("nsenter") or "nsenter"
        return [nsenter, "-t", str(self.keeper.pid), *NAMESPACES, *command]

    def ip(self, *arguments: str) -> None:
        subprocess.run(self.enter("ip", *arguments), check=True)

    def shared_memory(self) -> list[str]:
        """Names in this host's /dev/shm."""
        return sorted(os.listdir(f"/proc/{self.keeper.pid}/root/dev/shm"))

    def processes(self) -> dict[int, str]:
        """Command lines of all that runs on this host."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/net") == self.namespace:
                    line = (folder / "cmdline").read_bytes()
                    found[int(folder.name)] = line.replace(b"\0", b" ").decode()
        found.pop(self.keeper.pid, None)
        return found

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.keeper.communicate()


class Cluster:
    """Hosts node0, node1, ... on one switch."""

    def __init__(self, count: int) -> None:
        # A short name: Open MPI puts sockets there.
        self.folder = Path(tempfile.mkdtemp(prefix="hosts-", dir="/tmp"))
        self.switch = Host("switch", 250)
        self.nodes: list[Host] = []
        try:
            self.switch.ip("link", "add", "br0", "type", "bridge")
            self.switch.ip("link", "set", "br0", "up")
            for i in range(count):
                self._add(Host(f"node{i}", i + 1), f"port{i}")
            self.agent = self._agent()
        except BaseException:
            self.close()
            raise

    def _add(self, node: Host, port: str) -> None:
        self.nodes.append(node)
        pair = ("type", "veth", "peer", "name", "eth0", "netns")
        self.switch.ip("link", "add", port, *pair, str(node.keeper.pid))
        self.switch.ip("link", "set", port, "master", "br0", "up")
        node.ip("addr", "add", f"{node.address}/24", "dev", "eth0")
        node.ip("link", "set", "eth0", "up")

    def _agent(self) -> Path:
        """What mpirun calls in the place of ssh: AGENT HOST COMMAND... Like it,
        it joins the words for a shell and hands no environment over; what is
        kept is the machine's own: other BLAS kernels make other last bits."""
        kept = [
            f"{name}={value}"
            for name, value in os.environ.items()
            if name == "PATH" or name.startswith("OPENBLAS_")
        ]
        shell = ("env", "-i", *kept, "sh", "-c")
        cases = "\n".join(
            f"{node.name}) exec {shlex.join(node.enter(*shell))} \"$*\" ;;"
            for node in self.nodes
        )
        agent = self.folder / "agent"
        agent.write_text(
            f'#!/bin/sh\nhost=$1\nshift\ncase $host in\n{cases}\nesac\n'
            'echo "no host $host" >&2\nexit 1\n'
        )
        agent.chmod(0o755)
        return agent

    def settings(self) -> dict[str, str]:
        """What a cluster's administrator would put into Open MPI's own
        configuration: how hosts are reached."""
        return {
            "OMPI_MCA_plm_rsh_agent": str(self.agent),
            "OMPI_MCA_btl_tcp_if_include": f"{SUBNET}.0/24",
            "OMPI_MCA_oob_tcp_if_include": f"{SUBNET}.0/24",
            "OMPI_MCA_orte_tmpdir_base": str(self.folder),
        }

    def hosts(self, slots: int) -> str:
        return ",".join(f"{node.name}:{slots}" for node in self.nodes)

    def cut(self, node: int) -> None:
        """Pull the cable out of the switch."""
        self.switch.ip("link", "set", f"port{node}", "down")

    def close(self) -> None:
        for host in [*self.nodes, self.switch]:
            host.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(count: int) -> Iterator[Cluster]:
    made = Cluster(count)
    try:
        yield made
    finally:
        made.close()


def running(hosts: Sequence[Host], program: str) -> list[str]:
    """Command lines of a program on these hosts."""
    return [
        f"{host.name}: {line}"
        for host in hosts
        for line in host.processes().values()
        if line.split()[:1] == [program]
    ]
