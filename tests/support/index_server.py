"""A package index on the loopback interface, and a builder of wheels."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping

from tests.support.http_server import ScriptedHandler, ScriptedServer

JSON = "application/vnd.pypi.simple.v1+json"


def build_wheel(package: str, version: str, members: Mapping[str, bytes]) -> bytes:
    """Return a wheel with these members that pip accepts."""
    module = package.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    metadata = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in {**members, **metadata}.items():
            # With a fixed date, so that the same members make the same wheel.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class IndexServer(ScriptedServer):
    """Serves `wheels` by file name as a simple index at `url`; a context manager."""

    def __init__(self) -> None:
        self.wheels: dict[str, bytes] = {}
        self.html = False
        """Answer with HTML, as older servers do, and not with JSON."""
        self.hashes = True
        """Name the hashes of the wheels."""
        self.page: bytes | None = None
        """Body of every page in place of the links."""
        self.resumable = True
        """Respect the Range of a request."""
        self.cuts: list[int] = []
        """The next downloads end after these numbers of bytes."""
        self.statuses: list[int] = []
        """The next downloads are refused with these statuses."""
        self.password = ""
        """What a client has to send as `user:password`; empty: nothing."""
        self.downloads: list[str | None] = []
        """The Range of each download."""
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        return f"{self.address}/simple"


class _Handler(ScriptedHandler):
    scripted: IndexServer

    def do_GET(self) -> None:
        index = self.scripted
        wanted = base64.b64encode(index.password.encode()).decode()
        if index.password and self.headers.get("Authorization") != f"Basic {wanted}":
            return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        folder, _, name = self.path.rstrip("/").rpartition("/")
        if folder == "/files" and name in index.wheels:
            return self._file(index.wheels[name])
        files = [wheel for wheel in index.wheels if wheel.startswith(name.replace("-", "_") + "-")]
        if folder != "/simple" or not files:
            return self._answer(404, b"", {})
        return self._page(name, files)

    def _page(self, package: str, files: list[str]) -> None:
        index = self.scripted
        if index.page is not None:
            return self._answer(200, index.page, {"Content-Type": "text/html" if index.html else JSON})
        hashes = {file: sha256(index.wheels[file]) if index.hashes else "" for file in files}
        if index.html:
            links = [f'<a href="../../files/{file}#sha256={sha256}">{file}</a>' for file, sha256 in hashes.items()]
            return self._answer(200, "<br>".join(links).encode(), {"Content-Type": "text/html"})
        described = [
            {"filename": file, "url": f"/files/{file}", "hashes": {"sha256": sha256} if sha256 else {}}
            for file, sha256 in hashes.items()
        ]
        page = {"meta": {"api-version": "1.0"}, "name": package, "files": described}
        return self._answer(200, json.dumps(page).encode(), {"Content-Type": JSON})

    def _file(self, data: bytes) -> None:
        index = self.scripted
        index.downloads.append(asked := self.headers.get("Range"))
        if index.statuses:
            return self._answer(index.statuses.pop(0), b"", {})
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and index.resumable else 0
        if start:
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return self._answer(206, data[start:], headers)
        return self._answer(200, data, {})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        index = self.scripted
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.path.startswith("/files/") and status < 300 and index.cuts:
            body = body[: index.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)
