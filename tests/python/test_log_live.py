"""h5py reads a log while it grows: test_log_live.py LOG_WRITER [unittest...]

No row that /step shows may be torn: every field of row i must hold the value
that log_fixture.h derives from its place.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

WRITER = ""
SOURCE = os.path.join(os.path.dirname(__file__), "../../src/log/schema.h")
SCALES = ["step", "layer", "mode", "replica", "pair"]
SHAPES = {
    "GE_PER_STEP": ["step"],
    "GE_PER_PAIR": ["step", "pair"],
    "GE_PER_LAYER": ["step", "layer"],
    "GE_PER_MODE": ["step", "layer", "mode"],
    "GE_PER_REPLICA": ["step", "layer", "replica"],
}


def fields():
    """(name, dimensions, integer?) of every field, in the schema's order."""
    with open(SOURCE, encoding="utf-8") as source:
        text = source.read().replace("\\\n", "")
    found = re.findall(r'X\(\w+, "(\w+)",\s+(GE_PER_\w+),\s+(GE_\w+),', text)
    return [(name, SHAPES[shape], stored == "GE_I64")
            for name, shape, stored in found]


FIELDS = fields()


def expected(field, first, shape, integer):
    """Rows first .. first + shape[0] - 1 of a field; see log_fixture.h."""
    width = int(np.prod(shape[1:]))
    row = np.arange(first, first + shape[0])[:, None]
    at = np.arange(width)[None, :]
    value = (field * 1009 + row * 101 + at * 7) % 65521
    value = value if integer else value + 0.25
    missing = (field + row + at) % 11 == 0
    return np.where(missing, -1 if integer else np.nan, value).reshape(shape)


class Writer:
    """The process that appends; used as a context."""

    def __init__(self, path, flush_every, layers, modes, replicas):
        self.process = subprocess.Popen(
            [WRITER, path, str(flush_every), str(layers), str(modes),
             str(replicas)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.start(0)
        self.wait()  # the log exists

    def start(self, rows):
        """Let it append so many rows; does not wait."""
        self.process.stdin.write(f"{rows}\n")
        self.process.stdin.flush()

    def wait(self):
        """Rows appended when it has done all that was asked."""
        return int(self.process.stdout.readline().split()[1])

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class LogLive(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="gradecho-test.")
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "log.h5")

    def check_rows(self, file, first, end):
        steps = file["step"][first:end]
        np.testing.assert_array_equal(steps, 100 + 3 * np.arange(first, end))
        for i, (name, _, integer) in enumerate(FIELDS):
            got = file[name][first:end]
            self.assertEqual(got.shape[0], end - first, name)
            np.testing.assert_array_equal(
                got, expected(i, first, got.shape, integer), err_msg=name)

    def follow(self, flush_every, batches, rows, layers):
        """Read as fast as possible while the writer appends; polls that saw
        new rows."""
        seen, polls, total = 0, 0, batches * rows
        with Writer(self.path, flush_every, layers, 4, 5) as writer:
            with h5py.File(self.path, "r", swmr=True) as file:
                for batch in range(batches):
                    writer.start(rows)
                    goal = (batch + 1) * rows // flush_every * flush_every
                    while seen < goal:
                        file["step"].refresh()
                        committed = len(file["step"])
                        if committed == seen:
                            self.assertIsNone(writer.process.poll())
                            continue
                        for name, _, _ in FIELDS:
                            file[name].refresh()
                        self.check_rows(file, seen, committed)
                        seen, polls = committed, polls + 1
                    self.assertEqual(writer.wait(), (batch + 1) * rows)
                self.assertEqual(file.attrs["clean_close"], 0)
                self.assertEqual(writer.close(), 0)
                self.check_rows(file, 0, seen)
        with h5py.File(self.path, "r") as file:
            self.assertEqual(len(file["step"]), total)
            self.assertEqual(file.attrs["clean_close"], 1)
            self.check_rows(file, 0, total)
        return polls

    def test_no_row_is_torn_with_a_flush_per_row(self):
        polls = self.follow(flush_every=1, batches=10, rows=60, layers=50)
        print(f"{polls} polls saw new rows")
        self.assertGreater(polls, 10)

    def test_no_row_is_torn_with_a_flush_per_seven_rows(self):
        self.follow(flush_every=7, batches=5, rows=100, layers=3)

    def test_the_file_explains_itself(self):
        with Writer(self.path, 1, 3, 4, 5) as writer:
            writer.start(2)
            writer.wait()
            self.assertRaises(OSError, h5py.File, self.path, "r")
            self.assertEqual(writer.close(), 0)
        with h5py.File(self.path, "r") as file:
            self.assertEqual(file.attrs["gradecho_schema"], 1)
            self.assertEqual(file.attrs["session"].decode(), "séance")
            self.assertEqual(file.attrs["config"].decode(), "")
            self.assertRegex(file.attrs["created"].decode(),
                             r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(file.attrs["world_size"], 4)
            self.assertEqual([n.decode() for n in file["layer"]],
                             [f"block.{i}.weight" for i in range(3)])
            self.assertEqual(list(file["rows"]), [2, 3, 4])
            self.assertEqual(list(file["cols"]), [3, 5, 7])
            self.assertEqual(list(file["mode"]), [0, 1, 2, 3])
            self.assertEqual(set(file), {name for name, _, _ in FIELDS}
                             | set(SCALES) | {"rows", "cols"})
            for name, dataset in file.items():
                for attribute in ("units", "long_name"):
                    self.assertTrue(dataset.attrs[attribute].decode(), name)
            for name in SCALES:
                self.assertTrue(h5py.h5ds.is_scale(file[name].id), name)
            for name, dims, integer in FIELDS + [("rows", ["layer"], True),
                                                 ("cols", ["layer"], True)]:
                scales = [d[0].name for d in file[name].dims]
                self.assertEqual(scales, ["/" + d for d in dims], name)
                self.assertEqual(file[name].dtype.kind,
                                 "f" if not integer else
                                 "i" if dims[0] == "step" else "u", name)
            self.assertEqual(file["echo"].dtype, np.float32)
            self.assertEqual(file["sigma2"].dtype, np.float64)
            self.assertIsNone(file["step"].maxshape[0])
            self.assertTrue(np.isnan(file["echo"].fillvalue))
            self.assertEqual(file["replicas"].fillvalue, -1)


if __name__ == "__main__":
    WRITER = sys.argv.pop(1)
    unittest.main()
