"""A generator file carries the record of its step, and Keras reads it as any other."""

import keras
import numpy as np
import pytest
from export.generators import images_of, make_inputs, make_toy_generator

from sagan_tf.generation.loading import read_generator
from sagan_tf.generation.saving import save_generator, saved_record


@pytest.mark.slow
def test_save_generator_writes_keras_file_with_record(tmp_path):
    generator, inputs = make_toy_generator(), make_inputs()
    save_generator(generator, tmp_path / "generator.keras", {"step": 7, "metric": "fid"})
    assert saved_record(tmp_path / "generator.keras") == {"step": 7, "metric": "fid"}
    for read in (read_generator, keras.models.load_model):
        images = images_of(read(tmp_path / "generator.keras"), inputs)
        np.testing.assert_array_equal(images, images_of(generator, inputs))


def test_saved_record_is_empty_without_one(tmp_path):
    make_toy_generator().save(tmp_path / "plain.keras")
    (tmp_path / "text.keras").write_text("no archive")
    for name in ("plain.keras", "text.keras", "missing.keras"):
        assert saved_record(tmp_path / name) == {}
