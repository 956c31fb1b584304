"""The transcript: Markdown, the view that follows the voice, languages, and what can be saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.browser.conftest import KEEP_SOCKETS, Server

MARKDOWN = """\
# Three *kinds*
One **bold** word, `code`, a [link](https://example.org/a_b), and <img src=x onerror=alert(1)>.

- first
- [bad](javascript:alert(1))

1. one
2. two

> quoted

```
<script>
```
2 * 3 * 4 and snake_case_name stay."""

RENDER = """
    const [source, done] = arguments;
    import("/web/call/reply_text.js").then(({ ReplyText }) => {
        const element = document.createElement("div");
        document.body.append(element);
        const text = new ReplyText(element);
        for (let end = 1; end <= source.length; end += 1) text.update(source.slice(0, end), 0, false); // as it streams
        text.update(source, source.indexOf("bold") + 2, false);
        done([element.innerHTML, [...element.querySelectorAll(".coming")].map((one) => one.textContent).join("")]);
    });
"""

STREAM = """
    const long = Array.from({length: 80}, (_, at) => `This is sentence number ${at} of a long reply.`).join(" ");
    tell({type: "model_response", turn: 1, text: long, finalize: false});
"""


def test_markdown_becomes_elements_and_never_html(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(parley_server.url)
        html, coming = page.driver.execute_async_script(RENDER, MARKDOWN)
        bare = html.replace('<span class="coming"></span>', "").replace("<span></span>", "")
        for one in (
            "<h4 ",
            "<strong>",
            "<ul>",
            "<ol>",
            "<blockquote ",
            "<pre><code>",
            'rel="noopener noreferrer nofollow"',
        ):
            assert one in bare
        assert "<img" not in html
        assert "<script" not in html
        assert "javascript:alert" in html  # as text
        assert page.run("return document.querySelectorAll('a[href^=\"javascript\"]').length") == 0
        assert page.run("return document.querySelector('a[href=\"https://example.org/a_b\"]').textContent") == "link"
        text = page.run("return document.body.lastElementChild.innerText")
        assert "2 * 3 * 4 and snake_case_name stay." in text
        assert "**" not in text
        assert coming.startswith("ld word, code, a link")  # the voice is in the middle of a word of it
        assert page.console_errors() == []


def test_the_view_follows_the_voice_until_the_person_scrolls(
    talkative_server: Server, browser: Callable[..., Any]
) -> None:
    place = """
        const next = [...document.querySelectorAll("#log .coming")].find((one) => one.textContent.trim());
        const box = next.getClientRects()[0];
        const seen = document.getElementById("scroll").getBoundingClientRect();
        return box.top >= seen.top && box.bottom <= seen.bottom;
    """
    for width, height in ((1280, 800), (390, 844)):
        with browser() as page:
            page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
            page.look(width, height)
            page.open(talkative_server.url)
            page.type("hello there")
            page.until("return parley.state === 'speaking'")
            page.run(STREAM)
            assert page.run(place)  # and not the end of the text, which is spoken much later
            assert page.run("const s = document.getElementById('scroll'); return s.scrollHeight > s.clientHeight + 500")
            page.run("document.getElementById('scroll').scrollTop = 1e6")
            page.until("return document.getElementById('latest').checkVisibility()")
            end = page.run("return document.getElementById('scroll').scrollTop")
            page.run("tell({type: 'model_response', turn: 1, text: ' And more.', finalize: false})")
            assert page.run("return document.getElementById('scroll').scrollTop") == end  # the person reads there
            page.click("latest")
            assert page.run(place)


def test_messages_have_a_language_and_a_direction(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(parley_server.url)
        page.run("localStorage.setItem('parley.settings', JSON.stringify({language: 'ar'}))")
        page.open(parley_server.url)
        page.click("open-settings")
        page.driver.find_element("css selector", "#settings button[value=cancel]").click()
        page.click("orb")
        page.until("return parley.state === 'listening'")
        page.type("مرحبا hello")
        page.until("return document.querySelector('#log .user p')")
        assert page.run("return document.querySelector('#log .user .text').lang") == "ar"
        assert page.run("return getComputedStyle(document.querySelector('#log .user p')).direction") == "rtl"


SAVED = """
    window.files = [];
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => (files.push(blob), make(blob));
"""
LEVELS = """
    const done = arguments[0];
    files.at(-1).arrayBuffer()
        .then((bytes) => new OfflineAudioContext(2, 1, 48000).decodeAudioData(bytes))
        .then((audio) => done([0, 1].map((side) => audio.getChannelData(side).reduce((most, one) => Math.max(most, Math.abs(one)), 0))));
"""


def test_the_conversation_can_be_saved(
    parley_server: Server, speech_wav: Callable[..., Path], browser: Callable[..., Any]
) -> None:
    with browser(speech_wav("hello there", 1.5, 3.0)) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SAVED})
        page.open(parley_server.url, "?raw=1")
        page.click("open-keep")
        assert not page.driver.find_element("id", "save-text").is_enabled()
        page.click("record")
        page.driver.find_element("css selector", "#keep button[value=close]").click()
        page.click("orb")
        page.until("return document.body.classList.contains('recording')")
        page.until("return parley.turns[0]?.status === 'completed' && parley.state === 'listening'")
        page.click("open-keep")
        page.click("record")
        page.until("return !document.getElementById('save-audio').disabled")
        for button in ("save-text", "save-json", "save-audio"):
            page.click(button)
        assert page.until("return files.length") == 3
        read = "const done = arguments[1]; files[arguments[0]].text().then(done)"
        text = page.driver.execute_async_script(read, 0)
        assert "] You: hello there\n" in text
        assert "] Parley: This is a scripted reply" in text
        (turn,) = json.loads(page.driver.execute_async_script(read, 1))["turns"]
        assert (turn["user"], turn["status"], turn["typed"]) == ("hello there", "completed", False)
        assert turn["heard"] == turn["reply"]
        person, reply = page.driver.execute_async_script(LEVELS)
        assert min(person, reply) > 0.01
        assert page.console_errors() == []
