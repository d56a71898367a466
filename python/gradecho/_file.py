"""Opening a log that may be growing, left by a killed monitor, or damaged.

HDF5's single-writer mode reads a file without locking it, and retries what does
not fit its checksum, because the writer may be at it. In a damaged file it
retries for ever, in C, where no deadline of Python reaches it. So a file is
tried out first: one that was closed in order by a plain open, which fails at
once, and one that is marked as being written by a process that can be killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from gradecho._errors import GradechoError

try:
    import h5py
except ImportError as error:
    raise ImportError(
        f"reading a log needs h5py and NumPy ({error}): pip install 'gradecho[reader]'"
    ) from error

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SCHEMA = 1
# A writer makes a file longer within one flush, not within seconds.
GROWING = 2.0


# What h5py makes of HDF5's errors.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
dataset_type = h5py.Dataset


class LogError(GradechoError, OSError):
    """A log cannot be opened or read."""


def open_log_file(path: Path, deadline: float) -> h5py.File:
    """The log, open for reading; waits at most `deadline` seconds for HDF5 to
    make sense of it. LogError if it does not, or if it is no log."""
    if is_marked(path):
        _try_out(path, deadline)
    else:
        try:
            look(str(path), swmr=False)
        except HDF5_ERRORS as error:
            if not is_marked(path):  # or a monitor has just continued it
                raise _unreadable(path, error) from error
    return reopen(path)


def reopen(path: Path) -> h5py.File:
    """The same without trying out, for a log that was open already."""
    is_marked(path)
    try:
        file = _open(str(path), swmr=True)
    except HDF5_ERRORS as error:
        raise _unreadable(path, error) from error
    schema = file.attrs.get("gradecho_schema")
    if schema is None or "step" not in file:
        file.close()
        raise LogError(f"log {path} is HDF5, but not a log of gradecho")
    if int(schema) != SCHEMA:
        file.close()
        raise LogError(
            f"log {path} has schema {int(schema)}, this package reads {SCHEMA}: "
            "install the version that wrote it"
        )
    return file


def is_marked(path: Path) -> bool:
    """Is the file marked as being written (a killed writer leaves the mark)?
    LogError if it is missing, not HDF5, or shorter than it says."""
    began = time.monotonic()
    while True:
        marked, length, size = _header(path)
        if size >= length:
            return marked
        if not marked or time.monotonic() - began > GROWING:
            raise LogError(
                f"log {path} is cut off: it has {size} of {length} bytes; copy it again"
            )
        time.sleep(0.02)


def _header(path: Path) -> tuple[bool, int, int]:
    """Mark, length that the file says it has, length that it has."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise LogError(f"log {path}: {error.strerror}") from error
    if not head.startswith(SIGNATURE):
        raise LogError(f"log {path} is not an HDF5 file")
    # Superblock version 3, which all of gradecho's logs have.
    if len(head) < 48 or head[8] != 3 or head[9] != 8:
        return False, 0, size
    return bool(head[11] & 1), int.from_bytes(head[28:36], "little"), size


def look(path: str, *, swmr: bool) -> None:
    """Touch everything that reading the log will touch."""
    with _open(path, swmr=swmr) as file:
        rows = len(file["step"]) if "step" in file else 0
        for dataset in file.values():
            if not isinstance(dataset, h5py.Dataset):
                continue
            dict(dataset.attrs)
            for axis in dataset.dims:
                dict(axis)
            if dataset.maxshape[:1] == (None,):
                for row in {0, rows // 2, rows - 1} if rows else ():
                    dataset[row]
            elif dataset.shape:
                dataset[:]


def _try_out(path: Path, deadline: float) -> None:
    """look() in a process of its own."""
    if not sys.executable:  # an embedded interpreter: nothing to start
        return
    package = Path(__file__).resolve().parents[1]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    code = "import sys; from gradecho._file import look; look(sys.argv[1], swmr=True)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LogError(
            f"log {path} could not be read within {deadline:g} s: it is damaged, "
            "or the machine is slow; a larger deadline tells which"
        ) from None
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise _unreadable(path, last)


def _open(path: str, *, swmr: bool) -> h5py.File:
    # No lock: a monitor that wants to go on with this log must be able to.
    try:
        return h5py.File(path, "r", swmr=swmr, locking=False)
    except (TypeError, ValueError):  # an HDF5 that cannot do without
        return h5py.File(path, "r", swmr=swmr)


def _unreadable(path: Path, reason: object) -> LogError:
    return LogError(f"log {path} is damaged or not a log: HDF5 says {reason}")
