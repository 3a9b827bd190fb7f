"""The configs that come with the package, by name: those of the folder configs/ of the repository."""

import re
from pathlib import Path

from sagan_tf.errors import did_you_mean

_FOLDER = Path(__file__).parent / "presets"  # a link to configs/
if not _FOLDER.is_dir():  # Git on Windows makes a file of a link.
    _FOLDER = Path(__file__).parents[2] / "configs"


def named_configs():
    """Lists the configs: dict, name such as `cifar10` or `ablations/attention_8` -> pathlib.Path of its file."""
    files = sorted(_FOLDER.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(_FOLDER).with_suffix("").as_posix(): file for file in files}


def config_path(path):
    """The file of a config that is given by its path or, where no such file exists, by its name."""
    return path if Path(path).is_file() else _by_name().get(str(path), path)


def _by_name():
    """The files also by the last part of their name, such as `attention_8`."""
    names = named_configs()
    return {name.rpartition("/")[2]: file for name, file in names.items()} | names


def purpose(file):
    """What a config is for: the first sentence of the comment that begins its file."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".")


def suggest_config(path):
    """Suggests what to give in place of a file that does not exist, as a sentence after a space; "" if nothing near."""
    path = Path(path)
    files = [file.name for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    return (
        did_you_mean(path.name, files, f"{path.parent}/")
        or did_you_mean(f"{path.name}.yaml", files, f"{path.parent}/")
        or _suggest_name(path)
    )


def _suggest_name(path):
    known = _by_name()
    name = path.name.removesuffix(".yaml").removesuffix(".yml").lower()
    if name in known:
        return f" Did you mean `{name}`?"
    longer = [other for other in known if other.startswith(name) and "/" not in other]
    if longer:
        return f" Did you mean {', '.join(f'`{other}`' for other in longer)}?"
    suggestion = did_you_mean(name, known) or did_you_mean(re.sub("[-_ ]", "", name), known)
    return suggestion or " `sagan configs` lists those that come with the package."
