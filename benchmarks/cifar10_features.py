"""Trains a small CIFAR-10 classifier whose features compare runs where Inception is not available.

    python benchmarks/cifar10_features.py --data_dir DIR --out cifar10_features.keras
    python -m sagan_tf.evaluate RUN --features cifar10_features.keras:features

An 11-layer residual network with 1.9 million parameters, trained in bfloat16 with a one-cycle schedule and tested on
the 10,000 test images. Distances of its features are named after it: they are not FIDs, and only comparable with each
other. Text: docs/evaluation.md.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from reporting import describe_machine, write_json

from sagan_tf.data.options import DataOptions
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import open_source
from sagan_tf.training.preparation import to_float

WIDTHS = (32, 64, 128, 256)
PADDING = 4  # largest shift of an image, px


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="folder of prepared TensorFlow Datasets")
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=0.3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="mixed_bfloat16", choices=("mixed_bfloat16", "float32"))
    parser.add_argument("--out", type=Path, default=Path("cifar10_features.keras"))
    options = parser.parse_args()
    train, test = (
        open_source(DataOptions(name="cifar10", split=split, data_dir=options.data_dir, image_size=32))
        for split in ("train", "test")
    )
    start = time.monotonic()
    model = fit(train, options)
    seconds = time.monotonic() - start
    # Features are computed in float32, whatever the training precision.
    classifier = build(train.num_classes, "float32")
    classifier.set_weights(model.get_weights())
    classifier.save(options.out)
    result = {
        "test_accuracy": accuracy(classifier, test),
        "test_pictures": test.num_images,
        "seconds": round(seconds),
        "weights": classifier.count_params(),
        "options": {**vars(options), "out": options.out.name, "data_dir": None},
        "environment": describe_machine(),
    }
    write_json(options.out.with_suffix(".json"), result)
    print(
        f"test accuracy {result['test_accuracy']:.4f} ({test.num_images:,} images), trained in {seconds:.0f} s, "
        f"{options.epochs:g} epochs, seed {options.seed}: {options.out}"
    )


def build(num_classes, dtype):
    """Builds the classifier: images (B, 32, 32, 3) in [-1, 1] -> probabilities; layer `features` is (B, 256)."""
    options = dict(dtype=dtype)

    def block(x, width):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, **options)(x)
        x = keras.layers.BatchNormalization(momentum=0.9, **options)(x)
        return keras.layers.ReLU(**options)(x)

    def residual(x, width):
        return keras.layers.Add(**options)([x, block(block(x, width), width)])

    pool = dict(pool_size=2, **options)
    inputs = keras.Input((32, 32, 3))
    x = block(inputs, WIDTHS[0])
    for width in WIDTHS[1:]:
        x = residual(block(keras.layers.MaxPooling2D(**pool)(x), width), width)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    x = keras.layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, x, name="cifar10_features")


def fit(source, options):
    keras.utils.set_random_seed(options.seed)
    model = build(source.num_classes, options.precision)
    steps = round(options.epochs * source.num_images / options.batch_size)
    optimizer = keras.optimizers.SGD(
        OneCycle(options.learning_rate, steps), momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy"])
    data = make_dataset(source, options.batch_size, seed=options.seed)
    data = data.map(
        lambda image, label: (
            shift_randomly(tf.image.random_flip_left_right(to_float(image))),
            tf.one_hot(label, source.num_classes),
        ),
        tf.data.AUTOTUNE,
    )
    model.fit(data.prefetch(2), steps_per_epoch=steps, epochs=1)
    return model


def shift_randomly(images):
    """Shifts each image by up to `PADDING` px, with reflected borders."""
    width = images.shape[1]
    padded = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]], "REFLECT")
    shifts = tf.random.uniform((2, images.shape[0]), 0, 2 * PADDING + 1, tf.int32)
    rows, columns = (shift[:, None] + tf.range(width)[None] for shift in tf.unstack(shifts))
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak in the first quarter, then falls linearly to 0."""

    def __init__(self, peak, steps):
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        progress = keras.ops.cast(step, "float32") / self.steps
        return self.peak * keras.ops.minimum(progress / 0.25, (1.0 - progress) / 0.75)


def accuracy(model, source):
    correct = 0
    for images, labels in source.reader.in_order_batches(500):
        probabilities = model(tf.cast(images, tf.float32) / 127.5 - 1.0, training=False)
        correct += int((np.argmax(probabilities, axis=1) == labels).sum())
    return correct / source.num_images


if __name__ == "__main__":
    main()
