"""Uses each public name once; Pyright checks it in strict mode (`make types`), nothing runs it."""
# pyright: strict, reportUnknownMemberType=false, reportMissingTypeStubs=false

from pathlib import Path
from typing import assert_type

import keras
import numpy as np
from numpy.typing import NDArray

import sagan_tf
from sagan_tf.evaluation import frechet_distance, inception_score, kernel_distance
from sagan_tf.export import (
    FoldedGenerator,
    export_keras,
    export_onnx,
    export_saved_model,
    export_tflite,
    fold_generator,
)
from sagan_tf.layers import ConditionalBatchNormalization, SelfAttention, SpectralNormalization, spectral_normalizations

generator = sagan_tf.build_generator(image_size=32, num_classes=None)
discriminator = sagan_tf.build_discriminator(image_size=32, num_classes=None)
assert_type(generator, keras.Model)
assert_type(discriminator, keras.Model)
gan = sagan_tf.SAGAN(generator, discriminator, ema_decay=None, augmentation=["color"])
gan.compile("adam", keras.optimizers.Adam(1e-4), loss=sagan_tf.losses.LOSSES["hinge"], d_steps=2)
assert_type(gan.latent_dim, int)
assert_type(gan.num_classes, int | None)

run = sagan_tf.load_run("runs/quickstart", best=True)
run = sagan_tf.pretrained("twins")
assert_type(run.sample([1, 2], labels=["ring", 0], truncation=0.5), NDArray[np.uint8])
assert_type(run.class_names, tuple[str, ...] | None)
inversion = sagan_tf.invert(run, run.sample([1], "ring"), discriminator=discriminator, steps=9)
assert_type(inversion.latents, NDArray[np.float32])
assert_type(inversion.labels, NDArray[np.int32] | None)
assert_type(run.config, sagan_tf.Config)
assert_type(run.step, int | None)
assert_type(run.path, Path)
for maps in run.attention(7, "ring").values():
    assert_type(maps.map_of(0, (1, 2)), NDArray[np.float32])
assert_type(sagan_tf.load_generator(Path("generator.keras")).image_shape, tuple[int, int, int])
assert_type(sagan_tf.train(sagan_tf.Config(run="runs/a"), [keras.callbacks.Callback()]).path, Path)

attention: keras.layers.Layer = SelfAttention(pool_size=1, kernel_initializer="orthogonal")
normalization: keras.layers.Layer = ConditionalBatchNormalization(num_classes=10)
layer = SpectralNormalization(keras.layers.Dense(3))
assert_type(layer.fold(), keras.layers.Layer)
assert_type(spectral_normalizations(generator), dict[str, SpectralNormalization])

features: NDArray[np.float64] = np.ones((4, 2))
assert_type(frechet_distance(features, features), float)
assert_type(kernel_distance(features, features), tuple[float, float])
assert_type(inception_score(features), tuple[float, float])

folded = fold_generator(generator)
assert_type(folded, FoldedGenerator)
assert_type(export_saved_model(folded, "a", version=1), Path)
assert_type(export_tflite(generator, Path("b"), variants=("float32",))["float32"], Path)
assert_type(export_keras(folded, "c.keras"), Path)
assert_type(export_onnx(folded, "d.onnx"), Path)
