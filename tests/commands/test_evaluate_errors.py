"""`sagan evaluate` of damaged data and with too little memory ends in one line."""

import pytest
from commands.evaluations import refusal, save_pictures
from data.prepared_folders import run as prepare

from sagan_tf.data import embedded

pytestmark = pytest.mark.usefixtures("toy_networks", "small_evaluations")


@pytest.mark.parametrize("part", ["subject", "reference", "reference of a run"])
def test_damaged_prepared_pictures_are_named(run, features, tmp_path, capsys, part):
    save_pictures(tmp_path / "pictures", embedded.render("twins", range(20))[0])
    for name in ("subject", "reference"):
        prepare(tmp_path / "pictures", tmp_path / name)
    shard = tmp_path / part.split()[0] / "train" / "shard_00000.bin"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    subject = run.path if part.endswith("run") else tmp_path / "subject"
    options = ("--reference", tmp_path / "reference", "--features", features, "--num_samples", 20)
    message = refusal(capsys, subject, *options, "--metrics", "fid", "--out", tmp_path / "out")
    assert f"`{tmp_path / part.split()[0]}`" in message
    assert f"{shard}: picture 10 is damaged: its checksum is wrong" in message
    assert not list(tmp_path.glob("out/*.json"))
