"""Read a log: open_log(path) gives arrays by name, also while it grows.

Everything that is read belongs to one moment, that of open_log() or of the
last refresh(): a sample is there in all fields or in none.
"""

from __future__ import annotations

import difflib
import importlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from gradecho._closing import Closing
from gradecho._errors import GradechoError
from gradecho._file import (
    HDF5_ERRORS,
    LogError,
    dataset_type,
    is_marked,
    open_log_file,
    reopen,
)

import numpy as np  # isort: skip  (comes with h5py, whose absence is told above)

if TYPE_CHECKING:
    import h5py
    import pandas
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "Alarm",
    "Field",
    "Layer",
    "Log",
    "LogError",
    "NoSuchFieldError",
    "Sample",
    "open_log",
]

Rows = Union[int, slice]
LayerKey = Optional[Union[str, int]]

DEADLINE = 30.0  # seconds to try out a log of which it is unsure that it is whole
LOST = 60.0  # seconds that follow() bears with a log that cannot be read
SETTLED = 2.0  # a file that did not change for so long is not looked into again


class NoSuchFieldError(GradechoError, KeyError):
    """The log has no field, layer or sample of this name."""

    def __str__(self) -> str:  # KeyError would show it in quotes
        return str(self.args[0])


@dataclass(frozen=True)
class Layer:
    name: str
    rows: int
    cols: int


@dataclass(frozen=True)
class Field:
    """A dataset of the log. Missing values are NaN, in integer fields -1."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str


@dataclass(frozen=True)
class Alarm:
    """An alarm, from the sample that raised it to the last before it was over."""

    rule: str
    first_step: int
    last_step: int
    raised: bool  # still, at the last sample
    layers: tuple[str, ...]  # for which it was raised at any time


def open_log(path: str | os.PathLike[str], *, deadline: float = DEADLINE) -> Log:
    """Open a log: finished, growing, or left by a killed monitor.

    A log that is marked as being written is tried out in a process of its own,
    which takes a fraction of a second: HDF5 waits for ever in a damaged one.
    LogError if that takes longer than `deadline` seconds, or if `path` is no
    log.
    """
    return Log(path, deadline=deadline)


class Log(Closing):
    """A log, as of one moment; see open_log(). Used by one thread."""

    def __init__(
        self, path: str | os.PathLike[str], *, deadline: float = DEADLINE
    ) -> None:
        self.path = Path(path)
        self._signature = _signature(self.path)
        self._marked = is_marked(self.path)
        self._file: h5py.File | None = open_log_file(self.path, deadline)
        self.replaced = 0  # times that another log took its place
        self._take_stock()
        self._take_look()

    def _take_look(self) -> None:
        """What changes while the log grows."""
        file = self._open_file
        file["step"].refresh()
        self._count = len(file["step"])

    def _take_stock(self) -> None:
        """What does not."""
        file = self._open_file
        try:
            self.attributes: dict[str, Any] = {
                name: _text(value) for name, value in file.attrs.items()
            }
            self.fields: dict[str, Field] = {
                name: _field(dataset)
                for name, dataset in file.items()
                if isinstance(dataset, dataset_type)
            }
            names = [_text(name) for name in file["layer"][:]]
            shapes = zip(file["rows"][:], file["cols"][:])
            self.layers = [
                Layer(name, int(rows), int(cols))
                for name, (rows, cols) in zip(names, shapes)
            ]
        except HDF5_ERRORS as error:
            raise LogError(f"log {self.path} is damaged: {error}") from error

    # ---- what there is ----

    @property
    def names(self) -> list[str]:
        """All fields, coordinates included."""
        return list(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __len__(self) -> int:
        """Samples."""
        return self._count

    def __repr__(self) -> str:
        state = "closed in order" if self.complete else "growing, or cut off"
        return (
            f"<gradecho log {self.path}: {len(self)} samples, "
            f"{len(self.layers)} layers, {state}>"
        )

    @property
    def complete(self) -> bool:
        """Was it closed in order, by its monitor or by `gradecho recover`?"""
        return not self._marked

    @property
    def steps(self) -> Array:
        return self.read("step")

    def dims(self, name: str) -> tuple[str, ...]:
        return self._field(name).dims

    def layer_index(self, layer: str | int) -> int:
        if isinstance(layer, str):
            names = [each.name for each in self.layers]
            if layer in names:
                return names.index(layer)
            raise NoSuchFieldError(
                f"log {self.path} has no layer {_like(layer, names)}"
            )
        if not -len(self.layers) <= layer < len(self.layers):
            raise NoSuchFieldError(
                f"log {self.path} has {len(self.layers)} layers, not one {layer}"
            )
        return layer % len(self.layers)

    def row(self, step: int) -> int:
        """Where the sample of this training step stands."""
        steps = self.steps
        place = int(np.searchsorted(steps, step))
        if place < len(steps) and steps[place] == step:
            return place
        near = ", ".join(str(s) for s in steps[max(place - 1, 0) : place + 1])
        raise NoSuchFieldError(
            f"log {self.path} has no sample of step {step}; "
            + (f"there is {near}" if near else "it is empty")
        )

    def echo_rows(self) -> Array:
        """Where the samples with echoes stand."""
        found: Array = np.flatnonzero(self._has_echo().any(axis=1))
        return found

    def last_echo_rows(self) -> Array:
        """For each layer, where its last sample with echoes stands, -1: none.
        With layers.per_sample, layers take turns."""
        known = self._has_echo()
        last = len(known) - 1 - np.argmax(known[::-1], axis=0) if len(known) else -1
        found: Array = np.where(known.any(axis=0), last, -1)
        return found

    def last_echoes(self, name: str) -> Array:
        """A field [step, layer, ...] as it was when each layer last had echoes;
        NaN (in whole numbers -1) for a layer that never had."""
        rows = self.last_echo_rows()
        values = self.read(name, 0) if len(self) else self.read(name).sum(axis=0)
        missing = -1 if values.dtype.kind == "i" else np.nan
        out: Array = np.full_like(values, missing)
        for row in np.unique(rows[rows >= 0]):
            there = rows == row
            out[there] = self.read(name, int(row))[there]
        return out

    def _has_echo(self) -> Array:
        """[step, layer]"""
        known: Array
        if "signal_modes" in self:
            known = self.read("signal_modes") >= 0
        else:
            known = np.isfinite(self.read("echo")).any(axis=2)
        return known

    @property
    def alarms(self) -> list[Alarm]:
        """All alarms so far, in the order of their beginning."""
        if "alarms" not in self or not len(self):
            return []
        names = str(_text(self._open_file["alarms"].attrs["flag_meanings"])).split()
        steps, bits = self.steps, np.maximum(self.read("alarms"), 0)
        by_layer = np.maximum(self.read("layer_alarms"), 0)
        found: list[Alarm] = []
        for bit, rule in enumerate(names):
            raised = np.r_[False, bits >> bit & 1 != 0, False]
            edges = np.flatnonzero(raised[1:] != raised[:-1])
            for first, end in zip(edges[::2], edges[1::2]):
                there = (by_layer[first:end] >> bit & 1).any(axis=0)
                layers = tuple(self.layers[i].name for i in np.flatnonzero(there))
                found.append(
                    Alarm(
                        rule,
                        int(steps[first]),
                        int(steps[end - 1]),
                        bool(end == len(self)),
                        layers,
                    )
                )
        return sorted(found, key=lambda alarm: alarm.first_step)

    # ---- values ----

    def __getitem__(self, name: str) -> Any:
        """A whole field: an xarray.DataArray with its coordinates where xarray
        is installed, else a NumPy array. read() takes less memory."""
        values = self.read(name)
        try:
            xarray = importlib.import_module("xarray")
        except ImportError:
            return values
        field = self._field(name)
        return xarray.DataArray(
            values,
            dims=field.dims,
            coords={d: self.read(d) for d in field.dims if d in self.fields},
            name=name,
            attrs={"units": field.units, "long_name": field.long_name},
        )

    def read(
        self, name: str, rows: Rows = slice(None), layer: LayerKey = None
    ) -> Array:
        """A field or a part of it, as a NumPy array: some rows (samples), one
        layer. Only that part is read from the file."""
        dims = self._field(name).dims
        key: list[Any] = [slice(None)] * len(dims)
        if dims[:1] == ("step",):
            key[0] = self._rows(rows)
        if layer is not None:
            if "layer" not in dims:
                raise GradechoError(
                    f"field {name} is not by layer: [{', '.join(dims)}]"
                )
            key[dims.index("layer")] = self.layer_index(layer)
        try:
            dataset = self._open_file[name]
            if dims[:1] == ("step",):
                dataset.refresh()
            values: Array = dataset[tuple(key)]
        except HDF5_ERRORS as error:
            raise LogError(f"log {self.path}: {name} is damaged: {error}") from error
        if values.dtype.kind in "SO":
            values = np.array([_text(value) for value in values])
        return values

    def _rows(self, rows: Rows) -> Rows:
        chosen = range(len(self))[rows] if len(self) or rows == slice(None) else None
        if isinstance(chosen, int):
            return chosen
        if chosen is None or chosen.step < 0:
            raise GradechoError(f"rows {rows} cannot be read in this order")
        return slice(chosen.start, chosen.stop, chosen.step)

    def _field(self, name: str) -> Field:
        if name not in self.fields:
            raise NoSuchFieldError(
                f"log {self.path} has no field {_like(name, self.names)}"
            )
        return self.fields[name]

    # ---- tables ----

    def table(self) -> pandas.DataFrame:
        """What there is once per sample, by training step."""
        names = [name for name in self.names if self.dims(name) == ("step",)]
        return self._frame(
            {name: self.read(name) for name in names if name != "step"},
            self._index("step", self.steps),
        )

    def layer_table(self, step: int | None = None) -> pandas.DataFrame:
        """What there is once per layer, in the sample of this step; None: the
        layer's last with echoes; for a layer without, the last that has any, or
        the last of all."""
        row = self._shown(step)
        last = self.last_echo_rows()
        rows = np.where((last >= 0) & (step is None), last, row)
        columns = {name: self.read(name) for name in ("rows", "cols")}
        for name in self.names:
            if self.dims(name) == ("step", "layer"):
                parts = {int(r): self.read(name, int(r)) for r in np.unique(rows)}
                values = [parts[int(r)][i] for i, r in enumerate(rows)]
                columns[name] = np.array(values, dtype=parts[int(rows[0])].dtype)
        return self._frame(columns, self._index("layer", self.read("layer")))

    def mode_table(self, layer: str | int, step: int | None = None) -> pandas.DataFrame:
        """What there is once per singular mode of a layer; `step` as in
        layer_table()."""
        row = self._shown(step)
        last = int(self.last_echo_rows()[self.layer_index(layer)])
        if step is None and last >= 0:
            row = last
        columns = {
            name: self.read(name, row, layer)
            for name in self.names
            if self.dims(name) == ("step", "layer", "mode")
        }
        return self._frame(columns, self._index("mode", self.read("mode")))

    def _shown(self, step: int | None) -> int:
        if step is not None:
            return self.row(step)
        rows = self.echo_rows()
        if not len(self):
            raise NoSuchFieldError(f"log {self.path} has no samples yet")
        return int(rows[-1]) if len(rows) else len(self) - 1

    def _index(self, name: str, values: Array) -> Any:
        return _pandas().Index(values, name=name)

    def _frame(self, columns: dict[str, Array], index: Any) -> pandas.DataFrame:
        pandas = _pandas()
        frame = pandas.DataFrame(columns, index=index)
        for name in frame.columns[[d.kind == "i" for d in frame.dtypes]]:
            known = frame[name] >= 0
            if not known.all():
                frame[name] = frame[name].astype("Int64").where(known)
        return frame

    # ---- growing ----

    def refresh(self) -> int:
        """Look again; the number of samples that are new. All of them if the
        log was replaced by another of the same name."""
        old, before = self._open_file, len(self)
        signature = _signature(self.path)
        if signature == self._signature and time.time() - signature[3] > SETTLED:
            return 0
        # In this order: what is closed in order has all its rows.
        marked = is_marked(self.path)
        replaced = signature[:2] != self._signature[:2]
        if replaced:
            self._file = reopen(self.path)
            old.close()
        self._signature, self._marked = signature, marked
        self._take_look()
        if replaced or len(self) < before:
            self._take_stock()
            self.replaced += 1
            return len(self)
        return len(self) - before

    def follow(
        self,
        timeout: float | None = None,
        *,
        after: int | None = None,
        interval: float = 1.0,
        until_closed: bool = True,
    ) -> Iterator[Sample]:
        """Samples as they come, sleeping between looks.

        timeout       end when no sample came for so many seconds; None: never
        after         begin with the samples of later steps than this one (-1:
                      all); None: with those that come from now on
        interval      seconds between looks
        until_closed  end when the log is closed in order; False: go on, for a
                      monitor that will be started again on the same log

        A monitor that is killed and started again is waited for, whether it
        goes on in the same log or replaces it.
        """
        place = (
            len(self)
            if after is None
            else int(np.searchsorted(self.steps, after, side="right"))
        )
        replaced, came = self.replaced, time.monotonic()
        while True:
            if replaced != self.replaced:
                place, replaced = 0, self.replaced
            if place < len(self):
                yield Sample(self, place)
                place, came = place + 1, time.monotonic()
                continue
            if until_closed and self.complete:
                return
            waited = time.monotonic() - came
            if timeout is not None and waited >= timeout:
                return
            rest = interval if timeout is None else min(interval, timeout - waited)
            time.sleep(max(rest, 0.001))
            self._look_patiently(came)

    def _look_patiently(self, came: float) -> None:
        """refresh(), but a log that is just being replaced may be missing."""
        try:
            self.refresh()
        except LogError:
            if time.monotonic() - came > LOST:
                raise

    # ---- closing ----

    @property
    def _open_file(self) -> h5py.File:
        if self._file is None:
            raise LogError(f"log {self.path} was closed")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Sample:
    """One sample of a log: sample["noise_scale"] is that field's row."""

    def __init__(self, log: Log, row: int) -> None:
        self.log, self.row = log, row
        self.step = int(log.read("step", row))
        self._replaced = log.replaced

    def __getitem__(self, name: str) -> Array:
        if self._replaced != self.log.replaced:
            raise LogError(f"log {self.log.path} was replaced since step {self.step}")
        return self.log.read(name, self.row)

    def __repr__(self) -> str:
        return f"<sample of step {self.step}>"


def _signature(path: Path) -> tuple[int, int, int, float]:
    """Which file this is, and whether it was written to."""
    try:
        about = path.stat()
    except OSError as error:
        raise LogError(f"log {path}: {error.strerror}") from error
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime


def _field(dataset: h5py.Dataset) -> Field:
    name = dataset.name.lstrip("/")
    scales = [
        _name(axis[0]) if len(axis) else f"{name}_{i}"
        for i, axis in enumerate(dataset.dims)
    ]
    if _text(dataset.attrs.get("CLASS")) == "DIMENSION_SCALE":
        scales = [name]
    attributes = (dataset.attrs.get(a, "") for a in ("units", "long_name"))
    return Field(name, tuple(scales), *(str(_text(value)) for value in attributes))


def _name(scale: h5py.Dataset) -> str:
    if scale.name is None:
        raise KeyError("the name of a dimension is gone")
    return str(scale.name).lstrip("/")


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _like(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return repr(name) + (f"; is it {near[0]!r}?" if near else "")


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            f"tables need pandas ({error}): pip install pandas"
        ) from error
