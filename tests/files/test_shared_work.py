"""Several workers fill one folder: every file exactly once, progress of other work ignored."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagan_tf.errors import UserError
from sagan_tf.files import shared_work
from sagan_tf.files.shared_work import SharedFolder, split_batches

NAMES = [f"{i}.png" for i in range(10)]


@pytest.fixture(autouse=True, scope="module")
def short_polls():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_work, "_POLL_SECONDS", 0.01)
        yield


@given(count=st.integers(0, 300), batch_size=st.integers(1, 40), workers=st.integers(1, 9))
def test_split_batches_deals_each_batch_to_one_worker(count, batch_size, workers):
    shares = [split_batches(count, batch_size, (i, workers)) for i in range(workers)]
    assert sorted(sum(shares, []), key=lambda batch: batch.start) == split_batches(count, batch_size)
    assert [i for batch in split_batches(count, batch_size) for i in batch] == list(range(count))
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= batch_size


def shared(folder, index, about="pictures", workers=2):
    return SharedFolder(folder, {"about": about}, NAMES, 2, (index, workers))


def write(folder, share, batches=None):
    for batch in share.batches[share.done :][:batches]:
        for i in batch:
            (folder / NAMES[i]).write_text(str(i))
        share.add()


def test_shared_folder_reports_progress_and_leaves_only_the_files(tmp_path):
    one, two = shared(tmp_path, 0), shared(tmp_path, 1)
    assert [len(share.batches) for share in (one, two)] == [3, 2]
    counts = []

    def report(count):
        counts.append(count)
        write(tmp_path, two, 1)  # the other worker goes on while this one waits

    write(tmp_path, one)
    one.wait(0.5, report)
    assert counts == [6, 8, 10]
    one.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_shared_folder_continues_a_killed_worker(tmp_path):
    write(tmp_path, shared(tmp_path, 0), batches=2)
    (tmp_path / ".8.png.abcdefgh.partial").mkdir()  # of this worker, which was killed
    (tmp_path / ".2.png.abcdefgh.partial").mkdir()  # of the other worker, which is running
    again = shared(tmp_path, 0)
    assert again.done == 2 and again.count() == 4
    assert sorted(path.name for path in tmp_path.glob("*.partial*")) == [".2.png.abcdefgh.partial"]


@pytest.mark.parametrize("change", ["other work", "other workers", "damaged", "no number", "removed file"])
def test_shared_folder_ignores_progress_that_does_not_apply(tmp_path, change):
    write(tmp_path, shared(tmp_path, 1))
    (path,) = tmp_path.glob(".share*")
    if change == "damaged":
        path.write_bytes(b"\xff{")
    elif change == "no number":
        path.write_text(json.dumps({"about": {"about": "pictures"}, "batches": [1]}))
    elif change == "removed file":
        (tmp_path / "3.png").unlink()  # of its first batch
    about = "others" if change == "other work" else "pictures"
    workers = 3 if change == "other workers" else 2
    assert shared(tmp_path, 0, about, workers).count() == (0 if change != "removed file" else 4)
    assert shared(tmp_path, 1, about, workers).done == 0


def test_shared_folder_wait_names_missing_workers(tmp_path):
    one = shared(tmp_path, 0, workers=3)
    write(tmp_path, one)
    write(tmp_path, shared(tmp_path, 1, workers=3))
    with pytest.raises(UserError, match="no other worker wrote .* 8 of 10 are written.* worker 2 of 3"):
        one.wait(0.001)
    # A removed file is missing although its worker has recorded it.
    write(tmp_path, shared(tmp_path, 2, workers=3))
    (tmp_path / "2.png").unlink()
    with pytest.raises(UserError, match="worker 1 of 3, 2 of 3"):
        one.wait(0.001)
