"""Push-to-talk by touch, and the words for what a person can do."""

from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.browser.conftest import KEEP_SOCKETS, Server, SpeechWav

PUSH_TO_TALK = "localStorage.setItem('parley.settings', JSON.stringify({detect_turns: false}))"


def test_a_button_is_held_to_talk_on_a_phone(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any]
) -> None:
    with browser(speech_wav("hello there", 0.0, 0.2), loop=True) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        page.look(390, 844)
        page.open(parley_server.url)
        page.run(PUSH_TO_TALK)
        page.open(parley_server.url, "?raw=1")
        assert not page.run("return document.getElementById('hold').checkVisibility()")
        page.click("orb")
        page.until("return parley.state === 'listening'")
        assert page.text("hint") == "Hold the button below and speak."  # there is no space bar
        hold = page.driver.find_element(By.ID, "hold")
        assert hold.rect["height"] >= 44
        ActionChains(page.driver).click_and_hold(hold).perform()
        page.until("return document.body.classList.contains('user-speaking')")
        assert page.text("hint") == "Release to send."
        page.driver.execute_async_script("setTimeout(arguments[0], 1200)")
        ActionChains(page.driver).release(hold).perform()
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].user")
        assert [message["type"] for message in page.run("return sent")].count("commit") == 1
        assert page.console_errors() == []


def test_a_screen_reader_switches_talking_on_and_off(
    parley_server: Server, speech_wav: SpeechWav, browser: Callable[..., Any]
) -> None:
    with browser(speech_wav("hello there", 0.0, 0.2), loop=True) as page:
        page.open(parley_server.url)
        page.run(PUSH_TO_TALK)
        page.open(parley_server.url, "?raw=1")
        page.click("orb")
        page.until("return parley.state === 'listening'")
        pressed = "return document.getElementById('hold').getAttribute('aria-pressed')"
        page.run("document.getElementById('hold').click()")  # a click without a pointer
        assert page.run(pressed) == "true"
        page.run("document.getElementById('hold').click()")
        assert page.run(pressed) == "false"


def test_the_hint_says_how_to_interrupt_from_here(talkative_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.look(1280, 800)
        page.open(talkative_server.url)
        page.type("hello there")
        page.until("return parley.state === 'speaking'")
        assert page.text("hint") == "Press Stop reply, or type, to interrupt."  # the microphone is off
        page.click("orb")
        page.until("return document.getElementById('hint').textContent === 'Speak to interrupt.'")
        page.click("mute")
        assert page.text("hint") == "Press Unmute, or type, to interrupt."
