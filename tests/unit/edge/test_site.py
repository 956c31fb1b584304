"""Which pages may use the edge, and by which names it may be called."""

import pytest

from services.edge.access.request import Request, request_of
from services.edge.access.site import Site, host_name, hosts_of, split

SITE = Site(["voice.example.org"], ["https://shop.example.org", "chrome-extension://abcdef"])


def request(host: str | None, origin: str | None, *, secure: bool = False) -> Request:
    return Request("GET", "/ws", host, origin, secure, True, "127.0.0.1", False, None)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "192.168.1.7:8000", "[fe80::1]",
        "voice.example.org", "Voice.Example.org:443", None,
    ],
)  # fmt: skip
def test_names_of_this_server(host: str | None) -> None:
    assert SITE.is_called(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "voice.example.org.",
        "", ":8000", "127.0.0.1:8000@evil.example", "[::1]evil.example", "voice.example.org:x",
    ],
)  # fmt: skip
def test_a_name_that_somebody_else_made_to_point_here(host: str) -> None:
    assert not SITE.is_called(host)


@pytest.mark.parametrize(
    ("host", "origin", "secure"),
    [
        ("127.0.0.1:8000", None, False),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", False),
        ("localhost", "http://localhost", False),
        ("localhost:80", "http://localhost", False),
        ("[::1]:8000", "http://[::1]:8000", False),
        ("voice.example.org", "https://voice.example.org", True),
        ("voice.example.org:443", "https://voice.example.org", True),
        ("voice.example.org", "https://voice.example.org", False),  # a proxy ends TLS
        ("127.0.0.1:8000", "https://shop.example.org", False),
        ("127.0.0.1:8000", "HTTPS://Shop.example.org", False),
        ("127.0.0.1:8000", "chrome-extension://abcdef", False),
    ],
)
def test_pages_that_may_use_it(host: str, origin: str | None, secure: bool) -> None:
    assert SITE.allows(request(host, origin, secure=secure))


@pytest.mark.parametrize(
    ("host", "origin", "secure"),
    [
        ("127.0.0.1:8000", "https://evil.example", False),
        ("127.0.0.1:8000", "http://127.0.0.1:3000", False),
        ("127.0.0.1:8000", "http://localhost:8000", False),
        ("127.0.0.1:8000", "null", False),
        ("127.0.0.1:8000", "", False),
        ("127.0.0.1:8000", "ftp://127.0.0.1:8000", False),
        ("127.0.0.1:8000", "https://shop.example.org.evil.example", False),
        ("127.0.0.1:8000", "http://shop.example.org", False),
        ("voice.example.org", "http://voice.example.org", True),  # a page that anybody on the way can change
        (None, "http://127.0.0.1:8000", False),
    ],
)
def test_pages_of_other_sites(host: str | None, origin: str, secure: bool) -> None:
    assert not SITE.allows(request(host, origin, secure=secure))


def test_the_name_in_a_host_header() -> None:
    assert [host_name(host) for host in ("A.example:1", "[::1]:2", "a b", "a:b:c")] == ["a.example", "[::1]", "a b", ""]


def test_names_come_from_three_settings() -> None:
    found = hosts_of("a.example, b.example,", "wss://calls.example:444/phone/twilio", "edge.example")
    assert found == ["a.example", "b.example", "calls.example", "edge.example"]
    assert hosts_of("", "", "") == split(" , ") == []


def scope(**headers: str) -> dict[str, object]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "websocket", "scheme": "ws", "path": "/ws", "headers": pairs, "client": ("::1", 5)}


def test_a_key_comes_in_a_header_or_as_a_subprotocol() -> None:
    assert request_of(scope(authorization="Bearer  pk_1")).credential == "pk_1"
    assert request_of(scope(authorization="bearer pk_1")).credential == "pk_1"
    assert request_of(scope(authorization="Basic pk_1")).credential is None
    offered = {"subprotocols": ["realtime", "openai-insecure-api-key.pk_2", "openai-agents-sdk.1"]}
    assert request_of(scope() | offered).credential == "pk_2"
    assert request_of(scope(authorization="Bearer pk_1") | offered).credential == "pk_1"


def test_what_a_proxy_has_passed_on_is_known() -> None:
    assert not request_of(scope(host="127.0.0.1")).forwarded
    for header in ("x_forwarded_for", "forwarded", "via", "x_forwarded_host", "x_real_ip"):
        assert request_of(scope(**{header: "1.2.3.4"})).forwarded


def test_what_changes_something() -> None:
    assert request(None, None).changes_something
    plain = {"type": "http", "scheme": "http", "path": "/", "headers": [], "client": None}
    assert not request_of(plain | {"method": "GET"}).changes_something
    assert request_of(plain | {"method": "DELETE"}).changes_something
