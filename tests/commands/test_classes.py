"""The classes that a user chose."""

import pytest
from small_runs import KINDS

from sagan_tf.commands.classes import choose_classes
from sagan_tf.errors import UserError


@pytest.mark.parametrize("text", ["²", "--1", "1.5"])
def test_choose_classes_rejects_text_that_is_almost_a_number(text):
    with pytest.raises(UserError, match=f"--classes: the model has no class `{text}`"):
        choose_classes((text,), KINDS)
