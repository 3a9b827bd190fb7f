"""The run that a command's options name, and how the command computes with it."""

from pathlib import Path

from sagan_tf.errors import UserError
from sagan_tf.runs.folder import Run
from sagan_tf.runs.pretrained import pretrained_folder
from sagan_tf.training.distribution import set_numerics


def open_subject(source, pretrained=None):
    """Opens the run of a command, and computes from then on with its `hardware.tf32`.

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
    if pretrained is None:
        run = Run.open(source)
    else:
        # Not in ./cifar10, which `--data.name cifar10` would take for a folder of images.
        run = Run.open(pretrained_folder(pretrained), Path("pretrained") / pretrained)
        run.source = f"--pretrained {pretrained}"
    set_numerics(run.config().hardware.tf32)
    return run
