"""The layout on a phone, a tablet and a desktop, in a long conversation."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Server

BOXES = """
    return Object.fromEntries(["over", "open-settings", "conversation", "composer", "stage"].map((id) =>
        [id, document.getElementById(id).getBoundingClientRect().toJSON()]));
"""
LONG = """
    const list = document.getElementById("log");
    for (let at = 0; at < 60; at += 1) {
        const item = document.createElement("li");
        item.className = at % 2 ? "reply" : "user";
        item.textContent = "A message of a long conversation. ".repeat(1 + (at % 5));
        list.append(item);
    }
"""


@pytest.mark.parametrize(("width", "height"), [(360, 740), (390, 844), (820, 1180), (1280, 900)])
def test_the_controls_stay_in_view_in_a_long_conversation(
    parley_server: Server, browser: Callable[..., Any], width: int, height: int
) -> None:
    with browser() as page:
        page.look(width, height)
        page.open(parley_server.url)
        page.type("hello there")
        page.until("return parley.turns[0]?.marks.played")
        page.run(LONG)
        page.run("document.getElementById('scroll').scrollTop = 1e6")
        for name, box in page.run(BOXES).items():
            assert 0 <= box["left"] < box["right"] <= width, name
            assert 0 <= box["top"] < box["bottom"] <= height, name
        assert page.run("return document.documentElement.scrollWidth") <= width
        page.run("document.getElementById('timing').open = true")
        assert page.run(BOXES)["composer"]["bottom"] <= height
        assert page.console_errors() == []


def test_a_low_window_scrolls_below_its_header(parley_server: Server, browser: Callable[..., Any]) -> None:
    with browser() as page:
        page.look(844, 390)  # a phone on its side
        page.open(parley_server.url)
        page.run(LONG)
        page.run("scrollTo(0, 1e6)")
        assert page.run("return scrollY") > 500
        boxes = page.run(BOXES)
        assert 0 <= boxes["open-settings"]["top"] < boxes["open-settings"]["bottom"] <= 390
        assert boxes["composer"]["bottom"] <= 390
