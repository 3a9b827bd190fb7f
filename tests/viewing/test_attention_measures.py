"""Measures of maps with known values."""

import dataclasses

import numpy as np
import pytest
from viewing.maps import make_maps

from sagan_tf.viewing.attention_measures import (
    cell_distances,
    format_table,
    measure_attention,
    measure_symmetry,
    own_keys,
)


def test_attention_measures_of_uniform_maps_equal_uniform_baselines():
    measures = measure_attention(make_maps(lambda *_: None), (32, 32))
    assert measures["distance_px"] == pytest.approx(measures["uniform_distance_px"])
    assert measures["outside_field"] == pytest.approx(measures["uniform_outside_field"])
    assert measures["entropy_bits"] == pytest.approx(4) and measures["effective_keys"] == pytest.approx(16)
    assert measures["self_attention"] == pytest.approx(1 / 16)
    assert (measures["queries"], measures["keys"], measures["field_px"]) == (64, 16, 24)


def test_attention_measures_are_exact_for_maps_on_own_key():
    measures = measure_attention(make_maps(lambda picture, row, column: (row // 2, column // 2)), (32, 32))
    # The center of a 4 px query is 2 px in x and y from that of its 8 px key.
    assert measures["distance_px"] == pytest.approx(np.hypot(2, 2))
    assert measures["entropy_bits"] == 0 and measures["effective_keys"] == 1
    assert measures["self_attention"] == 1 and measures["outside_field"] == 0
    assert measures["distance_px"] < measures["convolution_distance_px"] < measures["uniform_distance_px"]


def test_attention_measures_are_exact_for_maps_on_farthest_corner():
    measures = measure_attention(make_maps(lambda picture, row, column: (3 * (row < 4), 3 * (column < 4))), (32, 32))
    assert measures["outside_field"] == 1 and measures["self_attention"] == 0
    assert measures["distance_px"] > measures["uniform_distance_px"] > measures["convolution_distance_px"]


def test_attention_cell_distances_are_between_centers():
    distances = cell_distances((4, 4), (2, 2), (8, 8)).reshape(4, 4, 2, 2)
    assert distances[0, 0, 0, 0] == pytest.approx(np.hypot(1, 1))
    assert distances[0, 3, 1, 0] == pytest.approx(np.hypot(5, 5))
    assert own_keys(make_maps(lambda *_: None)).reshape(8, 8)[5, 2] == 2 * 4 + 1


def test_attention_measures_of_a_row_are_those_of_a_square_without_the_other_rows():
    square = make_maps(lambda picture, row, column: (row // 2, 3 - column // 2), pictures=1)
    rows = 16  # queries of the first two rows, keys of the first
    scores, features = square.scores[:, :rows, :4], square.features[:, :2]
    wide = dataclasses.replace(
        square, scores=scores, features=features, key_shape=(1, 4), fields=(np.ones((2, 1), bool), square.fields[1])
    )
    measures = measure_attention(wide, (8, 32))
    assert (measures["queries"], measures["keys"], measures["field_px"]) == (16, 4, 24)
    columns = np.abs(np.arange(8) * 4 + 2 - (28 - np.arange(8) // 2 * 8))
    assert measures["distance_px"] == pytest.approx(np.hypot(columns, 2).mean())
    assert own_keys(wide).tolist() == 2 * [0, 0, 1, 1, 2, 2, 3, 3]


def test_attention_symmetry_is_nan_without_far_mirror_positions():
    measures = measure_symmetry(make_maps(lambda *_: None, side=4, keys=2))  # NumPy would warn of means of nothing
    assert measures.pop("mirror_agreement") == pytest.approx(1)
    assert (
        set(measures) == {"mirrored_place", "own_place", "uniform_mirrored_place"}
        and np.isnan([*measures.values()]).all()
    )


def test_attention_symmetry_is_exact_for_symmetric_and_one_sided_maps():
    across = measure_symmetry(make_maps(lambda picture, row, column: (row // 2, 3 - column // 2)))
    assert across["mirror_agreement"] == 1 and across["mirrored_place"] == 1 and across["own_place"] == 0
    own = measure_symmetry(make_maps(lambda picture, row, column: (row // 2, column // 2)))
    assert own["mirror_agreement"] == 1 and own["mirrored_place"] == 0 and own["own_place"] == 1
    one_sided = measure_symmetry(make_maps(lambda *_: (0, 0)))
    assert one_sided["mirror_agreement"] == 0
    uniform = measure_symmetry(make_maps(lambda *_: None))
    assert uniform["mirrored_place"] == pytest.approx(uniform["uniform_mirrored_place"])


def test_attention_table_has_one_line_per_layer():
    maps = make_maps(lambda *_: None)
    row = measure_attention(maps, (32, 32)) | {"network": "generator", "pictures": "generated"}
    plain = format_table([row, row]).splitlines()
    assert len(plain) == 3 and "16.0 of 16" in plain[1] and "mirror" not in plain[0]
    assert "mirror agreement" in format_table([row | measure_symmetry(maps)]).splitlines()[0]
