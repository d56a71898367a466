"""What a monitor sends, from 2 to 32 ranks: libtraffic counts it under
`gradecho replay` with a replica at each rank, and it must be what
docs/performance.md says.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

RANKS = (2, 4, 8, 16, 32)
LAYERS = {"a": (40, 24), "b": (30, 50), "bias": (1, 64)}
LARGER = {"a": (80, 48), "b": (60, 100), "bias": (1, 128)}
MODES, PARTNERS = 5, 8
SAMPLES, ECHOES = 3, 2  # echo_every 2


@dataclass
class Kind:
    messages: int
    bytes: int


Traffic = list[dict[str, Kind]]  # by rank


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traffic")


@cache
def traffic(
    folder: Path, ranks: int, larger: bool = False, *settings: str, machine: int = 1
) -> Traffic:
    """`machine`: ranks that share memory, as if each so many had a machine."""
    layers = LARGER if larger else LAYERS
    rng = np.random.default_rng(1)
    name = f"{ranks}.{larger}.{len(list(folder.iterdir()))}"
    out = folder / name
    out.mkdir()
    with h5py.File(out / "grads.h5", "w") as file:
        for layer, shape in layers.items():
            data = rng.standard_normal((SAMPLES, ranks, *shape), dtype=np.float32)
            file[f"gradients/{layer}"] = data
    command = ["mpirun", "-n", str(ranks), "-x", f"LD_PRELOAD={os.environ['TRAFFIC_LIB']}"]
    command += ["-x", f"TRAFFIC={out}", os.environ["GRADECHO_BIN"], "replay"]
    command += [str(out / "grads.h5"), "--log", str(out / "log.h5")]
    for setting in ("sample.echo_every=2", f"layers.max_modes={MODES}", *settings):
        command += ["--set", setting]
    env = {**os.environ, "GRADECHO_NODE_RANKS": str(machine)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    counted: Traffic = []
    for rank in range(ranks):
        lines = [line.split() for line in (out / str(rank)).read_text().splitlines()]
        counted.append({kind: Kind(int(n), int(size)) for kind, n, size in lines})
    return counted


def matrices(larger: bool = False) -> list[tuple[int, int]]:
    layers = LARGER if larger else LAYERS
    return [shape for shape in layers.values() if min(shape) > 1]


def padded(floats: int) -> int:
    return -(-floats // 16) * 16


def floats_of(shape: tuple[int, int]) -> int:
    """Modes of a layer, as they travel."""
    u, v = (padded(MODES * n) for n in shape)
    return u + v + padded(MODES + 1) + padded(MODES)


def entries(larger: bool = False) -> int:
    layers = LARGER if larger else LAYERS
    return sum(rows * cols for rows, cols in layers.values())


@pytest.mark.parametrize("ranks", RANKS)
def test_the_mean_moves_what_an_all_reduce_moves(folder: Path, ranks: int) -> None:
    counted = traffic(folder, ranks)
    total = sum(rank["mean"].bytes for rank in counted)
    assert total == SAMPLES * 2 * (ranks - 1) * 4 * entries()
    # Shares differ by rounding up; one piece in a sample.
    share = -(-entries() // ranks)
    for rank in counted:
        assert rank["mean"].bytes <= SAMPLES * 2 * 4 * (ranks - 1) * share
        assert rank["mean"].messages <= SAMPLES * 2 * (ranks - 1)


@pytest.mark.parametrize(("ranks", "machine"), [(2, 2), (4, 2), (8, 4), (16, 8), (32, 8)])
def test_ranks_of_a_machine_send_each_other_nothing_of_the_mean(
    folder: Path, ranks: int, machine: int
) -> None:
    """Shares to ranks that are far, the mean once to every other machine."""
    counted = traffic(folder, ranks, machine=machine)
    machines = ranks // machine
    total = sum(rank["mean"].bytes for rank in counted)
    assert total == SAMPLES * (ranks - machine + machines - 1) * 4 * entries()
    share = -(-entries() // ranks)
    for rank in counted:
        messages = ranks - machine + machines - 1
        assert rank["mean"].bytes <= SAMPLES * 4 * messages * share
        assert rank["mean"].messages <= SAMPLES * messages


@pytest.mark.parametrize("ranks", RANKS)
def test_modes_travel_to_a_bounded_number_of_partners(folder: Path, ranks: int) -> None:
    blocks = sum(16 + floats_of(shape) + 1 + MODES for shape in matrices())
    shifts = min(PARTNERS, ranks - 1)
    for rank in traffic(folder, ranks):
        assert rank["shift"].bytes == ECHOES * shifts * 4 * blocks
        assert rank["shift"].messages == ECHOES * shifts * 2 * len(matrices())


@pytest.mark.parametrize("ranks", RANKS)
def test_modes_of_the_mean_are_sent_once(folder: Path, ranks: int) -> None:
    once = traffic(folder, 2)[0]["broadcast"]
    for rank in traffic(folder, ranks):
        assert rank["broadcast"].bytes == once.bytes
        assert rank["broadcast"].messages == once.messages
    assert once.bytes >= ECHOES * 4 * sum(map(floats_of, matrices()))


@pytest.mark.parametrize("ranks", RANKS)
def test_rows_at_rank_0_hold_scalars(folder: Path, ranks: int) -> None:
    """Each rank's part grows neither with the ranks nor with the layers."""
    counted = traffic(folder, ranks)
    parts = {rank["gather"].bytes for rank in counted[1:]}
    assert parts == {traffic(folder, 2)[1]["gather"].bytes}
    assert parts == {traffic(folder, 2, True)[1]["gather"].bytes}
    assert counted[0]["gather"].bytes == 0
    assert all(rank["gather"].messages == SAMPLES for rank in counted[1:])


@pytest.mark.parametrize("ranks", RANKS)
def test_sums_hold_a_number_for_each_layer_and_rank(folder: Path, ranks: int) -> None:
    for rank in traffic(folder, ranks):
        most = 8 * (len(LAYERS) + 6 + ranks)
        assert rank["reduce"].bytes <= rank["reduce"].messages * max(most, 64)


def test_all_pairs_are_compared_up_to_replicas_max(folder: Path) -> None:
    both = ("echo.estimator=both", "echo.replicas_max=4")
    plain, reverb = traffic(folder, 4), traffic(folder, 4, False, *both)
    more = ECHOES * 8 * 4 * MODES * len(matrices())  # an overlap for each pair
    assert reverb[1]["gather"].bytes == plain[1]["gather"].bytes + more
    # More ranks than that: as if reverb were not asked for.
    plain, capped = traffic(folder, 8), traffic(folder, 8, False, *both)
    for kind in ("gather", "shift", "mean"):
        assert capped[1][kind] == plain[1][kind]
