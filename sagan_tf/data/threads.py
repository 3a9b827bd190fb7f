"""Work on many images in threads, whose results come in order and are few at a time."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os

NUM_THREADS = os.cpu_count() or 1
TOGETHER = 64  # Images that a thread works on at a time.


@contextlib.contextmanager
def in_order(functions):
    """Calls functions in threads, a few in advance; what has not begun at the end of the block is left out.

    Args:
        functions: Iterable of functions without arguments; it is advanced in this thread.

    Yields:
        Iterator of their results.
    """

    def results():
        waiting = collections.deque()
        for function in functions:
            waiting.append(threads.submit(function))
            if len(waiting) > 2 * NUM_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    threads = concurrent.futures.ThreadPoolExecutor(NUM_THREADS)
    try:
        yield results()
    finally:
        threads.shutdown(cancel_futures=True)
