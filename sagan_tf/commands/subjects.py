"""The run that a command's options name."""

from sagan_tf.errors import UserError
from sagan_tf.runs.folder import Run
from sagan_tf.runs.pretrained import pretrained_folder


def open_subject(source, pretrained):
    """Opens the run of a command.

    Args:
        source: str, a run folder or `hf://owner/name`; or None.
        pretrained: str, name of weights that come with the package; or None.

    Returns:
        `Run`.

    Raises:
        UserError: Not exactly one is given, or it cannot be opened.
    """
    if (source is None) == (pretrained is None):
        raise UserError("command line: give a run folder, hf://owner/name or --pretrained NAME, and only one of them.")
    return Run.open(source) if pretrained is None else Run.open(pretrained_folder(pretrained), pretrained)
