"""Errors and sizes as users read them."""

import pytest

from sagan_tf.errors import format_size


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(2**30, "1.0 GiB"), (5 * 2**29, "2.5 GiB"), (3 * 2**19, "1.5 MiB"), (0, "0.0 KiB")]
)
def test_format_size_chooses_its_unit(num_bytes, text):
    assert format_size(num_bytes) == text
