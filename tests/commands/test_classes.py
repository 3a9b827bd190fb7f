"""The classes that a user chose."""

import unicodedata

import pytest
from small_runs import KINDS

from sagan_tf.commands.classes import choose_classes
from sagan_tf.errors import UserError
from sagan_tf.generation.labels import as_labels


@pytest.mark.parametrize("text", ["²", "--1", "1.5"])
def test_choose_classes_rejects_text_that_is_almost_a_number(text):
    with pytest.raises(UserError, match=f"--classes: the model has no class `{text}`"):
        choose_classes((text,), KINDS)


def test_classes_are_found_in_any_unicode_form():
    """Folders that were made on macOS have decomposed names."""
    names = [unicodedata.normalize("NFD", name) for name in ("chat", "épagneul", "猫")]
    composed = unicodedata.normalize("NFC", names[1])
    assert composed != names[1]
    assert choose_classes((composed, "猫"), names) == {1: names[1], 2: names[2]}
    assert as_labels([composed, "chat"], names, 2).tolist() == [1, 0]
    both = [names[1], composed]  # two folders on Linux
    assert [as_labels(name, both, 1)[0] for name in both] == [0, 1]
    with pytest.raises(ValueError, match="There is no class `hond`"):
        as_labels("hond", names, 1)
