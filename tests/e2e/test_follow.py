"""`gradecho inspect --follow`: in a real terminal (tmux), and without one."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import (
    KNOWN_LAYERS,
    Job,
    Training,
    gradecho,
    read_log,
    replay,
    run,
    until,
    wait_rows,
    write_gradients,
)

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")

_servers = itertools.count()


class Terminal:
    """A tmux server with one window, in which a shell runs a command: what the
    command leaves behind is seen."""

    def __init__(self, command: list[str], size: tuple[int, int], locale: str) -> None:
        self.socket = f"gradecho-{os.getpid()}-{next(_servers)}"
        shell = f"PS1='ended $? ' LC_ALL={locale} exec sh"
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(size[0]),
            "-y", str(size[1]), shell,
        )
        self.shows("^ended 0")  # the prompt: typed before it, keys mix with it
        self.keys(" ".join(f"'{word}'" for word in command), "Enter")

    def tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self.socket, *arguments],
            check=True, capture_output=True, text=True, timeout=10,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, *patterns: str) -> str:
        """The screen, once it has all of that."""
        last = ""

        def there() -> bool:
            nonlocal last
            last = self.screen()
            return all(re.search(x, last, re.MULTILINE) for x in patterns)

        try:
            until(there, f"{patterns} on the screen")
        except AssertionError as late:
            raise AssertionError(f"{late}:\n{last}") from None
        return last

    def foot(self, text: str, width: int, height: int) -> None:
        """The last line is this one, as far as it fits: drawn last, so that all
        is drawn. Before that the terminal has its old text, cut."""

        def there() -> bool:
            lines = self.screen().split("\n")[:-1]
            seen = text[: width - 1].rstrip()  # the corner stays free
            return len(lines) == height and lines[-1][: len(seen)] == seen

        until(there, f"{text} in the last of {height} lines")

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def quit(self, key: str = "q") -> None:
        """The shell is back, in a terminal as it was: it echoes what is typed."""
        self.keys(key)
        self.shows(r"^ended 0")
        self.keys("stty -a | grep -ow -- '-*echo' | sed 's/^/has &/'", "Enter")
        self.shows(r"has echo$")

    def end(self) -> None:
        subprocess.run(
            ["tmux", "-L", self.socket, "kill-server"], check=False,
            capture_output=True, timeout=10,
        )


class Terminals:
    def __init__(self) -> None:
        self.made: list[Terminal] = []

    def __call__(
        self, log: Path, *options: str, size: tuple[int, int] = (80, 24),
        locale: str = "C.UTF-8", term: str = "screen",
    ) -> Terminal:
        command = gradecho("inspect", "--follow", log, *options)
        made = Terminal(["env", f"TERM={term}", *command], size, locale)
        self.made.append(made)
        return made


@pytest.fixture
def terminal() -> Iterator[Terminals]:
    made = Terminals()
    yield made
    for one in made.made:
        one.end()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("follow")
    rng = np.random.default_rng(9)
    strong = 3 * np.outer(np.ones(20), np.ones(30))
    layers = {
        "quiet.weight": strong + rng.standard_normal((6, 4, 20, 30)),
        "loud.weight": 0.001 * strong + rng.standard_normal((6, 4, 20, 30)),
        "bias": 0.3 + rng.standard_normal((6, 4, 30)),
    }
    for i in range(20):
        layers[f"more.{i:02}"] = 1 + rng.standard_normal((6, 4, 9))
    path = write_gradients(folder / "grads.h5", layers, 16)
    replay(path, folder / "log.h5", "--set", "sample.echo_every=2")
    return folder / "log.h5"


def first_layer(screen: str) -> str:
    lines = screen.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    return lines[head + 1].split()[0]


@needs_tmux
def test_every_key(log: Path, terminal: Terminals) -> None:
    window = terminal(log)
    screen = window.shows(r"^closed  step 5  6 samples", "sort: noise")
    assert "worst replica" in screen
    assert "worst pair" in screen
    assert "dropped 0" in screen
    assert "noise-dominated at this batch size" in screen
    assert re.search("[▁▂▃▄▅▆▇█]{5}", screen)
    assert first_layer(screen) == "loud.weight"
    window.keys("s")
    window.shows("sort: echo")
    window.keys("s")
    assert first_layer(window.shows("sort: name")) == "bias"
    window.keys("s")
    assert first_layer(window.shows("sort: log")) is not None
    window.keys("/")
    window.shows("filter: _")
    window.keys("q", "u", "i")  # q is a letter here
    window.shows("filter: qui_")
    window.keys("Enter")
    screen = window.shows("filter: qui ", "^quiet.weight")
    assert "loud" not in screen.split("layer ")[1]
    window.keys("Enter")
    screen = window.shows("quiet.weight  20 x 30", "● measured", "- exact", "hill")
    assert screen.count("●") >= 5
    assert re.search(r"^1\.0 ┤", screen, re.MULTILINE)
    window.keys("Escape")
    window.shows("^quiet.weight")
    window.keys("/", "C-u", "z", "z", "Enter")
    window.shows("no layer passes the filter")
    window.quit()


@needs_tmux
def test_the_list_scrolls(log: Path, terminal: Terminals) -> None:
    window = terminal(log, size=(80, 16))
    window.shows("sort: noise")
    window.keys("s", "s")
    assert "quiet" not in window.shows("sort: name", "^bias")
    window.keys(*["Down"] * 22)
    assert "bias" not in window.shows("^quiet.weight")
    window.keys("PageUp", "PageUp", "PageUp")
    window.shows("^bias")
    window.quit()


@needs_tmux
@pytest.mark.parametrize("size", [(20, 5), (1, 1), (3, 40), (40, 10), (200, 60)])
def test_any_size(log: Path, terminal: Terminals, size: tuple[int, int]) -> None:
    window = terminal(log)
    window.shows("sort: noise")
    window.resize(*size)
    window.foot("q quit  s sort: noise", *size)
    window.keys("s", "Down")
    window.resize(80, 24)
    window.shows("sort: echo")
    window.resize(*size)
    window.foot("q quit  s sort: echo", *size)
    window.keys("Enter")
    window.foot("Esc back  up/down other layer", *size)
    window.resize(80, 24)
    window.shows(r"^Esc back  up/down other layer  q quit$")
    window.quit()


@needs_tmux
def test_what_a_small_terminal_has_room_for(log: Path, terminal: Terminals) -> None:
    window = terminal(log, size=(40, 10))
    screen = window.shows("^q quit", "^rep [0-9] x.* pair .* drop 0", "^layer .*echo")
    assert "noise-dominated" in screen
    assert first_layer(screen) == "loud.weight"
    window.keys("/", *"more.", "Enter")
    window.shows("^q quit .*", r"^more\.\d\d +\d")
    assert len(re.findall(r"^more\.", window.screen(), re.MULTILINE)) == 4


@needs_tmux
def test_long_names_without_what_they_share(
    tmp_path: Path, terminal: Terminals
) -> None:
    data = np.random.default_rng(9).standard_normal((2, 4, 6, 8))
    names = [f"model.transformer.h.{i}.attn.weight" for i in range(3)]
    path = write_gradients(tmp_path / "grads.h5", dict.fromkeys(names, data), 16)
    replay(path, tmp_path / "log.h5")
    window = terminal(tmp_path / "log.h5", size=(60, 20))
    window.shows("^0.attn.weight ", "^1.attn.weight ", "^2.attn.weight ")
    window.resize(160, 20)
    window.shows(*(f"^{name} " for name in names))
    window.keys("Enter")
    window.shows(f"^{names[0]}  6 x 8")


@needs_tmux
def test_plain_characters_where_the_locale_has_no_more(
    log: Path, terminal: Terminals
) -> None:
    window = terminal(log, locale="C")
    assert window.shows("sort: noise", "loud").isascii()
    window.keys("Enter")
    assert window.shows("o measured|no echo").isascii()
    window.quit()


@needs_tmux
@pytest.mark.parametrize("term", ["dumb", "nonsense"])
def test_lines_where_the_terminal_is_none(
    log: Path, terminal: Terminals, term: str
) -> None:
    window = terminal(log, term=term)
    window.shows("^step 0: loss", "^step 5: loss", "^ended 0")


@needs_tmux
def test_ctrl_c_and_a_layer_that_is_not_there(log: Path, terminal: Terminals) -> None:
    window = terminal(log, "--layer", "none*")
    window.shows("no layer matches none")
    window.quit("C-c")


@needs_tmux
def test_a_log_that_comes_grows_dies_and_goes_on(
    training: Training, terminal: Terminals
) -> None:
    window = terminal(training.log, size=(120, 40))
    window.shows("^waiting", "no such file yet")
    training.train(4, steps=9, paced=1)
    monitor = training.monitor(2, "--set", "sample.echo_every=2")
    training.step(2)
    screen = window.shows(r"^live  step \d+  2 samples", r"lag \d+ s")
    for name in KNOWN_LAYERS:
        assert name in screen
    training.step()
    window.shows("3 samples")
    monitor.kill_all()
    window.shows("^its writer was killed .* 3 samples")
    again = training.monitor(2, "--set", "sample.echo_every=2", "--resume")
    # Before that a step would not be handed over.
    until(lambda: "resumed behind" in again.stderr, "the monitors go on")
    window.shows("^live")
    training.step()
    window.shows(r"^live  step \d+  [4-9] samples")
    training.step(9)
    training.finish_trainers()
    window.shows("^closed")

    # Another log takes its place.
    data = np.random.default_rng(0).standard_normal((1, 2, 4, 4))
    grads = write_gradients(training.folder / "other.h5", {"other": data})
    replay(grads, training.log, "--overwrite")
    screen = window.shows("^closed  step 0  1 samples", "^other")
    assert "block" not in screen
    training.log.unlink()
    window.shows("no such file yet")
    window.quit()


def test_lines_without_a_terminal(training: Training) -> None:
    follow = Job(
        gradecho("inspect", "--follow", training.log), training.folder, "follow"
    )
    training.jobs.append(follow)
    until(lambda: "no such file yet" in follow.stderr, "it waits, and says so")
    training.train(4, steps=5000, paced=1)
    monitor = training.monitor(2)
    training.step(2)
    until(lambda: follow.stdout.count("\n") == 2, "a line per sample")
    monitor.kill_all()
    until(lambda: "writer was killed" in follow.stderr, "the death is told")
    assert follow.running()
    training.monitor(2, "--resume")

    def goes_on() -> bool:
        training.step()  # one that nobody watches is not sampled
        return follow.stdout.count("\n") > 3

    until(goes_on, "lines of the next writer")
    training.finish_trainers()
    assert follow.finish() == 0
    lines = follow.stdout.splitlines()
    told = [int(line.split(":")[0].removeprefix("step ")) for line in lines]
    assert told == list(read_log(training.log)["step"])
    assert all("noise scale" in line and "dropped" in line for line in lines)


def test_lines_of_a_log_that_is_closed(log: Path) -> None:
    done = run(gradecho("inspect", "--follow", log, "--since", "3"))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "step 3", "step 4", "step 5"
    ]


def test_following_costs_next_to_nothing(training: Training) -> None:
    """Processor time, not wall time: a log that is open and does not grow."""
    training.train(4, steps=3, paced=1)
    training.monitor(2)
    training.step(2)
    with training.follow() as file:
        wait_rows(file, 2)
    follow = Job(
        gradecho("inspect", "--follow", training.log), training.folder, "follow"
    )
    training.jobs.append(follow)
    until(lambda: follow.stdout.count("\n") == 2, "it reads")

    def ticks() -> int:
        stat = Path(f"/proc/{follow.process.pid}/stat").read_text()
        return sum(map(int, stat.rsplit(")", 1)[1].split()[11:13]))

    before = ticks()
    time.sleep(2.5)
    assert ticks() - before <= 0.02 * 2.5 * os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("options", [["--json"], ["--step", "3"]])
def test_what_does_not_go_with_follow(log: Path, options: list[str]) -> None:
    done = run(gradecho("inspect", "--follow", log, *options))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "--follow" in done.stderr
