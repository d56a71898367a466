"""Trainings that test_torch.py starts, one process for each rank."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel as Ddp

import gradecho
from torch_support import (
    IS_2,
    SHAPES,
    Consumer,
    Net,
    batch,
    gradients,
    loss_of,
    main,
    network,
    scenario,
    sgd,
    warned,
)


def train_step(model: nn.Module, optimizer: Any, step: int) -> None:
    optimizer.zero_grad()
    loss_of(model, batch(step)).backward()
    optimizer.step()


# ---- DDP's ways to synchronise ----


def bf16_hook(state, bucket):  # type: ignore  # (DDP reads annotations)
    """As DDP's own, which it refuses on a CPU."""
    buffer = bucket.buffer()
    small = buffer.to(torch.bfloat16).to(buffer).div_(dist.get_world_size())
    done = dist.all_reduce(small, async_op=True).get_future()
    return done.then(lambda future: buffer.copy_(future.value()[0]))


def follow(name: str, hook: Any = None, **options: Any) -> None:
    """Five steps, each rank's gradient before the reduction."""
    consumer = Consumer(name)
    ddp = Ddp(network(), **options)
    if hook is not None:
        ddp.register_comm_hook(None, hook)
    optimizer = sgd(ddp)
    watch = consumer.watch(ddp)
    expected = []
    for step in range(5):
        expected.append(
            gradients(ddp.module, lambda m: loss_of(m, batch(step)))  # noqa: B023
        )
        train_step(ddp, optimizer, step)
    samples = consumer.samples(watch)
    assert [s.step for s in samples] == [0, 1, 2, 3, 4]
    for sample, truth in zip(samples, expected):
        assert (sample.replicas, sample.batch_size, sample.scale) == (1, 6, 1)
        sample.same(0, truth)
        assert {n: tuple(g.shape) for n, g in sample.data[0].items()} == SHAPES
        assert list(sample.data[0]) == list(SHAPES)


@scenario
def plain_ddp() -> None:
    follow("plain")


@scenario
def bucket_views_and_rebuilt_buckets() -> None:
    follow("views", gradient_as_bucket_view=True, bucket_cap_mb=0.001)


@scenario
def static_graph() -> None:
    follow("static", static_graph=True)


@scenario
def find_unused_parameters() -> None:
    follow("unused", find_unused_parameters=True)


@scenario
def fp16_compression() -> None:
    follow("fp16", default_hooks.fp16_compress_hook)


@scenario
def bf16_compression() -> None:
    follow("bf16", bf16_hook)


@scenario
def a_branch_that_is_not_used_is_missing() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(36, 10) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            branch = self.a if self.turn % 2 else self.b
            y: Tensor = branch(x.flatten(1)) + self.c(x.flatten(1))
            return y

    torch.manual_seed(0)
    consumer = Consumer("branches")
    ddp = Ddp(Branches(), find_unused_parameters=True)
    optimizer, watch = sgd(ddp), consumer.watch(ddp)
    for step in range(4):
        ddp.module.turn = step
        train_step(ddp, optimizer, step)
    used = [set(s.data[0]) for s in consumer.samples(watch)]
    both = {"c.weight", "c.bias"}
    assert used == [both | {f"{n}.weight", f"{n}.bias"} for n in "baba"]


# ---- which steps, and what is told of them ----


@scenario
def only_steps_that_are_due() -> None:
    consumer = Consumer("due", every=3)
    ddp = Ddp(network())
    optimizer, watch = sgd(ddp), consumer.watch(ddp, batch_size=7)
    expected = {}
    for step in range(8):
        if step % 3 == 0:
            expected[step] = gradients(
                ddp.module,
                lambda m: loss_of(m, batch(step)),  # noqa: B023
            )
        train_step(ddp, optimizer, step)
        assert bool(watch._taking.handles) == (step % 3 == 0)
        watch.loss(torch.tensor(0.5 + step))
        with torch.no_grad():
            loss_of(ddp, batch(step))  # no training step
        ddp.eval()
        loss_of(ddp.module, batch(step))
        ddp.train()
    samples = consumer.samples(watch)
    assert [s.step for s in samples] == [0, 3, 6]
    for sample in samples:
        sample.same(0, expected[sample.step])
        assert (sample.loss, sample.batch_size) == (0.5 + sample.step, 7)


@scenario
def numbers_of_the_trainings_own() -> None:
    consumer = Consumer("numbers", every=10)
    ddp = Ddp(network())
    optimizer, watch = sgd(ddp), consumer.watch(ddp)
    for step in (100, 105, 110, 111, 120):
        watch.step = step
        assert watch.step == step
        train_step(ddp, optimizer, step)
    assert [s.step for s in consumer.samples(watch)] == [100, 110, 120]


@scenario
def two_forward_passes_and_two_backward_passes_are_one_gradient() -> None:
    consumer = Consumer("twice")
    model = network()
    watch = consumer.watch(model)

    def loss(m: nn.Module) -> Tensor:
        return loss_of(m, batch(0)) + loss_of(m, batch(0, 1))

    expected = gradients(model, loss)
    one = model(batch(0)[0])
    two = model(batch(0, 1)[0])
    nn.functional.cross_entropy(two, batch(0, 1)[1]).backward()
    nn.functional.cross_entropy(one, batch(0)[1]).backward()
    (sample,) = consumer.samples(watch)
    for name, gradient in expected.items():
        got = sample.data[0][name].view(gradient.shape)
        torch.testing.assert_close(got, gradient, rtol=1e-5, atol=1e-7)


# ---- precision, scaling, memory formats ----


@scenario
def half_precision_is_handed_over_as_it_is() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        consumer = Consumer(f"dtype-{str(dtype)[6:]}")
        model = network().to(dtype)
        watch = consumer.watch(model)
        x, y = batch(0)
        data = x.to(dtype), y
        expected = gradients(model, lambda m: loss_of(m, data))  # noqa: B023
        assert all(g.dtype is dtype for g in expected.values())
        loss_of(model, data).backward()
        (sample,) = consumer.samples(watch)
        sample.same(0, expected)


@scenario
def gradients_that_are_not_contiguous() -> None:
    consumer = Consumer("strides")
    model = network().to(memory_format=torch.channels_last)
    model.conv = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    watch = consumer.watch(model)
    strides = []
    model.conv.weight.register_hook(lambda g: strides.append(g.is_contiguous()))

    def loss(m: Net) -> Tensor:
        x = batch(0)[0].expand(-1, 4, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        return m(x).sum() + m.scale.expand(5).sum() + m.mix.bias.sum()

    expected = gradients(model, loss)
    strides.clear()
    loss(model).backward()
    assert strides == [False]
    (sample,) = consumer.samples(watch)
    sample.same(0, expected)


class Scaler:
    """As far as gradecho looks at a GradScaler."""

    def __init__(self) -> None:
        self.scale = 1024.0

    def is_enabled(self) -> bool:
        return True

    def get_scale(self) -> float:
        return self.scale


@scenario
def steps_that_overflowed_are_withheld() -> None:
    consumer = Consumer("overflow")
    model, scaler = network(), Scaler()
    watch = consumer.watch(model, scaler=scaler)
    for step in range(4):
        (loss_of(model, batch(step)) * scaler.scale).backward()
        if step in (1, 2):
            scaler.scale /= 2
    samples = consumer.samples(watch)
    assert [(s.step, s.scale) for s in samples] == [(0, 1024), (3, 256)]
    assert watch.skipped == 2


@scenario
def a_real_scaler() -> None:
    if not IS_2:  # on a CPU it is always disabled
        return
    consumer = Consumer("scaler")
    ddp = Ddp(network())
    optimizer = sgd(ddp)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    watch = consumer.watch(ddp, scaler=scaler)
    for step in range(4):
        optimizer.zero_grad()
        bad = float("inf") if step == 2 else 1.0
        scaler.scale(loss_of(ddp, batch(step)) * bad).backward()
        scaler.step(optimizer)
        scaler.update()
    samples = consumer.samples(watch)
    assert [(s.step, s.scale) for s in samples] == [(0, 64), (1, 64), (3, 32)]
    assert watch.skipped == 1


# ---- never in the way ----


def weights_after(steps: int, watch: Any, model: nn.Module) -> list[Tensor]:
    ddp = Ddp(model)
    watching = watch(ddp)
    optimizer = sgd(ddp)
    for step in range(steps):
        train_step(ddp, optimizer, step)
    if watching is not None:
        watching.close()
    return [p.detach().clone() for p in ddp.parameters()]


def same_weights(
    steps: int, watch: Any, model: nn.Module, bare: list[Tensor] | None = None
) -> list[Tensor]:
    """The weights after training with and without a watch are the same."""
    twin = copy.deepcopy(model)
    bare = bare or weights_after(steps, lambda _: None, twin)
    got = weights_after(steps, watch, model)
    assert len(got) == len(bare)
    assert all(map(torch.equal, got, bare))
    return bare


@scenario
def weights_are_the_same_bit_for_bit() -> None:
    consumer = Consumer("same")
    bare = same_weights(50, lambda m: consumer.watch(m), network())
    assert consumer.process.wait(30) == 0
    for name, text in (
        ("torch-nobody", "no monitor was attached"),
        (None, "no session"),
    ):
        with warned(1 if dist.get_rank() == 0 else 0, text):
            same_weights(50, lambda m: gradecho.watch(m, name), network(), bare)  # noqa: B023


@scenario
def shared_memory_that_is_too_small() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 100_000), nn.Linear(100_000, 10))
    with warned(1, "fewer slots"):  # 64 slots of 1024 replicas: a terabyte
        same_weights(
            5,
            lambda m: gradecho.watch(m, "torch-full", accumulation=1024, slots=64),
            model,
        )


@scenario
def arguments_that_cannot_be_meant() -> None:
    bad: list[dict[str, Any]] = [
        {"accumulation": 0},
        {"accumulation": 1025},
        {"loss_divisor": 0},
        {"loss_divisor": float("nan")},
        {"batch_size": -1},
        {"slots": 1},
        {"scaler": 1024.0},
        {"model": "network"},
        {"model": nn.Sequential(Ddp(network()))},
    ]
    for options in bad:
        model = options.pop("model", network())
        try:
            gradecho.watch(model, "torch-never", **options)
        except gradecho.GradechoError as error:
            assert "\n" not in str(error)
        else:
            raise AssertionError(options)


@scenario
def a_fault_of_ours_is_one_warning() -> None:
    consumer = Consumer("fault")

    def broken(ddp: Ddp) -> Any:
        watch = consumer.watch(ddp)
        take = watch._take

        def fail(layer: int, gradient: Tensor) -> None:
            if watch._step and watch._step.number == 2 and layer == 3:
                watch._copier._handoff = None
            take(layer, gradient)

        watch._take = fail
        return watch

    with warned(1, "the training goes on unwatched"):
        same_weights(6, broken, network())
    assert consumer.process.wait(30) == 0


@scenario
def copies_of_a_model_are_not_watched() -> None:
    consumer = Consumer("copies")
    model = network()
    watch = consumer.watch(model)
    loss_of(model, batch(0)).backward()
    twin = copy.deepcopy(model)
    loss_of(twin, batch(0)).backward()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, **({"weights_only": False} if IS_2 else {}))
    loss_of(loaded, batch(0)).backward()
    loss_of(pickle.loads(pickle.dumps(model)), batch(0)).backward()
    samples = consumer.samples(watch)
    assert [s.step for s in samples] == [0]
    samples[0].same(0, gradients(model, lambda m: loss_of(m, batch(0))))


if __name__ == "__main__":
    for more in ("accumulation", "side_stream", *(["sharded"] if IS_2 else [])):
        importlib.import_module(f"torch_{more}")
    main(sys.argv[1:])
