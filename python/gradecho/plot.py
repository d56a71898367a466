"""Pictures of a log. Each function takes a Log, draws into `axes` if they are
given, and returns the matplotlib Figure: figure.savefig("echo.svg")."""

from __future__ import annotations

import os
from pathlib import Path

from gradecho._plot_echo import echo_curve
from gradecho._plot_layers import layers
from gradecho._plot_scale import noise_scale
from gradecho.reader import Log

__all__ = ["echo_curve", "layers", "noise_scale", "report"]


def report(log: Log, path: str | os.PathLike[str]) -> Path:
    """Write one self-contained page on the run, HTML: these pictures, and what
    a person should not miss. A page of that name is replaced; its path.

    A log that still grows gives a page on what is there now.
    """
    from gradecho._report import write_page

    return write_page(log, path)
