"""`gradecho monitor` beside live trainers, through real shared memory.

What is measured must be what NumPy says of the same gradients, and the log must
be readable at any moment. Trainers are paced (one step for each byte), so
nothing hangs on time. Trainers that are lost: test_lost.py; monitors that end:
test_monitors.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reference
from conftest import (
    KNOWN_LAYERS,
    Training,
    echo_slack,
    entries,
    known_sample,
    same_health,
    told,
    until,
    wait_rows,
)
from live import EVERY, FOUR, ends_well, same_rows, sample


def test_the_gradients_are_what_they_are_meant_to_be() -> None:
    """The ground under all that follows: exact in bf16, modes, fresh noise."""
    for layer, (rows, cols) in KNOWN_LAYERS.items():
        one = entries(layer, 1, 0, 0, 0)
        assert one.shape == (rows, cols)
        assert np.abs(one * 128).max() <= 255
        assert (one * 128 == np.round(one * 128)).all()
        noise = [
            entries(layer, *words) - entries(layer, 2, 0, 0, 0)
            for words in [(1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
        ]
        assert np.abs(np.corrcoef([x.ravel() for x in noise]) - 0.5).min() < 0.5
        assert len({x.tobytes() for x in noise}) == len(noise)
    expected = reference.echo(known_sample("block.0/weight", 0, FOUR))
    echo = expected["echo"]
    assert echo[0] > 0.9
    assert 0.5 < echo[2] < echo[1] < echo[0]
    # Comparing with the reference means something.
    assert echo_slack(expected)[:3].max() < 1e-3
    assert expected["margin"][:3].min() > 0.1


# ---- a mean that is handed over ----


@pytest.mark.parametrize("scale", [1, 1024])
def test_the_trainings_own_mean_is_used(training: Training, scale: int) -> None:
    training.train(2, steps=3, replicas=2, mean=1, scale=scale)
    monitor = training.monitor(2, *EVERY, "--set", "reduce.mean=handoff")
    log = ends_well(training, monitor)
    assert not [line for line in told(monitor.stderr) if ": warning: " in line]
    same_rows(log, range(3), ranks=(0, 1), replicas=2)


@pytest.mark.parametrize(
    ("means", "text"),
    [((0.9, 0.9), "off by 0.1"), ((1, 1.25), "different means"), ((1, 0), "1 of 2")],
)
def test_a_mean_that_is_none_is_told_and_not_used(
    training: Training, means: tuple[float, float], text: str
) -> None:
    training.train(2, [{"mean": mean} for mean in means], steps=3)
    monitor = training.monitor(2, *EVERY, "--set", "reduce.mean=handoff")
    log = ends_well(training, monitor)
    lines = [line for line in told(monitor.stderr) if ": warning: " in line]
    assert len(lines) == 1
    assert text in lines[0]
    assert "reduce.mean to network" in lines[0]
    same_rows(log, range(3), ranks=(0, 1))


# ---- a good run, watched from outside ----


def test_the_log_is_right_while_it_is_written(training: Training) -> None:
    training.train(4, steps=12, paced=1)
    monitor = training.monitor(4, *EVERY)
    seen, growth = 0, 0
    training.step()
    with training.follow() as file:
        for step in range(12):
            if step > 0:
                training.step()
            log = wait_rows(file, step + 1)
            assert monitor.running()
            assert len(log["step"]) == step + 1  # one more, and no ghosts
            same_rows(log, [step], first=step)
            assert file.attrs["clean_close"] == 0
            growth += len(log["step"]) > seen
            seen = len(log["step"])
    assert growth == 12
    assert training.finish_trainers() == [12] * 4
    log = ends_well(training, monitor)
    same_rows(log, range(12))
    for row in range(12):
        for layer in KNOWN_LAYERS:
            same_health(log, layer, row, sample(layer, row, FOUR, 1))
    assert (log["duration_seconds"] > 0).all()
    assert (np.diff(log["time"]) > 0).all()
    assert log.attributes["world_size"] == 4


def test_free_running_trainers_lose_no_step_and_tear_no_row(
    training: Training,
) -> None:
    """Readers poll as fast as they can while the monitor writes at its own
    pace; every new row is checked as soon as it is seen."""
    steps = 120
    training.train(4, steps=steps)
    monitor = training.monitor(2, *EVERY)
    seen, polls = 0, 0
    with training.follow() as file:
        while seen < steps:
            log = wait_rows(file, seen + 1)
            rows = len(log["step"])
            for name in ("sigma2", "echo", "loss", "replicas", "layer_replicas"):
                assert len(log[name]) == rows, name
            np.testing.assert_array_equal(log["step"], np.arange(rows))
            assert np.isfinite(log["sigma2"]).all()
            assert np.isfinite(log.of("block.0/weight", "echo")).all()
            assert (log["replicas"] == 4).all()
            same_rows(log, [rows - 1], first=rows - 1)
            polls += seen > 0
            seen = rows
    assert polls > 0  # it was seen to grow
    assert training.finish_trainers() == [steps] * 4
    log = ends_well(training, monitor)
    same_rows(log, range(steps))


@pytest.mark.parametrize(
    ("monitors", "options"),
    [
        (4, {"dtype": "f16", "scale": 1024}),
        (4, {"dtype": "bf16", "scale": 1024}),
        (4, {"dtype": "f64", "scale": 1000}),
        (4, {"dtype": "f32", "scale": 1000}),
        (2, {"dtype": "f16", "replicas": 2}),
        (4, {"replicas": 2}),
        (1, {}),
        (2, {}),
        (3, {}),
        (1, {"replicas": 3, "dtype": "f64"}),
    ],
)
def test_the_numbers_are_right(
    training: Training, monitors: int, options: dict[str, Any]
) -> None:
    training.train(4, steps=4, **options)
    monitor = training.monitor(monitors, *EVERY)
    assert training.finish_trainers() == [4] * 4
    log = ends_well(training, monitor)
    assert len(log["step"]) == 4
    same_rows(log, range(4), replicas=options.get("replicas", 1))


def test_the_monitor_may_start_first(training: Training) -> None:
    monitor = training.monitor(2, *EVERY)
    until(lambda: "waiting for trainers" in monitor.stderr, "the monitor waits")
    training.train(4, steps=3)
    assert training.finish_trainers() == [3] * 4
    same_rows(ends_well(training, monitor), range(3))


# ---- which steps are measured ----


def test_sample_every_picks_its_multiples(training: Training) -> None:
    training.train(4, steps=11)
    monitor = training.monitor(4, *EVERY, "--set", "sample.every=3")
    assert training.finish_trainers() == [4] * 4
    log = ends_well(training, monitor)
    assert len(log["step"]) == 4
    same_rows(log, [0, 3, 6, 9])


@pytest.mark.parametrize("monitors", [1, 2, 4])
def test_steps_that_one_rank_lacks_are_left_out(
    training: Training, monitors: int
) -> None:
    """And no sample mixes two steps: the numbers of the others are right."""
    each: list[dict[str, Any]] = [{} for _ in FOUR]
    each[2] = {"skip": "2,3"}
    each[1] = {"skip": "6,6"}
    training.train(4, each, steps=9)
    monitor = training.monitor(monitors, *EVERY)
    assert training.finish_trainers() == [9, 8, 7, 9]
    log = ends_well(training, monitor)
    assert len(log["step"]) == 6
    same_rows(log, [0, 1, 4, 5, 7, 8])
