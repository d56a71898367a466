"""What gradecho refuses, and how: exit code 2 (1 if the system fails), and one
line on standard error that starts with "gradecho" and names the culprit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import gradecho, replay, run, told, write_gradients

Maker = Callable[[Path], Path]
GOOD = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def one_line(done: Any, code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("gradecho")
    for part in parts:
        assert part in lines[0]


def good(folder: Path) -> Path:
    return write_gradients(folder / "good.h5", {"w": GOOD})


def text(folder: Path, content: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(content)
    return path


# ---- the command line ----


def test_no_command_gets_the_help() -> None:
    done = run(gradecho())
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: gradecho COMMAND")
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--help", "--version", "-h", "-V"])
def test_help_and_version_are_no_errors(option: str) -> None:
    done = run(gradecho(option))
    assert (done.returncode, done.stderr) == (0, "")
    assert "gradecho" in done.stdout


ARGUMENTS = {
    "an unknown command": (["nonsense"], ["nonsense"]),
    "replay of nothing": (["replay", "--log", "x.h5"], ["file of gradients"]),
    "replay of two files": (["replay", "a.h5", "b.h5"], ["b.h5"]),
    "monitor with a file": (["monitor", "a.h5"], ["a.h5"]),
    "an unknown option": (["monitor", "--frobnicate"], ["--frobnicate"]),
    "an option without value": (["replay", "a.h5", "--log"], ["--log"]),
    "resume and overwrite": (
        ["monitor", "--resume", "--overwrite"], ["--resume", "--overwrite"]
    ),
    "recover of nothing": (["recover"], ["log"]),
    "recover of two logs": (["recover", "a.h5", "b.h5"], ["b.h5"]),
    "inspect of nothing": (["inspect"], ["log"]),
    "inspect of two logs": (["inspect", "a.h5", "b.h5"], ["b.h5"]),
    "a step in words": (["inspect", "a.h5", "--step", "two"], ["--step", "two"]),
    "a negative step": (["inspect", "a.h5", "--step=-1"], ["--step", "-1"]),
    "config with an argument": (["config", "x"], ["x"]),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments(what: str) -> None:
    arguments, parts = ARGUMENTS[what]
    one_line(run(gradecho(*arguments)), 2, *parts)


SETTINGS = {
    "an unknown key": ("sample.evry=3", ["sample.evry", "sample.every"]),
    "an unknown group": ("layer.max_modes=3", ["layer.max_modes", "layers.max_modes"]),
    "too small": ("sample.every=0", ["sample.every", "from 1", "not 0"]),
    "too large": ("layers.max_modes=513", ["layers.max_modes", "512", "513"]),
    "not whole": ("sample.every=1.5", ["sample.every", "1.5"]),
    "not a number": ("svd.tolerance=small", ["svd.tolerance", "small"]),
    "nan": ("svd.tolerance=nan", ["svd.tolerance", "nan"]),
    "a number with a tail": ("sample.every=3x", ["sample.every", "3x"]),
    "an unknown word": ("fit.weights=none", ["fit.weights", "delta, ols", "none"]),
    "not a list": ("layers.exclude=a", ["layers.exclude", "list"]),
    "no value": ("sample.every=", ["sample.every", "no value"]),
    "no equals sign": ("sample.every", ["sample.every", "key=value"]),
    "no key": ("=3", ["key=value"]),
    "not YAML": ("layers.exclude=[a", ["--set"]),
    "a session that is no name": ("session=a/b", ["session", "a/b"]),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings(tmp_path: Path, what: str) -> None:
    setting, parts = SETTINGS[what]
    log = tmp_path / "log.h5"
    done = run(gradecho("replay", good(tmp_path), "--log", log, "--set", setting))
    one_line(done, 2, *parts)
    assert not log.exists()


FILES = {
    "an unknown key": (
        "sample:\n  evry: 3\n", ["run.yaml:2", "sample.evry", "sample.every"]
    ),
    "out of range": ("log: {flush_every: 0}\n", ["run.yaml:1", "log.flush_every"]),
    "a repeated key": ("session: a\nsession: b\n", ["run.yaml:2", "session"]),
    "a group without keys": ("sample: 3\n", ["run.yaml:1", "sample"]),
    "a list": ("- a\n- b\n", ["run.yaml:1"]),
    "not YAML": ("a: 1\nb: [1\nc: 2\n", ["run.yaml:", "not YAML"]),
    "a tab": ("sample:\n\tevery: 3\n", ["run.yaml:2", "not YAML"]),
    "binary": ("\x00\x01\x02", ["run.yaml:1"]),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("command", ["replay", "config"])
def test_configuration_files(tmp_path: Path, command: str, what: str) -> None:
    content, parts = FILES[what]
    path = text(tmp_path, content)
    log = tmp_path / "log.h5"
    arguments: list[str | Path] = (
        ["config", "--check", path]
        if command == "config"
        else ["replay", good(tmp_path), "-c", path, "--log", log]
    )
    done = run(gradecho(*arguments))
    one_line(done, 2, *parts)
    assert done.stdout == ""
    assert not log.exists()


@pytest.mark.parametrize("command", [["replay", "g.h5", "-c"], ["config", "--check"]])
@pytest.mark.parametrize(
    ("name", "why"), [("none.yaml", "No such file"), (".", "directory")]
)
def test_configuration_that_cannot_be_read(
    tmp_path: Path, command: list[str], name: str, why: str
) -> None:
    done = run(gradecho(*command, tmp_path / name))
    one_line(done, 2, str(tmp_path / name), why)


# ---- files of gradients ----


def raw(build: Callable[[h5py.File], Any]) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "grads.h5"
        with h5py.File(path, "w") as file:
            build(file)
        return path

    return make


def layers(**data: Any) -> Maker:
    return lambda folder: write_gradients(folder / "grads.h5", data)


def with_soft_link(file: h5py.File) -> None:
    file["elsewhere"] = GOOD
    file["gradients/link"] = h5py.SoftLink("/elsewhere")


def with_steps(steps: Any) -> Maker:
    def build(file: h5py.File) -> None:
        file["gradients/w"] = GOOD
        file["step"] = steps

    return raw(build)


def with_batch(size: float) -> Maker:
    def build(file: h5py.File) -> None:
        file["gradients/w"] = GOOD
        file.attrs["batch_size"] = size

    return raw(build)


def truncated(folder: Path) -> Path:
    data = np.zeros((4, 4, 64, 64), dtype=np.float32)
    path = write_gradients(folder / "grads.h5", {"w": data})
    path.write_bytes(path.read_bytes()[:-60000])
    return path


GRADIENTS: dict[str, tuple[Maker, list[str]]] = {
    "missing": (lambda folder: folder / "grads.h5", ["No such file"]),
    "a folder": (lambda folder: folder, []),
    "not HDF5": (lambda folder: text(folder, "hello\n", "grads.h5"), []),
    "empty": (lambda folder: text(folder, "", "grads.h5"), []),
    "truncated": (truncated, []),
    "no group": (raw(lambda file: None), ["/gradients"]),
    "no layers": (raw(lambda file: file.create_group("gradients")), ["/gradients"]),
    "gradients that are no group": (
        raw(lambda file: file.create_dataset("gradients", data=GOOD)), ["/gradients"]
    ),
    "two dimensions": (layers(w=GOOD, x=GOOD[0, 0]), ["layer x", "[3, 4]"]),
    "five dimensions": (layers(w=GOOD[None]), ["layer w", "[1, 1, 2, 3, 4]"]),
    "no samples": (layers(w=GOOD[:0]), ["layer w", "empty"]),
    "integers": (layers(w=GOOD.astype(np.int32)), ["layer w", "float32 or float64"]),
    "half precision": (layers(w=GOOD.astype(np.float16)), ["layer w", "float32"]),
    "numbers of samples": (
        layers(v=GOOD, w=np.repeat(GOOD, 2, axis=0)),
        ["layer w", "2 samples", "layer v"],
    ),
    "numbers of replicas": (
        layers(v=GOOD, w=GOOD[:, :1]), ["layer w", "of 1 replicas", "layer v"]
    ),
    "a soft link": (raw(with_soft_link), ["layer link", "link"]),
    "too few steps": (with_steps(np.arange(0)), ["/step", "1 integers"]),
    "steps that are no integers": (with_steps(np.array([1.5])), ["/step"]),
    "a batch size of 0": (with_batch(0.0), ["batch_size", "not 0"]),
    "a batch size of nan": (with_batch(np.nan), ["batch_size", "nan"]),
}


@pytest.mark.parametrize("what", GRADIENTS)
def test_files_of_gradients(tmp_path: Path, what: str) -> None:
    make, parts = GRADIENTS[what]
    path = make(tmp_path)
    log = tmp_path / "log.h5"
    done = run(gradecho("replay", path, "--log", log))
    one_line(done, 2, str(path), *parts)
    assert not log.exists()


# ---- logs ----


def test_a_log_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path, log = good(tmp_path), text(tmp_path, "precious", "log.h5")
    done = run(gradecho("replay", path, "--log", log))
    one_line(done, 2, str(log), "exists", "--overwrite")
    assert log.read_text() == "precious"
    replay(path, log, "--overwrite")  # reads it back


def test_a_log_that_is_asked_to_replace_a_folder(tmp_path: Path) -> None:
    done = run(gradecho("replay", good(tmp_path), "--log", tmp_path, "--overwrite"))
    one_line(done, 2, str(tmp_path), "not a file")


def test_a_failed_replay_leaves_the_old_log(tmp_path: Path) -> None:
    log = text(tmp_path, "precious", "log.h5")
    path = layers(w=GOOD.astype(np.int32))(tmp_path)
    done = run(gradecho("replay", path, "--log", log, "--overwrite"))
    one_line(done, 2, str(path))
    assert log.read_text() == "precious"


def test_a_log_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    log = tmp_path / "none" / "log.h5"
    done = run(gradecho("replay", good(tmp_path), "--log", log))
    one_line(done, 1, str(log), "No such file")


def test_a_monitor_says_so_before_it_waits(tmp_path: Path) -> None:
    """A log that cannot be is an error now, not when the trainers have come."""
    log = text(tmp_path, "precious", "log.h5")
    done = run(gradecho("monitor", "--session", "none", "--log", log))
    one_line(done, 2, str(log), "exists")


@pytest.mark.parametrize("name", ["a/b", "", "x" * 64, "é"])
def test_names_of_sessions(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log.h5"
    done = run(gradecho("monitor", "--session", name, "--log", log))
    one_line(done, 2, "session")


LOGS: dict[str, Maker] = {
    "missing": lambda folder: folder / "log.h5",
    "a folder": lambda folder: folder,
    "text": lambda folder: text(folder, "hello\n", "log.h5"),
    "empty": lambda folder: text(folder, "", "log.h5"),
    "another HDF5 file": good,
}


@pytest.mark.parametrize("what", LOGS)
@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--json"], ["recover"]])
def test_logs_that_are_none(tmp_path: Path, what: str, command: list[str]) -> None:
    path = LOGS[what](tmp_path)
    before = path.read_bytes() if path.is_file() else None
    done = run(gradecho(*command, path))
    one_line(done, 2, str(path))
    assert done.stdout == ""
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("what", [x for x in LOGS if x != "missing"])
def test_a_file_that_is_no_log_is_not_resumed(tmp_path: Path, what: str) -> None:
    path = LOGS[what](tmp_path)
    before = path.read_bytes() if path.is_file() else None
    grads = layers(w=GOOD)(tmp_path) if what != "another HDF5 file" else path
    done = run(gradecho("replay", grads, "--log", path, "--resume"))
    one_line(done, 2, str(path))
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_log_that_does_not_fit_is_not_resumed(tmp_path: Path) -> None:
    log = tmp_path / "log.h5"
    replay(good(tmp_path), log)
    before = log.read_bytes()
    (tmp_path / "other").mkdir()
    other = layers(other=GOOD)(tmp_path / "other")
    done = run(gradecho("replay", other, "--log", log, "--resume"))
    one_line(done, 2, str(log), "does not fit", "other")
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--layer", "none*"], ["layer", "none*"]),
        (["--step", "5"], ["step 5", "0 to 0"]),
        (["--step", "5", "--json"], ["step 5"]),
    ],
)
def test_what_a_log_does_not_have(
    tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    log = tmp_path / "log.h5"
    replay(good(tmp_path), log)
    done = run(gradecho("inspect", log, *options))
    one_line(done, 2, str(log), *parts)
    assert done.stdout == ""


# ---- the same under mpirun: one line for all ranks ----


def under_mpirun(tmp_path: Path, code: int, parts: list[str], *arguments: Any) -> None:
    done = run(gradecho(*arguments, ranks=4))
    assert done.returncode == code, done.stderr
    lines = told(done.stderr)
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("what", ["missing", "integers", "numbers of samples"])
def test_files_of_gradients_under_mpirun(tmp_path: Path, what: str) -> None:
    make, parts = GRADIENTS[what]
    path = make(tmp_path)
    log = tmp_path / "log.h5"
    under_mpirun(tmp_path, 2, [str(path), *parts], "replay", path, "--log", log)


@pytest.mark.parametrize("what", ["an unknown key", "not YAML"])
def test_configuration_files_under_mpirun(tmp_path: Path, what: str) -> None:
    content, parts = FILES[what]
    path = text(tmp_path, content)
    under_mpirun(tmp_path, 2, parts, "replay", good(tmp_path), "-c", path)


def test_a_missing_configuration_under_mpirun(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    under_mpirun(tmp_path, 2, [str(path)], "monitor", "-c", path)


def test_settings_under_mpirun(tmp_path: Path) -> None:
    setting, parts = SETTINGS["an unknown key"]
    under_mpirun(tmp_path, 2, parts, "monitor", "--set", setting)


def test_arguments_under_mpirun(tmp_path: Path) -> None:
    arguments, parts = ARGUMENTS["replay of two files"]
    under_mpirun(tmp_path, 2, parts, *arguments)


@pytest.mark.parametrize(("where", "code"), [("log.h5", 2), ("none/log.h5", 1)])
def test_logs_under_mpirun(tmp_path: Path, where: str, code: int) -> None:
    text(tmp_path, "precious", "log.h5")
    log = tmp_path / where
    under_mpirun(
        tmp_path, code, [str(log)], "replay", good(tmp_path), "--log", log
    )
    assert (tmp_path / "log.h5").read_text() == "precious"
