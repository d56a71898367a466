"""What is watched of a model: its layers, and how their gradients are reached.

Gradients are taken by hooks on the parameters themselves. Such a hook runs
when a backward pass has the parameter's whole gradient, before the gradient is
accumulated, and so before DDP sees it: it yields what this rank computed in
this backward pass, whether DDP then synchronises or not, in whatever buckets,
through whatever communication hook. A communication hook of our own would take
the only place there is for one, would run Python in every step, and would not
be called inside no_sync().

Hooks are on the parameters only while a sample is taken. For other steps a few
parameters, the sentinels, tell that a backward pass took place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradecho._errors import GradechoError
from gradecho._library import Dtype, Layer

DTYPES = {
    torch.float32: Dtype.F32,
    torch.float64: Dtype.F64,
    torch.float16: Dtype.F16,
    torch.bfloat16: Dtype.BF16,
}
SUPPORTED = (
    "gradecho watches DistributedDataParallel, modules sharded by "
    "fully_shard(), and modules that are not distributed"
)

# receive(layer, gradient); returns nothing, which leaves the gradient as it is
Receive = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Weight:
    """A trainable parameter: how it is called, and where it lives."""

    layer: Layer
    parameter: nn.Parameter
    owner: nn.Module
    attribute: str


@dataclass
class Hooks:
    """Hooks of one purpose, removed together."""

    handles: list[Any] = field(default_factory=list)

    def remove(self) -> None:
        while self.handles:
            self.handles.pop().remove()


class Model:
    """A module, seen as layers. `kind` is "ddp", "sharded" or "plain"."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.kind = _kind(module)

    def rank_and_world(self) -> tuple[int, int]:
        if not (dist.is_available() and dist.is_initialized()):
            return 0, 1
        group = getattr(self.module, "process_group", None)
        return dist.get_rank(group), dist.get_world_size(group)

    def synchronises(self) -> bool | None:
        """Will the backward pass of the coming forward pass end with DDP's
        reduction? None: not DDP."""
        if isinstance(self.module, DistributedDataParallel):
            return bool(self.module.require_backward_grad_sync)
        return None

    def weights(self) -> tuple[list[Weight], list[str]]:
        """The layer table, the same on all ranks: trainable parameters in
        order of named_parameters(), tied ones once; and the names of those
        that cannot be watched, with the reason."""
        inner = self.module
        if isinstance(inner, DistributedDataParallel):
            inner = inner.module
        ignored = getattr(self.module, "parameters_to_ignore", ())
        seen: set[int] = set()
        weights: list[Weight] = []
        refused: list[str] = []
        for prefix, owner in inner.named_modules():
            for attribute, parameter in owner.named_parameters(recurse=False):
                full = f"{prefix}.{attribute}" if prefix else attribute
                if (
                    id(parameter) in seen
                    or not parameter.requires_grad
                    or full in ignored
                ):
                    continue
                seen.add(id(parameter))
                name = full.replace("_orig_mod.", "")  # of torch.compile()
                reason = _unfit(name, parameter)
                if reason:
                    refused.append(f"{name} ({reason})")
                    continue
                layer = _layer(name, parameter)
                weights.append(Weight(layer, parameter, owner, attribute))
        return weights, refused

    def hook(self, weights: Iterable[tuple[int, Weight]], receive: Receive) -> Hooks:
        """Call receive(layer, gradient) whenever a backward pass has the
        gradient of one of these weights."""
        if self.kind == "sharded":
            return _hook_unsharded(self.module, weights, receive)
        return Hooks(
            [
                weight.parameter.register_hook(partial(receive, index))
                for index, weight in weights
                if weight.parameter.requires_grad
            ]
        )


def sentinels(weights: Sequence[Weight]) -> list[tuple[int, Weight]]:
    """A few weights that a backward pass hardly leaves out."""
    chosen = sorted({0, len(weights) // 2, len(weights) - 1})
    return [(index, weights[index]) for index in chosen]


def _hook_unsharded(
    root: nn.Module, weights: Iterable[tuple[int, Weight]], receive: Receive
) -> Hooks:
    """A sharded parameter is whole between the hooks of fully_shard() around
    its module's forward pass: there the whole one is found, whose gradient is
    the one before the reduce-scatter."""
    owned: dict[nn.Module, list[tuple[int, str]]] = {}
    for index, weight in weights:
        owned.setdefault(weight.owner, []).append((index, weight.attribute))
    hooks = Hooks()
    hooked: dict[int, Tensor] = {}

    def find(owner: nn.Module, *_: object) -> None:
        for index, attribute in owned[owner]:
            whole = getattr(owner, attribute)
            if hooked.get(index) is whole or not whole.requires_grad:
                continue
            if hasattr(whole, "to_local"):
                raise TypeError(f"{attribute} is still sharded in forward()")
            hooked[index] = whole
            hooks.handles.append(whole.register_hook(partial(receive, index)))

    for owner in owned:
        hooks.handles.append(owner.register_forward_pre_hook(find))
    if root in owned and not any(
        hasattr(parameter, "to_local") for parameter in root.parameters(recurse=False)
    ):
        find(root)  # its forward pass has begun, too late for its hook
    return hooks


def _kind(module: nn.Module) -> str:
    if isinstance(module, DistributedDataParallel):
        return "ddp"
    if not isinstance(module, nn.Module):
        raise GradechoError(f"{type(module).__name__} is not a module; {SUPPORTED}")
    names = {kind.__name__ for kind in type(module).__mro__}
    if "FSDPModule" in names:
        return "sharded"
    parts = {type(part).__name__ for part in module.modules()}
    for refused in ("FullyShardedDataParallel", "DeepSpeedEngine", "DataParallel"):
        if refused in names | parts:
            raise GradechoError(f"{refused} is not supported; {SUPPORTED}")
    if "DistributedDataParallel" in parts:
        raise GradechoError(
            "a module inside this one is wrapped in DistributedDataParallel: "
            "give that one to gradecho.watch()"
        )
    if any(hasattr(parameter, "to_local") for parameter in module.parameters()):
        raise GradechoError(
            "parameters are DTensors but the module is not sharded by "
            f"fully_shard(); {SUPPORTED}"
        )
    return "plain"


def _unfit(name: str, parameter: nn.Parameter) -> str | None:
    """Why a parameter cannot be a layer."""
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        return "not initialised"
    if parameter.dtype not in DTYPES:
        return str(parameter.dtype)
    if parameter.numel() == 0:
        return "empty"
    if len(name.encode()) > 255:
        return "name longer than 255 bytes"
    return None


def _layer(name: str, parameter: nn.Parameter) -> Layer:
    """As a matrix: a convolution kernel is out x rest, a vector 1 x n."""
    rows = parameter.shape[0] if parameter.dim() > 1 else 1
    return Layer(name, rows, parameter.numel() // rows, DTYPES[parameter.dtype])


class ForwardHook:
    """Calls before(inputs) before each forward pass. It hangs on the model, and
    a copy of the model is not watched."""

    def __init__(self, before: Callable[[Sequence[Any]], None] | None = None) -> None:
        self._before = before

    def register(self, module: nn.Module) -> Any:
        try:
            return module.register_forward_pre_hook(self, with_kwargs=True)
        except TypeError:  # before torch 2.0
            return module.register_forward_pre_hook(self)

    def __call__(
        self,
        module: nn.Module,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any] | None = None,
    ) -> None:
        if self._before is not None:
            self._before((*inputs, *(named or {}).values()))

    def __deepcopy__(self, _: object) -> ForwardHook:
        return ForwardHook()

    def __reduce__(self) -> tuple[type[ForwardHook], tuple[()]]:
        return ForwardHook, ()


def first_dimension(inputs: Sequence[Any]) -> float:
    """Of the first tensor found: by custom the number of examples."""
    for value in inputs:
        if isinstance(value, Tensor):
            return float(value.shape[0]) if value.dim() else 0.0
    return 0.0
