"""Help, manual pages, completion, suggestions, progress: what the shell shows.
Commands and options are asked of the program, so that a new one is in here."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import (
    PATIENCE,
    TREE,
    Job,
    Training,
    gradecho,
    program,
    replay,
    run,
    until,
    write_gradients,
)

COMPLETION = TREE / "launch" / "lib" / "completion.bash"
SCRIPTS = ["launch/gradecho-run", "launch/demo", "tests/run"]


def output(*arguments: str | Path) -> str:
    done = run(gradecho(*arguments))
    assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
    return done.stdout


@pytest.fixture(scope="module")
def commands() -> list[str]:
    found = output("--complete", "help", "").split()
    assert {"monitor", "replay", "inspect", "config"} <= set(found)
    return found


def options(text: str) -> set[str]:
    """The long options that argp tells, its own two left out."""
    lines = re.findall(r"^ +(?:-., )?(--[a-z-]+)", text, re.MULTILINE)
    return set(lines) - {"--help", "--usage"}


# ---- help ----


def test_every_command_has_help_with_an_example(commands: list[str]) -> None:
    table = output("--help").split("\n\n")[1]
    assert re.findall(r"^  ([a-z]+) +\S", table, re.MULTILINE) == commands
    assert output("help") == output("--help")
    for command in commands:
        text = output("help", command)
        assert text == output(command, "--help")
        assert text.startswith(f"Usage: gradecho {command} ")
        assert re.search(
            rf"^  (mpirun -n \d+ )?gradecho {command}\b", text, re.MULTILINE
        ), f"no example in the help of {command}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_with_an_example(script: str) -> None:
    done = run([str(TREE / script), "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script.removeprefix('launch/')}") or (
        done.stdout.startswith(f"usage: {script}")
    )
    assert re.search(rf"^example: .*{script.split('/')[-1]} ", done.stdout, re.MULTILINE)


# ---- manual pages ----


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "man"
    done = run(
        ["cmake", f"-DGRADECHO={program('GRADECHO_BIN')}",
         f"-DRUN={TREE / 'launch' / 'gradecho-run'}", f"-DTO={folder}",
         "-P", str(TREE / "cmake" / "Pages.cmake")],
        env={**os.environ, "SOURCE_DATE_EPOCH": "86400"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_pages_are_whole_and_clean(pages: Path, commands: list[str]) -> None:
    files = sorted(pages.glob("man?/*"))
    expected = {"gradecho.1", "gradecho-run.1", "gradecho.yaml.5"}
    assert {file.name for file in files} == expected | {
        f"gradecho-{command}.1" for command in commands
    }
    lint = run(["mandoc", "-Tlint", *map(str, files)])
    assert (lint.returncode, lint.stdout) == (0, "")
    for file in files:
        assert '"1970-01-02"' in file.read_text().splitlines()[0]
        shown = run(
            ["man", "--warnings", "-l", "-E", "UTF-8", str(file)],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert (shown.returncode, shown.stderr) == (0, "")


def test_pages_tell_what_help_tells(pages: Path, commands: list[str]) -> None:
    for command in commands:
        page = (pages / "man1" / f"gradecho-{command}.1").read_text()
        told = page.replace("\\-", "-")
        for option in options(output("help", command)):
            assert f"\\fB{option}\\fR" in told, (command, option)
        assert ".SH EXAMPLES" in page
    told = (pages / "man1" / "gradecho-run.1").read_text().replace("\\-", "-")
    script = run([str(TREE / "launch" / "gradecho-run"), "--help"]).stdout
    for option in re.findall(r"^  (-[-a-z]+)", script, re.MULTILINE):
        assert f"\\fB{option}" in told, option
    keys = re.findall(
        r"^\\fB([a-z_.]+)\\fR: ",
        (pages / "man5" / "gradecho.yaml.5").read_text(), re.MULTILINE,
    )
    leaves = re.findall(r"^ *([a-z_]+): \S", output("config", "--default"), re.MULTILINE)
    assert [key.split(".")[-1] for key in keys] == leaves
    assert len(keys) > 15


# ---- completion ----


def complete(line: str, folder: Path) -> list[str]:
    """What bash would put behind the cursor at the end of the line."""
    words = shlex.split(line) or [""]
    gradecho_bin = Path(program("GRADECHO_BIN"))
    script = f"""
        PATH={gradecho_bin.parent}:{TREE / 'launch'}:$PATH
        source {COMPLETION}
        function=$(complete -p {words[0]}) && function=${{function#*-F }}
        COMP_LINE={shlex.quote(line)} COMP_POINT=${{#COMP_LINE}}
        "${{function%% *}}" {words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = run(["bash", "--norc", "-u", "-c", script], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(set(done.stdout.split("\n")[:-1]) - {""})


def test_every_option_is_completed(tmp_path: Path, commands: list[str]) -> None:
    assert {*commands, "help", "--help", "--version"} == set(
        complete("gradecho ", tmp_path)
    )
    for command in commands:
        offered = complete(f"gradecho {command} -", tmp_path)
        assert options(output("help", command)) <= set(offered)
        assert "--help" in offered
    script = run([str(TREE / "launch" / "gradecho-run"), "--help"]).stdout
    told = re.findall(r"^  (-[-a-z]+)", script, re.MULTILINE)
    assert set(told) <= set(complete("gradecho-run -", tmp_path))


def test_values_are_completed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").touch()
    grads = write_gradients(tmp_path / "grads.h5", {
        name: np.random.default_rng(1).standard_normal((1, 2, 3, 4))
        for name in ("attn.in", "attn.out", "head")
    })
    replay(grads, tmp_path / "log.h5")
    table = {
        "gradecho insp": ["inspect"],
        "gradecho help mon": ["monitor"],
        "gradecho inspect ": ["grads.h5", "log.h5", "sub"],
        "gradecho inspect lo": ["log.h5"],
        "gradecho inspect log.h5 --lay": ["--layer"],
        "gradecho inspect log.h5 --layer att": ["attn.in", "attn.out"],
        "gradecho inspect --layer=h lo": ["log.h5"],
        "gradecho inspect log.h5 --layer=h": ["head"],
        "gradecho export log.h5 --format ": ["csv", "jsonl"],
        "gradecho export log.h5 --format=c": ["csv"],
        "gradecho export log.h5 -o note": ["notes.txt"],
        "gradecho monitor --set sample.e": ["sample.every=", "sample.echo_every="],
        "gradecho monitor --set=svd.pl": ["svd.placement="],
        "gradecho monitor --set svd.placement=": ["root", "spread"],
        "gradecho monitor --set=svd.placement=ro": ["root"],
        "gradecho monitor --frob": [],
        "gradecho nonsense ": [],
        "gradecho-run --over": ["--overwrite"],
        "gradecho-run -n 4 --set sample.ev": ["sample.every="],
        "gradecho-run -n 4 --log l": ["log.h5"],
        "gradecho-run -n 4 -- mpirun.openmp": ["mpirun.openmpi"],
    }
    for line, expected in table.items():
        found = complete(line, tmp_path)
        # bash takes the word after its last "=", which replaces it
        assert sorted(x.removeprefix("--set=") for x in found) == sorted(expected), line


def test_live_sessions_are_completed_and_told(training: Training) -> None:
    training.train(1, steps=2, paced=1)
    until(lambda: list(Path("/dev/shm").glob(f"gradecho.{training.session}.*")), "it")
    name = training.session
    assert complete(f"gradecho monitor --session {name[:-1]}", training.folder) == [name]
    mistyped = gradecho(
        "monitor", "--session", name + "x", "--log", training.folder / "x.h5"
    )
    monitor = Job(mistyped, training.folder, "mistyped")
    training.jobs.append(monitor)
    until(lambda: "waiting for trainers" in monitor.stderr, "it waits, and says so")
    monitor.signal(signal.SIGUSR1)
    assert monitor.finish() == 0
    assert re.search(
        rf"; sessions that run here: .*\b{re.escape(name)}(\s|$)", monitor.stderr
    )


# ---- suggestions ----

SUGGESTIONS = {
    "a command": (["inspcet"], "is inspect meant?"),
    "the beginning of one": (["help", "moni"], "is monitor meant?"),
    "an option": (["inspect", "--fllow", "x"], "is --follow meant?"),
    "a word": (["doctor", "--dtype", "fp16"], "is f16 meant?"),
    "a key's word": (["monitor", "--set", "svd.placement=rot"], "is root meant?"),
    "a key without its group": (["monitor", "--set", "evry=3"], "is sample.every meant"),
    "a key of another group": (
        ["monitor", "--set", "layers.every=3"], "is sample.every meant?"
    ),
    "nothing alike": (["xyzzy"], "gradecho --help lists them"),
}


@pytest.mark.parametrize("what", SUGGESTIONS)
def test_suggestions(what: str) -> None:
    arguments, part = SUGGESTIONS[what]
    done = run(gradecho(*arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert part in done.stderr


def test_layers_that_are_near(tmp_path: Path) -> None:
    data = np.random.default_rng(1).standard_normal((1, 2, 3, 4))
    grads = write_gradients(tmp_path / "g.h5", {"attn.in": data, "head\n": data})
    log = tmp_path / "log.h5"
    done = run(gradecho(
        "replay", grads, "--log", log, "--set", 'layers.include=["atn*"]'))
    assert done.returncode == 0
    assert "layers.include matches no layer (there is attn.in, head?)" in done.stderr
    for command in (["inspect"], ["export", "--format", "csv"]):
        done = run(gradecho(*command, log, "--layer", "atn*"))
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "no layer matches atn*; there is attn.in, head?" in done.stderr


# ---- progress ----


def in_terminal(command: list[str], width: int = 80, term: str = "xterm") -> str:
    """All that a command writes to a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        subprocess.run(["stty", "cols", str(width), "rows", "24"], check=True)
        os.environ["TERM"] = term
        os.execvp(command[0], command)
    text = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                text += os.read(terminal, 65536)
            except OSError: # its other end is closed
                break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    return text.decode()


ERASE = "\r\x1b[K"
LINE = re.compile(r"sample \d+ of 400 (\[#*-*\] )?[\d.]+/s, (\d+ min )?\d+ s left")


@pytest.fixture(scope="module")
def long_grads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of about a second."""
    data = np.random.default_rng(3).standard_normal((400, 4, 48, 48))
    return write_gradients(tmp_path_factory.mktemp("long") / "g.h5", {"w": data})


@pytest.mark.parametrize("width", [80, 40])
def test_progress_at_the_foot_of_the_terminal(long_grads: Path, width: int) -> None:
    log = long_grads.with_name(f"{width}.h5")
    began = time.monotonic()
    text = in_terminal(
        gradecho("replay", long_grads, "--log", log, "--set", "sample.echo_every=1",
                 "-v"), width
    )
    seconds = time.monotonic() - began
    drawn = re.findall(r"\r\x1b\[K(sample [^\r\n]*)", text)
    assert drawn
    assert all(LINE.fullmatch(line) and len(line) < width for line in drawn), drawn
    assert len(set(drawn)) <= seconds / 0.25
    # What is left on the screen: the messages, each on a line of its own.
    left = [line.rsplit(ERASE, 1)[-1] for line in text.split("\r\n")]
    assert all(line.startswith("gradecho: ") for line in left[:-1]), left
    assert sum(" measured in " in line for line in left) == 400
    assert left[-2].startswith("gradecho: log ")
    assert left[-1] == ""


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_no_progress_off_a_terminal(long_grads: Path, term: str) -> None:
    log = long_grads.with_name(f"{term}.h5")
    arguments = gradecho("replay", long_grads, "--log", log)
    if term == "dumb":
        assert "\x1b" not in in_terminal(arguments, term=term)
    else:
        done = run(arguments, env={**os.environ, "TERM": term})
        assert done.returncode == 0
        assert "\r" not in done.stderr
        assert "\x1b" not in done.stderr
