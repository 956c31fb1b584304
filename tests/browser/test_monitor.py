"""The monitor's pages in headless Chromium on a real system: a slow turn, and an empty system."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from websockets.sync.client import ClientConnection, connect

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.browser.conftest import Page, Server, chromium
from tests.conftest import system
from tests.support.system import SCRIPTED
from tests.support.waiting import HANG_S

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
        session = json.loads(client.recv(HANG_S))["session_id"]
        audio = bytes(8_000) + pcm + bytes(2 * 16 * SLOW_ENDPOINT_MS + 16_000)
        for at in range(0, len(audio), 640):
            client.send(audio[at : at + 640])
        while True:
            message = client.recv(HANG_S)
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
        row = f"#turns .turn.slow:has(a[href$='{session}'])"
        page.until(f'return document.querySelector("{row}")')
        assert "· turn 1" in words(page, row)
        assert page.run("return document.getElementById('slow').hidden")  # it is in the list above already
        assert len(page.driver.find_elements(By.CSS_SELECTOR, f"{row} .segment")) >= 4
        assert "endpoint 1.1" in page.run(f'return document.querySelector("{row} .track").ariaLabel').lower()
        assert "commands" in words(page, "#broker").lower()
        assert "Failed work (dead letters)" in words(page, "#broker")
        assert page.run("return document.getElementById('gpus').hidden")
        assert "spoken turn" in words(page, "#latency h2")

        for width, height, dark in ((1280, 900, False), (1280, 900, True), (360, 740, False)):
            page.look(width, height, dark=dark)
            assert page.run("return document.documentElement.scrollWidth") <= width
            clipped = "[...document.querySelectorAll('.body')].filter((body) => body.scrollWidth > body.clientWidth)"
            assert page.run(f"return {clipped}.map((body) => body.parentElement.id)") == []

        page.run(f'document.querySelector("{row} a").click()')
        page.until("return window.monitor && monitor.snapshots > 0 && location.pathname.includes('/sessions/')")
        page.until("return document.querySelector('.turn-card')")
        assert "in progress" in words(page, "#tiles")
        assert "Turn 1 · first audio sent after 1.1" in words(page, ".turn-card h3")
        assert "1.0 of 1.0 s of the reply were heard" in words(page, ".turn-card .note")
        assert "PARLEY_LOG_CONTENT=true" in words(page, "#turns .body > .note")
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
            "latency": "No times to show yet",
            "sessions": "No conversation is in progress",
            "broker": "The broker is not reachable",
            "past": "the broker is not reachable",
        }.items():
            assert expected in words(page, f"#{part}"), part
        assert all("503" in error for error in page.console_errors())  # the search

        gateway.settings = gateway.settings.model_copy(update={"monitor": "off"})
        page.until("return document.getElementById('warning').innerText.includes('PARLEY_MONITOR=on')")


def test_an_unknown_conversation_is_reported(parley_server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.driver.get(f"{parley_server.url}/monitor/sessions/nobody")
        page.until("return document.getElementById('warning').innerText.includes(\"session 'nobody' is unknown\")")


@pytest.fixture(scope="module")
def open_server() -> Iterator[Server]:
    """A system that may log what was said."""
    with system({**SCRIPTED, "PARLEY_LOG_CONTENT": "true"}) as running:
        yield running


def test_a_past_conversation_is_found_by_what_was_said(
    open_server: Server, speech_pcm: Callable[[str, int], bytes], tmp_path: Path
) -> None:
    with talking(open_server, speech_pcm("hello there", 16_000)) as (client, session):
        client.close()
    with chromium(tmp_path) as page:
        page.open(open_server.url)
        page.type("the word pineapple")
        page.until("return parley.turns[0]?.marks.played && parley.state === 'ready'")
        typed = page.run("return parley.session")
        link = f"document.querySelector('a[href$=\"/monitor/sessions/{typed}\"]')"
        page.run("document.getElementById('timing').open = true")
        page.until(f"return {link}.checkVisibility()")
        listed = "[...document.querySelectorAll('#past tbody a')].map((link) => link.pathname.split('/').pop())"
        watch(page, f"{open_server.url}/monitor")
        again = "document.querySelector('#search button').click()"  # the record of a turn may not be there yet
        page.until(f"{again}; return {listed}.length === 2")
        assert page.run(f"return {listed}") == [typed, session]
        find = page.driver.find_element(By.ID, "find")
        for query, expected in (("PINEAPPLE", [typed]), (session[:8], [session]), ("no such word", [])):
            find.clear()
            find.send_keys(query, Keys.ENTER)
            page.until(f"return {listed}.join() === '{','.join(expected)}'")
        assert "No conversation matches" in words(page, "#past")
        find.clear()
        find.send_keys(Keys.ENTER)
        page.until(f"return {listed}.length === 2")
        page.driver.find_element(By.CSS_SELECTOR, "#outcome option[value=failed]").click()
        page.until(f"return {listed}.length === 0")
        page.driver.find_element(By.CSS_SELECTOR, "#outcome option[value='']").click()
        page.until(f"return {listed}.length === 2")
        assert "the word pineapple" in words(page, "#past")

        page.driver.find_element(By.CSS_SELECTOR, f"#past a[href$='{typed}']").click()
        page.until("return document.querySelector('.turn-card')")
        assert "Person: the word pineapple" in words(page, ".turn-card")
        assert "Parley: This is a scripted reply" in words(page, ".turn-card")
        labels = [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, ".turn-card tbody th")]
        assert "Endpoint" not in labels
        page.driver.find_element(By.CSS_SELECTOR, "a.talk").click()
        page.until("return Boolean(window.parley)")
        assert page.console_errors() == []
