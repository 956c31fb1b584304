"""The settings: voices by language, previews, devices, theme, a link that can be shared, and settings that are gone."""

from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.browser.conftest import KEEP_SOCKETS, Server

KEEP = "localStorage.setItem('parley.settings', JSON.stringify(arguments[0]))"
OPTIONS = "return [...document.querySelector(arguments[0]).options].map((one) => one.text)"
SAVE = (By.CSS_SELECTOR, "#settings button[value=save]")


def open_settings(page: Any) -> None:
    page.until("return document.querySelector('#setting-controls [name]')")
    page.click("open-settings")


def test_voices_are_listed_by_language_and_can_be_heard(classic_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(classic_server.url)
        open_settings(page)
        language = Select(page.driver.find_element(By.NAME, "language"))
        assert (language.first_selected_option.text, language.first_selected_option.get_attribute("value")) == (
            "English",
            "en",
        )
        assert "German (Deutsch)" in page.run(OPTIONS, "[name=language]")
        assert "English (United Kingdom)" in page.run(OPTIONS, "[name=voice]")
        assert not any("German" in name for name in page.run(OPTIONS, "[name=voice]"))

        language.select_by_value("de")
        assert page.run(OPTIONS, "[name=voice]") == ["Default voice of the language", "German"]
        # PocketSphinx knows English only: a person learns it here and not from silence.
        assert "Only English is recognised" in page.run("return document.querySelector('#settings .note').textContent")

        page.run(
            "window.heard = []; const connect = AudioBufferSourceNode.prototype.start; AudioBufferSourceNode.prototype"
            ".start = function () { heard.push(this.buffer.duration); connect.call(this); }"
        )
        page.driver.find_element(By.CSS_SELECTOR, ".voice button").click()
        page.until("return heard.length && !document.querySelector('.voice button').disabled")
        assert page.run("return heard[0]") > 0.5
        assert page.console_errors() == []


def test_a_setting_that_is_gone_is_named_and_what_was_typed_is_answered(
    classic_server: Server, browser: Callable[..., Any]
) -> None:
    no_voices = """
        const ask = window.fetch;
        window.fetch = (url, options) => url.endsWith("/v1/voices") || url.endsWith("/config")
            ? Promise.resolve(new Response("{}", {status: 503})) : ask(url, options);
    """
    for starting in (False, True):  # the page knows the voices, or learns it only from the refusal
        with browser() as page:
            page.open(classic_server.url)
            page.run(KEEP, {"voice": "af_heart", "speed": 1.5})
            if starting:
                page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": no_voices})
            page.open(classic_server.url)
            page.type("hello there")
            page.until("return parley.turns[0]?.marks.played")
            assert "“af_heart” does not exist here any more" in page.text("notice")
            assert page.run("return JSON.parse(localStorage.getItem('parley.settings'))") == {"speed": 1.5}
            assert page.run("return parley.turns.length") == 1
            assert page.run("return document.getElementById('error').hidden")


def test_settings_travel_in_a_link(classic_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.open(classic_server.url)
        page.run(KEEP, {"voice": "en-gb", "instructions": "Be brief & kind."})
        page.driver.refresh()
        open_settings(page)
        page.click("copy-link")
        link = page.until("return document.querySelector('#settings-link input').value")
        assert link == f"{classic_server.url}/#agent=assistant&instructions=Be+brief+%26+kind.&voice=en-gb"
        page.run("localStorage.clear()")

        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.driver.get("about:blank")
        page.driver.get(f"{link}&speed=99&no_such=1&endpoint_ms=abc")
        page.until("return window.parley && !document.getElementById('notice').hidden")
        assert "This link sets Instructions, Voice, for this visit." in page.text("notice")
        assert "Not possible here: speed, no_such, endpoint_ms." in page.text("notice")
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played")
        assert page.run("return sent[0].config") == {"voice": "en-gb", "instructions": "Be brief & kind."}
        assert page.run("return localStorage.getItem('parley.settings')") is None
        page.driver.find_element(By.XPATH, "//*[@id='notice']//button[text()='Keep']").click()
        assert page.run("return JSON.parse(localStorage.getItem('parley.settings')).voice") == "en-gb"
        assert page.console_errors() == []


def test_the_verdict_of_the_check_is_in_view(parley_server: Server, browser: Callable[..., Any]) -> None:
    for width, height in ((1280, 720), (390, 844)):
        with browser() as page:
            page.look(width, height)
            page.open(parley_server.url)
            open_settings(page)
            page.click("check")
            page.until("return document.getElementById('check-outcome').innerText.includes('Everything is ready.')")
            box = page.run("return document.querySelector('#check-outcome li').getBoundingClientRect().toJSON()")
            assert 0 <= box["top"] < box["bottom"] <= height
            foot = page.run("return document.querySelector('#settings .foot').getBoundingClientRect().bottom")
            assert foot <= height  # Save is in view, too


def test_devices_volume_and_theme_apply_at_once(parley_server: Server, browser: Callable[..., Any]) -> None:
    asked = """
        window.asked = [];
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (wish) => (asked.push(wish.audio.deviceId?.ideal ?? ""), open(wish));
    """
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": asked})
        page.open(parley_server.url)
        page.click("orb")
        page.until("return parley.state === 'listening'")
        open_settings(page)
        page.until("return document.getElementById('device-microphone').options.length > 1")
        microphone = Select(page.driver.find_element(By.ID, "device-microphone"))
        microphone.select_by_index(1)
        page.until("return asked.length === 2")
        assert page.run("return asked") == ["", microphone.first_selected_option.get_attribute("value")]
        assert page.run("return document.getElementById('device-speaker').checkVisibility()")
        page.run("const v = document.getElementById('device-volume'); v.value = 0; v.dispatchEvent(new Event('input'))")
        Select(page.driver.find_element(By.ID, "device-theme")).select_by_value("dark")
        dark = "return getComputedStyle(document.body).backgroundColor"
        assert page.run(dark) == "rgb(17, 21, 27)"
        page.open(parley_server.url)
        assert page.run(dark) == "rgb(17, 21, 27)"  # kept
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].status === 'completed'")
        assert page.run("return document.getElementById('device-volume').value") == "0"
        assert page.console_errors() == []


def test_saved_settings_do_not_end_the_conversation(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP_SOCKETS})
        page.open(parley_server.url)
        page.type("My name is Ada.")
        page.until("return parley.turns[0]?.status === 'completed' && parley.state === 'ready'")
        open_settings(page)
        field = page.driver.find_element(By.NAME, "instructions")
        field.clear()  # of those of the agent
        field.send_keys("Be brief.")
        page.driver.find_element(*SAVE).click()
        page.until("return sent.filter(({type}) => type === 'start_streaming').length === 2")
        page.until("return parley.state === 'ready'")
        start = page.run("return sent.filter(({type}) => type === 'start_streaming').at(-1)")
        assert start["config"] == {"instructions": "Be brief."}
        assert [one["role"] for one in start["history"]] == ["user", "assistant"]
        assert start["history"][0]["text"] == "My name is Ada."
        assert "From here on with the new settings." in page.text("log")
        page.run("sent.length = 0; sockets.at(-1).send(JSON.stringify({type: 'get_history'}))")
        page.until("return parley.events.includes('history')")
        page.type("And again.")
        page.until("return parley.turns[1]?.marks.played")
        assert page.console_errors() == []
