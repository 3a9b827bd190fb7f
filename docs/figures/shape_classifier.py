"""Trains a small classifier of the four shapes of `twins`, for docs/figures/truncation_curve.png.

    python docs/figures/shape_classifier.py shapes.keras            # seconds on two CPU cores
    sagan evaluate runs/quickstart --features shapes.keras:features --num_samples 1000 --truncation_curve

The evaluation writes the curve to the run folder.
"""

import sys

import keras

from sagan_tf.data.embedded import KINDS, render

PICTURES, EPOCHS, SEED = 20_000, 4, 0


def build_classifier():
    """A classifier of pictures in [-1, 1], whose layer `features` gives 64 numbers."""
    layers = [keras.Input((32, 32, 3))]
    for channels in (16, 32, 64):
        layers += [keras.layers.Conv2D(channels, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu", name="features"),
        keras.layers.Dense(len(KINDS), activation="softmax"),
    ]
    return keras.Sequential(layers)


def main():
    keras.utils.set_random_seed(SEED)
    (images, labels), (held_out, held_out_labels) = (
        render("twins", range(count), split=split) for count, split in ((PICTURES, "train"), (2_000, "test"))
    )
    classifier = build_classifier()
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.fit(images / 127.5 - 1, labels, batch_size=64, epochs=EPOCHS, verbose=2)
    accuracy = classifier.evaluate(held_out / 127.5 - 1, held_out_labels, verbose=0)[1]
    classifier.save(sys.argv[1])
    print(f"{sys.argv[1]}: {accuracy:.1%} of 2,000 held-out pictures")


if __name__ == "__main__":
    main()
