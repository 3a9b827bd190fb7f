"""Dynamic batching: requests that arrive together run as one batch."""

import asyncio
import collections
from dataclasses import dataclass

import numpy as np

from sagan_tf.serving.errors import RequestError


@dataclass
class _Request:
    inputs: dict
    rows: int
    arrival: float
    result: asyncio.Future


class Batcher:
    """Batches the requests for one signature of one version.

    While no batch runs, a request waits at most `limits.batch_timeout` for others. While batches run, only a full
    batch is started in parallel. So a busy server fills its batches without pauses, and the cores have work while
    one batch ends and is answered.

    Create it inside a running event loop.

    Args:
        run: Coroutine function from a dict of arrays to a dict of arrays.
        limits: `Limits`.
        observe: Function of the number of rows, called for each batch.
        can_batch: Whether several requests may run as one batch.
    """

    def __init__(self, run, limits, observe, can_batch=True):
        self._run, self._observe, self._can_batch = run, observe, can_batch
        self._max_rows, self._timeout = limits.max_batch_size, limits.batch_timeout
        self._max_parallel = limits.parallel_batches
        self._max_queued_rows = limits.max_enqueued_batches * limits.max_batch_size
        self._queue, self._queued_rows, self._tasks = collections.deque(), 0, set()
        self._loop, self._timer, self._scheduled, self._closing = asyncio.get_running_loop(), None, None, False

    async def submit(self, inputs, rows):
        """Runs a request, arrays of `rows` rows by name, in a batch; returns its outputs, or raises RequestError."""
        if rows > self._max_rows:
            raise RequestError(f"Task size {rows} is larger than maximum input batch size {self._max_rows}")
        if self._queued_rows + rows > self._max_queued_rows:
            raise RequestError("The batch scheduling queue to which this task was submitted is full", 503)
        request = _Request(inputs, rows, self._loop.time(), self._loop.create_future())
        self._queue.append(request)
        self._queued_rows += rows
        if self._scheduled is None:  # once for all requests that are read in one iteration of the loop
            self._scheduled = self._loop.call_soon(self._start_batches)
        return await request.result

    def stop_waiting(self):
        """From now on no request waits for others."""
        self._closing = True
        self._start_batches()

    async def close(self):
        """Answers the queued requests, then returns. Nothing may be submitted any more."""
        self.stop_waiting()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start_batches(self, finished_task=None):
        """Starts the batches that may start; called when a request arrives, a batch ends or the timeout is over."""
        self._tasks.discard(finished_task)
        self._scheduled = None
        while self._queue and len(self._tasks) < self._max_parallel and self._may_start():
            task = self._loop.create_task(self._run_batch(self._take_batch()))
            self._tasks.add(task)
            task.add_done_callback(self._start_batches)

    def _may_start(self):
        if self._queued_rows >= self._max_rows or self._closing or not self._can_batch:
            return True
        if self._tasks:
            return False
        remaining = self._queue[0].arrival + self._timeout - self._loop.time()
        if remaining > 0 and self._timer is None:
            self._timer = self._loop.call_later(remaining, self._on_timeout)
        return remaining <= 0

    def _on_timeout(self):
        self._timer = None
        self._start_batches()

    def _take_batch(self):
        batch, rows = [], 0
        while self._queue and (self._can_batch or not batch) and rows + self._queue[0].rows <= self._max_rows:
            batch.append(self._queue.popleft())
            rows += batch[-1].rows
        self._queued_rows -= rows
        return batch

    async def _run_batch(self, batch):
        batch = [request for request in batch if not request.result.done()]  # without canceled requests
        if not batch:
            return
        self._observe(sum(request.rows for request in batch))
        try:
            outputs = _split(await self._run(_concatenate(batch)), [request.rows for request in batch])
        except RequestError as error:
            if len(batch) > 1:  # one bad row must not fail the other requests
                for request in batch:
                    await self._run_batch([request])
            else:
                _fail(batch, error)
        except Exception as error:  # of any type: a client waits for the answer
            _fail(batch, error)
        else:
            for request, output in zip(batch, outputs):
                if not request.result.done():
                    request.result.set_result(output)


def _fail(batch, error):
    for request in batch:
        if not request.result.done():
            request.result.set_exception(error)


def _concatenate(batch):
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}


def _split(outputs, rows):
    if len(rows) == 1:
        return [outputs]
    ends = np.cumsum(rows)
    return [{name: array[end - n : end] for name, array in outputs.items()} for n, end in zip(rows, ends)]
