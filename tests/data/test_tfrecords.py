"""TFRecord files read by index: the same records as TensorFlow reads in order, shuffled as images in memory are."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.data.readers import RecordReader
from sagan_tf.data.sources import translate_data_errors
from sagan_tf.data.tfrecords import make_record_reader
from sagan_tf.errors import UserError


def write_files(folder, counts):
    """Writes files of numbered records of different lengths; returns their paths."""
    paths, number = [], 0
    for i, count in enumerate(counts):
        paths.append(str(folder / f"{i}.tfrecord"))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for _ in range(count):
                writer.write(b"%d " % number + b"." * (number % 7))
                number += 1
    return tuple(paths)


@settings(max_examples=15)
@given(parts=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=5))
def test_records_are_those_that_tensorflow_reads_in_order(parts, tmp_path_factory):
    files = write_files(tmp_path_factory.mktemp("records"), [sum(part) for part in parts])
    skips, takes = np.array([part[:2] for part in parts]).T
    expected = [
        record
        for path, skip, take in zip(files, skips, takes)
        for record in tf.data.TFRecordDataset(path).skip(skip).take(take).as_numpy_iterator()
    ]
    for prefix in ("", "file://"):
        read = make_record_reader([prefix + path for path in files], skips, takes)
        assert read(tf.range(len(expected), dtype=tf.int64)).numpy().tolist() == expected


@pytest.mark.parametrize("cut,reason", [(0, "fewer than 5 records"), (3, "record at byte .* is damaged")])
def test_make_record_reader_rejects_truncated_files(tmp_path, cut, reason):
    (path,) = write_files(tmp_path, [4])
    content = (tmp_path / "0.tfrecord").read_bytes()
    (tmp_path / "0.tfrecord").write_bytes(content[: len(content) - cut])
    with pytest.raises(tf.errors.DataLossError, match=reason):
        make_record_reader([path], [0], [5])


@pytest.mark.parametrize("place", ["content", "checksum"])
def test_damaged_record_is_named(tmp_path, place):
    (path,) = write_files(tmp_path, [4])
    content = bytearray((tmp_path / "0.tfrecord").read_bytes())
    second = 12 + len(b"0 ") + 4  # where the second record begins
    content[second + (13 if place == "content" else 12 + len(b"1 .") + 2)] ^= 1
    (tmp_path / "0.tfrecord").write_bytes(content)
    read = make_record_reader([path], [0], [4])
    assert read(tf.constant([0, 2, 3], tf.int64)).numpy().tolist() == [b"0 ", b"2 ..", b"3 ..."]
    message = rf"data set `pets`: .*0\.tfrecord: the record at byte {second} is damaged\."
    with pytest.raises(UserError, match=message), translate_data_errors("pets"):
        list(tf.data.Dataset.from_tensors(tf.constant([1], tf.int64)).map(read))


def read_number(record):
    return tf.strings.to_number(tf.strings.split(record)[0], tf.int32)


@pytest.mark.slow
@pytest.mark.parametrize("num_files", [1, 8])
def test_records_of_few_files_meet_again_as_often_as_chance(tmp_path, num_files, batch=16):
    count = 2_400
    files, takes = write_files(tmp_path, [count // num_files] * num_files), np.full(num_files, count // num_files)
    fetch = make_record_reader(files, np.zeros_like(takes), takes)
    reader = RecordReader(fetch, read_number, None, files, 0, takes)
    epochs = np.stack(list(reader.batches(count, 0, 0).take(6).as_numpy_iterator()))[:, 0]
    batches = np.argsort(epochs, axis=1) // batch
    pairs = np.arange(count).reshape(-1, 8)  # Neighbors in a file.
    for groups in (pairs, np.argsort(batches[0], kind="stable").reshape(-1, batch)):  # Those that met in epoch 0.
        later = batches[1:][:, groups]
        met = (later[..., :, None] == later[..., None, :]).sum() - later.size
        assert met / (later.size * (groups.shape[1] - 1)) == pytest.approx((batch - 1) / (count - 1), rel=0.2)
