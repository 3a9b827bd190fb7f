"""One folder of pictures that several workers fill: whose share is what, how far each is, when all is there."""

import json
import os
import time
from pathlib import Path

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import write_text

_POLL_SECONDS = 0.5


def batches_of(count, batch_size, share=(0, 1)):
    """Splits N pictures into batches as one machine does, and deals these out to the workers in turn.

    Whole batches, because a kernel may round a row otherwise in another batch.

    Args:
        count: int, N.
        batch_size: int >= 1.
        share: (index, workers), ints.

    Returns:
        list of ranges within 0 .. N-1: the batches of that worker, in order.
    """
    index, workers = share
    starts = range(index * batch_size, count, workers * batch_size)
    return [range(start, min(start + batch_size, count)) for start in starts]


class SharedFolder:
    """What each worker has written into a folder so far, kept there in a file a worker; gone when all is complete.

    A worker that died goes on with what it had, for the same work. The workers need not run at the same time.

    Args:
        folder: pathlib.Path, on a disk that all workers share; it is made.
        about: dict of JSON values, what is being made; what the files say of other work is not believed.
        names: list of N file names, as they are in the end.
        batch_size: int >= 1, for `batches_of`.
        share: (index, workers), ints.

    Attributes:
        batches: list of ranges, of this worker.
        done: int, how many of them are written.
    """

    def __init__(self, folder, about, names, batch_size, share):
        self._folder, self._about = Path(folder), json.loads(json.dumps(about))
        self._names, self._index, self._workers = names, *share
        self._batches = [batches_of(len(names), batch_size, (i, self._workers)) for i in range(self._workers)]
        self.batches = self._batches[self._index]
        self._folder.mkdir(parents=True, exist_ok=True)
        there = self._remove_unfinished()
        self.done = self._read(self._index)
        # The pictures may have been taken away since.
        missing = [i for i, batch in enumerate(self.batches) if not there.issuperset(names[j] for j in batch)]
        if missing and missing[0] < self.done:
            self.done = missing[0]
        self._save()

    def add(self):
        """Records that the next batch of this worker is written."""
        self.done += 1
        self._save()

    def count(self):
        """Counts the pictures that all workers have written by now; int."""
        return sum(
            sum(map(len, batches[: self._read(i)])) for i, batches in enumerate(self._batches)
        )

    def wait(self, minutes, tell=lambda count: None):
        """Waits until all workers have written their share.

        Args:
            minutes: float, how long without a new picture.
            tell: Function of the number of pictures so far, called now and then.

        Raises:
            UserError: No picture came for so long.
        """
        count, deadline = self.count(), time.monotonic() + 60 * minutes
        tell(count)
        while count < len(self._names) or not set(os.listdir(self._folder)).issuperset(self._names):
            if time.monotonic() > deadline:
                late = [i for i, batches in enumerate(self._batches) if self._read(i) < len(batches)]
                who = ", ".join(f"{i} of {self._workers}" for i in late or range(1, self._workers))
                raise UserError(
                    f"{self._folder}: no other worker wrote a picture for {minutes:g} minutes, and {count} of "
                    f"{len(self._names)} are there. Start all workers again with the same command, above all worker "
                    f"{who}: what is there is gone on with."
                )
            time.sleep(_POLL_SECONDS)
            if (now := self.count()) != count:
                count, deadline = now, time.monotonic() + 60 * minutes
                tell(count)

    def close(self):
        """Removes what was noted of all workers; the pictures stay."""
        for index in range(self._workers):
            self._path(index).unlink(missing_ok=True)

    def _path(self, index):
        return self._folder / f".share_{index + 1}_of_{self._workers}.json"

    def _save(self):
        write_text(self._path(self._index), json.dumps({"about": self._about, "batches": self.done}) + "\n")

    def _read(self, index):
        """Batches that a worker says it has written; 0 while there is no word of it, or of other work."""
        try:
            found = json.loads(self._path(index).read_text(encoding="utf-8"))
            if found["about"] != self._about:
                return 0
            return max(0, min(int(found["batches"]), len(self._batches[index])))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return 0

    def _remove_unfinished(self):
        """Removes what this worker has left half written when it was killed; gives the names that are there."""
        there = set(os.listdir(self._folder))
        mine = {self._names[j] for batch in self.batches for j in batch} | {self._path(self._index).name}
        for name in there:
            if name.endswith(".partial") and name.rsplit(".", 2)[0] in mine:
                (self._folder / name).unlink(missing_ok=True)
        return there
