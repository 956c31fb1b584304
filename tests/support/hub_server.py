"""A model hub on the loopback interface, as its client library needs it, with the refusals of the real one."""

import fnmatch
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_server import ScriptedHandler, ScriptedServer

LARGE_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.onnx")
"""Identified by SHA-256, other files by git's SHA-1."""


@dataclass
class Repository:
    """A model's files, and how the hub behaves when it is asked for them."""

    files: dict[str, bytes]
    gated: bool = False
    """The description is public, the files are not."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Wrong sizes to report."""

    @property
    def commit(self) -> str:
        return blob_id(json.dumps({name: blob_id(data) for name, data in self.files.items()}).encode())


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_large(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in LARGE_FILES)


class HubServer(ScriptedServer):
    """Serves `repositories`; a context manager. `requests` holds method, path and Range of each request."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.break_off: set[str] = set()
        """Files whose next download ends in the middle."""
        self.answer: tuple[int, dict[str, str]] | None = None
        """Status and headers of the refusal of every request."""
        self.nonsense: bytes | None = None
        """Body of every description in place of the JSON."""
        self.held = threading.Event()
        """Requests wait until it is set."""
        self.held.set()
        self.echo_authorization = False
        """Refuse everything, and quote the client's token in the reason."""
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        return self.address

    def add(self, name: str, files: dict[str, bytes], **behaviour: Any) -> Repository:
        self.repositories[name] = Repository(files, **behaviour)
        return self.repositories[name]

    def downloads(self) -> list[str]:
        """Files whose contents were requested, in order."""
        return [path.split("/", 5)[5] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


class _Handler(ScriptedHandler):
    scripted: HubServer

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.scripted
        url = urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        hub.held.wait(self.timeout)
        if hub.echo_authorization:
            return self._refuse(500, {"X-Error-Message": f"bad header {self.headers.get('Authorization')}"})
        if hub.answer is not None:
            return self._refuse(*hub.answer)
        parts = path.strip("/").split("/")
        described = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if described else parts[:2])
        repository = hub.repositories.get(name)
        if repository is None:
            status = 404 if "Authorization" in self.headers else 401
            return self._refuse(status, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if described:
            with_sizes = "true" in str(parse_qs(url.query).get("blobs", "")).lower()
            return self._describe(name, repository, parts[4:], with_sizes=with_sizes)
        if repository.gated:
            status = 403 if "Authorization" in self.headers else 401
            return self._refuse(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        return self._file(repository, "/".join(parts[4:]))

    def _describe(self, name: str, repository: Repository, rest: list[str], *, with_sizes: bool) -> None:
        files = []
        for file, data in repository.files.items():
            size = repository.sizes.get(file, len(data))
            large = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 134}
            if rest[:1] == ["tree"]:
                about = {"type": "file", "path": file, "oid": blob_id(data), "size": size}
                files.append({**about, **({"lfs": {**large, "oid": large["sha256"]}} if is_large(file) else {})})
            else:
                known = {"size": size, "blobId": blob_id(data), **({"lfs": large} if is_large(file) else {})}
                files.append({"rfilename": file, **(known if with_sizes else {})})
        body: object = files
        if rest[:1] != ["tree"]:
            body = {"id": name, "sha": repository.commit, "siblings": files}
        data = json.dumps(body).encode() if self.scripted.nonsense is None else self.scripted.nonsense
        self.send_response(200)
        self._end({"Content-Type": "application/json", "Content-Length": str(len(data))})
        self._write(data)

    def _file(self, repository: Repository, file: str) -> None:
        data = repository.files.get(file)
        if data is None:
            return self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit})
        etag = hashlib.sha256(data).hexdigest() if is_large(file) else blob_id(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        wanted = data
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            wanted = data[start:]
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if asked else 200)
        self._end({**headers, "Content-Length": str(len(wanted))})
        if self.command == "GET" and file in self.scripted.break_off:
            self.scripted.break_off.discard(file)
            wanted = wanted[: len(wanted) // 2]
            self.close_connection = True
        return self._write(wanted)

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self._end({**headers, "Content-Length": "0"})

    def _end(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, data: bytes) -> None:
        if self.command == "GET":
            self.wfile.write(data)
