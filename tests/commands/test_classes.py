"""Names of a run's classes."""

import pytest
from small_runs import KINDS, make_run

from sagan_tf.commands.classes import choose_classes, class_names
from sagan_tf.errors import UserError


def test_class_names_come_from_run_or_are_numbers(tmp_path):
    run = make_run(tmp_path / "run", steps=(), data="cifar10")
    assert class_names(run, 4) == KINDS and class_names(run, None) is None
    assert class_names(run, 3) == ("0", "1", "2")  # names of another data set
    run.class_names_path.unlink()
    assert class_names(run, 4) == ("0", "1", "2", "3")


@pytest.mark.parametrize("text", ["²", "--1", "1.5"])
def test_choose_classes_rejects_text_that_is_almost_a_number(text):
    with pytest.raises(UserError, match=f"--classes: the model has no class `{text}`"):
        choose_classes((text,), KINDS)
