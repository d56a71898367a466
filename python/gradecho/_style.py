"""How gradecho's pictures look: greys and one accent, legible in print, on a
screen, and to the colour-blind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(
        f"plots need matplotlib ({error}): pip install 'gradecho[plot]'"
    ) from error

ACCENT = "#0b6e99"
WARM = "#b5523b"  # the one thing beside the accent; darker in black and white, too
INK = "#2b2f33"
GREY = "#868e96"
PALE = "#e3e6e8"

SCALE = LinearSegmentedColormap.from_list(
    "gradecho", ["#f1f5f7", "#b4d3df", "#5fa3bf", ACCENT, "#053347"]
)

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "gradecho",  # the same log gives the same file
}


@contextmanager
def styled() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Not pyplot's: no window, nothing to close."""
    return Figure(figsize=(width, height), layout="constrained")


def figure_for(axes: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """The axes to draw into, a new figure's if there are none."""
    if axes is not None:
        return axes.figure, axes
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def plain(text: str) -> str:
    """A name as it is: matplotlib takes what stands between two $ for
    mathematics."""
    return text.replace("$", r"\$")


def short(text: str, most: int = 34) -> str:
    """The end of a layer's name says more than its beginning."""
    return plain(text if len(text) <= most else "…" + text[1 - most :])


def number(value: float) -> str:
    """For people: 3,547 and 0.0724 and 3.2e-06."""
    if value != value:
        return "-"
    if abs(value) >= 1e7 or (value and abs(value) < 1e-3):
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
