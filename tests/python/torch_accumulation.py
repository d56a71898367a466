"""Scenarios of gradient accumulation: micro-batches as replicas."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch.nn.parallel import DistributedDataParallel as Ddp
from torch.nn.utils import clip_grad_norm_

from gradecho import GradechoError
from torch_support import (
    WORLD,
    Consumer,
    batch,
    gradients,
    loss_of,
    network,
    scenario,
    sgd,
    warned,
)


def accumulate(
    name: str, steps: int, micro: int, sync_all: bool = False, **options: Any
) -> tuple[list[Any], list[list[Any]]]:
    """Train with `micro` micro-batches a step, the loss divided by their
    number: the samples, and the gradients of each micro-batch of each step."""
    consumer = Consumer(name)
    ddp = Ddp(network())
    optimizer, watch = sgd(ddp), consumer.watch(ddp, **options)
    expected = []
    for step in range(steps):
        optimizer.zero_grad()
        truth = []
        for m in range(micro):
            data = batch(step, m)
            truth.append(gradients(ddp.module, lambda x: loss_of(x, data) / micro))  # noqa: B023
            last = sync_all or m == micro - 1
            with nullcontext() if last else ddp.no_sync():
                loss = loss_of(ddp, data)
                watch.loss(loss)
                (loss / micro).backward()
        expected.append(truth)
        optimizer.step()
    return consumer.samples(watch), expected


@scenario
def micro_batches_are_replicas_inside_no_sync() -> None:
    samples, expected = accumulate("auto", 3, 3, loss_divisor=3)
    assert [s.step for s in samples] == [1, 2]  # step 0 told how many
    for sample in samples:
        assert (sample.replicas, sample.batch_size) == (3, 6)
        assert sample.scale == 1 / 3
        for m in range(3):
            sample.same(m, expected[sample.step][m])


@scenario
def accumulation_that_is_declared() -> None:
    for name, sync_all in (("declared", False), ("synced", True)):
        samples, expected = accumulate(
            name, 2, 2, sync_all, accumulation=2, loss_divisor=2
        )
        assert [s.step for s in samples] == [0, 1]
        for sample in samples:
            assert (sample.replicas, sample.scale) == (2, 0.5)
            for m in range(2):
                sample.same(m, expected[sample.step][m])


@scenario
def one_replica_is_the_mean_of_its_micro_batches() -> None:
    samples, expected = accumulate("mean", 2, 3, average=True, loss_divisor=3)
    assert [s.step for s in samples] == [0, 1]
    for sample in samples:
        assert (sample.replicas, sample.batch_size) == (1, 18)
        assert sample.scale == 1.0  # the divided losses add up to the mean
        a, b, c = expected[sample.step]
        sample.same(0, {n: a[n] + b[n] + c[n] for n in a})


@scenario
def one_process_alone_has_replicas_too() -> None:
    consumer = Consumer("alone")
    model = network()
    optimizer, watch = sgd(model), consumer.watch(model, accumulation=4)
    expected = []
    for step in range(3):
        optimizer.zero_grad()
        truth = []
        for m in range(4):
            with watch.micro_batch():
                data = batch(step, m)
                truth.append(gradients(model, lambda x: loss_of(x, data)))  # noqa: B023
                watch.loss(float(m))
                loss_of(model, data).backward()
        expected.append(truth)
        optimizer.step()
    samples = consumer.samples(watch)
    assert [(s.step, s.replicas, s.loss) for s in samples] == [
        (0, 4, 1.5),
        (1, 4, 1.5),
        (2, 4, 1.5),
    ]
    for sample in samples:
        for m in range(4):
            sample.same(m, expected[sample.step][m])


@scenario
def more_micro_batches_than_expected() -> None:
    consumer = Consumer("more")
    ddp = Ddp(network())
    watch = consumer.watch(ddp)
    with warned(1, "accumulation=N"):
        for step, micro in enumerate((1, 3, 2)):
            for m in range(micro):
                last = m == micro - 1
                with nullcontext() if last else ddp.no_sync():
                    loss_of(ddp, batch(step, m)).backward()
    assert [(s.step, s.replicas) for s in consumer.samples(watch)] == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]


@scenario
def the_mean_is_what_ddp_made_of_the_replicas() -> None:
    for name, options in (("sum", {}), ("one", {"average": True})):
        consumer = Consumer(f"mean.{name}")
        ddp = Ddp(network())
        optimizer = sgd(ddp)
        watch = consumer.watch(ddp, accumulation=2, mean=True, **options)
        expected = []
        for step in range(4):
            optimizer.zero_grad()
            for m in range(2):
                with nullcontext() if m else ddp.no_sync():
                    loss_of(ddp, batch(step, m)).backward()
            if step != 2:  # a sample without
                watch.mean()
            expected.append(
                {
                    n: p.grad / (1 if options else 2)
                    for n, p in ddp.module.named_parameters()
                    if p.grad is not None
                }
            )
            clip_grad_norm_(ddp.parameters(), 1e-3)
            optimizer.step()
        samples = consumer.samples(watch)
        assert [s.step for s in samples] == [0, 1, 2, 3]
        for sample, mean in zip(samples, expected):
            handed = sample.step != 2
            assert sample.mean_replicas == handed * WORLD * sample.replicas
            sample.same(sample.replicas, mean if handed else {})


@scenario
def a_mean_needs_room() -> None:
    consumer = Consumer("roomless")
    ddp = Ddp(network())
    optimizer, watch = sgd(ddp), consumer.watch(ddp)
    loss_of(ddp, batch(0)).backward()
    try:
        watch.mean()
    except GradechoError as error:
        assert "mean=True" in str(error)
    else:
        raise AssertionError("not refused")
    optimizer.step()
    assert [s.mean_replicas for s in consumer.samples(watch)] == [0]
