"""A log survives a kill at any write: test_log_kills.py LOG_WRITER GRADECHO
FILE_FAULT [unittest...]

The writer, and `gradecho recover` itself, are killed in place of their Nth
write (tests/support/file_fault.c). Every row that was told to be committed must
be there, bit by bit, for a reader of what is left; recover must make it a
normal file; and a resumed writer must go on behind it.
"""
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

import test_log_live as live

WRITER = GRADECHO = FAULT = ""
SEED = 20261123


def run(command, kill=0, batches=()):
    """Exit code, rows committed as last told, and what was said."""
    environment = dict(os.environ, LD_PRELOAD=FAULT, FILE_FAULT_KILL=str(kill),
                       FILE_FAULT_TORN=str(kill // 2 % 2))
    # The library comes before that of a sanitizer.
    environment["ASAN_OPTIONS"] = "verify_asan_link_order=0"
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment)
    asked = "".join(f"{rows}\n" for rows in batches)
    said, trouble = process.communicate(asked, timeout=60)
    told = [int(line.split()[2]) for line in said.splitlines()
            if line.startswith("rows ")]
    return process.returncode, (told or [0])[-1], said + trouble


def first_rows(file):
    """The committed rows, each of them right; how many they are."""
    rows = len(file["step"])
    np.testing.assert_array_equal(file["step"][:], 100 + 3 * np.arange(rows))
    for i, (name, _, integer) in enumerate(live.FIELDS):
        got = file[name][:rows]
        assert got.shape[0] == rows, name
        np.testing.assert_array_equal(
            got, live.expected(i, 0, got.shape, integer), err_msg=name)
    return rows


class LogKills(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="gradecho-test.")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "log.h5")
        self.random = random.Random(SEED)

    def writer(self, shape, *more):
        return [WRITER, self.path, *map(str, shape), *more]

    def recover(self, kill=0):
        return run([GRADECHO, "recover", self.path], kill)

    def read_as_left(self):
        """Rows for a reader that knows of no recovery."""
        try:
            file = h5py.File(self.path, "r")
        except OSError:
            file = h5py.File(self.path, "r", swmr=True)
        with file:
            return first_rows(file)

    def read_as_normal(self):
        with h5py.File(self.path, "r") as file:
            for name, data in file.items():
                if data.maxshape[0] is None:
                    self.assertEqual(len(data), len(file["step"]), name)
            return first_rows(file)

    def writes_of(self, shape, batches):
        """How many there are to be killed at."""
        self.clean()
        count = os.path.join(self.folder, "count")
        os.environ["FILE_FAULT_COUNT"] = count
        self.addCleanup(os.environ.pop, "FILE_FAULT_COUNT", None)
        code, _, said = run(self.writer(shape), 0, batches)
        self.assertEqual(code, 0, said)
        with open(count, encoding="ascii") as file:
            writes = int(file.read())
        del os.environ["FILE_FAULT_COUNT"]
        self.clean()
        return writes

    def clean(self):
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))

    def left_by_kill(self, shape, batches, kill):
        """A log whose writer was killed at that write; rows told."""
        self.clean()
        code, told, said = run(self.writer(shape), kill, batches)
        self.assertEqual(code, -signal.SIGKILL, said)
        return told

    def test_a_kill_at_any_write_of_the_writer(self):
        killed, resumed = 0, 0
        for shape, batches in [((1, 3, 4, 5), [1] * 20),
                               ((7, 3, 4, 5), [1] * 24)]:
            writes = self.writes_of(shape, batches)
            for kill in self.random.sample(range(1, writes + 1), 12):
                told = self.left_by_kill(shape, batches, kill)
                killed += 1
                if not os.path.exists(self.path):
                    self.assertEqual(told, 0)
                    left = os.listdir(self.folder)
                    self.assertTrue(left and left[0].endswith(".new"))
                    continue
                rows = self.read_as_left()
                self.assertGreaterEqual(rows, told)
                if kill % 2 == 0:
                    self.assertEqual(self.recover()[0], 0)
                    self.assertEqual(self.read_as_normal(), rows)
                code, after, said = run(self.writer(shape, "resume"), 0, [3, 6])
                self.assertEqual(code, 0, said)
                self.assertEqual(self.read_as_normal(), rows + 9)
                resumed += 1
        print(f"{killed} kills, {resumed} logs resumed")
        self.assertGreaterEqual(killed, 20)
        self.assertGreaterEqual(resumed, 10)

    def test_a_kill_at_any_write_of_recover(self):
        """Of logs that were left in the middle of a commit: there is much to
        cut off."""
        shape, batches = (6, 3, 4, 5), [6, 6, 6]
        writes = self.writes_of(shape, batches)
        kept, killed, uneven = self.path + ".kept", 0, 0
        while killed < 20 or uneven < 1:
            self.left_by_kill(shape, batches,
                              self.random.randrange(writes * 2 // 3, writes))
            if not os.path.exists(self.path):
                continue
            shutil.move(self.path, kept)
            with h5py.File(kept, "r", swmr=True) as file:
                rows = len(file["step"])
                lengths = {len(d) for d in file.values()
                           if d.maxshape[0] is None}
            uneven += len(lengths) > 1
            for kill in itertools.count(1, self.random.randint(3, 9)):
                shutil.copy(kept, self.path)
                code, _, said = self.recover(kill)
                if code == 0:
                    break
                self.assertEqual(code, -signal.SIGKILL, said)
                killed += 1
                self.assertEqual(self.read_as_left(), rows)
                self.assertEqual(self.recover()[0], 0)
                self.assertEqual(self.read_as_normal(), rows)
        print(f"{killed} kills, {uneven} logs with uneven datasets")

    def test_recover_leaves_a_closed_log_alone(self):
        code, _, said = run(self.writer((1, 3, 4, 5)), 0, [5])
        self.assertEqual(code, 0, said)
        with open(self.path, "rb") as file:
            before = file.read()
        code, _, said = self.recover()
        self.assertEqual(code, 0)
        self.assertIn("nothing to do, 5 samples", said)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_reader_stays_on_through_a_kill_and_a_resume(self):
        writer = live.Writer(self.path, 1, 3, 4, 5)
        writer.start(20)
        writer.wait()
        with h5py.File(self.path, "r", swmr=True) as file:
            self.assertEqual(first_rows(file), 20)
            writer.__exit__()
            for more in (20, 33):
                code, _, said = run(self.writer((1, 3, 4, 5), "resume"), 0,
                                    [more])
                self.assertEqual(code, 0, said)
                for data in file.values():
                    data.refresh()
                self.assertEqual(first_rows(file), 20 + more if more == 20
                                 else 73)


if __name__ == "__main__":
    WRITER, GRADECHO, FAULT = (sys.argv.pop(1) for _ in range(3))
    live.WRITER = WRITER
    unittest.main()
