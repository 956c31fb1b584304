"""`parley voices` with a server on loopback: what it sends, prints and returns."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app

ANN = {"name": "ann", "kind": "cloned", "text": "Hello.", "seconds": 4.0, "rate_hz": 24_000, "usable": True}


class Server(ThreadingHTTPServer):
    """Answers every request with the test's answer, and records it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.answer = 200, b"{}"
        self.asked: list[tuple[str, str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will(self, status: int, answer: Any) -> None:
        self.status, self.answer = status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("content-type", ""), body))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that the library calls

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "me.flac"
    path.write_bytes(b"sound")
    return path


def voices(*words: str, url: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["voices", *words, "--url", url])
    return result.exit_code, result.stdout, result.stderr


def of_the_engine(name: str, language: str) -> dict[str, Any]:
    return {"name": name, "kind": "engine", "usable": True, "language": language}


def test_voices_are_listed_by_language(server: Server) -> None:
    own = [of_the_engine(*one) for one in (("joe", "en-us"), ("thorsten", "de"), ("alan", "en-GB"), ("any", ""))]
    server.will(200, {"voices": [*own, ANN, {**ANN, "usable": False}]})
    code, out, _ = voices("list", url=server.url)
    assert (code, out.splitlines()) == (
        0,
        [
            "any language: any",
            "de: thorsten",
            "en: joe, alan",
            "ann  cloned: 4.0 s, 'Hello.'",
            "ann  cloned, not usable with this tts engine: 4.0 s, 'Hello.'",
        ],
    )
    _, out, _ = voices("list", "--json", url=server.url)
    assert json.loads(out)[4] == ANN
    server.will(200, {"voices": []})
    assert "parley voices add" in voices("list", url=server.url)[1]


@pytest.mark.parametrize(
    ("language", "names"),
    [("en", ["joe", "alan", "any", "ann"]), ("en_GB", ["alan", "any", "ann"]), ("fr", ["any", "ann"])],
)
def test_voices_of_one_language(language: str, names: list[str], server: Server) -> None:
    own = [of_the_engine(*one) for one in (("joe", "en-us"), ("alan", "en-GB"), ("thorsten", "de"), ("any", ""))]
    server.will(200, {"voices": [*own, ANN]})
    _, out, _ = voices("list", "--language", language, "--json", url=server.url)
    assert [voice["name"] for voice in json.loads(out)] == names
    server.will(200, {"voices": own[:3]})
    assert "No voice speaks 'fr'" in voices("list", "--language", "fr", url=server.url)[1]


def test_a_recording_is_sent_with_its_text(server: Server, clip: Path) -> None:
    server.will(201, {**ANN, "usable": False, "advice": "longer is better"})
    code, out, _ = voices("add", str(clip), "--name", "ann", "--text", "Hi, it's me & you?", url=f"{server.url}/")
    ((method, path, kind, body),) = server.asked
    assert (code, method, urlsplit(path).path, kind, body) == (0, "POST", "/v1/voices/ann", "audio/flac", b"sound")
    assert parse_qs(urlsplit(path).query) == {"text": ["Hi, it's me & you?"]}
    assert "added ann: 4.0 s\nlonger is better\n" in out
    assert "PARLEY_TTS_ENGINE=f5" in out


def test_a_file_that_is_too_large_is_not_sent(server: Server, clip: Path) -> None:
    clip.write_bytes(bytes(10 * 1024 * 1024 + 1))
    code, _, error = voices("add", str(clip), "--name", "ann", "--text", "Hello.", url=server.url)
    assert (code, server.asked) == (1, [])
    assert "larger than 10 MB" in error


def test_a_voice_is_deleted(server: Server) -> None:
    server.will(200, {"name": "ann", "deleted": True})
    assert voices("delete", "ann", url=server.url) == (0, "deleted ann\n", "")
    assert server.asked[0][:2] == ("DELETE", "/v1/voices/ann")


def test_the_error_of_the_server_is_printed(server: Server) -> None:
    server.will(409, {"error": {"type": "t", "code": "c", "message": "there is another voice ann"}})
    assert voices("delete", "ann", url=server.url) == (1, "", "there is another voice ann\n")


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"detail": "Not Found"}'])
def test_another_server_is_reported(server: Server, status: int, answer: bytes) -> None:
    server.will(status, answer)
    code, _, error = voices("list", url=server.url)
    assert code == 1
    assert f"the server at {server.url} is not a Parley" in error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[", "ftp://127.0.0.1"])
def test_an_unreachable_server_is_reported(url: str) -> None:
    code, _, error = voices("list", url=url)
    assert code == 1
    assert f"no Parley answers at {url}" in error


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_would_be_another_path_is_not_sent(server: Server, name: str) -> None:
    assert voices("delete", name, url=server.url)[0] == 1
    assert server.asked == []
