"""The call page in headless Chromium: a WAV file is the microphone, and the real server answers.

Tests read what the page received, showed and played from `window.parley`. A test ends by checking that the console has
no errors.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import services.edge
from shared.protocol.session import SESSION_TABLE
from shared.protocol.turn_record import SEGMENTS
from tests.browser.conftest import KEEP_SOCKETS, Server, SpeechWav, chromium

WEB = Path(services.edge.__file__).parent / "web"


def test_a_spoken_turn_is_shown_answered_and_heard(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any], tmp_path: Path
) -> None:
    with browser(speech_wav("hello there", 1.5, 3.0)) as page:
        page.look(1280, 800)
        page.open(parley_server.url, "?raw=1")
        assert page.run("return parley.state") == "idle"
        page.click("orb")
        user = page.until("return parley.turns.find((turn) => turn.user && turn.reply && turn.marks.played)?.user")
        page.until("return parley.events.includes('reply_done') && parley.state === 'listening'")

        turn = page.run("return parley.turns[0]")
        assert user in page.text("log")
        assert turn["reply"].strip() in page.text("log")
        assert page.run("return document.querySelector('#log .coming').textContent") == ""  # all of it was played
        assert page.run("return parley.peak") > 0.01
        assert page.run("return parley.playedSamples") > 16_000 // 4

        marks = turn["marks"]
        assert marks["played"] >= marks["first_audio"] > 0
        assert marks["endpoint"] > 0
        labels = [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, "#waterfall tbody th")]
        assert labels == [kind.label for kind in SEGMENTS.values()]
        assert "1 spoken turn" in page.text("timing-headline")
        assert page.console_errors() == []

        for name, width, height, dark in (
            ("light", 1280, 800, False),
            ("dark", 1280, 800, True),
            ("narrow", 360, 740, False),
        ):
            page.look(width, height, dark=dark)
            page.run("document.getElementById('timing').open = true")
            assert page.run("return document.documentElement.scrollWidth") <= width
            page.driver.save_screenshot(str(tmp_path / f"{name}.png"))
            assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_speech_during_the_reply_interrupts_it(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any]
) -> None:
    # The file is played over and over: whatever the length of the reply, some round of it meets one that is playing.
    with browser(speech_wav("hello there", 0.2, 0.8), loop=True) as page:
        page.open(parley_server.url, "?autostart=1&raw=1")
        page.until("return parley.events.includes('interrupt')")
        cut = "return parley.turns.find((turn) => turn.status === 'interrupted')"
        assert page.until(cut)["turn"] >= 1
        page.until(
            "return [...document.querySelectorAll('#log .reply small')].some((note) => note.textContent.includes('interrupted'))"
        )
        assert page.console_errors() == []


def test_a_browser_that_ignores_the_requested_sample_rate(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any]
) -> None:
    own_rate = """
        window.AudioContext = class extends AudioContext { constructor(wish) { super({ ...wish, sampleRate: 44100 }); } };
        window.chunks = [];
        window.received = 0;
        window.WebSocket = class extends WebSocket {
            constructor(url) {
                super(url);
                this.addEventListener("message", ({ data }) => (received += (data.byteLength ?? 0) / 2));
            }
            send(data) {
                if (data.byteLength) chunks.push([data.byteLength, performance.now()]);
                super.send(data);
            }
        };
    """
    with browser(speech_wav("hello there", 1.5, 3.0)) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": own_rate})
        page.open(parley_server.url, "?autostart=1&raw=1")
        page.until("return parley.turns.find((turn) => turn.user && turn.marks.played)")
        page.until("return parley.events.includes('reply_done') && parley.state === 'listening'")
        assert page.run("return parley.peak") > 0.01
        chunks, received, played = page.run("return [chunks, received, parley.playedSamples]")
        assert {size for size, _ in chunks} == {640}  # 20 ms at 16 kHz
        assert (chunks[-1][1] - chunks[0][1]) / (len(chunks) - 1) == pytest.approx(20, rel=0.1)
        assert played == pytest.approx(received, rel=0.01)
        assert page.console_errors() == []


def test_a_typed_turn_needs_no_microphone(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(parley_server.url)
        page.type("hello there")
        assert "hello there" in page.text("log")  # shown before the first answer of the server
        page.until("return parley.turns[0]?.marks.played && parley.state === 'ready'")
        turn = page.run("return parley.turns[0]")
        assert (turn["user"], turn["turn"], turn["marks"]["endpoint"]) == ("hello there", 1, pytest.approx(0, abs=50))
        assert turn["reply"]
        assert page.run("return parley.peak") > 0.01
        assert page.text("orb") == "Talk"
        assert len(page.run("return parley.turns")) == 1
        assert page.console_errors() == []


def test_a_second_typed_turn_interrupts_the_first_reply(talkative_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(talkative_server.url)
        page.type("hello there")
        page.until("return parley.state === 'speaking'")
        page.type("and what else")
        page.until("return parley.events.includes('interrupt')")
        page.until("return parley.turns[1]?.marks.played")
        first, second = page.run("return parley.turns")
        assert (first["status"], second["status"]) == ("interrupted", "")  # the second one is being said
        assert second["user"] == "and what else"


def test_escape_stops_the_reply(talkative_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(talkative_server.url)
        page.type("hello there")
        page.until("return parley.state === 'speaking'")
        page.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        page.until("return parley.state === 'ready'")
        # The audio thread reports what it renders: at last nothing more, long before the end of the reply.
        later = "const done = arguments[0]; setTimeout(() => done(parley.playedSamples), 500)"
        played = page.until("return parley.playedSamples")
        while played != (now := page.driver.execute_async_script(later)):
            played = now
        assert played < 45 * 16_000  # of 60 s
        assert page.run("return parley.turns[0].status") == "cancelled"


def test_a_paused_reply_resumes_at_the_next_sample(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(parley_server.url)
        page.type("hello there")
        page.until("return parley.state === 'speaking'")
        page.run("sent.length = 0; tell({type: 'pause', turn: 1, heard_ms: 0})")
        page.until("return parley.state === 'paused' && sent.some(({type}) => type === 'played')")
        stopped = page.run("return parley.playedSamples")
        later = "const done = arguments[0]; setTimeout(() => done(parley.playedSamples), 500)"
        assert page.driver.execute_async_script(later) == stopped < 16_000
        played = page.run("return sent.filter(({type}) => type === 'played').at(-1)")
        assert played["turn"] == 1
        assert played["ms"] <= stopped / 16
        page.run("tell({type: 'resume', turn: 1, from_ms: 0})")
        page.until("return parley.state === 'ready'")
        assert page.run("return [parley.playedSamples, received]") == [16_000, 16_000]  # no sample lost or repeated
        assert page.run("return parley.turns[0].status") == "completed"
        assert page.console_errors() == []


def test_unheard_text_is_struck_out(talkative_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(talkative_server.url)
        page.type("hello there")
        page.until("return parley.state === 'speaking'")
        page.run("tell({type: 'pause', turn: 1, heard_ms: 400})")
        page.run("tell({type: 'interrupt', turn: 1, heard_ms: 400, heard: 'This is a'})")
        page.until("return parley.state === 'ready'")
        page.run("tell({type: 'reply_done', turn: 1, status: 'interrupted'})")
        assert page.run("return document.querySelector('#log .reply p span').textContent") == "This is a"
        assert page.run("return document.querySelector('#log .unheard').textContent").startswith(" scripted reply")
        assert page.console_errors() == []


def test_the_space_bar_is_the_push_to_talk_key(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any]
) -> None:
    with browser(speech_wav("hello there", 0.0, 0.2), loop=True) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(parley_server.url, "?raw=1")
        page.click("open-settings")
        page.driver.find_element(By.NAME, "detect_turns").click()
        page.driver.find_element(By.CSS_SELECTOR, "dialog button[value=save]").click()
        page.click("orb")
        page.until("return parley.state === 'listening'")
        assert page.run("return sent[0].config.detect_turns") is False
        assert "space bar" in page.text("hint")
        page.run("document.activeElement.blur()")
        hold = "for (const type of [arguments[0]]) document.body.dispatchEvent(new KeyboardEvent(type, {code: 'Space', bubbles: true}))"
        page.run(hold, "keydown")
        page.until("return document.body.classList.contains('user-speaking')")
        page.driver.execute_async_script("setTimeout(arguments[0], 1200)")
        page.run(hold, "keyup")
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].user")
        page.until("return parley.state === 'listening'")
        assert [message["type"] for message in page.run("return sent")].count("commit") == 1
        assert len(page.run("return parley.turns")) == 1  # speech without the key makes no turn
        assert page.console_errors() == []


def test_a_lost_connection_is_reconnected(parley_server: Server, browser: Callable[..., Any]) -> None:
    keep_sockets = """
        window.sockets = [];
        window.WebSocket = class extends WebSocket { constructor(url) { super(url); window.sockets.push(this); } };
    """
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": keep_sockets})
        page.open(parley_server.url)
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played")
        page.run(
            "window.seen = []; new MutationObserver(() => seen.push([parley.state, document.getElementById('error')"
            ".textContent])).observe(document.body, {attributeFilter: ['data-state']}); sockets[0].close(4000)"
        )
        page.until("return seen.length && parley.state === 'ready'")
        seen = page.run("return seen")
        assert any(state == "reconnecting" and "connection to the server was lost" in words for state, words in seen), (
            seen
        )
        assert page.run("return document.getElementById('error').hidden")
        page.type("and again")
        page.until("return parley.turns[1]?.marks.played")
        assert [turn["turn"] for turn in page.run("return parley.turns")] == [1, 2]  # the session goes on
        assert page.console_errors() == []


def test_a_blocked_microphone_is_reported(parley_server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        denied = {"permission": {"name": "microphone"}, "setting": "denied", "origin": parley_server.url}
        page.driver.execute_cdp_cmd("Browser.setPermission", denied)
        page.open(parley_server.url)
        page.click("orb")
        page.until("return parley.state === 'ready'")
        assert "microphone is blocked" in page.text("error")
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played")


def test_settings_are_kept_and_sent_with_the_next_conversation(
    parley_server: Server, browser: Callable[..., Any]
) -> None:
    keep_sent = """
        window.sent = [];
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (data) { window.sent.push(data); send.call(this, data); };
    """
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": keep_sent})
        page.open(parley_server.url)
        page.click("open-settings")
        page.run(
            "const form = document.querySelector('#settings form').elements; form.endpoint_ms.value = 700; form.instructions.value = 'Be brief.';"
            "form.endpoint_ms.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        assert page.run(
            "return document.querySelector('#settings form').elements.endpoint_ms.parentElement.querySelector('output').textContent"
        ) == ("700 ms")
        page.driver.find_element(By.CSS_SELECTOR, "dialog button[value=save]").click()
        page.open(parley_server.url)  # a new load: kept by the browser, not by the page
        page.type("hello there")
        page.until("return parley.events.includes('ready')")
        start = page.run("return JSON.parse(sent[0])")
        assert start == {"type": "start_streaming", "config": {"endpoint_ms": 700, "instructions": "Be brief."}}
        assert page.console_errors() == []


def test_the_settings_panel_has_the_ranges_and_defaults_of_the_server(
    parley_server: Server, browser: Callable[..., Any]
) -> None:
    described = httpx.get(f"{parley_server.url}/config").json()["settings"]
    shown = {setting["name"]: setting for setting in described if "label" in setting}
    assert {name: (one.get("min"), one.get("max"), one["default"]) for name, one in shown.items()} == {
        name: (row.setting.low, row.setting.high, row.default)
        for name, row in SESSION_TABLE.items()
        if row.setting.page
    } | {"instructions": (None, None, shown["instructions"]["default"])}  # those of the default agent
    controls = """
        return [...document.querySelectorAll("#setting-controls [name]")].map((one) => ({
            name: one.name, text: one.labels[0].textContent, type: one.type, value: one.value, checked: one.checked,
            min: one.min, max: one.max, longest: one.maxLength,
        }));
    """
    kept = "localStorage.setItem('parley.settings', JSON.stringify({endpoint_ms: 9000, speed: 1.5, volume: 11, greeting: 'Hi.'}))"
    with browser() as page:
        page.open(parley_server.url)
        page.run(kept)
        page.open(parley_server.url)
        page.until("return document.querySelector('#setting-controls [name]')")
        found = {one["name"]: one for one in page.run(controls)}
        assert set(found) == set(shown)
        for name, setting in shown.items():
            assert found[name]["text"].startswith(setting["label"])
            if setting["type"] in ("integer", "number"):
                ends = (float(found[name]["min"]), float(found[name]["max"]))
                assert (found[name]["type"], *ends) == ("range", setting["min"], setting["max"])
            elif setting["type"] == "boolean":
                assert (found[name]["type"], found[name]["checked"]) == ("checkbox", setting["default"])
            elif "choices" not in setting:
                assert found[name]["longest"] == setting["longest"]
        # What was kept from an earlier visit counts as far as the server would still accept it.
        assert [found[name]["value"] for name in ("endpoint_ms", "speed", "greeting")] == ["500", "1.5", "Hi."]
        page.type("hello there")
        page.until("return parley.events.includes('ready')")
        assert page.console_errors() == []


def test_resampling(parley_server: Server, browser: Callable[..., Any]) -> None:
    """A tone in the pass band keeps its level, a tone above it is removed, and no sample is lost."""
    script = """
        const done = arguments[0];
        import("/web/worklets/resample.js").then(({ Resampler }) => {
            const level = (from, to, hertz) => {
                const resampler = new Resampler(from, to);
                const made = [];
                for (let at = 0; at < from; at += 128) {
                    const block = Float32Array.from({ length: 128 }, (_, i) => Math.sin((2 * Math.PI * hertz * (at + i)) / from));
                    made.push(...resampler.process(block));
                }
                const middle = made.slice(1000, -1000);
                return [made.length, Math.sqrt(2 * middle.reduce((sum, x) => sum + x * x, 0) / middle.length)];
            };
            done([level(48000, 16000, 1000), level(44100, 16000, 5000), level(48000, 16000, 11000), level(16000, 44100, 3000)]);
        });
    """
    with browser() as page:
        page.open(parley_server.url)
        got = page.driver.execute_async_script(script)
    lengths, levels = zip(*got, strict=True)
    assert lengths == pytest.approx((16_000, 16_000, 16_000, 44_100), abs=200)
    assert levels == (*[pytest.approx(1, abs=0.01)] * 2, pytest.approx(0, abs=0.001), pytest.approx(1, abs=0.01))


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """Serves the page and refuses every conversation, like a server without a ready worker."""
    app = FastAPI()
    app.mount("/web", StaticFiles(directory=WEB))

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    @app.get("/config")
    async def config() -> dict[str, Any]:
        return {}

    @app.websocket("/ws")
    async def refuse(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1013, "no asr worker is ready")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def test_a_refusal_is_shown_with_its_reason(refusing_server: str, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.open(refusing_server)
        page.type("hello there")
        page.until("return parley.state === 'reconnecting'")
        words = page.until("return document.getElementById('error').innerText")
        assert "cannot start a conversation now: no asr worker is ready" in words
        assert "Trying again in" in words
