"""The watch: from a training's forward and backward passes to samples.

A micro-batch is what lies between two forward passes of the model, if there
was a backward pass in between; or what lies inside micro_batch(). A step is one
or more micro-batches: up to the one that DDP synchronises, or as many as
`accumulation` says. Its sample is published when the next step begins, since
only then it is certain that the step has no more gradients, and whether the
scaler rejected it.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from gradecho._copy import Copier, later
from gradecho._errors import GradechoError, Place, warn
from gradecho._library import (
    REPLICAS_MAX,
    SESSION_VARIABLE,
    Handoff,
    HandoffError,
    library,
)
from gradecho._model import (
    ForwardHook,
    Hooks,
    Model,
    Weight,
    first_dimension,
    sentinels,
)
from gradecho._options import Options


@dataclass
class Step:
    """A step under way."""

    number: int
    sampled: bool = False
    micro: int = 0  # complete micro-batches
    over: bool = False
    synchronises: bool | None = None  # the micro-batch under way
    accumulated: bool = False  # an earlier one did not synchronise
    scale: Callable[[], float] = lambda: 1.0
    losses: list[Callable[[], float]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)


def start(module: nn.Module, options: Options, place: Place) -> Watch:
    """gradecho.watch(): a watch, which is without effect if it cannot be had."""
    watch = Watch(Model(module), options, place)
    atexit.register(_close_at_exit, weakref.ref(watch))
    return watch


def _close_at_exit(reference: weakref.ref[Watch]) -> None:
    watch = reference()
    if watch is not None:
        watch.close()


class Watch:
    """Hands over the gradients of one model; made by gradecho.watch()."""

    def __init__(self, model: Model, options: Options, place: Place) -> None:
        self._model = model
        self._options = options
        self._place = place  # of the call of gradecho.watch()
        self._rank = 0
        self._session = options.session or os.environ.get(SESSION_VARIABLE, "")
        self._batch_size = options.batch_size
        self._weights: list[Weight] = []
        self._handoff: Handoff | None = None
        self._copier: Copier | None = None
        self._late = 0  # steps passed over while copies were under way
        self._sentinels = Hooks()
        self._taking = Hooks()
        self._next = 0
        self._step: Step | None = None
        self._arrived = False  # a gradient, since the last forward pass
        self._explicit = False  # inside micro_batch()
        self._told: set[str] = set()  # what is told only once
        self._failure: str | None = None
        self._closed = False
        self._samples = self._skipped = 0
        self._forward = Hooks()
        with self._guard():
            self._attach()

    # ---- for the training ----

    @property
    def step(self) -> int:
        """The number of the step under way; set it after a restart from a
        checkpoint, or in each step to use your own numbers. They must
        increase."""
        return self._next if self._step is None else self._step.number

    @step.setter
    def step(self, number: int) -> None:
        if number < 0:
            raise GradechoError(f"step must not be negative: {number}")
        with self._guard():
            if self._arrived and not self._explicit:
                self._end_micro_batch()
            if self._step is not None and self._step.number == number:
                return
            self._finish()
        self._next = number

    def batch(self, size: float) -> None:
        """Say how many examples a micro-batch has, from now on."""
        if not size > 0:
            raise GradechoError(f"the batch size must be positive, not {size}")
        self._batch_size = size

    def loss(self, value: float | Tensor) -> None:
        """Tell the mean loss of the micro-batch under way, before any division.
        Costs nothing in a step that is not sampled, and never waits for a
        GPU."""
        with self._guard():
            if self._step is not None and self._step.sampled:
                self._step.losses.append(later(value))

    def mean(self) -> None:
        """Hand over the mean that DDP's allreduce has left in the gradients, so
        that the monitors need not form it again. Call it after the step's last
        backward pass and before anything changes a gradient: unscaling,
        clipping, the optimizer. Needs gradecho.watch(..., mean=True), and
        `reduce.mean: handoff` at the monitors. Costs nothing in a step that is
        not sampled."""
        if not self._options.mean:
            raise GradechoError("mean() needs gradecho.watch(..., mean=True)")
        with self._guard():
            step = self._step
            if step is not None and step.sampled and self._failure is None:
                self._put_mean(step)

    @contextmanager
    def micro_batch(self) -> Iterator[None]:
        """All backward passes inside make one replica. Needed only where a
        micro-batch has several forward passes, or none through the model."""
        with self._guard():
            if self._arrived:
                self._end_micro_batch()
            if self._model.kind != "ddp":  # there the forward pass tells more
                self._begin_micro_batch()
                if self._options.accumulation is None:
                    self._tell_once(
                        "micro_batch() makes one replica a step: say how many "
                        "a step has by gradecho.watch(..., accumulation=N)"
                    )
        self._explicit = True
        try:
            yield
        finally:
            self._explicit = False
        with self._guard():
            if self._arrived:
                self._end_micro_batch()

    @property
    def samples(self) -> int:
        """Samples handed over so far."""
        return self._samples

    @property
    def skipped(self) -> int:
        """Samples withheld because the scaler rejected their step: a gradient
        had overflowed."""
        return self._skipped

    @property
    def dropped(self) -> int:
        """Samples lost because the earlier ones were not yet copied, or not
        yet taken by the monitor."""
        if self._handoff is None:
            return 0
        return self._handoff.dropped + self._late

    @property
    def failure(self) -> str | None:
        """Why nothing is watched any more; None while all is well."""
        return self._failure

    def close(self) -> None:
        """Hand over the last sample and tell the monitor that there are no
        more. Happens by itself at the end of the process."""
        if self._closed:
            return
        with self._guard():
            if self._arrived and self._step is not None:
                self._end_micro_batch()
            self._finish()
        with self._guard():
            self._release()
        if self._failure is None and not self._samples and not self._skipped:
            self._tell(
                f"session {self._session}: no sample was handed over: no "
                "monitor was attached, or no training step was due"
            )

    # ---- opening and closing ----

    def _attach(self) -> None:
        """What can be said at once; the segment is made at the first step,
        when the parameters are where and what they will be."""
        self._rank, _ = self._model.rank_and_world()
        if not self._session:
            raise HandoffError(
                "no session: start the training by gradecho-run, or say "
                'gradecho.watch(model, session="NAME")'
            )
        library()
        if self._model.kind == "sharded":  # now, as all parameters are sharded
            self._look()
        hook = ForwardHook(self._before_forward)
        self._forward.handles.append(hook.register(self._model.module))

    def _look(self) -> None:
        """Find the layers."""
        self._weights, refused = self._model.weights()
        if refused:
            self._tell(
                f"{len(refused)} parameters are not watched: " + ", ".join(refused[:4])
            )
        if not self._weights:
            raise HandoffError("the model has no trainable parameter")

    def _open(self, replicas: int) -> None:
        rank, world = self._model.rank_and_world()
        self._handoff = Handoff(
            self._session,
            [weight.layer for weight in self._weights],
            rank=rank,
            world=world,
            slots=self._options.slots,
            replicas=replicas,
            mean=self._options.mean,
        )
        self._copier = Copier(self._handoff, self._weights)
        deadline = time.monotonic() + self._options.wait
        while not self._handoff.attached and time.monotonic() < deadline:
            time.sleep(0.01)

    def _release(self) -> None:
        self._closed = True
        for hooks in (self._forward, self._sentinels, self._taking):
            hooks.remove()
        if self._copier is not None:
            self._copier.close()
        if self._handoff is not None:
            self._handoff.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Around all that the training calls or meets: no exception of ours
        gets through, and the first one ends the watch."""
        try:
            yield
        except Exception as error:  # whatever it is, it is not the training's
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            text = str(error)
            if not isinstance(error, HandoffError):
                text = f"{type(error).__name__}: {text}"
            self._failure = " ".join(text.split())
            self._tell(f"{self._failure}; the training goes on unwatched")

    def _tell(self, text: str) -> None:
        """Once for a cause that all ranks share, else with the rank."""
        shared = text.startswith(("no session", "session "))
        if not shared or self._rank == 0:
            warn(text if shared else f"rank {self._rank}: {text}", self._place)

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    # ---- steps and micro-batches ----

    def _before_forward(self, inputs: Sequence[Any]) -> None:
        """The model is about to be called."""
        if self._failure is not None:
            with self._guard():  # not in a gradient's hook, where it happened
                self._release()
        elif torch.is_grad_enabled() and self._model.module.training:
            with self._guard():
                self._look_at_call(inputs)

    def _look_at_call(self, inputs: Sequence[Any]) -> None:
        if self._arrived and not self._explicit:
            self._end_micro_batch()
        step = self._begin_micro_batch()
        step.synchronises = self._model.synchronises()
        if step.sampled and len(step.sizes) <= step.micro:
            size = self._batch_size or first_dimension(inputs)
            if size:
                step.sizes.append(size)

    def _begin_micro_batch(self) -> Step:
        if self._step is not None and self._step.over:
            self._finish()
        if self._step is None:
            self._step = self._begin_step()
        return self._step

    def _begin_step(self) -> Step:
        step = Step(self._next)
        if not self._weights:
            self._look()
        if not self._sentinels.handles:
            self._sentinels = self._model.hook(sentinels(self._weights), self._see)
        if self._handoff is None:
            replicas = self._replicas()
            if replicas is None:
                return step  # count them in this step
            self._open(replicas)
        assert self._handoff is not None
        assert self._copier is not None
        if self._copier.busy:
            self._late += self._handoff.attached
            return step
        step.sampled = self._handoff.begin(step.number)
        if step.sampled:
            self._copier.start()
            step.scale = self._scale()
            if not self._taking.handles:
                self._taking = self._model.hook(enumerate(self._weights), self._take)
        else:
            self._taking.remove()
        return step

    def _replicas(self) -> int | None:
        """How many replicas a step will have; None: not known yet."""
        if self._options.average:
            return 1
        if self._options.accumulation is not None:
            return self._options.accumulation
        return None if self._model.synchronises() is False else 1

    def _end_micro_batch(self) -> None:
        self._arrived = False
        step = self._step
        if step is None:
            return
        step.micro += 1
        declared = self._options.accumulation
        if step.synchronises is None:
            step.over = step.micro >= (declared or 1)
        elif step.synchronises:  # perhaps early: the end of an epoch
            step.over = declared is None or step.accumulated or step.micro >= declared
        else:
            step.accumulated = True
        if step.over and self._handoff is None:
            self._open(min(step.micro, REPLICAS_MAX))

    def _finish(self) -> None:
        """Publish the sample of the step, if it is one."""
        step, self._step = self._step, None
        if step is None:
            return
        self._next = step.number + 1
        if not step.sampled or self._failure is not None:
            return
        assert self._handoff is not None
        assert self._copier is not None
        handoff, now = self._handoff, self._scale()
        if step.micro == 0:
            handoff.cancel()
            return

        def publish() -> None:
            with self._guard():
                self._publish(handoff, step, now)

        self._copier.when_done(publish)

    def _publish(self, handoff: Handoff, step: Step, now: Callable[[], float]) -> None:
        scale = step.scale()
        if now() < scale:  # the scaler backed off: infinities, no step
            handoff.cancel()
            self._skipped += 1
            return
        merged = step.micro if self._options.average else 1
        examples = self._batch_size or 0.0
        if step.sizes:
            examples = sum(step.sizes) / len(step.sizes)
        handoff.publish(
            loss=(
                sum(loss() for loss in step.losses) / len(step.losses)
                if step.losses
                else nan
            ),
            batch_size=examples * merged,
            scale=scale / self._options.loss_divisor * merged,
        )
        self._samples += 1

    def _scale(self) -> Callable[[], float]:
        scaler = self._options.scaler
        if scaler is None:
            return lambda: 1.0
        # get_scale() would wait for the GPU.
        scale = getattr(scaler, "_scale", None) if scaler.is_enabled() else None
        return later(scale if scale is not None else scaler.get_scale())

    # ---- gradients ----

    def _see(self, _: int, gradient: Tensor) -> None:
        self._arrived = True

    def _take(self, layer: int, gradient: Tensor) -> None:
        self._arrived = True
        step = self._step
        if step is None or not step.sampled or self._failure is not None:
            return
        try:  # not _guard(), which takes longer than all of this
            self._put(step, layer, gradient)
        except Exception as error:
            self._fail(error)

    def _put_mean(self, step: Step) -> None:
        assert self._handoff is not None
        assert self._copier is not None
        # A gradient is the sum over the micro-batches of the mean over ranks.
        parts = 1 if self._options.average else step.micro + self._arrived
        if self._model.kind == "sharded":
            self._tell_once("mean() has no effect: fully_shard() leaves no whole mean")
        elif parts <= self._handoff.replicas:  # else not the mean of these
            for layer, weight in enumerate(self._weights):
                gradient = weight.parameter.grad
                if gradient is not None:
                    self._copier.put_mean(layer, gradient.detach(), parts)

    def _put(self, step: Step, layer: int, gradient: Tensor) -> None:
        assert self._handoff is not None
        assert self._copier is not None
        replica = 0 if self._options.average else step.micro
        if replica < self._handoff.replicas:
            self._copier.put(replica, layer, gradient)
        else:
            self._tell_once(
                f"a step has more than {self._handoff.replicas} micro-batches, "
                "of which the others are not measured: say how many there are by "
                "gradecho.watch(..., accumulation=N)"
            )
