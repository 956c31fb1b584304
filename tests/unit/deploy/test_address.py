"""Free and taken ports on real sockets, and the URLs of a server by the address that it listens on."""

import socket
from types import SimpleNamespace

import psutil
import pytest

from deploy.local.address import PortTaken, base_url, claim_port, network_urls


def test_a_free_port_is_returned_and_stays_free() -> None:
    port = claim_port("127.0.0.1", 0)
    assert port > 0
    assert claim_port("127.0.0.1", port) == port


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is in use"):
            claim_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(PortTaken, match="PARLEY_HOST="):
        claim_port("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("example.org", "http://example.org:8000"),
    ],
)
def test_the_url_connects_to_the_listening_address(host: str, url: str) -> None:
    assert base_url(host, 8000) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_loopback_is_this_machine_alone(host: str) -> None:
    assert network_urls(host, 8000) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_all_interfaces_have_the_addresses_of_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "lo": [SimpleNamespace(family=socket.AF_INET, address="127.0.0.1")],
        "eth0": [
            SimpleNamespace(family=socket.AF_INET, address="192.168.1.5"),
            SimpleNamespace(family=socket.AF_INET6, address="fe80::1%eth0"),
        ],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: own)
    assert network_urls(host, 8123) == ["http://192.168.1.5:8123"]


@pytest.mark.parametrize(
    ("host", "url"), [("192.168.1.5", "http://192.168.1.5:80"), ("fd00::5", "http://[fd00::5]:80")]
)
def test_one_address(host: str, url: str) -> None:
    assert network_urls(host, 80) == [url] == [base_url(host, 80)]


def test_a_name_may_be_any_machine() -> None:
    assert network_urls("voice.example.org", 80) == ["http://voice.example.org:80"]
