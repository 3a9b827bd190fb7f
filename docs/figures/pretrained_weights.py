"""Writes the folder of a generator that comes with the package, for `sagan_tf.pretrained`.

    python docs/figures/pretrained_weights.py runs/cifar10_small sagan_tf/weights/cifar10 --precision float16

The run's averaged generator, its weights rounded to `--precision` and compressed, its config without paths, the class
names and `samples.png`. Prints the size and how far the rounding moves 100 samples. README.md there is written by hand.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from sagan_tf.commands.export import save_samples
from sagan_tf.config import save_config
from sagan_tf.experiment.loading import class_names, load_model
from sagan_tf.files.atomic import atomic_write
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.generation.saving import save_generator
from sagan_tf.runs.folder import Run
from sagan_tf.runs.portable import portable_config

SAMPLES = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("float16", "float32"), default="float32")
    options = parser.parse_args()
    run, packed = Run.open(options.run), Run(options.folder)
    packed.class_names_path.parent.mkdir(parents=True, exist_ok=True)
    model = load_model(run)
    before = samples(model)
    for weight in model.weights:
        weight.assign(np.asarray(weight).astype(options.precision).astype("float32"))
    write_compressed(model, packed.generator_path, {"step": run.generator_step()})
    save_config(portable_config(run.config(), f"runs/{packed.name}"), packed.config_path)
    if names := run.class_names():
        packed.save_class_names(names)
    save_samples(load_model(packed), class_names(run, len(names) if names else None), packed.path / "samples.png")
    difference = np.abs(samples(load_model(packed)).astype(float) - before)
    size = sum(path.stat().st_size for path in packed.path.rglob("*") if path.is_file())
    print(
        f"{packed.path}: {packed.generator_path.stat().st_size:,} bytes, with all files {size:,}; {SAMPLES} samples "
        f"move by {difference.mean():.4f} levels on average, {difference.max():.0f} at most"
    )


def samples(model):
    sampler = Sampler(fold_generator(model), show_progress=False)  # in float32, so that only the weights differ
    seeds = np.arange(SAMPLES)
    return sampler.sample(seeds, None if sampler.num_classes is None else seeds % sampler.num_classes)


def write_compressed(model, path, record):
    """Writes a `.keras` file with compressed members, which Keras reads as any other."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "generator.keras"
        save_generator(model, plain, record)
        with (
            atomic_write(path) as temporary_path,
            zipfile.ZipFile(plain) as source,
            zipfile.ZipFile(temporary_path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for member in source.infolist():
                archive.writestr(zipfile.ZipInfo(member.filename), source.read(member), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
