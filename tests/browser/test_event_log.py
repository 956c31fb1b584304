"""The event log of the page: what went over the connection, filtered, opened and saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import Server

KEEP_BLOBS = """
    window.blobs = [];
    const make = URL.createObjectURL.bind(URL);
    URL.createObjectURL = (blob) => { blobs.push(blob); return make(blob); };
"""
KINDS = "[...document.querySelectorAll('#events .kind')].map((kind) => kind.textContent)"


def test_a_developer_reads_the_messages(parley_server: Server, browser: Callable[..., Any], tmp_path: Path) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_BLOBS})
        page.look(1280, 900)
        page.open(parley_server.url)
        page.click("orb")
        page.until("return parley.state === 'listening'")
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].status")
        assert page.run(f"return {KINDS}") == []  # nothing is drawn before it is opened
        page.click("open-events")
        kinds = page.run(f"return {KINDS}")
        assert kinds[:2] == ["start_streaming", "ready"]
        assert {"text_input", "timing", "reply_done"} <= set(kinds)
        assert "audio" not in kinds

        page.driver.find_element(By.CSS_SELECTOR, "#events option[value=audio]").click()
        page.until("return document.querySelectorAll('#events .client').length > 1")  # a row for each second
        assert set(page.run(f"return {KINDS}")) == {"audio"}
        assert "messages" in page.text("events")
        page.driver.find_element(By.CSS_SELECTOR, "#events option[value=timing]").click()
        assert page.run(f"return {KINDS}") == ["timing"]
        page.driver.find_element(By.CSS_SELECTOR, "#events summary").click()
        shown = json.loads(page.until("return document.querySelector('#events pre')?.textContent"))
        assert shown["type"] == "timing"
        assert shown["spoken"] is False

        page.driver.find_element(By.CSS_SELECTOR, "#events .save").click()
        text = page.driver.execute_async_script("blobs[0].text().then(arguments[0])")
        (saved,) = [json.loads(line) for line in text.splitlines()]
        assert saved["message"] == shown
        assert saved["from"] == "server"
        page.driver.find_element(By.CSS_SELECTOR, "#events select").send_keys(Keys.ESCAPE)
        assert page.run("return document.getElementById('events').hidden")
        assert page.run("return document.activeElement.id") == "open-events"
        assert page.console_errors() == []


def test_the_log_is_bounded_and_counts_audio_by_the_second(parley_server: Server, browser: Callable[..., Any]) -> None:
    script = """
        const done = arguments[0];
        import("/web/call/frames.js").then(({ Frames, jsonLines }) => {
            const frames = new Frames();
            for (let at = 0; at < 2500; at += 20) {
                frames.add("client", new ArrayBuffer(640), at);
                if (at % 500 === 0) frames.add("server", '{"type":"pong"}', at);
            }
            const audio = frames.list.filter(({ kind }) => kind === "audio").map(({ messages, bytes }) => [messages, bytes]);
            for (let at = 0; at < 3000; at += 1) frames.add("server", "not JSON", at);
            done({ audio, kept: frames.list.length, last: JSON.parse(jsonLines(frames.list.slice(-1))) });
        });
    """
    with browser() as page:
        page.open(parley_server.url)
        got = page.driver.execute_async_script(script)
    assert got["audio"] == [[50, 32_000], [50, 32_000], [25, 16_000]]
    assert got["kept"] == 1000
    assert got["last"] == {"at": "1970-01-01T00:00:02.999Z", "from": "server", "message": "not JSON"}
