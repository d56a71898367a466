"""The PyTorch side: real trainings, real consumers, real monitors.

The trainings run by Debian's torch 1.13 and by a current one, which tests/run
installs into build/python/torch.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

import reference

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
PYTHONS = {
    "torch1": Path("/usr/bin/python3"),
    "torch2": TREE / "build" / "python" / "torch" / "bin" / "python",
}
PATIENCE = 240.0
# On four ranks, what depends on their number.
FOUR = (
    "plain_ddp",
    "bucket_views_and_rebuilt_buckets",
    "micro_batches_are_replicas_inside_no_sync",
)


@cache
def version(python: Path) -> str:
    """Of the torch that this interpreter has; empty: none."""
    if not python.exists():
        return ""
    done = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    path = PYTHONS[request.param]
    if not version(path):
        pytest.skip(f"{request.param}: no torch for {path}; tests/run installs it")
    return str(path)


def environment() -> dict[str, str]:
    session = f"torch-test-{os.getpid()}"
    return {
        **{k: v for k, v in os.environ.items() if k != "GRADECHO_SESSION"},
        "PYTHONPATH": f"{TREE / 'python'}{os.pathsep}{HERE}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRADECHO_TEST_SESSION": session,
    }


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What it prints; its exit code must be 0."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def spawn(world: int, python: str, script: Path) -> tuple[str | Path, ...]:
    return sys.executable, HERE / "spawn.py", str(world), python, script


@pytest.mark.parametrize("world", [2, 4])
def test_what_is_handed_over(python: str, world: int) -> None:
    names = () if world == 2 else FOUR
    output = run(*spawn(world, python, HERE / "torch_scenarios.py"), *names)
    done = re.findall(r"ok (\w+)", output)
    everything = "".join(
        (HERE / f"torch_{file}.py").read_text()
        for file in ("scenarios", "accumulation", "side_stream")
    )
    wanted = set(names or re.findall(r"@scenario\ndef (\w+)", everything))
    assert len(wanted) >= 3
    assert wanted <= set(done), output
    assert all(done.count(name) == world for name in done), output
    if world == 2 and version(Path(python)) >= "2":
        assert "sharded_gradients_are_whole" in done


def test_the_monitors_log_is_right(python: str, tmp_path: Path) -> None:
    """Four replicas, of two ranks and two micro-batches, against NumPy."""
    log = tmp_path / "run.h5"
    run(
        *(TREE / "launch" / "gradecho-run", "-n", "2", "--log", log, "--"),
        *spawn(2, python, HERE / "torch_monitored.py"),
        tmp_path,
    )
    kept = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    with h5py.File(log) as file:
        assert file["step"][:].tolist() == [0, 1, 2, 3, 4, 5]
        assert (file["replicas"][:] == 4).all()
        assert (file["batch_size"][:] == 6).all()
        np.testing.assert_allclose(file["loss"][:], np.arange(6) + 0.5)
        names = [name.decode() for name in file["layer"][:]]
        assert "mix.weight" in names
        assert not any(name.startswith(("frozen", "tied")) for name in names)
        for row in range(6):
            for column, name in enumerate(names):
                replicas = np.array(
                    [k[f"{row}/{m}/{name}"] for k in kept for m in range(2)]
                ).astype(np.float64)
                shape = file["rows"][column], file["cols"][column]
                truth = reference.noise(replicas.reshape(4, *shape), 6)
                norm = (replicas.mean(axis=0) ** 2).sum()
                for field, slack in (("sigma2", 0), ("grad_sqnorm", 1e-5 * norm)):
                    np.testing.assert_allclose(
                        file[field][row, column],
                        truth[field],
                        rtol=1e-5,
                        atol=slack,
                        err_msg=f"{field} of {name}, row {row}",
                    )


def test_the_example_runs(python: str, tmp_path: Path) -> None:
    log = tmp_path / "example.h5"
    example = TREE / "examples" / "pytorch_ddp.py"
    torchrun = Path(python).parent / "torchrun"
    start: tuple[str | Path, ...] = spawn(2, python, example)
    if version(Path(python)) >= "2":
        start = (torchrun, "--nproc-per-node", "2", example)
    output = run(
        *(TREE / "launch" / "gradecho-run", "-n", "2", "--log", log),
        *("--set", "sample.every=5", "--"),
        *start,
        *("--steps", "40"),
    )
    assert "warning" not in output.lower().replace("omp_num_threads", ""), output
    with h5py.File(log) as file:
        assert len(file["step"]) >= 1, output  # others may be dropped
        assert (file["step"][:] % 5 == 0).all()
        assert (file["replicas"][:] == 2).all()
        assert np.isfinite(file["loss"][:]).all()
        assert "head.weight" in [name.decode() for name in file["layer"][:]]
        assert np.isfinite(file["sigma2"][:]).all()
