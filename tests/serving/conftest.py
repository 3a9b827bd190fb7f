"""A small model and a server, shared by all tests that do not change them."""

import pytest
from serving.models import direct, write_model
from serving.servers import running


@pytest.fixture(scope="session")
def version_1(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "sagan")


@pytest.fixture(scope="session")
def call(version_1):
    """The signatures called directly."""
    return direct(version_1)


@pytest.fixture(scope="session")
def live(version_1):
    with running(version_1.parent) as server:
        yield server
