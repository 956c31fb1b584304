"""What the page says about the models that speak."""

from collections.abc import Callable
from typing import Any

from tests.browser.conftest import Server


def test_the_page_says_which_engines_speak_and_how_to_use_better_ones(
    classic_server: Server, browser: Callable[..., Any]
) -> None:
    with browser() as page:
        page.open(classic_server.url)
        page.until("return !document.getElementById('models').hidden")
        assert page.text("models") == "PocketSphinx · Eliza · eSpeak NG"
        assert "ignores instructions" in page.text("limits")  # the person does not take the product for broken
        page.click("models")
        assert "WebRTC" in page.text("model-list")
        assert "PARLEY_LLM_URL=" in page.text("better-models")
        assert page.run("return document.getElementById('monitor-link').checkVisibility()")
        assert page.console_errors() == []


def test_a_server_that_is_starting_names_its_models_later(parley_server: Server, browser: Callable[..., Any]) -> None:
    later = """
        const ask = window.fetch;
        let starting = true;
        window.fetch = async (url, options) => {
            if (!url.endsWith("/v1/system") || !starting) return ask(url, options);
            starting = false;
            return new Response('{"profile": "light", "stages": {"asr": {"engine": "", "models": []}}}');
        };
    """
    with browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": later})
        page.open(parley_server.url)
        page.until("return document.getElementById('models').textContent.includes('scripted')")
        assert not page.run("return document.getElementById('limits').checkVisibility()")
        assert page.console_errors() == []
