"""Data that are compared with those that a run was trained on."""

import shutil

import numpy as np
import pytest
from small_data import open_small, save_picture

from sagan_tf.config import QUICK_START
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.errors import UserError
from sagan_tf.runs.data_check import check_data, check_number_of_classes, has_classes_of
from sagan_tf.runs.folder import Run


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(("cat", "dog", "eel")):
        for i in range(3):
            save_picture(tmp_path / "data" / name / f"{i}.png", np.full((32, 32, 3), 80 * label + i, np.uint8))
    return tmp_path / "data"


def identify(folder):
    return portable_fingerprint(open_small(folder))


@pytest.fixture
def run(folder, tmp_path):
    with Run.create_or_resume(tmp_path / "run", QUICK_START) as run:
        run.save_fingerprint(identify(folder))
        run.save_class_names(("cat", "dog", "eel"))
    return run


def test_check_data_accepts_the_data_of_the_run(run, folder, capsys):
    check_data(run, identify(folder))
    assert run.fingerprint() == identify(folder)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("recorded", [True, False])
def test_check_data_rejects_renamed_class_unless_allowed(run, folder, capsys, recorded):
    if not recorded:
        run.fingerprint_path.unlink()  # older runs have the names only
    (folder / "cat").rename(folder / "zebra")
    data = identify(folder)
    what = "class `cat` -> `zebra`" if recorded else "class `cat` is gone; class `zebra` is new"
    message = f"{run.path}: the data, {folder}, are not those of the run ({what})."
    with pytest.raises(UserError) as error:
        check_data(run, data, allow_change=False)
    assert str(error.value) == f"{message} Restore them or continue with --allow_data_change."
    with pytest.raises(UserError, match="Restore them.$"):
        check_data(run, data, classes_only=True)
    check_data(run, data, allow_change=True)
    assert capsys.readouterr().err == f"Warning: {message}\n"
    check_number_of_classes(run, data)


def test_check_data_compares_images_unless_classes_only(run, folder):
    save_picture(folder / "dog" / "0.png", np.full((32, 32, 3), 9, np.uint8))
    with pytest.raises(UserError, match="images of class `dog`: other files"):
        check_data(run, identify(folder))
    check_data(run, identify(folder), classes_only=True)


def test_check_data_warns_about_run_without_record(run, folder, capsys):
    run.fingerprint_path.unlink()
    run.class_names_path.unlink()
    check_data(run, identify(folder))
    err = capsys.readouterr().err
    assert err == f"Warning: {run.path} has no record of its data; whether they have changed is unknown.\n"


def test_check_number_of_classes_rejects_another_number(run, folder):
    shutil.rmtree(folder / "cat")
    with pytest.raises(UserError, match="the networks have 3 classes, and the data, .*, 2 classes"):
        check_number_of_classes(run, identify(folder))


def test_has_classes_of_compares_names_in_order(run):
    assert has_classes_of(run, ("cat", "dog", "eel"))
    assert not any(has_classes_of(run, names) for names in (("dog", "cat", "eel"), ("cat", "dog"), None))
