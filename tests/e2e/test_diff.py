"""`gradecho diff`: two runs, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import (
    TREE,
    Array,
    gradecho,
    names_of,
    read_log,
    replay,
    run,
    write_gradients,
)

SAMPLES, REPLICAS, BATCH = 24, 4, 16
LAYERS = {"a": (24, 20), "b": (16, 24), "c": (24, 24), "bias": (24,)}
NUMBERS = {"sigma2", "noise_scale", "tau2_fit", "signal_modes", "echo_1", "echo_2",
           "echo_3"}

Json = dict[str, Any]


def gradients(seed: int, loud: str = "") -> dict[str, Array]:
    """The same truth for every seed, with other noise; twice its variance in one
    layer."""
    truth, rng = np.random.default_rng(0), np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for name, shape in LAYERS.items():
        gradient = np.ones(shape)
        if len(shape) == 2:
            u, v = (truth.standard_normal((n, 3)) for n in shape)
            gradient = (u * [2.0, 1.0, 0.5]) @ v.T
        noise = rng.standard_normal((SAMPLES, REPLICAS, *shape))
        made[name] = gradient + noise * (np.sqrt(2) if name == loud else 1.0)
    return made


def log_of(folder: Path, name: str, layers: dict[str, Array], *options: str,
           batch: float = BATCH) -> Path:
    data = {layer: x.astype(np.float32) for layer, x in layers.items()}
    path = write_gradients(folder / f"{name}.grads.h5", data, batch)
    replay(path, folder / f"{name}.h5", "--set", "sample.echo_every=2", *options)
    return folder / f"{name}.h5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    for seed in range(6):
        log_of(folder, f"run{seed}", gradients(seed))
    log_of(folder, "loud", gradients(9, "b"))
    return folder


def diff(*arguments: str | Path) -> str:
    done = run(gradecho("diff", *arguments))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def diff_json(*arguments: str | Path) -> Json:
    found: Json = json.loads(diff(*arguments, "--json"))
    return found


def test_equal_runs_seldom_differ(folder: Path) -> None:
    """All pairs of six: as many beyond 2 and 3 standard errors as chance makes.
    Numbers of a layer hang together: the bounds are wide."""
    z = []
    for a in range(6):
        for b in range(a):
            found = diff_json(folder / f"run{a}.h5", folder / f"run{b}.h5")
            assert found["settings"] == []
            z += [x["z"] for x in found["differences"]]
    assert len(z) > 15 * 15
    assert np.mean(np.abs(z) > 2) < 0.12
    assert np.mean(np.abs(z) > 3) < 0.02
    assert np.std(z) > 0.5  # errors that are far too large would pass, too


def test_noise_that_doubled_is_found_where_it_did(folder: Path) -> None:
    found = diff_json(folder / "run0.h5", folder / "loud.h5")
    strict = [x for x in found["differences"] if abs(x["z"]) > found["strict"]]
    assert {x["layer"] for x in strict} <= {"b", None}
    assert found["beyond_strict"] == len(strict) > 0
    at = {(x["layer"], x["number"]): x for x in found["differences"]}
    sigma2 = at["b", "sigma2"]
    assert found["differences"][0]["layer"] == "b"
    assert sigma2["z"] > 8
    assert sigma2["b"] / sigma2["a"] == pytest.approx(2, rel=0.1)
    assert at["b", "noise_scale"]["z"] > 2
    assert at["b", "echo_1"]["z"] < 0
    turned = diff_json(folder / "loud.h5", folder / "run0.h5")
    assert turned["differences"][0]["z"] == pytest.approx(-found["differences"][0]["z"])


def test_numbers_are_averages_of_the_log(folder: Path) -> None:
    found = diff_json(folder / "run0.h5", folder / "run1.h5")
    at = {(x["layer"], x["number"]): x for x in found["differences"]}
    assert {number for _, number in at} == NUMBERS
    for side, name in (("a", "run0"), ("b", "run1")):
        log = read_log(folder / f"{name}.h5")
        scale = BATCH * log.of("a", "noise_trace").sum() / log.of("a", "grad_sqnorm").sum()
        for number, expected in (
            ("sigma2", log.of("a", "sigma2").mean()),
            ("noise_scale", scale),
            ("signal_modes", log.of("a", "signal_modes")[::2].mean()),
            ("echo_2", log.of("a", "echo")[::2, 1].mean(dtype=float)),
        ):
            assert at["a", number][side] == pytest.approx(expected, rel=1e-9), number


def test_it_reads_at_a_glance(folder: Path) -> None:
    text = diff(folder / "run0.h5", folder / "loud.h5")
    assert "numbers differ by more than 2 standard errors; chance alone" in text
    first = text.splitlines()[4].split()
    assert first[:2] == ["b", "sigma2"]
    same = diff(folder / "run0.h5", folder / "run0.h5")
    assert "no difference beyond 2 standard errors in" in same
    assert len(diff(folder / "run0.h5", folder / "run0.h5", "--all").splitlines()) > 20
    only = diff(folder / "run0.h5", folder / "loud.h5", "--layer", "a", "--all")
    assert {line.split()[0] for line in only.splitlines()[4:11]} <= {"a", "whole"}


def test_what_the_runs_are(folder: Path, tmp_path: Path) -> None:
    layers = gradients(3)
    layers["d"] = layers.pop("a")
    layers["c"] = layers["c"][..., :20]
    other = log_of(tmp_path, "other", layers, "--set", "noise.half_life=5", batch=32)
    found = diff_json(folder / "run0.h5", other)
    assert found["a"]["only"] == ["a", "c"]
    assert sorted(found["b"]["only"]) == ["c", "d"]
    settings = {x["name"]: (x["a"], x["b"]) for x in found["settings"]}
    assert settings == {
        "noise.half_life": ("20", "5"), "examples per replica": ("16", "32"),
    }
    assert {x["layer"] for x in found["differences"]} == {"b", "bias", None}
    text = diff(folder / "run0.h5", other)
    assert "noise.half_life: 20 in A, 5 in B" in text
    assert "only in A, or of another shape: a, c" in text


def test_since(folder: Path) -> None:
    found = diff_json(folder / "run0.h5", folder / "run1.h5", "--since", "12")
    assert (found["a"]["first_step"], found["a"]["samples"]) == (12, 12)


def test_few_samples_are_not_compared(tmp_path: Path) -> None:
    few = {name: x[:3] for name, x in gradients(0).items()}
    log = log_of(tmp_path, "few", few)
    assert "nothing can be compared" in diff(log, log)
    assert diff_json(log, log)["compared"] == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["run0.h5"], "two logs must be named"),
        (["run0.h5", "run1.h5", "run2.h5"], "unexpected argument"),
        (["run0.h5", "run1.h5", "--layer", "z*"], "no layer matches z*"),
        (["run0.h5", "run1.h5", "--since", "99"], "no sample from step 99"),
        (["run0.h5", "run1.h5", "--since", "x"], "--since must be a whole number"),
        (["run0.h5", "absent.h5"], "absent.h5"),
    ],
)
def test_refusals(folder: Path, options: list[str], part: str) -> None:
    done = run(gradecho("diff", *options), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert part in done.stderr


def test_every_name_is_documented(folder: Path) -> None:
    page = (TREE / "docs" / "inspect-json.md").read_text().split("gradecho diff")[1]
    for name in names_of(diff_json(folder / "run0.h5", folder / "loud.h5")) | NUMBERS:
        assert f"`{name}`" in page, name
