"""bench/run --quick: every benchmark that is there runs and gives results in the
common form. Nothing is said of how fast.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).resolve().parents[2]
KEYS = {"bench", "case", "metric", "value", "unit", "peer", "ratio"}
# What must be there: a part of a case for each benchmark.
EXPECTED = {
    "handoff": ("4 MB", "64 MB"),
    "reduction": ("centred", "pairwise"),
    "svd": ("768 x 768", "cold", "warm"),
    "sample": ("noise sample", "echo sample", "memory of a monitor"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("bench") / "results.json"
    command = [TREE / "bench/run", "--quick", "--no-build", "--json", out]
    command += ["--build", os.environ["BUILD"], "--only", *EXPECTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed: list[dict[str, Any]] = json.loads(out.read_text())
    for result in listed:
        assert result["case"][:44] in done.stdout
    return listed


def test_every_result_has_the_common_form(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert set(result) == KEYS
        assert result["value"] > 0 and result["ratio"] > 0, result
        assert all(isinstance(result[key], str) for key in KEYS - {"value", "ratio"})


@pytest.mark.parametrize("bench", EXPECTED)
def test_every_case_is_there(results: list[dict[str, Any]], bench: str) -> None:
    cases = [result["case"] for result in results if result["bench"] == bench]
    for part in EXPECTED[bench]:
        assert any(part in case for case in cases), (part, cases)


def test_growth_is_measured_by_size_and_by_modes(tmp_path: Path) -> None:
    command = [TREE / "bench/scale", "--quick", "--build", os.environ["BUILD"]]
    command += ["--ranks", "2", "--svg", tmp_path / "scale.svg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(" s" in line and " ns" in line for line in done.stdout.splitlines()) == 4
    assert (tmp_path / "scale.svg").read_text().rstrip().endswith("</svg>")


def test_a_benchmark_that_fails_is_named(tmp_path: Path) -> None:
    command = [TREE / "bench/run", "--no-build", "--build", tmp_path, "--only", "sample"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "bench/run: sample failed"
