"""libgradecho by ctypes: the calls of gradecho/handoff.h, and no more.

Calls release the interpreter lock. A Handoff belongs to one thread at a time.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from math import nan
from pathlib import Path

from gradecho._version import TREE, version

SESSION_VARIABLE = "GRADECHO_SESSION"
LIBRARY_VARIABLE = "GRADECHO_LIBRARY"
NAME = "libgradecho.so"
REPLICAS_MAX = 1024

OK, DROPPED = 0, 2  # enum gradecho_status


class Dtype(IntEnum):
    """enum gradecho_dtype"""

    F32 = 1
    F64 = 2
    F16 = 3
    BF16 = 4


class HandoffError(Exception):
    """libgradecho cannot be had, or refused a call; one line."""


@dataclass(frozen=True)
class Layer:
    name: str
    rows: int
    cols: int
    dtype: Dtype


class _Layer(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("rows", ctypes.c_uint64),
        ("cols", ctypes.c_uint64),
        ("dtype", ctypes.c_int),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("session", ctypes.c_char_p),
        ("rank", ctypes.c_uint32),
        ("world", ctypes.c_uint32),
        ("slots", ctypes.c_uint32),
        ("replicas", ctypes.c_uint32),
        ("layers", ctypes.POINTER(_Layer)),
        ("layer_count", ctypes.c_size_t),
        ("mean", ctypes.c_uint32),
    )


class _Meta(ctypes.Structure):
    _fields_ = (
        ("loss", ctypes.c_double),
        ("batch_size", ctypes.c_double),
        ("gradient_scale", ctypes.c_double),
    )


class _RoomyOptions(ctypes.Structure):
    """What another version returns by value may be larger than ours."""

    _fields_ = (("options", _Options), ("room", ctypes.c_char * 4096))


_HANDLE = ctypes.c_void_p
_SIGNATURES = {
    "version": (ctypes.c_char_p, ()),
    "options_default": (_RoomyOptions, ()),
    "open": (ctypes.c_int, (ctypes.POINTER(_Options), ctypes.POINTER(_HANDLE))),
    "begin": (ctypes.c_int, (_HANDLE, ctypes.c_int64)),
    "write": (
        ctypes.c_int,
        (_HANDLE, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p),
    ),
    "place": (
        ctypes.c_void_p,
        (_HANDLE, ctypes.c_uint32, ctypes.c_size_t),
    ),
    "write_mean": (ctypes.c_int, (_HANDLE, ctypes.c_size_t, ctypes.c_void_p)),
    "place_mean": (ctypes.c_void_p, (_HANDLE, ctypes.c_size_t)),
    "publish": (ctypes.c_int, (_HANDLE, ctypes.POINTER(_Meta))),
    "cancel": (None, (_HANDLE,)),
    "attached": (ctypes.c_int, (_HANDLE,)),
    "dropped": (ctypes.c_uint64, (_HANDLE,)),
    "close": (None, (ctypes.POINTER(_HANDLE),)),
    "message": (ctypes.c_char_p, ()),
}


def _candidates() -> Iterator[str]:
    """Where libgradecho may be: an explicit choice, the wheel, the build of the
    tree, the system."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        yield chosen
        return
    places = [Path(__file__).parent / NAME]
    places += [TREE / "build" / kind / "src" / NAME for kind in ("release", "dev")]
    yield from (str(place) for place in places if place.exists())
    yield f"{NAME}.0"
    yield NAME


def _find() -> ctypes.CDLL:
    failure = "not found"
    for place in _candidates():
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            failure = str(error)
    raise HandoffError(
        f"cannot load libgradecho ({failure}): install the package with pip, "
        f"build the tree, or set {LIBRARY_VARIABLE} to the file"
    )


@cache
def library() -> ctypes.CDLL:
    """libgradecho, of a version that fits; HandoffError if there is none."""
    found = _find()
    try:
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(found, f"gradecho_{name}")
            function.restype = result
            function.argtypes = arguments
    except AttributeError:
        theirs = "of another version"
    else:
        theirs = found.gradecho_version().decode(errors="replace")
        size = found.gradecho_options_default().options.struct_size
        fits = size == ctypes.sizeof(_Options)
        # Before 1.0 the minor number tells what fits.
        if fits and theirs.split(".")[:2] == version().split(".")[:2]:
            return found
    raise HandoffError(
        f"{found._name} is {theirs}, which does not fit this package of "
        f"version {version()}: install both from one version"
    )


class Handoff:
    """One rank's segment; see gradecho/handoff.h for the contract."""

    def __init__(
        self,
        session: str,
        layers: Sequence[Layer],
        rank: int = 0,
        world: int = 1,
        slots: int = 2,
        replicas: int = 1,
        mean: bool = False,
    ) -> None:
        lib = library()
        table = (_Layer * len(layers))(
            *(_Layer(x.name.encode(), x.rows, x.cols, x.dtype) for x in layers)
        )
        options = lib.gradecho_options_default().options
        options.session = session.encode()
        options.rank, options.world = rank, world
        options.slots, options.replicas = slots, replicas
        options.layers, options.layer_count = table, len(layers)
        options.mean = mean
        self._lib = lib
        self._handle = _HANDLE()
        self.replicas = replicas
        self._check(
            lib.gradecho_open(ctypes.byref(options), ctypes.byref(self._handle))
        )
        # When nobody holds this any more; a process that ends need not care,
        # and would close too early.
        release = weakref.finalize(self, lib.gradecho_close, ctypes.byref(self._handle))
        release.atexit = False
        self._begin = lib.gradecho_begin
        self._write = lib.gradecho_write

    def _check(self, status: int) -> None:
        if status < 0:
            text: bytes = self._lib.gradecho_message()
            raise HandoffError(text.decode(errors="replace"))

    def begin(self, step: int) -> bool:
        """Is the sample of this step wanted, and is there room for it?"""
        status: int = self._begin(self._handle, step)
        if status < 0:
            self._check(status)
        return status == OK

    def write(self, replica: int, layer: int, address: int) -> None:
        status: int = self._write(self._handle, replica, layer, address)
        if status < 0:
            self._check(status)

    def place(self, replica: int, layer: int) -> int:
        """Address to write in place; the layer then counts as written."""
        address = self._lib.gradecho_place(self._handle, replica, layer)
        if address is None:
            raise HandoffError(f"no place for replica {replica} layer {layer}")
        return int(address)

    def write_mean(self, layer: int, address: int) -> None:
        self._check(self._lib.gradecho_write_mean(self._handle, layer, address))

    def place_mean(self, layer: int) -> int:
        """Address to write the mean in place."""
        address = self._lib.gradecho_place_mean(self._handle, layer)
        if address is None:
            raise HandoffError(f"no place for the mean of layer {layer}")
        return int(address)

    def publish(
        self, loss: float = nan, batch_size: float = 0.0, scale: float = 1.0
    ) -> None:
        meta = _Meta(loss, batch_size, scale)
        self._check(self._lib.gradecho_publish(self._handle, ctypes.byref(meta)))

    def cancel(self) -> None:
        self._lib.gradecho_cancel(self._handle)

    @property
    def attached(self) -> bool:
        return bool(self._lib.gradecho_attached(self._handle))

    @property
    def dropped(self) -> int:
        return int(self._lib.gradecho_dropped(self._handle))

    def close(self) -> None:
        """May be called again; all other calls are then without effect."""
        self._lib.gradecho_close(ctypes.byref(self._handle))
