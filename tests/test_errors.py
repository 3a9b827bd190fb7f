"""Errors and sizes as users read them."""

import pytest

from sagan_tf.errors import UserError, format_size, renamed_options


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(2**30, "1.0 GiB"), (5 * 2**29, "2.5 GiB"), (3 * 2**19, "1.5 MiB"), (0, "0.0 KiB")]
)
def test_format_size_chooses_its_unit(num_bytes, text):
    assert format_size(num_bytes) == text


def test_renamed_options_changes_the_message_alone():
    with pytest.raises(UserError, match=r"^SOURCE: `x`; set --data_dir\.$"):
        with renamed_options({"data.name:": "SOURCE:", "data.data_dir": "--data_dir"}):
            raise UserError("data.name: `x`; set data.data_dir.")
