"""Work on many images in threads, whose results come in order and are few at a time."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import threading

# Of the cores that this process may use, where the system says which.
NUM_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TOGETHER = 64  # Images that a thread works on at a time.


@contextlib.contextmanager
def in_order(functions):
    """Calls functions in threads, a few in advance; at the end of the block each stops after the item it is at.

    Args:
        functions: Iterable of functions without arguments that return an iterable; it is advanced in this thread.

    Yields:
        Iterator of lists, the items of each.
    """
    is_over = threading.Event()

    def collect(function):
        items = []
        for item in function():
            if is_over.is_set():
                break
            items.append(item)
        return items

    def results():
        waiting = collections.deque()
        for function in functions:
            waiting.append(threads.submit(collect, function))
            if len(waiting) > 2 * NUM_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    threads = concurrent.futures.ThreadPoolExecutor(NUM_THREADS)
    try:
        yield results()
    finally:
        is_over.set()
        threads.shutdown(cancel_futures=True)


class Budget:
    """Limits what threads use at the same time of something that they use in different amounts.

    Args:
        total: int >= 1. One that needs more than all of it waits until it is alone.
    """

    def __init__(self, total):
        self._total, self._used, self._changed = total, 0, threading.Condition()

    @contextlib.contextmanager
    def use(self, amount):
        """Waits until this amount is free, and holds it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()
