"""Gradients into the shared memory: at once from host memory, on a side stream
from a GPU.

On a GPU nothing here makes the training's stream wait. A gradient is kept
until it is copied: autograd then gives the parameter a copy of its own, which
DDP and the optimizer may overwrite. For that it must be the very tensor that
autograd has; a detach()ed one would share memory that is given to the parameter
all the same. This takes the memory of one gradient while the copies run.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gradecho._library import Handoff
from gradecho._model import Weight

Key = tuple[int, int]  # replica, layer
MEAN = -1  # in place of a replica


class Copier:
    """Writes the gradients of one handoff; one sample at a time."""

    def __init__(self, handoff: Handoff, weights: Sequence[Weight]) -> None:
        self._handoff = handoff
        self._shapes = [weight.parameter.shape for weight in weights]
        self._dtypes = [weight.parameter.dtype for weight in weights]
        self._places: dict[int, Tensor] = {}
        self._written: set[Key] = set()
        self._gpu: _SideStreams | None = None
        self._lock = threading.Lock()  # one autograd thread for each device

    def start(self) -> None:
        """A sample was begun."""
        self._written.clear()

    def put(self, replica: int, layer: int, gradient: Tensor) -> None:
        """Write a gradient; add it, if there is one of that replica already."""
        key = replica, layer
        with self._lock:
            again = key in self._written
            self._written.add(key)
            if (
                not again
                and gradient.is_cpu
                and not gradient.is_sparse
                and gradient.dtype is self._dtypes[layer]
                and gradient.is_contiguous()
            ):
                self._handoff.write(replica, layer, gradient.data_ptr())
            else:
                with torch.no_grad():
                    self._put_by_torch(key, gradient, again)

    def put_mean(self, layer: int, total: Tensor, parts: int) -> None:
        """Write the mean, a total of so many parts that has been reduced."""
        with self._lock, torch.no_grad():
            # What lies on a GPU is copied later, when clipping or the optimizer
            # may have changed it.
            if parts > 1 or total.is_cuda:
                total = total / parts
            if (
                total.is_cpu
                and not total.is_sparse
                and total.dtype is self._dtypes[layer]
                and total.is_contiguous()
            ):
                self._handoff.write_mean(layer, total.data_ptr())
            else:
                self._put_by_torch((MEAN, layer), total, again=False)

    def _put_by_torch(self, key: Key, gradient: Tensor, again: bool) -> None:
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        place = self._place(*key)
        if gradient.is_cuda:
            self._gpu = self._gpu or _SideStreams()
            self._gpu.put(key, place, gradient, again)
        elif not gradient.is_cpu:
            raise TypeError(
                f"gradients on {gradient.device} are not supported, only those "
                "in host memory or on a CUDA device"
            )
        elif again:
            place.add_(gradient)
        else:
            place.copy_(gradient)

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then` when the sample's copies have arrived: now, or in a
        thread of ours. Until then `busy` is true."""
        if self._gpu is None or not self._gpu.pending:
            then()
        else:
            self._gpu.when_done(then)

    @property
    def busy(self) -> bool:
        return self._gpu is not None and self._gpu.busy

    def close(self) -> None:
        """Wait for the copies under way, before the memory goes."""
        if self._gpu is not None:
            self._gpu.close()
        self._places.clear()

    def _place(self, replica: int, layer: int) -> Tensor:
        """The gradient's place as a tensor; there is one for each slot."""
        if replica == MEAN:
            address = self._handoff.place_mean(layer)
        else:
            address = self._handoff.place(replica, layer)
        place = self._places.get(address)
        if place is None:
            shape, dtype = self._shapes[layer], self._dtypes[layer]
            count = shape.numel()
            size = torch.empty((), dtype=dtype).element_size() * count
            memory = (ctypes.c_char * size).from_address(address)
            place = torch.frombuffer(memory, dtype=dtype, count=count)
            place = self._places[address] = place.view(shape)
        return place


class _SideStreams:
    """Copies from the GPUs of this process, each on a stream of its own."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._locked: list[tuple[int, int]] = []  # page-locked, [from, to)
        self._kept: dict[Key, Tensor] = {}
        self._waiting: queue.SimpleQueue[Callable[[], None] | None]
        self._waiting = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gradecho", daemon=True)
        self._thread.start()
        self.busy = False

    @property
    def pending(self) -> bool:
        return bool(self._kept)

    def put(self, key: Key, place: Tensor, gradient: Tensor, again: bool) -> None:
        self._lock_pages(place.data_ptr())
        stream = self._streams.get(gradient.device)
        if stream is None:
            stream = torch.cuda.Stream(gradient.device)
            self._streams[gradient.device] = stream
        if again:  # on the training's stream, where both were made
            gradient = self._kept[key] + gradient
        self._kept[key] = gradient
        stream.wait_stream(torch.cuda.current_stream(gradient.device))
        with torch.cuda.stream(stream):
            place.copy_(gradient, non_blocking=True)
        # Its memory may be given away only when this stream has read it.
        gradient.record_stream(stream)

    def when_done(self, then: Callable[[], None]) -> None:
        events = [stream.record_event() for stream in self._streams.values()]
        self.busy = True

        def arrive() -> None:
            for event in events:
                event.synchronize()
            self._kept.clear()
            try:
                then()
            finally:
                self.busy = False

        self._waiting.put(arrive)

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        for stream in self._streams.values():
            stream.synchronize()
        self._kept.clear()
        for start, _ in self._locked:
            torch.cuda.cudart().cudaHostUnregister(start)
        self._locked.clear()

    def _run(self) -> None:
        while True:
            arrive = self._waiting.get()
            if arrive is None:
                return
            arrive()

    def _lock_pages(self, address: int) -> None:
        """Page-lock the segment around an address, once: only then is a copy
        asynchronous."""
        if any(start <= address < end for start, end in self._locked):
            return
        start, end = _mapping(address)
        portable = 1  # for all devices of this process
        error = torch.cuda.cudart().cudaHostRegister(start, end - start, portable)
        if int(error) != 0:
            raise RuntimeError(
                f"the segment's {end - start} bytes cannot be page-locked "
                f"(CUDA error {int(error)})"
            )
        self._locked.append((start, end))


def _mapping(address: int) -> tuple[int, int]:
    """The mapping of this process that contains an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(x, 16) for x in line.split(maxsplit=1)[0].split("-"))
        if start <= address < end:
            return start, end
    raise RuntimeError("the segment is not mapped")


def later(value: float | Tensor) -> Callable[[], float]:
    """A number to be read later, without waiting for a GPU now."""
    if not isinstance(value, Tensor):
        return lambda: float(value)
    value = value.detach()
    if not value.is_cuda:
        number = float(value)  # now: it may be overwritten
        return lambda: number
    with torch.cuda.device(value.device):
        host = torch.empty((), dtype=value.dtype, pin_memory=True)
        host.copy_(value.reshape(()), non_blocking=True)
        event = torch.cuda.Event()
        event.record()

    def read() -> float:
        event.synchronize()
        return float(host)

    return read
