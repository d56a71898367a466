"""`gradecho inspect --advice`: what is advised, held against planted truth.

Each seed plants a gradient of ten modes, from far above the noise to within it,
and replays it twice: at a batch, and at four times that batch. What is said from
the first is compared with the truth and with what the second finds.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import (
    TREE,
    Array,
    gradecho,
    names_of,
    reference,
    replay,
    run,
    write_gradients,
)

ROWS, COLS, MODES, BATCH, SAMPLES = 64, 96, 10, 16, 16
SEEDS = range(6)
EVERY = ("--set", "sample.echo_every=1")
LAST = ("--set", f"sample.echo_every={SAMPLES - 1}")  # first and last: it is faster

Json = dict[str, Any]


def inspect(log: Path, *options: str) -> str:
    done = run(gradecho("inspect", log, *options))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def advice(log: Path, *options: str) -> Json:
    found: Json = json.loads(inspect(log, "--json", *options))["advice"]
    return found


@dataclass
class Plant:
    """One seed at one number of replicas."""

    replicas: int
    gradient: Array
    left: Array
    right: Array
    values: Array
    mean: Array  # of the last sample at BATCH
    now: Json
    later: Json  # at four times the batch

    def echoes(self, mean: Array) -> Array:
        """Of the planted modes in a mean: the largest with one of its modes."""
        u, _, v = np.linalg.svd(mean, full_matrices=False)
        found: Array = np.abs((self.left.T @ u) * (v @ self.right).T).max(axis=1)
        return found

    def echo_at(self, batch: float) -> Array:
        """By the exact law, which isotropic noise obeys."""
        share = BATCH / batch / self.values**2  # sigma2 of one replica is 1
        lost = ROWS * COLS * share**2
        echo: Array = np.maximum(1 - lost, 0) / np.sqrt(
            (1 + ROWS * share) * (1 + COLS * share)
        )
        return echo

    def knee(self, place: int) -> float:
        """Batch at which the place'th strongest mode has an echo of 1/2."""
        batches = np.geomspace(0.01, 1e5, 4000)
        echoes = np.array([self.echo_at(batch)[place] for batch in batches])
        return float(np.interp(0.5, echoes, batches))


def plant(folder: Path, seed: int, replicas: int) -> Plant:
    rng = np.random.default_rng(2000 * replicas + seed)
    edge = np.sqrt(ROWS) + np.sqrt(COLS)
    values = edge * np.geomspace(2.5, 0.25, MODES)
    gradient, left, right = reference.planted(rng, ROWS, COLS, values)
    told, means = [], []
    for name, scale in (("now", 1), ("later", 4)):
        noise = rng.standard_normal((SAMPLES, replicas, ROWS, COLS))
        data = (gradient + noise / np.sqrt(scale)).astype(np.float32)
        path = write_gradients(folder / f"{name}.h5", {"w": data}, BATCH * scale)
        replay(path, folder / f"{name}.log.h5", *LAST)
        told.append(advice(folder / f"{name}.log.h5"))
        means.append(data[-1].mean(axis=0, dtype=float))
    return Plant(replicas, gradient, left, right, values, means[0], told[0], told[1])


@pytest.fixture(scope="module", params=[4, 8])
def plants(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Plant]:
    folders = [tmp_path_factory.mktemp(f"plant{seed}") for seed in SEEDS]
    with ThreadPoolExecutor(2) as pool:
        return list(
            pool.map(lambda seed: plant(folders[seed], seed, request.param), SEEDS)
        )


def assert_within_errors(
    got: list[float], truth: list[float], errors: list[float], floor: float
) -> None:
    """As far off as the errors say on average, none far beyond; and errors that
    say something."""
    z = (np.array(got) - truth) / np.hypot(errors, floor)
    assert len(z) >= len(SEEDS) / 2
    assert np.sqrt(np.mean(z**2)) < 1.5, z
    assert np.abs(z).max() < 3.5, z
    assert np.median(errors) < np.ptp([*truth, 0])


def test_critical_batch(plants: list[Plant]) -> None:
    """It is a property of the gradient: the same at both batches."""
    for of in ("now", "later"):
        told = [getattr(p, of)["critical"] for p in plants]
        truth = [BATCH * ROWS * COLS / (p.values**2).sum() for p in plants]
        assert_within_errors(
            [t["batch"] for t in told], truth, [t["se"] for t in told], 0
        )
        for p, t in zip(plants, told, strict=True):
            assert t["silent"] is None
            assert t["low"] <= t["batch"] <= t["high"]
            today = getattr(p, of)["batch"]
            for name, part in (("half", 0.5), ("double", 2)):
                share = 1 / (1 + t["batch"] / (part * today))
                assert t[f"progress_{name}"] == pytest.approx(share, rel=1e-9)


def test_trust_is_what_is_true_of_the_mean(plants: list[Plant]) -> None:
    truth = [float((p.echoes(p.mean) > 0.5).sum()) for p in plants]
    told = [p.now["trust"] for p in plants]
    assert_within_errors(
        [t["modes"] for t in told], truth, [t["se"] for t in told], 0.25
    )


def test_counts_at_other_batches_come_true(plants: list[Plant]) -> None:
    """Said at one batch, found at four times it, by planted truth and by a
    replay at that batch. Modes that are within the noise today may come: so
    many as are told to be too small to say."""
    for p in plants:
        ahead = p.now["above_knee"][-1]
        assert ahead["batch"] == pytest.approx(p.later["batch"])
        most = ahead["modes"] + p.now["small_echo_modes"]
        most += MODES - min(p.now["signal_modes"], MODES)  # not seen today
        for found, error in (
            (float((p.echo_at(ahead["batch"]) > 0.5).sum()), 0.0),
            (p.later["trust"]["modes"], p.later["trust"]["se"]),
        ):
            slack = 2 * np.hypot(ahead["se"], error) + 0.1
            assert ahead["modes"] - slack <= found <= most + slack
        now = p.now["above_knee"][2]
        assert now["modes"] == p.now["trust"]["modes"]
        counts = [c["modes"] for c in p.now["above_knee"]]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]


def test_counts_at_smaller_batches(plants: list[Plant]) -> None:
    for place in (0, 1):
        told = [p.now["above_knee"][place] for p in plants]
        truth = [float((p.echo_at(t["batch"]) > 0.5).sum())
                 for p, t in zip(plants, told, strict=True)]
        assert_within_errors(
            [t["modes"] for t in told], truth, [t["se"] for t in told], 0.35
        )


def test_knee_of_half_the_modes(plants: list[Plant]) -> None:
    told = [p.now["knee"][0] for p in plants]
    signal = [p.now["signal_modes"] for p in plants]
    truth = [p.knee(int(np.ceil(n / 2)) - 1) for p, n in zip(plants, signal, strict=True)]
    errors = [np.log(t["high"] / t["low"]) / 2 for t in told]
    assert_within_errors(
        list(np.log([t["batch"] for t in told])), list(np.log(truth)), errors, 0.05
    )


def saved(p: Plant) -> float:
    """Of the squared error of today's mean, with the best factors there are:
    those that who knows the gradient would take, for as many modes."""
    u, s, v = np.linalg.svd(p.mean, full_matrices=False)
    count = min(p.now["signal_modes"], MODES)
    true = np.einsum("ik,ij,kj->k", u[:, :count], p.gradient, v[:count])
    kept = (u[:, :count] * true) @ v[:count]
    rest = p.mean - (u[:, :count] * s[:count]) @ v[:count]
    kept += rest * max((rest * p.gradient).sum() / (rest**2).sum(), 0)
    raw = ((p.mean - p.gradient) ** 2).sum()
    return float(1 - ((kept - p.gradient) ** 2).sum() / raw)


def test_denoising_saves_what_is_said(plants: list[Plant]) -> None:
    told = [p.now["saving"] for p in plants]
    assert_within_errors(
        [t["part"] for t in told], [saved(p) for p in plants],
        [t["se"] for t in told], 0.0,
    )


# ---- what is not said, and why ----


def log_of(folder: Path, data: Array, *options: str, batch: float | None = BATCH) -> Path:
    """data [sample, replica, rows, cols], one layer."""
    path = write_gradients(folder / "grads.h5", {"w": data.astype(np.float32)}, batch)
    replay(path, folder / "log.h5", *EVERY, *options)
    return folder / "log.h5"


def noise(samples: int, replicas: int, strength: float = 0.0) -> Array:
    rng = np.random.default_rng(5)
    data: Array = rng.standard_normal((samples, replicas, 24, 20))
    data[..., 0] += strength
    return data


def copies() -> Array:
    data = noise(8, 4, 10.0)
    data[:, 2] = data[:, 1]
    return data


SILENT: Iterator[Any] = iter([
    # what, gradients, batch size, {advice: why}
    ("one", noise(8, 1, 9), BATCH, dict.fromkeys("critical knee trust saving".split(),
                                                 "one_replica")),
    ("two", noise(8, 2, 9), BATCH, dict.fromkeys("knee trust saving".split(),
                                                 "two_replicas") | {"critical": None}),
    ("copies", copies(), BATCH, dict.fromkeys("critical knee trust saving".split(),
                                              "same_data")),
    ("batch", noise(8, 4, 9), None, {"critical": "no_batch", "knee": "no_batch",
                                     "trust": None, "saving": None}),
    ("few", noise(3, 4, 9), BATCH, {"critical": "few_samples", "trust": None}),
    ("noise", noise(8, 4), BATCH, {"critical": "no_gradient", "knee": "no_signal",
                                   "trust": None, "saving": None}),
    ("all", noise(8, 4, 9), BATCH, dict.fromkeys("critical knee trust saving".split())),
])


@pytest.mark.parametrize(
    ("data", "batch", "expected"), [pytest.param(*x[1:], id=x[0]) for x in SILENT]
)
def test_silences(
    tmp_path: Path, data: Array, batch: float | None, expected: dict[str, str | None]
) -> None:
    log = log_of(tmp_path, data, batch=batch)
    found = advice(log)
    for name, why in expected.items():
        told = found[name][0] if name == "knee" else found[name]
        assert told["silent"] == why, name
        value = next(told[x] for x in ("batch", "modes", "part") if x in told)
        assert (value is None) == (why is not None), name
    inspect(log)
    inspect(log, "--advice")


def test_pure_noise_bounds_the_batch_and_trusts_nothing(tmp_path: Path) -> None:
    found = advice(log_of(tmp_path, noise(8, 4)))
    assert found["critical"]["at_least"] > 4 * BATCH
    assert found["trust"] == {"modes": 0.0, "se": 0.0, "silent": None}
    assert found["saving"]["part"] > 0.8


def test_without_echoes_there_is_no_word_on_modes(tmp_path: Path) -> None:
    found = advice(log_of(tmp_path, noise(8, 4, 9), "--set", "layers.exclude=['*']"))
    assert found["trust"]["silent"] == "no_echo"
    assert found["critical"]["silent"] is None
    assert found["saving"]["silent"] is None


# ---- how it is shown ----


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    layers = {
        "clear": noise(8, 4, 9), "noisy": noise(8, 4),
        "bias": 1 + np.random.default_rng(6).standard_normal((8, 4, 24)),
    }
    path = write_gradients(folder / "grads.h5", layers, BATCH)
    replay(path, folder / "log.h5", "--set", "sample.echo_every=2")
    return folder / "log.h5"


def test_the_summary_has_four_pieces_of_advice(mixed: Path) -> None:
    text = inspect(mixed).split("\nadvice\n")[1]
    heads = re.findall(r"^  (\S.*?): ", text, re.MULTILINE)
    assert heads == ["batch size", "knee", "spectral optimizers", "denoising"]
    assert text.count("Assumes") == 4
    assert max(map(len, text.splitlines())) <= 100
    assert not re.search(r" $", text, re.MULTILINE)


def test_a_table_of_layers(mixed: Path) -> None:
    text = inspect(mixed, "--advice")
    table = text.split("\nadvice\n")[1]
    rows = {row[0]: row for row in map(str.split, table.splitlines()) if row}
    assert rows["noisy"][1].startswith(">")
    assert rows["clear"][1].isdigit()
    assert "no critical batch: the gradient is not told from zero (noisy)" in table
    one = inspect(mixed, "--advice", "--layer", "clear").split("\nadvice\n")[1]
    assert "noisy" not in one
    assert "Assumes" not in one  # the model's own are not about this layer


def test_layers_and_the_model_agree(mixed: Path) -> None:
    found = json.loads(inspect(mixed, "--json"))
    layers = {x["layer"]: x for x in found["layers"]}
    for name in ("signal_modes", "measured_modes"):
        parts = [x["advice"][name] for x in found["layers"]]
        assert found["advice"][name] == sum(parts)
    trusted = [x["advice"]["trust"]["modes"] or 0 for x in found["layers"]]
    assert found["advice"]["trust"]["modes"] == pytest.approx(sum(trusted))
    assert layers["clear"]["echo_step"] == 6
    assert layers["bias"]["echo_step"] is None
    assert layers["bias"]["advice"]["saving"]["rest"] > 0.5


def test_a_layer_without_echo_has_that_of_its_last(mixed: Path, tmp_path: Path) -> None:
    """As where layers take turns."""
    log = tmp_path / "log.h5"
    shutil.copy(mixed, log)
    before = json.loads(inspect(mixed, "--json", "--step", "5"))
    after = json.loads(inspect(mixed, "--json"))
    with h5py.File(log, "r+") as file:
        place = [name.decode() for name in file["layer"]].index("clear")
        for name, data in file.items():
            if data.ndim == 3 and name != "replica_noise":
                data[6, place] = np.nan
    found = json.loads(inspect(log, "--json"))
    assert found["echo_step"] == 6
    for i, of in ((0, before), (1, after)):
        name = ("clear", "noisy")[i]
        layer, expected = (
            next(x for x in y["layers"] if x["layer"] == name) for y in (found, of)
        )
        assert layer["echo_step"] == (4, 6)[i]
        assert layer["echo"] == expected["echo"]
        assert layer["advice"]["trust"] == expected["advice"]["trust"]


def test_every_name_is_documented(mixed: Path) -> None:
    """docs/inspect-json.md, or a field of docs/log-format.md."""
    known = set()
    for page in ("inspect-json.md", "log-format.md"):
        known |= set(re.findall(r"`/?([a-z_0-9]+)`", (TREE / "docs" / page).read_text()))
    found = json.loads(inspect(mixed, "--json"))
    assert len(names_of(found)) > 60
    assert names_of(found) - known == set()
