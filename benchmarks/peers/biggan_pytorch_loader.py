"""BigGAN-PyTorch's input, reimplemented: HDF5 of uint8 pictures read at random by the workers of a DataLoader.

    python benchmarks/peers/biggan_pytorch_loader.py '{"data": "peer.hdf5", "batch": 64, "workers": 2}'

A contender of `data_loading.py`. Imports PyTorch and h5py and nothing of ours. As in its `datasets.py` and `utils.py`:
the file is opened for each picture, the picture becomes float32 in [-1, 1], and the DataLoader shuffles each epoch and
drops the last batch. Workers stay alive over epochs, as with its MultiEpochSampler.
"""

import json
import os
import sys
import time

import h5py
import torch
from torch.utils.data import DataLoader, Dataset
from turns import resident_mib, take_turns


class Pictures(Dataset):
    def __init__(self, path):
        self.path = path
        with h5py.File(path, "r") as file:
            self.length = len(file["labels"])

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        with h5py.File(self.path, "r") as file:
            image, label = file["imgs"][index], file["labels"][index]
        return ((torch.from_numpy(image).float() / 255) - 0.5) * 2, int(label)


def endless(loader):
    while True:
        yield from loader


def processor_seconds(loader):
    """CPU seconds of this process and of the workers."""
    ticks = 0
    for worker in loader._iterator._workers if loader._iterator else ():
        with open(f"/proc/{worker.pid}/stat") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main():
    settings = json.loads(sys.argv[1])
    imported = resident_mib("VmHWM")
    loader = DataLoader(
        Pictures(settings["data"]), settings["batch"], shuffle=True, drop_last=True, num_workers=settings["workers"],
        persistent_workers=True,
    )  # fmt: skip
    batches = endless(loader)
    take_turns(
        lambda: float(next(batches)[0][0, 0, 0, 0]), {"versions": {"torch": torch.__version__}}, imported,
        processor_clock=lambda: processor_seconds(loader),
    )  # fmt: skip


if __name__ == "__main__":
    main()
