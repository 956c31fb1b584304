"""The response times on the page: measured against the server's own marks, over spoken turns, drawn as overlapping bars."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import KEEP_SOCKETS, Server, chromium
from tests.support.waiting import HANG_S, POLL_S

LOADS = 5
CLOCK_MS = 5
"""Clocks of the page have a resolution of 1 ms, and the server's is estimated."""

NOTE_TIMES = """
    window.arrived = [];
    const AnySocket = window.WebSocket;
    window.WebSocket = class extends AnySocket {
        constructor(url) {
            super(url);
            this.addEventListener("message", ({ data }) => typeof data === "string" || arrived.push(Date.now()));
        }
    };
    window.started = [];
    const AnyNode = window.AudioWorkletNode;
    window.AudioWorkletNode = class extends AnyNode {
        constructor(...given) {
            super(...given);
            this.port.addEventListener("message", ({ data }) => data.type === "started" && started.push(Date.now()));
        }
    };
"""
"""Notes the arrival of each audio message, and when the page learnt that a reply had started."""


def turn_on_the_server(url: str, session: str) -> dict[str, Any]:
    """What the server recorded of the only turn of a session, once it is over."""
    until_s = time.monotonic() + HANG_S
    while time.monotonic() < until_s:
        turns: list[dict[str, Any]] = httpx.get(f"{url}/monitor/sessions/{session}/data").json()["turns"]
        if turns:
            return turns[0]
        time.sleep(POLL_S)
    raise AssertionError(f"the turn of {session} has no record")


def test_the_first_reply_of_a_fresh_load_is_timed_truly(talkative_server: Server, tmp_path: Path) -> None:
    """The audio has only just been started then, and its clock is not the page's. The server's own mark is computed from
    the page's reports of what was heard; the reply is long enough for several of them."""
    with chromium(tmp_path) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE_TIMES})
        for _ in range(LOADS):
            page.open(talkative_server.url)
            page.type("hello there")
            page.until("return parley.turns[0]?.marks.played && parley.playedSamples > 16_000")
            page.run("document.getElementById('stop-reply').click()")
            marks = page.run("return parley.turns[0].marks")
            arrived, started, latency_ms = page.run("return [arrived[0], started[0], parley.outputLatencyMs]")
            delay_ms = marks["played"] - marks["first_audio"]
            assert latency_ms - CLOCK_MS <= delay_ms <= started - arrived + latency_ms + CLOCK_MS
            recorded = turn_on_the_server(talkative_server.url, page.run("return parley.session"))["marks"]
            assert recorded["first_audio"] == marks["first_audio"]
            assert marks["first_audio"] <= marks["played"] <= recorded["played"] + CLOCK_MS
        assert page.console_errors() == []


SPOKEN = """
    tell({type: "transcript", turn: 2, text: "Hello.", final: true});
    tell({type: "processing_started", turn: 2, audio_duration: 1});
    tell({type: "timing", turn: 2, spoken: true, marks: {endpoint: 500, transcript: 240, first_token: 520, first_audio: 580},
        segments: [
            {name: "endpoint", begin_ms: 0, end_ms: 500}, {name: "transcript", begin_ms: 160, end_ms: 240},
            {name: "first_token", begin_ms: 240, end_ms: 520}, {name: "release", begin_ms: 570, end_ms: 580},
        ]});
"""


def test_bars_overlap_on_one_axis_and_only_spoken_turns_count(
    parley_server: Server, browser: Callable[..., Any]
) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.look(1280, 900)
        page.open(parley_server.url, "?autostart=1")
        page.until("return parley.state === 'listening'")
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].status")
        assert page.text("timing-headline") == ""
        labels = [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, "#waterfall tbody th")]
        assert labels[0] == "First token"
        assert not {"Endpoint", "Transcript"} & set(labels)
        assert "Turn 1, typed: time since the text was sent" in page.text("waterfall")

        page.run(SPOKEN)
        assert page.text("timing-headline") == "580 ms · 1 spoken turn"
        rows = "[...document.querySelectorAll('#waterfall tbody tr')]"
        assert page.run(f"return {rows}.map(({{cells}}) => [...cells].map((cell) => cell.textContent))") == [
            ["Endpoint", "", "500 ms", "500 ms"],
            ["Transcript", "", "80 ms", "240 ms"],
            ["First token", "", "280 ms", "520 ms"],
            ["Sending", "", "10 ms", "580 ms"],
        ]
        bars = (
            "return [...document.querySelectorAll('#waterfall .segment')].map(({style}) => [style.left, style.width])"
        )
        assert page.run(bars)[:2] == [["0%", "66.6667%"], ["21.3333%", "10.6667%"]]  # the axis ends at 750 ms
        assert "prepared while you were silent" in page.text("timing")
        assert "Transcript 80 ms, prepared in the silence" in page.run(
            "return document.querySelector('#turn-bars button').ariaLabel"
        )
        assert page.console_errors() == []


def test_the_panel_opens_and_closes_by_mouse_and_keyboard(parley_server: Server, browser: Callable[..., Any]) -> None:
    is_open = "return document.getElementById('timing').open"
    height = "return document.getElementById('timing').offsetHeight"
    with browser() as page:
        for width in (1280, 390):
            page.look(width, 900)
            page.open(parley_server.url)
            heading = page.driver.find_element(By.CSS_SELECTOR, "#timing summary")
            before = page.run(is_open)
            assert before == (width == 1280)
            heading.click()
            assert page.run(is_open) is not before
            heading.click()
            assert page.run(is_open) is before
            heading.send_keys(Keys.ENTER)
            assert page.run(is_open) is not before
            if before:
                assert page.run(height) < 80  # no empty card stays behind
        assert page.console_errors() == []


def test_the_figures_of_the_headline(parley_server: Server, browser: Callable[..., Any]) -> None:
    script = """
        const done = arguments[0];
        Promise.all([import("/web/call/waterfall.js"), import("/web/format.js")]).then(([w, f]) => done({
            percentiles: [50, 95, 100].map((p) => w.percentile([4, 1, 3, 2], p)).concat(w.percentile([], 50)),
            few: w.summary([4, 1, 3, 2]),
            many: w.summary(Array.from({ length: 21 }, (_, index) => index)),
            total: [w.total({ first_audio: 3, played: 5 }), w.total({ first_audio: 3 }), w.total({ endpoint: 1 })],
            axis: [1, 100, 101, 800, 1240, 10000].map(f.axis),
            words: [0, 87.4, 999.6, 1240, 12400, null].map(f.duration),
        }));
    """
    with browser() as page:
        page.open(parley_server.url)
        got = page.driver.execute_async_script(script)
    assert got["percentiles"] == [2.5, pytest.approx(3.85), 4, None]
    assert got["few"] == {"n": 4, "p50": 2.5, "slow": {"name": "slowest", "ms": 4}}  # too few turns for a p95
    assert got["many"] == {"n": 21, "p50": 10, "slow": {"name": "p95", "ms": 19}}
    assert got["total"] == [5, 3, None]
    assert got["axis"] == [100, 100, 150, 1000, 1500, 10000]
    assert got["words"] == ["0 ms", "87 ms", "1.00 s", "1.24 s", "12.4 s", "–"]
