"""gradecho: how much of your gradient is real?

    import gradecho
    watch = gradecho.watch(model)

hands the local gradients of a PyTorch training to gradecho's monitors; see
docs/pytorch.md.

    log = gradecho.open_log("run.h5")
    gradecho.plot.echo_curve(log, "fc1.weight").savefig("echo.svg")

reads what they measured; see docs/python.md. Importing this package alone
loads none of torch, the library, h5py and matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradecho._errors import GradechoError, GradechoWarning, Place
from gradecho._version import version as _version

if TYPE_CHECKING:
    from torch.nn import Module

    from gradecho import followers, plot
    from gradecho._watch import Watch
    from gradecho.plot import report
    from gradecho.reader import open_log

__all__ = [
    "GradechoError",
    "GradechoWarning",
    "followers",
    "open_log",
    "plot",
    "report",
    "watch",
]
__version__ = _version()


def __getattr__(name: str) -> Any:
    """What needs more packages is loaded when it is asked for."""
    if name in ("followers", "plot"):
        return import_module(f"gradecho.{name}")
    if name == "open_log":
        return import_module("gradecho.reader").open_log
    if name == "report":
        return import_module("gradecho.plot").report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def watch(
    model: Module,
    session: str | None = None,
    *,
    accumulation: int | None = None,
    average: bool = False,
    loss_divisor: float = 1.0,
    batch_size: float | None = None,
    scaler: Any = None,
    mean: bool = False,
    slots: int = 2,
    wait: float = 0.0,
) -> Watch:
    """Hand over the gradients of `model` from now on, one sample a step.

    Call it once, after wrapping the model and before the first step. It never
    changes the training: what goes wrong later is one GradechoWarning, after
    which nothing is watched.

    model         a DistributedDataParallel, a module sharded by fully_shard(),
                  or any module (the replicas are then its micro-batches)
    session       the monitors' session; None: $GRADECHO_SESSION
    accumulation  micro-batches in an optimizer step; None: under DDP found out
                  from no_sync(), else 1
    average       one replica a rank, the mean over its micro-batches, instead
                  of one for each: less memory, fewer replicas
    loss_divisor  what the loss is divided by before backward(): usually the
                  number of micro-batches, or 1 if there is only one
    batch_size    examples in a micro-batch; None: the first dimension of the
                  first tensor that the model is called with
    scaler        the GradScaler in use
    mean          room for the mean, which watch.mean() hands over
    slots         samples in flight; each takes the memory of its gradients
    wait          seconds to wait, at the first step, for a monitor to attach

    Raises GradechoError for an argument that cannot be meant.
    """
    from gradecho._options import Options
    from gradecho._watch import start

    return start(
        model,
        Options(
            session=session,
            accumulation=accumulation,
            average=average,
            loss_divisor=loss_divisor,
            batch_size=batch_size,
            scaler=scaler,
            mean=mean,
            slots=slots,
            wait=wait,
        ),
        Place.of_caller(2),
    )
