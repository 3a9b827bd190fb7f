"""How several workers fill one folder: nothing twice, nothing left out, nothing of other work believed."""

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.errors import UserError
from sagan_tf.files.shared_work import SharedFolder, batches_of

NAMES = [f"{i}.png" for i in range(10)]


@settings(deadline=None)
@given(count=st.integers(0, 300), batch_size=st.integers(1, 40), workers=st.integers(1, 9))
def test_shares_are_the_batches_of_one_machine_each_once(count, batch_size, workers):
    shares = [batches_of(count, batch_size, (i, workers)) for i in range(workers)]
    assert sorted(sum(shares, []), key=lambda batch: batch.start) == batches_of(count, batch_size)
    assert [i for batch in batches_of(count, batch_size) for i in batch] == list(range(count))
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= batch_size


def shared(folder, index, about="pictures", workers=2):
    return SharedFolder(folder, {"about": about}, NAMES, 2, (index, workers))


def write(folder, share, batches=None):
    for batch in share.batches[share.done :][:batches]:
        for i in batch:
            (folder / NAMES[i]).write_text(str(i))
        share.add()


def test_all_is_told_and_nothing_but_the_files_stays(tmp_path):
    one, two = shared(tmp_path, 0), shared(tmp_path, 1)
    assert [len(share.batches) for share in (one, two)] == [3, 2]
    told = []
    write(tmp_path, one)
    other = threading.Thread(target=lambda: (time.sleep(0.2), write(tmp_path, two)))
    other.start()
    one.wait(0.5, told.append)
    other.join()
    assert told[0] == 6 and told[-1] == 10
    one.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_a_worker_goes_on_where_it_was(tmp_path):
    write(tmp_path, shared(tmp_path, 0), batches=2)
    (tmp_path / "8.png.123.partial").write_text("of this worker, killed")
    (tmp_path / "2.png.124.partial").write_text("of the other one, at work")
    again = shared(tmp_path, 0)
    assert again.done == 2 and again.count() == 4
    assert sorted(path.name for path in tmp_path.glob("*.partial")) == ["2.png.124.partial"]


@pytest.mark.parametrize("change", ["other work", "other workers", "damaged", "no number", "taken away"])
def test_what_is_not_there_is_made_anew(tmp_path, change):
    write(tmp_path, shared(tmp_path, 1))
    (path,) = tmp_path.glob(".share*")
    if change == "damaged":
        path.write_bytes(b"\xff{")
    elif change == "no number":
        path.write_text(json.dumps({"about": {"about": "pictures"}, "batches": [1]}))
    elif change == "taken away":
        (tmp_path / "3.png").unlink()  # of its first batch
    about = "others" if change == "other work" else "pictures"
    workers = 3 if change == "other workers" else 2
    assert shared(tmp_path, 0, about, workers).count() == (0 if change != "taken away" else 4)
    assert shared(tmp_path, 1, about, workers).done == 0


def test_a_worker_that_does_not_come_is_named(tmp_path):
    one = shared(tmp_path, 0, workers=3)
    write(tmp_path, one)
    write(tmp_path, shared(tmp_path, 1, workers=3))
    with pytest.raises(UserError, match="no other worker wrote .* 8 of 10 are there.* worker 2 of 3"):
        one.wait(0.001)
    # A file that was taken away is missed though its worker says that it is written.
    write(tmp_path, shared(tmp_path, 2, workers=3))
    (tmp_path / "2.png").unlink()
    with pytest.raises(UserError, match="worker 1 of 3, 2 of 3"):
        one.wait(0.001)
