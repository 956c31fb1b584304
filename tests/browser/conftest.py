"""A headless Chromium with the call page open: its microphone plays a WAV, and the real server answers."""

import json
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from websockets.sync.client import connect

from tests.conftest import need
from tests.support.waiting import HANG_S

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


TRANSITIONS_ENDED = """
    const done = arguments[0];
    requestAnimationFrame(() => requestAnimationFrame(() => {
        const transitions = document.getAnimations().filter((animation) => animation instanceof CSSTransition);
        Promise.allSettled(transitions.map(({ finished }) => finished)).then(() => done());
    }));
"""

SpeechWav = Callable[[str, float, float], Path]


class Server(Protocol):
    """A running system; `url` is the page's address."""

    url: str


class Page:
    """A browser with the page open in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, query: str = "") -> None:
        # Chromium gives even a fake microphone only to a secure context; 127.0.0.1 is one.
        self.driver.get(f"{url}/{query}")
        self.until("return window.parley?.loaded")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str) -> Any:
        """Wait until the script returns a true value. The error shows the state of the page instead."""
        try:
            return WebDriverWait(self.driver, HANG_S, poll_frequency=0.05).until(lambda _: self.run(script))
        except TimeoutException:
            seen = self.run(
                "return window.parley && [parley.state, parley.events, parley.turns, document.body.innerText]"
            )
            raise AssertionError(f"never came: {script}; the page: {seen}") from None

    def click(self, identifier: str) -> None:
        self.driver.find_element(By.ID, identifier).click()

    def text(self, identifier: str) -> str:
        return self.driver.find_element(By.ID, identifier).text

    def type(self, text: str) -> None:
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the viewport size and the colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        # Wait for the colour transitions, which begin with the next frame.
        self.driver.execute_async_script(TRANSITIONS_ENDED)

    def console_errors(self) -> list[str]:
        entries: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]


@contextmanager
def chromium(tmp_path: Path, *arguments: str) -> Iterator[Page]:
    """A browser of its own, with more arguments."""
    with _started(tmp_path / "profile", *arguments) as driver:
        yield Page(driver)


@contextmanager
def _started(profile: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium", "chromium-browser", "google-chrome")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(need("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _microphone(wav: Path, *, loop: bool) -> tuple[str, str]:
    """Arguments: the page may use the microphone, which plays the WAV from the moment that the page opens it."""
    return "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={wav}{'' if loop else '%noloop'}"


@pytest.fixture(scope="module")
def quiet_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The browser of all pages of a module whose microphone is silent: its start costs more than most tests do."""
    folder = tmp_path_factory.mktemp("chromium")
    with wave.open(str(folder / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000))
    with _started(folder / "profile", *_microphone(folder / "silence.wav", loop=True)) as driver:
        yield driver


@contextmanager
def _fresh_page(driver: webdriver.Chrome) -> Iterator[Page]:
    """A page that shares nothing with earlier ones of this browser: no storage, no scripts, no size, no messages."""
    first = driver.current_window_handle
    context = _ask_devtools(driver, "Target.createBrowserContext")
    page = _ask_devtools(driver, "Target.createTarget", url="about:blank", **context)
    driver.switch_to.window(page["targetId"])
    driver.get_log("browser")  # type: ignore[no-untyped-call]
    try:
        yield Page(driver)
    finally:
        driver.switch_to.window(first)
        _ask_devtools(driver, "Target.disposeBrowserContext", **context)


def _ask_devtools(driver: webdriver.Chrome, method: str, **params: str) -> dict[str, str]:
    """Call a method of the browser itself; `execute_cdp_cmd` reaches only those of a page."""
    address = driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
    url = httpx.get(f"http://{address}/json/version", trust_env=False).json()["webSocketDebuggerUrl"]
    with connect(url, proxy=None) as socket:
        socket.send(json.dumps({"id": 1, "method": method, "params": params}))
        answer = json.loads(socket.recv(HANG_S))
    result: dict[str, str] = answer["result"]
    return result


@pytest.fixture
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """`browser()`: a fresh page with a silent microphone. `browser(wav)`: in a browser of its own, whose microphone plays
    the WAV from the moment that the page opens it."""

    def make(wav: Path | None = None, *, loop: bool = False) -> Any:
        if wav is None:
            return _fresh_page(request.getfixturevalue("quiet_chromium"))
        return chromium(tmp_path, *_microphone(wav, loop=loop))

    return make


KEEP_SOCKETS = """
    window.sockets = [];
    window.sent = [];
    window.received = 0;
    window.WebSocket = class extends WebSocket {
        constructor(url) {
            super(url);
            sockets.push(this);
            this.addEventListener("message", ({ data }) => (received += (data.byteLength ?? 0) / 2));
        }
        send(data) {
            if (!data.byteLength) sent.push(JSON.parse(data));
            super.send(data);
        }
    };
    window.tell = (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
"""
"""Records the messages on the page's WebSocket; `tell(message)` acts as if the server had sent it."""
