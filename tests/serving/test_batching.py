"""The batcher with a function that records its batches, and through the server."""

import asyncio
import base64
import selectors

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.servers import call_in_threads, make_request, running

from sagan_tf.serving.batching import Batcher
from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.limits import Limits


class Recorder:
    """Doubles its input, rejects negative numbers, and records its batches."""

    def __init__(self, seconds=0.0):
        self.batches, self.seconds = [], seconds

    async def __call__(self, inputs):
        self.batches.append(inputs["x"].tolist())
        await asyncio.sleep(self.seconds)
        if (inputs["x"] < 0).any():
            raise RequestError("negative")
        return {"y": 2 * inputs["x"]}


class Clock(selectors.DefaultSelector):
    """A selector that moves a clock instead of waiting."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0
        return super().select(0)


def run_simulated(main):
    """As `asyncio.run`, with time that passes only in waiting."""
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


def submit_all(groups, run, can_batch=True, **limits):
    """Returns results or exceptions of requests submitted at once, and the observed batch sizes."""
    observed = []

    async def main():
        batcher = Batcher(run, Limits(**{"batch_timeout": 0.01} | limits), observed.append, can_batch)
        requests = (batcher.submit({"x": np.array(group)}, len(group)) for group in groups)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        await batcher.close()
        return answers

    return run_simulated(main()), observed


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=20), st.integers(6, 12))
def test_batcher_returns_own_rows_from_full_batches(groups, most):
    run = Recorder()
    answers, observed = submit_all(groups, run, max_batch_size=most)
    assert [answer["y"].tolist() for answer in answers] == [[2 * x for x in group] for group in groups]
    assert [x for batch in run.batches for x in batch] == [x for group in groups for x in group]  # in order
    assert observed == [len(batch) for batch in run.batches] and max(observed) <= most
    # No two neighboring batches would fit into one.
    assert all(a + b > most for a, b in zip(observed, observed[1:]))


def test_batcher_fails_only_the_bad_request():
    (first, second, third), _ = submit_all([[1], [-1], [2, 3]], Recorder())
    assert first["y"].tolist() == [2] and third["y"].tolist() == [4, 6]
    assert isinstance(second, RequestError) and str(second) == "negative"


def test_batcher_raises_error_for_all_requests_of_the_batch():
    async def broken(inputs):
        raise MemoryError("none left")

    answers, _ = submit_all([[1], [2]], broken)
    assert [str(answer) for answer in answers] == ["none left"] * 2


def test_batcher_runs_requests_singly_when_they_cannot_be_batched():
    run = Recorder()
    submit_all([[1], [2], [3]], run, can_batch=False)
    assert run.batches == [[1], [2], [3]]


def test_batcher_rejects_large_request_and_full_queue():
    answers, _ = submit_all([[0] * 5, [0] * 4, [0] * 4, [0]], Recorder(), max_batch_size=4, max_enqueued_batches=2)
    assert [isinstance(answer, RequestError) for answer in answers] == [True, False, False, True]
    assert answers[0].status == 400 and answers[3].status == 503


def test_batcher_starts_single_request_after_timeout():
    async def main():
        batcher = Batcher(Recorder(), Limits(batch_timeout=0.2), lambda rows: None)
        start = asyncio.get_running_loop().time()
        await batcher.submit({"x": np.array([1])}, 1)
        took = asyncio.get_running_loop().time() - start
        await batcher.close()
        return took

    assert run_simulated(main()) == pytest.approx(0.2)


def test_batcher_starts_next_batch_at_once_when_timeout_is_over():
    run = Recorder(seconds=0.6)

    async def main():
        batcher = Batcher(run, Limits(batch_timeout=0.6, max_batch_size=2), lambda rows: None)
        start = asyncio.get_running_loop().time()
        full = [asyncio.create_task(batcher.submit({"x": np.array([i])}, 1)) for i in range(3)]
        await asyncio.gather(*full)
        took = asyncio.get_running_loop().time() - start
        await batcher.close()
        return took

    assert run_simulated(main()) == pytest.approx(1.2)  # 1.8 if the timeout were repeated
    assert run.batches == [[0, 1], [2]]


@pytest.mark.parametrize("parallel, most", [(1, 1), (2, 2), (3, 3), (9, 5)])
def test_batcher_runs_only_full_batches_in_parallel(parallel, most):
    running, seen = [], []

    async def run(inputs):
        running.append(len(inputs["x"]))
        seen.append(list(running))
        await asyncio.sleep(0.05)
        running.remove(len(inputs["x"]))
        return inputs

    answers, observed = submit_all([[i] for i in range(11)], run, max_batch_size=2, parallel_batches=parallel)
    assert [answer["x"].tolist() for answer in answers] == [[i] for i in range(11)]
    assert observed == [2] * 5 + [1] and max(map(len, seen)) == most
    assert seen[-1] == [1]  # a batch that is not full waits until none runs


def test_batcher_skips_canceled_request():
    run = Recorder()

    async def main():
        batcher = Batcher(run, Limits(batch_timeout=0.05), lambda rows: None)
        canceled = asyncio.create_task(batcher.submit({"x": np.array([1])}, 1))
        other = asyncio.create_task(batcher.submit({"x": np.array([2])}, 1))
        await asyncio.sleep(0)
        canceled.cancel()
        answer = await other
        await batcher.close()
        return answer

    assert run_simulated(main())["y"].tolist() == [4] and run.batches == [[2]]


def test_batcher_close_answers_queued_requests():
    async def main():
        batcher = Batcher(Recorder(0.05), Limits(batch_timeout=10, max_batch_size=2), lambda rows: None)
        waiting = [asyncio.create_task(batcher.submit({"x": np.array([i])}, 1)) for i in range(5)]
        await asyncio.sleep(0)
        await batcher.close()
        return [task.result()["y"].tolist() for task in waiting]

    assert run_simulated(main()) == [[0], [2], [4], [6], [8]]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_server_batches_concurrent_clients_with_results_of_single_calls(version_1, call, protocol):
    def inputs_of(i):
        return {
            "seed": np.array([i, i + 1000]), "label": np.array([i % 5, 0], np.int32),
            "truncation": np.array([1, 2], np.float32),
        }  # fmt: skip

    limits = Limits(batch_timeout=60, max_batch_size=8)  # all batches become full
    with running(version_1.parent, limits) as server, server.stubs() as (predictions, _):

        def by_rest(i):
            columns = {name: array.tolist() for name, array in inputs_of(i).items()}
            answer = server.predict({"signature_name": "sample", "inputs": columns})
            return [base64.b64decode(one["b64"]) for one in answer.json["outputs"]]

        def by_grpc(i):
            answer = predictions.Predict(make_request("sample", **inputs_of(i)), timeout=20)
            return list(answer.outputs["image_bytes"].string_val)

        answers = call_in_threads(by_rest if protocol == "rest" else by_grpc, range(96))
        counted = server.metrics()
    assert answers == [call["sample"](**inputs_of(i))["image_bytes"].tolist() for i in range(96)]
    rows, batches = (counted[f"sagan_serving_batch_rows_{what}", "sagan", "sample"] for what in ("sum", "count"))
    assert (rows, batches) == (192, 24)
