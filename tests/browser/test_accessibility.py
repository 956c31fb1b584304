"""axe finds nothing serious on any screen of the page, in both themes; everything can be reached by keyboard."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import Server
from tests.browser.test_agents import AGENTS, answers

RUN = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(({violations}) => done(violations))"
FOCUSED = "return document.activeElement.id || document.activeElement.name || document.activeElement.className"


def serious(page: Any) -> list[str]:
    page.run((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in page.driver.execute_async_script(RUN)
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(classic_server: Server, browser: Callable[..., Any], *, dark: bool) -> None:
    close = "document.querySelector('dialog[open]').close()"
    with browser() as page:
        answers(page, AGENTS)
        page.look(1280, 900, dark=dark)
        page.open(classic_server.url)
        page.until("return document.querySelector('.agent') && document.querySelector('#setting-controls [name]')")
        assert serious(page) == []
        for button in ("models", "open-keep", "open-settings"):
            page.click(button)
            assert serious(page) == []
            page.run(close)
        page.click("orb")
        page.type("Hello, I am worried.")
        page.until("return parley.turns[0]?.marks.played && parley.turns[0].status")
        assert serious(page) == []
        page.look(390, 844, dark=dark)
        assert serious(page) == []
        page.click("over")
        page.until("return !document.getElementById('notice').hidden")
        assert serious(page) == []


def test_the_tab_key_passes_all_controls(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        answers(page, AGENTS)
        page.look(1280, 900)
        page.open(parley_server.url)
        page.until("return document.querySelector('.agent') && !document.getElementById('models').hidden")
        passed = []
        for _ in range(12):
            page.driver.switch_to.active_element.send_keys(Keys.TAB)
            passed.append(page.run(FOCUSED))
        for one in ("open-keep", "open-settings", "orb", "models", "scroll", "agent", "text"):
            assert one in passed, passed
        page.run("document.getElementById('open-settings').focus()")
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        assert page.run("return document.getElementById('settings').open")
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert page.run(FOCUSED) == "open-settings"  # back where the person was
