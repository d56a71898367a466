"""Alarms and the exporter, as users meet them: what is logged, told, run and
written, and that nothing of it can hold up the measuring.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import parser

from conftest import (
    TREE,
    Log,
    Training,
    errors,
    gradecho,
    read_log,
    run,
    told,
    until,
    wait_rows,
    write_gradients,
)

sys.path.insert(0, str(TREE / "python"))
from gradecho.reader import open_log

SAMPLES, REPLICAS = 40, 4
LAYERS = ("a/weight", 'b "x"\\')
RULES = [
    "same_data", "not_finite", "lost", "hot_replica", "dropped", "noise_scale",
    "layer_noise_scale", "knee", "pure_noise",
]
WINDOW = ("--set", "alarms.samples=5")


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which, one after the other, a gradient is not finite, two
    replicas read the same data, and one is hot."""
    return write(tmp_path_factory.mktemp("alarms") / "g.h5", SAMPLES)


def write(path: Path, samples: int) -> Path:
    draw = np.random.default_rng(1912)
    weight = draw.normal(3, 1, (SAMPLES, REPLICAS, 12, 10))
    bias = draw.normal(3, 1, (SAMPLES, REPLICAS, 7))
    weight[5, 1, 0, 0] = np.nan
    weight[12:18, 2] = weight[12:18, 1]
    bias[12:18, 2] = bias[12:18, 1]
    weight[30:, 0] *= 3
    data = {LAYERS[0]: weight[:samples], LAYERS[1]: bias[:samples]}
    return write_gradients(path, data, batch_size=8)


def replay(gradients: Path, log: Path, *options: str) -> tuple[Log, list[str]]:
    """The log, and all that was told."""
    done = run(gradecho("replay", gradients, "--log", log, *options))
    assert done.returncode == 0, done.stderr
    return read_log(log), told(done.stderr)


def raised(log: Log, rule: str) -> list[int]:
    """Samples at which the rule's bit is set."""
    bit = 1 << RULES.index(rule)
    return np.flatnonzero(log["alarms"] & bit).tolist()


def samples_of(path: Path) -> dict[tuple[str, tuple[str, ...]], float]:
    """The exporter's file, read by Prometheus's own parser."""
    text = path.read_text()
    assert text.endswith("\n")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation and family.type in ("gauge", "counter")
        assert len(family.samples) == len(set(map(str, family.samples)))
        for sample in family.samples:
            assert sample.labels.pop("session")
            found[sample.name, tuple(sample.labels.values())] = sample.value
    return found


def test_alarms_are_logged_told_and_read(gradients: Path, tmp_path: Path) -> None:
    log, lines = replay(gradients, tmp_path / "l.h5", *WINDOW)
    alarms = [line for line in lines if line.startswith("gradecho: alarm ")
              and " is over " not in line]
    assert len(alarms) == 3, lines
    assert "alarm not_finite at step 5: 1 of 4 replicas" in alarms[0]
    assert "alarm same_data at step 14: replicas 1 and 2" in alarms[1].replace(
        "ranks", "replicas"
    )
    assert "alarm hot_replica at step " in alarms[2]
    assert raised(log, "not_finite") == list(range(5, 10))
    assert raised(log, "same_data") == list(range(14, 22))
    hot = raised(log, "hot_replica")
    assert hot and hot == list(range(hot[0], SAMPLES)) and 31 <= hot[0] < 36
    bit = 1 << RULES.index("not_finite")
    assert (log["layer_alarms"][5] == [bit, 0]).all()

    done = run(gradecho("inspect", tmp_path / "l.h5"))
    text = done.stdout.partition("\nalarms\n")[2]
    assert text.splitlines()[:2] == [
        "  not_finite from step 5 to 9",
        "  same_data from step 14 to 21",
    ]
    assert text.splitlines()[2] == f"  hot_replica since step {hot[0]}"
    done = run(gradecho("inspect", "--json", tmp_path / "l.h5"))
    history = json.loads(done.stdout)["alarm_history"]
    assert [(a["rule"], a["first_step"], a["last_step"]) for a in history] == [
        ("not_finite", 5, 9), ("same_data", 14, 21), ("hot_replica", hot[0], 39)
    ]
    done = run(gradecho("inspect", "--follow", tmp_path / "l.h5"))
    lines = done.stdout.splitlines()
    assert lines[5].endswith(", alarms not_finite")
    assert "alarms" not in lines[10]

    with open_log(tmp_path / "l.h5") as reader:
        first, second, third = reader.alarms
    assert first.rule == "not_finite" and first.layers == (LAYERS[0],)
    assert (second.first_step, second.last_step, second.raised) == (14, 21, False)
    assert third.rule == "hot_replica" and third.raised


def test_a_resumed_log_has_the_alarms_of_one_run(
    gradients: Path, tmp_path: Path
) -> None:
    more = (*WINDOW, "--set", "alarms.layer_noise_scale=0.5",
            "--set", "alarms.knee=1e-3", "--set", "alarms.pure_noise=2",
            "--set", "sample.echo_every=3")
    whole, _ = replay(gradients, tmp_path / "whole.h5", *more)
    for cut in (8, 17, 34):
        path = tmp_path / f"{cut}.h5"
        replay(write(tmp_path / "part.h5", cut), path, *more)
        resumed, lines = replay(gradients, path, "--resume", *more)
        for name in ("alarms", "layer_alarms"):
            assert (resumed[name] == whole[name]).all(), (cut, name)
        before = whole["alarms"][cut - 1]
        again = [
            rule
            for bit, rule in enumerate(RULES)
            if before >> bit & 1 and any(f"alarm {rule} at" in x for x in lines)
        ]
        assert again == []


def test_the_command_gets_the_alarm_and_nothing_of_ours(
    gradients: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = tmp_path / "alarm.sh"
    script.write_text(
        "import os, json\n"
        "env = {k: v for k, v in os.environ.items() if 'GRADECHO_ALARM' in k}\n"
        "paths = [f'/proc/self/fd/{n}' for n in range(3, 100)]\n"
        "env['files'] = [os.readlink(p) for p in paths if os.path.exists(p)]\n"
        f"print(json.dumps(env), file=open({str(out)!r}, 'a'))\n"
    )
    log = tmp_path / "l.h5"
    replay(gradients, log, *WINDOW, "--set",
           f"alarms.command={sys.executable} {script}")
    calls = [json.loads(line) for line in out.read_text().splitlines()]
    assert [c["GRADECHO_ALARM"] for c in calls] == [
        "not_finite", "same_data", "hot_replica"
    ]
    first = calls[0]
    assert first["GRADECHO_ALARM_STEP"] == "5"
    assert first["GRADECHO_ALARM_LAYER"] == LAYERS[0]
    assert float(first["GRADECHO_ALARM_VALUE"]) == 1
    assert first["GRADECHO_ALARM_LOG"] == str(log)
    assert "missing or not finite" in first["GRADECHO_ALARM_MESSAGE"]
    assert float(calls[1]["GRADECHO_ALARM_THRESHOLD"]) == 0.9
    assert all(c["files"] == [] for c in calls), "no descriptor of ours"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("/no/such/program", "ended with exit code 127"),
        ("exit 3", "ended with exit code 3"),
        ("kill -9 $$", "ended by signal 9"),
    ],
)
def test_a_command_that_fails_is_told_once(
    gradients: Path, tmp_path: Path, command: str, text: str
) -> None:
    log, lines = replay(
        gradients, tmp_path / "l.h5", *WINDOW, "--set", f"alarms.command={command}"
    )
    assert len(log["step"]) == SAMPLES
    about = [line for line in lines if "alarms.command" in line]
    assert len(about) == 1 and text in about[0]


def test_a_command_that_hangs_is_killed_with_its_children(
    gradients: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    command = f"trap '' TERM; sleep 600 & echo $$ $! >> {pids}; wait; wait; sleep 600"
    began = time.monotonic()
    log, lines = replay(
        gradients, tmp_path / "l.h5", *WINDOW, "--set", f'alarms.command="{command}"'
    )
    assert time.monotonic() - began < 20
    assert len(log["step"]) == SAMPLES and log.attributes["clean_close"] == 1
    assert sum("took too long and was killed" in line for line in lines) == 1
    started = pids.read_text().split()
    assert len(started) == 2, "one at a time"
    until(
        lambda: not any(alive(int(pid)) for pid in started), "the command is gone"
    )


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_exporter_writes_what_the_log_has(
    gradients: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gradecho.prom"
    log, _ = replay(gradients, tmp_path / "l.h5", *WINDOW, "--set",
                    f"prometheus.path={path}", "--set", "alarms.knee=1e-3")
    found = samples_of(path)
    assert found["gradecho_up", ()] == 0
    assert found["gradecho_samples_total", ()] == SAMPLES
    assert found["gradecho_step", ()] == SAMPLES - 1
    assert found["gradecho_dropped_total", ()] == 0
    assert found["gradecho_replicas", ()] == REPLICAS
    for layer in LAYERS:
        for metric, field in {
            "gradecho_noise_scale_examples": "noise_scale_smooth",
            "gradecho_sigma2": "sigma2",
            "gradecho_knee_tau2": "tau2_edge",
        }.items():
            assert found[metric, (layer,)] == log.of(layer, field)[-1]
        assert found["gradecho_alarm", (layer, "knee")] == 1
    assert found["gradecho_signal_modes", (LAYERS[0],)] >= 0
    assert ("gradecho_signal_modes", (LAYERS[1],)) not in found, "no echo: absent"
    assert ("gradecho_loss", ()) not in found, "not known: absent"
    echo = log.of(LAYERS[0], "echo")[30]
    assert found["gradecho_echo", (LAYERS[0], "0")] == pytest.approx(echo[0])
    assert found["gradecho_alarm", ("hot_replica",)] == 1
    assert found["gradecho_alarm", ("same_data",)] == 0
    assert ("gradecho_alarm", ("noise_scale",)) not in found, "a rule that is off"
    assert list(tmp_path.glob("gradecho.prom?*")) == []


def test_an_exporter_that_cannot_write_is_told_once(
    gradients: Path, tmp_path: Path
) -> None:
    log, lines = replay(
        gradients, tmp_path / "l.h5", "--set",
        f"prometheus.path={tmp_path}/no/folder.prom", "--set",
        "prometheus.every_seconds=0",
    )
    assert len(log["step"]) == SAMPLES
    about = [line for line in lines if "prometheus.path" in line]
    assert len(about) == 1 and "No such file or directory" in about[0]


def test_a_live_run_is_up_until_it_ends(training: Training, tmp_path: Path) -> None:
    path = tmp_path / "live.prom"
    done = tmp_path / "done"
    training.train(world=3, steps=4, paced=1)
    monitor = training.monitor(
        2, "--set", f"prometheus.path={path}", "--set", "prometheus.every_seconds=0",
        "--set", "alarms.samples=2", "--set", "alarms.knee=1e-9",
        "--set", f"alarms.command=echo $GRADECHO_ALARM >> {done}",
    )
    with training.follow() as file:
        until(path.exists, "the exporter's file before the first sample")
        assert samples_of(path)["gradecho_up", ()] == 1
        assert samples_of(path)["gradecho_samples_total", ()] == 0
        training.step(4)
        wait_rows(file, 4)
    until(lambda: done.exists() and done.read_text(), "the command ran")
    training.finish_trainers()
    assert monitor.finish() == 0, monitor.stderr
    assert errors(monitor.stderr) == []
    assert done.read_text() == "knee\n"
    found = samples_of(path)
    assert found["gradecho_up", ()] == 0
    assert found["gradecho_samples_total", ()] == 4
    assert sum("alarm knee at" in line for line in told(monitor.stderr)) == 1
    log = read_log(training.log)
    assert raised(log, "knee") == [1, 2, 3]
    assert time.time() - found["gradecho_last_sample_timestamp_seconds", ()] < 60
