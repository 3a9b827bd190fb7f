"""Requests that arrive together are run together; each gets what it would have got alone."""

import asyncio
import collections
from dataclasses import dataclass

import numpy as np

from sagan_tf.serving.problems import RequestProblem


@dataclass
class _Waiting:
    inputs: dict
    rows: int
    arrived: float
    answer: asyncio.Future


class Batcher:
    """Collects the requests for one signature of one version.

    A request to an idle batcher waits for others for `limits.batch_timeout` at most; one that has waited that long
    while a batch ran waits no more. Beside a batch that runs only a full one is started: so a busy server fills its
    batches without pausing, and its cores have work while one batch ends and is answered.

    Made inside a running event loop.

    Args:
        run: Coroutine function of a dict of arrays that gives a dict of arrays.
        limits: Limits.
        observe: Function of the rows of each batch.
        joins: Whether several requests may be run together.
    """

    def __init__(self, run, limits, observe, joins=True):
        self._run, self._observe, self._joins = run, observe, joins
        self._max_rows, self._timeout, self._parallel = (
            limits.max_batch_size, limits.batch_timeout, limits.parallel_batches
        )  # fmt: skip
        self._max_waiting_rows = limits.max_enqueued_batches * limits.max_batch_size
        self._waiting, self._rows, self._running = collections.deque(), 0, set()
        self._loop, self._timer, self._look, self._closing = asyncio.get_running_loop(), None, None, False

    async def submit(self, inputs, rows):
        """Runs a request in some batch.

        Args:
            inputs: dict, name -> array of `rows` rows.
            rows: int.

        Returns:
            dict, name -> array of `rows` rows.

        Raises:
            RequestProblem: It is refused.
        """
        if rows > self._max_rows:
            raise RequestProblem(f"Task size {rows} is larger than maximum input batch size {self._max_rows}")
        if self._rows + rows > self._max_waiting_rows:
            raise RequestProblem("The batch scheduling queue to which this task was submitted is full", 503)
        waiting = _Waiting(inputs, rows, self._loop.time(), self._loop.create_future())
        self._waiting.append(waiting)
        self._rows += rows
        if self._look is None:  # once for all requests that are read in one turn of the loop
            self._look = self._loop.call_soon(self._start_what_can)
        return await waiting.answer

    async def close(self):
        """Answers what waits, then ends. Nothing may be submitted any more."""
        self._closing = True
        self._start_what_can()
        while self._running:
            await asyncio.wait(self._running)

    def _start_what_can(self, ended=None):
        # Called whenever something has changed: a request has come, a batch has ended, the time is over.
        self._running.discard(ended)
        self._look = None
        while self._waiting and len(self._running) < self._parallel and self._is_time():
            task = self._loop.create_task(self._answer(self._take()))
            self._running.add(task)
            task.add_done_callback(self._start_what_can)

    def _is_time(self):
        if self._rows >= self._max_rows or self._closing or not self._joins:
            return True
        if self._running:
            return False
        left = self._waiting[0].arrived + self._timeout - self._loop.time()
        if left > 0 and self._timer is None:
            self._timer = self._loop.call_later(left, self._end_of_waiting)
        return left <= 0

    def _end_of_waiting(self):
        self._timer = None
        self._start_what_can()

    def _take(self):
        batch, rows = [], 0
        while self._waiting and (self._joins or not batch) and rows + self._waiting[0].rows <= self._max_rows:
            batch.append(self._waiting.popleft())
            rows += batch[-1].rows
        self._rows -= rows
        return batch

    async def _answer(self, batch):
        batch = [request for request in batch if not request.answer.done()]  # whoever hung up
        if not batch:
            return
        self._observe(sum(request.rows for request in batch))
        try:
            parts = _split(await self._run(_joined(batch)), [request.rows for request in batch])
        except RequestProblem as problem:
            if len(batch) > 1:  # one bad row must not fail the others
                for request in batch:
                    await self._answer([request])
            else:
                _fail(batch, problem)
        except Exception as error:  # whatever it is, somebody waits for it
            _fail(batch, error)
        else:
            for request, part in zip(batch, parts):
                if not request.answer.done():
                    request.answer.set_result(part)


def _fail(batch, error):
    for request in batch:
        if not request.answer.done():
            request.answer.set_exception(error)


def _joined(batch):
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}


def _split(outputs, rows):
    if len(rows) == 1:
        return [outputs]
    ends = np.cumsum(rows)
    return [{name: array[end - n : end] for name, array in outputs.items()} for n, end in zip(rows, ends)]
