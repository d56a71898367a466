"""gradecho.open_log(): finished, growing, killed and damaged logs.

Run by ctest, which sets LOG_WRITER_BIN.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradecho
import test_log_live as live
from gradecho import _file, reader
from gradecho.reader import LogError, NoSuchFieldError
from reader_support import PACKAGE, Writer, plant

NAMES = ["fc1.weight", "fc2.weight", "fc2.bias"]


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "log.h5"
    return path, plant(path, NAMES)


def has(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


needs_xarray = pytest.mark.skipif(not has("xarray"), reason="xarray is not installed")
needs_pandas = pytest.mark.skipif(not has("pandas"), reason="pandas is not installed")


# ---- what is in it ----


def test_the_package_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys, gradecho; "
        "print([m for m in ('torch', 'numpy', 'h5py', 'matplotlib', 'xarray') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_values_dimensions_and_facts(planted: tuple[Path, dict[str, Any]]) -> None:
    path, values = planted
    with gradecho.open_log(path) as log:
        assert [(x.name, x.rows, x.cols) for x in log.layers] == [
            (name, 60, 40) for name in NAMES
        ]
        assert len(log) == 30 and log.complete
        assert log.attributes["session"] == "planted"
        assert log.dims("echo") == ("step", "layer", "mode")
        assert log.dims("step") == ("step",)
        assert log.fields["sigma2"].units == "[g]^2"
        np.testing.assert_array_equal(log.steps, values["step"])
        for name, value in values.items():
            assert name in log
            np.testing.assert_array_equal(log.read(name), value, err_msg=name)
        np.testing.assert_array_equal(log.echo_rows(), np.arange(0, 30, 3))


def test_parts(planted: tuple[Path, dict[str, Any]]) -> None:
    path, values = planted
    with gradecho.open_log(path) as log:
        echo, same = values["echo"], np.testing.assert_array_equal
        same(log.read("echo", -1), echo[-1])
        same(log.read("echo", slice(-5, None), "fc2.weight"), echo[-5:, 1])
        same(log.read("echo", slice(0, 20, 4), 0), echo[0:20:4, 0])
        same(log.read("sigma2", slice(7, 7)), values["sigma2"][7:7])
        same(log.read("rows", layer="fc2.bias"), 60)
        assert log.row(70) == 7


def test_what_is_not_there_is_told(planted: tuple[Path, dict[str, Any]]) -> None:
    path, _ = planted
    log = gradecho.open_log(path)
    with pytest.raises(KeyError) as told:
        log["sigma"]
    assert str(told.value) == f"log {path} has no field 'sigma'; is it 'sigma2'?"
    with pytest.raises(
        NoSuchFieldError, match=r"layer 'fc1.wieght'; is it 'fc1.weight'\?"
    ):
        log.read("echo", layer="fc1.wieght")
    with pytest.raises(NoSuchFieldError, match="has 3 layers, not one 3"):
        log.read("echo", layer=3)
    with pytest.raises(NoSuchFieldError, match="no sample of step 75; there is 70, 80"):
        log.row(75)
    with pytest.raises(gradecho.GradechoError, match="loss is not by layer"):
        log.read("loss", layer=0)
    log.close()
    with pytest.raises(LogError, match="was closed"):
        log.read("loss")


def test_fields_that_nobody_knows_and_fields_that_lack(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    new = np.arange(30.0)
    values = plant(path, NAMES, restarts=np.repeat([0, 1], 15), from_the_future=new)
    with gradecho.open_log(path) as log:
        np.testing.assert_array_equal(log.read("from_the_future"), new)
        np.testing.assert_array_equal(log.read("restarts"), values["restarts"])
        assert "echo_cluster" not in log


@needs_xarray
def test_xarray(planted: tuple[Path, dict[str, Any]]) -> None:
    path, values = planted
    with gradecho.open_log(path) as log:
        echo = log["echo"]
        assert echo.dims == ("step", "layer", "mode") and echo.name == "echo"
        one = echo.sel(layer="fc2.weight", step=90)
        np.testing.assert_array_equal(one, values["echo"][9, 1])
        assert log["sigma2"].attrs["units"] == "[g]^2"


def test_numpy_where_there_is_no_xarray(
    planted: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, values = planted
    monkeypatch.setitem(sys.modules, "xarray", None)  # import fails
    with gradecho.open_log(path) as log:
        echo = log["echo"]
        assert type(echo) is np.ndarray
        np.testing.assert_array_equal(echo, values["echo"])
        assert list(log["layer"]) == NAMES


@needs_pandas
def test_tables(planted: tuple[Path, dict[str, Any]]) -> None:
    path, values = planted
    with gradecho.open_log(path) as log:
        table = log.table()
        assert table.index.name == "step" and "step" not in table
        np.testing.assert_array_equal(table["loss"], values["loss"])
        layers = log.layer_table()  # row 27 is the last with echoes
        assert list(layers.index) == NAMES
        np.testing.assert_array_equal(layers["sigma2"], values["sigma2"][27])
        assert layers["signal_modes"].isna().tolist() == [False, False, True]
        np.testing.assert_array_equal(
            log.layer_table(step=280)["sigma2"], values["sigma2"][28]
        )
        modes = log.mode_table("fc1.weight", step=270)
        np.testing.assert_array_equal(modes["echo"], values["echo"][27, 0])


def test_tables_without_pandas(
    planted: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    log = gradecho.open_log(planted[0])
    with pytest.raises(ImportError, match="tables need pandas"):
        log.table()
    log.close()


# ---- logs that grow ----


def check_fixture(log: reader.Log) -> None:
    """Every row as log_fixture.h has it."""
    same = np.testing.assert_array_equal
    same(log.steps, 100 + 3 * np.arange(len(log)))
    for i, (name, dims, integer) in enumerate(live.FIELDS):
        got = log.read(name)
        assert log.dims(name) == tuple(dims)
        same(got, live.expected(i, 0, (len(log), *got.shape[1:]), integer), name)


def test_a_growing_log(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer, gradecho.open_log(path) as log:
        assert len(log) == 0 and not log.complete
        assert log.dims("echo") == ("step", "layer", "mode")
        assert log.refresh() == 0
        writer.append(5)
        assert len(log) == 0, "nothing changes but by refresh()"
        assert log.refresh() == 5
        writer.append(70)
        assert log.refresh() == 70
        check_fixture(log)
        assert log.read("echo").shape == (75, 3, 4)
        with gradecho.open_log(path) as other:  # HDF5 shares what both saw
            writer.append(3)
            assert log.refresh() == 3 and other.refresh() == 3
            check_fixture(other)
            writer.close()
            assert log.refresh() == 0 and other.refresh() == 0
            assert log.complete and other.complete
            check_fixture(log)


def test_following(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer, gradecho.open_log(path) as log:
        writer.append(3)

        def write() -> None:
            for _ in range(5):
                time.sleep(0.03)
                writer.append(4)
            writer.close()

        thread = threading.Thread(target=write)
        thread.start()
        seen = [
            (sample.step, sample["time"])
            for sample in log.follow(timeout=20, after=-1, interval=0.01)
        ]
        thread.join()
        assert [step for step, _ in seen] == [100 + 3 * i for i in range(23)]
        np.testing.assert_array_equal([when for _, when in seen], log.read("time"))
        assert log.complete
        assert list(log.follow()) == [], "a closed log brings nothing new"
        assert [s.step for s in log.follow(after=162)] == [163, 166]


def test_following_ends_by_its_timeout(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer:
        writer.append(2)
        with gradecho.open_log(path) as log:
            assert list(log.follow(timeout=0.05, interval=0.01)) == []
            assert len(list(log.follow(timeout=0.05, after=-1))) == 2


def test_a_killed_monitor_that_goes_on_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer:
        writer.append(6)
        writer.kill()
    with gradecho.open_log(path) as log:
        samples = log.follow(timeout=20, after=-1, interval=0.01)
        assert [next(samples).step for _ in range(6)][-1] == 115
        with Writer(path, resume=True) as writer:
            writer.append(2)
            assert next(samples).step == 118
            writer.close()
        assert [sample.step for sample in samples] == [121]
        assert log.complete and log.replaced == 0
        check_fixture(log)
        with Writer(path, resume=True) as writer:  # after an end in order
            writer.append(40)
            assert log.refresh() == 40 and not log.complete
            check_fixture(log)


def test_a_killed_monitor_and_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer:
        writer.append(6)
        writer.kill()
    log = gradecho.open_log(path)
    assert len(log) == 6 and not log.complete
    check_fixture(log)
    samples = log.follow(timeout=20, after=-1, interval=0.01)
    old = [next(samples) for _ in range(6)]

    successor = tmp_path / "new.h5"  # as a monitor with --overwrite does it
    with Writer(successor) as writer:
        writer.append(2)
        successor.rename(path)
        assert next(samples).step == 100, "the new log is followed from its start"
        with pytest.raises(LogError, match="was replaced since step 115"):
            old[-1]["loss"]
        assert next(samples).step == 103
        writer.close()
        assert list(samples) == []
    log.close()


# ---- what is no log, or not whole ----


def test_what_is_no_log(tmp_path: Path) -> None:
    missing, text, empty = (tmp_path / name for name in ("no.h5", "text", "empty"))
    text.write_text("step,loss\n" * 20)
    empty.touch()
    other = tmp_path / "other.h5"
    with reader_file(other) as file:
        file["x"] = [1, 2]
    for path, words in (
        (missing, "No such file or directory"),
        (tmp_path, "Is a directory"),
        (text, "is not an HDF5 file"),
        (empty, "is not an HDF5 file"),
        (other, "is HDF5, but not a log of gradecho"),
    ):
        with pytest.raises(LogError) as told:
            gradecho.open_log(path)
        assert str(told.value).startswith(f"log {path}") and words in str(told.value)
        assert "\n" not in str(told.value)


def reader_file(path: Path) -> Any:
    import h5py

    return h5py.File(path, "w")


def test_another_schema(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "log.h5"
    plant(path, NAMES)
    with h5py.File(path, "r+") as file:
        file.attrs["gradecho_schema"] = 7
    with pytest.raises(LogError, match="has schema 7, this package reads 1"):
        gradecho.open_log(path)


@pytest.mark.parametrize("kept", [40, 1000, 20_000, -1])
def test_a_copy_that_was_cut_off(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "GROWING", 0.1)
    path, copy = tmp_path / "log.h5", tmp_path / "copy.h5"
    with Writer(path) as writer:
        writer.append(20)
        copy.write_bytes(path.read_bytes()[:kept])  # while it is marked as growing
    with pytest.raises(LogError, match=r"cut off|not a log"):
        gradecho.open_log(copy, deadline=5)


def test_damage_in_a_log_that_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer:
        writer.append(20)
        writer.close()
    data = bytearray(path.read_bytes())
    at = data.index(b"OHDR", 2000)
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(LogError, match="is damaged"):
        gradecho.open_log(path)


def test_damage_that_hdf5_waits_for_in_vain(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    with Writer(path) as writer:
        writer.append(20)
        writer.kill()
    data = bytearray(path.read_bytes())
    at = data.index(b"OHDR", 2000)
    data[at + 20 : at + 60] = bytes(40)
    path.write_bytes(data)
    began = time.monotonic()
    with pytest.raises(LogError, match=r"could not be read within 3 s|is damaged"):
        gradecho.open_log(path, deadline=3)
    assert time.monotonic() - began < 60


def test_a_reader_does_not_lock_the_log(tmp_path: Path) -> None:
    """A monitor must be able to continue a log that somebody looks at."""
    import fcntl

    path = tmp_path / "log.h5"
    plant(path, NAMES)
    with gradecho.open_log(path) as log, path.open("r+b") as file:
        log.read("echo")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
