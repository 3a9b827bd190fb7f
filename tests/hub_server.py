"""A server on this machine that speaks as much of the Hugging Face Hub's protocol as `huggingface_hub` needs here.

Large files travel by Git LFS; the Hub's other protocol for them, Xet, has a closed server.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_writer"
_LARGE = (".keras", ".h5", ".tflite", ".png")


class Hub:
    """Repositories in memory.

    Attributes:
        refs: dict, repository -> branch or tag -> commit.
        commits: dict, commit -> path -> bytes.
        private, gated: sets of repositories.
        failing: Suffix of the paths that the server answers with an error; None for none.
        damage: Function of the bytes of a file that are sent; None to send them as they are.
    """

    def __init__(self):
        self.refs, self.commits, self.objects = {}, {}, {}
        self.private, self.gated = set(), set()
        self.failing = self.damage = None

    def commit(self, repository, files, ref="main"):
        """Replaces the files of a branch by a commit, and returns it."""
        digest = hashlib.sha1(repr((repository, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = files
        self.refs.setdefault(repository, {})[ref] = digest
        return digest

    def files(self, repository, ref="main"):
        return self.commits[self.refs[repository].get(ref, ref)]


@contextlib.contextmanager
def serve_hub():
    """Runs a `Hub` until the end of the block: yields it and the address of its server."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A `Hub` that `huggingface_hub` talks to, with an empty cache and a token."""
    from huggingface_hub import constants

    with serve_hub() as (hub, address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.address = address
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.failing and path.endswith(self.hub.failing):
            return self._send(b"", 400)
        for pattern, answer in _ROUTES:
            if match := re.fullmatch(pattern, path):
                return answer(self, *match.groups())
        return self._send(b"", 404)

    def _send(self, content, status=200, **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _error(self, status, code):
        self._send({"error": code}, status, X_Error_Code=code)

    def _files(self, repository, ref):
        """Files of a commit; None once an error has been sent."""
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository not in self.hub.refs or (repository in self.hub.private and not is_known):
            return self._error(401 if not is_known else 404, "RepoNotFound")
        if repository in self.hub.gated:
            return self._error(403, "GatedRepo")
        digest = self.hub.refs[repository].get(ref, ref)
        if digest not in self.hub.commits:
            return self._error(404, "RevisionNotFound")
        self.digest = digest
        return self.hub.commits[digest]

    def _may_write(self):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send({"error": "Forbidden"}, 403)
            return False
        return True

    def create(self):
        if not self._may_write():
            return
        wish = json.loads(self.body)
        repository = f"{wish['organization']}/{wish['name']}"
        address = {"url": f"{self.hub.address}/{repository}"}
        if repository in self.hub.refs:
            return self._send(address, 409)
        self.hub.commit(repository, {".gitattributes": b""})
        if wish.get("visibility") == "private" or wish.get("private"):
            self.hub.private.add(repository)
        self._send(address)

    def info(self, repository, ref="main"):
        files = self._files(repository, ref)
        if files is not None:
            siblings = [{"rfilename": path} for path in files]
            self._send({"id": repository, "sha": self.digest, "siblings": siblings})

    def tree(self, repository, ref):
        files = self._files(repository, ref)
        if files is not None:
            self._send([_describe(path, content) for path, content in files.items()])

    def resolve(self, repository, ref, path):
        files = self._files(repository, ref)
        if files is None:
            return
        if path not in files:
            return self._error(404, "EntryNotFound")
        about = _describe(path, files[path])
        content = self.hub.damage(files[path]) if self.hub.damage and self.command == "GET" else files[path]
        etag = about.get("lfs", about)["oid"]
        self._send(content, X_Repo_Commit=self.digest, ETag=f'"{etag}"', X_Linked_Size=len(files[path]))

    def validate(self):
        self._send({"errors": [], "warnings": []})

    def preupload(self, repository, ref):
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular"}
            for file in json.loads(self.body)["files"]
        ]
        if self._may_write():
            self._send({"files": [{**file, "shouldIgnore": False} for file in modes]})

    def batch(self, repository):
        wishes = json.loads(self.body)["objects"]
        actions = {wish["oid"]: {"upload": {"href": f"{self.hub.address}/lfs/{wish['oid']}"}} for wish in wishes}
        self._send({"objects": [{**wish, "actions": actions[wish["oid"]]} for wish in wishes]})

    def put_object(self, oid):
        self.hub.objects[oid] = self.body
        self._send(b"")

    def add_commit(self, repository, ref):
        files = dict(self.hub.files(repository, ref))
        for line in self.body.splitlines():
            kind, value = (json.loads(line)[key] for key in ("key", "value"))
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        digest = self.hub.commit(repository, files, ref)
        self._send({"commitUrl": f"{self.hub.address}/{repository}/commit/{digest}", "commitOid": digest})

    def tag(self, repository, ref):
        self.hub.refs[repository][json.loads(self.body)["tag"]] = self.hub.refs[repository].get(ref, ref)
        self._send(b"")


def _describe(path, content):
    about = {"type": "file", "path": path, "size": len(content)}
    about["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if path.endswith(_LARGE):
        oid = hashlib.sha256(content).hexdigest()
        about["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
    return about


_REPOSITORY = "([^/]+/[^/]+)"
_ROUTES = [
    ("/api/repos/create", _Handler.create),
    ("/api/validate-yaml", _Handler.validate),
    (f"/api/models/{_REPOSITORY}", _Handler.info),
    (f"/api/models/{_REPOSITORY}/revision/(.+)", _Handler.info),
    (f"/api/models/{_REPOSITORY}/tree/([^/]+)/?", _Handler.tree),
    (f"/api/models/{_REPOSITORY}/preupload/(.+)", _Handler.preupload),
    (f"/api/models/{_REPOSITORY}/commit/(.+)", _Handler.add_commit),
    (f"/api/models/{_REPOSITORY}/tag/(.+)", _Handler.tag),
    (f"/{_REPOSITORY}.git/info/lfs/objects/batch", _Handler.batch),
    ("/lfs/(.+)", _Handler.put_object),
    (f"/{_REPOSITORY}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
