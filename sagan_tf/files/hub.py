"""Repositories of the Hugging Face Hub by name, `hf://owner/name` or `hf://owner/name@revision`."""

import contextlib
import re
from pathlib import Path

from sagan_tf.errors import UserError, install_hint, summarize
from sagan_tf.files.hashing import sha256, sha256_of_parts
from sagan_tf.utils.progress import shows_bars

SCHEME = "hf://"
_NAME = re.compile(rf"{SCHEME}(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>\S+))?", re.ASCII)
# What is downloaded; a repository may hold anything else, of any size.
_RUN_FILES = [
    "config.yaml", "generator.keras", "data/class_names.json", "data/fingerprint.json",
    "checkpoints/ckpt-[0-9]*.index", "checkpoints/ckpt-[0-9]*.data-*",
]  # fmt: skip
_NESTED = "checkpoints/*/*"  # a star matches slashes too
_OWN_FOLDERS = ("checkpoints/", "tflite/")  # their files are replaced as a whole
_TAG_PART = r"(?!.*\.\.)\w(?:[\w.+-]*[\w+-])?(?<!\.lock)"
_TAG = re.compile(rf"{_TAG_PART}(?:/{_TAG_PART})*", re.ASCII)  # some of what Git allows
_SHA256 = re.compile("[0-9a-f]{64}")


def is_hub_name(source):
    """Whether a str or path starts as a name of the Hub does; it may be malformed."""
    return hub_name(source).startswith(SCHEME)


def hub_name(source):
    """A str or path as a name of the Hub is written: pathlib makes `hf:/owner/name` of it."""
    text = str(source)
    return text.replace("hf:/", SCHEME, 1) if isinstance(source, Path) and text.startswith("hf:/") else text


def repository_id(name):
    """`owner/name` of `hf://owner/name@revision`; UserError for another form."""
    return _parse(name)["id"]


def output_folder(name):
    """Relative path for what is made of a repository, of each revision its own: `hub/owner/name@revision`."""
    parts = _parse(name)
    revision = parts["revision"]
    if revision and "/" in revision:
        revision = f"{revision.replace('/', '_')}_{sha256_of_parts([revision.encode()])[:8]}"
    return Path("hub") / (f"{parts['id']}@{revision}" if revision else parts["id"])


def download(name):
    """Downloads the files of a run into the cache of `huggingface_hub`, or takes them from there.

    Without a network, what the cache holds of the same name is taken.

    Args:
        name: str, such as `hf://owner/name@v1`.

    Returns:
        pathlib.Path of a folder that must not be written to.

    Raises:
        UserError: `huggingface_hub` is not installed, the repository or revision does not exist or may not be read, the
            Hub cannot be reached, or a file is damaged.
    """
    parts, api = _parse(name), _api(name)
    patterns = {"allow_patterns": _RUN_FILES, "ignore_patterns": _NESTED}
    with _one_line_errors(name):
        folder = Path(api.snapshot_download(parts["id"], revision=parts["revision"], **patterns))
    for path in folder.rglob("*"):
        digest = path.resolve().name  # of large files the cache keeps one copy, named by its hash
        if path.is_symlink() and _SHA256.fullmatch(digest) and sha256(path) != digest:
            raise UserError(f"{name}: {path.name} is damaged. Delete {path.resolve()}, and try again.")
    return folder


def upload(folder, name, private=False):
    """Uploads a folder as one commit; creates the repository if there is none.

    Args:
        folder: pathlib.Path.
        name: str, such as `hf://owner/name`; a revision becomes the tag of the commit.
        private: bool, for a new repository.

    Returns:
        str, the address of the commit.

    Raises:
        UserError: As `download`; the token may not write, or the tag exists. The files of the repository are unchanged
            then, unless the tag alone failed.
    """
    parts, api = _parse(name), _api(name)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with _one_line_errors(name):
        api.create_repo(parts["id"], private=private or None, exist_ok=True)
        if parts["revision"] and api.revision_exists(parts["id"], parts["revision"]):
            raise UserError(f"{name}: there is a revision `{parts['revision']}`. Choose another, or leave it out.")
        # Files of another generator would be read with this one.
        old = [path for path in api.list_repo_files(parts["id"]) if path.startswith(_OWN_FOLDERS) or path in _RUN_FILES]
        operations = [CommitOperationDelete(path) for path in old if path not in files]
        operations += [CommitOperationAdd(path, source) for path, source in files.items()]
        commit = api.create_commit(parts["id"], operations, commit_message="Upload a generator of sagan_tf")
        if parts["revision"]:
            api.create_tag(parts["id"], tag=parts["revision"], revision=commit.oid)
    return str(commit.commit_url)


def check_upload(name):
    """Raises UserError if `upload` would at once: before what is to be uploaded is made."""
    revision = _parse(name)["revision"]
    if revision and not _TAG.fullmatch(revision):
        raise UserError(
            f"{name}: `{revision}` is no name for a tag: letters, digits, and `.`, `_`, `+`, `-` and `/` between them."
        )
    if revision == "main":
        raise UserError(f"{name}: `main` is the branch that is written to, not a new tag. Leave `@main` out.")
    _api(name)


def _parse(name):
    name = hub_name(name)
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: write {SCHEME}owner/name, or {SCHEME}owner/name@revision.")
    return match


def _api(name):
    try:
        from huggingface_hub import HfApi, utils
    except ImportError:
        raise UserError(f"{name}: huggingface_hub is not installed. {install_hint('hub')}") from None
    if not shows_bars():
        utils.disable_progress_bars()
    return HfApi(library_name="sagan_tf")


@contextlib.contextmanager
def _one_line_errors(name):
    from huggingface_hub import errors

    login = "`hf auth login` saves a token, or set HF_TOKEN."
    try:
        yield
    except UserError:
        raise
    except errors.HFValidationError as error:
        raise UserError(f"{name}: {summarize(error)}") from None
    except errors.GatedRepoError:
        raise UserError(f"{name}: its owner must grant access. Ask for it on its page; {login}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: there is no such repository, or your token may not read it. {login}") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: the repository has no such revision.") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UserError(f"{name}: your token does not allow it (HTTP {status}). {login}") from None
        raise UserError(f"{name}: the Hub answers {status}: {summarize(error)}") from None
    except Exception as error:  # of the network, with types of the HTTP client
        if getattr(error, "errno", None) is not None:
            raise
        reason = summarize(error.__cause__ or error)
        raise UserError(f"{name}: the Hub cannot be reached, or a transfer failed: {reason}") from None
