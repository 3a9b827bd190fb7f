"""Work shared among processes: who writes which files of one folder, how far each is, and waiting for all."""

import json
import os
import time
from pathlib import Path

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import remove_temporary_files, write_text
from sagan_tf.files.untrusted import read_json

_POLL_SECONDS = 0.5


def split_batches(count, batch_size, share=(0, 1)):
    """Returns the batches of worker `share` = (index, workers) among those of `count` items, as ranges."""
    # Complete batches of one process: a kernel may round a row differently in a batch of another size.
    index, workers = share
    starts = range(index * batch_size, count, workers * batch_size)
    return [range(start, min(start + batch_size, count)) for start in starts]


class SharedFolder:
    """A folder that several workers fill with files; each keeps its progress in a file, to continue when restarted.

    Args:
        folder: Path on a disk that all workers share. It is created.
        about: dict of JSON values that identify the work. Progress of other work is ignored.
        names: list of N final file names.
        batch_size: int >= 1, files per batch.
        share: (worker index, number of workers), ints.

    Attributes:
        batches: list of ranges, the batches of this worker.
        done: int, how many of them are written.
    """

    def __init__(self, folder, about, names, batch_size, share):
        self._folder, self._about = Path(folder), json.loads(json.dumps(about))
        self._names, self._index, self._workers = names, *share
        self._batches = [split_batches(len(names), batch_size, (i, self._workers)) for i in range(self._workers)]
        self.batches = self._batches[self._index]
        self._folder.mkdir(parents=True, exist_ok=True)
        own_names = {names[i] for batch in self.batches for i in batch}
        remove_temporary_files(self._folder, own_names | {self._progress_path(self._index).name})
        self.done = self._read_progress(self._index)
        # Files may have been removed since.
        present = set(os.listdir(self._folder))
        incomplete = (i for i, batch in enumerate(self.batches) if not present.issuperset(names[j] for j in batch))
        self.done = min(self.done, next(incomplete, self.done))
        self._save_progress()

    def add(self):
        """Records that the next batch of this worker is written."""
        self.done += 1
        self._save_progress()

    def count(self):
        """Returns how many files all workers have recorded by now."""
        return sum(sum(map(len, batches[: self._read_progress(i)])) for i, batches in enumerate(self._batches))

    def wait(self, minutes, report=lambda count: None):
        """Waits until all workers have written their share; see `wait_for_workers`."""
        wait_for_workers(self.count, self._is_complete, minutes, self._missing, report)

    def close(self):
        """Removes the progress of all workers; their files stay."""
        for index in range(self._workers):
            self._progress_path(index).unlink(missing_ok=True)

    def _is_complete(self, count):
        return count == len(self._names) and set(os.listdir(self._folder)).issuperset(self._names)

    def _missing(self, count, minutes):
        late = [i for i, batches in enumerate(self._batches) if self._read_progress(i) < len(batches)]
        workers = ", ".join(f"{i} of {self._workers}" for i in late or range(1, self._workers))
        return (
            f"{self._folder}: no other worker wrote an image for {minutes:g} minutes; {count} of {len(self._names)} "
            f"are written. Start all workers again with the same command, in particular worker {workers}: they "
            "continue where they stopped."
        )

    def _progress_path(self, index):
        return self._folder / f".share_{index + 1}_of_{self._workers}.json"

    def _save_progress(self):
        progress = {"about": self._about, "batches": self.done}
        write_text(self._progress_path(self._index), json.dumps(progress) + "\n")

    def _read_progress(self, index):
        """Number of batches that a worker has recorded; 0 without a record of this work."""
        try:
            progress = read_json(self._progress_path(index))
            if progress["about"] != self._about:
                return 0
            return max(0, min(int(progress["batches"]), len(self._batches[index])))
        except (UserError, ValueError, TypeError, KeyError, OverflowError):
            return 0


def wait_for_workers(count, is_complete, minutes, describe_missing, report):
    """Polls `count()` until `is_complete(count)`, and calls `report(count)` when it changes.

    Raises:
        UserError: `describe_missing(count, minutes)`, after `minutes` without progress.
    """
    done, deadline = count(), time.monotonic() + 60 * minutes
    report(done)
    while not is_complete(done):
        if time.monotonic() > deadline:
            raise UserError(describe_missing(done, minutes))
        time.sleep(_POLL_SECONDS)
        if (now := count()) != done:
            done, deadline = now, time.monotonic() + 60 * minutes
            report(done)
