"""Which classes a generator file may name."""

import json

import keras
import pytest

from sagan_tf.conversion import heykeetae
from sagan_tf.generation.loading import CLASSES
from sagan_tf.networks import build_generator


def class_names(config):
    """Package and class of every object in a serialized model, without initializers."""
    if isinstance(config, list):
        return set().union(*map(class_names, config))
    if not isinstance(config, dict):
        return set()
    names = set().union(*map(class_names, config.values()))
    if config.get("module") not in (None, "keras.initializers"):
        names.add((config["module"].partition(".")[0], config["class_name"]))
    return names


@pytest.mark.slow
def test_known_classes_are_exactly_those_of_generators():
    names = set()
    options = [  # all pairs
        ("float32", None, "self_attention", True),
        ("float32", 3, "residual", False),
        ("mixed_bfloat16", None, "residual", True),
        ("mixed_bfloat16", 3, "self_attention", False),
        ("float64", None, "self_attention", False),
        ("float64", 3, "residual", True),
    ]
    generators = [heykeetae.build_generator(8, (16, 16, 16, 8), 3)]
    for dtype, num_classes, attention_block, spectral_normalization in options:
        generator = build_generator(
            image_size=32,
            channels=4,
            num_classes=num_classes,
            attention_sizes=(8,),
            attention_block=attention_block,
            attention_options={"key_reduction": 4} if attention_block == "self_attention" else None,
            spectral_normalization=spectral_normalization,
            dtype=dtype,
        )
        generators.append(generator)
    for generator in generators:
        names |= class_names(json.loads(json.dumps(keras.saving.serialize_keras_object(generator))))
    # A plain batch normalization is that of `sagan_tf.layers` too.
    assert names == {(package, name) for package, known in CLASSES.items() for name in known}
