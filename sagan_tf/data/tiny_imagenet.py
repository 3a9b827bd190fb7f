"""Classes and labels of Tiny-ImageNet's archive, whose layout is not that of other folders of images.

`wnids.txt` lists the classes, `words.txt` their names; the images are `train/WNID/images/*.JPEG`, `val/images/*.JPEG`
with the classes in `val/val_annotations.txt`, and `test/images/*.JPEG` without classes.
"""

import collections
import os


def is_tiny_imagenet(folder):
    """Returns whether a folder has the layout of Tiny-ImageNet."""
    return os.path.isfile(os.path.join(folder, "wnids.txt")) and os.path.isdir(os.path.join(folder, "train"))


def read_classes(folder):
    """Returns the dict of WordNet ids, sorted, to class names: the first word, with the id where classes share it."""
    ids = sorted({columns[0] for columns in _rows(os.path.join(folder, "wnids.txt"))})
    words_path = os.path.join(folder, "words.txt")
    words = {row[0]: row[1] for row in _rows(words_path) if len(row) > 1} if os.path.isfile(words_path) else {}
    names = {wnid: words.get(wnid, wnid).partition(",")[0].strip() or wnid for wnid in ids}
    counts = collections.Counter(names.values())
    return {wnid: name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in names.items()}


def read_annotations(folder):
    """Returns the dict of file names to WordNet ids of the split `val`."""
    return {row[0]: row[1] for row in _rows(os.path.join(folder, "val", "val_annotations.txt")) if len(row) > 1}


def _rows(path):
    """Yields the columns of each line that is not empty."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                yield [column.strip() for column in line.split("\t")]
