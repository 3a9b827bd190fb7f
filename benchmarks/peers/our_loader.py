"""Batches of prepared pictures, shuffled, as our training step gets them: a contender of `data_loading.py`.

    python benchmarks/peers/our_loader.py '{"data": "prepared", "image_size": 128, "batch": 64}' [start]

With `start`, prints the seconds from opening to the first batch, and the growth of the memory, instead.
"""

import json
import sys
import time

from turns import resident_mib, say, take_turns

from sagan_tf.data.options import DataOptions
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import open_source


def open_batches(settings):
    # Nothing in memory, as of a data set that does not fit.
    options = DataOptions(name=settings["data"], image_size=settings["image_size"], memory_limit_gib=0.0)
    source = open_source(options, show_progress=False)
    return iter(make_dataset(source, settings["batch"], start_step=settings.get("start_step", 0)))


def main():
    import tensorflow as tf

    settings = json.loads(sys.argv[1])
    tf.constant(0.0)  # starts the runtime
    imported, began = resident_mib("VmHWM"), time.perf_counter()
    batches = open_batches(settings)
    opened = time.perf_counter() - began
    if "start" in sys.argv[2:]:
        next(batches)
        first_batch = time.perf_counter() - began
        say({"opened": opened, "first_batch": first_batch, "growth_mib": resident_mib("VmHWM") - imported})
    else:
        take_turns(lambda: next(batches)[0][0, 0, 0, 0].numpy(), {}, imported)


if __name__ == "__main__":
    main()
