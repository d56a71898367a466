"""Noise scale over training; see plot.py."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradecho._errors import GradechoError
from gradecho._style import (
    ACCENT,
    INK,
    new_figure,
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

PANELS = 6  # if no layers are named


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
            va="top", xytext=(-3, -2), textcoords="offset points", color=ACCENT,
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
    from matplotlib.ticker import FuncFormatter, LogLocator

    seen = np.concatenate([*drawn, total[np.isfinite(total)]])
    for axis in axes:
        if len(seen):
            low, high = np.quantile(seen, [0.02, 0.98])
            axis.set_ylim(low / 2, high * 4)
        axis.yaxis.set_major_locator(LogLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axis.minorticks_off()
