"""What gradecho says: one line that tells what happened and what to do."""

from __future__ import annotations

import sys
import warnings


class GradechoError(ValueError):
    """gradecho was called in a way that cannot be meant."""


class GradechoWarning(UserWarning):
    """Something is not watched; the training goes on as without gradecho."""


def warn(text: str, stacklevel: int = 2) -> None:
    """Warn, and never raise: a filter that turns warnings into errors is meant
    for the training's own, which must not die of ours."""
    try:
        warnings.warn(text, GradechoWarning, stacklevel=stacklevel + 1)
    except GradechoWarning:
        print(f"gradecho: warning: {text}", file=sys.stderr, flush=True)
