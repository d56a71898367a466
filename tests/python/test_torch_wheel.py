"""The wheel: built from the tree, installed elsewhere, used without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
TOOLS = TREE / "build" / "python" / "tools" / "bin"
PATIENCE = 120.0

TRAINER = """
import sys, time
import gradecho
from gradecho._library import Dtype, Handoff, Layer, library
assert "site-packages" in gradecho.__file__, gradecho.__file__
assert library()._name.startswith(gradecho.__file__.rpartition("/")[0])
assert gradecho.__version__ == library().gradecho_version().decode()
assert "torch" not in sys.modules
import array
handoff = Handoff(sys.argv[1], [Layer("w", 2, 3, Dtype.F32)], rank=1, world=2)
for _ in range(3000):
    if handoff.attached:
        break
    time.sleep(0.01)
assert handoff.begin(7)
data = array.array("f", range(6))
handoff.write(0, 0, data.buffer_info()[0])
handoff.publish(loss=0.5, batch_size=8, scale=2)
handoff.close()
handoff.close()
assert not handoff.begin(8)
"""


def run(*command: str | Path, **more: object) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GRADECHO_LIBRARY", "PYTHONPATH")
    }
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (TOOLS / "pip").exists():
        pytest.skip("no scikit-build-core; tests/run installs it")
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(TOOLS / "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, TREE),
    )
    (made,) = folder.glob("*.whl")
    return made


def test_it_holds_the_package_and_the_library_alone(wheel: Path) -> None:
    assert wheel.name.startswith("gradecho-")
    assert "-py3-none-linux_" in wheel.name  # one for all Pythons
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gradecho/__init__.py", "gradecho/libgradecho.so", "gradecho/py.typed"} <= {
        *names
    }
    folders = {name.partition("/")[0] for name in names}
    assert len(folders) == 2, folders  # the package and its description
    assert not [n for n in names if n.endswith((".c", ".h", ".a", ".pyc"))]


def test_it_hands_over_a_sample_where_it_is_installed(
    wheel: Path, tmp_path: Path
) -> None:
    place = tmp_path / "venv"
    run("/usr/bin/python3", "-m", "venv", place)
    run(place / "bin" / "pip", "install", "--quiet", "--no-index", wheel)
    session = f"wheel-test-{os.getpid()}"
    kept = tmp_path / "samples"
    with subprocess.Popen(
        [os.environ["SAMPLE_DUMP_BIN"], session, "1", "1", str(kept)]
    ) as consumer:
        run(place / "bin" / "python", "-c", TRAINER, session, cwd=tmp_path)
        assert consumer.wait(PATIENCE) == 0
    head, _, raw = kept.read_bytes().partition(b"\n")
    assert b'"step": 7' in head
    assert b'"batch_size": 8, "scale": 2, "world": 2' in head
    assert memoryview(raw).cast("f").tolist() == [0, 1, 2, 3, 4, 5]


def stubborn(python: str, **environment: str) -> str:
    """The failure of a watch, without torch: what library() raises."""
    code = (
        "import gradecho._library as l\n"
        "try: l.library()\n"
        "except l.HandoffError as e: print(e)\n"
    )
    return subprocess.run(
        [python, "-B", "-c", code],
        env={**os.environ, "PYTHONPATH": str(TREE / "python"), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_library_that_does_not_fit_says_so() -> None:
    (libm,) = stubborn(sys.executable, GRADECHO_LIBRARY="libm.so.6").splitlines()
    assert "libm.so.6 is of another version" in libm
    (none,) = stubborn(sys.executable, GRADECHO_LIBRARY="/nowhere").splitlines()
    assert "cannot load libgradecho" in none
    assert "GRADECHO_LIBRARY" in none


def test_another_version_is_refused(tmp_path: Path) -> None:
    """The library of a later minor number, and one with larger options."""
    source = (TREE / "src" / "handoff" / "producer.c").read_text()
    for change, name in (
        (("return GRADECHO_VERSION;", 'return "0.999.0";'), "later"),
        (
            (
                "sizeof(struct gradecho_options),",
                "sizeof(struct gradecho_options) + 64,",
            ),
            "larger",
        ),
    ):
        assert change[0] in source
        other = tmp_path / f"{name}.c"
        other.write_text(source.replace(*change))
        library = tmp_path / f"{name}.so"
        run(
            *("gcc", "-shared", "-fPIC", "-w", "-D_GNU_SOURCE", "-DGRADECHO_BUILD"),
            *("-I", TREE / "include", "-I", TREE / "src/core"),
            *("-I", TREE / "src/handoff", other, "-o", library),
            *(
                TREE / "src/core" / f
                for f in ("futex.c", "machine.c", "memory.c", "message.c", "try.c")
            ),
            *(TREE / "src/handoff" / f for f in ("segment.c", "convert.c")),
        )
        told = stubborn(sys.executable, GRADECHO_LIBRARY=str(library))
        assert "does not fit this package" in told, told
