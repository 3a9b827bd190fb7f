"""Every test starts from the same seed; TensorFlow logs only warnings and errors."""

import gc
import os

import filelock
import pytest
from hypothesis import HealthCheck, settings

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes share the cores: threads within an operation cost a fifth of the processor time of small steps.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# A busy machine may take any time for an example.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Whole commands, servers, browsers, new processes: minutes together.
SLOW = (
    "commands/", "experiment/", "export/", "files/test_saved_models.py", "generation/test_inversion.py",
    "networks/test_freezing.py", "parity/", "serving/", "test_hostile_", "test_public_api.py",
    "viewing/test_attention.py", "viewing/test_explorer.py", "viewing/test_report.py",
)  # fmt: skip


# Nearly a minute each: they come first, so that no process waits for them in the end.
LONG = "test_learning.py", "training/test_replicas.py"


def pytest_collection_modifyitems(config, items):
    """Marks the tests of slow files, and puts the longest first."""
    paths = {item: item.path.relative_to(config.rootpath / "tests").as_posix() for item in items}
    for item, path in paths.items():
        if path.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not paths[item].startswith(LONG))


def pytest_collection_finish():
    """Garbage collections leave out what the imports have made; they were an eighth of the time of traced tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def kept_kernels():
    """Within a file, TensorFlow keeps kernels and optimized graphs where a test sets the seeds.

    It drops them for random operations with a state, which no test depends on; making them again was a fifth of the
    time of many tests.
    """
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda _: None)
        yield
    context.context().clear_kernel_cache()


@pytest.fixture(autouse=True, scope="session")
def untuned_iterators():
    """Iterators of the tests' own data sets end at once; see `sagan_tf.data.readers.without_autotuning`."""
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    from sagan_tf.data.readers import without_autotuning

    create = OwnedIterator._create_iterator
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnedIterator, "_create_iterator", lambda self, data: create(self, without_autotuning(data)))
        yield


@pytest.fixture(autouse=True, scope="module")
def seeded_file():
    """Fixtures of a file start from the same seed too."""
    import keras  # not in the process that only distributes the tests

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def seeded(seeded_file):
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A function that returns a folder of all test processes, which `make(folder)` filled in the first that asked."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name, make):
        folder, complete = base / name, base / f"{name}.complete"
        with filelock.FileLock(base / f"{name}.lock"):
            if not complete.exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                complete.touch()
        return folder

    return filled


@pytest.fixture
def command_error(capsys):
    """A function that runs a command with bad input and returns its one error line."""

    def run(main, *arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert caught.value.code == 2 and out == "" and err.count("\n") == 1 and err.startswith("error: ")
        return err.removeprefix("error: ").rstrip("\n")

    return run
