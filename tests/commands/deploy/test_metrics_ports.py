"""The metrics ports of `parley up`: it checks all five before it starts anything, and names the service of one in use."""

import os
import re
import socket
import subprocess
import sys

import pytest

from deploy.local.address import PortTaken, claim_metrics_ports, claim_port
from tests.support.waiting import HANG_S


def free_pair() -> int:
    """A free port with another free one after it."""
    while True:
        port = claim_port("127.0.0.1", 0)
        try:
            return claim_port("127.0.0.1", port + 1) - 1
        except (PortTaken, OverflowError):
            continue


def test_free_ports_are_accepted_and_stay_free() -> None:
    first = free_pair()
    claim_metrics_ports("127.0.0.1", first, ("vad", "asr"), 0)
    assert claim_port("127.0.0.1", first) == first


def test_a_port_in_use_is_reported_with_its_service() -> None:
    first = free_pair()
    with (
        socket.create_server(("127.0.0.1", first + 1)),
        pytest.raises(PortTaken, match=f"metrics of asr: port {first + 1} on 127.0.0.1 is in use.*METRICS_PORT="),
    ):
        claim_metrics_ports("127.0.0.1", first, ("vad", "asr"), 0)


def test_the_page_and_a_metrics_port_are_not_the_same() -> None:
    first = free_pair()
    with pytest.raises(
        PortTaken, match=f"metrics of asr: port {first + 1} on 127.0.0.1 is already the port of the page"
    ):
        claim_metrics_ports("127.0.0.1", first, ("vad", "asr"), first + 1)


def test_ports_beyond_the_last_are_refused() -> None:
    with pytest.raises(PortTaken, match=r"PARLEY_METRICS_PORT=65533: .* 5 ports, .* at most 65531"):
        claim_metrics_ports("127.0.0.1", 65533, ("vad", "asr", "llm", "tts", "edge"), 0)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(PortTaken, match=r"metrics of vad: port \d+ on 192.0.2.1 cannot be used \(.+\)"):
        claim_metrics_ports("192.0.2.1", 9464, ("vad",), 0)


def test_up_reports_a_taken_port_before_it_starts_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        env = {**os.environ, "PARLEY_METRICS_PORT": str(port), "PARLEY_PORT": "0"}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "deploy.cli", "up"],
            env=env, capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(rf"metrics of vad: port {port} on 127.0.0.1 is in use: .+\n", done.stderr)
    assert done.stdout == ""
