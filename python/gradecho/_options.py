"""The arguments of gradecho.watch(), checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from gradecho._errors import GradechoError
from gradecho._library import REPLICAS_MAX


@dataclass(frozen=True)
class Options:
    """The arguments of gradecho.watch()."""

    session: str | None = None
    accumulation: int | None = None
    average: bool = False
    loss_divisor: float = 1.0
    batch_size: float | None = None
    scaler: Any = None
    mean: bool = False
    slots: int = 2
    wait: float = 0.0

    def __post_init__(self) -> None:
        def check(good: bool, text: str) -> None:
            if not good:
                raise GradechoError(text)

        count = 1 if self.accumulation is None else self.accumulation
        check(
            count >= 1 and (count <= REPLICAS_MAX or self.average),
            f"accumulation must be 1 to {REPLICAS_MAX} (more with "
            f"average=True), not {self.accumulation}",
        )
        check(
            isfinite(self.loss_divisor) and self.loss_divisor > 0,
            f"loss_divisor must be positive, not {self.loss_divisor}",
        )
        check(
            self.batch_size is None or self.batch_size > 0,
            f"batch_size must be positive, not {self.batch_size}",
        )
        check(2 <= self.slots <= 64, f"slots must be 2 to 64, not {self.slots}")
        check(
            self.scaler is None or hasattr(self.scaler, "get_scale"),
            f"scaler must be a GradScaler, not a {type(self.scaler).__name__}",
        )
