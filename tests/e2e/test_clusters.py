"""The batch templates in launch/, with stand-ins for the schedulers, and the
manifest in docs/clusters.md. What stands in for srun starts its command by
mpirun, as often as the job has tasks.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import PATIENCE, TREE, program, read_log

SRUN = """#!/usr/bin/env bash
tasks=$SLURM_NTASKS
while [[ $1 == -* ]]; do
    case $1 in
    --ntasks) tasks=$2 && shift 2 ;;
    --ntasks-per-node) shift 2 ;;
    --label) shift ;;
    *) echo "srun: unknown option $1" >&2; exit 1 ;;
    esac
done
echo "srun $tasks overlap=${SLURM_OVERLAP-} $*" >>"$SRUN_CALLS"
if ((tasks == SLURM_JOB_NUM_NODES)) && [[ $1 != *char_lm ]]; then
    for ((i = 0; i < tasks; i++)); do "$@" || exit; done
    exit 0
fi
exec mpirun -n "$tasks" --bind-to none --oversubscribe "$@"
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of two tasks; the fake programs come first."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "srun").write_text(SRUN)
    (bin_folder / "srun").chmod(0o755)
    nodes = tmp_path / "nodes"
    nodes.write_text("localhost\nlocalhost\n")
    environment = {k: v for k, v in os.environ.items() if "SLURM" not in k}
    return environment | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SRUN_CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": f"4242{os.getpid()}",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "PBS_JOBID": f"77{os.getpid()}[3].head.example.org",
        "PBS_NODEFILE": str(nodes),
        "PBS_O_WORKDIR": str(tmp_path),
        "GRADECHO_RUN": str(TREE / "launch" / "gradecho-run"),
        "GRADECHO_BIN": program("GRADECHO_BIN"),
    }


def submit(
    template: str, *arguments: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TREE / "launch" / template), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
        **more,
    )


def training(steps: int) -> list[str]:
    return [program("CHAR_LM_BIN"), "--batch", "64", "--steps", str(steps)]


def leftovers(session: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"gradecho.{session}.*"))


def test_a_slurm_job_trains_and_logs_and_goes_on(
    job: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / f"gradecho-{job['SLURM_JOB_ID']}.h5"
    session = f"slurm-{job['SLURM_JOB_ID']}"
    for restarts in (0, 1):  # the second time it was queued again
        done = submit(
            "slurm.sbatch", "srun", *training(800),
            env=job | {"GRADECHO_PARAMETERS": "1M"},
        )
        assert done.returncode == 0, done.stderr
        assert "shared memory" in done.stdout, "doctor"
        assert "held-out loss" in done.stdout
        assert leftovers(session) == []
        made = read_log(log)
        assert made.attributes["clean_close"] == 1
        assert made.attributes["session"].decode() == session
        assert made.attributes["world_size"] == 2
        assert made.attributes["restarts"] == restarts
        assert len(made["step"]) > 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 4 and all("overlap=1" in call for call in calls)


def test_a_slurm_job_ends_as_its_training_does(
    job: dict[str, str], tmp_path: Path
) -> None:
    done = submit("slurm.sbatch", "sh", "-c", "exit 7", env=job)
    assert done.returncode == 7
    assert submit("slurm.sbatch", env=job).returncode == 2
    # The segments that killed trainers leave on the other nodes.
    left = Path(f"/dev/shm/gradecho.slurm-{job['SLURM_JOB_ID']}.x")
    left.touch()
    more = {"SLURM_JOB_NUM_NODES": "2"}
    try:
        done = submit("slurm.sbatch", "sh", "-c", "exit 3", env=job | more)
        assert done.returncode == 3
        assert not left.exists()
    finally:
        left.unlink(missing_ok=True)


def test_a_pbs_job_trains_and_logs(job: dict[str, str], tmp_path: Path) -> None:
    train = "mpirun -n 2 -x GRADECHO_SESSION --bind-to none " + " ".join(training(800))
    done = submit(
        "pbs.sh", env=job | {"TRAIN": train, "GRADECHO_PARAMETERS": "1M"}
    )
    assert done.returncode == 0, done.stderr
    assert "shared memory" in done.stdout and "held-out loss" in done.stdout
    made = read_log(tmp_path / f"gradecho-{job['PBS_JOBID'].partition('.')[0]}.h5")
    session = made.attributes["session"].decode()
    assert re.fullmatch(r"pbs-77\d+_3_\.head\.example\.org", session)
    assert leftovers(session) == []
    assert len(made["step"]) > 0
    assert submit("pbs.sh", env=job | {"TRAIN": "exit 9"}).returncode == 9
    assert submit("pbs.sh", env=job).returncode == 2


def manifests() -> list[dict[str, Any]]:
    page = (TREE / "docs" / "clusters.md").read_text()
    found: list[dict[str, Any]] = []
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        found += yaml.safe_load_all(block)
    return found


def test_the_manifest_shares_memory_between_trainer_and_monitor() -> None:
    (pod,) = (m["spec"] for m in manifests() if m["kind"] == "Pod")
    (volume,) = (v for v in pod["volumes"] if "emptyDir" in v)
    assert volume["emptyDir"]["medium"] == "Memory"
    assert re.fullmatch(r"\d+Gi", volume["emptyDir"]["sizeLimit"])
    containers = pod["containers"]
    assert len(containers) == 2
    for container in containers:
        (mount,) = (
            m for m in container["volumeMounts"] if m["name"] == volume["name"]
        )
        assert mount["mountPath"] == "/dev/shm"
        limit = container["resources"]["limits"]["memory"]
        assert int(limit.removesuffix("Gi")) > int(
            volume["emptyDir"]["sizeLimit"].removesuffix("Gi")
        ), "pages of the volume count where they are first written"
        environment = {e["name"]: e["value"] for e in container["env"]}
        assert environment["GRADECHO_SESSION"] == "run42"
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"]
