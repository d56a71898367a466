"""All layers over training, as a heat map; see plot.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradecho._errors import GradechoError
from gradecho._style import (
    PALE,
    SCALE,
    figure_for,
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

COLUMNS = 400  # more samples are averaged
OF_ECHOES = ("signal_modes", "misfit_", "tau2_fit", "q_fit")
LABELS = 48  # layers by name; more are labelled in groups
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
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

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
        figure, axis = figure_for(axes, 7.4, min(1.1 + 0.19 * len(shown), 8.0))
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
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        unit = log.fields[field].units
        bar = axis.figure.colorbar(
            mesh,
            ax=axis,
            pad=0.015,
            fraction=0.05,
            aspect=max(15, 5 * figure.get_figheight()),
        )
        bar.set_label(label or field + ("" if unit == "1" else f", {unit}"))
        axis.set_title(plain(title or f"{field}: {log.fields[field].long_name}"))
        bar.outline.set_visible(False)
        if what != "signal":
            if isinstance(mesh.norm, LogNorm):
                bar.locator = LogLocator(subs=(1, 2, 5))
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
    if field.startswith(OF_ECHOES):
        values = _carried_on(values)
    shown = [int(i) for i in np.flatnonzero(known.any(axis=0))]
    values = values[:, shown]
    if len(steps) > COLUMNS:
        starts = np.linspace(0, len(steps), COLUMNS, endpoint=False).astype(int)
        count = np.add.reduceat(np.isfinite(values).astype(int), starts)
        total = np.add.reduceat(np.nan_to_num(values), starts)
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        steps = steps[starts]
    return steps, shown, values


def _carried_on(values: Array) -> Array:
    """Layers may take turns (layers.per_sample): what a layer had last stands
    until its next turn."""
    place = np.where(np.isfinite(values), np.arange(len(values))[:, None], 0)
    carried: Array = np.take_along_axis(
        values, np.maximum.accumulate(place, axis=0), axis=0
    )
    return carried


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
