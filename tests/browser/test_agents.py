"""The choice of an agent on the start screen."""

import json
from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.by import By

from tests.browser.conftest import Server

AGENTS = {
    "default": "parley",
    "agents": [
        {
            "id": "parley",
            "name": "Parley",
            "description": "Any subject.",
            "greeting": "",
            "language": "en",
            "voice": "",
        },
        {
            "id": "tutor",
            "name": "Tutor",
            "description": "<b>Simple</b>.",
            "greeting": "",
            "language": "de",
            "voice": "",
        },
    ],
}
ANSWERS = """
    const ask = window.fetch;
    window.fetch = async (url, options) => url.endsWith("/v1/agents") ? new Response('AGENTS', {status: STATUS}) : ask(url, options);
    window.urls = [];
    window.WebSocket = class extends WebSocket { constructor(url) { urls.push(url); super(url.replace(/&agent=.*/, "")); } };
"""
"""A server with agents; its /ws is the real one, without an agent."""


def answers(page: Any, agents: dict[str, Any], status: int = 200) -> None:
    script = ANSWERS.replace("AGENTS", json.dumps(agents)).replace("STATUS", str(status))
    page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})


def test_an_agent_is_chosen_and_remembered(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        answers(page, AGENTS)
        page.look(1280, 800)
        page.open(parley_server.url)
        page.until("return document.querySelectorAll('.agent').length === 2")
        assert "<b>Simple</b>." in page.text("agents")  # text, not HTML
        assert page.run("return document.querySelector('.agent :checked').value") == "parley"
        page.driver.find_element(By.CSS_SELECTOR, ".agent [value=tutor]").click()
        page.open(parley_server.url)
        page.until("return document.querySelector('.agent :checked')?.value === 'tutor'")
        page.type("hello there")
        page.until("return parley.events.includes('ready')")
        assert page.run("return urls.at(-1)").endswith("/ws?rate=16000&agent=tutor")
        assert not page.run(
            "return document.getElementById('agents').checkVisibility()"
        )  # only before the conversation
        assert page.console_errors() == []


def test_an_agent_that_is_gone_is_named(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        answers(page, AGENTS)
        page.open(parley_server.url, "#agent=butler")
        page.until("return !document.getElementById('notice').hidden")
        assert "no agent “butler”" in page.text("notice")
        assert page.run("return document.querySelector('.agent :checked').value") == "parley"


def test_without_several_agents_there_is_no_choice(parley_server: Server, browser: Callable[..., Any]) -> None:
    for agents, status in (({}, 404), ({**AGENTS, "agents": AGENTS["agents"][:1]}, 200)):
        with browser() as page:
            answers(page, agents, status)
            page.open(parley_server.url)
            page.until("return document.querySelector('#setting-controls [name]')")
            assert not page.run("return document.getElementById('agents').checkVisibility()")
            page.type("hello there")
            page.until("return parley.turns[0]?.marks.played")
