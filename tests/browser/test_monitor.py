"""The monitor's pages in headless Chromium on a real system: a slow turn, and an empty system."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from selenium.webdriver.common.by import By
from websockets.sync.client import ClientConnection, connect

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.browser.test_page import Page, Server, chromium

SLOW_ENDPOINT_MS = 1100
WATCHED = """
    window.hid = false;
    Object.defineProperty(document, "hidden", { get: () => window.hid });
    window.asked = [];
    const ask = window.fetch;
    window.fetch = (url, options) => { asked.push(url); return ask(url, options); };
"""


@contextmanager
def talking(server: Server, pcm: bytes) -> Iterator[tuple[ClientConnection, str]]:
    """A conversation in progress with one slow turn: the client and the session id."""
    with connect(f"ws{server.url.removeprefix('http')}/ws?rate=16000", proxy=None) as client:
        client.send(json.dumps({"type": "start_streaming", "config": {"endpoint_ms": SLOW_ENDPOINT_MS}}))
        session = json.loads(client.recv(10))["session_id"]
        audio = bytes(8_000) + pcm + bytes(2 * 16 * SLOW_ENDPOINT_MS + 16_000)
        for at in range(0, len(audio), 640):
            client.send(audio[at : at + 640])
        while True:
            message = client.recv(20)
            if isinstance(message, str) and json.loads(message)["type"] == "reply_done":
                break
        yield client, session


def watch(page: Page, url: str) -> None:
    page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCHED})
    page.driver.get(url)
    page.until("return window.monitor && monitor.snapshots > 0")


def words(page: Page, selector: str) -> str:
    return page.driver.find_element(By.CSS_SELECTOR, selector).text


def test_an_operator_sees_a_slow_turn_and_reads_its_log(
    parley_server: Server, speech_pcm: Callable[[str, int], bytes], tmp_path: Path
) -> None:
    with talking(parley_server, speech_pcm("hello there", 16_000)) as (client, session), chromium(tmp_path) as page:
        watch(page, f"{parley_server.url}/monitor")
        assert page.run("return document.querySelectorAll('.state.ready').length") == 4
        assert "of 400" in words(page, "#stages")
        assert session[:8] in words(page, "#sessions")
        page.until(f"return document.querySelector('#slow .turn.slow a[href$=\"{session}\"]')")
        row = f"#turns .turn.slow:has(a[href$='{session}'])"
        assert len(page.driver.find_elements(By.CSS_SELECTOR, f"{row} .segment")) >= 4
        assert "endpoint 1.1" in page.run(f'return document.querySelector("{row} .track").ariaLabel').lower()
        assert "commands" in words(page, "#broker").lower()
        assert "No worker reports a GPU" in words(page, "#gpus")

        for width, height, dark in ((1280, 900, False), (1280, 900, True), (360, 740, False)):
            page.look(width, height, dark=dark)
            assert page.run("return document.documentElement.scrollWidth") <= width
            clipped = "[...document.querySelectorAll('.body')].filter((body) => body.scrollWidth > body.clientWidth)"
            assert page.run(f"return {clipped}.map((body) => body.parentElement.id)") == []

        page.run(f'document.querySelector("{row} a").click()')
        page.until("return window.monitor && monitor.snapshots > 0 && location.pathname.includes('/sessions/')")
        page.until("return document.querySelector('.turn-card')")
        assert "in progress" in words(page, "#tiles")
        assert "first audio 1.1" in words(page, ".turn-card h3")
        log = words(page, "#event-log")
        assert "TurnCommitted" in log
        assert "11 characters" in log
        assert "hello" not in log
        assert "VoiceChunk" not in log
        page.driver.find_element(By.ID, "show-all").click()
        assert "VoiceChunk" in words(page, "#event-log")
        client.close()
        page.until("return document.getElementById('tiles').innerText.includes('ended')")
        assert "SessionEnded" in words(page, "#event-log")
        ids = page.run("return [...document.querySelectorAll('#event-log th')].map((cell) => cell.textContent)")
        assert ids.count("SessionStarted") == 1  # polled again and again, shown once
        assert page.console_errors() == []


def test_a_hidden_page_does_not_poll(parley_server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        watch(page, f"{parley_server.url}/monitor")
        page.until("return monitor.snapshots > 1")
        page.run("window.hid = true; window.before = monitor.snapshots")
        page.driver.execute_async_script("setTimeout(arguments[0], 1200)")  # a request may be in flight
        page.run("window.before = asked.length")
        page.driver.execute_async_script("setTimeout(arguments[0], 1200)")
        assert page.run("return asked.length === before")
        page.run("window.hid = false; document.dispatchEvent(new Event('visibilitychange'))")
        page.until("return asked.length > before")
        assert page.console_errors() == []


@contextmanager
def lone_edge(**settings: Any) -> Iterator[tuple[str, Gateway]]:
    """A gateway without a broker, behind a real HTTP server."""
    gateway = Gateway(Settings.model_validate(settings), Shutdown(1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(gateway), log_level="error", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", gateway
        finally:
            server.should_exit = True
            thread.join(10)


def test_every_card_has_an_empty_state(tmp_path: Path) -> None:
    with lone_edge(data_dir=tmp_path) as (url, gateway), chromium(tmp_path) as page:
        watch(page, f"{url}/monitor")
        assert "New conversations are refused: the broker is not reachable" in words(page, "#warning")
        assert words(page, "#stages").count("unknown") == 4
        for part, expected in {
            "turns": "No turn has ended yet",
            "slow": "No turn has ended yet",
            "latency": "No latency to show yet",
            "sessions": "No conversation is in progress",
            "broker": "The broker is not reachable",
        }.items():
            assert expected in words(page, f"#{part}"), part
        assert page.console_errors() == []

        gateway.settings = gateway.settings.model_copy(update={"monitor": "off"})
        page.until("return document.getElementById('warning').innerText.includes('PARLEY_MONITOR=on')")


def test_an_unknown_conversation_is_reported(parley_server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.driver.get(f"{parley_server.url}/monitor/sessions/nobody")
        page.until("return document.getElementById('warning').innerText.includes(\"session 'nobody' is unknown\")")
