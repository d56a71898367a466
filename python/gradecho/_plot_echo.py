"""One layer, one sample: echo against singular value; see plot.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradecho._errors import GradechoError
from gradecho._style import (
    ACCENT,
    GREY,
    INK,
    WARM,
    figure_for,
    number,
    short,
    styled,
)
from gradecho.reader import Log

import numpy as np  # isort: skip  (its absence is told by the reader)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradecho.reader import Array


def echo_curve(
    log: Log, layer: str | int, step: int | None = None, *, axes: Axes | None = None
) -> Figure:
    """Measured echoes of a layer's modes against their singular value, with
    what the laws promise.

    Filled points are modes that pass the significance test, open ones may be
    noise. Bars are one standard error (there is none at two replicas).
    step: a sample with echoes; None: the last one.
    """
    row = _echo_row(log, layer, step)
    modes = {
        name: log.read(name, row, layer)
        for name in ("s_replica", "echo", "echo_se", "mode_t")
        if name in log
    }
    seen, echo = modes["s_replica"], modes["echo"]
    known = np.isfinite(seen) & np.isfinite(echo) & (seen > 0)
    if not known.any():
        raise GradechoError(
            f"log {log.path}: layer {layer!r} has no echoes in step {log.steps[row]}: "
            "it is not selected, or its smaller side is 1"
        )
    signal = known & _is_signal(log, row, layer, modes)
    with styled():
        figure, axis = figure_for(axes, 6.4, 3.7)
        _draw_laws(axis, log, row, layer, known)
        _draw_echoes(axis, seen, echo, modes["echo_se"], signal, known & ~signal)
        where = log.layers[log.layer_index(layer)]
        axis.set_title(
            f"{short(where.name, 44)}  {where.rows} x {where.cols}, "
            f"step {int(log.steps[row])}"
        )
        axis.set(ylim=(-0.03, 1.03), ylabel="spectral echo")
        axis.set_xlabel("singular value of one replica's gradient, [g]")
        axis.grid(axis="y")
        _decades(axis)
        _mark_knee(axis, log, row, layer)
        _legend_beside(axis)
    return figure


def _echo_row(log: Log, layer: str | int, step: int | None) -> int:
    if step is not None:
        return log.row(step)
    place = log.layer_index(layer)
    rows = log.echo_rows()
    for row in rows[::-1]:
        if np.isfinite(log.read("echo", int(row), place)).any():
            return int(row)
    raise GradechoError(
        f"log {log.path}: layer {log.layers[place].name} has no echoes"
        + ("" if len(rows) else "; no sample has: see sample.echo_every")
    )


def _is_signal(log: Log, row: int, layer: str | int, modes: dict[str, Array]) -> Array:
    """The modes that the monitor counted: those with the largest statistic."""
    t = np.nan_to_num(modes["mode_t"], nan=-np.inf)
    count = int(log.read("signal_modes", row, layer))
    signal = np.zeros(len(t), dtype=bool)
    signal[np.argsort(-t, kind="stable")[: max(count, 0)]] = True
    counted: Array = signal & np.isfinite(t)
    return counted


def _draw_laws(axis: Axes, log: Log, row: int, layer: str | int, known: Array) -> None:
    seen = log.read("s_replica", row, layer)[known]
    s = np.geomspace(seen.min() / 1.05, seen.max() * 1.05, 400)
    edge2 = float(log.read("tau2_edge", row, layer))
    exact = _exact(log, row, layer, s)
    axis.plot(
        s, 1 / (1 + edge2 / s**2), color=GREY, lw=1.3, ls=(0, (4, 2)),
        label="hill law, isotropic noise", zorder=1,
    )  # fmt: skip
    axis.plot(
        s, exact, color=GREY, lw=1.3, label="exact law, isotropic noise", zorder=1
    )
    if "echo_mode" in log:
        # Each by the noise along its own mode, so no line.
        axis.plot(
            seen, log.read("echo_mode", row, layer)[known], ls="none", marker="_",
            ms=11, mew=2, color=WARM, label="mode law, noise along the mode",
            zorder=2,
        )  # fmt: skip


def _exact(log: Log, row: int, layer: str | int, s: Array) -> Array:
    """The exact law as a curve; the log has it at the modes, echo_exact."""
    where = log.layers[log.layer_index(layer)]
    sigma2 = float(log.read("sigma2", row, layer))
    gamma = where.rows / where.cols
    t = s**2 / (where.cols * sigma2) - 1 - gamma
    x4 = ((t + np.sqrt(np.maximum(t**2 - 4 * gamma, 0))) / 2) ** 2
    x2 = np.sqrt(x4)
    law = (x4 - gamma) / np.sqrt((x4 + gamma * x2) * (x4 + x2))
    above: Array = np.where(t > 2 * np.sqrt(gamma), law, 0.0)
    return above


def _draw_echoes(
    axis: Axes, seen: Array, echo: Array, error: Array, signal: Array, other: Array
) -> None:
    for chosen, label, fill in (
        (signal, "measured, signal", ACCENT),
        (other, "measured, may be noise", "white"),
    ):
        if not chosen.any():
            continue
        axis.errorbar(
            seen[chosen],
            echo[chosen],
            yerr=np.nan_to_num(error[chosen]),
            fmt="o",
            ms=5.5,
            mfc=fill,
            mec=ACCENT,
            mew=1.1,
            ecolor=ACCENT,
            elinewidth=1,
            label=label,
            zorder=3,
        )


def _mark_knee(axis: Axes, log: Log, row: int, layer: str | int) -> None:
    knee = float(np.sqrt(log.read("tau2_edge", row, layer)))
    if not knee > 0:
        return
    # The label on the side where there is room.
    low, high = np.log(axis.get_xlim())
    left = np.log(knee) > low + 0.75 * (high - low)
    axis.axvline(knee, color=INK, lw=0.8, ls=":", zorder=0)
    axis.annotate(
        f"knee {number(knee)}",
        (knee, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if left else 3, -3),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=8,
    )


def _decades(axis: Axes) -> None:
    """A logarithmic axis with labels also where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    near: tuple[float, ...] = (1, 2, 5) if high / low > 6 else (1, 1.5, 2, 3, 5, 7)
    if high / low > 300:
        near = (1,)
    axis.xaxis.set_major_locator(LogLocator(subs=near))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend_beside(axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i][:8] != "measured")
    axis.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.8,
    )
