"""Fixtures of the config's tests."""

import pytest

from sagan_tf.config import load_config
from sagan_tf.errors import UserError


@pytest.fixture
def yaml_file(tmp_path):
    """A function that writes text to a YAML file and returns its path."""

    def write(text, name="run.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def refusal():
    """A function that returns the one error line for a command line."""

    def refuse(*argv):
        with pytest.raises(UserError) as caught:
            load_config(list(argv))
        message = str(caught.value)
        assert "\n" not in message and "<class" not in message and "typing." not in message
        return message

    return refuse
