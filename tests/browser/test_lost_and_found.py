"""A lost connection, a cleared conversation, and a microphone that cannot be used: what the person can press."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By

from tests.browser.conftest import KEEP_SOCKETS, Server, chromium
from tests.conftest import system
from tests.support.system import SCRIPTED

REFUSE = """
    window.refusing = true;
    window.tries = 0;
    const Open = window.WebSocket;
    window.WebSocket = class extends Open {
        constructor(url) {
            super(refusing ? "ws://127.0.0.1:9/" : url);
            tries += 1;
        }
    };
    Math.random = () => 1; // the longest delays
"""
BAD_TOKEN = """
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
        send.call(this, typeof data === "string" ? data.replace('"resume":"', '"resume":"0') : data);
    };
"""


def press(page: Any, banner: str, label: str) -> None:
    page.driver.find_element(By.XPATH, f"//*[@id='{banner}']//button[text()='{label}']").click()


def test_the_countdown_counts_and_can_be_cut_short(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": REFUSE})
        page.look(1280, 800)
        page.open(parley_server.url)
        page.type("hello there")
        seconds = "return Number(/in (\\d+) s/.exec(document.getElementById('error').textContent)?.[1])"
        page.until(f"window.first = (() => {{ {seconds} }})(); return first >= 6")
        page.until(f"return (() => {{ {seconds} }})() < first")
        tries = page.run("refusing = false; return tries")
        press(page, "error", "Try now")
        page.until("return parley.turns[0]?.marks.played")  # what was typed meanwhile is answered
        assert page.run("return tries") == tries + 1
        assert page.run("return document.getElementById('error').hidden")


def test_a_reply_goes_on_after_a_lost_connection(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(parley_server.url)
        page.type("hello there")
        page.until("return received > 0")
        page.run("sockets[0].close(4000)")
        page.until("return sockets.length === 2 && parley.turns[0]?.status === 'completed' && parley.state === 'ready'")
        disturbed = page.run("return received")
        page.type("hello there")
        page.until("return parley.turns[1]?.status === 'completed' && parley.state === 'ready'")
        assert page.run("return received") == 2 * disturbed  # no sample was lost or repeated
        first, second = page.run("return parley.turns")
        assert (first["turn"], second["turn"]) == (1, 2)
        assert first["reply"] == second["reply"]
        assert "knows what was said" not in page.text("log")


def test_a_new_session_knows_what_was_said(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(parley_server.url)
        page.type("My name is Ada.")
        page.until("return parley.turns[0]?.status === 'completed' && parley.state === 'ready'")
        page.run(f"{BAD_TOKEN} sockets[0].close(4000)")  # as if the server had forgotten the session
        page.until("return sockets.length === 2 && parley.state === 'ready'")
        assert "Parley knows what was said above." in page.text("log")
        page.run(
            "sockets[1].addEventListener('message', ({data}) => { if (String(data).includes('\"history\"')) window.known = data; });"
            "sockets[1].send(JSON.stringify({type: 'get_history'}))"
        )
        assert "My name is Ada." in page.until("return window.known")


def test_a_cleared_conversation_can_be_brought_back(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.look(1280, 800)
        page.open(parley_server.url)
        page.type("My name is Ada.")
        page.until("return parley.turns[0]?.status === 'completed' && parley.state === 'ready'")
        page.click("over")
        assert page.text("log") == ""
        page.until("return parley.state === 'ready'")
        press(page, "notice", "Undo")
        assert "My name is Ada." in page.text("log")
        page.until("return parley.state === 'ready' && sent.at(-1).history?.length === 2")
        assert page.run("return document.getElementById('notice').hidden")
        page.type("And now?")
        page.until("return parley.turns[1]?.marks.played")


def test_a_microphone_that_was_denied_is_tried_again(parley_server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        permission = {"permission": {"name": "microphone"}, "origin": parley_server.url}
        page.driver.execute_cdp_cmd("Browser.setPermission", {**permission, "setting": "denied"})
        page.look(1280, 800)
        page.open(parley_server.url)
        page.click("orb")
        page.until("return document.getElementById('error').textContent.includes('blocked')")
        page.driver.execute_cdp_cmd("Browser.setPermission", {**permission, "setting": "granted"})
        press(page, "error", "Try again")
        page.until("return parley.state === 'listening'")
        assert page.run("return document.getElementById('error').hidden")


def test_a_page_over_http_from_elsewhere_says_why_there_is_no_sound(tmp_path: Path) -> None:
    elsewhere = "--host-resolver-rules=MAP parley.test 127.0.0.1"
    open_to_all = {**SCRIPTED, "PARLEY_OPEN": "true", "PARLEY_HOSTS": "parley.test"}
    with system(open_to_all) as server, chromium(tmp_path, elsewhere) as page:
        page.look(1280, 800)
        page.open(server.url.replace("127.0.0.1", "parley.test"))
        for _ in range(2):  # at once, and after Start
            assert "only over https or on localhost" in page.text("error")
            assert "ssh -N -L 8000:localhost:" in page.text("error")
            page.click("orb")
            page.until("return parley.state === 'ready'")
        page.type("hello there")
        page.until("return parley.turns[0]?.status === 'completed'")
        assert "This is a scripted reply" in page.text("log")
