"""Pictures of a log. Each function takes a Log, draws into `axes` if they are
given, and returns the matplotlib Figure: figure.savefig("echo.svg")."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradecho._errors import GradechoError
from gradecho._style import (
    ACCENT,
    GREY,
    INK,
    PALE,
    SCALE,
    WARM,
    new_figure,
    number,
    plain,
    short,
    styled,
)
from gradecho.reader import Log

import numpy as np  # isort: skip  (its absence is told by the reader)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradecho.reader import Array

__all__ = ["echo_curve", "layers", "noise_scale", "report"]

PANELS = 6  # of noise_scale, if no layers are named
COLUMNS = 400  # of the heat map; more samples are averaged
LABELS = 48  # layers by name in the heat map; more are labelled in groups


# ---- one layer, one sample: echo against singular value ----


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
        figure, axis = _figure(axes, 6.4, 3.7)
        _draw_laws(axis, log, row, layer, known)
        _draw_echoes(axis, seen, echo, modes["echo_se"], signal, known & ~signal)
        _mark_knee(axis, log, row, layer)
        where = log.layers[log.layer_index(layer)]
        axis.set_title(
            f"{short(where.name, 44)}  {where.rows} x {where.cols}, "
            f"step {int(log.steps[row])}"
        )
        axis.set(ylim=(-0.03, 1.03), ylabel="spectral echo")
        axis.set_xlabel("singular value of one replica's gradient, [g]")
        axis.grid(axis="y")
        _decades(axis)
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
    axis.axvline(knee, color=INK, lw=0.8, ls=":", zorder=0)
    axis.annotate(
        f"knee {number(knee)}",
        (knee, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -3),
        textcoords="offset points",
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


# ---- noise scale over training ----


def noise_scale(
    log: Log, layers: list[str] | None = None, *, axes: Any = None
) -> Figure:
    """Noise scale over training steps, the whole model first.

    The line is the log's moving average; the band is what single samples say,
    plus and minus one standard error, and gaps where a sample gives no bound.
    The dashed line is the number of examples in a step: below the noise scale,
    noise rules.

    layers: names, "" for the whole model; None: the model and up to five layers
    from the highest noise scale to the lowest.
    """
    chosen = _panel_layers(log) if layers is None else layers
    if not len(log):
        raise GradechoError(f"log {log.path} has no samples yet")
    total = examples_per_step(log)
    with styled():
        if axes is None:
            across = min(len(chosen), 3)
            down = -(-len(chosen) // across)
            figure = new_figure(0.6 + 2.6 * across, 0.9 + 1.6 * down)
            axes = figure.subplots(down, across, sharex=True, sharey=True)
        flat = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        drawn = [
            _draw_scale(axis, log, name, total) for axis, name in zip(flat, chosen)
        ]
        for axis in flat[len(chosen) :]:
            axis.set_visible(False)
        _scale_limits(flat[: len(chosen)], drawn, total)
        figure = flat[0].figure
        handles, labels = _legend_entries(flat[: len(chosen)])
        figure.suptitle(" ", fontsize=12)  # room for the legend
        figure.legend(handles, labels, loc="upper center", ncol=len(labels))
        figure.supylabel("noise scale, examples", fontsize=9)
        figure.supxlabel("training step", fontsize=9)
    return figure


def _legend_entries(axes: Any) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _panel_layers(log: Log) -> list[str]:
    """The model, and layers spread evenly over their order by noise scale."""
    last = last_known(log, "noise_scale_smooth")
    rank = np.where(last > 0, last, np.inf)  # no bound: the highest
    order = np.argsort(-rank, kind="stable")
    order = order[~np.isnan(last[order])]
    places = np.linspace(0, len(order) - 1, min(PANELS - 1, len(order)))
    names = [log.layers[int(order[int(p)])].name for p in np.round(places)]
    return ["", *names]


def last_known(log: Log, name: str) -> Array:
    """Of each layer, from the last samples."""
    tail = log.read(name, slice(max(len(log) - 50, 0), None))
    last = np.full(len(log.layers), np.nan)
    for values in tail:
        last = np.where(np.isnan(values), last, values)
    return last


def examples_per_step(log: Log) -> Array:
    """Examples in a training step, of each sample; NaN: not told."""
    batch = log.read("batch_size").astype(float)
    replicas = log.read("replicas").astype(float)
    told = (batch > 0) & (replicas > 0)
    total: Array = np.where(told, batch * replicas, np.nan)
    return total


def _draw_scale(axis: Axes, log: Log, name: str, total: Array) -> Array:
    """Draw one panel; all that should be seen of it."""
    prefix, layer = ("", name) if name else ("model_", None)
    steps = log.steps
    value, smooth = (
        log.read(prefix + field, layer=layer)
        for field in ("noise_scale", "noise_scale_smooth")
    )
    error = np.full(len(steps), np.nan)
    if prefix + "noise_scale_se" in log:
        error = log.read(prefix + "noise_scale_se", layer=layer)
    bounded = value > 0
    if np.isfinite(error).any():
        low, high = _band(value, error)
        axis.fill_between(
            steps, low, high, color=ACCENT, alpha=0.2, lw=0,
            label="samples, ± standard error",
        )  # fmt: skip
    else:
        axis.plot(
            steps[bounded], value[bounded], ".", ms=3, color=ACCENT, alpha=0.4,
            label="one sample",
        )  # fmt: skip
    smooth = np.where(smooth > 0, smooth, np.nan)
    axis.plot(steps, smooth, color=ACCENT, lw=1.8, label="moving average")
    if np.isfinite(total).any():
        axis.plot(
            steps, total, color=INK, lw=1, ls=(0, (4, 3)), label="examples per step"
        )
    axis.set_yscale("log")
    title = short(name, 30) if name else "whole model"
    ends = smooth[np.isfinite(smooth)]
    axis.set_title(title)
    if len(ends):
        axis.annotate(
            number(float(ends[-1])), (1, 1), xycoords="axes fraction", ha="right",
            va="bottom", xytext=(0, 3), textcoords="offset points", color=ACCENT,
        )  # fmt: skip
    axis.grid(axis="y")
    return np.concatenate([ends, value[bounded]])


def _band(value: Array, error: Array) -> tuple[Array, Array]:
    """Ends of value +- error, the median of some neighbours of each sample: a
    single one may have no upper bound, and a band of spikes shows nothing."""
    high = np.where(value > 0, value + error, np.inf)
    low = np.where(value > 0, value - error, np.nan)
    high[np.isnan(value) | np.isnan(error)] = np.nan
    half = min(max(len(value) // 40, 2), 50)
    ends = []
    for end in (low, high):
        padded = np.pad(end, half, constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all missing
            ends.append(np.nanmedian(windows, axis=1))
    most = np.nanmax(value, initial=1.0) * 1e3  # drawn to the edge of the picture
    return np.clip(ends[0], most / 1e12, None), np.clip(ends[1], None, most)


def _scale_limits(axes: Any, drawn: list[Array], total: Array) -> None:
    """From what most samples say, not from the noisiest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    seen = np.concatenate([*drawn, total[np.isfinite(total)]])
    for axis in axes:
        if len(seen):
            low, high = np.quantile(seen, [0.02, 0.98])
            axis.set_ylim(low / 2, high * 4)
        axis.yaxis.set_major_locator(LogLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axis.yaxis.set_minor_formatter(NullFormatter())


# ---- all layers ----

WHAT = {
    "knee": (
        "tau2_edge",
        "knee, [g]",
        "knee: the singular value under which isotropic noise drowns a mode",
    ),
    "signal": (
        "signal_modes",
        "signal modes",
        "signal modes: those that pass the test for not being noise",
    ),
}


def layers(log: Log, what: str = "knee", *, axes: Axes | None = None) -> Figure:
    """All layers over training steps as a heat map.

    what: "knee", "signal" (modes that pass the significance test), or the name
    of any field that has one value per layer. Hatched: not measured.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    field, label, title = WHAT.get(what, (what, "", ""))
    if log.dims(field) != ("step", "layer"):
        raise GradechoError(
            f"layers() draws fields [step, layer]; {field} is "
            f"[{', '.join(log.dims(field))}]"
        )
    steps, shown, values = _grid(log, field)
    if what == "knee":
        values = np.sqrt(values)
    if not shown:
        raise GradechoError(f"log {log.path}: {field} is not known for any layer")
    with styled():
        figure, axis = _figure(axes, 7.4, min(1.1 + 0.19 * len(shown), 8.0))
        axis.patch.set(facecolor="white", edgecolor=PALE, hatch="/////")
        mesh = axis.pcolormesh(
            _edges(steps),
            np.arange(len(shown) + 1),
            values.T,
            cmap=SCALE,
            norm=_norm(values, counts=field == "signal_modes"),
            rasterized=True,
        )
        axis.invert_yaxis()
        _label_layers(axis, [log.layers[i].name for i in shown])
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_xlabel("training step")
        unit = log.fields[field].units
        bar = axis.figure.colorbar(mesh, ax=axis, pad=0.015, fraction=0.05, aspect=25)
        bar.set_label(label or field + ("" if unit == "1" else f", {unit}"))
        axis.set_title(plain(title or f"{field}: {log.fields[field].long_name}"))
        bar.outline.set_visible(False)
        if what != "signal":
            if isinstance(mesh.norm, LogNorm):
                bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.formatter = FuncFormatter(lambda value, _: number(value))
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
            bar.update_ticks()
    return figure


def _grid(log: Log, field: str) -> tuple[Array, list[int], Array]:
    """Steps, layers that have values, and values [sample, layer], averaged to
    no more samples than can be seen."""
    values = log.read(field).astype(float)
    steps = log.steps
    if log.read(field, slice(0, 0)).dtype.kind == "i":
        values[values < 0] = np.nan
    known = np.isfinite(values)
    there = known.any(axis=1)
    values, steps = values[there], steps[there]
    shown = [int(i) for i in np.flatnonzero(known.any(axis=0))]
    values = values[:, shown]
    if len(steps) > COLUMNS:
        starts = np.linspace(0, len(steps), COLUMNS, endpoint=False).astype(int)
        count = np.add.reduceat(np.isfinite(values).astype(int), starts)
        total = np.add.reduceat(np.nan_to_num(values), starts)
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        steps = steps[starts]
    return steps, shown, values


def _edges(steps: Array) -> Array:
    """Borders half way between the steps."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate(
        [[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]]
    )


def _norm(values: Array, *, counts: bool) -> Any:
    from matplotlib.colors import LogNorm, Normalize, PowerNorm

    finite = values[np.isfinite(values)]
    if counts:
        return PowerNorm(0.5, 0, max(float(finite.max()), 1.0))  # few matter most
    positive = finite[finite > 0]
    if len(positive) and (finite >= 0).all() and positive.max() > 10 * positive.min():
        return LogNorm(*np.quantile(positive, [0.005, 0.995]))
    return Normalize(float(finite.min()), float(finite.max()))


def _label_layers(axis: Axes, names: list[str]) -> None:
    """Every layer by its name, or, where there are too many, by groups: the
    names up to their first number."""
    axis.tick_params(axis="y", length=0)
    if len(names) <= LABELS:
        axis.set_yticks(np.arange(len(names)) + 0.5, [short(name) for name in names])
        if len(names) > 24:
            axis.tick_params(axis="y", labelsize=6.5)
        return
    groups = _groups(names)
    for first, _, _ in groups[1:]:
        axis.axhline(first, color="white", lw=0.6)
    every = -(-len(groups) // LABELS)
    labelled = groups[::every]
    axis.set_yticks(
        [(first + end) / 2 for first, end, _ in labelled],
        [short(name) for _, _, name in labelled],
        fontsize=6.5,
    )


def _groups(names: list[str]) -> list[tuple[int, int, str]]:
    """Neighbours of one block: (first, end, name)."""

    def block(name: str) -> str:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if part.isdigit():
                return ".".join(parts[: i + 1])
        return name

    groups: list[tuple[int, int, str]] = []
    for i, name in enumerate(names):
        if groups and groups[-1][2] == block(name):
            groups[-1] = (groups[-1][0], i + 1, block(name))
        else:
            groups.append((i, i + 1, block(name)))
    return groups


def report(log: Log, path: str | os.PathLike[str]) -> Path:
    """Write one self-contained page on the run, HTML: these pictures, and what
    a person should not miss. A page of that name is replaced; its path.

    A log that still grows gives a page on what is there now.
    """
    from gradecho._report import write_page

    return write_page(log, path)


def _figure(axes: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    if axes is not None:
        return axes.figure, axes
    figure = new_figure(width, height)
    return figure, figure.add_subplot()
