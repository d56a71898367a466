"""`gradecho export`: every number of a log, as text, under its own name."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Log, gradecho, read_log, replay, run, write_gradients

STEPS = [4, 8, 15]
QUOTED = 'a "b", c\n# d/é'
SHAPES = {"bias": (30,), QUOTED: (8, 9), "block.0": (24, 40)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(7)
    layers = {
        name: 0.1 * np.ones(shape) + rng.standard_normal((len(STEPS), 4, *shape))
        for name, shape in SHAPES.items()
    }
    path = write_gradients(folder / "grads.h5", layers, 16, STEPS)
    replay(path, folder / "log.h5", "--set", "sample.echo_every=2")
    return folder / "log.h5"


def export(log: Path, form: str, *options: str | Path) -> str:
    done = run(gradecho("export", log, "--format", form, *options))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


Record = dict[str, Any]


def from_csv(text: str) -> list[Record]:
    """Records with their fields; what is empty is not there."""
    units, names, *rows = csv.reader(text.splitlines(keepends=True))
    assert units[0] == "# units"
    assert len(units) == len(names) == len(set(names))
    assert all(len(row) == len(names) for row in rows)
    return [
        {name: cell for name, cell in zip(names, row, strict=True) if cell != ""}
        for row in rows
    ]


def forbid(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def from_jsonl(text: str) -> tuple[Record, list[Record]]:
    head, *records = (
        json.loads(line, parse_constant=forbid) for line in text.splitlines()
    )
    assert head["record"] == "head"
    return head, [
        {name: value for name, value in record.items() if value is not None}
        for record in records
    ]


def kind(log: Log, name: str) -> str:
    if name in ("rows", "cols"):
        return "layer"
    shape = log[name].shape[1:]
    if shape in ((), (2,)) and name != "layer_replicas":
        return "step"
    if len(shape) == 1:
        return "layer"
    return "replica" if name == "replica_noise" else "mode"


def fields_of(log: Log) -> list[str]:
    """Without what the place of a record tells."""
    static = {"layer", "mode", "replica", "pair", "step"}
    return [name for name in log.fields if name not in static]


def place(log: Log, record: Record) -> tuple[int, ...]:
    """Where the record's numbers lie in the log's datasets."""
    at = [list(log["step"]).index(int(record["step"]))]
    if record["record"] != "step":
        at.append(log.layers.index(record["layer"]))
    if record["record"] == "mode":
        at.append(int(record["mode"]) - 1)
    if record["record"] == "replica":
        at.append(int(record["replica"]))
    return tuple(at)


def assert_is_the_log(records: list[Record], log: Log) -> None:
    """Every number of the log is there, to the last bit, and nothing else."""
    found: dict[tuple[str, tuple[int, ...]], float] = {}
    for record in records:
        at = place(log, record)
        for name, value in record.items():
            base, part = name[:-2], name[-2:]
            if part in ("_a", "_b") and base == "residual_correlation_pair":
                found[base, (*at, "_a _b".split().index(part))] = float(value)
            elif name in log.fields and name not in ("step", "layer", "mode", "replica"):
                assert record["record"] == kind(log, name), name
                found[name, at] = float(value)
    expected = 0
    for name in fields_of(log):
        data = log[name]
        if name in ("rows", "cols"):  # once in the log, in each layer's record
            data = np.broadcast_to(data, (len(log["step"]), len(data)))
        for at, value in np.ndenumerate(data):
            if value < 0 if data.dtype.kind == "i" else math.isnan(value):
                assert (name, at) not in found
                continue
            expected += 1
            assert data.dtype.type(found[name, at]) == value, (name, at)
    assert expected > 500
    assert len(found) == expected


def test_csv_is_the_log(log: Path) -> None:
    assert_is_the_log(from_csv(export(log, "csv")), read_log(log))


def test_jsonl_is_the_log(log: Path) -> None:
    values = read_log(log)
    head, records = from_jsonl(export(log, "jsonl"))
    assert_is_the_log(records, values)
    assert (head["schema"], head["session"]) == (1, "replay")
    named = {name.removesuffix("_a").removesuffix("_b") for name in head["columns"]}
    assert named == set(fields_of(values))
    assert head["config"] == values.attributes["config"].decode()
    assert head["version"] == values.attributes["gradecho_version"].decode()


def test_units_stand_over_their_columns(log: Path) -> None:
    units, names = list(csv.reader(export(log, "csv").splitlines()))[:2]
    head, _ = from_jsonl(export(log, "jsonl"))
    of = dict(zip(names, units, strict=True))
    assert of["sigma2"] == "[g]^2"
    assert of["noise_scale"] == "examples"
    for name, column in head["columns"].items():
        assert of[name] == column["units"]


def test_columns_do_not_depend_on_the_log(log: Path, tmp_path: Path) -> None:
    data = np.random.default_rng(0).standard_normal((1, 2, 5))
    grads = write_gradients(tmp_path / "grads.h5", {"w": data})
    replay(grads, tmp_path / "small.h5")
    small, large = (
        export(path, "csv").splitlines()[:2] for path in (tmp_path / "small.h5", log)
    )
    assert small == large


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_part_of_it(log: Path, form: str) -> None:
    text = export(log, form, "--layer", "b*", "--since", "8")
    records = from_csv(text) if form == "csv" else from_jsonl(text)[1]
    assert {int(record["step"]) for record in records} == {8, 15}
    layers = {record["layer"] for record in records if record["record"] != "step"}
    assert layers == {"bias", "block.0"}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_file_is_what_the_stream_is(log: Path, form: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("of before")
    assert export(log, form, "-o", target) == ""
    assert target.read_text() == export(log, form) == export(log, form, "-o", "-")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("how", ["folder", "device", "stream", "limit"])
def test_no_room_is_one_line(log: Path, how: str, tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_text("of before")
    targets = {"folder": tmp_path / "no" / "x.csv", "device": Path("/dev/full"),
               "stream": Path("-"), "limit": old}
    command = gradecho("export", log, "--format", "csv", "-o", targets[how])
    if how == "stream":
        command = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command]
    if how == "limit":  # as a full disk: the file cannot grow
        command = ["sh", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "sh", *command]
    done = run(command)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write" in done.stderr
    assert old.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--format", "xml"], "csv or jsonl, not xml"),
        ([], "--format csv or --format jsonl"),
        (["--format", "csv", "--layer", "z*"], "no layer matches z*"),
        (["--format", "csv", "--since", "x"], "--since must be a whole number"),
    ],
)
def test_refusals(log: Path, options: list[str], part: str) -> None:
    done = run(gradecho("export", log, *options))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert part in done.stderr
