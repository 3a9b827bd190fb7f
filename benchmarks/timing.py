"""Interleaved timing of functions, so that other load on the machine affects all of them alike."""

import time

import numpy as np

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def interleaved_medians(functions, rounds, warm_up=2, clock=time.perf_counter):
    """Calls each function once per round; returns name -> median seconds without the warm-up rounds."""
    times = {name: [] for name in functions}
    for round_number in range(warm_up + rounds):
        for name, function in functions.items():
            start = clock()
            function()
            if round_number >= warm_up:
                times[name].append(clock() - start)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def set_threads(count):
    """Limits TensorFlow to `count` threads, within and between operations."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
