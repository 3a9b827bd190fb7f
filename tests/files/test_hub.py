"""Download and upload of repositories, against a server on this machine."""

import sys
from pathlib import Path

import pytest
from hub_server import hub as hub

from sagan_tf.errors import UserError
from sagan_tf.files.hub import check_upload, download, is_hub_name, output_folder, repository_id, upload

NAME = "hf://me/toy"
FILES = {"config.yaml": b"a: 1\n", "generator.keras": b"weights", "data/class_names.json": b"[]"}


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "repository" / "data").mkdir(parents=True)
    for path, content in FILES.items():
        (tmp_path / "repository" / path).write_bytes(content)
    return tmp_path / "repository"


def test_upload_makes_one_commit_that_download_gives_back(hub, folder):
    address = upload(folder, f"{NAME}@v1", private=True)
    assert hub.private == {"me/toy"} and len(hub.commits) == 2  # the first is the empty repository
    assert address.endswith(hub.refs["me/toy"]["main"]) and hub.refs["me/toy"]["v1"] == hub.refs["me/toy"]["main"]
    for name in (NAME, f"{NAME}@v1", f"{NAME}@{hub.refs['me/toy']['v1']}"):
        assert read(download(name)) == FILES


def test_name_may_be_a_path_and_each_revision_has_its_output(hub, folder):
    upload(folder, NAME)
    assert is_hub_name(Path(NAME)) and read(download(Path(NAME))) == FILES
    names = [NAME, f"{NAME}@v1", Path(f"{NAME}@v1"), f"{NAME}@refs/pr/1"]
    assert list(map(str, map(output_folder, names))) == [
        "hub/me/toy", "hub/me/toy@v1", "hub/me/toy@v1", "hub/me/toy@refs_pr_1_da766fe4",
    ]  # fmt: skip


def test_upload_to_a_tag_of_the_name_of_the_branch_is_refused(hub):
    with pytest.raises(UserError, match="`main` is the branch that is written to"):
        check_upload(f"{NAME}@main")
    assert not hub.refs


@pytest.mark.parametrize("tag", ["v1..2", "v1.lock", ".v1", "v1/", "a~1", "a/.b", "a//b", "a.lock/b"])
def test_upload_to_a_tag_that_git_does_not_take_is_refused(hub, tag):
    with pytest.raises(UserError, match="is no name for a tag"):
        check_upload(f"{NAME}@{tag}")
    check_upload(f"{NAME}@v1.2-rc+cu12/3")


def test_upload_replaces_its_folders_and_keeps_files_of_the_owner(hub, folder):
    hub.commit("me/toy", {"LICENSE": b"mine", "checkpoints/ckpt-1.index": b"old", "config.yaml": b"old"})
    upload(folder, NAME)
    assert hub.files("me/toy") == {"LICENSE": b"mine"} | FILES
    # The names of another generator's classes would be taken for those of this one.
    (folder / "data" / "class_names.json").unlink()
    upload(folder, NAME)
    assert "data/class_names.json" not in hub.files("me/toy")


def test_download_leaves_what_is_no_part_of_a_run(hub):
    hub.commit(
        "me/toy",
        FILES
        | {
            "huge.bin": b"",
            "tflite/generator.tflite": b"",
            "data/x.json": b"",
            "checkpoints/ckpt-1.index": b"1",
            "checkpoints/ckpt-x/other.bin": b"",
            "checkpoints/ckpt-1.bin": b"",
            "checkpoints/ckpt-1.x/a.index": b"",
        },
    )
    assert read(download(NAME)) == FILES | {"checkpoints/ckpt-1.index": b"1"}


@pytest.mark.parametrize("failing", ["/commit/main", "/objects/batch", "/preupload/main"])
def test_upload_that_fails_changes_nothing(hub, folder, failing):
    before = hub.commit("me/toy", {"config.yaml": b"old"})
    hub.failing = failing
    with pytest.raises(UserError, match="^hf://me/toy: the Hub answers 400: "):
        upload(folder, NAME)
    assert hub.refs["me/toy"] == {"main": before}


def test_upload_refuses_a_tag_that_exists(hub, folder):
    before = hub.commit("me/toy", {}), hub.commit("me/toy", {}, "v1")
    with pytest.raises(UserError, match="there is a revision `v1`"):
        upload(folder, f"{NAME}@v1")
    assert hub.refs["me/toy"] == dict(zip(("main", "v1"), before))


@pytest.mark.parametrize("token", ["hf_reader", ""])
def test_upload_needs_a_token_that_may_write(hub, folder, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=r"your token does not allow it \(HTTP 403\). `hf auth login`"):
        upload(folder, NAME)
    assert not hub.refs


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://me/none", "there is no such repository, or your token may not read it. `hf auth login`"),
        ("hf://me/private", "there is no such repository, or your token may not read it. `hf auth login`"),
        ("hf://me/gated", "its owner must grant access."),
        ("hf://me/toy@v9", "the repository has no such revision."),
    ],
)
def test_download_names_what_is_missing(hub, monkeypatch, name, message):
    for repository in ("me/toy", "me/private", "me/gated"):
        hub.commit(repository, FILES)
    hub.private, hub.gated = {"me/private"}, {"me/gated"}
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(UserError) as caught:
        download(name)
    assert str(caught.value).startswith(f"{name}: {message}")


@pytest.mark.parametrize("name", ["hf://toy", "hf://a/b/c", "hf://a/..@", "hf://", "hf:///b", "hf://a/b c"])
def test_names_of_another_form_are_refused(name):
    for use in (repository_id, download, check_upload):
        with pytest.raises(UserError, match="write hf://owner/name, or hf://owner/name@revision."):
            use(name)


def test_download_takes_its_copy_without_a_network(hub, monkeypatch):
    hub.commit("me/toy", FILES)
    folder = download(NAME)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert download(NAME) == folder
    with pytest.raises(UserError, match="^hf://me/other: the Hub cannot be reached, .*refused"):
        download("hf://me/other")


@pytest.mark.parametrize("damage", [lambda content: content[:-1] + b"?", lambda content: content[:-1]])
def test_download_refuses_a_damaged_file(hub, damage):
    hub.commit("me/toy", {"generator.keras": b"weights", "config.yaml": b"a"})
    hub.damage = lambda content: damage(content) if content == b"weights" else content
    with pytest.raises(UserError, match="^hf://me/toy: (generator.keras is damaged. Delete|.*transfer failed)"):
        download(NAME)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (download, check_upload):
        with pytest.raises(UserError, match=r"huggingface_hub is not installed. Run `pip install '\.\[hub\]'`"):
            use(NAME)
