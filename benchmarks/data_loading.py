"""Speed of the data: pictures delivered to the training step, and the start from a data set as large as ImageNet.

    python benchmarks/data_loading.py --torch_python .venv-torch/bin/python --json data_loading.json

Prepares synthetic pictures by `sagan prepare` in each encoding, and writes the same to a file as BigGAN-PyTorch's
`make_hdf5.py` does. Each contender is a process that delivers shuffled batches, float32 in [-1, 1]: ours (`peers/
our_loader.py`) and BigGAN-PyTorch's loader (`peers/biggan_pytorch_loader.py`) in the Python of `--torch_python`. They
run interleaved, round by round. All files are in the disk cache. Then it measures, in new processes, the time and
memory from opening 1.28 M small records to the first batch, from the start and in the middle of an epoch. Text:
docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from reporting import describe_machine, markdown_table, write_json

from sagan_tf.data import embedded, preparing
from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import open_source

PEERS = Path(__file__).resolve().parent / "peers"
QUALITIES = {"raw": None, "png": None, "jpeg": 95}
TINY = 8  # px, of the records of the start
BUFFERED = 50  # batches before a round, which may have been made while the contender waited; not counted
CHUNK = 500  # pictures, as in make_hdf5.py


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=128, help="px (default 128)")
    parser.add_argument("--pictures", type=int, default=4000, help="number of pictures (default 4000)")
    parser.add_argument("--records", type=int, default=1_281_167, help="of the start (default 1281167)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100, help="batches per round (default 100)")
    parser.add_argument("--torch_python", help="a Python with PyTorch and h5py")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_speed(Path(folder), options)
        print(speed_table(rows, options), flush=True)
        starts = measure_start(Path(folder), options)
        print("\n" + start_table(starts, options))
    if options.json:
        write_json(options.json, {"machine": describe_machine(), "speed": rows, "start": starts})


def measure_speed(folder, options):
    embedded.SPLITS["train"] = options.pictures
    source = DataOptions(name="twins", image_size=options.image_size)
    for encoding, quality in QUALITIES.items():
        preparing.prepare(source, folder / encoding, encoding, quality)
    settings = {"image_size": options.image_size, "batch": options.batch, "workers": len(os.sched_getaffinity(0))}
    commands = {
        f"sagan_tf, {encoding}": [sys.executable, PEERS / "our_loader.py", settings | {"data": str(folder / encoding)}]
        for encoding in QUALITIES
    }
    if options.torch_python:
        file = folder / "peer.hdf5"
        write_hdf5(file, open_source(DataOptions(name=str(folder / "raw"), image_size=options.image_size)))
        script = PEERS / "biggan_pytorch_loader.py"
        commands["BigGAN-PyTorch, HDF5"] = [options.torch_python, script, settings | {"data": str(file)}]
    contenders = [Contender(name, command) for name, command in commands.items()]
    for round_number in range(options.rounds):
        first = round_number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            contender.take_turn(options.steps)
    return [contender.end(options.batch * options.steps) for contender in contenders]


def write_hdf5(path, source):
    """Writes pictures and labels as make_hdf5.py does: channels first, 500 in a chunk, not compressed."""
    images = source.reader.images.transpose(0, 3, 1, 2)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgs", data=images, chunks=(min(CHUNK, len(images)), *images.shape[1:]))
        file.create_dataset("labels", data=source.reader.labels.astype(np.int64), chunks=(min(CHUNK, len(images)),))


class Contender:
    """A process that delivers batches on request; see `peers/turns.py`."""

    def __init__(self, name, command):
        self.name, self.turns = name, []
        *command, settings = command
        self._process = subprocess.Popen(
            [*map(str, command), json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
        )  # fmt: skip
        self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: exit code {self._process.wait()}; see its message above")
        return json.loads(line)

    def take_turn(self, steps):
        for count in (BUFFERED, steps):
            print(count, file=self._process.stdin, flush=True)
            turn = self._read()
        self.turns.append(turn)

    def end(self, pictures):
        self._process.stdin.close()
        memory = self._read()
        self._process.wait()
        rates = [pictures / turn["wall"] for turn in self.turns]
        microseconds = float(np.median([1e6 * turn["processor"] / pictures for turn in self.turns]))
        return {"contender": self.name, "rates": rates, "processor_microseconds": microseconds, **memory}


class Synthetic:
    """A source of many tiny records, for `preparing.prepare`."""

    class_names, skipped = tuple(map(str, range(1000))), []

    def __init__(self, options, count):
        self.count, self.labels = count, np.arange(count) % 1000
        self._images = np.random.default_rng(0).integers(0, 256, (64, TINY, TINY, 3), np.uint8)

    def identity(self, first, last):
        return ""

    def batches(self, first, last):
        for start in range(first, last, 64):
            yield lambda count=min(64, last - start): list(self._images[:count])


def measure_start(folder, options):
    preparing._open = lambda source: Synthetic(source, options.records)
    preparing.prepare(DataOptions(name="synthetic", image_size=TINY), folder / "records")
    middle = int(2.5 * options.records) // options.batch
    starts = []
    for step in (0, middle):
        settings = {"data": str(folder / "records"), "image_size": TINY, "batch": options.batch, "start_step": step}
        runs = [run_start(settings) for _ in range(3)]
        starts.append({name: float(np.median([run[name] for run in runs])) for name in runs[0]} | {"step": step})
    return starts


def run_start(settings):
    command = [sys.executable, PEERS / "our_loader.py", json.dumps(settings), "start"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def speed_table(rows, options):
    machine = describe_machine()
    heads = ["", "pictures/s", "min and max of the rounds", "CPU time of a picture, µs", "peak memory, MiB"]
    cells = [
        [
            row["contender"],
            f"{np.median(row['rates']):,.0f}",
            f"{min(row['rates']):,.0f}, {max(row['rates']):,.0f}",
            f"{row['processor_microseconds']:.0f}",
            f"{row['peak_mib']:,.0f}",
        ]
        for row in rows
    ]
    return (
        f"{options.pictures:,} pictures of {options.image_size} px, batch {options.batch}; {machine['cpu']}, "
        f"{machine['cpu_cores']} cores, TensorFlow {machine['tensorflow']}; medians of {options.rounds} rounds of "
        f"{options.steps} batches\n\n{markdown_table(heads, cells)}"
    )


def start_table(starts, options):
    heads = [f"{options.records:,} records", "opened, s", "first batch, s", "memory above the imports, MiB"]
    cells = [
        [f"from step {row['step']:,}", f"{row['opened']:.2f}", f"{row['first_batch']:.2f}", f"{row['growth_mib']:.0f}"]
        for row in starts
    ]
    return markdown_table(heads, cells)


if __name__ == "__main__":
    main()
