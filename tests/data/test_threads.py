"""Work on many images in threads."""

import functools
import threading

import pytest

from sagan_tf.data import threads


def test_results_come_in_order():
    with threads.in_order(functools.partial(iter, [i, i]) for i in range(50)) as lists:
        assert list(lists) == [[i, i] for i in range(50)]


def test_threads_stop_after_the_item_they_are_at():
    read, has_begun = [], threading.Event()

    def read_slowly():
        for item in range(1000):
            read.append(item)
            has_begun.set()
            yield item
            threading.Event().wait(0.01)

    with pytest.raises(KeyboardInterrupt), threads.in_order([lambda: [0], *[read_slowly] * 100]) as lists:
        next(lists)
        has_begun.wait()
        raise KeyboardInterrupt
    assert 1 <= len(read) < 1000


def test_budget_is_never_exceeded_except_by_one_alone():
    budget, lock, used = threads.Budget(10), threading.Lock(), []
    in_use = [0]

    def work(amount):
        with budget.use(amount):
            with lock:
                in_use[0] += amount
                used.append(in_use[0])
            threading.Event().wait(0.002)
            with lock:
                in_use[0] -= amount

    amounts = [3, 5, 2, 25, 4, 7, 1, 10, 25, 6] * 3
    workers = [threading.Thread(target=work, args=(amount,)) for amount in amounts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert len(used) == len(amounts)
    assert all(total <= 10 or total == 25 for total in used)
