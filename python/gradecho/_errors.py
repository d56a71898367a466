"""What gradecho says: one line that tells what happened and what to do."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass


class GradechoError(ValueError):
    """gradecho was called in a way that cannot be meant."""


class GradechoWarning(UserWarning):
    """Something is not watched; the training goes on as without gradecho."""


@dataclass(frozen=True)
class Place:
    """A line of the training, which warnings are about."""

    file: str
    line: int

    @classmethod
    def of_caller(cls, above: int) -> Place:
        """The line that called the caller's caller, `above` = 2, and so on."""
        frame = sys._getframe(above)
        return cls(frame.f_code.co_filename, frame.f_lineno)


def warn(text: str, place: Place) -> None:
    """Warn, and never raise: a filter that turns warnings into errors is meant
    for the training's own, which must not die of ours."""
    try:
        warnings.warn_explicit(text, GradechoWarning, place.file, place.line)
    except GradechoWarning:
        print(f"gradecho: warning: {text}", file=sys.stderr, flush=True)
