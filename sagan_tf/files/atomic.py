"""Files that appear under their names only when they are complete."""

import os


def write_beside(path, write):
    """Lets a function write a file beside its place, and moves it there when it is complete and on the disk.

    Args:
        path: Of the file; its folder is made.
        write: Function of a binary file object.
    """
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # A name of this process: two may write one report at a time.
    beside = f"{path}.{os.getpid()}.partial"
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def write_text(path, text):
    """Writes a UTF-8 file by `write_beside`.

    Args:
        path: Of the file.
        text: str.
    """
    write_beside(path, lambda file: file.write(text.encode("utf-8")))
